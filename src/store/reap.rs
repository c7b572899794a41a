//! What is wanted of worktrees: the rows behind the reaper.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use hearth_actors::ids::{CheckpointId, SessionId, WorktreeId};
use hearth_actors::ports::{ReapError, ReapRows};
use hearth_actors::reap::{Keep, KeptNotice, OldCheckpoint, Place, Standing};
use sqlx::FromRow;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::close::lock_session;
use super::text::clean;
use super::worktree_row::WorktreeRow;
use super::{Store, StoreError};

/// Worktrees that one look reads.
const MAX_PLACES: i64 = 10_000;
/// Checkpoints that one look reads.
const MAX_CHECKPOINTS: i64 = 200;
const KEPT: &str = "kept_worktree";
/// Longest detail of a notice, in characters.
const MAX_DETAIL: usize = 2000;

const PLACES: &str = "\
    select w.id as worktree_id, w.path as worktree_path, w.branch, w.base_commit,
        coalesce(hw.baseline, w.base_commit) as baseline,
        s.id as session_id, pr.path as project_path,
        case
            when w.status = 'archived' and g.put_away = w.id and g.deleted_at is null then 'put_away'
            when w.status = 'archived' then 'archived'
            when g.turn_id is not null or g.operation is not null or g.arena is not null
                or exists (select from hearth.queue q join tasks k on k.id = q.task_id
                    where q.session_id = s.id and k.state in ('pending', 'running', 'blocked'))
                then 'in_use'
            when s.id is null or g.deleted_at is not null then 'orphaned'
            when exists (select from hearth.contestants c join hearth.arenas a on a.id = c.arena_id
                where c.session_id = s.id and a.state in ('cancelled', 'failed')
                    and c.task_id is distinct from a.winner) then 'arena_over'
            when g.closed_at is not null then 'closed'
            else 'open'
        end as standing,
        greatest(extract(epoch from clock_timestamp() - case
            when w.status = 'archived' then coalesce(hw.archived_at, hw.updated_at, w.created_at)
            else greatest(w.created_at, hw.updated_at,
                (select max(coalesce(t.ended_at, t.claimed_at)) from hearth.turns t
                    where t.session_id = s.id))
        end), 0)::float8 as idle,
        hw.forgotten_at is not null as forgotten
    from worktrees w
        left join hearth.worktrees hw on hw.worktree_id = w.id
        left join sessions s on s.id = w.session_id
        left join hearth.gates g on g.session_id = s.id
        left join projects pr on pr.id = coalesce(s.project_id, w.project_id)
    where (g.node is null or g.node = $1) and hw.forgotten_at is null
    order by w.created_at, w.id limit $2";
const OPEN: &str = "\
    select s.id from sessions s left join hearth.gates g on g.session_id = s.id
    where g.closed_at is null and g.deleted_at is null";
const GATE_OF: &str = "\
    select g.session_id, g.deleted_at is not null as deleted,
        g.turn_id is not null or g.operation is not null or g.arena is not null as busy
    from worktrees w join hearth.gates g on g.session_id = w.session_id
    where w.id = $1 for no key update of g";
const WAITS: &str = "\
    select exists (select from tasks
        where session_id = $1 and state in ('pending', 'running', 'blocked'))";
const ARCHIVED: &str = "\
    with row as (update worktrees set status = 'archived' where id = $1)
    insert into hearth.worktrees as w (worktree_id, baseline, archived_at, begins_with)
    select id, coalesce(base_commit, ''), clock_timestamp(), $2 from worktrees where id = $1
    on conflict (worktree_id) do update set archived_at = clock_timestamp(),
        begins_with = coalesce($2, w.begins_with)";
const PUT_AWAY: &str = "update hearth.gates set put_away = $2 where session_id = $1";
const OLD_CHECKPOINTS: &str = "\
    select c.id, p.path as project_path
    from (
        select id, chat_id, created_at,
            row_number() over (partition by chat_id order by created_at desc, id desc) as n
        from checkpoints) c
        join chats ch on ch.id = c.chat_id
        join sessions s on s.id = ch.session_id
        join projects p on p.id = s.project_id
        left join hearth.gates g on g.session_id = s.id
    where c.n > 1 and p.path <> all($5)
        and (c.n > $1 or c.created_at < clock_timestamp() - make_interval(secs => $2))
        and (g.node is null or g.node = $3)
        and not exists (
            select from hearth.turns t join tasks k on k.id = t.task_id
            where t.checkpoint_id = c.id and k.state in ('pending', 'running', 'blocked'))
    order by c.created_at, c.id limit $4";
const TELL: &str = "\
    insert into hearth.notices as n (kind, subject, session_id, title, detail)
    select $1, $2, (select id from sessions where id = $3), $4, $5
    where not exists (
        select from hearth.notices d where d.kind = $1 and d.subject = $2
            and d.dismissed_at is not null and d.over_at is null)
    on conflict (kind, subject) where over_at is null and dismissed_at is null do update
        set last_at = clock_timestamp(), title = excluded.title, detail = excluded.detail";
const OVER: &str = "\
    update hearth.notices set over_at = clock_timestamp()
    where kind = $1 and over_at is null and subject <> all($2)";

#[derive(FromRow)]
struct PlaceRow {
    #[sqlx(flatten)]
    worktree: WorktreeRow,
    session_id: Option<Uuid>,
    project_path: Option<String>,
    standing: String,
    idle: f64,
    forgotten: bool,
}

impl PlaceRow {
    fn place(self) -> Option<Place> {
        Some(Place {
            worktree: self.worktree.worktree()?,
            session: self.session_id.map(SessionId),
            project_path: self.project_path.map(PathBuf::from),
            standing: Standing::parse(&self.standing)?,
            idle: Duration::try_from_secs_f64(self.idle).unwrap_or_default(),
            forgotten: self.forgotten,
        })
    }
}

