//! The active worktree of a session, as statements of several rooms bring it.

use hearth_actors::model::Worktree;
use sqlx::FromRow;
use uuid::Uuid;

/// All null where the session has none. A row of the front end's own may lack
/// branch and base commit: the worktrees room finds out the rest from its path.
#[derive(Clone, Debug, FromRow)]
pub(super) struct WorktreeRow {
    worktree_id: Option<Uuid>,
    worktree_path: Option<String>,
    branch: Option<String>,
    base_commit: Option<String>,
    baseline: Option<String>,
}

impl WorktreeRow {
    pub(super) fn worktree(self) -> Option<Worktree> {
        Some(Worktree {
            id: self.worktree_id?.into(),
            path: self.worktree_path?.into(),
            branch: self.branch.unwrap_or_default(),
            base_commit: self.base_commit.unwrap_or_default(),
            baseline: self.baseline.unwrap_or_default(),
        })
    }
}
