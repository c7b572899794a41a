//! Messages with their parts.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{FromRow, PgPool};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Cursor, Slice};

/// One message of a chat.
#[derive(Clone, Debug, PartialEq, FromRow, Serialize, Deserialize, ToSchema)]
pub struct Message {
    /// Its id.
    pub id: Uuid,
    /// Its workspace.
    pub session_id: Uuid,
    /// Its tab.
    pub chat_id: Uuid,
    /// `user`, `assistant` or `system`.
    pub role: String,
    /// The text; an assistant's is complete when its status is final.
    pub content: String,
    /// `queued`, `streaming`, `complete`, `interrupted`, `failed` or `cancelled`.
    pub status: String,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// What it is made of, in order.
    #[sqlx(skip)]
    #[serde(default)]
    pub parts: Vec<Part>,
}

/// A piece of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Part {
    /// Position in the message, from 0.
    pub sequence: i32,
    /// `text`, `tool_call`, `tool_result`, `reasoning` or `step_start`.
    pub kind: String,
    /// Its content; the keys depend on the kind.
    #[schema(value_type = Object)]
    pub payload: Value,
}

impl Message {
    /// Its place in lists.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor {
            at: self.created_at,
            id: self.id,
        }
    }
}

/// Oldest first, with parts.
///
/// # Errors
/// The database's.
pub async fn list(pool: &PgPool, chat: Uuid, slice: &Slice) -> sqlx::Result<Vec<Message>> {
    let messages = sqlx::query_as(
        "select id, session_id, chat_id, role, content, status, created_at from messages
         where chat_id = $1
            and ($2::timestamptz is null or (created_at, id) > ($2, $3::uuid))
         order by created_at, id limit $4",
    )
    .bind(chat)
    .bind(slice.at())
    .bind(slice.id())
    .bind(slice.limit)
    .fetch_all(pool)
    .await?;
    with_parts(pool, messages).await
}

async fn with_parts(pool: &PgPool, mut messages: Vec<Message>) -> sqlx::Result<Vec<Message>> {
    let ids: Vec<Uuid> = messages.iter().map(|message| message.id).collect();
    let mut parts = parts_of(pool, &ids).await?;
    for message in &mut messages {
        message.parts = parts.remove(&message.id).unwrap_or_default();
    }
    Ok(messages)
}

async fn parts_of(pool: &PgPool, messages: &[Uuid]) -> sqlx::Result<BTreeMap<Uuid, Vec<Part>>> {
    let rows: Vec<(Uuid, i32, String, Value)> = sqlx::query_as(
        "select message_id, sequence, kind, payload from message_parts
         where message_id = any($1) order by message_id, sequence",
    )
    .bind(messages)
    .fetch_all(pool)
    .await?;
    let mut parts: BTreeMap<Uuid, Vec<Part>> = BTreeMap::new();
    for (message, sequence, kind, payload) in rows {
        parts.entry(message).or_default().push(Part {
            sequence,
            kind,
            payload,
        });
    }
    Ok(parts)
}
