//! Requests that wait, or waited, for a human.

use chrono::{DateTime, Utc};
use hearth_actors::event::AskOption;
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
    /// `permission`: consent is wanted; `question`: an answer.
    pub kind: String,
    /// `{tool: {id, title, kind, input, locations, …}, question?, truncated?}`: what
    /// is asked for, as the agent said it; at most 64 KiB.
    pub request: Value,
    /// What may be answered.
    #[schema(value_type = Vec<Choice>)]
    pub options: Json<Vec<Choice>>,
    /// `open`, `answered`, `cancelled` or `expired`.
    pub state: String,
    /// What the agent was answered, if it was.
    #[schema(value_type = Option<Choice>)]
    pub answer: Option<Json<Choice>>,
    /// `http`, `cli`; `policy` where the agent's settings or its deadline decided;
    /// `earlier` where the same request had been answered before the agent's
    /// process ended.
    pub answered_by: Option<String>,
    /// Why nobody answered.
    pub reason: Option<String>,
    /// When it was asked.
    pub created_at: DateTime<Utc>,
    /// When it is refused if nobody answers; never if null.
    pub expires_at: Option<DateTime<Utc>>,
    /// Since when its agent is gone: an answer starts it again and lets it go on.
    pub detached_at: Option<DateTime<Utc>>,
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
    /// `allow_once`, `allow_always`, `reject_once`, `reject_always`; of questions
    /// also `choice`, and `text` where words are wanted (`id` says which: `text`,
    /// `integer` or `number`) or were given (`label`).
    pub kind: String,
}

impl Choice {
    /// As the tree knows it; none for a meaning that only a newer Hearth knows.
    #[must_use]
    pub fn option(&self) -> Option<AskOption> {
        let kind = serde_json::from_value(Value::from(self.kind.as_str())).ok()?;
        Some(AskOption {
            id: self.id.clone(),
            label: self.label.clone(),
            kind,
        })
    }
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
    id, task_id, turn_id, session_id, chat_id, agent, kind, request, options, state, answer,
    answered_by, reason, created_at, expires_at, detached_at, resolved_at";

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
