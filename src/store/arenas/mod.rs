//! Arenas: what people ask for. What the tree makes of it is in `port`.
//!
//! From its creation an arena holds gates: those of its contestants' sessions, and
//! that of the session that it starts from, until the commit that all start from
//! is known. A gate that says `arena <id>` therefore always has an arena that gives
//! it back.

mod port;
mod select;

use std::collections::BTreeMap;

use hearth_actors::arena::CheckCommand;
use hearth_actors::event::Frame;
use hearth_actors::ids::{AgentName, ArenaId, ProjectId, SessionId, TaskId};
use hearth_actors::model::Policy;
use serde_json::Value;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, FromRow};
use uuid::Uuid;

use super::cancel::{CancelRequest, cancel};
use super::drafts::Draft;
use super::frames::{FrameRow, in_order};
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
}

#[derive(FromRow)]
struct Gate {
    turn_id: Option<Uuid>,
    operation: Option<String>,
    deleted: bool,
    node: Option<Uuid>,
}

impl Store {
    /// Commits an arena, a hidden session and a task for each contestant. They
    /// begin when the commit that all start from is known.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the session or project,
    /// [`StoreError::WorktreeBusy`] when something runs in the session,
    /// [`StoreError::KeyReused`], [`StoreError::Unavailable`].
    pub async fn create_arena(&self, new: &NewArena) -> Result<CreatedArena, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let mut tx = connection.begin().await?;
        let arena = ArenaId::new();
        let project = project_of(&mut tx, new.ground).await?;
        let session = match new.ground {
            NewGround::Session(session) => Some(session.0),
            NewGround::Project(_) => None,
        };
        let drafts: Vec<(TaskId, Draft<'_>)> = new
            .contestants
            .iter()
            .map(|one| (TaskId::new(), draft(new, one, project, session)))
            .collect();
        for (_, draft) in &drafts {
            draft.validate()?;
        }
        if let Some((task, first)) = drafts.first()
            && let Some(earlier) = first.claim_key(&mut tx, *task).await?
        {
            tx.rollback().await?;
            return self.repeated(earlier).await;
        }
        if let Some(session) = session {
            self.hold(&mut tx, session, arena).await?;
        }
        let (command, timeout) = new.check.as_ref().map_or((None, None), |check| {
            let limit = i64::try_from(check.timeout.as_millis()).unwrap_or(i64::MAX);
            (Some(&check.command), Some(limit))
        });
        sqlx::query(
            "insert into hearth.arenas
                (id, project_id, session_id, node, input, check_command, check_timeout_ms)
             values ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(arena.0)
        .bind(project)
        .bind(session)
        .bind(self.node.0)
        .bind(super::text::clean(&new.input))
        .bind(command)
        .bind(timeout)
        .execute(&mut *tx)
        .await?;
        let mut rows = Vec::new();
        for (place, (task, draft)) in drafts.into_iter().enumerate() {
            let place = i16::try_from(place).unwrap_or(i16::MAX);
            rows.extend(self.enter(&mut tx, arena, place, task, draft).await?);
        }
        rows.extend(frames(&mut tx, arena).await?);
        tx.commit().await?;
        Ok(CreatedArena {
            arena,
            frames: in_order(rows),
            repeated: false,
        })
    }

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

    /// Takes the session's gate for the arena.
    async fn hold(
        &self,
        tx: &mut PgConnection,
        session: Uuid,
        arena: ArenaId,
    ) -> Result<(), StoreError> {
        // A session that plain SQL made has neither.
        sqlx::query(
            "with gate as (
                insert into hearth.gates(session_id) values ($1) on conflict do nothing)
             insert into hearth.streams(session_id) values ($1) on conflict do nothing",
        )
        .bind(session)
        .execute(&mut *tx)
        .await?;
        let gate: Gate = sqlx::query_as(
            "select turn_id, operation, deleted_at is not null as deleted, node
             from hearth.gates where session_id = $1 for no key update",
        )
        .bind(session)
        .fetch_one(&mut *tx)
        .await?;
        if gate.deleted {
            return Err(StoreError::NotFound {
                what: "session",
                id: session.to_string(),
            });
        }
        if let Some(why) = busy(&gate, self.node.0) {
            return Err(StoreError::WorktreeBusy(format!(
                "session {session} {why}: try again when it is over"
            )));
        }
        sqlx::query("update hearth.gates set operation = $2, node = $3 where session_id = $1")
            .bind(session)
            .bind(held_by(arena))
            .bind(self.node.0)
            .execute(tx)
            .await?;
        Ok(())
    }

