//! The gates that arenas hold.

use hearth_actors::ids::{ArenaId, TaskId};
use sqlx::postgres::PgConnection;
use uuid::Uuid;

/// Opens the gates that the arena holds and lets whoever waits there be claimed.
const LET_GO: &str = "\
    with held as (
        select g.session_id from hearth.gates g where g.arena = $1
        order by g.session_id for no key update
    ), freed as (
        update hearth.gates g set arena = null from held where g.session_id = held.session_id
        returning g.session_id
    )
    select pg_notify('tasks_new', '') from freed limit 1";

/// Where a contestant is, with its arena's row locked.
pub(super) struct Place {
    pub(super) arena: ArenaId,
    pub(super) session: Uuid,
}

impl Place {
    pub(super) async fn of(tx: &mut PgConnection, task: TaskId) -> sqlx::Result<Option<Self>> {
        let found: Option<(Uuid, Uuid)> = sqlx::query_as(
            "select a.id, c.session_id from hearth.arenas a
             join hearth.contestants c on c.arena_id = a.id
             where c.task_id = $1 for no key update of a",
        )
        .bind(task.0)
        .fetch_optional(tx)
        .await?;
        Ok(found.map(|(arena, session)| Self {
            arena: ArenaId(arena),
            session,
        }))
    }

    /// False when a turn or something else holds it.
    pub(super) async fn take_gate(&self, tx: &mut PgConnection) -> sqlx::Result<bool> {
        let taken = sqlx::query(
            "update hearth.gates set arena = $2
             where session_id = $1 and turn_id is null and operation is null
                and (arena is null or arena = $2)",
        )
        .bind(self.session)
        .bind(self.arena.0)
        .execute(tx)
        .await?
        .rows_affected();
        Ok(taken == 1)
    }

    pub(super) async fn give_back(&self, tx: &mut PgConnection) -> sqlx::Result<()> {
        sqlx::query(
            "with freed as (
                update hearth.gates set arena = null
                where session_id = $1 and arena = $2 returning session_id)
             select pg_notify('tasks_new', '') from freed",
        )
        .bind(self.session)
        .bind(self.arena.0)
        .execute(tx)
        .await?;
        Ok(())
    }
}

pub(super) async fn let_go(tx: &mut PgConnection, arena: ArenaId) -> sqlx::Result<()> {
    sqlx::query(LET_GO).bind(arena.0).execute(tx).await?;
    Ok(())
}
