//! Names of things: typed identifiers that cannot be mixed up.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new, time-ordered identifier (UUID version 7).
            #[must_use]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}

uuid_ids! {
    /// A git repository on this host.
    ProjectId,
    /// A workspace of a project: one worktree, any number of chats.
    SessionId,
    /// A tab: the unit of agent context.
    ChatId,
    /// One message of a chat.
    MessageId,
    /// One prompt to run: the queue entry.
    TaskId,
    /// One attempt at a task: prompt to exactly one outcome.
    TurnId,
    /// A session's working directory.
    WorktreeId,
    /// A shadow commit of a worktree before a turn.
    CheckpointId,
    /// One data directory, that is one Hearth at a time.
    NodeId,
    /// One proposed change of one file.
    ChangeId,
    /// One piece of work on a session's files that excludes turns.
    OperationId,
    /// One prompt for several agents that compete.
    ArenaId,
    /// One request of an agent that waits, or waited, for a human.
    PromptId,
}

/// The name under which an agent is configured, such as `opencode` or `demo`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AgentName(Arc<str>);

impl AgentName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for AgentName {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl From<String> for AgentName {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The address of a warm session. Nobody outside the pool holds a session's
/// actor reference: they hold its key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionKey {
    /// The tab.
    pub chat: ChatId,
    /// Who answers in it.
    pub agent: AgentName,
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.chat, self.agent)
    }
}

/// Counts the lives of one session actor: late words of an older life are ignored.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The life after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
