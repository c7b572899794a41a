//! The present state of a session at one seq: what stands for frames that are
//! no longer kept.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use hearth_actors::ids::{SessionId, TaskId};
use serde::Serialize;
use serde_json::Value;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::rows::messages::{Message, Part};
use super::{Store, StoreError};

/// Messages in a snapshot; older ones are in the chats' lists.
const MESSAGES: i64 = 200;
/// Text and parts of all its messages together.
const BYTES: i64 = 2 * 1024 * 1024;
/// Characters of the text of a message that does not fit, which comes without
/// its parts.
const CUT_CHARS: i32 = 16 * 1024;
/// Tasks that are not over, and open questions, in a snapshot.
const TASKS: i64 = 200;

/// The state of a session, or of one task in it, after the frame `seq`.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// Every frame up to this one is in it.
    #[serde(skip)]
    pub seq: i64,
    /// The database's clock.
    #[serde(skip)]
    pub at: DateTime<Utc>,
    /// The latest messages, oldest first, with their parts.
    pub messages: Vec<Message>,
    /// Messages that came without parts and with a cut text, because of their
    /// size: `GET /api/chats/{id}/messages` has them whole.
    pub cut: Vec<Uuid>,
    /// There are older messages than these.
    pub older: bool,
    /// Tasks that are not over; of one task, that task in any state.
    pub tasks: Vec<TaskNow>,
    /// Questions that wait for a human.
    pub permissions: Vec<OpenAsk>,
}

/// Where a task stands.
#[derive(Clone, Debug, PartialEq, FromRow, Serialize)]
pub struct TaskNow {
    /// Its id.
    pub id: Uuid,
    /// Its tab.
    pub chat_id: Option<Uuid>,
    /// Who runs it.
    pub agent: Option<String>,
    /// `pending`, `running`, `blocked`, `completed`, `failed` or `cancelled`.
    pub state: String,
    /// Why it is parked, if it is.
    pub parked_reason: Option<String>,
    /// Until when; null where nobody knows.
    pub parked_until: Option<DateTime<Utc>>,
    /// The latest attempt's, when it has ended.
    pub outcome: Option<String>,
    /// The latest attempt's answer.
    pub message_id: Option<Uuid>,
}

/// A question that waits for a human, as its `permission_requested` frame told
/// it.
#[derive(Clone, Debug, PartialEq, FromRow, Serialize)]
pub struct OpenAsk {
    /// The prompt's id.
    pub id: Uuid,
    /// Who asks.
    pub task_id: Uuid,
    /// The tab.
    pub chat_id: Option<Uuid>,
    /// What is asked for, with the `options` that may be answered.
    pub request: Value,
    /// When it is refused if nobody answers; never if null.
    pub expires_at: Option<DateTime<Utc>>,
}

impl Store {
    /// The state of `session` now, all of it read at one moment, or what concerns
    /// `task` in it; none when there is no such session.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn snapshot(
        &self,
        session: SessionId,
        task: Option<TaskId>,
    ) -> Result<Option<Snapshot>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query("set transaction isolation level repeatable read, read only")
            .execute(&mut *transaction)
            .await?;
        let place: Option<(i64, DateTime<Utc>)> = sqlx::query_as(
            "select st.last_seq, clock_timestamp() from hearth.streams st where st.session_id = $1",
        )
        .bind(session.0)
        .fetch_optional(&mut *transaction)
        .await?;
        let Some((seq, at)) = place else {
            return Ok(None);
        };
        let session = session.0;
        let task = task.map(|task| task.0);
        let sizes = sizes(&mut transaction, session, task).await?;
        let (whole, cut) = choose(&sizes);
        let messages = messages(&mut transaction, &whole, &cut).await?;
        let snapshot = Snapshot {
            seq,
            at,
            older: sizes.len() > messages.len(),
            messages,
            cut,
            tasks: tasks(&mut transaction, session, task).await?,
            permissions: open_asks(&mut transaction, session, task).await?,
        };
        transaction.commit().await?;
        Ok(Some(snapshot))
    }
}

/// Newest first, one more than a snapshot holds.
async fn sizes(
    connection: &mut PgConnection,
    session: Uuid,
    task: Option<Uuid>,
) -> sqlx::Result<Vec<(Uuid, i64)>> {
    sqlx::query_as(
        "select m.id, octet_length(m.content)::bigint + coalesce(
            (select sum(octet_length(p.payload::text)) from message_parts p
                where p.message_id = m.id), 0)::bigint
         from messages m
         where m.session_id = $1 and ($2::uuid is null or m.id in (
            select unnest(array[t.user_message_id, t.assistant_message_id])
            from hearth.turns t where t.task_id = $2
            union select q.user_message_id from hearth.queue q where q.task_id = $2))
         order by m.created_at desc, m.id desc limit $3",
    )
    .bind(session)
    .bind(task)
    .bind(MESSAGES + 1)
    .fetch_all(connection)
    .await
}

