//! What the tree writes about arenas.
//!
//! Each write begins with the node's row, so that the life that is over changes
//! nothing, then takes the arena's row: two writes about one arena never mix.

use async_trait::async_trait;
use hearth_actors::arena::{Arena, ArenaState, Base, CheckEnd};
use hearth_actors::event::Frame;
use hearth_actors::ids::{ArenaId, TaskId};
use hearth_actors::model::{Checkpoint, Worktree};
use hearth_actors::ports::{Arenas, ArenasError};
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::place::{Place, let_go};
use super::rows::open;
use super::{end_all, frames};
use crate::store::cancel::CancelRequest;
use crate::store::frames::in_order;
use crate::store::text::clean;
use crate::store::{Store, StoreError};

/// As a turn's opening writes them.
const SOURCE: &str = "\
    with worktree as (
        insert into worktrees as w (id, session_id, project_id, path, branch, base_commit, status)
        select $2, s.id, s.project_id, $3, $4, $5, 'active' from sessions s where s.id = $1
        on conflict (id) do nothing
        returning id
    )
    insert into hearth.worktrees (worktree_id, baseline) select id, $6 from worktree
    on conflict do nothing";

#[async_trait]
impl Arenas for Store {
    async fn open(&self) -> Result<Vec<Arena>, ArenasError> {
        open(&self.pool, self.node.0)
            .await
            .map_err(|error| ArenasError::Unavailable(error.into()))
    }

    async fn begin(&self, arena: ArenaId, base: &Base) -> Result<Vec<Frame>, ArenasError> {
        self.change(async |tx| {
            let begun: Option<Option<Uuid>> = sqlx::query_scalar(
                "update hearth.arenas set state = 'running', base_commit = $2
                 where id = $1 and state = 'preparing' and cancel_requested_at is null
                 returning session_id",
            )
            .bind(arena.0)
            .bind(&base.commit)
            .fetch_optional(&mut *tx)
            .await?;
            let Some(session) = begun else {
                return Ok(Vec::new());
            };
            sqlx::query(
                "update hearth.gates g set start_commit = $2
                 from hearth.contestants c where c.arena_id = $1 and g.session_id = c.session_id",
            )
            .bind(arena.0)
            .bind(&base.commit)
            .execute(&mut *tx)
            .await?;
            if let (Some(session), Some(worktree)) = (session, &base.source) {
                write_source(tx, session, worktree).await?;
            }
            let_go(tx, arena).await?;
            Ok(in_order(frames(tx, arena).await?))
        })
        .await
    }

    async fn fail(&self, arena: ArenaId, why: &str) -> Result<Vec<Frame>, ArenasError> {
        self.change(async |tx| {
            let failed = sqlx::query(
                "update hearth.arenas
                 set state = 'failed', detail = $2, ended_at = clock_timestamp()
                 where id = $1 and state = 'preparing'",
            )
            .bind(arena.0)
            .bind(clean(why))
            .execute(&mut *tx)
            .await?
            .rows_affected();
            if failed == 0 {
                return Ok(Vec::new());
            }
            let (_, mut told) = end_all(tx, arena, None).await?;
            let_go(tx, arena).await?;
            told.extend(in_order(frames(tx, arena).await?));
            Ok(told)
        })
        .await
    }

    async fn stop(&self, task: TaskId) -> Result<(Vec<Frame>, bool), ArenasError> {
        match self.request_cancel(task).await {
            Ok(CancelRequest::Cancelled(frames)) => Ok((frames, false)),
            Ok(CancelRequest::Requested(frames)) => Ok((frames, true)),
            Ok(CancelRequest::Ended) | Err(StoreError::NotFound { .. }) => Ok((Vec::new(), false)),
            Err(error) => Err(ArenasError::Unavailable(error.into())),
        }
    }

    async fn examine(&self, task: TaskId, check: bool) -> Result<bool, ArenasError> {
        self.change(async |tx| {
            let Some(place) = Place::of(tx, task).await? else {
                return Ok(false);
            };
            if !place.take_gate(tx).await? {
                return Ok(false);
            }
            sqlx::query(
                "update hearth.contestants
                 set stage = 'examining', checks_begun = checks_begun + $2::boolean::integer
                 where task_id = $1 and stage <> 'judged'",
            )
            .bind(task.0)
            .bind(check)
            .execute(tx)
            .await?;
            Ok(true)
        })
        .await
    }

    async fn keep(&self, task: TaskId, result: &Checkpoint) -> Result<(), ArenasError> {
        self.change(async |tx| {
            sqlx::query(
                "update hearth.contestants
                 set result_checkpoint = $2, result_commit = $3, result_tree = $4
                 where task_id = $1 and result_commit is null",
            )
            .bind(task.0)
            .bind(result.id.0)
            .bind(&result.commit)
            .bind(&result.tree)
            .execute(tx)
            .await?;
            Ok(())
        })
        .await
    }

