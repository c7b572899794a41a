//! The rows of arenas, as the tree reads and writes them.
//!
//! Each write begins with the node's row, so that the life that is over changes
//! nothing, then takes the arena's row: two writes about one arena never mix.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use hearth_actors::arena::{
    Arena, ArenaState, Base, CheckCommand, CheckEnd, Contestant, Ground, Stage,
};
use hearth_actors::event::Frame;
use hearth_actors::ids::{ArenaId, SessionId, TaskId};
use hearth_actors::model::{Checkpoint, Worktree, WorktreeSpec};
use hearth_actors::outcome::{Outcome, TaskState};
use hearth_actors::ports::{Arenas, ArenasError};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, FromRow};
use uuid::Uuid;

use super::{end_all, frames, held_by};
use crate::store::cancel::CancelRequest;
use crate::store::frames::in_order;
use crate::store::text::clean;
use crate::store::{Store, StoreError};

/// Arenas that one look reads; the rest come when these are done. A winner whose
/// session goes on is not waited for.
const LOOK: i64 = 100;

const OPEN: &str = "\
    select a.id, a.state, a.cancel_requested_at is not null as cancelled, a.winner,
        a.check_command, a.check_timeout_ms, a.session_id, a.project_id, p.path as project_path,
        w.id as worktree_id, w.path as worktree_path, w.branch, w.base_commit,
        coalesce(hw.baseline, w.base_commit) as baseline, g.start_commit, hw.begins_with
    from hearth.arenas a
        join projects p on p.id = a.project_id
        left join worktrees w on w.session_id = a.session_id and w.status = 'active'
        left join hearth.worktrees hw on hw.worktree_id = w.id
        left join hearth.gates g on g.session_id = a.session_id
    where a.node = $1 and (a.state in ('preparing', 'running')
        or a.state = 'selected' and exists (
            select from hearth.contestants c
            where c.arena_id = a.id and c.archived_at is null
                and (c.task_id <> a.winner or a.session_id is not null)))
    order by a.state = 'selected', a.created_at, a.id limit $2";

/// The worktree of a contestant whose session is closed is still its worktree.
const CONTESTANTS: &str = "\
    select c.arena_id, c.task_id, c.session_id, t.state,
        (select u.outcome from hearth.turns u
            where u.task_id = c.task_id order by u.attempt desc limit 1) as outcome,
        c.stage, c.checks_begun, c.result_checkpoint, c.result_commit, c.result_tree,
        c.archived_at is not null as archived,
        w.id as worktree_id, w.path as worktree_path, w.branch, w.base_commit,
        coalesce(hw.baseline, w.base_commit) as baseline
    from hearth.contestants c
        join tasks t on t.id = c.task_id
        left join lateral (
            select * from worktrees w where w.session_id = c.session_id
            order by w.status = 'active' desc, w.created_at desc limit 1) w on true
        left join hearth.worktrees hw on hw.worktree_id = w.id
    where c.arena_id = any($1) order by c.arena_id, c.place";

/// Opens the gates that the arena holds and lets whoever waits there be claimed.
const LET_GO: &str = "\
    with held as (
        select g.session_id from hearth.gates g where g.operation = $1
        order by g.session_id for no key update
    ), freed as (
        update hearth.gates g set operation = null from held where g.session_id = held.session_id
        returning g.session_id
    )
    select pg_notify('tasks_new', '') from freed limit 1";

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
        let found = async {
            let arenas: Vec<ArenaRow> = sqlx::query_as(OPEN)
                .bind(self.node.0)
                .bind(LOOK)
                .fetch_all(&self.pool)
                .await?;
            let ids: Vec<Uuid> = arenas.iter().map(|row| row.id).collect();
            if ids.is_empty() {
                return Ok(Vec::new());
            }
            let contestants: Vec<ContestantRow> = sqlx::query_as(CONTESTANTS)
                .bind(&ids)
                .fetch_all(&self.pool)
                .await?;
            Ok(put_together(arenas, contestants))
        };
        found
            .await
            .map_err(|error: sqlx::Error| ArenasError::Unavailable(error.into()))
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
        let unavailable = |error: sqlx::Error| ArenasError::Unavailable(error.into());
        let mut connection = self.pool.acquire().await.map_err(unavailable)?;
        let mut tx = connection.begin().await.map_err(unavailable)?;
        let leased: Option<bool> = sqlx::query_scalar(
            "select true from hearth.nodes
             where id = $1 and incarnation = $2 and lease_until > clock_timestamp() for share",
        )
        .bind(self.node.0)
        .bind(self.incarnation())
        .fetch_optional(&mut *tx)
        .await
        .map_err(unavailable)?;
        if leased.is_none() {
            return Err(ArenasError::LeaseLost);
        }
        let done = write(&mut tx)
            .await
            .map_err(|error| ArenasError::Unavailable(error.into()))?;
        tx.commit().await.map_err(unavailable)?;
        Ok(done)
    }
}

/// Where a contestant is, with its arena's row locked.
struct Place {
    arena: ArenaId,
    session: Uuid,
}

