//! Tasks that wait for answers without a turn: the agent that asked is gone, and
//! the last answer lets the task go on. Each call is one transaction behind the
//! session's gate, so that a claim, a cancel and two answers come one by one.

use chrono::{DateTime, Utc};
use hearth_actors::event::{AskOption, Frame, FrameKind, TurnRef};
use hearth_actors::ids::{MessageId, PromptId, TaskId};
use hearth_actors::ports::JournalError;
use hearth_actors::prompt::{Given, Settled};
use hearth_actors::rules::{going_on, permission};
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use sqlx::{Connection, FromRow};
use uuid::Uuid;

use super::error::journal_error;
use super::frames::{FrameRow, in_order};
use super::journal::fenced;
use super::text::{clean, json as text};
use super::{Store, StoreError};

const DETACH: &str = include_str!("sql/detach.sql");

/// Prompts whose time is over that one look settles; the next takes the rest.
const EXPIRED_AT_ONCE: i64 = 100;

const GATE_OF_PROMPT: &str = "\
    select 1 from hearth.gates g join hearth.prompts p on p.session_id = g.session_id
    where p.id = $1 for no key update of g";
const OPEN: &str = "\
    select p.id, p.turn_id, p.task_id, p.session_id, p.chat_id, p.agent, p.options,
        coalesce(p.expires_at <= clock_timestamp(), false) as expired,
        t.assistant_message_id as message_id
    from hearth.prompts p join tasks k on k.id = p.task_id join hearth.turns t on t.id = p.turn_id
    where p.state = 'open' and p.detached_at is not null and k.state = 'blocked'";
const PLACE: &str = "\
    select t.task_id, t.session_id, k.chat_id, t.agent, t.assistant_message_id as message_id
    from hearth.turns t join tasks k on k.id = t.task_id
    where t.id = $1";
const SETTLE: &str = "\
    update hearth.prompts set state = $2, answer = $3::jsonb, answered_by = $4, reason = $5,
        resolved_seq = $6, resolved_at = $7
    where id = $1";
const ANSWERS: &str = "\
    select request, answer, state = 'open' as open from hearth.prompts
    where turn_id = $1 and detached_at is not null order by created_at, id";
/// The frames $6 of the kinds $5, of session $1, chat $2, task $3 and message $4.
const TELL: &str = "\
    with stream as (
        update hearth.streams s set last_seq = s.last_seq + cardinality($5::text[])
        where s.session_id = $1
        returning s.last_seq - cardinality($5::text[]) as base, clock_timestamp() as at)
    insert into hearth.frames (session_id, seq, kind, chat_id, task_id, message_id, data, at)
    select $1, stream.base + d.n, d.kind, $2, $3, $4, d.data::jsonb, stream.at
    from stream cross join unnest($5::text[], $6::text[]) with ordinality d(kind, data, n)
    returning seq, kind, session_id, chat_id, task_id, message_id, at, data";

#[derive(FromRow)]
struct Open {
    id: Uuid,
    turn_id: Uuid,
    #[sqlx(flatten)]
    place: Place,
    options: Json<Vec<AskOption>>,
    expired: bool,
}

/// What the frames about a turn's prompts say of it.
#[derive(FromRow)]
struct Place {
    task_id: Uuid,
    session_id: Uuid,
    chat_id: Option<Uuid>,
    agent: String,
    message_id: Uuid,
}

#[derive(FromRow)]
struct Asked {
    request: Value,
    answer: Option<Json<AskOption>>,
    open: bool,
}

impl Store {
    pub(super) async fn detach_turn(
        &self,
        turn: &TurnRef,
        why: &str,
        unheard: &[PromptId],
    ) -> Result<Vec<Frame>, JournalError> {
        let mut connection = self.journal.acquire().await.map_err(journal_error)?;
        let rows = if unheard.is_empty() {
            detach_on(&mut connection, turn, why, &[]).await
        } else {
            detach_answered(&mut connection, turn, why, unheard).await
        };
        Ok(in_order(rows.map_err(journal_error)?))
    }

