//! Looking back: which checkpoints are still there, and what lies between them
//! and the files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use git2::{Oid, Repository};
use hearth_actors::ids::{ProjectId, SessionId};
use hearth_actors::model::{Diff, Worktree};
use hearth_actors::ports::WorktreeError;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::errors::Context;
use super::guard::Project;
use super::{GitWorktrees, diff, scan, worktree_path};

/// Longest look whether commits are there: some object files and packs.
const LOOK: Duration = Duration::from_secs(5);

impl GitWorktrees {
    /// Which of the commits, in hex, the repository of the checkout at `project`
    /// still has, in their order; none when it cannot be looked into.
    pub async fn kept(&self, project: &Path, commits: Vec<String>) -> Option<Vec<bool>> {
        let project = project.to_owned();
        let look = spawn_blocking(move || {
            let repo = Project::open(&project).ok()?.repo;
            let kept = |hex: &String| {
                let commit = Oid::from_str(hex).and_then(|id| repo.find_commit(id));
                commit.and_then(|commit| commit.tree()).is_ok()
            };
            Some(commits.iter().map(kept).collect())
        });
        timeout(LOOK, look).await.ok()?.ok()?
    }

    /// Where the worktree of a session is made.
    #[must_use]
    pub fn place(&self, project: ProjectId, session: SessionId) -> PathBuf {
        worktree_path(&self.config.home, project, session)
    }

    /// What changed in the worktree since the commit `from`.
    ///
    /// # Errors
    /// The worktree or the commit cannot be used.
    pub async fn since(&self, worktree: &Worktree, from: &str) -> Result<Diff, WorktreeError> {
        let (worktree, from) = (worktree.clone(), from.to_owned());
        self.alone(worktree.path.clone(), move |room| {
            let open = room.open(&worktree)?;
            let before = tree_of(&open.repo, &from)?;
            let shadow = scan::shadow(&open.scanned(&worktree), &room.snapshots)?;
            found(&open.repo, before, shadow.tree, shadow.notes)
        })
        .await
    }

    /// What lies between two commits of the repository of the checkout at
    /// `project`.
    ///
    /// # Errors
    /// The repository or a commit cannot be used.
    pub async fn between(
        &self,
        project: &Path,
        from: &str,
        to: &str,
    ) -> Result<Diff, WorktreeError> {
        let path: PathBuf = project.to_owned();
        let (from, to) = (from.to_owned(), to.to_owned());
        self.alone(path.clone(), move |_| {
            let project = Project::open(&path)?;
            let (from, to) = (tree_of(&project.repo, &from)?, tree_of(&project.repo, &to)?);
            found(&project.repo, from, to, Vec::new())
        })
        .await
    }
}

fn found(repo: &Repository, from: Oid, to: Oid, notes: Vec<String>) -> Result<Diff, WorktreeError> {
    let changes = diff::between(repo, from, to)?;
    Ok(Diff {
        tree: to.to_string(),
        changes: changes.listed,
        omitted: changes.omitted,
        warnings: notes,
    })
}

/// The tree of a commit, or what to do about its being gone.
pub(super) fn tree_of(repo: &Repository, commit: &str) -> Result<Oid, WorktreeError> {
    let id = Oid::from_str(commit).cannot("read the commit's id", repo.path())?;
    let tree = repo.find_commit(id).map(|commit| commit.tree_id());
    tree.map_err(|_| {
        WorktreeError::Unusable(format!(
            "the commit {commit} is no longer in {}: take another checkpoint",
            repo.commondir().display()
        ))
    })
}
