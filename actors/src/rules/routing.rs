//! Warm or one-shot: a pure choice.
//!
//! A turn of a chat goes to the chat's warm session. What is no chat turn gets a
//! process of its own, in the same worktree and under the same guard, which
//! starts for the task and ends after it: no context is resumed, none is kept.

use serde::{Deserialize, Serialize};

use crate::ids::{ChatId, SessionKey};
use crate::model::{Assignment, Policy};

/// Where a task comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its creator named the chat; otherwise it was given a home.
    pub own_chat: bool,
    /// A task asked for it (`parent_task_id`).
    pub child: bool,
    /// One of several that answer the same prompt (`arena_id`).
    pub contestant: bool,
}

impl Origin {
    /// A person said it in a chat.
    #[must_use]
    pub fn is_of_chat(self) -> bool {
        self.own_chat && !self.child && !self.contestant
    }
}

/// How a task is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// By the warm session of its chat and agent.
    Warm,
    /// By a process of its own.
    OneShot,
}

/// The route of a task from `origin` for a backend that can, or cannot, be kept
/// warm.
#[must_use]
pub fn route(origin: Origin, can_be_warm: bool) -> Route {
    if can_be_warm && origin.is_of_chat() {
        Route::Warm
    } else {
        Route::OneShot
    }
}

/// The key under which crashes are counted: its own, but one an agent for all
/// one-shot turns, whose keys are new each time.
#[must_use]
pub fn circuit(key: &SessionKey, chat: ChatId) -> SessionKey {
    if key.chat == chat {
        return key.clone();
    }
    SessionKey {
        chat: ChatId(uuid::Uuid::nil()),
        agent: key.agent.clone(),
    }
}

/// Makes a one-shot turn of `assignment`: its key is the task's own, so that it
/// neither waits for nor ends the chat's warm session; it resumes nothing; and
/// where nobody watches, it is denied what it asks for unless it says otherwise.
pub fn make_one_shot(assignment: &mut Assignment) {
    assignment.key = SessionKey {
        chat: ChatId(assignment.fence.task.0),
        agent: assignment.key.agent.clone(),
    };
    assignment.resume = None;
    if !assignment.origin.is_of_chat() {
        assignment.policy.get_or_insert(Policy::Deny);
    }
}
