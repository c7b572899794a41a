//! What a worktree needs before an agent works there.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use thiserror::Error;

use super::{Source, WorktreeError};
use crate::ids::{ProjectId, SessionId};
use crate::model::Worktree;
use crate::set_up::{Consent, Found, TearDown};

/// What people decided, and which ports are whose.
#[async_trait]
pub trait SetUpRows: Send + Sync {
    /// What was decided about this content for this project.
    async fn consent(&self, project: ProjectId, hash: &str) -> Result<Option<Consent>, SetUpError>;

    /// What the session's worktrees do before they go, if they were set up by this
    /// content, and it is trusted still.
    async fn tear_down(
        &self,
        session: SessionId,
        hash: &str,
    ) -> Result<Option<TearDown>, SetUpError>;

    /// The first port of the session's block, which is its own until it is deleted;
    /// none when all are taken.
    async fn port(&self, session: SessionId) -> Result<Option<u16>, SetUpError>;
}

/// What is done to the files. One call per worktree at a time.
#[async_trait]
pub trait SetUpFiles: Send + Sync {
    /// What the checkout at this path wants for its worktrees.
    async fn wanted(&self, project_path: &Path) -> Found;

    /// Whether the worktree was made, or torn down, since it was last set up. One
    /// that somebody else made never is.
    async fn is_due(&self, worktree: &Worktree) -> Result<bool, WorktreeError>;

    /// Notes how its files are, unless an earlier try did, and copies what matches
    /// from the checkout. What is there already stays as it is.
    async fn begin(
        &self,
        worktree: &Worktree,
        project_path: &Path,
        copy: &[String],
    ) -> Result<(), WorktreeError>;

    /// It is set up, by the content of this hash. What changed since
    /// [`SetUpFiles::begin`] is in the baseline of the worktree that comes back.
    async fn done(&self, worktree: &Worktree, by: Option<&str>) -> Result<Worktree, WorktreeError>;

    /// The hash of the content that it was set up by.
    async fn set_up_by(&self, worktree: &Worktree) -> Option<String>;

    /// It was torn down: it is due again before anybody works there.
    async fn torn_down(&self, worktree: &Worktree) -> Result<(), WorktreeError>;

    /// Keeps what a script wrote, in place of what the last one did; where.
    async fn keep_log(&self, worktree: &Worktree, log: &str) -> Option<PathBuf>;
}

/// Why the rows were not read.
#[derive(Debug, Error)]
#[error("what was decided about set-ups cannot be read")]
pub struct SetUpError(#[source] pub Source);
