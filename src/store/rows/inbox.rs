//! Everything that needs a human, in one list.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgPool};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Cursor, Slice};

const INBOX: &str = include_str!("../sql/inbox.sql");

/// One thing that needs a human.
#[derive(Clone, Debug, PartialEq, FromRow, Serialize, Deserialize, ToSchema)]
pub struct Item {
    /// `task:…`, `prompt:…` or `notice:…`.
    pub id: String,
    #[serde(skip)]
    #[schema(ignore)]
    row_id: Uuid,
    /// Of a task: `failed`, `interrupted`, `blocked` or `parked`; of others `open`.
    pub state: String,
    /// Of a failed task its outcome, such as `agent_crashed`; of a notice its
    /// kind, such as `open_circuit`; of a parked one why, such as `budget`.
    pub reason: String,
    /// The beginning of the task's prompt, what is asked for, or what happened.
    pub title: String,
    /// More about it, for a person.
    pub detail: Option<String>,
    /// Since when it needs somebody; of a parked task, since when it exists.
    pub at: DateTime<Utc>,
    /// Of a parked task: when it goes on, if anybody knows. Of a prompt: when it is
    /// refused. Of a notice: when it is over by itself.
    pub until: Option<DateTime<Utc>>,
    /// The workspace.
    pub session_id: Option<Uuid>,
    /// The tab.
    pub chat_id: Option<Uuid>,
    /// The task, of a prompt too.
    pub task_id: Option<Uuid>,
    /// Who runs it, asks, or crashed.
    pub agent: Option<String>,
    /// What can be done here: `retry`, `dismiss`, `answer`.
    pub actions: Vec<String>,
}

impl Item {
    /// Its place in the list.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor {
            at: self.at,
            id: self.row_id,
        }
    }
}

/// Newest first.
///
/// # Errors
/// The database's.
pub async fn list(pool: &PgPool, session: Option<Uuid>, slice: &Slice) -> sqlx::Result<Vec<Item>> {
    sqlx::query_as(INBOX)
        .bind(slice.at())
        .bind(slice.id())
        .bind(slice.limit)
        .bind(session)
        .fetch_all(pool)
        .await
}

/// Takes a failed task out of the list. Its state, if it is not one that
/// failed; none if there is no such task.
///
/// # Errors
/// The database's.
pub async fn dismiss_task(pool: &PgPool, task: Uuid) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar(
        "with task as (select id, state from tasks where id = $1),
         dismissed as (
            insert into hearth.dismissed_tasks (task_id)
            select id from task where state = 'failed' on conflict do nothing)
         select state from task",
    )
    .bind(task)
    .fetch_optional(pool)
    .await
}

/// Takes a notice out of the list, for good; false if there is none.
///
/// # Errors
/// The database's.
pub async fn dismiss_notice(pool: &PgPool, notice: Uuid) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "update hearth.notices set dismissed_at = coalesce(dismissed_at, clock_timestamp())
         where id = $1",
    )
    .bind(notice)
    .execute(pool)
    .await?;
    Ok(done.rows_affected() > 0)
}
