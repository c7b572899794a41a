//! Cancels: of what waits at once, of what runs through its owner.

use hearth_actors::event::Frame;
use hearth_actors::ids::TaskId;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, FromRow};
use uuid::Uuid;

use super::detached::cancel_detached;
use super::family::{Tries, Unlocked, lock_waiting_below};
use super::frames::in_order;
use super::{Store, StoreError};

const CANCEL: &str = include_str!("sql/cancel.sql");
const CANCELLED_FRAME: &str = include_str!("sql/cancelled_frame.sql");

const WANTED: &str = "\
    select u.task_id
    from hearth.turns u join tasks t on t.id = u.task_id
    where u.node = $1 and u.ended_at is null
        and (u.cancel_requested_at is not null or t.state = 'cancelled')";

/// What became of a cancel.
#[derive(Clone, Debug, PartialEq)]
pub enum CancelRequest {
    /// It had not started: it is cancelled now. The frames are to be published.
    Cancelled(Vec<Frame>),
    /// It runs: its owner has been told. The frames, of waiting tasks that it had
    /// asked for, are to be published.
    Requested(Vec<Frame>),
    /// It had ended before.
    Ended,
}

impl Store {
    /// Cancels a task, or tells the owner of its turn to, and cancels what waits
    /// of the tasks that it asked for.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Unavailable`].
    pub async fn request_cancel(&self, task: TaskId) -> Result<CancelRequest, StoreError> {
        let mut tries = Tries::new();
        loop {
            match self.cancel_once(task).await {
                Err(Unlocked::Again) if tries.again() => {}
                cancelled => return Ok(cancelled?),
            }
        }
    }

    async fn cancel_once(&self, task: TaskId) -> Result<CancelRequest, Unlocked> {
        let mut connection = self.pool.acquire().await?;
        let mut tx = connection.begin().await?;
        let outcome = cancel_with_below(&mut tx, task).await?;
        tx.commit().await?;
        Ok(outcome)
    }

    /// Tasks whose turn runs here and is to be ended, by a route's wish or by
    /// plain SQL: the net under notifications that were lost. Asking for the end
    /// of one twice does no harm.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the database does not answer.
    pub async fn wanted_cancels(&self) -> Result<Vec<TaskId>, StoreError> {
        let tasks: Vec<Uuid> = sqlx::query_scalar(WANTED)
            .bind(self.node.0)
            .fetch_all(&self.pool)
            .await?;
        Ok(tasks.into_iter().map(TaskId).collect())
    }
}

#[derive(FromRow)]
struct CancelRow {
    found: bool,
    cancelled: bool,
    requested: bool,
}

/// In the caller's transaction: the task, and what waits of those it asked for.
/// Nobody wants that any more; what of it runs already, ends by itself.
pub(super) async fn cancel_with_below(
    tx: &mut PgConnection,
    task: TaskId,
) -> Result<CancelRequest, Unlocked> {
    // The gates first: a claim has either committed or will skip them.
    let waiting = lock_waiting_below(tx, task.0).await?;
    let mut outcome = cancel(tx, task).await?;
    if let CancelRequest::Cancelled(frames) | CancelRequest::Requested(frames) = &mut outcome {
        for below in waiting {
            if let CancelRequest::Cancelled(more) = cancel(tx, below.into()).await? {
                frames.extend(more);
            }
        }
    }
    Ok(outcome)
}

/// One task, whose gate is locked.
pub(super) async fn cancel(tx: &mut PgConnection, task: TaskId) -> Result<CancelRequest, Unlocked> {
    let row: CancelRow = sqlx::query_as(CANCEL)
        .bind(task.0)
        .fetch_one(&mut *tx)
        .await?;
    if !row.found {
        return Err(Unlocked::Failed(StoreError::NotFound {
            what: "task",
            id: task.to_string(),
        }));
    }
    if row.requested {
        return Ok(CancelRequest::Requested(Vec::new()));
    }
    if !row.cancelled {
        let rows = cancel_detached(tx, task).await?;
        return Ok(if rows.is_empty() {
            CancelRequest::Ended
        } else {
            CancelRequest::Cancelled(in_order(rows))
        });
    }
    let rows = sqlx::query_as(CANCELLED_FRAME)
        .bind(task.0)
        .fetch_all(tx)
        .await?;
    Ok(CancelRequest::Cancelled(in_order(rows)))
}
