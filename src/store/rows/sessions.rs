//! Sessions: a workspace each.

use chrono::{DateTime, Utc};
use hearth_actors::limits::Budget;
use hearth_actors::model::Worktree;
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{FromRow, PgPool};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Cursor, Slice};
use crate::store::worktree_row::WorktreeRow;

/// A workspace of a project: one worktree, any number of chats.
#[derive(Clone, Debug, PartialEq, Eq, FromRow, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// Its id.
    pub id: Uuid,
    /// Whose workspace it is.
    pub project_id: Uuid,
    /// What a person calls it.
    pub name: String,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was closed; a new message reopens it.
    pub closed_at: Option<DateTime<Utc>>,
    /// Made for a task that named no session; not in lists.
    pub hidden: bool,
    /// Where it works, once something has run in it.
    pub worktree_path: Option<String>,
    /// The branch it works on, `session-<id>`.
    pub branch: Option<String>,
}

impl Session {
    /// Its place in lists.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor {
            at: self.created_at,
            id: self.id,
        }
    }
}

/// Creates a session with its gate and its stream; none when there is no such
/// project.
///
/// # Errors
/// The database's.
pub async fn create(
    pool: &PgPool,
    project: Uuid,
    name: &str,
    budget: Option<Budget>,
) -> sqlx::Result<Option<Session>> {
    sqlx::query_as(
        "with made as (
            insert into sessions(project_id, name) select id, $2 from projects where id = $1
            returning id, project_id, name, created_at
        ), gate as (
            insert into hearth.gates(session_id, budget) select id, $3 from made
        ), stream as (
            insert into hearth.streams(session_id) select id from made
        )
        select id, project_id, name, created_at, null::timestamptz as closed_at, false as hidden,
            null::text as worktree_path, null::text as branch
        from made",
    )
    .bind(project)
    .bind(name)
    .bind(budget.map(Json))
    .fetch_optional(pool)
    .await
}

/// Newest first, without hidden and deleted ones.
///
/// # Errors
/// The database's.
pub async fn list(
    pool: &PgPool,
    project: Option<Uuid>,
    slice: &Slice,
) -> sqlx::Result<Vec<Session>> {
    sqlx::query_as(
        "select s.id, s.project_id, s.name, s.created_at, g.closed_at,
            coalesce(g.hidden, false) as hidden, w.path as worktree_path, w.branch
         from sessions s
         left join hearth.gates g on g.session_id = s.id
         left join worktrees w on w.session_id = s.id and w.status = 'active'
         where ($1::uuid is null or s.project_id = $1)
            and not coalesce(g.hidden, false) and g.deleted_at is null
            and ($2::timestamptz is null or (s.created_at, s.id) < ($2, $3::uuid))
         order by s.created_at desc, s.id desc limit $4",
    )
    .bind(project)
    .bind(slice.at())
    .bind(slice.id())
    .bind(slice.limit)
    .fetch_all(pool)
    .await
}

/// One session that is not deleted.
///
/// # Errors
/// The database's.
pub async fn get(pool: &PgPool, id: Uuid) -> sqlx::Result<Option<Session>> {
    sqlx::query_as(
        "select s.id, s.project_id, s.name, s.created_at, g.closed_at,
            coalesce(g.hidden, false) as hidden, w.path as worktree_path, w.branch
         from sessions s
         left join hearth.gates g on g.session_id = s.id
         left join worktrees w on w.session_id = s.id and w.status = 'active'
         where s.id = $1 and g.deleted_at is null",
    )
    .bind(id)
    .fetch_optional(pool)
    .await
}

/// The worktree that the session has on the disk, and its project's checkout.
///
/// # Errors
/// The database's.
pub async fn worktree(pool: &PgPool, id: Uuid) -> sqlx::Result<Option<Worktree>> {
    let row: Option<WorktreeRow> = sqlx::query_as(
        "select w.id as worktree_id, w.path as worktree_path, w.branch, w.base_commit,
            coalesce(hw.baseline, w.base_commit) as baseline
         from worktrees w
            left join hearth.worktrees hw on hw.worktree_id = w.id
         where w.session_id = $1 and w.status = 'active'",
    )
    .bind(id)
    .fetch_optional(pool)
    .await?;
    Ok(row.and_then(WorktreeRow::worktree))
}

/// Whether the session exists and is not deleted.
///
/// # Errors
/// The database's.
pub async fn exists(pool: &PgPool, id: Uuid) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select exists (
            select from sessions s left join hearth.gates g on g.session_id = s.id
            where s.id = $1 and g.deleted_at is null)",
    )
    .bind(id)
    .fetch_one(pool)
    .await
}