/// Which messages come whole, and which cut: the newest ones as long as they
/// fit. The newest of all comes in any case.
fn choose(sizes: &[(Uuid, i64)]) -> (Vec<Uuid>, Vec<Uuid>) {
    let (mut whole, mut cut) = (Vec::new(), Vec::new());
    let mut left = BYTES;
    for (id, size) in sizes.iter().take(MESSAGES as usize) {
        let cut_size = i64::from(CUT_CHARS).min(*size);
        if *size <= left {
            left -= size;
            whole.push(*id);
        } else if cut_size <= left {
            left -= cut_size;
            cut.push(*id);
        } else {
            break;
        }
    }
    (whole, cut)
}

async fn messages(
    connection: &mut PgConnection,
    whole: &[Uuid],
    cut: &[Uuid],
) -> sqlx::Result<Vec<Message>> {
    let mut messages: Vec<Message> = sqlx::query_as(
        "select id, session_id, chat_id, role, status, created_at,
            case when id = any($1) then content else left(content, $3) end as content
         from messages where id = any($1) or id = any($2) order by created_at, id",
    )
    .bind(whole)
    .bind(cut)
    .bind(CUT_CHARS)
    .fetch_all(&mut *connection)
    .await?;
    let rows: Vec<(Uuid, i32, String, Value)> = sqlx::query_as(
        "select message_id, sequence, kind, payload from message_parts
         where message_id = any($1) order by message_id, sequence",
    )
    .bind(whole)
    .fetch_all(connection)
    .await?;
    let mut parts: BTreeMap<Uuid, Vec<Part>> = BTreeMap::new();
    for (message, sequence, kind, payload) in rows {
        let part = Part {
            sequence,
            kind,
            payload,
        };
        parts.entry(message).or_default().push(part);
    }
    for message in &mut messages {
        message.parts = parts.remove(&message.id).unwrap_or_default();
    }
    Ok(messages)
}

async fn tasks(
    connection: &mut PgConnection,
    session: Uuid,
    task: Option<Uuid>,
) -> sqlx::Result<Vec<TaskNow>> {
    sqlx::query_as(
        "select t.id, t.chat_id, t.agent, t.state, p.parked_reason, p.parked_until, latest.outcome,
            latest.assistant_message_id as message_id
         from tasks t left join lateral (
            select u.outcome, u.assistant_message_id from hearth.turns u
            where u.task_id = t.id order by u.attempt desc limit 1
         ) latest on true
         left join lateral (
            select q.parked_reason, q.parked_until from hearth.queue q
            where q.task_id = t.id and q.waiting and (q.not_before > clock_timestamp()
                or q.parked_reason = 'pool_full' and q.not_before is not null)
         ) p on true
         where t.session_id = $1 and case when $2::uuid is null
            then t.state in ('pending', 'running', 'blocked') else t.id = $2 end
         order by t.created_at, t.id limit $3",
    )
    .bind(session)
    .bind(task)
    .bind(TASKS)
    .fetch_all(connection)
    .await
}

/// The oldest first, of live turns and of tasks that wait without one.
async fn open_asks(
    connection: &mut PgConnection,
    session: Uuid,
    task: Option<Uuid>,
) -> sqlx::Result<Vec<OpenAsk>> {
    sqlx::query_as(
        "select id, task_id, chat_id, request || jsonb_build_object('options', options) as request,
            expires_at
         from hearth.prompts
         where session_id = $1 and state = 'open' and ($2::uuid is null or task_id = $2)
         order by created_at, id limit $3",
    )
    .bind(session)
    .bind(task)
    .bind(TASKS)
    .fetch_all(connection)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_messages_come_whole_as_long_as_they_fit() {
        let id = Uuid::from_u128;
        let sizes = [(id(1), 10), (id(2), BYTES), (id(3), 20), (id(4), BYTES)];
        let (whole, cut) = choose(&sizes);
        assert_eq!(whole, [id(1), id(3)]);
        assert_eq!(cut, [id(2), id(4)]);
        let many: Vec<_> = (0..300).map(|number| (id(number), 1)).collect();
        assert_eq!(choose(&many).0.len(), 200);
        let huge: Vec<_> = (0..300).map(|number| (id(number), BYTES + 1)).collect();
        assert_eq!(choose(&huge).1.len(), 128, "cut ones are bounded too");
    }
}
