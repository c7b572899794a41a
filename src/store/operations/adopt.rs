//! What an arena's winner changed comes into the session that the arena started
//! from, and the choice is written down in the same transaction.

use hearth_actors::event::Frame;
use hearth_actors::ids::{ArenaId, SessionId, TaskId, WorktreeId};
use hearth_actors::ports::OperationsError;
use hearth_actors::review::Plan;
use sqlx::FromRow;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::{operations_error, refused};
use crate::store::arenas::choose;

/// The arena's row comes before any gate.
const LOCK: &str = "\
    select a.state, a.cancel_requested_at is not null as cancelled, c.stage, c.session_id,
        w.id as worktree_id
    from hearth.arenas a
        join hearth.contestants c on c.arena_id = a.id
        left join worktrees w on w.session_id = c.session_id and w.status = 'active'
    where a.id = $1 and c.task_id = $2 and a.session_id = $3
    for no key update of a";
const LOCK_OF: &str = "\
    select a.id from hearth.operations o
        join hearth.arenas a on a.id = (o.asked ->> 'arena')::uuid
    where o.id = $1 and o.kind = 'adopt' for no key update of a";

/// A file that the operation wrote is the winner's from then on.
const STAMP: &str = "\
    update pending_changes p set agent = t.agent, task_id = t.id
    from tasks t, hearth.changes c
    where t.id = $1 and c.change_id = p.id and c.worktree_id = $2 and p.session_id = $3
        and p.status = 'pending' and p.file_path = any($4)";

#[derive(FromRow)]
struct Row {
    state: String,
    cancelled: bool,
    stage: String,
    session_id: Uuid,
    worktree_id: Option<Uuid>,
}

/// Where the winner's changes are. The arena's row is locked until the end of the
/// transaction.
pub(super) async fn winner(
    connection: &mut PgConnection,
    session: SessionId,
    arena: ArenaId,
    task: TaskId,
) -> Result<(SessionId, WorktreeId), OperationsError> {
    let row: Option<Row> = sqlx::query_as(LOCK)
        .bind(arena.0)
        .bind(task.0)
        .bind(session.0)
        .fetch_optional(connection)
        .await
        .map_err(operations_error)?;
    let wrong = |code, what: String| Err(OperationsError::Wrong { code, what });
    let Some(row) = row else {
        return wrong(
            "not_found",
            format!("arena {arena} of session {session} has no contestant {task}"),
        );
    };
    if row.cancelled || !matches!(row.state.as_str(), "running" | "judged") {
        return wrong(
            "arena_decided",
            format!("arena {arena} is {} already", row.state),
        );
    }
    match row.worktree_id {
        Some(worktree) if row.stage == "judged" => {
            Ok((SessionId(row.session_id), WorktreeId(worktree)))
        }
        Some(_) => wrong(
            "turn_running",
            format!("task {task} has no verdict yet: wait for it"),
        ),
        None => wrong("no_worktree", format!("task {task} left no worktree")),
    }
}

/// Locks the arena that the operation decides, if it does.
pub(super) async fn lock(connection: &mut PgConnection, operation: Uuid) -> sqlx::Result<()> {
    sqlx::query(LOCK_OF)
        .bind(operation)
        .execute(connection)
        .await?;
    Ok(())
}

/// Stamps what came and writes the choice down.
pub(super) async fn decide(
    connection: &mut PgConnection,
    session: Uuid,
    arena: ArenaId,
    task: TaskId,
    plan: &Plan,
) -> Result<Vec<Frame>, OperationsError> {
    let paths: Vec<&str> = plan.steps.iter().map(|step| step.path.as_str()).collect();
    sqlx::query(STAMP)
        .bind(task.0)
        .bind(plan.worktree.id.0)
        .bind(session)
        .bind(paths)
        .execute(&mut *connection)
        .await
        .map_err(operations_error)?;
    // Those whose turn runs are told by the database.
    let chosen = choose(connection, arena, task).await;
    chosen.map(|(_, frames)| frames).map_err(refused)
}
