//! What holds a task back, and what bounds its spending.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::outcome::words;

/// Why a task waits although its turn in the queue has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParkReason {
    /// Its agent crashed and starts again in a moment.
    BackOff,
    /// Its agent crashed too often and rests.
    CoolDown,
    /// Every warm session is busy or may not go.
    PoolFull,
    /// The model refused it for the moment.
    Overload,
    /// A quota is used up until it is reset.
    Quota,
    /// A budget is used up until its day ends or somebody raises it.
    Budget,
    /// There is too little room on the disk for its worktree.
    DiskLow,
    /// What would set its worktree up waits for somebody's trust, or cannot be read.
    SetUp,
}

words!(ParkReason {
    BackOff => "back_off", CoolDown => "cool_down", PoolFull => "pool_full",
    Overload => "overload", Quota => "quota", Budget => "budget",
    DiskLow => "disk_low", SetUp => "set_up",
});

/// That a task waits, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// Why.
    pub reason: ParkReason,
    /// Not to be claimed before, from the database's now.
    pub after: Duration,
    /// Nobody knows the end: `after` is only when somebody looks again.
    pub open_ended: bool,
    /// More about it, for a person.
    pub detail: Option<String>,
}

impl Parked {
    /// For so long, because of this.
    #[must_use]
    pub fn until(reason: ParkReason, after: Duration) -> Self {
        Self {
            reason,
            after,
            open_ended: false,
            detail: None,
        }
    }

    /// The same, with this to say about it.
    #[must_use]
    pub fn because(self, detail: impl Into<String>) -> Self {
        Self {
            detail: Some(detail.into()),
            ..self
        }
    }
}

/// A provider promised to refuse an agent until some moment, whichever of its chats
/// asks; the agent rests on its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentRest {
    /// From the claim until then; zero when it is over, and nobody has seen yet
    /// whether it answers again.
    pub left: Duration,
    /// What the provider said.
    pub because: Option<String>,
}

/// How often models refused before: counted in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusals {
    /// Turns of this task that ended so.
    pub of_task: u32,
    /// Turns of its agent that ended so within the last hour, whatever the task.
    pub in_last_hour: u32,
    /// The database's clock when they were counted.
    pub now: DateTime<Utc>,
}

/// Limits of spending; none does not limit. Tokens are those in and out
/// together, money is in US dollars, as far as agents report them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Budget {
    /// Tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<i64>,
    /// US dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    /// Milliseconds of turns, without waiting for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<i64>,
    /// Turns that were prompted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turns: Option<i64>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Tokens in and out.
    Tokens,
    /// US dollars.
    Cost,
    /// Milliseconds of turns.
    WallMs,
    /// Prompted turns.
    Turns,
}

words!(Measure {
    Tokens => "tokens", Cost => "cost", WallMs => "wall_ms", Turns => "turns",
});

/// Whose spending a budget bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// A task and all that it asked for.
    Task,
    /// All turns of a session.
    Session,
    /// All turns that were claimed on one day of UTC, by the database's clock.
    Day,
}

words!(Scope { Task => "task", Session => "session", Day => "day" });

/// The limits of the settings.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BudgetSettings {
    /// Of a day: tokens and cost.
    pub day: Budget,
    /// Of each session: tokens and cost.
    pub session: Budget,
    /// Of each task.
    pub task: Budget,
}

/// One limit, and what is used of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Gauge {
    /// Whose spending it is.
    pub scope: Scope,
    /// Which one: an id, or a day as `YYYY-MM-DD`.
    pub subject: String,
    /// What is counted.
    pub measure: Measure,
    /// So much is used.
    pub used: f64,
    /// So much there is.
    pub limit: f64,
    /// Until it counts from nothing again; none where it never does.
    pub resets_in: Option<Duration>,
}
