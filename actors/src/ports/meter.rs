//! What is counted: one fact for each transition.

use std::time::Duration;

use crate::ids::AgentName;
use crate::limits::ParkReason;
use crate::outcome::Outcome;
use crate::rules::evict::{Nomination, Stays};

/// Counts. Never waits, never fails.
pub trait Meter: Send + Sync {
    /// Something happened.
    fn note(&self, fact: Fact);
}

/// Something that happened, with labels of few values only.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// So many tasks were claimed.
    Claimed(usize),
    /// A task was given back to wait.
    Parked(AgentName, ParkReason),
    /// An agent can be prompted.
    Started {
        /// Which.
        agent: AgentName,
        /// Its context.
        how: How,
        /// From the start to there.
        took: Duration,
    },
    /// One did not start.
    NotStarted(AgentName, Outcome),
    /// The first word of a turn arrived, so long after its prompt.
    FirstWord(AgentName, Duration),
    /// A turn ended.
    TurnEnded {
        /// Whose.
        agent: AgentName,
        /// How.
        outcome: Outcome,
        /// From its assignment to its committed end.
        took: Duration,
    },
    /// An agent crashed or did not start; its key backs off or cools down.
    Crashed {
        /// Which.
        agent: AgentName,
        /// Too often: it cools down.
        cools: bool,
    },
    /// A session went, because of this.
    Evicted(AgentName, Nomination),
    /// A session stayed although it was asked to go.
    Stayed(AgentName, Stays),
    /// All chats of an agent rest, or answer again.
    Circuit {
        /// Which agent.
        agent: AgentName,
        /// It rests.
        open: bool,
    },
    /// The node's lease was renewed, or could not be.
    LeaseRenewed {
        /// It was.
        done: bool,
        /// What was left of its trust at that moment.
        left: Duration,
    },
    /// It is over.
    LeaseLost,
    /// A new life began with what the last one left: turns that wait again, and
    /// turns that ended.
    Reconciled {
        /// Unprompted ones.
        requeued: usize,
        /// Prompted ones.
        interrupted: usize,
    },
    /// So many frames were stored by one commit, which took so long.
    Stored(usize, Duration),
}

/// With which context an agent started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum How {
    /// It never had one.
    New,
    /// It goes on in its own.
    Resumed,
    /// It had one and begins anew.
    Fresh,
}

impl How {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Resumed => "resumed",
            Self::Fresh => "fresh",
        }
    }
}