    async fn judge(
        &self,
        task: TaskId,
        check: Option<&CheckEnd>,
        note: Option<&str>,
    ) -> Result<Vec<Frame>, ArenasError> {
        self.change(async |tx| {
            let Some(place) = Place::of(tx, task).await? else {
                return Ok(Vec::new());
            };
            let judged = sqlx::query(
                "update hearth.contestants c set stage = 'judged', judged_at = clock_timestamp(),
                    check_result = $2, check_exit_code = $3, check_signal = $4, check_ms = $5,
                    check_log = $6, note = $7, files = sums.files, additions = sums.additions,
                    deletions = sums.deletions
                 from (
                    select count(*)::integer as files,
                        coalesce(sum(hearth.diff_lines(p.diff, '+')), 0)::bigint as additions,
                        coalesce(sum(hearth.diff_lines(p.diff, '-')), 0)::bigint as deletions
                    from pending_changes p where p.session_id = $8 and p.task_id = $1
                 ) sums
                 where c.task_id = $1 and c.stage = 'examining'",
            )
            .bind(task.0)
            .bind(check.map(|end| end.result.as_str()))
            .bind(check.and_then(|end| end.exit_code))
            .bind(check.and_then(|end| end.signal))
            .bind(check.map(|end| i64::try_from(end.wall.as_millis()).unwrap_or(i64::MAX)))
            .bind(check.map(|end| clean(&end.log)))
            .bind(note.map(clean))
            .bind(place.session)
            .execute(&mut *tx)
            .await?
            .rows_affected();
            if judged == 0 {
                return Ok(Vec::new());
            }
            place.give_back(tx).await?;
            Ok(in_order(frames(tx, place.arena).await?))
        })
        .await
    }

    async fn conclude(&self, arena: ArenaId, state: ArenaState) -> Result<Vec<Frame>, ArenasError> {
        self.change(async |tx| {
            let concluded = sqlx::query(
                "update hearth.arenas set state = $2, ended_at = clock_timestamp()
                 where id = $1 and state in ('preparing', 'running')
                    and (cancel_requested_at is not null) = ($2 = 'cancelled')",
            )
            .bind(arena.0)
            .bind(state.as_str())
            .execute(&mut *tx)
            .await?
            .rows_affected();
            if concluded == 0 {
                return Ok(Vec::new());
            }
            let_go(tx, arena).await?;
            Ok(in_order(frames(tx, arena).await?))
        })
        .await
    }

    async fn archive(&self, task: TaskId) -> Result<bool, ArenasError> {
        self.change(async |tx| {
            let Some(place) = Place::of(tx, task).await? else {
                return Ok(false);
            };
            if !place.take_gate(tx).await? {
                return Ok(false);
            }
            sqlx::query(
                "with closed as (
                    update hearth.gates set closed_at = coalesce(closed_at, clock_timestamp())
                    where session_id = $1)
                 update worktrees set status = 'archived'
                 where session_id = $1 and status = 'active'",
            )
            .bind(place.session)
            .execute(tx)
            .await?;
            Ok(true)
        })
        .await
    }

    async fn archived(&self, task: TaskId, note: Option<&str>) -> Result<(), ArenasError> {
        self.change(async |tx| {
            let Some(place) = Place::of(tx, task).await? else {
                return Ok(());
            };
            sqlx::query(
                "update hearth.contestants
                 set archived_at = clock_timestamp(), note = coalesce($2, note)
                 where task_id = $1 and archived_at is null",
            )
            .bind(task.0)
            .bind(note.map(clean))
            .execute(&mut *tx)
            .await?;
            place.give_back(tx).await?;
            Ok(())
        })
        .await
    }
}

impl Store {
    /// A transaction of the life that holds the lease.
    async fn change<T>(
        &self,
        write: impl AsyncFnOnce(&mut PgConnection) -> Result<T, StoreError>,
    ) -> Result<T, ArenasError> {
        Ok(self.while_leased(write).await?)
    }
}

async fn write_source(
    tx: &mut PgConnection,
    session: Uuid,
    worktree: &Worktree,
) -> sqlx::Result<()> {
    sqlx::query(SOURCE)
        .bind(session)
        .bind(worktree.id.0)
        .bind(worktree.path.to_string_lossy())
        .bind(&worktree.branch)
        .bind(&worktree.base_commit)
        .bind(&worktree.baseline)
        .execute(tx)
        .await?;
    Ok(())
}
