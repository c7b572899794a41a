//! Putting a worktree away: what the rows say before and after.

use hearth_actors::event::Frame;
use hearth_actors::operation::Owner;
use hearth_actors::ports::OperationsError;
use hearth_actors::review::{Leave, Plan};
use serde_json::json;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::{operations_error, refused};
use crate::store::close::{end_tasks, lock_session, mark_deleted};
use crate::store::reap::{archived, comes_back, waits};

const END: &str = "\
    with opened as (
        update hearth.gates g set operation = null
        where g.session_id = $2 and g.operation = $1)
    update hearth.operations set state = 'done', ended_at = clock_timestamp(), result = $3
    where id = $1";
const CONTESTANT: &str = "\
    update hearth.contestants set archived_at = coalesce(archived_at, clock_timestamp())
    where session_id = $1";

/// # Errors
/// Something waits in a session that stays.
pub(super) async fn may_leave(
    connection: &mut PgConnection,
    session: Uuid,
    leave: Leave,
) -> Result<(), OperationsError> {
    if !leave.delete && waits(connection, session).await.map_err(operations_error)? {
        return Err(OperationsError::Busy(format!(
            "a task waits in session {session}: its worktree is needed"
        )));
    }
    Ok(())
}

/// The files are gone. The gate is locked, the operation is intended.
pub(super) async fn left(
    connection: &mut PgConnection,
    owner: &Owner,
    leave: Leave,
    plan: &Plan,
) -> Result<Vec<Frame>, OperationsError> {
    let session = owner.session;
    let worktree = plan.worktree.id.0;
    let commit = plan.undo.as_ref().map(|undo| undo.commit.as_str());
    let commit = commit.filter(|commit| !commit.is_empty());
    lock_session(connection, session.0)
        .await
        .map_err(operations_error)?;
    archived(connection, worktree, commit)
        .await
        .map_err(operations_error)?;
    let mut frames = Vec::new();
    if leave.delete {
        let closed = end_tasks(connection, session, None).await;
        frames = closed.map_err(|error| refused(error.into()))?.frames;
        mark_deleted(connection, session)
            .await
            .map_err(operations_error)?;
    } else if waits(connection, session.0)
        .await
        .map_err(operations_error)?
    {
        // Somebody came meanwhile: the turn makes it anew.
        sqlx::query("update worktrees set status = 'active' where id = $1")
            .bind(worktree)
            .execute(&mut *connection)
            .await
            .map_err(operations_error)?;
    } else {
        comes_back(connection, session.0, worktree)
            .await
            .map_err(operations_error)?;
    }
    sqlx::query(CONTESTANT)
        .bind(session.0)
        .execute(&mut *connection)
        .await
        .map_err(operations_error)?;
    sqlx::query(END)
        .bind(owner.id.0)
        .bind(session.0)
        .bind(Json(json!({
            "archived": plan.worktree.path, "commit": commit, "deleted": leave.delete,
            "files": [], "files_total": 0, "notes": plan.notes,
        })))
        .execute(connection)
        .await
        .map_err(operations_error)?;
    Ok(frames)
}
