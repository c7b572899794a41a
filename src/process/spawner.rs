//! The one thread that forks. A child's parent-death signal is tied to the
//! thread that forked it, and tokio's threads come and go; this one stays.

use std::io;
use std::os::fd::OwnedFd;
use std::thread;

use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::ProcessError;

/// Hands commands to the thread. The thread ends when all handles are dropped,
/// which sends their parent-death signal to the children that are left.
#[derive(Clone, Debug)]
pub(super) struct Spawner(mpsc::Sender<Job>);

struct Job {
    command: std::process::Command,
    /// What the child inherits by number: stays open until it was forked.
    inherited: Option<OwnedFd>,
    runtime: Handle,
    reply: oneshot::Sender<io::Result<Child>>,
}

/// Commands that wait for the thread; each takes a few milliseconds.
const QUEUE: usize = 32;

impl Spawner {
    pub(super) fn start() -> Result<Self, ProcessError> {
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                while let Some(job) = queue.blocking_recv() {
                    let _entered = job.runtime.enter();
                    let child = Command::from(job.command).spawn();
                    drop(job.inherited);
                    let _ = job.reply.send(child);
                }
            })
            .map_err(|source| unavailable("starting the spawner thread", source))?;
        Ok(Self(jobs))
    }

    /// Forks and executes. The child belongs to the calling runtime.
    pub(super) async fn spawn(
        &self,
        command: std::process::Command,
        inherited: Option<OwnedFd>,
    ) -> Result<Child, ProcessError> {
        let (reply, answer) = oneshot::channel();
        let job = Job {
            command,
            inherited,
            runtime: Handle::current(),
            reply,
        };
        let gone = || unavailable("the spawner thread ended", io::ErrorKind::BrokenPipe.into());
        self.0.send(job).await.map_err(|_| gone())?;
        answer
            .await
            .map_err(|_| gone())?
            .map_err(|source| match source.kind() {
                io::ErrorKind::InvalidInput => ProcessError::Invalid(source.to_string()),
                _ => unavailable("starting a child process", source),
            })
    }
}

fn unavailable(what: &'static str, source: io::Error) -> ProcessError {
    ProcessError::Unavailable { what, source }
}
