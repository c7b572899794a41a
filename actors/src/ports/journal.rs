//! Where turns are written down.

use async_trait::async_trait;
use thiserror::Error;

use super::Source;
use crate::event::{Batch, Frame, TurnRef};
use crate::handover::{Past, Telling};
use crate::ids::{MessageId, PromptId, SessionId, SessionKey};
use crate::model::{Checkpoint, LinkFacts, TurnEnd, Worktree};
use crate::prompt::{NewPrompt, Notice, Settled};

/// Where turns are written down. Every call is one transaction, fenced.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Stamps the turn as prompted and writes what must exist before the
    /// prompt: messages, worktree row, checkpoint row. Call it last before
    /// [`Link::prompt`](super::Link::prompt).
    async fn open(&self, turn: &TurnRef, open: &OpenTurn) -> Result<Vec<Frame>, JournalError>;

    /// What the turn's agent has not seen of its chat, the turn's own messages
    /// left out; `whole`: all that is kept of the chat. A bounded read.
    async fn past(&self, turn: &TurnRef, whole: bool) -> Result<Past, JournalError>;

    /// Writes down what the agent is told in front of the turn's prompt, before it
    /// is. How the turn ends decides whether it counts: see [`TurnEnd::taken`].
    async fn tell(&self, turn: &TurnRef, telling: &Telling) -> Result<(), JournalError>;

    /// Replaces the commit of the checkpoint that an `open` named, under the same
    /// id: files moved while the prompt was not sent yet.
    async fn recheckpoint(
        &self,
        turn: &TurnRef,
        checkpoint: &Checkpoint,
    ) -> Result<(), JournalError>;

    /// Stores what the agent said; the frames come back with their seq.
    async fn append(&self, turn: &TurnRef, batch: &Batch) -> Result<Vec<Frame>, JournalError>;

    /// Ends the turn: outcome, task state, message status, usage, changes.
    async fn finish(&self, turn: &TurnRef, end: &TurnEnd) -> Result<Vec<Frame>, JournalError>;

    /// Writes down that a human is asked: the prompt's row, the task `blocked`,
    /// the frame `permission_requested`. A repeat brings the frames of the first.
    async fn ask(&self, turn: &TurnRef, prompt: &NewPrompt) -> Result<Vec<Frame>, JournalError>;

    /// Settles one prompt of the turn, once; a repeat brings the frames of the
    /// first, another settlement of it is [`JournalError::Fenced`]. The task runs
    /// again when none of its prompts is open. Call it before the agent is told.
    async fn settle(
        &self,
        turn: &TurnRef,
        prompt: PromptId,
        settled: &Settled,
    ) -> Result<Vec<Frame>, JournalError>;

    /// Settles all prompts of the turn that are open as cancelled. No frames
    /// when none was.
    async fn withdraw(&self, turn: &TurnRef, reason: &str) -> Result<Vec<Frame>, JournalError>;

    /// Writes down a request that was decided without asking anybody: its row,
    /// settled, and the frame `permission_resolved`. A repeat brings the frame of
    /// the first.
    async fn decided(
        &self,
        turn: &TurnRef,
        prompt: &NewPrompt,
        settled: &Settled,
    ) -> Result<Vec<Frame>, JournalError>;

    /// Ends the turn `interrupted`, because of `why`, and keeps what it asks: its
    /// prompts stay open, its task stays `blocked` and holds no slot; the answers
    /// let it go on. `unheard` are prompts that were settled and whose answers the
    /// agent was not told: they count as answers behind the turn's end, so that the
    /// task goes on at once if no other is open. No frames, and nothing written,
    /// where that cannot be: when nothing is open or unheard, the agent has no
    /// session that could be resumed, or a cancel came first. Then
    /// [`Journal::finish`] it.
    async fn detach(
        &self,
        turn: &TurnRef,
        why: &str,
        unheard: &[PromptId],
    ) -> Result<Vec<Frame>, JournalError>;

    /// Keeps `agent_sessions` true about a warm session.
    async fn note_link(&self, note: &LinkNote) -> Result<(), JournalError>;

    /// Tells people something that belongs to no task. Said again before anybody
    /// dismissed it, it stays one notice.
    async fn notice(&self, notice: &Notice) -> Result<(), JournalError>;
}

/// What exists before the prompt.
#[derive(Clone, Debug)]
pub struct OpenTurn {
    /// The user's text, for a task that came without a message.
    pub input: String,
    /// The user's message.
    pub user_message: MessageId,
    /// Where the turn works.
    pub worktree: Worktree,
    /// The state before the turn; none when the worktree has no checkpoint
    /// because the project forbids it.
    pub checkpoint: Option<Checkpoint>,
    /// The agent keeps no context of it: the turn is news to the context that the
    /// same agent may have of the chat, too.
    pub alone: bool,
}

/// `agent_sessions.status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkStatus {
    /// Warm, no turn.
    Idle,
    /// Warm, in a turn.
    Active,
    /// Its process died.
    Crashed,
    /// Ended on purpose.
    Closed,
}

impl LinkStatus {
    /// As the column says it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Active => "active",
            Self::Crashed => "crashed",
            Self::Closed => "closed",
        }
    }
}

/// A line about a warm session.
#[derive(Clone, Debug)]
pub struct LinkNote {
    /// Which one.
    pub key: SessionKey,
    /// Its workspace.
    pub session: SessionId,
    /// What happened to it.
    pub status: LinkStatus,
    /// Who it is; none leaves what is stored.
    pub facts: Option<LinkFacts>,
}

/// Why the journal did not write.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The turn is not ours any more: write nothing, stop the agent.
    #[error("the turn belongs to a newer owner")]
    Fenced,
    /// The task was cancelled before its turn was opened: nothing was written.
    #[error("the task was cancelled before it was prompted")]
    Cancelled,
    /// Try again: nothing was written.
    #[error("the journal cannot be reached")]
    Unavailable(#[source] Source),
    /// Trying again would not help: end the turn with this reason.
    #[error("the journal refused the data: {0}")]
    Refused(String),
}
