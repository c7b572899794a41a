//! The journal of operations: the gate, the intent, and the rows at its end.

use async_trait::async_trait;
use thiserror::Error;

use super::Source;
use crate::event::Frame;
use crate::ids::{ChatId, OperationId, SessionId};
use crate::model::Diff;
use crate::operation::{Abandoned, Asked, Begun, LeftBehind, Owner};
use crate::review::{Conflict, Plan};
use crate::risk::{Facts, Purpose};
use crate::rules::risk;

/// The journal of operations. Every call is one transaction, fenced by the
/// node's life. Turns and operations of a session exclude each other by its gate.
#[async_trait]
pub trait Operations: Send + Sync {
    /// Takes the session's gate and writes down what is wanted, with everything
    /// that planning needs. An order that names no changes means all that it
    /// could be about.
    async fn begin(&self, asked: &Asked) -> Result<Begun, OperationsError>;

    /// Writes down the plan. From here on the operation is finished or taken
    /// back by whoever comes after a crash. Repeatable.
    async fn intend(&self, owner: &Owner, plan: &Plan) -> Result<(), OperationsError>;

    /// Ends the operation as done: states of changes, baseline, what a new diff
    /// of the worktree found, the transcript that a restore trims, frames; and
    /// gives the gate back. A repeat brings the frames of the first.
    async fn complete(
        &self,
        owner: &Owner,
        plan: &Plan,
        diff: &Diff,
    ) -> Result<Vec<Frame>, OperationsError>;

    /// Ends the operation as not done, with the reason, and gives the gate back.
    /// Repeatable; one that never began is no error.
    async fn abandon(&self, owner: &Owner, why: &Abandoned) -> Result<(), OperationsError>;

    /// The private refs of an ended operation are as they should be.
    async fn settled(&self, id: OperationId) -> Result<(), OperationsError>;

    /// What was left behind by lives before this one of the node, oldest first,
    /// each until it is taken over. Also those that ended and are not settled.
    async fn left_behind(&self) -> Result<Vec<(OperationId, SessionId)>, OperationsError>;

    /// Orders for what was interrupted, at most 100 of each kind: a
    /// [`crate::review::Order::Retry`] for each task that is to be tried again by
    /// itself, the oldest turns first; then a [`crate::review::Order::Compare`] for
    /// each worktree of the node that nobody has looked at since its last turn.
    async fn interrupted(&self) -> Result<Vec<Asked>, OperationsError>;

    /// Takes this operation over: who worked on it is refused from here on. Of one
    /// that ended the plan has the baseline as it is stored. None when there is no
    /// such one, or nothing left to do. Repeatable: an answer that is lost loses
    /// nothing.
    async fn take_over(&self, id: OperationId) -> Result<Option<LeftBehind>, OperationsError>;
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
    #[error("later turns of {} worked on these files, and would lose that work", if .0.len() == 1 { "another chat".to_owned() } else { format!("{} other chats", .0.len()) })]
    NeedsConsent(Vec<ChatId>),
    /// The files stand in the way; nothing was written.
    #[error("{} in the way", if .0.len() == 1 { "1 file stands".to_owned() } else { format!("{} files stand", .0.len()) })]
    Conflicts(Vec<Conflict>),
    /// Work would be lost with the worktree, and nobody said that it may be.
    #[error("work would be lost with the worktree {}: {}", .0.path.display(), risk::told(.0, *.1))]
    AtRisk(Box<Facts>, Purpose),
    /// What is to come before the worktree goes failed, and nobody said that it may.
    #[error("{0}")]
    TearDown(String),
    /// The files could not be read or written; they are as before.
    #[error("{0}")]
    Failed(String),
    /// It belongs to a newer life of the node, which ends it.
    #[error("the operation belongs to a newer owner")]
    Fenced,
    /// It takes longer than a statement may; another try may be faster.
    #[error("the journal of operations did not end in time: {0}")]
    TooLong(String),
    /// Trying again would not help.
    #[error("the journal of operations refused the data: {0}")]
    Refused(String),
    /// Try again: nobody knows whether it was written.
    #[error("the journal of operations cannot be reached")]
    Unavailable(#[source] Source),
}
