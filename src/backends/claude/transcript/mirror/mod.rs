//! Brings what the program says it wrote into the store.
//!
//! ```text
//!  take ──► queue ──► in hand ──► stored
//!             │          │ ▲
//!   no room   │          └─┘ no answer: the same write again, 60 s each, after 200
//!             ▼              and 800 ms, then every 1, 2, 4 … 30 s and at each flush
//!           behind ──► the file is read again, from where the store ends
//! ```
//!
//! A store that fails never stops a turn: it is told in [`Health`], what waits is
//! kept in memory up to a bound (20 000 entries, 32 MiB), and beyond it in the
//! program's own file.

mod queue;
#[cfg(test)]
mod tests;
mod worker;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hearth_actors::ports::Transcripts;
use hearth_actors::transcript::TranscriptKey;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::keys::key_of;
use super::local::Local;
use super::rebuild::{Rebuilt, beside};
use queue::Queue;
use worker::Worker;

/// Longest wait of a turn's end for the store.
pub const FLUSH_WAIT: Duration = Duration::from_secs(5);

/// The way of one process's entries into the store. Dropping it ends it; what waits
/// then is in the program's file, and [`rebuild()`](super::rebuild()) finds it there.
#[derive(Debug)]
pub struct Mirror {
    shared: Arc<Shared>,
    health: watch::Receiver<Health>,
    worker: JoinHandle<()>,
}

/// How a mirror fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Entries that wait in memory, the batch in hand included.
    pub waiting: usize,
    /// Files of which more waits than memory holds.
    pub behind: usize,
    /// Why the store does not take what waits; none while it does.
    pub trouble: Option<String>,
    /// Tries that failed since the last that did not.
    pub failures: u32,
    /// Another process has the session, or it was deleted: nothing more is stored.
    /// The process is to be stopped.
    pub lost: bool,
    /// Entries that the store refused for what they are. They are in the
    /// program's file alone.
    pub refused: u64,
    /// Frames whose file is no transcript of ours.
    pub strange: u64,
}

/// How a flush ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Everything that came before it is stored, or was refused.
    Stored,
    /// Something waits still, because of this.
    Waiting(String),
    /// The session belongs to somebody else: see [`Health::lost`].
    Lost,
}

/// What the mirror and its worker share.
#[derive(Debug)]
struct Shared {
    local: Local,
    state: Mutex<State>,
    /// Something is to be done.
    work: Notify,
    /// Somebody waits: do not wait for a better moment.
    hurry: Notify,
}

#[derive(Debug, Default)]
struct State {
    queue: Queue,
    /// Number of the first entry that the worker has in its hands.
    in_hand: Option<u64>,
    /// How many entries these are.
    in_hand_entries: usize,
    /// It has a file that is behind in its hands instead.
    catching_up: bool,
    strange: u64,
    /// Nothing more comes.
    closing: bool,
}

impl Mirror {
    /// Starts on a runtime. `rebuilt` is the session that the process resumes; of a
    /// new one nothing is known, and it is taken with its first entry.
    #[must_use]
    pub fn start(
        store: Arc<dyn Transcripts>,
        config_dir: &Path,
        rebuilt: Option<&Rebuilt>,
    ) -> Self {
        let mut state = State::default();
        for key in rebuilt.into_iter().flat_map(Rebuilt::behind) {
            state.queue.fall_behind(key);
        }
        let shared = Arc::new(Shared {
            local: Local::new(config_dir),
            state: Mutex::new(state),
            work: Notify::new(),
            hurry: Notify::new(),
        });
        let (told, health) = watch::channel(Health::default());
        let owner = rebuilt.and_then(|rebuilt| rebuilt.owner.clone());
        let worker = Worker::new(store, Arc::clone(&shared), owner, told);
        Self {
            shared,
            health,
            worker: tokio::spawn(worker.run()),
        }
    }

    /// Takes one `transcript_mirror` frame. Never waits.
    pub fn take(&self, file: &Path, entries: Vec<Value>) {
        let key = key_of(self.shared.local.projects(), file);
        let mut state = self.shared.state();
        match key {
            Some(Ok(key)) => state.queue.push(&key, entries),
            // Wherever it is: another configuration directory, or a name that leads
            // somewhere else.
            None | Some(Err(_)) => {
                state.strange += 1;
                if state.strange == 1 {
                    tracing::warn!(file = %file.display(), "entries of a file that is no transcript of ours are not stored");
                }
            }
        }
        drop(state);
        self.shared.work.notify_one();
    }

    /// Something that the program said it wrote into a file of this session was lost:
    /// the store is brought up to all of them.
    pub async fn missed(&self, main: &TranscriptKey) {
        let others = beside(&self.shared.local, main).await;
        let others = others.unwrap_or_else(|error| {
            tracing::warn!(%main, %error, "files beside a transcript cannot be listed");
            Vec::new()
        });
        let mut state = self.shared.state();
        for key in others.iter().chain([main]) {
            state.queue.fall_behind(key);
        }
        drop(state);
        self.shared.work.notify_one();
    }

    /// Waits until everything taken so far is stored, at most [`FLUSH_WAIT`], and not
    /// for a store that has just failed. To be called before a turn's end is told.
    pub async fn flush(&self) -> Flushed {
        let target = self.shared.state().queue.last();
        let until = Instant::now() + FLUSH_WAIT;
        let mut health = self.health.clone();
        let before = health.borrow().failures;
        self.shared.hurry.notify_one();
        loop {
            health.mark_unchanged();
            // In this order: what is lost is told before it waits no more.
            let stored = self.shared.stored(target);
            let seen = health.borrow().clone();
            if seen.lost {
                return Flushed::Lost;
            }
            if stored {
                return Flushed::Stored;
            }
            if let Some(trouble) = seen.trouble.filter(|_| seen.failures > before) {
                return Flushed::Waiting(trouble);
            }
            match timeout_at(until, health.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Flushed::Waiting("the mirror has ended".to_owned()),
                Err(_) => {
                    return Flushed::Waiting(format!("the store took longer than {FLUSH_WAIT:?}"));
                }
            }
        }
    }

    /// How it fares, and when that changes.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// Stores what is left and gives the session up. The process must be gone, and
    /// its output read to the end. Takes twice [`FLUSH_WAIT`] at most.
    pub async fn close(mut self) -> Flushed {
        self.shared.state().closing = true;
        self.shared.work.notify_one();
        let flushed = self.flush().await;
        if flushed == Flushed::Stored {
            // Without its answer the session is free when this node's lease is.
            let _ = timeout(FLUSH_WAIT, &mut self.worker).await;
        }
        flushed
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing up to this entry waits.
    fn stored(&self, target: u64) -> bool {
        let state = self.state();
        let first = state
            .queue
            .first_waiting()
            .into_iter()
            .chain(state.in_hand)
            .min();
        first.is_none_or(|first| first > target)
    }
}
