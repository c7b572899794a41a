//! Beginning an arena: its rows, and the gates that it holds from the start.

use hearth_actors::ids::{AgentName, ArenaId, TaskId};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, FromRow};
use uuid::Uuid;

use super::{CreatedArena, NewArena, NewContestant, NewGround, frames};
use crate::store::drafts::Draft;
use crate::store::frames::{FrameRow, in_order};
use crate::store::text::clean;
use crate::store::{Store, StoreError};

#[derive(FromRow)]
struct Gate {
    turn_id: Option<Uuid>,
    operation: Option<Uuid>,
    arena: Option<Uuid>,
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
    /// [`StoreError::Invalid`] for a budget looser than the settings',
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
        if let Some(budget) = &new.budget {
            self.check_task_budget(&mut tx, budget, None).await?;
        }
        if let Some((task, first)) = drafts.first()
            && let Some(earlier) = first.claim_key(&mut tx, *task).await?
        {
            tx.rollback().await?;
            drop(connection);
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
        .bind(clean(&new.input))
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
            "select turn_id, operation, arena, deleted_at is not null as deleted, node
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
        sqlx::query("update hearth.gates set arena = $2, node = $3 where session_id = $1")
            .bind(session)
            .bind(arena.0)
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
                insert into hearth.gates(session_id, hidden, arena, node)
                select id, true, $3, $4 from made
            ), stream as (
                insert into hearth.streams(session_id) select id from made
            )
            select id from made",
        )
        .bind(draft.project)
        .bind(clean(&format!("{name} ({agent})")))
        .bind(arena.0)
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
        budget: new.budget,
        key: new.idempotency_key.as_deref(),
    }
}

fn busy(gate: &Gate, node: Uuid) -> Option<String> {
    if gate.turn_id.is_some() {
        Some("has a turn that runs".into())
    } else if let Some(operation) = gate.operation {
        Some(format!("is being worked on (operation {operation})"))
    } else if let Some(arena) = gate.arena {
        Some(format!("is being worked on (arena {arena})"))
    } else if gate.node.is_some_and(|of| of != node) {
        Some("has its worktree on another node".into())
    } else {
        None
    }
}
