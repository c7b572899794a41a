//! What people do with the work of agents: the files.

use async_trait::async_trait;

use super::WorktreeError;
use crate::review::{Conflict, Plan, Planned, Work};

/// The files of an operation. The session's gate is held by the caller.
#[async_trait]
pub trait Review: Send + Sync {
    /// Works out what the order means for the files as they are now, and stores
    /// what carrying it out and taking it back will need under
    /// `refs/hearth/operations/<id>`. No file is written.
    async fn plan(&self, work: &Work) -> Result<Planned, WorktreeError>;

    /// Brings each file of the plan from its `from` to its `to`. Repeatable: a
    /// file that is at its `to` is left. Resolves every path beneath the root
    /// without following links. A file that is neither is not touched and comes
    /// back as a conflict; where one is found before the first file is written,
    /// none is, and else the plan is to be taken back.
    async fn carry_out(&self, plan: &Plan) -> Result<Vec<Conflict>, WorktreeError>;

    /// Brings each file of the plan that is at its `to` back to its `from`, in
    /// reverse order. Repeatable. Files that are neither come back.
    async fn take_back(&self, plan: &Plan) -> Result<Vec<Conflict>, WorktreeError>;

    /// Points the worktree's private ref `refs/hearth/baselines/<worktree>` at
    /// the plan's baseline or, undone, lets go of what planning stored.
    /// Repeatable. A diff compares with the new baseline when it is given a
    /// worktree that names it.
    async fn settle(&self, plan: &Plan, done: bool) -> Result<(), WorktreeError>;
}
