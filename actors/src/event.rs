//! The three languages of a turn: what agents say ([`AgentEvent`]), what is
//! stored ([`Batch`]) and what subscribers see ([`Frame`]).

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::ids::{ChatId, MessageId, SessionId, TaskId, TurnId};
use crate::model::{Fence, Usage};

/// One thing an agent said, in the order of the wire.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentEvent {
    /// The turn the backend correlated it with by the agent's own marks; none
    /// for what comes outside any turn.
    pub turn: Option<TurnId>,
    /// What was said.
    pub said: Said,
}

/// The normalised vocabulary of all backends.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// A piece of the answer.
    Text(String),
    /// A piece of reasoning, kept apart from the answer.
    Reasoning(String),
    /// A tool call appeared or changed. Backends upsert by `id`: the first
    /// sight may be any of its states.
    Tool(Tool),
    /// The slash commands now on offer.
    Commands(Vec<Command>),
    /// The agent's mode now.
    Mode(String),
    /// More tokens or money spent in this turn.
    Usage(Usage),
    /// A human's consent is wanted, or an answer.
    Permission(Ask),
    /// What was asked under this id is not asked any more.
    Withdrawn(String),
    /// Something the vocabulary has no word for, kept as it came.
    Raw {
        /// The agent's own word for it.
        kind: String,
        /// The whole thing, capped by the backend.
        value: Value,
    },
    /// The prompt was not handed over: the agent cannot be set as asked in the
    /// context it has. In a fresh one it might; see [`Link::renew`](crate::ports::Link::renew).
    Unfit(String),
    /// The agent ended the turn. At most one per turn.
    TurnEnded(AgentStop),
    /// The agent is gone. Always the last event of a link.
    Exited(ExitInfo),
}

impl Said {
    /// Whether this is work on the prompt. Agents send command lists, mode
    /// changes and updates of their own at any time, also while the model they
    /// wait for says nothing.
    #[must_use]
    pub fn is_work(&self) -> bool {
        match self {
            Self::Text(text) | Self::Reasoning(text) => !text.is_empty(),
            Self::Commands(_)
            | Self::Mode(_)
            | Self::Withdrawn(_)
            | Self::Raw { .. }
            | Self::Unfit(_) => false,
            _ => true,
        }
    }
}

/// A tool call as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// The agent's id for the call, unique within its session.
    pub id: String,
    /// What a person reads, if said.
    pub title: Option<String>,
    /// `read`, `edit`, `delete`, `move`, `search`, `execute`, `think`, `fetch` or `other`.
    pub kind: Option<String>,
    /// Where it stands, if said.
    pub status: Option<ToolStatus>,
    /// Arguments, if said.
    pub input: Option<Value>,
    /// Result so far, if said; capped by the backend.
    pub output: Option<Value>,
    /// Paths it touches.
    pub locations: Vec<String>,
}

/// Where a tool call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolStatus {
    /// Announced.
    Pending,
    /// Runs.
    InProgress,
    /// Ended well.
    Completed,
    /// Ended badly, was refused or was cut off.
    Failed,
}

impl ToolStatus {
    /// The tool will not change any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

/// A slash command an agent offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Without the slash.
    pub name: String,
    /// One line.
    pub description: String,
}

/// A request to a human: for consent, or for an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    /// The backend's handle for the answer, unique within the link.
    pub id: String,
    /// The tool that asks.
    pub tool: Tool,
    /// What is asked, where words are wanted and not consent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// What may be answered.
    pub options: Vec<AskOption>,
}

/// One possible answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskOption {
    /// The agent's id for it; never to be guessed at.
    pub id: String,
    /// What a person reads.
    pub label: String,
    /// What it means.
    pub kind: AskKind,
}

/// The meaning of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AskKind {
    /// Yes, this time.
    AllowOnce,
    /// Yes, from now on.
    AllowAlways,
    /// No, this time.
    RejectOnce,
    /// No, from now on.
    RejectAlways,
    /// One of the answers to a question.
    Choice,
    /// A place for an answer in one's own words. Its id says which ones:
    /// `text`, `integer` or `number`. As an answer, the label is what was written.
    Text,
}

