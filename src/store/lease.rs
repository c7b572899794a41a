//! The node's lease, and what a new life does about the turns of the last one.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use hearth_actors::event::TurnRef;
use hearth_actors::handover::Taken;
use hearth_actors::model::{Fence, TurnEnd, Usage};
use hearth_actors::outcome::Outcome;
use hearth_actors::ports::{NodeLease, QueueError, Reconciled};
use hearth_actors::prompt::Settled;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, FromRow};
use uuid::Uuid;

use super::detached::detach_on;
use super::error::queue_error;
use super::finish::finish_on;
use super::frames::in_order;
use super::prompts::settle_on;
use super::queue::release_on;
use super::{LEASE, Store};

/// Why a prompted turn of a former life ended, for a person.
const INTERRUPTED: &str = "Hearth stopped while the agent was working on this";

/// The same for one that ended while a human was asked.
const DETACHED: &str = "Hearth stopped while a human was asked";

/// Why a prompt of a former life can no longer be answered.
const WITHDRAWN: &str = "Hearth stopped before an answer came";

/// Locks the node's row until the end of the transaction: no claim of the old
/// life, which reads it `for share`, can come in between.
const RAISE: &str = "\
    insert into hearth.nodes as n (id, name, version, incarnation, lease_until)
    values ($1, $2, $3, 1, clock_timestamp() + $4 * interval '1 second')
    on conflict (id) do update set
        name = excluded.name, version = excluded.version, incarnation = n.incarnation + 1,
        lease_until = excluded.lease_until, started_at = clock_timestamp()
    returning incarnation";
const RENEW: &str = "\
    update hearth.nodes set lease_until = clock_timestamp() + $3 * interval '1 second'
    where id = $1 and incarnation = $2";
const RELEASE: &str = "\
    update hearth.nodes set lease_until = '-infinity' where id = $1 and incarnation = $2";

/// Locks the gates of the node's live turns, in one order.
const LOCK_GATES: &str = "\
    select g.session_id from hearth.gates g
    where g.session_id in (select t.session_id from hearth.turns t where t.ended_at is null and t.node = $1)
    order by g.session_id
    for no key update";
const LIVE_TURNS: &str = "\
    select t.id, t.task_id, t.session_id, t.attempt, t.node, t.incarnation, t.assistant_message_id,
        k.chat_id, t.prompted_at is not null as prompted,
        t.cancel_requested_at is not null or k.state = 'cancelled' as cancelled
    from hearth.turns t join tasks k on k.id = t.task_id
    where t.ended_at is null and t.node = $1 and ($2::uuid is null or t.id = $2)
    order by t.session_id";
/// No agent outlives its Hearth: none is warm now, whatever the end of its turn says.
const CRASH_LINKS: &str = "\
    with link as (
        update agent_sessions a set status = 'crashed'
        from hearth.gates g
        where g.session_id = a.session_id and g.node = $1 and a.status in ('active', 'idle')
        returning a.chat_id, a.agent)
    update hearth.agent_links l set pid = null
    from link
    where l.chat_id = link.chat_id and l.agent = link.agent and l.pid is not null";

#[async_trait]
impl NodeLease for Store {
    async fn acquire(&self) -> Result<Reconciled, QueueError> {
        let mut connection = self.pool.acquire().await.map_err(queue_error)?;
        let reconciled = self.new_life(&mut connection).await.map_err(queue_error)?;
        self.incarnation
            .store(reconciled.incarnation, Ordering::Release);
        Ok(reconciled)
    }

    async fn renew(&self) -> Result<(), QueueError> {
        let renewed = sqlx::query(RENEW)
            .bind(self.node.0)
            .bind(self.incarnation())
            .bind(LEASE.as_secs_f64())
            .execute(&self.claims)
            .await
            .map_err(queue_error)?
            .rows_affected();
        if renewed == 0 {
            Err(QueueError::LeaseLost)
        } else {
            Ok(())
        }
    }

    async fn release(&self) -> Result<(), QueueError> {
        sqlx::query(RELEASE)
            .bind(self.node.0)
            .bind(self.incarnation())
            .execute(&self.pool)
            .await
            .map_err(queue_error)?;
        Ok(())
    }
}

