//! Operations on the files of sessions, as people see them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{FromRow, PgPool};
use utoipa::ToSchema;
use uuid::Uuid;

/// Work on a session's files that was ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Operation {
    /// Its id.
    pub id: Uuid,
    /// Whose files.
    pub session_id: Uuid,
    /// `apply`, `reject`, `rewind`, `restore`, `adopt`, `retry`, `compare`, `stash` or
    /// `archive`.
    pub kind: String,
    /// `planning`, `intended` (files are being written), `done` or `abandoned`.
    pub state: String,
    /// Who ordered it: `http`, `cli`, or why nobody had to: `on_interrupt`, `start`.
    pub caller: Option<String>,
    /// The changes it is about; none of a restore.
    pub changes: Vec<Uuid>,
    /// What it did, once it has ended.
    pub result: Outcome,
    /// Why it was abandoned.
    pub detail: Option<String>,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
}

/// What an operation did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Outcome {
    /// The files it wrote, at most 1 000.
    pub files: Vec<File>,
    /// How many it wrote.
    pub files_total: usize,
    /// What a person should know, such as files that were left alone.
    pub notes: Vec<String>,
    /// The files that stood in the way, at most 200.
    pub conflicts: Vec<Conflict>,
}

/// A file that an operation wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct File {
    /// Path in the checkout or the worktree.
    pub path: String,
    /// `create`, `edit` or `delete`.
    pub operation: String,
}

/// Why one file stands in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Conflict {
    /// The change, where it is about one.
    #[serde(rename = "change_id", alias = "change")]
    pub change: Option<Uuid>,
    /// Path in the checkout or the worktree.
    pub path: String,
    /// What is wrong, and what to do.
    pub reason: String,
    /// Lines of the file as it is there now: first line, from 1, and count.
    pub hunks: Vec<(u32, u32)>,
}

impl From<&hearth_actors::review::Conflict> for Conflict {
    fn from(conflict: &hearth_actors::review::Conflict) -> Self {
        Self {
            change: conflict.change.map(|change| change.0),
            path: conflict.path.clone(),
            reason: conflict.reason.clone(),
            hunks: conflict.hunks.clone(),
        }
    }
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    session_id: Uuid,
    kind: String,
    state: String,
    caller: Option<String>,
    changes: Json<Vec<Uuid>>,
    result: Json<Outcome>,
    detail: Option<String>,
    created_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
}

/// One operation.
///
/// # Errors
/// The database's.
pub async fn get(pool: &PgPool, id: Uuid) -> sqlx::Result<Option<Operation>> {
    let row: Option<Row> = sqlx::query_as(
        "select id, session_id, kind, state, caller,
            coalesce(asked -> 'changes', '[]') as changes, coalesce(result, '{}') as result,
            detail, created_at, ended_at
         from hearth.operations where id = $1",
    )
    .bind(id)
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| Operation {
        id: row.id,
        session_id: row.session_id,
        kind: row.kind,
        state: row.state,
        caller: row.caller,
        changes: row.changes.0,
        result: row.result.0,
        detail: row.detail,
        created_at: row.created_at,
        ended_at: row.ended_at,
    }))
}

/// The chat of a session's checkpoint.
///
/// # Errors
/// The database's.
pub async fn chat_of_checkpoint(
    pool: &PgPool,
    session: Uuid,
    checkpoint: Uuid,
) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar("select chat_id from checkpoints where id = $2 and session_id = $1")
        .bind(session)
        .bind(checkpoint)
        .fetch_optional(pool)
        .await
}
