//! How turns end, and which task state each ending means.

use serde::{Deserialize, Serialize};

/// The named reason a turn ended. Every turn has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The agent said it is done.
    Ok,
    /// A human or a close ended it.
    Cancelled,
    /// Its owner went away after the prompt was sent; never run again unasked.
    Interrupted,
    /// The agent's process ended in mid-turn.
    AgentCrashed,
    /// The agent reported an error.
    AgentError,
    /// The model is overloaded.
    Overload,
    /// A quota is used up.
    Quota,
    /// The agent is not logged in.
    Auth,
    /// Silence longer than the stall limit.
    Stalled,
    /// Longer than the wall limit.
    WallClock,
    /// The agent, its worktree or its checkpoint could not be made ready.
    NoStart,
    /// The agent crashed too often in a short time and cools down.
    RestartIntensity,
    /// The agent's processes outgrew their memory limit.
    OutOfMemory,
    /// A budget is used up.
    Budget,
    /// The node that owned the session's worktree is gone.
    NodeLost,
    /// The session's worktree was taken by something else.
    Conflict,
}

/// `tasks.state`, as BooCode has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Waits for its turn, or is parked.
    Pending,
    /// Leased by a node.
    Running,
    /// Leased, waits for a human.
    Blocked,
    /// Ended well.
    Completed,
    /// Ended otherwise; the outcome says how.
    Failed,
    /// A human ended it.
    Cancelled,
}

macro_rules! words {
    ($kind:ident { $($variant:ident => $word:literal),+ $(,)? }) => {
        impl $kind {
            /// The word stored in the database and shown to people.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The value a stored word stands for.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }

            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant),+];
        }

        impl std::fmt::Display for $kind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

pub(crate) use words;

words!(Outcome {
    Ok => "ok", Cancelled => "cancelled", Interrupted => "interrupted",
    AgentCrashed => "agent_crashed", AgentError => "agent_error", Overload => "overload",
    Quota => "quota", Auth => "auth", Stalled => "stalled", WallClock => "wall_clock",
    NoStart => "no_start", RestartIntensity => "restart_intensity",
    OutOfMemory => "out_of_memory", Budget => "budget", NodeLost => "node_lost",
    Conflict => "conflict",
});

words!(TaskState {
    Pending => "pending", Running => "running", Blocked => "blocked",
    Completed => "completed", Failed => "failed", Cancelled => "cancelled",
});

impl Outcome {
    /// The task state this outcome leaves behind.
    #[must_use]
    pub fn task_state(self) -> TaskState {
        match self {
            Self::Ok => TaskState::Completed,
            Self::Cancelled => TaskState::Cancelled,
            _ => TaskState::Failed,
        }
    }

    /// The agent was there and said something, be it a refusal: it works.
    #[must_use]
    pub fn is_answer(self) -> bool {
        match self {
            Self::Ok | Self::AgentError | Self::Overload | Self::Quota | Self::Budget => true,
            Self::Cancelled
            | Self::Interrupted
            | Self::AgentCrashed
            | Self::Auth
            | Self::Stalled
            | Self::WallClock
            | Self::NoStart
            | Self::RestartIntensity
            | Self::OutOfMemory
            | Self::NodeLost
            | Self::Conflict => false,
        }
    }

    /// `messages.status` of the assistant's message.
    #[must_use]
    pub fn message_status(self) -> &'static str {
        match self {
            Self::Ok => "complete",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
            _ => "failed",
        }
    }
}
