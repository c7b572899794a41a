//! What the rest of the service may ask of the tree.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{ChatId, SessionId, SessionKey, TaskId};
use crate::tree::board::Board;
use crate::tree::hub::Hub;

/// The tree, seen from outside. Cheap to clone.
#[derive(Clone)]
pub struct TreeHandle {
    board: Board,
    hub: Hub,
}

/// Why the tree did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// No warm session has that key.
    #[error("no warm session {0}")]
    NotWarm(SessionKey),
    /// A turn runs in it.
    #[error("a turn is running in it")]
    TurnRunning,
    /// It is starting.
    #[error("it is starting")]
    Starting,
    /// A human has not answered it yet.
    #[error("it waits for an answer of a human")]
    OpenPrompt,
    /// It is going away already.
    #[error("it is stopping")]
    Stopping,
    /// It cools down after too many crashes.
    #[error("it cools down after too many crashes")]
    Cooling,
    /// The tree is stopping or did not answer in time.
    #[error("the supervision tree does not answer: {0}")]
    Unavailable(String),
}

impl TreeHandle {
    /// Something may be claimable: look. Carries no data and coalesces.
    pub fn wakeup(&self) {}

    /// Ends the running turn of `task`, if this node runs it. Its frames tell
    /// when it is over: within 6 s whatever the agent does.
    pub fn cancel(&self, _task: TaskId) {}

    /// Ends whatever runs in `chat` and stops its agents.
    pub fn close_chat(&self, _chat: ChatId) {}

    /// Ends whatever runs in `session` and stops its agents.
    pub fn close_session(&self, _session: SessionId) {}

    /// Stops the idle warm session of `key`; the next prompt starts it again.
    ///
    /// # Errors
    /// A [`Refusal`] when it is not idle.
    pub async fn evict(&self, key: SessionKey) -> Result<(), Refusal> {
        Err(Refusal::NotWarm(key))
    }

    /// Stops the warm session of `key`, interrupting its turn, and forgets its
    /// crashes; the next prompt starts it again.
    ///
    /// # Errors
    /// A [`Refusal`] when there is none.
    pub async fn restart(&self, key: SessionKey) -> Result<(), Refusal> {
        Err(Refusal::NotWarm(key))
    }

    /// The snapshots of all actors.
    #[must_use]
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Live frames.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Stops claiming, lets turns finish for `grace`, then stops and awaits
    /// everything.
    pub async fn shutdown(&self, _grace: Duration) {}
}