    async fn enter(
        &self,
        tx: &mut PgConnection,
        arena: ArenaId,
        place: i16,
        task: TaskId,
        mut draft: Draft<'_>,
    ) -> Result<Vec<FrameRow>, StoreError> {
        let name: String = draft.input.chars().take(60).collect();
        let agent = draft.agent.map_or("", AgentName::as_str);
        let session: Uuid = sqlx::query_scalar(
            "with made as (
                insert into sessions(project_id, name) values ($1, $2) returning id
            ), gate as (
                insert into hearth.gates(session_id, hidden, operation, node)
                select id, true, $3, $4 from made
            ), stream as (
                insert into hearth.streams(session_id) select id from made
            )
            select id from made",
        )
        .bind(draft.project)
        .bind(super::text::clean(&format!("{name} ({agent})")))
        .bind(held_by(arena))
        .bind(self.node.0)
        .fetch_one(&mut *tx)
        .await?;
        draft.session = Some(session);
        let rows = draft.insert(&mut *tx, task).await?;
        sqlx::query(
            "with marked as (update tasks set arena_id = $2 where id = $1)
             insert into hearth.contestants(task_id, arena_id, session_id, place)
             values ($1, $2, $3, $4)",
        )
        .bind(task.0)
        .bind(arena.0)
        .bind(session)
        .bind(place)
        .execute(tx)
        .await?;
        Ok(rows)
    }

    async fn repeated(&self, task: TaskId) -> Result<CreatedArena, StoreError> {
        let arena: Option<Uuid> =
            sqlx::query_scalar("select arena_id from hearth.contestants where task_id = $1")
                .bind(task.0)
                .fetch_optional(&self.pool)
                .await?;
        // The key's scope is also that of tasks.
        let arena = arena.ok_or(StoreError::KeyReused)?;
        Ok(CreatedArena {
            arena: ArenaId(arena),
            frames: Vec::new(),
            repeated: true,
        })
    }
}

async fn project_of(tx: &mut PgConnection, ground: NewGround) -> Result<Uuid, StoreError> {
    let (what, id, sql) = match ground {
        NewGround::Project(id) => ("project", id.0, "select id from projects where id = $1"),
        NewGround::Session(id) => (
            "session",
            id.0,
            "select project_id from sessions where id = $1",
        ),
    };
    let found: Option<Uuid> = sqlx::query_scalar(sql).bind(id).fetch_optional(tx).await?;
    found.ok_or_else(|| StoreError::NotFound {
        what,
        id: id.to_string(),
    })
}

fn draft<'a>(
    new: &'a NewArena,
    one: &'a NewContestant,
    project: Uuid,
    scope: Option<Uuid>,
) -> Draft<'a> {
    Draft {
        scope: scope.unwrap_or(project),
        project: Some(project),
        session: None,
        chat: None,
        parent: None,
        input: &new.input,
        input_field: "input",
        agent: Some(&one.agent),
        model: one.model.as_deref(),
        mode: one.mode.as_deref(),
        thinking: one.thinking.as_deref(),
        features: &one.features,
        policy: one.policy,
        interrupt: false,
        retry_of: None,
        retry_interrupted: false,
        budget: None,
        key: new.idempotency_key.as_deref(),
    }
}

/// What `hearth.gates.operation` says while an arena holds the gate.
fn held_by(arena: ArenaId) -> String {
    format!("arena {arena}")
}

fn not_found(arena: ArenaId) -> StoreError {
    StoreError::NotFound {
        what: "arena",
        id: arena.to_string(),
    }
}

fn busy(gate: &Gate, node: Uuid) -> Option<String> {
    if gate.turn_id.is_some() {
        Some("has a turn that runs".into())
    } else if let Some(operation) = &gate.operation {
        Some(format!("is being worked on ({operation})"))
    } else if gate.node.is_some_and(|of| of != node) {
        Some("has its worktree on another node".into())
    } else {
        None
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
