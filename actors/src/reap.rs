//! The nouns of the reaper: what it finds, what it does about it, and why.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{CheckpointId, SessionId, WorktreeId};
use crate::model::Worktree;
use crate::outcome::words;
use crate::risk::Facts;

/// How a worktree's row stands; the later, the less somebody wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// A turn, an operation or an arena works there, or something waits to.
    InUse,
    /// Its session is open, and nothing works there.
    Open,
    /// Its session is closed.
    Closed,
    /// It belongs to a contestant of an arena that is over.
    ArenaOver,
    /// It was put away, and its session may want it back.
    PutAway,
    /// Its session is deleted, or its row gone.
    Orphaned,
    /// It was put away for good.
    Archived,
}

words!(Standing {
    InUse => "in_use", Open => "open", Closed => "closed", ArenaOver => "arena_over",
    PutAway => "put_away", Orphaned => "orphaned", Archived => "archived",
});

impl Standing {
    /// Nobody will ask for these files any more.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Orphaned | Self::Archived)
    }
}

/// A worktree as the rows have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its row.
    pub worktree: Worktree,
    /// Its session, while there is one.
    pub session: Option<SessionId>,
    /// The project's checkout; none when the project is gone.
    pub project_path: Option<PathBuf>,
    /// How it stands.
    pub standing: Standing,
    /// Since somebody last did something in its session; of one that was put away,
    /// since then.
    pub idle: Duration,
    /// Its archive was let go of: nothing is left of it.
    pub forgotten: bool,
}

/// Something on the disk that may be a leftover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thing {
    /// What it is.
    pub kind: ThingKind,
    /// Where.
    pub path: PathBuf,
    /// The session that its name or record tells, if it tells one.
    pub session: Option<SessionId>,
    /// The worktree that a record of ours tells, with the branch that it has.
    pub worktree: Option<Worktree>,
    /// Since it was last moved, made or renamed.
    pub age: Duration,
}

/// What a thing on the disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThingKind {
    /// A worktree's folder.
    Folder,
    /// A worktree that was moved aside to be removed.
    Tombstone,
    /// A worktree that is being made, or was.
    HalfMade,
    /// A repository's entry of a worktree of ours whose files are gone.
    Entry,
}

words!(ThingKind {
    Folder => "folder", Tombstone => "tombstone", HalfMade => "half_made", Entry => "entry",
});

/// How long things are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// What no row wants is left alone so long: somebody may be about to write the
    /// row (1 h).
    pub orphan: Duration,
    /// A worktree in which nobody did anything (72 h).
    pub idle: Duration,
    /// What an archive keeps in the repository (14 days).
    pub archive: Duration,
    /// Checkpoints (14 days).
    pub checkpoints: Duration,
    /// Checkpoints of a chat (20). The newest always stays.
    pub checkpoints_per_chat: u32,
}

impl Default for Keep {
    fn default() -> Self {
        const HOUR: u64 = 60 * 60;
        Self {
            orphan: Duration::from_secs(HOUR),
            idle: Duration::from_secs(72 * HOUR),
            archive: Duration::from_secs(14 * 24 * HOUR),
            checkpoints: Duration::from_secs(14 * 24 * HOUR),
            checkpoints_per_chat: 20,
        }
    }
}

/// What is to be done about something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Put the session's worktree away, if that loses nothing.
    Archive(Place),
    /// Remove a worktree that no session has, if that loses nothing.
    Bury(Thing, Option<Place>),
    /// Note that the files are gone.
    NoteGone(Place),
    /// Remove what holds nothing, or only what an archive holds too.
    Clear(Thing),
    /// Let the repository go of what an archive kept.
    Forget(Place),
}

/// Why something is done, or left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Its session is closed.
    SessionClosed,
    /// Its arena is over.
    ArenaOver,
    /// Nobody did anything in its session for long.
    Idle,
    /// No session has it.
    Orphan,
    /// Its files are gone.
    FilesGone,
    /// It was being removed when Hearth ended.
    HalfRemoved,
    /// It was being made when Hearth ended.
    HalfMade,
    /// It was kept long enough.
    Expired,
}

words!(Reason {
    SessionClosed => "session_closed", ArenaOver => "arena_over", Idle => "idle",
    Orphan => "orphan", FilesGone => "files_gone", HalfRemoved => "half_removed",
    HalfMade => "half_made", Expired => "expired",
});

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It was done; in a dry run: it would be.
    Done,
    /// It stays: work would be lost.
    Kept,
    /// It stays for now: something works there, or went wrong.
    Later,
}

words!(Fate { Done => "done", Kept => "kept", Later => "later" });

/// One line of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// `archive`, `bury`, `note_gone`, `clear`, `forget` or `checkpoints`.
    pub deed: String,
    /// What it is about.
    pub path: PathBuf,
    /// The session, where there is one.
    pub session: Option<SessionId>,
    /// Why.
    pub reason: Reason,
    /// What became of it.
    pub fate: Fate,
    /// More about it, for a person.
    pub detail: Option<String>,
    /// What would be lost, where something would.
    pub facts: Option<Facts>,
}

/// What one look of the reaper came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Nothing was changed.
    pub dry_run: bool,
    /// What was found, at most [`MAX_LINES`].
    pub lines: Vec<Line>,
    /// What was found beyond that.
    pub omitted: u64,
    /// Checkpoints that were let go of, or would be.
    pub checkpoints: u64,
}

/// Lines of one report.
pub const MAX_LINES: usize = 500;

/// A checkpoint that was kept long enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldCheckpoint {
    /// Its row.
    pub id: CheckpointId,
    /// The checkout whose repository keeps it.
    pub project_path: PathBuf,
}

/// A notice that a worktree is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptNotice {
    /// What tells one from another: the worktree's id, else its path.
    pub subject: String,
    /// Whose, where there is a session.
    pub session: Option<SessionId>,
    /// What happened.
    pub title: String,
    /// What would be lost, and what to do.
    pub detail: String,
}

impl Place {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> WorktreeId {
        self.worktree.id
    }
}
