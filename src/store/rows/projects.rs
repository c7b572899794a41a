//! Projects.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgPool};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Cursor, Slice};

/// A git repository on this host.
#[derive(Clone, Debug, PartialEq, Eq, FromRow, Serialize, Deserialize, ToSchema)]
pub struct Project {
    /// Its id.
    pub id: Uuid,
    /// What a person calls it.
    pub name: String,
    /// Root of its checkout, absolute.
    pub path: String,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
}

impl Project {
    /// Its place in lists.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor {
            at: self.created_at,
            id: self.id,
        }
    }
}

/// Registers `path`, or finds it registered. The flag says whether it is new.
///
/// # Errors
/// The database's.
pub async fn register(pool: &PgPool, name: &str, path: &str) -> sqlx::Result<(Project, bool)> {
    #[derive(FromRow)]
    struct Row {
        #[sqlx(flatten)]
        project: Project,
        created: bool,
    }
    // The empty update makes a conflict return the row; xmax tells which it was.
    let row: Row = sqlx::query_as(
        "insert into projects(name, path) values ($1, $2)
         on conflict (path) do update set path = excluded.path
         returning id, name, path, created_at, xmax = 0 as created",
    )
    .bind(name)
    .bind(path)
    .fetch_one(pool)
    .await?;
    Ok((row.project, row.created))
}

/// Which of these paths of the project's checkout hold what was applied there.
///
/// # Errors
/// The database's.
pub async fn applied(pool: &PgPool, project: Uuid, paths: &[String]) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "select distinct p.file_path
         from sessions s join pending_changes p on p.session_id = s.id
         where s.project_id = $1 and p.status = 'applied' and p.file_path = any($2)",
    )
    .bind(project)
    .bind(paths)
    .fetch_all(pool)
    .await
}

/// Newest first.
///
/// # Errors
/// The database's.
pub async fn list(pool: &PgPool, slice: &Slice) -> sqlx::Result<Vec<Project>> {
    sqlx::query_as(
        "select id, name, path, created_at from projects
         where $1::timestamptz is null or (created_at, id) < ($1, $2::uuid)
         order by created_at desc, id desc limit $3",
    )
    .bind(slice.at())
    .bind(slice.id())
    .bind(slice.limit)
    .fetch_all(pool)
    .await
}

/// The checkout of the project; none when there is no such project.
///
/// # Errors
/// The database's.
pub async fn path(pool: &PgPool, id: Uuid) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar("select path from projects where id = $1")
        .bind(id)
        .fetch_optional(pool)
        .await
}

/// Whether the project exists.
///
/// # Errors
/// The database's.
pub async fn exists(pool: &PgPool, id: Uuid) -> sqlx::Result<bool> {
    sqlx::query_scalar("select exists (select from projects where id = $1)")
        .bind(id)
        .fetch_one(pool)
        .await
}
