//! The doors to the world. Every trait is object-safe and held as `Arc<dyn …>`;
//! every error variant says what the caller does differently.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;
use tokio::sync::mpsc;

use crate::event::{AgentEvent, Answer, Batch, ExitInfo, Frame, TurnRef};
use crate::ids::{AgentName, CheckpointId, Generation, PromptId, SessionId, SessionKey, TurnId};
use crate::model::{
    Assignment, Checkpoint, Deadlines, Diff, Fence, LinkFacts, Policy, Resume, TurnEnd, Worktree,
    WorktreeSpec,
};
use crate::prompt::{NewPrompt, Notice, Settled};

/// The library error behind a port's error.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

// --- the queue and the lease -------------------------------------------------

/// Where tasks wait.
#[async_trait]
pub trait TaskQueue: Send + Sync {
    /// Claims the heads of up to `credit` sessions whose agent is in `agents`.
    /// Each claimed task is `running` with a new attempt when this returns.
    async fn claim(&self, credit: usize, agents: &[AgentName]) -> Result<Claim, QueueError>;

    /// Gives a claimed task back, unprompted, to be claimed again after `after`.
    /// Refused silently when the fence is old.
    async fn release(&self, fence: &Fence, after: Duration) -> Result<(), QueueError>;
}

/// What a claim brought.
#[derive(Debug, Default)]
pub struct Claim {
    /// One a session, ordered by `queue_seq`.
    pub assignments: Vec<Assignment>,
    /// Until the next parked task comes due, if one is parked.
    pub next_due: Option<Duration>,
    /// Claimable heads were left because the credit was used up.
    pub more: bool,
    /// Tasks that wait were seen and left, for whatever reason; those parked do
    /// not count. False promises that nothing was there.
    pub left: bool,
}

/// Why the queue did not answer.
#[derive(Debug, Error)]
pub enum QueueError {
    /// Try again later, with back-off.
    #[error("the task queue cannot be reached")]
    Unavailable(#[source] Source),
    /// This node's lease is over: stop the agents, acquire a new life.
    #[error("this node's lease is over")]
    LeaseLost,
}

/// The node's claim to be the one that runs its sessions.
#[async_trait]
pub trait NodeLease: Send + Sync {
    /// Starts a new life: raises the incarnation, settles what the last life
    /// left behind (unprompted turns wait again, prompted ones end
    /// `interrupted`). Nothing may be claimed before this returned.
    async fn acquire(&self) -> Result<Reconciled, QueueError>;

    /// Prolongs the lease by its full length from the database's now.
    async fn renew(&self) -> Result<(), QueueError>;

    /// Ends the lease at once, for a clean stop.
    async fn release(&self) -> Result<(), QueueError>;
}

/// What a new life found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reconciled {
    /// The life that starts now.
    pub incarnation: i64,
    /// Turns that were not prompted yet: their tasks wait again.
    pub requeued: usize,
    /// Turns that were: their outcome is `interrupted`.
    pub interrupted: usize,
    /// Frames of the above, to be published.
    pub frames: Vec<Frame>,
}

// --- the journal -------------------------------------------------------------

/// Where turns are written down. Every call is one transaction, fenced.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Stamps the turn as prompted and writes what must exist before the
    /// prompt: messages, worktree row, checkpoint row. Call it last before
    /// [`Link::prompt`].
    async fn open(&self, turn: &TurnRef, open: &OpenTurn) -> Result<Vec<Frame>, JournalError>;

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
    pub user_message: crate::ids::MessageId,
    /// Where the turn works.
    pub worktree: Worktree,
    /// The state before the turn; none when the worktree has no checkpoint
    /// because the project forbids it.
    pub checkpoint: Option<Checkpoint>,
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

// --- agents ------------------------------------------------------------------

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
    /// Applies where the task says nothing.
    pub policy: Policy,
    /// Unused this long, its process is stopped.
    pub idle_ttl: Duration,
    /// The clocks of its turns.
    pub deadlines: Deadlines,
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
    /// Wanted model.
    pub model: Option<String>,
    /// Wanted mode.
    pub mode: Option<String>,
    /// Wanted thinking option.
    pub thinking: Option<String>,
    /// Wanted values of the agent's own options, by their ids.
    pub features: BTreeMap<String, serde_json::Value>,
    /// The clocks of the stop ladder.
    pub deadlines: Deadlines,
}