impl Store {
    async fn new_life(&self, connection: &mut PgConnection) -> sqlx::Result<Reconciled> {
        let mut tx = connection.begin().await?;
        let incarnation = sqlx::query_scalar(RAISE)
            .bind(self.node.0)
            .bind(host_name())
            .bind(env!("CARGO_PKG_VERSION"))
            .bind(LEASE.as_secs_f64())
            .fetch_one(&mut *tx)
            .await?;
        let mut reconciled = Reconciled {
            incarnation,
            ..Reconciled::default()
        };
        sqlx::query(LOCK_GATES)
            .bind(self.node.0)
            .execute(&mut *tx)
            .await?;
        for turn in live_turns(&mut tx, self.node.0, None).await? {
            match turn.settlement() {
                None => {
                    requeue(&mut tx, &turn).await?;
                    reconciled.requeued += 1;
                }
                Some(end) => {
                    if end.outcome == Outcome::Interrupted {
                        let rows = detach_on(&mut tx, &turn.turn_ref(), DETACHED, &[]).await?;
                        if !rows.is_empty() {
                            reconciled.interrupted += 1;
                            reconciled.detached += 1;
                            reconciled.frames.extend(in_order(rows));
                            continue;
                        }
                    }
                    let withdrawn = Settled::cancelled(WITHDRAWN);
                    let rows = settle_on(&mut *tx, &turn.turn_ref(), None, &withdrawn).await?;
                    reconciled.frames.extend(in_order(rows));
                    let rows = finish_on(&mut tx, &turn.turn_ref(), &end).await?;
                    reconciled.interrupted += usize::from(end.outcome == Outcome::Interrupted);
                    reconciled.frames.extend(in_order(rows));
                }
            }
        }
        // Circuits are counted in memory: a new life knows of none.
        sqlx::query(
            "update hearth.notices set over_at = clock_timestamp()
             where kind = 'open_circuit' and over_at is null",
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query(CRASH_LINKS)
            .bind(self.node.0)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(reconciled)
    }
}

/// A turn that has not ended.
#[derive(FromRow)]
pub(super) struct LiveTurn {
    id: Uuid,
    task_id: Uuid,
    session_id: Uuid,
    attempt: i32,
    node: Uuid,
    incarnation: i64,
    assistant_message_id: Uuid,
    chat_id: Option<Uuid>,
    prompted: bool,
    pub(super) cancelled: bool,
}

impl LiveTurn {
    pub(super) fn turn_ref(&self) -> TurnRef {
        TurnRef {
            fence: Fence {
                task: self.task_id.into(),
                turn: self.id.into(),
                attempt: self.attempt,
                node: self.node.into(),
                incarnation: self.incarnation,
            },
            session: self.session_id.into(),
            // Of a deleted chat nothing is left that the nil id could touch.
            chat: self.chat_id.unwrap_or_default().into(),
            message: self.assistant_message_id.into(),
        }
    }

    /// How the turn ends when its owner is gone; none lets its task wait again.
    fn settlement(&self) -> Option<TurnEnd> {
        let (outcome, detail) = match (self.cancelled, self.prompted) {
            (true, _) => (Outcome::Cancelled, None),
            (false, true) => (Outcome::Interrupted, Some(INTERRUPTED.to_owned())),
            (false, false) => return None,
        };
        Some(TurnEnd {
            outcome,
            detail,
            diff: None,
            usage: Usage::default(),
            taken: Some(Taken::Unknown),
        })
    }
}

/// The turn that `fence` means, if it is alive and still fits.
pub(super) async fn live_turn(
    connection: &mut PgConnection,
    fence: &Fence,
) -> sqlx::Result<Option<LiveTurn>> {
    let turns = live_turns(connection, fence.node.0, Some(fence.turn.0)).await?;
    Ok(turns
        .into_iter()
        .find(|turn| turn.turn_ref().fence == *fence))
}

async fn live_turns(
    connection: &mut PgConnection,
    node: Uuid,
    turn: Option<Uuid>,
) -> sqlx::Result<Vec<LiveTurn>> {
    sqlx::query_as(LIVE_TURNS)
        .bind(node)
        .bind(turn)
        .fetch_all(connection)
        .await
}

async fn requeue(connection: &mut PgConnection, turn: &LiveTurn) -> sqlx::Result<()> {
    release_on(connection, &turn.turn_ref().fence, None)
        .await
        .map(drop)
}

/// For people who look at `hearth.nodes`.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}
