//! Statements whose answer never came. The connection broke or the caller
//! stopped waiting, and the server may have committed all the same: a claim
//! would leave a task that runs nowhere, a group commit would be written twice,
//! an end would look as if another owner had written it. Each carries a name by
//! which the next statement finds out.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hearth_actors::event::{Frame, TurnRef};
use hearth_actors::model::Fence;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, PgPool};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::Store;
use super::error::is_transient;
use super::frames::{FrameRow, in_order};
use super::journal::Place;
use super::queue::release_on;

/// How long a group commit waits for the database to say whether it happened.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

/// Waits for claims that still run: they hold the row `for share`.
const LOCK_NODE: &str = "select 1 from hearth.nodes where id = $1 for no key update";
const UNANSWERED: &str = "\
    select id, task_id, attempt, incarnation from hearth.turns
    where node = $1 and claim_id = $2 and ended_at is null and prompted_at is null
    order by session_id";
/// Waits for a lost statement that still runs: only a statement that begins
/// afterwards sees what it wrote.
const LOCK_TURN: &str = "select 1 from hearth.turns where id = $1 for no key update";
const LAST_WRITE: &str = "\
    select t.write_after as seq_before, (
        select f.at from hearth.frames f
        where f.session_id = t.session_id and f.seq = t.write_after + 1) as at
    from hearth.turns t where t.id = $1 and t.write_id = $2";
/// Which frames ended the turn $1 (attempt $2, node $3, life $4), if the write
/// $5 did.
const ENDED_BY: &str = "\
    select f.seq, f.kind, f.session_id, f.chat_id, f.task_id, f.message_id, f.at, f.data
    from hearth.turns t
        join hearth.frames f on f.session_id = t.session_id
            and f.message_id = t.assistant_message_id and f.at >= t.ended_at
    where t.id = $1 and t.attempt = $2 and t.node = $3 and t.incarnation = $4 and t.write_id = $5";

/// A claim on its way. Dropped without an answer, it is remembered.
pub(super) struct SentClaim<'a> {
    unanswered: &'a Mutex<BTreeSet<Uuid>>,
    pub(super) id: Uuid,
    answered: bool,
}

impl SentClaim<'_> {
    /// The server said what became of it.
    pub(super) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for SentClaim<'_> {
    fn drop(&mut self) {
        if !self.answered {
            lock(self.unanswered).insert(self.id);
        }
    }
}

impl Store {
    pub(super) fn new_claim(&self) -> SentClaim<'_> {
        SentClaim {
            unanswered: &self.unanswered_claims,
            id: Uuid::now_v7(),
            answered: false,
        }
    }

    /// Gives back what unanswered claims have claimed.
    pub(super) async fn settle_claims(&self) -> sqlx::Result<()> {
        let unanswered: Vec<Uuid> = lock(&self.unanswered_claims).iter().copied().collect();
        for id in unanswered {
            let mut connection = self.claims.acquire().await?;
            self.give_back(&mut connection, id).await?;
            lock(&self.unanswered_claims).remove(&id);
        }
        Ok(())
    }

    async fn give_back(&self, connection: &mut PgConnection, claim: Uuid) -> sqlx::Result<()> {
        let mut tx = connection.begin().await?;
        sqlx::query(LOCK_NODE)
            .bind(self.node().0)
            .execute(&mut *tx)
            .await?;
        let turns: Vec<(Uuid, Uuid, i32, i64)> = sqlx::query_as(UNANSWERED)
            .bind(self.node().0)
            .bind(claim)
            .fetch_all(&mut *tx)
            .await?;
        for (turn, task, attempt, incarnation) in turns {
            let fence = Fence {
                task: task.into(),
                turn: turn.into(),
                attempt,
                node: self.node(),
                incarnation,
            };
            release_on(&mut tx, &fence, None).await?;
        }
        tx.commit().await
    }

    /// Nobody could say yet whether this group commit happened.
    pub(super) fn is_doubtful(&self, write: Uuid) -> bool {
        lock(&self.doubtful_writes).contains(&write)
    }

    /// To be asked again before it is tried again. At most one a live turn.
    pub(super) fn remember_doubt(&self, write: Uuid) {
        lock(&self.doubtful_writes).insert(write);
    }

    /// Now it is known.
    pub(super) fn settle_doubt(&self, write: Uuid) {
        lock(&self.doubtful_writes).remove(&write);
    }

    /// Where the group commit `write` went, none if it did not happen.
    ///
    /// # Errors
    /// The database did not come back in time: it stays unknown.
    pub(super) async fn find_write(
        &self,
        turn: &TurnRef,
        write: Uuid,
    ) -> sqlx::Result<Option<Place>> {
        until_answered(Instant::now() + PATIENCE, || async {
            lock_turn(&self.journal, turn).await?;
            sqlx::query_as(LAST_WRITE)
                .bind(turn.fence.turn.0)
                .bind(write)
                .fetch_optional(&self.journal)
                .await
        })
        .await
    }
}

/// The frames by which the write `write` ended the turn; none if it did not.
///
/// # Errors
/// The database did not come back in time: it stays unknown.
pub(super) async fn ended_by(
    journal: &PgPool,
    turn: &TurnRef,
    write: Uuid,
    deadline: Instant,
) -> sqlx::Result<Vec<Frame>> {
    let rows: Vec<FrameRow> = until_answered(deadline, || async {
        lock_turn(journal, turn).await?;
        sqlx::query_as(ENDED_BY)
            .bind(turn.fence.turn.0)
            .bind(turn.fence.attempt)
            .bind(turn.fence.node.0)
            .bind(turn.fence.incarnation)
            .bind(write)
            .fetch_all(journal)
            .await
    })
    .await?;
    Ok(in_order(rows))
}

async fn lock_turn(journal: &PgPool, turn: &TurnRef) -> sqlx::Result<()> {
    sqlx::query(LOCK_TURN)
        .bind(turn.fence.turn.0)
        .execute(journal)
        .await
        .map(drop)
}

async fn until_answered<T, F>(deadline: Instant, ask: impl Fn() -> F) -> sqlx::Result<T>
where
    F: Future<Output = sqlx::Result<T>>,
{
    loop {
        match ask().await {
            Err(error) if is_transient(&error) && Instant::now() < deadline => sleep(PAUSE).await,
            answer => return answer,
        }
    }
}

/// A panic elsewhere leaves the set whole: every change to it is one call.
fn lock(set: &Mutex<BTreeSet<Uuid>>) -> MutexGuard<'_, BTreeSet<Uuid>> {
    set.lock().unwrap_or_else(PoisonError::into_inner)
}