impl Place {
    async fn of(tx: &mut PgConnection, task: TaskId) -> sqlx::Result<Option<Self>> {
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
    async fn take_gate(&self, tx: &mut PgConnection) -> sqlx::Result<bool> {
        let taken = sqlx::query(
            "update hearth.gates set operation = $2
             where session_id = $1 and turn_id is null
                and (operation is null or operation = $2)",
        )
        .bind(self.session)
        .bind(held_by(self.arena))
        .execute(tx)
        .await?
        .rows_affected();
        Ok(taken == 1)
    }

    async fn give_back(&self, tx: &mut PgConnection) -> sqlx::Result<()> {
        sqlx::query(
            "with freed as (
                update hearth.gates set operation = null
                where session_id = $1 and operation = $2 returning session_id)
             select pg_notify('tasks_new', '') from freed",
        )
        .bind(self.session)
        .bind(held_by(self.arena))
        .execute(tx)
        .await?;
        Ok(())
    }
}

async fn let_go(tx: &mut PgConnection, arena: ArenaId) -> sqlx::Result<()> {
    sqlx::query(LET_GO).bind(held_by(arena)).execute(tx).await?;
    Ok(())
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

#[derive(FromRow)]
struct ArenaRow {
    id: Uuid,
    state: String,
    cancelled: bool,
    winner: Option<Uuid>,
    check_command: Option<Vec<String>>,
    check_timeout_ms: Option<i64>,
    session_id: Option<Uuid>,
    project_id: Uuid,
    project_path: String,
    start_commit: Option<String>,
    begins_with: Option<String>,
    #[sqlx(flatten)]
    worktree: WorktreeRow,
}

#[derive(FromRow)]
struct ContestantRow {
    arena_id: Uuid,
    task_id: Uuid,
    session_id: Uuid,
    state: String,
    outcome: Option<String>,
    stage: String,
    checks_begun: i32,
    result_checkpoint: Option<Uuid>,
    result_commit: Option<String>,
    result_tree: Option<String>,
    archived: bool,
    #[sqlx(flatten)]
    worktree: WorktreeRow,
}

#[derive(FromRow)]
struct WorktreeRow {
    worktree_id: Option<Uuid>,
    worktree_path: Option<String>,
    branch: Option<String>,
    base_commit: Option<String>,
    baseline: Option<String>,
}

impl WorktreeRow {
    fn worktree(self) -> Option<Worktree> {
        Some(Worktree {
            id: self.worktree_id?.into(),
            path: PathBuf::from(self.worktree_path?),
            branch: self.branch.unwrap_or_default(),
            base_commit: self.base_commit.unwrap_or_default(),
            baseline: self.baseline.unwrap_or_default(),
        })
    }
}

/// Rows with words that only a newer Hearth knows are left to it.
fn put_together(arenas: Vec<ArenaRow>, contestants: Vec<ContestantRow>) -> Vec<Arena> {
    let mut found: Vec<Arena> = arenas.into_iter().filter_map(ArenaRow::arena).collect();
    for row in contestants {
        let arena = found.iter_mut().find(|arena| arena.id.0 == row.arena_id);
        if let (Some(arena), Some(one)) = (arena, row.contestant()) {
            arena.contestants.push(one);
        }
    }
    found
}

impl ArenaRow {
    fn arena(self) -> Option<Arena> {
        let project_path = PathBuf::from(self.project_path);
        let ground = match self.session_id {
            None => Ground::Project(project_path),
            Some(session) => Ground::Session(WorktreeSpec {
                session: SessionId(session),
                project: self.project_id.into(),
                project_path,
                existing: self.worktree.worktree(),
                start: self.start_commit,
                begins_with: self.begins_with,
            }),
        };
        Some(Arena {
            id: ArenaId(self.id),
            state: ArenaState::parse(&self.state)?,
            cancelled: self.cancelled,
            check: self.check_command.map(|command| CheckCommand {
                command,
                timeout: Duration::from_millis(
                    self.check_timeout_ms
                        .and_then(|ms| u64::try_from(ms).ok())
                        .unwrap_or_default(),
                ),
            }),
            ground,
            winner: self.winner.map(TaskId),
            contestants: Vec::new(),
        })
    }
}

impl ContestantRow {
    fn contestant(self) -> Option<Contestant> {
        let result = match (self.result_checkpoint, self.result_commit, self.result_tree) {
            (Some(id), Some(commit), Some(tree)) => Some(Checkpoint {
                id: id.into(),
                commit,
                tree,
            }),
            _ => None,
        };
        Some(Contestant {
            task: TaskId(self.task_id),
            session: SessionId(self.session_id),
            state: TaskState::parse(&self.state)?,
            outcome: self.outcome.as_deref().and_then(Outcome::parse),
            stage: Stage::parse(&self.stage)?,
            checks_begun: u32::try_from(self.checks_begun).unwrap_or(u32::MAX),
            worktree: self.worktree.worktree(),
            result,
            archived: self.archived,
        })
    }
}