/// A live agent. Dropping the last handle kills its whole process tree.
#[async_trait]
pub trait Link: Send + Sync {
    /// Who it is.
    fn facts(&self) -> LinkFacts;

    /// Hands the prompt over; never waits for the answer. One prompt is in
    /// flight at a time, which the turn guard sees to.
    fn prompt(&self, turn: TurnId, prompt: &Prompt) -> Result<(), LinkError>;

    /// Asks the agent to end the turn. Never waits.
    fn cancel(&self, turn: TurnId);

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
    /// Wanted model for this turn.
    pub model: Option<String>,
    /// Wanted mode for this turn.
    pub mode: Option<String>,
    /// Wanted thinking option for this turn.
    pub thinking: Option<String>,
    /// Wanted values of the agent's own options for this turn, by their ids.
    pub features: BTreeMap<String, serde_json::Value>,
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

// --- worktrees ---------------------------------------------------------------

/// The files of sessions. One call per session at a time: the session's gate
/// sees to it.
#[async_trait]
pub trait Worktrees: Send + Sync {
    /// Finds or creates the session's worktree. Idempotent: a second call after
    /// a crash finishes what the first began.
    async fn ensure(&self, spec: &WorktreeSpec) -> Result<Worktree, WorktreeError>;

    /// Takes a shadow commit of everything under a private ref. When the files
    /// still make the tree `known`, only the ref is written.
    async fn checkpoint(
        &self,
        worktree: &Worktree,
        id: CheckpointId,
        known: Option<&str>,
    ) -> Result<Checkpoint, WorktreeError>;

    /// Takes the checkpoint of a turn that has not come yet, under the id it will
    /// have. A worktree has one at a time: a newer one takes its place, and with
    /// it goes what keeps the older one, unless that was confirmed.
    async fn prepare(
        &self,
        worktree: &Worktree,
        id: CheckpointId,
    ) -> Result<Checkpoint, WorktreeError>;

    /// Whether `prepared` is what [`Worktrees::checkpoint`] would take now; it
    /// is one from then on. False when something moved since, and whenever that
    /// cannot be told, such as for one that a newer one replaced.
    async fn confirm(
        &self,
        worktree: &Worktree,
        prepared: &Checkpoint,
    ) -> Result<bool, WorktreeError>;

    /// Compares the worktree with its baseline.
    async fn diff(&self, worktree: &Worktree) -> Result<Diff, WorktreeError>;
}

/// Why a worktree could not be used.
#[derive(Debug, Error)]
pub enum WorktreeError {
    /// The user must do something first; says what is wrong, where, and the cure.
    #[error("{0}")]
    Unusable(String),
    /// The disk is full or the quota is used up.
    #[error(
        "no space left for the worktree at {path}: free some disk or set HEARTH_HOME to a larger one"
    )]
    DiskFull {
        /// Where.
        path: PathBuf,
    },
    /// git failed in a way that a later try may survive.
    #[error("{what}")]
    Failed {
        /// What was being done, and where.
        what: String,
        /// Why it failed.
        #[source]
        source: Source,
    },
}

// --- processes ---------------------------------------------------------------

/// What Hearth knows of the processes it owns.
#[async_trait]
pub trait ProcessLedger: Send + Sync {
    /// Waits until no process of `key` is alive, at most `within`. False when
    /// one still is.
    async fn gone(&self, key: &SessionKey, within: Duration) -> bool;

    /// Resident bytes of the process trees of `key`, if it has any.
    fn rss_bytes(&self, key: &SessionKey) -> Option<u64>;
}

/// All doors together, as the tree takes them.
#[derive(Clone)]
pub struct Ports {
    /// Where tasks wait.
    pub queue: Arc<dyn TaskQueue>,
    /// The right to run them.
    pub lease: Arc<dyn NodeLease>,
    /// Where turns are written down.
    pub journal: Arc<dyn Journal>,
    /// Who answers.
    pub agents: Arc<dyn Agents>,
    /// Where they work.
    pub worktrees: Arc<dyn Worktrees>,
    /// What they run as.
    pub processes: Arc<dyn ProcessLedger>,
}