    /// Settles a prompt whose agent is gone. The last one of its turn makes the
    /// task wait for its next turn, which is told all the answers. No frames when
    /// it is not such a prompt, or not any more; else they are to be published.
    /// One whose time is over expires instead.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn answer_detached(
        &self,
        prompt: PromptId,
        settled: &Settled,
    ) -> Result<Vec<Frame>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let mut tx = connection.begin().await?;
        sqlx::query(GATE_OF_PROMPT)
            .bind(prompt.0)
            .execute(&mut *tx)
            .await?;
        let open: Option<Open> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "{OPEN} and p.id = $1 for no key update of p, k"
        )))
        .bind(prompt.0)
        .fetch_optional(&mut *tx)
        .await?;
        let Some(open) = open else {
            // At once: a claim passes over a gate that is locked.
            tx.rollback().await?;
            return Ok(Vec::new());
        };
        let settled = if open.expired {
            Settled::expired(permission::refusal(&open.options).cloned())
        } else {
            settled.clone()
        };
        let mut frames = settle(&mut tx, &open, &settled).await?;
        frames.extend(go_on_if_answered(&mut tx, &open.place, open.turn_id).await?);
        tx.commit().await?;
        Ok(in_order(frames))
    }

    /// Refuses what nobody answered in time and whose agent is gone; the frames
    /// are to be published. What is asked by a live turn, its session sees to.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn expire_detached(&self) -> Result<Vec<Frame>, StoreError> {
        let due: Vec<Uuid> = sqlx::query_scalar(
            "select id from hearth.prompts
             where state = 'open' and detached_at is not null and expires_at <= clock_timestamp()
             order by expires_at limit $1",
        )
        .bind(EXPIRED_AT_ONCE)
        .fetch_all(&self.pool)
        .await?;
        let mut frames = Vec::new();
        for prompt in due {
            let settled = Settled::expired(None);
            // One that cannot be settled keeps none of the others open.
            match self.answer_detached(PromptId(prompt), &settled).await {
                Ok(told) => frames.extend(told),
                Err(error) => {
                    tracing::warn!(%prompt, %error, "a prompt that is due was not settled")
                }
            }
        }
        Ok(frames)
    }
}

/// On `connection`, which may be in a transaction.
pub(super) async fn detach_on(
    connection: &mut PgConnection,
    turn: &TurnRef,
    why: &str,
    unheard: &[PromptId],
) -> sqlx::Result<Vec<FrameRow>> {
    let unheard: Vec<Uuid> = unheard.iter().map(|prompt| prompt.0).collect();
    fenced(DETACH, &turn.fence)
        .bind(turn.session.0)
        .bind(turn.chat.0)
        .bind(clean(why))
        .bind(unheard)
        .fetch_all(connection)
        .await
}

/// The same where answers wait for the agent already: perhaps all of them.
async fn detach_answered(
    connection: &mut PgConnection,
    turn: &TurnRef,
    why: &str,
    unheard: &[PromptId],
) -> sqlx::Result<Vec<FrameRow>> {
    let mut tx = connection.begin().await?;
    let mut frames = detach_on(&mut tx, turn, why, unheard).await?;
    if !frames.is_empty() {
        let place: Place = sqlx::query_as(PLACE)
            .bind(turn.fence.turn.0)
            .fetch_one(&mut *tx)
            .await?;
        frames.extend(go_on_if_answered(&mut tx, &place, turn.fence.turn.0).await?);
    }
    tx.commit().await?;
    Ok(frames)
}

/// Behind the last answer the task waits for its next turn.
async fn go_on_if_answered(
    tx: &mut PgConnection,
    place: &Place,
    turn: Uuid,
) -> sqlx::Result<Vec<FrameRow>> {
    let asked: Vec<Asked> = sqlx::query_as(ANSWERS)
        .bind(turn)
        .fetch_all(&mut *tx)
        .await?;
    if asked.iter().any(|asked| asked.open) {
        return Ok(Vec::new());
    }
    go_on(tx, place, asked).await
}

/// Cancels a task that waits for answers without a turn, behind its gate; no
/// frames when it is not one.
pub(super) async fn cancel_detached(
    tx: &mut PgConnection,
    task: TaskId,
) -> sqlx::Result<Vec<FrameRow>> {
    let open: Vec<Open> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "{OPEN} and p.task_id = $1 order by p.created_at, p.id for no key update of p, k"
    )))
    .bind(task.0)
    .fetch_all(&mut *tx)
    .await?;
    let Some(first) = open.first() else {
        return Ok(Vec::new());
    };
    let withdrawn = Settled::cancelled("the task was cancelled");
    let mut frames = Vec::new();
    for prompt in &open {
        frames.extend(settle(tx, prompt, &withdrawn).await?);
    }
    sqlx::query(
        "update tasks set state = 'cancelled', ended_at = clock_timestamp()
         where id = $1 and state = 'blocked'",
    )
    .bind(task.0)
    .execute(&mut *tx)
    .await?;
    let told = [
        (
            FrameKind::TaskUpdated,
            json!({ "state": "cancelled", "outcome": "cancelled" }),
        ),
        (
            FrameKind::AgentStatusUpdated,
            json!({ "agent": first.place.agent, "status": "idle" }),
        ),
    ];
    frames.extend(tell(tx, &first.place, &told).await?);
    Ok(frames)
}

