//! Statements whose answer never came. The connection broke or the caller
//! stopped waiting, and the server may have committed all the same: a claim
//! would leave a task that runs nowhere, a group commit would be written twice.
//! Both carry a name by which the next statement finds out.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hearth_actors::event::TurnRef;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::Store;
use super::journal::Place;
use super::queue::RELEASE;

/// How long a group commit waits for the database to say whether it happened.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

/// Waits for claims that still run: they hold the row `for share`.
const LOCK_NODE: &str = "select 1 from hearth.nodes where id = $1 for no key update";
const UNANSWERED: &str = "\
    select id, attempt, incarnation from hearth.turns
    where node = $1 and claim_id = $2 and ended_at is null and prompted_at is null
    order by session_id";
/// The lock waits for the lost statement, if it still runs.
const LAST_WRITE: &str = "\
    select t.write_after as seq_before, (
        select f.at from hearth.frames f
        where f.session_id = t.session_id and f.seq = t.write_after + 1) as at
    from (select * from hearth.turns where id = $1 for no key update) t
    where t.write_id = $2";

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
        let turns: Vec<(Uuid, i32, i64)> = sqlx::query_as(UNANSWERED)
            .bind(self.node().0)
            .bind(claim)
            .fetch_all(&mut *tx)
            .await?;
        for (turn, attempt, incarnation) in turns {
            sqlx::query(RELEASE)
                .bind(turn)
                .bind(attempt)
                .bind(self.node().0)
                .bind(incarnation)
                .bind(0_i64)
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await
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
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = sqlx::query_as(LAST_WRITE)
                .bind(turn.fence.turn.0)
                .bind(write)
                .fetch_optional(&self.journal)
                .await;
            match found {
                Err(error) if super::error::is_transient(&error) && Instant::now() < deadline => {
                    sleep(PAUSE).await;
                }
                found => return found,
            }
        }
    }
}

/// A panic elsewhere leaves the set whole: every change to it is one call.
fn lock(set: &Mutex<BTreeSet<Uuid>>) -> MutexGuard<'_, BTreeSet<Uuid>> {
    set.lock().unwrap_or_else(PoisonError::into_inner)
}
