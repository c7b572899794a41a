//! Arenas: what people ask for. What the tree makes of it is in `port`.
//!
//! From its creation an arena holds gates: those of its contestants' sessions, and
//! that of the session that it starts from, until the commit that all start from
//! is known. A gate that names an arena therefore always has one that gives it back.

mod create;
mod place;
mod port;
mod rows;
mod select;

use std::collections::BTreeMap;

use hearth_actors::arena::CheckCommand;
use hearth_actors::event::Frame;
use hearth_actors::ids::{AgentName, ArenaId, ProjectId, SessionId, TaskId};
use hearth_actors::limits::Budget;
use hearth_actors::model::Policy;
use serde_json::Value;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::cancel::{CancelRequest, cancel};
use super::frames::FrameRow;
use super::{Store, StoreError};
pub use select::Select;
pub(super) use select::choose;

const FRAMES: &str = include_str!("../sql/arena_frames.sql");

/// An arena to begin.
#[derive(Clone, Debug)]
pub struct NewArena {
    /// What it starts from.
    pub ground: NewGround,
    /// The prompt of all.
    pub input: String,
    /// Two to five.
    pub contestants: Vec<NewContestant>,
    /// What judges the results.
    pub check: Option<CheckCommand>,
    /// What each of them may spend.
    pub budget: Option<Budget>,
    /// The same key with the same ground creates nothing twice.
    pub idempotency_key: Option<String>,
}

/// What an arena starts from.
#[derive(Clone, Copy, Debug)]
pub enum NewGround {
    /// The files of this session as they are.
    Session(SessionId),
    /// The HEAD of this project.
    Project(ProjectId),
}

/// Who competes, and with what settings.
#[derive(Clone, Debug)]
pub struct NewContestant {
    /// Who.
    pub agent: AgentName,
    /// Wanted model.
    pub model: Option<String>,
    /// Wanted mode.
    pub mode: Option<String>,
    /// Wanted thinking option.
    pub thinking: Option<String>,
    /// Wanted values of the agent's own options, by their ids.
    pub features: BTreeMap<String, Value>,
    /// What the agent may do unasked.
    pub policy: Option<Policy>,
}

/// A committed arena.
#[derive(Clone, Debug)]
pub struct CreatedArena {
    /// Its id.
    pub arena: ArenaId,
    /// To be published.
    pub frames: Vec<Frame>,
    /// An earlier request with the same idempotency key made it.
    pub repeated: bool,
}

/// What became of the wish to end an arena.
#[derive(Clone, Debug)]
pub enum CancelArena {
    /// Its tasks end; those of turns that run, and frames to be published.
    Cancelling(Vec<TaskId>, Vec<Frame>),
    /// There was nothing left to end: its state.
    Over(String),
    /// A choice moves files at this moment: there is nothing to be ended before
    /// that is over.
    BeingDecided,
}

impl Store {
    /// Marks an arena as to be ended and cancels what waits; the rest follows.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Unavailable`].
    pub async fn cancel_arena(&self, arena: ArenaId) -> Result<CancelArena, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let mut tx = connection.begin().await?;
        let state: Option<String> =
            sqlx::query_scalar("select state from hearth.arenas where id = $1 for no key update")
                .bind(arena.0)
                .fetch_optional(&mut *tx)
                .await?;
        let state = state.ok_or_else(|| not_found(arena))?;
        if state != "preparing" && state != "running" {
            return Ok(CancelArena::Over(state));
        }
        if being_decided(&mut tx, arena).await? {
            return Ok(CancelArena::BeingDecided);
        }
        sqlx::query(
            "update hearth.arenas
             set cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp())
             where id = $1",
        )
        .bind(arena.0)
        .execute(&mut *tx)
        .await?;
        let (running, frames) = end_all(&mut tx, arena, None).await?;
        sqlx::query("select pg_notify('hearth_control', 'arena ' || $1::text)")
            .bind(arena.0)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(CancelArena::Cancelling(running, frames))
    }
}

/// Whether an operation moves a winner's changes into the arena's session. The
/// arena's row is locked, without which none begins or ends.
async fn being_decided(tx: &mut PgConnection, arena: ArenaId) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select exists (select from hearth.arenas a join hearth.operations o
            on o.session_id = a.session_id and o.kind = 'adopt' and o.ended_at is null
                and (o.asked ->> 'arena')::uuid = a.id
         where a.id = $1)",
    )
    .bind(arena.0)
    .fetch_one(tx)
    .await
}

fn not_found(arena: ArenaId) -> StoreError {
    StoreError::NotFound {
        what: "arena",
        id: arena.to_string(),
    }
}

const LOCK_CONTESTANTS: &str = "\
    select 1 from hearth.gates g
    where g.session_id in (select c.session_id from hearth.contestants c where c.arena_id = $1)
    order by g.session_id for no key update";

/// Cancels what waits of the arena's tasks, but for `spared`, and marks what
/// runs: those tasks, and frames to be published.
async fn end_all(
    tx: &mut PgConnection,
    arena: ArenaId,
    spared: Option<TaskId>,
) -> Result<(Vec<TaskId>, Vec<Frame>), StoreError> {
    let tasks: Vec<Uuid> = sqlx::query_scalar(
        "select task_id from hearth.contestants
         where arena_id = $1 and task_id is distinct from $2 order by session_id",
    )
    .bind(arena.0)
    .bind(spared.map(|task| task.0))
    .fetch_all(&mut *tx)
    .await?;
    // The gates first: a claim has either committed or will skip them.
    sqlx::query(LOCK_CONTESTANTS)
        .bind(arena.0)
        .execute(&mut *tx)
        .await?;
    let (mut running, mut frames) = (Vec::new(), Vec::new());
    for task in tasks.into_iter().map(TaskId) {
        match cancel(tx, task).await? {
            CancelRequest::Cancelled(told) => frames.extend(told),
            CancelRequest::Requested(_) => running.push(task),
            CancelRequest::Ended => {}
        }
    }
    Ok((running, frames))
}

async fn frames(tx: &mut PgConnection, arena: ArenaId) -> sqlx::Result<Vec<FrameRow>> {
    sqlx::query_as(FRAMES).bind(arena.0).fetch_all(tx).await
}
