//! What is kept for a time only, and deleted in small steps.

use std::time::Duration;

use uuid::Uuid;

use super::{Store, StoreError};

/// Frames deleted by one statement: some milliseconds of work, during which
/// that session's stream alone waits.
const BATCH: i64 = 5_000;
/// Streams looked up at a time.
const STREAMS: i64 = 100;
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

    /// Deletes notices that were over, and requests that were decided without
    /// asking anybody, longer than `keep` ago, and returns how many. What people
    /// answered stays with its task.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn prune_settled(&self, keep: Duration) -> Result<u64, StoreError> {
        let mut deleted = 0;
        for statement in [OLD_NOTICES, OLD_DECISIONS] {
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
