//! Who answers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;
use tokio::sync::mpsc;

use super::ServerBackend;
use crate::event::{AgentEvent, Answer, ExitInfo};
use crate::ids::{AgentName, Generation, SessionId, SessionKey, TurnId};
use crate::model::{Deadlines, LinkFacts, Policy, Resume};

/// The agents that are configured.
pub trait Agents: Send + Sync {
    /// The agent of that name.
    fn get(&self, name: &AgentName) -> Option<AgentEntry>;

    /// All names that tasks may use, ordered. Tasks for others are not claimed.
    fn names(&self) -> Vec<AgentName>;
}

/// One configured agent.
#[derive(Clone)]
pub struct AgentEntry {
    /// How it is run.
    pub backend: Arc<dyn AgentBackend>,
    /// Where its chats' turns are run instead, in sessions of one server, as long as
    /// that can be started.
    pub server: Option<Arc<dyn ServerBackend>>,
    /// Runs a single turn, which is told the chat so far, where `backend` does not
    /// start. Its links keep no context.
    pub alone: Option<Arc<dyn AgentBackend>>,
    /// Applies where the task says nothing.
    pub policy: Policy,
    /// Unused this long, its process is stopped.
    pub idle_ttl: Duration,
    /// The clocks of its turns.
    pub deadlines: Deadlines,
    /// Most bytes that its process tree may take; none does not limit.
    pub memory: Option<u64>,
    /// Changes when what its process is started with does: live sessions of another
    /// one make way when they can.
    pub definition: u64,
}

/// A way to run a coding agent.
#[async_trait]
pub trait AgentBackend: Send + Sync {
    /// Starts or attaches the agent for one key. Events flow into `events`,
    /// [`crate::event::Said::Exited`] last. Cancel-safe: dropping the future
    /// kills what was started. The caller bounds the wait by
    /// [`Deadlines::spawn`].
    async fn start(
        &self,
        spec: LinkSpec,
        events: mpsc::Sender<AgentEvent>,
    ) -> Result<Arc<dyn Link>, StartError>;

    /// Its process can take another prompt after the first. Otherwise each of
    /// its turns is one-shot.
    fn can_be_warm(&self) -> bool {
        true
    }
}

/// What a start needs.
#[derive(Clone, Debug)]
pub struct LinkSpec {
    /// Whose agent it is.
    pub key: SessionKey,
    /// Its workspace.
    pub session: SessionId,
    /// Which life of the session actor asks.
    pub generation: Generation,
    /// Where it works: the worktree's absolute path.
    pub cwd: PathBuf,
    /// More environment, such as the session's port block.
    pub env: BTreeMap<String, String>,
    /// The context to continue, if there is one.
    pub resume: Option<Resume>,
    /// Why a former context must not be continued, where there was one: the new
    /// one is declared [`Continuity::Fresh`](crate::model::Continuity::Fresh).
    pub forgotten: Option<String>,
    /// Wanted model.
    pub model: Option<String>,
    /// Wanted mode.
    pub mode: Option<String>,
    /// Wanted thinking option.
    pub thinking: Option<String>,
    /// Wanted values of the agent's own options, by their ids.
    pub features: BTreeMap<String, serde_json::Value>,
    /// What the turn it is started for may do, for agents that nobody can be asked by.
    pub policy: Policy,
    /// The clocks of the stop ladder.
    pub deadlines: Deadlines,
}

/// A live agent. Dropping the last handle kills its whole process tree.
#[async_trait]
pub trait Link: Send + Sync {
    /// Who it is.
    fn facts(&self) -> LinkFacts;

    /// Its context can be continued by its next process, as far as is known. What
    /// is not known to can be, is not stopped while a human is asked in it.
    fn can_continue(&self) -> bool {
        false
    }

    /// One prompt's context is there for the next one. Without that each turn of a
    /// chat is told the chat, and its link ends with it.
    fn keeps_context(&self) -> bool {
        true
    }

    /// Hands the prompt over; never waits for the answer. One prompt is in
    /// flight at a time, which the turn guard sees to.
    fn prompt(&self, turn: TurnId, prompt: &Prompt) -> Result<(), LinkError>;

    /// Asks the agent to end the turn. Never waits.
    fn cancel(&self, turn: TurnId);

    /// Begins a fresh context in the live agent, set up as this prompt wants it,
    /// after [`Said::Unfit`](crate::event::Said::Unfit). Its facts say
    /// [`Continuity::Fresh`](crate::model::Continuity::Fresh). The caller bounds
    /// the wait; dropping the future leaves the former context.
    ///
    /// # Errors
    /// It cannot be set so in a fresh context either: the reason, for a person.
    async fn renew(&self, prompt: &Prompt, why: &str) -> Result<LinkFacts, String>;

    /// Answers an [`crate::event::Ask`]. Never waits.
    fn answer(&self, ask: &str, answer: &Answer) -> Result<(), LinkError>;

    /// The stop ladder: close its input, wait `deadlines.cancel`, TERM the
    /// group, wait `deadlines.term`, KILL and sweep. Returns when the process
    /// tree is gone. `hurry` skips the first wait.
    async fn stop(&self, hurry: bool) -> ExitInfo;
}

/// One prompt.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// What the user said.
    pub text: String,
    /// A section of Hearth's own that stands in front of it, composed by
    /// [`rules::handover`](crate::rules::handover).
    pub handover: Option<String>,
    /// Wanted model for this turn.
    pub model: Option<String>,
    /// Wanted mode for this turn.
    pub mode: Option<String>,
    /// Wanted thinking option for this turn.
    pub thinking: Option<String>,
    /// Wanted values of the agent's own options for this turn, by their ids.
    pub features: BTreeMap<String, serde_json::Value>,
    /// What the turn may do unasked.
    pub policy: Policy,
}

/// Why an agent did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// It is not installed or may not be run: the message names the cure.
    #[error("{0}")]
    Missing(String),
    /// It started and ended, or does not speak the protocol.
    #[error("{message}")]
    Failed {
        /// What happened and what to do.
        message: String,
        /// How it ended, if it did.
        exit: Option<ExitInfo>,
    },
    /// The server it shares with others cannot take it: why. The server's own
    /// supervisor counts that.
    #[error("the agent's server is not there: {0}")]
    Server(String),
    /// It wants a login first.
    #[error("{0}")]
    Auth(String),
}

/// Why a link took no order.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LinkError {
    /// The agent is gone; [`crate::event::Said::Exited`] tells more.
    #[error("the agent is gone")]
    Gone,
    /// Nothing with that id waits for an answer.
    #[error("nothing waits for this answer")]
    Unknown,
}
