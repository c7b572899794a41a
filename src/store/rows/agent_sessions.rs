//! What is remembered of each `(chat, agent)`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{FromRow, PgPool};
use utoipa::ToSchema;
use uuid::Uuid;

/// The context of one agent in one chat.
#[derive(Clone, Debug, PartialEq, FromRow, Serialize, Deserialize, ToSchema)]
pub struct AgentSession {
    /// The tab.
    pub chat_id: Uuid,
    /// Who answers in it.
    pub agent: String,
    /// How it is run: `acp_warm`, `opencode_server` or `claude_sdk`.
    pub backend: String,
    /// `idle`, `active`, `crashed` or `closed`.
    pub status: String,
    /// The agent has a session of its own that can be continued.
    pub has_session: bool,
    /// How its present context began: `new`, `resumed`, `loaded` or `fresh`.
    pub continuity: Option<String>,
    /// Why a former context could not be continued.
    pub continuity_why: Option<String>,
    /// Its next turn begins a fresh context, for this reason.
    pub reset_why: Option<String>,
    /// What it was told last in front of a prompt, because its context had not seen
    /// it: `reason` (`joined`, `fresh`, `again`, `missed` or `alone`), `why`, `from_message`,
    /// `to_message`, `messages`, `children`, `left_out`, `bytes`, `turn_id`, `at`.
    #[schema(value_type = Option<Object>)]
    pub told: Option<Value>,
    /// Tokens in so far, cache included.
    pub input_tokens: i64,
    /// Tokens out so far, reasoning included.
    pub output_tokens: i64,
    /// US dollars so far.
    pub cost: f64,
    /// When it was last used.
    pub last_active_at: Option<DateTime<Utc>>,
    /// When it first ran.
    pub created_at: DateTime<Utc>,
}

/// All of a session's, by chat and agent. At most 1000: nobody opens more tabs.
///
/// # Errors
/// The database's.
pub async fn list(pool: &PgPool, session: Uuid) -> sqlx::Result<Vec<AgentSession>> {
    sqlx::query_as(
        "select a.chat_id, a.agent, a.backend, a.status,
            a.agent_session_id is not null as has_session,
            l.continuity->>'kind' as continuity, l.continuity->>'why' as continuity_why,
            l.forgotten as reset_why, l.told,
            a.input_tokens, a.output_tokens, a.cost, a.last_active_at, a.created_at
         from agent_sessions a
         join chats c on c.id = a.chat_id
         left join hearth.agent_links l on l.chat_id = a.chat_id and l.agent = a.agent
         where c.session_id = $1
         order by c.created_at, a.chat_id, a.agent limit 1000",
    )
    .bind(session)
    .fetch_all(pool)
    .await
}
