//! Requests of agents to humans, as they are stored: asked once, settled once.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::AskOption;
use crate::ids::{AgentName, ChatId, OperationId, PromptId, SessionId, SessionKey};
use crate::outcome::words;

/// How a prompt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptState {
    /// It waits for an answer.
    Open,
    /// Somebody answered.
    Answered,
    /// It was withdrawn: its turn ended, or somebody cancelled it.
    Cancelled,
    /// Nobody answered in time; it was refused.
    Expired,
}

words!(PromptState {
    Open => "open", Answered => "answered", Cancelled => "cancelled", Expired => "expired",
});

/// By which way an answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnsweredBy {
    /// A program, over HTTP.
    Http,
    /// A person, at the command line.
    Cli,
    /// Nobody: the agent's settings decided.
    Policy,
    /// Nobody anew: a human had answered the same request before the agent's
    /// process ended.
    Earlier,
}

words!(AnsweredBy { Http => "http", Cli => "cli", Policy => "policy", Earlier => "earlier" });

/// A request that is put to a human.
#[derive(Clone, Debug, PartialEq)]
pub struct NewPrompt {
    /// Its row, named by the frame too.
    pub id: PromptId,
    /// `{"tool": …, "question"?: …}`: what is asked for, capped by
    /// [`rules::permission::shown`](crate::rules::permission::shown).
    pub request: Value,
    /// What may be answered.
    pub options: Vec<AskOption>,
    /// Unanswered this long, it is refused; none waits for ever.
    pub expires_in: Option<Duration>,
}

/// How a prompt was settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Anything but open.
    pub state: PromptState,
    /// What the agent is answered; none withdraws the request.
    pub answer: Option<AskOption>,
    /// Who chose the answer.
    pub by: Option<AnsweredBy>,
    /// Why, where nobody answered.
    pub reason: Option<String>,
}

impl Settled {
    /// Somebody chose this.
    #[must_use]
    pub fn answered(option: AskOption, by: AnsweredBy) -> Self {
        Self {
            state: PromptState::Answered,
            answer: Some(option),
            by: Some(by),
            reason: None,
        }
    }

    /// Nobody answered in time: refused, where anything on offer refuses.
    #[must_use]
    pub fn expired(answer: Option<AskOption>) -> Self {
        Self {
            state: PromptState::Expired,
            answer,
            by: Some(AnsweredBy::Policy),
            reason: Some("nobody answered in time".into()),
        }
    }

    /// Withdrawn, and why.
    #[must_use]
    pub fn cancelled(reason: impl Into<String>) -> Self {
        Self {
            state: PromptState::Cancelled,
            answer: None,
            by: None,
            reason: Some(reason.into()),
        }
    }
}

/// A request that outlived the agent's process, and what was answered: told to
/// the agent that goes on, and given again when it asks the same once more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Given {
    /// As [`NewPrompt::request`].
    pub request: Value,
    /// The answer; none where nothing on offer refuses.
    pub answer: Option<AskOption>,
}

/// Something a person should know that belongs to no task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The key crashed too often: its tasks wait until it has rested.
    CircuitOpen {
        /// Which session.
        key: SessionKey,
        /// The tab that shows its turns: the key's, but for a one-shot turn.
        chat: ChatId,
        /// How the last crash came about.
        why: String,
        /// How long it rests.
        rest: Duration,
    },
    /// Something about files that a person ordered to be changed.
    Operation {
        /// Which operation.
        id: OperationId,
        /// Whose files.
        session: SessionId,
        /// What is wrong.
        what: String,
        /// Why, with the files.
        why: String,
    },
    /// The key works again: what was said of it is over.
    CircuitClosed {
        /// Which session.
        key: SessionKey,
    },
    /// The agent fails in chat after chat: all of them wait until it has rested.
    AgentRests {
        /// Which agent.
        agent: AgentName,
        /// How the last failure came about.
        why: String,
        /// How long it rests.
        rest: Duration,
    },
    /// It answers again: what was said of it is over.
    AgentAnswers {
        /// Which agent.
        agent: AgentName,
    },
}
