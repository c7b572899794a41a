//! Requests that wait, or waited, for a human.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{FromRow, PgPool};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Cursor, Slice};

/// One request of an agent to a human.
#[derive(Clone, Debug, PartialEq, FromRow, Serialize, Deserialize, ToSchema)]
pub struct Prompt {
    /// Its id.
    pub id: Uuid,
    /// The task that asks.
    pub task_id: Uuid,
    /// The attempt that asks.
    pub turn_id: Uuid,
    /// Its workspace.
    pub session_id: Uuid,
    /// Its tab.
    pub chat_id: Option<Uuid>,
    /// Who asks.
    pub agent: String,
    /// `{tool: {id, title, kind, input, locations, …}, truncated?}`: what is asked
    /// for, as the agent said it; at most 64 KiB.
    pub request: Value,
    /// What may be answered.
    #[schema(value_type = Vec<Choice>)]
    pub options: Json<Vec<Choice>>,
    /// `open`, `answered`, `cancelled` or `expired`.
    pub state: String,
    /// What the agent was answered, if it was.
    #[schema(value_type = Option<Choice>)]
    pub answer: Option<Json<Choice>>,
    /// `http`, `cli`, or `policy` where the agent's deadline decided.
    pub answered_by: Option<String>,
    /// Why nobody answered.
    pub reason: Option<String>,
    /// When it was asked.
    pub created_at: DateTime<Utc>,
    /// When it is refused if nobody answers; never if null.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was settled.
    pub resolved_at: Option<DateTime<Utc>>,
}

/// One possible answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Choice {
    /// The agent's id for it.
    pub id: String,
    /// What a person reads.
    pub label: String,
    /// `allow_once`, `allow_always`, `reject_once` or `reject_always`.
    pub kind: String,
}

impl Prompt {
    /// Its place in lists.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor {
            at: self.created_at,
            id: self.id,
        }
    }
}

/// Which prompts to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter<'a> {
    /// Only in this state.
    pub state: Option<&'a str>,
    /// Only of this session.
    pub session: Option<Uuid>,
    /// Only of this task.
    pub task: Option<Uuid>,
}

const COLUMNS: &str = "\
    id, task_id, turn_id, session_id, chat_id, agent, request, options, state, answer,
    answered_by, reason, created_at, expires_at, resolved_at";

/// Newest first.
///
/// # Errors
/// The database's.
pub async fn list(pool: &PgPool, filter: &Filter<'_>, slice: &Slice) -> sqlx::Result<Vec<Prompt>> {
    sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "select {COLUMNS} from hearth.prompts
         where ($1::text is null or state = $1)
            and ($2::uuid is null or session_id = $2)
            and ($3::uuid is null or task_id = $3)
            and ($4::timestamptz is null or (created_at, id) < ($4, $5::uuid))
         order by created_at desc, id desc limit $6"
    )))
    .bind(filter.state)
    .bind(filter.session)
    .bind(filter.task)
    .bind(slice.at())
    .bind(slice.id())
    .bind(slice.limit)
    .fetch_all(pool)
    .await
}

/// One prompt.
///
/// # Errors
/// The database's.
pub async fn get(pool: &PgPool, id: Uuid) -> sqlx::Result<Option<Prompt>> {
    sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "select {COLUMNS} from hearth.prompts where id = $1"
    )))
    .bind(id)
    .fetch_optional(pool)
    .await
}
