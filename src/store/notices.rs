//! What people should know that belongs to no task.

use std::time::Duration;

use hearth_actors::ids::AgentName;
use hearth_actors::ports::JournalError;
use hearth_actors::prompt::Notice;

use super::Store;
use super::error::journal_error;
use super::text::clean;

/// Longest detail, in characters.
const MAX_DETAIL: usize = 2000;

/// Said again, it counts up and shows its newest words.
const OPEN: &str = "\
    insert into hearth.notices as n (kind, subject, session_id, chat_id, agent, title, detail)
    values ($1, $2, coalesce($7, (select session_id from chats where id = $3)), $3, $4, $5, $6)
    on conflict (kind, subject) where over_at is null and dismissed_at is null do update
        set times = n.times + 1, last_at = clock_timestamp(),
            title = excluded.title, detail = excluded.detail";
const OVER: &str = "\
    update hearth.notices set over_at = clock_timestamp()
    where kind = $1 and subject = $2 and over_at is null and dismissed_at is null";

const OPEN_CIRCUIT: &str = "open_circuit";
const OPERATION: &str = "operation";

impl Store {
    pub(super) async fn write_notice(&self, notice: &Notice) -> Result<(), JournalError> {
        let query = match notice {
            Notice::CircuitOpen {
                key,
                chat,
                why,
                rest,
            } => {
                let why: String = clean(why).chars().take(MAX_DETAIL).collect();
                sqlx::query(OPEN)
                    .bind(OPEN_CIRCUIT)
                    .bind(key.to_string())
                    .bind(chat.0)
                    .bind(key.agent.as_str())
                    .bind(format!(
                        "agent {} crashed too often in this chat and rests for {} s",
                        key.agent,
                        rounded_up(*rest)
                    ))
                    .bind(why)
                    .bind(None::<uuid::Uuid>)
            }
            Notice::Operation {
                id,
                session,
                what,
                why,
            } => {
                let why: String = clean(why).chars().take(MAX_DETAIL).collect();
                sqlx::query(OPEN)
                    .bind(OPERATION)
                    .bind(id.to_string())
                    .bind(None::<uuid::Uuid>)
                    .bind(None::<&str>)
                    .bind(clean(what).into_owned())
                    .bind(why)
                    .bind(session.0)
            }
            Notice::AgentRests { agent, why, rest } => {
                let why: String = clean(why).chars().take(MAX_DETAIL).collect();
                sqlx::query(OPEN)
                    .bind(OPEN_CIRCUIT)
                    .bind(agent_subject(agent))
                    .bind(None::<uuid::Uuid>)
                    .bind(agent.as_str())
                    .bind(format!(
                        "agent {agent} failed in several chats and rests for {} s",
                        rounded_up(*rest)
                    ))
                    .bind(why)
                    .bind(None::<uuid::Uuid>)
            }
            Notice::AgentAnswers { agent } => sqlx::query(OVER)
                .bind(OPEN_CIRCUIT)
                .bind(agent_subject(agent)),
            Notice::CircuitClosed { key } => {
                sqlx::query(OVER).bind(OPEN_CIRCUIT).bind(key.to_string())
            }
        };
        query
            .execute(&self.journal)
            .await
            .map(drop)
            .map_err(journal_error)
    }
}

/// No key of a session is like it.
fn agent_subject(agent: &AgentName) -> String {
    format!("agent {agent}")
}

fn rounded_up(rest: Duration) -> u128 {
    rest.as_millis().div_ceil(1000)
}
