//! Cancels whose notification may have been lost.

use hearth_actors::ids::TaskId;
use uuid::Uuid;

use super::{Store, StoreError};

/// Live turns of this node that somebody wants ended: by a route, or by plain SQL.
const WANTED: &str = "\
    select u.task_id
    from hearth.turns u join tasks t on t.id = u.task_id
    where u.node = $1 and u.ended_at is null
        and (u.cancel_requested_at is not null or t.state = 'cancelled')";

impl Store {
    /// Tasks whose turn runs here and is to be ended. Asking for the end of one
    /// twice does no harm.
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
