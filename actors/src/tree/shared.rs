//! What every actor of one tree shares.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::model::Worktree;
pub(crate) use crate::ports::with_source;
use crate::ports::{ArenasError, Fact, JournalError, Ports};
use crate::reap::Keep;
use crate::risk::Facts;
use crate::rules::circuit;
use crate::rules::evict::KEEP;
use crate::rules::moment::Moment;
use crate::rules::pool::Room;
use crate::rules::restart::Intensity;
use crate::rules::retry;
use crate::tree::board::Board;
use crate::tree::hub::Hub;

/// The tree's own settings.
#[derive(Clone, Debug)]
pub struct TreeSettings {
    /// What can be set anew while it runs.
    pub limits: Limits,
    /// Between two looks for sessions whose idle time is over. 60 s by default.
    pub sweep_every: Duration,
    /// Between two looks at the memory of the process trees. 2 s by default.
    pub weigh_every: Duration,
    /// How long an unused agent is kept for its own sake. [`KEEP`] by default.
    pub keep: Duration,
    /// How often one key may crash.
    pub intensity: Intensity,
    /// When all chats of an agent rest.
    pub circuit: circuit::Limits,
    /// How often refused prompts are tried again.
    pub retry: retry::Limits,
    /// How long worktrees and checkpoints are kept.
    pub keep_files: Keep,
    /// Seed of the back-off's jitter.
    pub seed: u64,
}

/// What the pool may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most warm sessions at a time; also most turns at a time. 10 by default.
    pub max_live: usize,
    /// Most bytes of all their process trees together, proportional shares (PSS); none,
    /// the default, does not limit.
    pub memory: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_live: 10,
            memory: None,
        }
    }
}

impl From<Limits> for Room {
    fn from(limits: Limits) -> Self {
        Self {
            sessions: limits.max_live,
            bytes: limits.memory,
        }
    }
}

impl Default for TreeSettings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            weigh_every: Duration::from_secs(2),
            keep: KEEP,
            circuit: circuit::Limits::default(),
            sweep_every: Duration::from_secs(60),
            intensity: Intensity::default(),
            retry: retry::Limits::default(),
            keep_files: Keep::default(),
            seed: fastrand::u64(..),
        }
    }
}

pub(crate) struct Shared {
    pub(crate) ports: Ports,
    pub(crate) settings: TreeSettings,
    pub(crate) board: Board,
    pub(crate) hub: Hub,
    started: Instant,
    jitter: Mutex<fastrand::Rng>,
    limits: Mutex<Limits>,
}

impl Shared {
    pub(crate) fn new(ports: Ports, settings: TreeSettings) -> Self {
        Self {
            jitter: Mutex::new(fastrand::Rng::with_seed(settings.seed)),
            limits: Mutex::new(settings.limits),
            ports,
            settings,
            board: Board::new(),
            hub: Hub::default(),
            started: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Moment {
        Moment(self.started.elapsed())
    }

    /// From now until `at`.
    pub(crate) fn until(&self, at: Moment) -> Duration {
        at.since(self.now())
    }

    /// As they are set at this moment.
    pub(crate) fn limits(&self) -> Limits {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_limits(&self, limits: Limits) {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    /// Counts what happened.
    pub(crate) fn note(&self, fact: Fact) {
        self.ports.meter.note(fact);
    }

    /// What would be lost with the worktree: unreadable, when that is not known within
    /// `bound`.
    pub(crate) async fn facts(&self, worktree: &Worktree, bound: Duration) -> Facts {
        let looked = timeout(bound, self.ports.reap_files.facts(worktree));
        looked.await.unwrap_or_else(|_| Facts {
            worktree: Some(worktree.id),
            path: worktree.path.clone(),
            unreadable: Some(format!("it was not read within {bound:?}")),
            ..Facts::default()
        })
    }

    pub(crate) fn jitter(&self) -> f64 {
        self.jitter
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .f64()
    }
}

/// Waits between tries of something that must be written in the end: 50 ms,
/// doubling to 2 s.
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) fn new() -> Self {
        Self(Duration::from_millis(50))
    }

    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(Duration::from_secs(2));
    }
}

/// An error that may be only the database's being away.
pub(crate) trait MayPass {
    /// Why it is away, if that is all.
    fn passes(&self) -> Option<&(dyn std::error::Error + Send + Sync)>;
}

impl MayPass for JournalError {
    fn passes(&self) -> Option<&(dyn std::error::Error + Send + Sync)> {
        match self {
            Self::Unavailable(source) => Some(source.as_ref()),
            _ => None,
        }
    }
}

impl MayPass for ArenasError {
    fn passes(&self) -> Option<&(dyn std::error::Error + Send + Sync)> {
        match self {
            Self::Unavailable(source) => Some(source.as_ref()),
            Self::LeaseLost => None,
        }
    }
}

/// Repeats a write until it is done or refused. Nothing is lost while
/// the database is away; the lease bounds how long this may go on, because the
/// actor that waits here is stopped with it.
pub(crate) async fn until_written<T, E, F>(mut call: impl FnMut() -> F) -> Result<T, E>
where
    E: MayPass,
    F: Future<Output = Result<T, E>>,
{
    let mut backoff = Backoff::new();
    let mut away = false;
    loop {
        let written = call().await;
        let Some(error) = written.as_ref().err().and_then(MayPass::passes) else {
            if away {
                tracing::info!("the journal is written again");
            }
            return written;
        };
        if !std::mem::replace(&mut away, true) {
            let why = with_source(error);
            tracing::warn!(%why, "the journal cannot be written, trying again until it can");
        }
        backoff.wait().await;
    }
}