#[async_trait]
impl ReapRows for Store {
    async fn places(&self) -> Result<(Vec<Place>, BTreeSet<SessionId>), ReapError> {
        let rows: Vec<PlaceRow> = sqlx::query_as(PLACES)
            .bind(self.node.0)
            .bind(MAX_PLACES)
            .fetch_all(&self.pool)
            .await
            .map_err(unavailable)?;
        let open: Vec<Uuid> = sqlx::query_scalar(OPEN)
            .fetch_all(&self.pool)
            .await
            .map_err(unavailable)?;
        let places = rows.into_iter().filter_map(PlaceRow::place).collect();
        Ok((places, open.into_iter().map(SessionId).collect()))
    }

    async fn projects(&self) -> Result<Vec<PathBuf>, ReapError> {
        let paths: Vec<String> = sqlx::query_scalar("select path from projects order by path")
            .fetch_all(&self.pool)
            .await
            .map_err(unavailable)?;
        Ok(paths.into_iter().map(PathBuf::from).collect())
    }

    async fn put_away(&self, worktree: WorktreeId) -> Result<bool, ReapError> {
        self.reaps(async |tx| {
            let gate: Option<(Uuid, bool, bool)> = sqlx::query_as(GATE_OF)
                .bind(worktree.0)
                .fetch_optional(&mut *tx)
                .await?;
            let Some((session, deleted, busy)) = gate else {
                archived(tx, worktree.0, None).await?;
                return Ok(true);
            };
            if busy {
                return Ok(false);
            }
            lock_session(tx, session).await?;
            if waits(tx, session).await? {
                return Ok(false);
            }
            archived(tx, worktree.0, None).await?;
            if !deleted {
                comes_back(tx, session, worktree.0).await?;
            }
            Ok(true)
        })
        .await
    }

    async fn forgotten(&self, worktree: WorktreeId) -> Result<(), ReapError> {
        self.reaps(async |tx| {
            sqlx::query(
                "insert into hearth.worktrees as w (worktree_id, baseline, forgotten_at)
                 select id, coalesce(base_commit, ''), clock_timestamp() from worktrees where id = $1
                 on conflict (worktree_id) do update set forgotten_at = clock_timestamp()",
            )
            .bind(worktree.0)
            .execute(tx)
            .await?;
            Ok(())
        })
        .await
    }

    async fn old_checkpoints(
        &self,
        keep: &Keep,
        without: &[PathBuf],
    ) -> Result<Vec<OldCheckpoint>, ReapError> {
        let without: Vec<String> = without
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let rows: Vec<(Uuid, String)> = sqlx::query_as(OLD_CHECKPOINTS)
            .bind(i64::from(keep.checkpoints_per_chat))
            .bind(keep.checkpoints.as_secs_f64())
            .bind(self.node.0)
            .bind(MAX_CHECKPOINTS)
            .bind(without)
            .fetch_all(&self.pool)
            .await
            .map_err(unavailable)?;
        let old = |(id, path): (Uuid, String)| OldCheckpoint {
            id: id.into(),
            project_path: path.into(),
        };
        Ok(rows.into_iter().map(old).collect())
    }

    async fn drop_checkpoints(&self, ids: &[CheckpointId]) -> Result<(), ReapError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        self.reaps(async |tx| {
            sqlx::query("delete from checkpoints where id = any($1)")
                .bind(&ids)
                .execute(tx)
                .await?;
            Ok(())
        })
        .await
    }

    async fn tell_kept(&self, kept: &[KeptNotice]) -> Result<(), ReapError> {
        self.reaps(async |tx| {
            for notice in kept {
                let detail: String = clean(&notice.detail).chars().take(MAX_DETAIL).collect();
                sqlx::query(TELL)
                    .bind(KEPT)
                    .bind(clean(&notice.subject))
                    .bind(notice.session.map(|session| session.0))
                    .bind(clean(&notice.title))
                    .bind(detail)
                    .execute(&mut *tx)
                    .await?;
            }
            let subjects: Vec<String> = kept
                .iter()
                .map(|notice| clean(&notice.subject).into_owned())
                .collect();
            sqlx::query(OVER)
                .bind(KEPT)
                .bind(subjects)
                .execute(tx)
                .await?;
            Ok(())
        })
        .await
    }
}

impl Store {
    /// A transaction of the life that holds the lease.
    async fn reaps<T>(
        &self,
        write: impl AsyncFnOnce(&mut PgConnection) -> Result<T, StoreError>,
    ) -> Result<T, ReapError> {
        Ok(self.while_leased(write).await?)
    }
}

/// Something is queued, runs or is asked in the session, whose row is locked.
pub(super) async fn waits(tx: &mut PgConnection, session: Uuid) -> sqlx::Result<bool> {
    sqlx::query_scalar(WAITS).bind(session).fetch_one(tx).await
}

/// Marks the worktree as archived, with the commit that holds its files.
pub(super) async fn archived(
    tx: &mut PgConnection,
    worktree: Uuid,
    commit: Option<&str>,
) -> sqlx::Result<()> {
    sqlx::query(ARCHIVED)
        .bind(worktree)
        .bind(commit)
        .execute(tx)
        .await?;
    Ok(())
}

/// The session's next task has it back.
pub(super) async fn comes_back(
    tx: &mut PgConnection,
    session: Uuid,
    worktree: Uuid,
) -> sqlx::Result<()> {
    sqlx::query(PUT_AWAY)
        .bind(session)
        .bind(worktree)
        .execute(tx)
        .await?;
    Ok(())
}

fn unavailable(error: sqlx::Error) -> ReapError {
    ReapError::Unavailable(error.into())
}
