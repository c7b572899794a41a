//! What is kept for a time only, and deleted in small steps.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use hearth_actors::ids::OperationId;
use sqlx::FromRow;
use uuid::Uuid;

use super::{Store, StoreError};

/// Frames deleted by one statement: some milliseconds of work, during which
/// that session's stream alone waits.
const BATCH: i64 = 5_000;
/// Streams looked up at a time.
const STREAMS: i64 = 100;
/// Operations looked up at a time.
const OPERATIONS: i64 = 200;
/// Between two statements, so that turns come first.
const PAUSE: Duration = Duration::from_millis(20);

const OLD_NOTICES: &str = "\
    delete from hearth.notices where id in (
        select id from hearth.notices
        where (over_at is not null or dismissed_at is not null)
            and coalesce(over_at, dismissed_at) < clock_timestamp() - make_interval(secs => $1)
        limit $2)";
const OLD_DECISIONS: &str = "\
    delete from hearth.prompts where id in (
        select id from hearth.prompts
        where answered_by in ('policy', 'earlier') and state = 'answered'
            and created_at < clock_timestamp() - make_interval(secs => $1)
        order by created_at, id limit $2)";
/// What an apply changed in the checkout can be taken out of it again for as long
/// as the change counts as applied, and that needs what the operation keeps.
const SPENT: &str = "\
    select o.id, p.path as project, o.ended_at
    from hearth.operations o
        join sessions s on s.id = o.session_id
        join projects p on p.id = s.project_id
    where o.node = $1 and o.settled and o.released_at is null
        and o.ended_at < clock_timestamp() - make_interval(secs => $2)
        and ($3::timestamptz is null or (o.ended_at, o.id) > ($3, $4))
        and not (o.kind = 'apply' and exists (
            select from pending_changes c
            where c.status = 'applied' and c.id in (
                select value::uuid from jsonb_array_elements_text(
                    case jsonb_typeof(o.asked -> 'changes')
                        when 'array' then o.asked -> 'changes' else '[]' end))))
    order by o.ended_at, o.id limit $5";
const RELEASED: &str = "\
    update hearth.operations set released_at = clock_timestamp()
    where id = any($1) and node = $2 and settled and released_at is null";
const OLD_OPERATIONS: &str = "\
    delete from hearth.operations where id in (
        select id from hearth.operations
        where released_at is not null
            and ended_at < clock_timestamp() - make_interval(secs => $1)
        order by ended_at limit $2)";

/// A finished operation that needs nothing of what it keeps any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Which.
    pub id: OperationId,
    /// The checkout whose repository keeps it.
    pub project: PathBuf,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
}

#[derive(FromRow)]
struct SpentRow {
    id: Uuid,
    project: String,
    ended_at: DateTime<Utc>,
}

impl Store {
    /// Deletes the frames that are older than `keep`, and returns how many. Each
    /// stream keeps its end without holes, and says what it lost. Safe by
    /// several processes at once; what an interruption leaves is deleted by the
    /// next call.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn prune_frames(&self, keep: Duration) -> Result<u64, StoreError> {
        let mut deleted = 0;
        loop {
            let streams = self.aged_streams(keep).await?;
            let mut progress = false;
            for stream in streams {
                loop {
                    let batch = self.prune_stream(stream, keep).await?;
                    deleted += batch.unsigned_abs();
                    progress |= batch > 0;
                    if batch < BATCH {
                        break;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
            if !progress {
                return Ok(deleted);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Forgets what inserts of tasks left that their `on conflict do nothing`
    /// ended half way. A row that other transactions can see is always one.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn forget_homed(&self) -> Result<u64, StoreError> {
        let done = sqlx::query("delete from hearth.homed")
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected())
    }

    /// Deletes notices that were over, requests that were decided without asking
    /// anybody, and operations of which nothing is kept in a repository, that
    /// ended longer than `keep` ago, and returns how many. What people answered
    /// stays with its task.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn prune_settled(&self, keep: Duration) -> Result<u64, StoreError> {
        let mut deleted = 0;
        for statement in [OLD_NOTICES, OLD_DECISIONS, OLD_OPERATIONS] {
            loop {
                let batch = sqlx::query(statement)
                    .bind(keep.as_secs_f64())
                    .bind(BATCH)
                    .execute(&self.pool)
                    .await?
                    .rows_affected();
                deleted += batch;
                if batch < BATCH.unsigned_abs() {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(deleted)
    }

    /// Operations of this node that ended longer than `keep` ago and whose content
    /// nobody can ask for again, the oldest first, at most 200, behind `after`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn spent_operations(
        &self,
        keep: Duration,
        after: Option<&Spent>,
    ) -> Result<Vec<Spent>, StoreError> {
        let rows: Vec<SpentRow> = sqlx::query_as(SPENT)
            .bind(self.node.0)
            .bind(keep.as_secs_f64())
            .bind(after.map(|spent| spent.ended_at))
            .bind(after.map(|spent| spent.id.0))
            .bind(OPERATIONS)
            .fetch_all(&self.pool)
            .await?;
        let spent = |row: SpentRow| Spent {
            id: OperationId(row.id),
            project: PathBuf::from(row.project),
            ended_at: row.ended_at,
        };
        Ok(rows.into_iter().map(spent).collect())
    }

    /// Notes that nothing of these is kept in a repository any more.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn released_operations(&self, ids: &[OperationId]) -> Result<u64, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let done = sqlx::query(RELEASED)
            .bind(ids)
            .bind(self.node.0)
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected())
    }

    /// Streams whose first frame is too old.
    async fn aged_streams(&self, keep: Duration) -> Result<Vec<Uuid>, StoreError> {
        let streams = sqlx::query_scalar(
            "select s.session_id from hearth.streams s
             cross join lateral (
                select f.at from hearth.frames f
                where f.session_id = s.session_id order by f.seq limit 1
             ) oldest
             where s.last_seq > s.pruned_to
                and oldest.at < clock_timestamp() - make_interval(secs => $1)
             limit $2",
        )
        .bind(keep.as_secs_f64())
        .bind(STREAMS)
        .fetch_all(&self.pool)
        .await?;
        Ok(streams)
    }

    /// Only what comes before the first frame that is young enough: a clock that
    /// was set back makes no hole.
    async fn prune_stream(&self, stream: Uuid, keep: Duration) -> Result<i64, StoreError> {
        let deleted = sqlx::query_scalar(
            "with head as materialized (
                select seq, at, at < clock_timestamp() - make_interval(secs => $2) as aged
                from hearth.frames where session_id = $1 order by seq limit $3
            ),
            edge as (
                select max(seq) as seq, max(at) as at from head
                where seq < coalesce((select min(seq) from head where not aged), seq + 1)
                having count(*) > 0
            ),
            stream as (
                update hearth.streams s set
                    pruned_to = greatest(s.pruned_to, edge.seq),
                    pruned_at = greatest(s.pruned_at, edge.at)
                from edge where s.session_id = $1
                returning 1
            ),
            gone as (
                delete from hearth.frames f using edge, stream
                where f.session_id = $1 and f.seq <= edge.seq
                returning 1
            )
            select count(*) from gone",
        )
        .bind(stream)
        .bind(keep.as_secs_f64())
        .bind(BATCH)
        .fetch_one(&self.pool)
        .await?;
        Ok(deleted)
    }
}