async fn settle(
    tx: &mut PgConnection,
    open: &Open,
    settled: &Settled,
) -> sqlx::Result<Vec<FrameRow>> {
    let by = settled.by.map(|by| by.as_str());
    let data = json!({
        "id": open.id, "state": settled.state, "answer": settled.answer,
        "answered_by": by, "reason": settled.reason,
    });
    let frames = tell(tx, &open.place, &[(FrameKind::PermissionResolved, data)]).await?;
    let place: Option<(i64, DateTime<Utc>)> = frames.first().map(FrameRow::place);
    let answer = settled.answer.as_ref();
    sqlx::query(SETTLE)
        .bind(open.id)
        .bind(settled.state.as_str())
        .bind(answer.map(|answer| text(&json!(answer))))
        .bind(by)
        .bind(settled.reason.as_deref().map(clean))
        .bind(place.map(|(seq, _)| seq))
        .bind(place.map_or_else(Utc::now, |(_, at)| at))
        .execute(tx)
        .await?;
    Ok(frames)
}

/// The task waits for its next turn, at its old place in the queue. What the
/// agent will be told is a message of the chat.
async fn go_on(
    tx: &mut PgConnection,
    place: &Place,
    asked: Vec<Asked>,
) -> sqlx::Result<Vec<FrameRow>> {
    let given: Vec<Given> = asked
        .into_iter()
        .map(|asked| Given {
            request: asked.request,
            answer: asked.answer.map(|Json(answer)| answer),
        })
        .collect();
    let request: String = sqlx::query_scalar("select input from tasks where id = $1")
        .bind(place.task_id)
        .fetch_one(&mut *tx)
        .await?;
    let (message, told) = (MessageId::new(), going_on::message(&request, &given));
    sqlx::query(
        "insert into messages (id, session_id, chat_id, role, content, status)
         select $1, t.session_id, t.chat_id, 'system', $3, 'complete' from tasks t where t.id = $2",
    )
    .bind(message.0)
    .bind(place.task_id)
    .bind(clean(&told))
    .execute(&mut *tx)
    .await?;
    let goes_on = json!({ "text": told, "message": message, "answers": given });
    sqlx::query(
        "update hearth.queue set goes_on = $2::jsonb, not_before = null where task_id = $1",
    )
    .bind(place.task_id)
    .bind(text(&goes_on))
    .execute(&mut *tx)
    .await?;
    // Wakes the dispatcher.
    sqlx::query("update tasks set state = 'pending' where id = $1 and state = 'blocked'")
        .bind(place.task_id)
        .execute(&mut *tx)
        .await?;
    let data = json!({ "state": "pending", "agent": place.agent });
    tell(tx, place, &[(FrameKind::TaskUpdated, data)]).await
}

async fn tell(
    tx: &mut PgConnection,
    place: &Place,
    told: &[(FrameKind, Value)],
) -> sqlx::Result<Vec<FrameRow>> {
    let kinds: Vec<&str> = told.iter().map(|(kind, _)| kind.as_str()).collect();
    let data: Vec<String> = told.iter().map(|(_, data)| text(data)).collect();
    sqlx::query_as(TELL)
        .bind(place.session_id)
        .bind(place.chat_id)
        .bind(place.task_id)
        .bind(place.message_id)
        .bind(kinds)
        .bind(data)
        .fetch_all(tx)
        .await
}

/// What the claim of a task that goes on brings.
pub(super) fn answers(stored: Option<Value>) -> Option<Vec<Given>> {
    let stored = stored.filter(|stored| !stored.is_null())?;
    // Anybody may have written the column: without answers it still goes on.
    Some(serde_json::from_value(stored).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreadable_answer_is_none_and_the_turn_still_goes_on() {
        assert_eq!(answers(None), None);
        assert_eq!(answers(Some(Value::Null)), None);
        assert_eq!(answers(Some(json!({ "x": 1 }))), Some(Vec::new()));
        let given = json!([{ "request": { "tool": {} }, "answer": null }]);
        assert_eq!(answers(Some(given)).map(|given| given.len()), Some(1));
    }
}