/// What is answered to an [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The option with this id.
    Option(String),
    /// These words, where an option of kind [`AskKind::Text`] is on offer.
    Text(String),
    /// None: the request is withdrawn.
    Cancelled,
}

/// How the agent itself says the turn ended. The guard decides the outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentStop {
    /// It is done. Not a proof of success: some agents report errors as text.
    EndTurn,
    /// It honoured a cancel.
    Cancelled,
    /// It stopped at one of its own limits or refused; the word is its own.
    Limit(String),
    /// It reported an error.
    Error(AgentFault),
    /// The prompt was not handed over at all, for this reason.
    Unprompted(AgentFault),
    /// The same, before it said or did anything in the turn: whoever it asked
    /// refused the prompt, and nothing came of it.
    Refused {
        /// The error.
        fault: AgentFault,
        /// When it is worth trying again, if that was said.
        reset: Option<Reset>,
    },
}

/// When a provider promises to answer again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// So long after it said so.
    After(Duration),
    /// At that time.
    At(DateTime<Utc>),
}

impl Reset {
    /// From `now` until then; nothing when it is past.
    #[must_use]
    pub fn wait_from(self, now: DateTime<Utc>) -> Duration {
        match self {
            Self::After(wait) => wait,
            Self::At(at) => (at - now).to_std().unwrap_or_default(),
        }
    }
}

/// An agent's error, classed by what Hearth does about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentFault {
    /// What to do about it.
    pub class: FaultClass,
    /// The agent's words, capped by the backend, without secrets.
    pub message: String,
}

/// Classes of agent errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultClass {
    /// Try again in seconds.
    Overload,
    /// Try again after the reset.
    Quota,
    /// Log in first.
    Auth,
    /// The request itself is wrong: it would be refused again.
    BadRequest,
    /// Anything else: do not retry by itself.
    Other,
}

/// How an agent's process ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitInfo {
    /// Exit code, if it exited.
    pub code: Option<i32>,
    /// Signal number, if it was killed.
    pub signal: Option<i32>,
    /// Last lines of its stderr, capped by the process room.
    pub stderr_tail: String,
    /// Hearth asked for it.
    pub expected: bool,
    /// The process was a server that others shared, whose end is not this agent's.
    #[serde(default)]
    pub shared: bool,
    /// The kernel killed it because memory ran out.
    #[serde(default)]
    pub out_of_memory: Option<OutOfMemory>,
}

/// Whose memory ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutOfMemory {
    /// What its processes may take together, in bytes.
    Limit(u64),
    /// The machine's, or that of a group around it, such as a container.
    Machine,
}

impl ExitInfo {
    /// `exit code 1` or `signal 9`, and why if the kernel told.
    #[must_use]
    pub fn summary(&self) -> String {
        match (self.code, self.signal) {
            (_, Some(signal)) if self.out_of_memory.is_some() => {
                format!("signal {signal}, as memory ran out")
            }
            (_, Some(signal)) => format!("signal {signal}"),
            (Some(code), None) => format!("exit code {code}"),
            (None, None) => "unknown exit".into(),
        }
    }
}

/// Whose words are being stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnRef {
    /// Proof of ownership.
    pub fence: Fence,
    /// Whose stream the frames join.
    pub session: SessionId,
    /// The tab.
    pub chat: ChatId,
    /// The assistant's message.
    pub message: MessageId,
}

/// `message_parts.kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartKind {
    /// Answer text: `{"text"}`.
    Text,
    /// A call: `{"id","title","kind","status","input","locations"}`.
    ToolCall,
    /// Its result: `{"id","status","output"}`.
    ToolResult,
    /// Reasoning: `{"text"}`.
    Reasoning,
    /// A step boundary.
    StepStart,
}

