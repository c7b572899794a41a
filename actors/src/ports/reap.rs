//! What the reaper looks at and removes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use thiserror::Error;

use super::{Source, WorktreeError};
use crate::arena::Archived;
use crate::ids::{CheckpointId, SessionId, WorktreeId};
use crate::model::Worktree;
use crate::reap::{Keep, KeptNotice, OldCheckpoint, Place, Thing};
use crate::risk::Facts;

/// The rows that say what is wanted. Every write is refused when this node's lease
/// is over, and harmless when it is repeated.
#[async_trait]
pub trait ReapRows: Send + Sync {
    /// The worktrees of this node of which something may be left, and the sessions
    /// that are neither closed nor deleted.
    async fn places(&self) -> Result<(Vec<Place>, BTreeSet<SessionId>), ReapError>;

    /// The checkouts of all projects.
    async fn projects(&self) -> Result<Vec<PathBuf>, ReapError>;

    /// Marks the worktree as put away, before its files go or after they went. A
    /// session that is open gets it back with its next task. False when something
    /// works there, or waits to.
    async fn put_away(&self, worktree: WorktreeId) -> Result<bool, ReapError>;

    /// Nothing is left of the worktree.
    async fn forgotten(&self, worktree: WorktreeId) -> Result<(), ReapError>;

    /// Checkpoints beyond what is kept, the oldest first, at most 200: the newest
    /// of a chat, and those of tasks that have not ended, are none. Nor are those of
    /// the checkouts `without`.
    async fn old_checkpoints(
        &self,
        keep: &Keep,
        without: &[PathBuf],
    ) -> Result<Vec<OldCheckpoint>, ReapError>;

    /// Deletes the rows of checkpoints whose commits were let go of.
    async fn drop_checkpoints(&self, ids: &[CheckpointId]) -> Result<(), ReapError>;

    /// Tells people that worktrees are kept, once each, and that all others are so
    /// no longer.
    async fn tell_kept(&self, kept: &[KeptNotice]) -> Result<(), ReapError>;
}

/// What is on the disk.
#[async_trait]
pub trait ReapFiles: Send + Sync {
    /// What would be lost if the worktree went. Never an error: what cannot be
    /// looked at says so.
    async fn facts(&self, worktree: &Worktree) -> Facts;

    /// What is below the home of worktrees, what else is not known to be gone of the
    /// paths that `rows` name, and entries of ours in these repositories that lead
    /// home and find nothing.
    async fn things(
        &self,
        projects: &[PathBuf],
        rows: &[PathBuf],
    ) -> Result<Vec<Thing>, WorktreeError>;

    /// Removes a worktree that no session has; as [`super::Worktrees::archive`],
    /// but it looks once more whether it loses something, and leaves it then.
    async fn bury(&self, worktree: &Worktree) -> Result<Archived, WorktreeError>;

    /// Removes a thing that holds nothing, or only what an archive holds too.
    async fn clear(&self, thing: &Thing) -> Result<(), WorktreeError>;

    /// Lets the repository of the checkout go of all that it keeps of the worktree.
    async fn forget(&self, worktree: WorktreeId, project: &Path) -> Result<(), WorktreeError>;

    /// Lets the repository of the checkout go of these checkpoints.
    async fn let_go(&self, project: &Path, ids: &[CheckpointId]) -> Result<(), WorktreeError>;
}

/// Why rows were not read or written.
#[derive(Debug, Error)]
pub enum ReapError {
    /// Try again later.
    #[error("the rows of worktrees cannot be reached")]
    Unavailable(#[source] Source),
    /// This node's lease is over: stop.
    #[error("this node's lease is over")]
    LeaseLost,
}
