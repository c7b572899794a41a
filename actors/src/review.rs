//! The nouns of review: what a person orders done with a session's files.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ids::{ArenaId, ChangeId, ChatId, CheckpointId, OperationId, SessionId, TaskId};
use crate::model::{Checkpoint, Worktree};
use crate::risk::{Facts, Purpose};

/// What is done with the files of a session while its gate is held. Turns and
/// operations exclude each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Order {
    /// Brings pending changes into the project's checkout, all of them or none.
    Apply {
        /// Which.
        changes: Vec<ChangeId>,
        /// Secret-named files may be among them.
        secrets: bool,
    },
    /// Takes pending changes back out of the worktree, all of them or none.
    Reject {
        /// Which.
        changes: Vec<ChangeId>,
    },
    /// Takes applied changes out of the project's checkout again, so that they
    /// are pending once more.
    Rewind {
        /// Which.
        changes: Vec<ChangeId>,
    },
    /// Brings what an arena's winner changed in its own worktree into that of the
    /// session that the arena started from, all of it or none.
    Adopt {
        /// The arena, which is decided by it.
        arena: ArenaId,
        /// The winner.
        task: TaskId,
        /// Its changes.
        changes: Vec<ChangeId>,
    },
    /// Brings a worktree back to a checkpoint, and its chat to the message before.
    Restore {
        /// To which.
        checkpoint: CheckpointId,
        /// The chat whose transcript goes back too.
        chat: ChatId,
        /// Later turns of other chats in this worktree may lose their files.
        consent: bool,
        /// A failed task of the chat that is queued again when the files are back;
        /// only if it was not tried again before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retries: Option<TaskId>,
    },
    /// The same for a task that Hearth interrupted, whose creator wants it tried
    /// again by itself; it is queued again when the files are back. Only if nothing
    /// else has worked in the session since the task began, and nobody has dismissed
    /// it.
    Retry {
        /// To which.
        checkpoint: CheckpointId,
        /// The chat whose transcript goes back too.
        chat: ChatId,
        /// Which.
        task: TaskId,
    },
    /// Looks at what the last turn left in the worktree, where nobody has: the turn died
    /// with Hearth. What is new are pending changes of its task. Writes no file.
    Compare {
        /// The task of that turn.
        task: TaskId,
    },
    /// Puts what is not committed into the repository's stash, new files too, and
    /// brings the worktree back to its last commit.
    Stash,
    /// Puts the whole worktree away: its files are kept in a commit, then go off
    /// the disk. A session that is not deleted gets them back, at the same path,
    /// with its next task. Refused where something waits in the session.
    Archive(Leave),
}

/// What may be lost with a worktree, and what goes with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leave {
    /// Work that is nowhere else may go: a commit under a private ref keeps it for
    /// a time.
    pub force: bool,
    /// The session is deleted with it.
    pub delete: bool,
    /// It may go without its teardown, or although that failed.
    #[serde(default)]
    pub skip_teardown: bool,
}

impl Leave {
    /// What the order is about.
    #[must_use]
    pub fn purpose(self) -> Purpose {
        if self.delete {
            Purpose::Delete
        } else {
            Purpose::Archive
        }
    }
}

/// Where an order goes back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoingBack {
    /// To which checkpoint.
    pub checkpoint: CheckpointId,
    /// The chat whose transcript goes back too.
    pub chat: ChatId,
    /// Later turns of other chats in this worktree may lose their files.
    pub consent: bool,
    /// The task that is queued again with it.
    pub retries: Option<TaskId>,
    /// No person asked for it: it must cost nobody anything.
    pub unasked: bool,
}

/// A file by blob and mode. None where one is optional means that the file is
/// not there. In a [`Step`] the blob holds the bytes on disk; in a [`Recorded`]
/// change, what a scan stores: the two differ only where git converts line
/// endings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    /// Hex id of the blob; for a symbolic link, of its target's text.
    pub blob: String,
    /// `0o100644`, `0o100755` or `0o120000`.
    pub mode: u32,
}

/// A recorded change with both its sides, as an operation needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Its row.
    pub id: ChangeId,
    /// Path in the worktree, as the row shows it.
    pub path: String,
    /// The former path of a renamed file.
    pub old_path: Option<String>,
    /// The file in the baseline.
    pub before: Option<FileState>,
    /// The file in the worktree when the row was written.
    pub after: Option<FileState>,
    /// The name is on the secret list.
    pub secret: bool,
    /// What an apply did to the project's checkout, file by file; empty before.
    pub applied: Vec<Step>,
    /// A later change of the file was applied, and is not asked for together with this
    /// one. Told of applied changes alone.
    #[serde(default)]
    pub covered: bool,
}

/// One file's way from one state to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Path below the plan's root, as rows show paths.
    pub path: String,
    /// What is there before.
    pub from: Option<FileState>,
    /// What is there after.
    pub to: Option<FileState>,
}

/// Everything a plan is made from.
#[derive(Clone, Debug)]
pub struct Work {
    /// Names the operation, and the refs that keep its objects.
    pub id: OperationId,
    /// What is wanted.
    pub order: Order,
    /// Whose worktree.
    pub session: SessionId,
    /// Its worktree, with its baseline as stored.
    pub worktree: Worktree,
    /// The project's checkout.
    pub project_path: PathBuf,
    /// The changes that the order names.
    pub changes: Vec<Recorded>,
    /// The checkpoint that the order names.
    pub checkpoint: Option<Checkpoint>,
}

/// What an operation will do, worked out and safe to begin, to repeat and to
/// take back: all content that it needs is stored in the repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The operation it belongs to.
    pub id: OperationId,
    /// The folder whose files change: the project's checkout or the worktree.
    pub root: PathBuf,
    /// The worktree it is about.
    pub worktree: Worktree,
    /// The files, each once, in the order in which they are written.
    pub steps: Vec<Step>,
    /// What the baseline is when the plan has been carried out: a commit.
    pub baseline: String,
    /// For each change: the steps that it accounts for, to be stored with it.
    pub accounts: Vec<(ChangeId, Vec<Step>)>,
    /// What a person is told, such as files that are left alone.
    pub notes: Vec<String>,
    /// What the worktree was before a restore: a checkpoint with the operation's
    /// id, to be recorded as one when the restore is done.
    #[serde(default)]
    pub undo: Option<Checkpoint>,
    /// What it does besides.
    #[serde(default)]
    pub besides: Option<Besides>,
}

/// What a plan does that is no step of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Besides {
    /// This commit becomes the newest of the repository's stash, and the index
    /// what HEAD says.
    Stash {
        /// As `git stash` makes it.
        commit: String,
    },
    /// The whole worktree moves aside, then goes. [`Plan::undo`] holds its files.
    Leave {
        /// Where it moves to: beside its path, on the same file system.
        aside: PathBuf,
    },
}

/// Why one file is in the way of an order. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// The change, where it is about one.
    pub change: Option<ChangeId>,
    /// Path below the root.
    pub path: String,
    /// What is wrong and what to do, for a person.
    pub reason: String,
    /// The lines of both sides that exclude each other: 1-based, first line and
    /// count in the file as it is there now.
    pub hunks: Vec<(u32, u32)>,
}

/// What planning came to.
#[expect(
    clippy::large_enum_variant,
    reason = "made once an operation, and taken apart at once"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Planned {
    /// It can be done.
    Ready(Plan),
    /// It cannot; every reason.
    Refused(Vec<Conflict>),
    /// Work would be lost, and nobody said that it may be.
    AtRisk(Box<Facts>),
}
