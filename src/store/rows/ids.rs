//! What a part of an id may mean.

use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgPool};
use utoipa::ToSchema;
use uuid::Uuid;

/// What ids are looked for of.
pub const KINDS: [&str; 7] = [
    "session",
    "chat",
    "task",
    "checkpoint",
    "change",
    "prompt",
    "arena",
];

/// A thing whose id fits.
#[derive(Clone, Debug, PartialEq, Eq, FromRow, Serialize, Deserialize, ToSchema)]
pub struct Fitting {
    /// `session`, `chat`, `task`, `checkpoint`, `change`, `prompt` or `arena`.
    pub kind: String,
    /// Its id.
    pub id: Uuid,
    /// The workspace that it belongs to; a session's is itself.
    pub session_id: Option<Uuid>,
}

/// Every id of these kinds that begins or ends with the digits, newest first, at
/// most `limit`; of `session` if one is given. Hidden sessions are found too,
/// deleted ones are not.
///
/// # Errors
/// The database's.
pub async fn fitting(
    pool: &PgPool,
    digits: &str,
    kinds: &[String],
    session: Option<Uuid>,
    limit: i64,
) -> sqlx::Result<Vec<Fitting>> {
    sqlx::query_as(
        "with known(kind, id, session_id, created_at) as (
            select 'session', id, id, created_at from sessions
            union all select 'chat', id, session_id, created_at from chats
            union all select 'task', id, session_id, created_at from tasks
            union all select 'checkpoint', c.id, h.session_id, c.created_at
                from checkpoints c join chats h on h.id = c.chat_id
            union all select 'change', id, session_id, created_at from pending_changes
            union all select 'prompt', id, session_id, created_at from hearth.prompts
            union all select 'arena', id, session_id, created_at from hearth.arenas)
         select k.kind, k.id, k.session_id from known k
            left join hearth.gates g on g.session_id = k.session_id
         where k.kind = any($2) and ($3::uuid is null or k.session_id = $3)
            and g.deleted_at is null
            and (replace(k.id::text, '-', '') like $1 || '%'
                or replace(k.id::text, '-', '') like '%' || $1)
         order by k.created_at desc, k.id desc limit $4",
    )
    .bind(digits)
    .bind(kinds)
    .bind(session)
    .bind(limit)
    .fetch_all(pool)
    .await
}
