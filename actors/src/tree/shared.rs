//! What every actor of one tree shares.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::ports::{JournalError, Ports};
use crate::rules::moment::Moment;
use crate::rules::restart::Intensity;
use crate::tree::board::Board;
use crate::tree::hub::Hub;

/// The tree's own settings.
#[derive(Clone, Debug)]
pub struct TreeSettings {
    /// Most warm sessions at a time; also most turns at a time. 10 by default.
    pub max_live: usize,
    /// Between two looks for sessions whose idle time is over. 60 s by default.
    pub sweep_every: Duration,
    /// How often one key may crash.
    pub intensity: Intensity,
    /// Seed of the back-off's jitter.
    pub seed: u64,
}

impl Default for TreeSettings {
    fn default() -> Self {
        Self {
            max_live: 10,
            sweep_every: Duration::from_secs(60),
            intensity: Intensity::default(),
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
}

impl Shared {
    pub(crate) fn new(ports: Ports, settings: TreeSettings) -> Self {
        Self {
            jitter: Mutex::new(fastrand::Rng::with_seed(settings.seed)),
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

/// Repeats a journal call until it is written or refused. Nothing is lost while
/// the database is away; the lease bounds how long this may go on, because the
/// actor that waits here is stopped with it.
pub(crate) async fn until_written<T, F>(mut call: impl FnMut() -> F) -> Result<T, JournalError>
where
    F: Future<Output = Result<T, JournalError>>,
{
    let mut backoff = Backoff::new();
    loop {
        match call().await {
            Err(JournalError::Unavailable(error)) => {
                tracing::debug!(%error, "the journal is away, trying again");
                backoff.wait().await;
            }
            written => return written,
        }
    }
}
