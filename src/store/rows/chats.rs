//! Chats: the tabs of a session.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgPool};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Cursor, Slice};

/// A tab: the unit of agent context.
#[derive(Clone, Debug, PartialEq, Eq, FromRow, Serialize, Deserialize, ToSchema)]
pub struct Chat {
    /// Its id.
    pub id: Uuid,
    /// Its workspace.
    pub session_id: Uuid,
    /// What a person calls it.
    pub name: Option<String>,
    /// Tasks of the session that name no chat go here.
    pub is_default: bool,
    /// When it was closed; a new message reopens it.
    pub closed_at: Option<DateTime<Utc>>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
}

impl Chat {
    /// Its place in lists.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor {
            at: self.created_at,
            id: self.id,
        }
    }
}

/// Opens a tab; the first one of a session becomes its default. None when
/// there is no such session.
///
/// # Errors
/// The database's.
pub async fn create(
    pool: &PgPool,
    session: Uuid,
    name: Option<&str>,
) -> sqlx::Result<Option<Chat>> {
    sqlx::query_as(
        "with home as (
            select s.id from sessions s left join hearth.gates g on g.session_id = s.id
            where s.id = $1 and g.deleted_at is null
        ), gate as (
            insert into hearth.gates(session_id) select id from home on conflict do nothing
        ), stream as (
            insert into hearth.streams(session_id) select id from home on conflict do nothing
        ), made as (
            insert into chats(session_id, name) select id, $2 from home
            returning id, session_id, name, created_at
        ), ours as (
            insert into hearth.chats(chat_id, is_default)
            select made.id, not exists (select from chats c where c.session_id = $1) from made
            returning is_default
        )
        select made.id, made.session_id, made.name, ours.is_default,
            null::timestamptz as closed_at, made.created_at
        from made, ours",
    )
    .bind(session)
    .bind(name)
    .fetch_optional(pool)
    .await
}

/// Oldest first.
///
/// # Errors
/// The database's.
pub async fn list(pool: &PgPool, session: Uuid, slice: &Slice) -> sqlx::Result<Vec<Chat>> {
    sqlx::query_as(
        "select c.id, c.session_id, c.name, coalesce(h.is_default, false) as is_default,
            h.closed_at, c.created_at
         from chats c left join hearth.chats h on h.chat_id = c.id
         where c.session_id = $1
            and ($2::timestamptz is null or (c.created_at, c.id) > ($2, $3::uuid))
         order by c.created_at, c.id limit $4",
    )
    .bind(session)
    .bind(slice.at())
    .bind(slice.id())
    .bind(slice.limit)
    .fetch_all(pool)
    .await
}

/// Whether the chat exists and its session is not deleted.
///
/// # Errors
/// The database's.
pub async fn exists(pool: &PgPool, id: Uuid) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select exists (
            select from chats c left join hearth.gates g on g.session_id = c.session_id
            where c.id = $1 and g.deleted_at is null)",
    )
    .bind(id)
    .fetch_one(pool)
    .await
}
