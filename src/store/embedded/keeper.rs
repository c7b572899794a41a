//! Keeps the server running.

use std::fs::{File, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::{EmbeddedConfig, EmbeddedError, pidfile};
use crate::process::{Identity, OwnedProcess, Room, Signal};

/// How the private PostgreSQL is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It accepts connections.
    Running {
        /// The server's process.
        pid: i32,
        /// It belongs to another Hearth.
        adopted: bool,
    },
    /// It ended by itself and is being started again.
    Down,
    /// It was stopped on purpose.
    Stopped,
}

/// How long to wait for another Hearth's server to get ready.
const ADOPT_LIMIT: Duration = Duration::from_secs(30);
const ADOPT_LOOK: Duration = Duration::from_millis(10);
/// How often an adopted server is looked at. Ours tells us its end.
const ADOPTED_LOOK: Duration = Duration::from_millis(500);
/// Before a start after the first one, which comes at once; doubles each time.
const BACK_OFF_FIRST: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(10);
/// A server that ran this long was well: the next start comes at once again.
const WELL_AFTER: Duration = Duration::from_secs(60);
/// A fast shutdown writes out dirty pages, then ends.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// After SIGQUIT, which writes nothing.
const QUIT_LIMIT: Duration = Duration::from_secs(5);

pub(super) struct Keeper {
    config: EmbeddedConfig,
    room: Room,
    held: Held,
    status: watch::Sender<Status>,
}

enum Held {
    Ours { server: OwnedProcess, lock: File },
    Theirs(Identity),
}

impl Keeper {
    pub(super) async fn start(config: EmbeddedConfig, room: Room) -> Result<Self, EmbeddedError> {
        let held = hold(&config, &room, &mut None).await?;
        let status = watch::Sender::new(held.status());
        Ok(Self {
            config,
            room,
            held,
            status,
        })
    }

    pub(super) fn config(&self) -> &EmbeddedConfig {
        &self.config
    }

    pub(super) fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Until `stop`: a start that is under way then is given up.
    pub(super) async fn run(self, stop: CancellationToken) {
        let Self {
            config,
            room,
            mut held,
            status,
        } = self;
        let mut wait = Duration::ZERO;
        loop {
            let since = Instant::now();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = held.ended() => {}
            }
            held.tell_end();
            status.send_replace(Status::Down);
            if since.elapsed() > WELL_AFTER {
                wait = Duration::ZERO;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    status.send_replace(Status::Stopped);
                    return;
                }
                again = hold_again(&config, &room, held.into_lock(), &mut wait) => held = again,
            }
            tracing::info!("the private PostgreSQL is back");
            status.send_replace(held.status());
        }
        held.release().await;
        status.send_replace(Status::Stopped);
    }
}

async fn hold_again(
    config: &EmbeddedConfig,
    room: &Room,
    mut lock: Option<File>,
    wait: &mut Duration,
) -> Held {
    loop {
        sleep(*wait).await;
        *wait = (*wait * 2).clamp(BACK_OFF_FIRST, BACK_OFF_MAX);
        match hold(config, room, &mut lock).await {
            Ok(held) => return held,
            Err(error) => tracing::error!(%error, "the private PostgreSQL is down"),
        }
    }
}

/// Starts the server if the lock is ours or free, else joins the one that
/// runs. A lock that was taken stays in `lock` when the start fails.
async fn hold(
    config: &EmbeddedConfig,
    room: &Room,
    lock: &mut Option<File>,
) -> Result<Held, EmbeddedError> {
    let deadline = Instant::now() + ADOPT_LIMIT;
    loop {
        if lock.is_none() {
            *lock = try_lock(config)?;
        }
        if lock.is_some() {
            let server = Cluster::prepare(config, room).await?.start().await?;
            if let Some(lock) = lock.take() {
                return Ok(Held::Ours { server, lock });
            }
        }
        if let Some(server) = pidfile::ready_server(&config.data()) {
            return Ok(Held::Theirs(server));
        }
        if Instant::now() > deadline {
            return Err(EmbeddedError::Busy {
                base: config.base.clone(),
            });
        }
        sleep(ADOPT_LOOK).await;
    }
}

/// The lock of whoever runs the server. It lies outside the directory that
/// belongs to PostgreSQL's user.
fn try_lock(config: &EmbeddedConfig) -> Result<Option<File>, EmbeddedError> {
    let path: PathBuf = config.base.with_extension("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(EmbeddedError::io("opening the lock", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(EmbeddedError::io("locking", &path)(error)),
    }
}

impl Held {
    fn status(&self) -> Status {
        match self {
            Self::Ours { server, .. } => Status::Running {
                pid: server.pid(),
                adopted: false,
            },
            Self::Theirs(server) => Status::Running {
                pid: server.pid,
                adopted: true,
            },
        }
    }

    async fn ended(&self) {
        match self {
            Self::Ours { server, .. } => {
                let _ = server.exited().wait_for(Option::is_some).await;
            }
            Self::Theirs(server) => {
                while server.is_alive() {
                    sleep(ADOPTED_LOOK).await;
                }
            }
        }
    }

    fn tell_end(&self) {
        match self {
            Self::Ours { server, .. } => tracing::error!(
                log = server.stderr_tail().trim(),
                "the private PostgreSQL ended by itself: starting it again"
            ),
            Self::Theirs(_) => tracing::warn!("the PostgreSQL of another Hearth ended"),
        }
    }

    fn into_lock(self) -> Option<File> {
        match self {
            Self::Ours { lock, .. } => Some(lock),
            Self::Theirs(_) => None,
        }
    }

    async fn release(self) {
        let Self::Ours { server, lock } = self else {
            return;
        };
        let mut exited = server.exited();
        server.signal(Signal::Interrupt);
        if timeout(STOP_LIMIT, exited.wait_for(Option::is_some))
            .await
            .is_err()
        {
            tracing::warn!("the private PostgreSQL does not shut down: telling it to quit");
            server.identity().signal(libc::SIGQUIT);
            if timeout(QUIT_LIMIT, exited.wait_for(Option::is_some))
                .await
                .is_err()
            {
                server.kill();
            }
        }
        drop(lock);
    }
}
