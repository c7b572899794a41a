//! Whether a session goes that was asked to: its own actor decides, at that moment.
//!
//! Unknown means keep. What keeps an unused session without a turn is bounded by
//! [`KEEP`]: nobody else waits for ever on what one agent left behind.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::outcome::words;

/// Why a session is asked to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nomination {
    /// It was not used for its idle time.
    Ttl,
    /// Another one needs its place.
    Lru,
    /// All together take more memory than they may.
    Memory,
    /// Its agent is defined otherwise since it started.
    Config,
    /// A person wants it.
    Operator,
}

words!(Nomination {
    Ttl => "ttl", Lru => "lru", Memory => "memory", Config => "config", Operator => "operator",
});

/// Why it stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stays {
    /// A turn runs in it.
    TurnRunning,
    /// Its turn is over, and not all of it is stored.
    UnstoredOutput,
    /// It waits for an answer of a human.
    OpenPrompt,
    /// A message waits for it.
    QueuedMessage,
    /// Its agent left work running.
    BackgroundWork,
    /// Its context would be lost.
    NotResumable,
    /// Its agent is starting.
    Starting,
    /// It is on its way out already.
    Stopping,
    /// It cannot be told whether any of this is so.
    Unknown,
}

words!(Stays {
    TurnRunning => "turn_running", UnstoredOutput => "unstored_output",
    OpenPrompt => "open_prompt", QueuedMessage => "queued_message",
    BackgroundWork => "background_work", NotResumable => "not_resumable",
    Starting => "starting", Stopping => "stopping", Unknown => "unknown",
});

/// What the session is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Nothing.
    None,
    /// A turn runs or is being prepared.
    Turn,
    /// The end of a turn is being stored.
    Settling,
    /// Its turn waits for a human, who may or may not be asked by another process.
    Asking {
        /// The question stays open when the process goes.
        can_leave: bool,
    },
}

/// What the session sees of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// It is on its way out.
    pub stopping: bool,
    /// What it is at.
    pub work: Work,
    /// Its agent, if it has one.
    pub agent: Agent,
    /// How long it was not used.
    pub idle: Duration,
    /// What was found out about it; none: nobody looked yet.
    pub looked: Option<Looked>,
}

/// The agent's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agent {
    /// None: nothing is lost with the session.
    Down,
    /// It is starting.
    Starting,
    /// It is up.
    Up {
        /// Its next process can go on with its context.
        resumable: bool,
    },
}

/// What only a look beyond the session tells; none where it could not be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// A message waits for it that could run now.
    pub queued: Option<bool>,
    /// Processes that its agent left running.
    pub left_running: Option<usize>,
}

/// How long an unused agent is kept for its own sake: 4 h, as long as a turn may take.
pub const KEEP: Duration = Duration::from_secs(4 * 60 * 60);

/// How long a context that would be lost keeps an unused agent at most, while somebody
/// needs its place: who still talks to it answers within so long, and whoever comes
/// back later is told that the agent begins anew.
pub const KEEP_CONTEXT: Duration = Duration::from_secs(60);

/// How long work that was left running, or a context that would be lost, keeps a
/// session after its last turn; the latter never longer than [`KEEP_CONTEXT`] while
/// somebody needs its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// While nobody needs its place.
    pub unneeded: Duration,
    /// While somebody does.
    pub needed: Duration,
}

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It stays.
    Stays(Stays),
    /// It has to look first; decide again with what was found.
    Look,
    /// It goes.
    Goes,
}

/// Decides. With `insist` a message that waits does not keep it: an older one needs
/// its place, and this one starts it again.
#[must_use]
pub fn decide(view: &View, nomination: Nomination, insist: bool, keep: Keep) -> Decision {
    if view.stopping {
        return Decision::Stays(Stays::Stopping);
    }
    match view.work {
        Work::Turn => return Decision::Stays(Stays::TurnRunning),
        Work::Settling => return Decision::Stays(Stays::UnstoredOutput),
        Work::Asking { can_leave: false } => return Decision::Stays(Stays::OpenPrompt),
        Work::Asking { can_leave: true } => return Decision::Goes,
        Work::None => {}
    }
    let resumable = match view.agent {
        Agent::Starting => return Decision::Stays(Stays::Starting),
        Agent::Down => return Decision::Goes,
        Agent::Up { resumable } => resumable,
    };
    let (work, context) = match nomination {
        Nomination::Lru | Nomination::Memory => (keep.needed, keep.needed.min(KEEP_CONTEXT)),
        Nomination::Ttl | Nomination::Operator => (keep.unneeded, keep.unneeded),
        // Under another definition its context is given up in any case.
        Nomination::Config => (keep.unneeded, Duration::ZERO),
    };
    let kept = view.idle < work;
    if !resumable && view.idle < context {
        return Decision::Stays(Stays::NotResumable);
    }
    let Some(looked) = view.looked else {
        return Decision::Look;
    };
    match looked.left_running {
        Some(0) => {}
        _ if !kept => {}
        Some(_) => return Decision::Stays(Stays::BackgroundWork),
        None => return Decision::Stays(Stays::Unknown),
    }
    match looked.queued {
        Some(false) => Decision::Goes,
        _ if insist => Decision::Goes,
        Some(true) => Decision::Stays(Stays::QueuedMessage),
        None if kept => Decision::Stays(Stays::Unknown),
        None => Decision::Goes,
    }
}
