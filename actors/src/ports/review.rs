//! What people do with the work of agents: the files, and the rows about them.

use async_trait::async_trait;
use thiserror::Error;

use super::{Source, WorktreeError};
use crate::event::Frame;
use crate::ids::{NodeId, OperationId, SessionId};
use crate::model::Diff;
use crate::review::{Conflict, Order, Plan, Planned, Work};

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
    /// back as a conflict; then nothing after it was written.
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

/// The journal of operations: the gate, the intent, and the rows at its end.
#[async_trait]
pub trait Operations: Send + Sync {
    /// Takes the session's gate and writes down what is wanted, in one
    /// transaction, with everything that planning needs.
    async fn begin(
        &self,
        id: OperationId,
        session: SessionId,
        order: &Order,
    ) -> Result<Work, OperationsError>;

    /// Writes down the plan. From here on the operation is finished or taken
    /// back by whoever comes after a crash.
    async fn intend(&self, plan: &Plan) -> Result<(), OperationsError>;

    /// Ends the operation as done: states of changes, baseline, what a new diff
    /// of the worktree found, the transcript that a restore trims, frames; and
    /// gives the gate back. One transaction; a repeat brings no frames.
    async fn complete(&self, plan: &Plan, diff: &Diff) -> Result<Vec<Frame>, OperationsError>;

    /// Ends the operation as not done, with the reason, and gives the gate back.
    async fn abandon(&self, id: OperationId, why: &str) -> Result<(), OperationsError>;

    /// Operations that lives before this one of the node left behind: with a
    /// plan where it was intended, else nothing was written yet.
    async fn left_behind(
        &self,
        node: NodeId,
    ) -> Result<Vec<(OperationId, Option<Plan>)>, OperationsError>;
}

/// Why an operation did not begin or end.
#[derive(Debug, Error)]
pub enum OperationsError {
    /// A turn or another operation holds the session's gate.
    #[error("{0}")]
    Busy(String),
    /// What the order names is not there, or not in a state for it.
    #[error("{what}")]
    Wrong {
        /// A stable word for programs, such as `not_pending`.
        code: &'static str,
        /// What, where and what to do.
        what: String,
    },
    /// Others' work would be lost: the order must say that this is wanted.
    #[error("{0}")]
    NeedsConsent(String),
    /// The files stand in the way; nothing was written.
    #[error("{} files stand in the way", .0.len())]
    Conflicts(Vec<Conflict>),
    /// Try again later.
    #[error("the journal of operations cannot be reached")]
    Unavailable(#[source] Source),
}
