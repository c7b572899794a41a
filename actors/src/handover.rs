//! What an agent is told that it has not seen: what is read of the chat's past,
//! and the trace of what was told.

use serde::{Deserialize, Serialize};

use crate::ids::{AgentName, MessageId, TaskId};
use crate::outcome::words;

/// What a claim knows of the context that an agent has of its chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextNote {
    /// It was given what the chat held when it began. Until then the whole chat
    /// is news to it.
    pub begun: bool,
    /// Something happened in the chat since that it has not seen.
    pub behind: bool,
    /// It must not be continued, for this reason.
    pub forgotten: Option<String>,
}

impl Default for ContextNote {
    /// A context that knows all.
    fn default() -> Self {
        Self {
            begun: true,
            behind: false,
            forgotten: None,
        }
    }
}

/// Whether an agent's context took the prompt of a turn, and what stood in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Taken {
    /// The agent worked on it, or ended the turn itself.
    Yes,
    /// It never reached the agent.
    No,
    /// It was handed over, and the agent gave no sign of it.
    Unknown,
}

words!(Taken { Yes => "yes", No => "no", Unknown => "unknown" });

/// A part of a chat's past, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Past {
    /// The newest of it, at most the store's cap.
    pub entries: Vec<Entry>,
    /// Older entries that were not read.
    pub left_out: usize,
    /// Handles of the news in it, which a [`Telling`] names.
    pub news: Vec<i64>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// Somebody said something.
    Said(Said),
    /// A task ended that the chat asked for elsewhere.
    Child(Child),
}

/// A message of the chat.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// Its row.
    pub message: MessageId,
    /// Who said it.
    pub speaker: Speaker,
    /// The agent that said it, or that the user spoke to; none where nobody knows.
    pub agent: Option<AgentName>,
    /// What was said.
    pub text: Excerpt,
    /// `complete`, or how it ended else.
    pub status: String,
    /// Files that its turn changed, by name alone.
    pub files: Vec<String>,
    /// Files beyond those.
    pub more_files: usize,
}

/// Who said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// The user.
    User,
    /// An agent.
    Agent,
    /// Hearth, or another program.
    System,
}

/// A task that a task of the chat asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// Its row.
    pub task: TaskId,
    /// Who ran it.
    pub agent: Option<AgentName>,
    /// What it was asked.
    pub asked: Excerpt,
    /// How it ended: its outcome, else its state.
    pub ended: String,
    /// What came of it; empty where it said nothing.
    pub summary: Excerpt,
}

/// A text, or its beginning and its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Excerpt {
    /// The beginning.
    pub head: String,
    /// The end, where the middle is left out.
    pub tail: String,
    /// Unicode scalar values between the two.
    pub left_out: usize,
}

impl From<&str> for Excerpt {
    fn from(text: &str) -> Self {
        Self {
            head: text.to_owned(),
            ..Self::default()
        }
    }
}

/// Why an agent is told something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is new in a chat that others began.
    Joined,
    /// A fresh context replaced its former one, for this reason.
    Fresh(String),
    /// Its context began, and what it was told then did not reach it.
    Again,
    /// Others went on in the chat while it was away.
    Missed,
    /// It keeps no context from one turn to the next.
    Alone,
}

impl Reason {
    /// One word for programs.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Fresh(_) => "fresh",
            Self::Again => "again",
            Self::Missed => "missed",
            Self::Alone => "alone",
        }
    }
}

/// The trace of what an agent was told in front of a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// `joined`, `fresh`, `again`, `missed` or `alone`.
    pub reason: String,
    /// Why, in a sentence.
    pub why: String,
    /// The oldest message in it.
    pub from_message: Option<MessageId>,
    /// The newest message in it.
    pub to_message: Option<MessageId>,
    /// Messages in it.
    pub messages: usize,
    /// Ended tasks in it.
    pub children: usize,
    /// Older entries that were left out for want of room.
    pub left_out: usize,
    /// Size of the section, in bytes.
    pub bytes: usize,
}

/// What is written down before it is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Telling {
    /// The trace; none where there was nothing to tell.
    pub told: Option<Told>,
    /// The news that are settled by it, as [`Past::news`] names them.
    pub news: Vec<i64>,
    /// The chat has no past: the context knows all of it.
    pub begins: bool,
}
