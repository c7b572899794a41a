//! The files of sessions.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use thiserror::Error;

use super::Source;
use crate::arena::Archived;
use crate::ids::CheckpointId;
use crate::model::{Checkpoint, Diff, Worktree, WorktreeSpec};

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

    /// The commit that new worktrees of the project at this path start from.
    async fn head(&self, project_path: &Path) -> Result<String, WorktreeError>;

    /// Takes a shadow commit of everything under `refs/hearth/deleted/<worktree>`
    /// and removes the files and the worktree's entry; the branch stays. A
    /// repository within, or what may not be read, keeps all files where they
    /// are; ignored files, FIFOs and sockets go. Idempotent: nothing there is
    /// success.
    async fn archive(&self, worktree: &Worktree) -> Result<Archived, WorktreeError>;
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
    /// There is less room than one that is to be made should find.
    #[error(
        "{free_mb} MiB are free at {path}, and new worktrees are made from {least_mb} MiB on: free some disk, or set HEARTH_WORKTREES_MIN_FREE_MB"
    )]
    DiskLow {
        /// Where.
        path: PathBuf,
        /// What is free, in MiB.
        free_mb: u64,
        /// What has to be.
        least_mb: u64,
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
