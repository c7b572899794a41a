//! One task for each process tree: tells its end, and sees that nothing of it
//! is left. It outlives the owner's handle.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hearth_actors::event::ExitInfo;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::unix::OwnedReadHalf;
use tokio::process::Child;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::cgroup::Leaf;
use super::procfs::Identity;
use super::tail::Tail;
use super::wire::Report;
use super::{Inner, sweep};

/// What the task holds.
pub(super) struct Watch {
    pub(super) tree: EnteredTree,
    pub(super) child: Child,
    pub(super) agent: Identity,
    /// None for a process without a shim.
    pub(super) reports: Option<Reports>,
    pub(super) tail: Tail,
    /// Fills the tail; ends when no process holds the pipe.
    pub(super) drain: JoinHandle<()>,
    pub(super) expected: Arc<AtomicBool>,
    pub(super) exit: watch::Sender<Option<ExitInfo>>,
    pub(super) gone: watch::Sender<bool>,
}

/// How long the end waits for the last words on standard error. Descendants
/// that hold the pipe are being killed meanwhile.
const LAST_WORDS: Duration = Duration::from_millis(50);
/// Between two sweeps of a tree that cannot be killed.
const SWEEP_AGAIN: Duration = Duration::from_secs(5);
/// Looks at whether a control group is empty, and the wait between two.
const LEAVE_TRIES: usize = 20;
const LEAVE_AGAIN: Duration = Duration::from_millis(10);

impl Watch {
    pub(super) async fn run(mut self) {
        let status = match &mut self.reports {
            Some(reports) => reports.exit_status().await,
            None => self.child.wait().await.ok(),
        };
        self.tell(status).await;
        let has_shim = self.reports.is_some();
        // Only an end that the shim reported proves that it stayed to kill the rest.
        let clean = match self.child.wait().await {
            Ok(shim) => !has_shim || (shim.success() && status.is_some()),
            Err(_) => false,
        };
        if !clean {
            tracing::warn!(
                pid = self.agent.pid,
                "a process guard was killed: sweeping the tree it guarded"
            );
            self.tree.sweep(Some(self.agent)).await;
        }
        self.drain.abort();
        self.tree.leave_group().await;
        drop(self.tree);
        self.gone.send_replace(true);
    }

    async fn tell(&mut self, status: Option<ExitStatus>) {
        let _ = timeout(LAST_WORDS, &mut self.drain).await;
        // Without a report the shim was killed, and its death kills the
        // agent by the parent-death signal.
        let signal = status.map_or(Some(libc::SIGKILL), |status| status.signal());
        self.exit.send_replace(Some(ExitInfo {
            code: status.and_then(|status| status.code()),
            signal,
            // The kernel counts before it kills.
            out_of_memory: (signal == Some(libc::SIGKILL))
                .then(|| self.tree.group.as_ref()?.out_of_memory())
                .flatten(),
            stderr_tail: self.tail.text(),
            expected: self.expected.load(Ordering::Relaxed),
            shared: false,
        }));
    }
}

/// What a shim reports.
pub(super) struct Reports(Lines<BufReader<OwnedReadHalf>>);

impl Reports {
    pub(super) fn new(control: OwnedReadHalf) -> Self {
        Self(BufReader::new(control).lines())
    }

    /// The next report; none when the shim is gone.
    pub(super) async fn next(&mut self) -> Option<Report> {
        loop {
            let line = self.0.next_line().await.ok().flatten()?;
            match Report::parse(&line) {
                Some(Report::Left(count)) => {
                    tracing::error!(
                        count,
                        "processes of an agent cannot be killed: still trying"
                    );
                }
                Some(report) => return Some(report),
                None => tracing::warn!("a process guard reported something unknown"),
            }
        }
    }

    async fn exit_status(&mut self) -> Option<ExitStatus> {
        loop {
            if let Report::Exited(raw) = self.next().await? {
                return Some(ExitStatus::from_raw(raw));
            }
        }
    }
}

/// A tree that the room counts as alive until this is dropped.
pub(super) struct EnteredTree {
    pub(super) inner: Arc<Inner>,
    pub(super) id: String,
    /// Where its processes live, in a room that divides its control group.
    pub(super) group: Option<Leaf>,
}

impl EnteredTree {
    /// Kills what lives in the tree's control group or carries its marker, for as
    /// long as there is something.
    pub(super) async fn sweep(&self, agent: Option<Identity>) {
        if let Some(group) = &self.group {
            group.kill();
        }
        loop {
            let marker = self.inner.marker(&self.id);
            let swept = tokio::task::spawn_blocking(move || sweep::one_tree(&marker, agent)).await;
            match swept {
                Ok(0) | Err(_) => return,
                Ok(left) => {
                    tracing::error!(left, "processes of an agent cannot be killed: trying again");
                    sleep(SWEEP_AGAIN).await;
                }
            }
        }
    }
}

impl EnteredTree {
    /// Removes its control group; what can still be in it has escaped all else.
    pub(super) async fn leave_group(&mut self) {
        let Some(group) = self.group.take() else {
            return;
        };
        for _ in 0..LEAVE_TRIES {
            if group.remove() {
                return;
            }
            group.kill();
            sleep(LEAVE_AGAIN).await;
        }
        tracing::warn!(group = %group.path().display(), "a control group stays until the next start");
    }
}

impl Drop for EnteredTree {
    fn drop(&mut self) {
        self.inner.ledger.remove(&self.id);
        self.inner.trees.leave(&self.id);
    }
}
