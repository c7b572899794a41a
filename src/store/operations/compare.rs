//! Worktrees that nobody has looked at since a turn worked there: it died with
//! Hearth, or the comparison at its end failed.

use hearth_actors::ids::{OperationId, SessionId, TaskId};
use hearth_actors::operation::Asked;
use hearth_actors::ports::OperationsError;
use hearth_actors::review::Order;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::operations_error;
use crate::store::Store;

/// $1: this node. Where nothing has run, or something is about to, there is nothing
/// to be found; and what a check of a contestant wrote is nobody's.
const UNCOMPARED: &str = "\
    select w.session_id, last.task_id
    from hearth.worktrees hw
        join worktrees w on w.id = hw.worktree_id and w.status = 'active'
        join hearth.gates g on g.session_id = w.session_id
        join lateral (
            select t.task_id, t.ended_at
            from tasks k join hearth.turns t on t.task_id = k.id
            where k.session_id = w.session_id and t.prompted_at is not null
            order by t.claimed_at desc limit 1) last on last.ended_at is not null
    where hw.last_tree is null and g.node = $1 and g.deleted_at is null
        and num_nonnulls(g.turn_id, g.operation, g.arena) = 0
        and not exists (
            select from hearth.contestants c
            where c.session_id = w.session_id and c.checks_begun > 0)
    order by last.ended_at desc limit $2";

const STAMP: &str = "\
    update pending_changes p set agent = last.agent, task_id = last.task_id
    from (
        select t.task_id, t.agent from hearth.turns t
        where t.task_id = $1 and t.prompted_at is not null
        order by t.attempt desc limit 1) last
    where p.id = any($2)";

impl Store {
    /// Orders to look at those worktrees of the node, each for its last turn's task:
    /// at most `limit`, the newest turns first.
    pub(super) async fn uncompared(&self, limit: i64) -> Result<Vec<Asked>, OperationsError> {
        let rows: Vec<(Uuid, Uuid)> = sqlx::query_as(UNCOMPARED)
            .bind(self.node.0)
            .bind(limit)
            .fetch_all(&self.pool)
            .await
            .map_err(operations_error)?;
        let order = |(session, task)| Asked {
            id: OperationId::new(),
            session: SessionId(session),
            order: Order::Compare { task: TaskId(task) },
            caller: "start".into(),
        };
        Ok(rows.into_iter().map(order).collect())
    }
}

/// The changes that were found are of that task.
pub(super) async fn stamp(
    connection: &mut PgConnection,
    task: TaskId,
    found: &[Uuid],
) -> Result<(), OperationsError> {
    sqlx::query(STAMP)
        .bind(task.0)
        .bind(found)
        .execute(connection)
        .await
        .map_err(operations_error)?;
    Ok(())
}
