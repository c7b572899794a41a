//! Prompts to humans, as their turn's owner writes them. Each call is one
//! statement; the row and its frame are one commit.

use hearth_actors::event::{Frame, TurnRef};
use hearth_actors::ids::PromptId;
use hearth_actors::ports::JournalError;
use hearth_actors::prompt::{NewPrompt, Settled};
use sqlx::Executor;
use sqlx::postgres::Postgres;

use super::Store;
use super::error::journal_error;
use super::frames::{FrameRow, in_order};
use super::journal::{fenced, written};
use super::text::{clean, json};

const ASK: &str = include_str!("sql/ask.sql");
const SETTLE: &str = include_str!("sql/settle.sql");
const DECIDED: &str = include_str!("sql/decided.sql");
/// The frame by which the turn $1 (attempt $2, node $3, life $4) told of $5.
const TOLD: &str = "\
    select f.seq, f.kind, f.session_id, f.chat_id, f.task_id, f.message_id, f.at, f.data
    from hearth.turns t join hearth.prompts p on p.turn_id = t.id
        join hearth.frames f on f.session_id = p.session_id and f.seq = p.resolved_seq
    where t.id = $1 and t.attempt = $2 and t.node = $3 and t.incarnation = $4
        and t.ended_at is null and p.id = $5";
/// The frames by which the turn $1 (attempt $2, node $3, life $4) asked $5.
const ASKED: &str = "\
    select f.seq, f.kind, f.session_id, f.chat_id, f.task_id, f.message_id, f.at, f.data
    from hearth.turns t join hearth.prompts p on p.turn_id = t.id
        join hearth.frames f on f.session_id = p.session_id
            and f.seq between p.asked_seq and p.asked_seq + 1
    where t.id = $1 and t.attempt = $2 and t.node = $3 and t.incarnation = $4
        and t.ended_at is null and p.id = $5";
/// The frames by which it settled $5 exactly so: as $6 with the answer $7.
const SETTLED: &str = "\
    select f.seq, f.kind, f.session_id, f.chat_id, f.task_id, f.message_id, f.at, f.data
    from hearth.turns t join hearth.prompts p on p.turn_id = t.id
        join hearth.frames f on f.session_id = p.session_id
            and f.seq between p.resolved_seq and p.resolved_seq + 1
    where t.id = $1 and t.attempt = $2 and t.node = $3 and t.incarnation = $4
        and t.ended_at is null and p.id = $5
        and p.state = $6 and p.answer is not distinct from $7::jsonb";

impl Store {
    pub(super) async fn ask_human(
        &self,
        turn: &TurnRef,
        prompt: &NewPrompt,
    ) -> Result<Vec<Frame>, JournalError> {
        let options = serde_json::to_value(&prompt.options).unwrap_or_default();
        let millis = prompt
            .expires_in
            .map(|after| i64::try_from(after.as_millis()).unwrap_or(i64::MAX));
        let asked = fenced(ASK, &turn.fence)
            .bind(turn.session.0)
            .bind(turn.chat.0)
            .bind(turn.message.0)
            .bind(prompt.id.0)
            .bind(json(&prompt.request))
            .bind(json(&options))
            .bind(millis)
            .fetch_all(&self.journal)
            .await;
        match asked {
            Ok(rows) => written(rows),
            // An earlier try was committed, and its answer lost.
            Err(error) if is_repeat(&error) => {
                let rows = fenced(ASKED, &turn.fence)
                    .bind(prompt.id.0)
                    .fetch_all(&self.journal)
                    .await;
                written(rows.map_err(journal_error)?)
            }
            Err(error) => Err(journal_error(error)),
        }
    }

    pub(super) async fn settle_prompt(
        &self,
        turn: &TurnRef,
        prompt: PromptId,
        settled: &Settled,
    ) -> Result<Vec<Frame>, JournalError> {
        let rows = settle_on(&self.journal, turn, Some(prompt), settled).await;
        let rows = rows.map_err(journal_error)?;
        if !rows.is_empty() {
            return written(rows);
        }
        let rows = fenced(SETTLED, &turn.fence)
            .bind(prompt.0)
            .bind(settled.state.as_str())
            .bind(answer_of(settled))
            .fetch_all(&self.journal)
            .await;
        written(rows.map_err(journal_error)?)
    }

    pub(super) async fn write_decision(
        &self,
        turn: &TurnRef,
        prompt: &NewPrompt,
        settled: &Settled,
    ) -> Result<Vec<Frame>, JournalError> {
        let options = serde_json::to_value(&prompt.options).unwrap_or_default();
        let written_down = fenced(DECIDED, &turn.fence)
            .bind(turn.session.0)
            .bind(turn.chat.0)
            .bind(turn.message.0)
            .bind(prompt.id.0)
            .bind(json(&prompt.request))
            .bind(json(&options))
            .bind(settled.state.as_str())
            .bind(answer_of(settled))
            .bind(settled.by.map(|by| by.as_str()))
            .bind(settled.reason.as_deref().map(clean))
            .fetch_all(&self.journal)
            .await;
        match written_down {
            Err(error) if is_repeat(&error) => {
                let rows = fenced(TOLD, &turn.fence)
                    .bind(prompt.id.0)
                    .fetch_all(&self.journal)
                    .await;
                written(rows.map_err(journal_error)?)
            }
            rows => written(rows.map_err(journal_error)?),
        }
    }

    pub(super) async fn withdraw_prompts(
        &self,
        turn: &TurnRef,
        reason: &str,
    ) -> Result<Vec<Frame>, JournalError> {
        let settled = Settled::cancelled(reason);
        let rows = settle_on(&self.journal, turn, None, &settled).await;
        Ok(in_order(rows.map_err(journal_error)?))
    }
}

/// Settles one open prompt of the turn, or all, on this connection.
pub(super) async fn settle_on<'c>(
    on: impl Executor<'c, Database = Postgres>,
    turn: &TurnRef,
    prompt: Option<PromptId>,
    settled: &Settled,
) -> sqlx::Result<Vec<FrameRow>> {
    fenced(SETTLE, &turn.fence)
        .bind(turn.session.0)
        .bind(turn.chat.0)
        .bind(turn.message.0)
        .bind(prompt.map(|prompt| prompt.0))
        .bind(settled.state.as_str())
        .bind(answer_of(settled))
        .bind(settled.by.map(|by| by.as_str()))
        .bind(settled.reason.as_deref().map(clean))
        .fetch_all(on)
        .await
}

fn answer_of(settled: &Settled) -> Option<String> {
    let option = settled.answer.as_ref()?;
    Some(json(&serde_json::to_value(option).unwrap_or_default()))
}

fn is_repeat(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.constraint() == Some("prompts_pkey"))
}
