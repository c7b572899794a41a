//! What people decided about set-ups of worktrees, and blocks of ports.

use std::time::Duration;

use async_trait::async_trait;
use hearth_actors::ids::{ProjectId, SessionId};
use hearth_actors::ports::{SetUpError, SetUpRows};
use hearth_actors::set_up::{Consent, PORTS, SetUp, TearDown};

use super::limits::millis;
use super::text::clean;
use super::{Store, StoreError};

/// The first port of the first block. The blocks end below the ports that Linux
/// gives to connections by itself, which begin at 32768.
const FIRST_PORT: u16 = 20_000;
const BLOCKS: i32 = 1_200;
/// Tries at a block that somebody else takes at the same moment.
const TRIES: u32 = 50;

const OWN: &str = "select block from hearth.port_blocks where session_id = $1";
const TAKE: &str = "\
    insert into hearth.port_blocks (block, session_id)
    select n, $1 from generate_series(0, $2 - 1) n
    where not exists (select from hearth.port_blocks b where b.block = n)
    order by n limit 1
    on conflict do nothing
    returning block";
const FREE: &str = "\
    delete from hearth.port_blocks b
    where not exists (
            select from worktrees w where w.session_id = b.session_id and w.status = 'active')
        and not exists (
            select from hearth.gates g where g.session_id = b.session_id and g.turn_id is not null)";
const TEAR_DOWN: &str = "\
    select u.tear_down, u.timeout_ms
    from sessions s join hearth.set_ups u on u.project_id = s.project_id
    where s.id = $1 and u.hash = $2 and u.consent = 'trusted' and u.tear_down is not null";
const DECIDE: &str = "\
    insert into hearth.set_ups (project_id, hash, consent, tear_down, timeout_ms)
    values ($1, $2, $3, $4, $5)
    on conflict (project_id, hash) do update
        set consent = excluded.consent, decided_at = clock_timestamp()";
const WAKE: &str = "\
    update hearth.queue q set not_before = null
    from sessions s
    where s.id = q.session_id and s.project_id = $1
        and q.waiting and q.parked_reason = 'set_up' and q.not_before is not null";

#[async_trait]
impl SetUpRows for Store {
    async fn consent(&self, project: ProjectId, hash: &str) -> Result<Option<Consent>, SetUpError> {
        let found = self.set_up_consent(project, hash).await;
        found.map_err(|error| SetUpError(error.into()))
    }

    async fn tear_down(
        &self,
        session: SessionId,
        hash: &str,
    ) -> Result<Option<TearDown>, SetUpError> {
        let found: Option<(String, i64)> = sqlx::query_as(TEAR_DOWN)
            .bind(session.0)
            .bind(hash)
            .fetch_optional(&self.pool)
            .await
            .map_err(away)?;
        Ok(found.map(|(script, ms)| TearDown {
            script,
            timeout: Duration::from_millis(ms.unsigned_abs()),
        }))
    }

    async fn port(&self, session: SessionId) -> Result<Option<u16>, SetUpError> {
        let block = match self.block(OWN, session, false).await? {
            Some(block) => Some(block),
            None => match self.take_block(session).await? {
                Some(block) => Some(block),
                None => {
                    sqlx::query(FREE).execute(&self.pool).await.map_err(away)?;
                    self.take_block(session).await?
                }
            },
        };
        if block.is_none() {
            tracing::warn!(%session, "all blocks of ports are taken: it gets none");
        }
        let first = block.and_then(|block| u16::try_from(block).ok());
        Ok(first.and_then(|block| block.checked_mul(PORTS)?.checked_add(FIRST_PORT)))
    }
}

impl Store {
    /// What was decided about this content.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn set_up_consent(
        &self,
        project: ProjectId,
        hash: &str,
    ) -> Result<Option<Consent>, StoreError> {
        let found: Option<String> = sqlx::query_scalar(
            "select consent from hearth.set_ups where project_id = $1 and hash = $2",
        )
        .bind(project.0)
        .bind(hash)
        .fetch_optional(&self.pool)
        .await?;
        Ok(found.as_deref().and_then(Consent::parse))
    }

    /// Writes down what a person decided, and lets those who wait for it look again:
    /// how many.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn decide_set_up(
        &self,
        project: ProjectId,
        this: &SetUp,
        consent: Consent,
    ) -> Result<u64, StoreError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query(DECIDE)
            .bind(project.0)
            .bind(&this.hash)
            .bind(consent.as_str())
            .bind(this.tear_down.as_deref().map(clean))
            .bind(millis(this.timeout))
            .execute(&mut *tx)
            .await?;
        let woken = sqlx::query(WAKE)
            .bind(project.0)
            .execute(&mut *tx)
            .await?
            .rows_affected();
        tx.commit().await?;
        Ok(woken)
    }

    async fn take_block(&self, session: SessionId) -> Result<Option<i32>, SetUpError> {
        for _ in 0..TRIES {
            let taken = self.block(TAKE, session, true).await?;
            if taken.is_some() {
                return Ok(taken);
            }
            let (free,): (bool,) = sqlx::query_as("select count(*) < $1 from hearth.port_blocks")
                .bind(i64::from(BLOCKS))
                .fetch_one(&self.pool)
                .await
                .map_err(away)?;
            if !free {
                break;
            }
            // Its own other chat may have been the one.
            let own = self.block(OWN, session, false).await?;
            if own.is_some() {
                return Ok(own);
            }
        }
        Ok(None)
    }

    async fn block(
        &self,
        statement: &'static str,
        session: SessionId,
        takes: bool,
    ) -> Result<Option<i32>, SetUpError> {
        let mut query = sqlx::query_scalar(statement).bind(session.0);
        if takes {
            query = query.bind(BLOCKS);
        }
        query.fetch_optional(&self.pool).await.map_err(away)
    }
}

fn away(error: sqlx::Error) -> SetUpError {
    SetUpError(error.into())
}
