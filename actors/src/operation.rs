//! The nouns of the journal of operations: who works on a session's files, and
//! what came of it.

use serde::{Deserialize, Serialize};

use crate::ids::{ChangeId, ChatId, CheckpointId, NodeId, OperationId, SessionId};
use crate::model::{Checkpoint, Worktree};
use crate::outcome::words;
use crate::review::{GoingBack, Leave, Order, Plan, Step, Work};

/// An order as it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Names the operation. A repeat under the same id begins nothing twice.
    pub id: OperationId,
    /// Whose files.
    pub session: SessionId,
    /// What is wanted.
    pub order: Order,
    /// Who wants it, for people: `http`, `cli`, or why nobody had to.
    pub caller: String,
}

/// What a writer must show before the journal of operations believes it: a
/// newer life of the node takes over what an older one began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The operation.
    pub id: OperationId,
    /// Whose gate it holds.
    pub session: SessionId,
    /// The node it runs on.
    pub node: NodeId,
    /// The node's life that runs it.
    pub incarnation: i64,
}

/// How far an operation is, in its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// No file was written.
    Planning,
    /// Files may have been written; the plan says which.
    Intended,
    /// It was carried out.
    Done,
    /// No file differs from before, unless its detail says otherwise.
    Abandoned,
}

words!(OperationState {
    Planning => "planning", Intended => "intended", Done => "done", Abandoned => "abandoned",
});

/// What the beginning of an operation came to.
#[derive(Clone, Debug)]
pub enum Begun {
    /// The gate is taken, and this is to be planned.
    Work(Box<Started>),
    /// There is nothing to do; no gate was taken.
    Nothing {
        /// Changes of the order that are as it wants them.
        already: Vec<ChangeId>,
        /// Secret-named files that the order leaves alone.
        left_alone: Vec<String>,
    },
}

/// An operation that holds its gate.
#[derive(Clone, Debug)]
pub struct Started {
    /// What its writers must show.
    pub owner: Owner,
    /// What is to be done.
    pub work: Work,
    /// Changes of the order that are as it wants them: no part of the work.
    pub already: Vec<ChangeId>,
    /// Secret-named files that the order leaves alone.
    pub left_alone: Vec<String>,
}

/// Why an operation ends as not done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Abandoned {
    /// For a person.
    pub why: String,
    /// The files that stood in the way.
    pub conflicts: Vec<crate::review::Conflict>,
}

/// An operation that somebody else began, or whose worker is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftBehind {
    /// What its writers must show from here on.
    pub owner: Owner,
    /// What was wanted.
    pub order: Order,
    /// How far it came.
    pub state: OperationState,
    /// The plan; an empty one where none was intended, and none when its
    /// worktree is gone.
    pub plan: Option<Plan>,
}

/// What an operation did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// The operation; none when there was nothing to do.
    pub id: Option<OperationId>,
    /// The changes that it settled.
    pub changes: Vec<ChangeId>,
    /// Changes of the order that were as it wants them before.
    pub already: Vec<ChangeId>,
    /// Secret-named files that the order leaves alone.
    pub left_alone: Vec<String>,
    /// The files that were written.
    pub files: Vec<Step>,
    /// What a person is told.
    pub notes: Vec<String>,
}

/// Whose agents must be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quiet {
    /// Those of one chat.
    Chat(ChatId),
    /// Those of all chats of the session.
    Session,
}

impl Order {
    /// As `hearth.operations.kind` says it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Apply { .. } => "apply",
            Self::Reject { .. } => "reject",
            Self::Rewind { .. } => "rewind",
            Self::Adopt { .. } => "adopt",
            Self::Restore { .. } => "restore",
            Self::Retry { .. } => "retry",
            Self::Compare { .. } => "compare",
            Self::Stash => "stash",
            Self::Archive(_) => "archive",
        }
    }

    /// The changes that it names.
    #[must_use]
    pub fn changes(&self) -> &[ChangeId] {
        match self {
            Self::Apply { changes, .. }
            | Self::Reject { changes }
            | Self::Rewind { changes }
            | Self::Adopt { changes, .. } => changes,
            Self::Restore { .. }
            | Self::Retry { .. }
            | Self::Compare { .. }
            | Self::Stash
            | Self::Archive(_) => &[],
        }
    }

    /// It may change files.
    #[must_use]
    pub fn writes(&self) -> bool {
        !matches!(self, Self::Compare { .. })
    }

    /// It is about the whole worktree as it is, whatever its changes.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        matches!(self, Self::Compare { .. } | Self::Stash | Self::Archive(_))
    }

    /// Whose agents must be gone before files change under them.
    #[must_use]
    pub fn quiets(&self) -> Option<Quiet> {
        match self {
            Self::Stash | Self::Archive(_) => Some(Quiet::Session),
            _ => self.goes_back().map(|back| Quiet::Chat(back.chat)),
        }
    }

    /// What a worktree is put away for, if the order does that.
    #[must_use]
    pub fn leaves(&self) -> Option<Leave> {
        match self {
            Self::Archive(leave) => Some(*leave),
            _ => None,
        }
    }

    /// Where it brings the worktree back to, if it does.
    #[must_use]
    pub fn goes_back(&self) -> Option<GoingBack> {
        match *self {
            Self::Restore {
                checkpoint,
                chat,
                consent,
                retries,
            } => Some(GoingBack {
                checkpoint,
                chat,
                consent,
                retries,
                unasked: false,
            }),
            Self::Retry {
                checkpoint,
                chat,
                task,
            } => Some(GoingBack {
                checkpoint,
                chat,
                consent: false,
                retries: Some(task),
                unasked: true,
            }),
            _ => None,
        }
    }

    /// The same order about these changes.
    #[must_use]
    pub fn naming(&self, changes: Vec<ChangeId>) -> Self {
        match self {
            Self::Apply { secrets, .. } => Self::Apply {
                changes,
                secrets: *secrets,
            },
            Self::Reject { .. } => Self::Reject { changes },
            Self::Rewind { .. } => Self::Rewind { changes },
            Self::Adopt { arena, task, .. } => Self::Adopt {
                arena: *arena,
                task: *task,
                changes,
            },
            Self::Restore { .. }
            | Self::Retry { .. }
            | Self::Compare { .. }
            | Self::Stash
            | Self::Archive(_) => self.clone(),
        }
    }
}

impl Plan {
    /// Nothing is done: what is left of an operation that was never planned.
    #[must_use]
    pub fn nothing(id: OperationId, worktree: Worktree) -> Self {
        Self {
            id,
            root: worktree.path.clone(),
            baseline: worktree.baseline.clone(),
            worktree,
            steps: Vec::new(),
            accounts: Vec::new(),
            notes: Vec::new(),
            // Planning may have come as far as that.
            undo: Some(Checkpoint {
                id: CheckpointId(id.0),
                commit: String::new(),
                tree: String::new(),
            }),
            besides: None,
        }
    }
}