impl PartKind {
    /// As the column says it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::ToolCall => "tool_call",
            Self::ToolResult => "tool_result",
            Self::Reasoning => "reasoning",
            Self::StepStart => "step_start",
        }
    }
}

/// A part to insert, or to replace if its sequence is taken.
#[derive(Clone, Debug, PartialEq)]
pub struct PartWrite {
    /// Position in the message, from 0, without holes.
    pub sequence: i32,
    /// What it is.
    pub kind: PartKind,
    /// Its content.
    pub payload: Value,
}

/// What one group commit writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Names the commit, so that a repeat of one whose answer was lost writes
    /// nothing twice; nil for one that is never repeated.
    pub id: Uuid,
    /// Parts, ordered by sequence, each at most once.
    pub parts: Vec<PartWrite>,
    /// Frames in order; the store gives each its seq.
    pub frames: Vec<FrameDraft>,
    /// Spent since the last batch.
    pub usage: Option<Usage>,
    /// The first of the agent's words is in this batch.
    pub first_token: bool,
}

impl Batch {
    /// Nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.frames.is_empty() && self.usage.is_none()
    }
}

macro_rules! frame_kinds {
    ($($(#[$doc:meta])* $variant:ident => $word:literal),+ $(,)?) => {
        /// `type` of a frame, as BooCode's front end knows them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum FrameKind { $($(#[$doc])* $variant),+ }

        impl FrameKind {
            /// The word on the wire and in the row.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The kind a stored word stands for.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

frame_kinds! {
    /// The state of a session at one seq.
    Snapshot => "snapshot",
    /// The assistant's message exists.
    MessageStarted => "message_started",
    /// More answer text.
    Delta => "delta",
    /// More reasoning.
    ReasoningDelta => "reasoning_delta",
    /// A tool call appeared or changed.
    ToolCall => "tool_call",
    /// A tool call ended.
    ToolResult => "tool_result",
    /// The assistant's message is final.
    MessageComplete => "message_complete",
    /// working, blocked, idle or error.
    AgentStatusUpdated => "agent_status_updated",
    /// A human is asked.
    PermissionRequested => "permission_requested",
    /// The question is settled.
    PermissionResolved => "permission_resolved",
    /// Slash commands on offer.
    AgentCommands => "agent_commands",
    /// Something of the agent's that has no frame of its own: `{"kind","value"}`
    /// in the agent's words, at most 64 KiB. It says nothing about the status,
    /// and front ends that do not know it pass over it.
    AgentUpdate => "agent_update",
    /// Tokens and money.
    Usage => "usage",
    /// The list of pending changes is new.
    PendingChangesUpdated => "pending_changes_updated",
    /// A task's state or outcome changed.
    TaskUpdated => "task_updated",
    /// How an arena stands: `{"arena_id","state","contestants"}`.
    ArenaUpdated => "arena_updated",
    /// Much of a budget is used: `{"scope","subject","measure","used","limit",
    /// "level","resets_in_ms"}`.
    BudgetUpdated => "budget_updated",
    /// A chat went back to a checkpoint: `message_ids` (at most 1 000 of
    /// `trimmed`) and what they said are gone.
    MessagesTrimmed => "messages_trimmed",
}

/// A frame before it has a seq.
#[derive(Clone, Debug, PartialEq)]
pub struct FrameDraft {
    /// What it tells.
    pub kind: FrameKind,
    /// The fields of its own.
    pub data: Value,
}

/// What a subscriber sees. Published only after it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// Position in the session's stream, from 1, without holes.
    pub seq: i64,
    /// What it tells.
    #[serde(rename = "type")]
    pub kind: FrameKind,
    /// Whose stream.
    pub session_id: SessionId,
    /// The tab, where one is meant.
    pub chat_id: Option<ChatId>,
    /// The task, where one is meant.
    pub task_id: Option<TaskId>,
    /// The message, where one is meant.
    pub message_id: Option<MessageId>,
    /// The database's clock at the commit.
    pub at: DateTime<Utc>,
    /// The fields of its own.
    #[serde(flatten)]
    pub data: Value,
}
