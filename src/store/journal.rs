//! Where turns are written down. Every call is one statement, hence one
//! transaction and one round trip; each begins with the fence.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use hearth_actors::event::{Batch, Frame, FrameDraft, TurnRef};
use hearth_actors::handover::{Past, Telling};
use hearth_actors::ids::PromptId;
use hearth_actors::model::{Checkpoint, Continuity, Fence, TurnEnd};
use hearth_actors::ports::{Journal, JournalError, LinkNote, OpenTurn};
use hearth_actors::prompt::{NewPrompt, Notice, Settled};
use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;
use sqlx::{FromRow, Postgres};
use uuid::Uuid;

use super::Store;
use super::error::{is_in_doubt, journal_error};
use super::frames::FrameRow;
use super::text::{clean, clean_value, json};

const OPEN: &str = include_str!("sql/open.sql");
const APPEND: &str = include_str!("sql/append.sql");
/// The three frames of an `open` of the turn $1 (attempt $2, node $3, life $4)
/// that happened.
const OPENED: &str = "\
    select f.seq, f.kind, f.session_id, f.chat_id, f.task_id, f.message_id, f.at, f.data
    from hearth.turns t,
        lateral (
            select s.seq from hearth.frames s
            where s.session_id = t.session_id and s.message_id = t.assistant_message_id
                and s.kind = 'message_started'
            order by s.seq desc limit 1) first
        join hearth.frames f on f.seq between first.seq and first.seq + 2
    where t.id = $1 and t.attempt = $2 and t.node = $3 and t.incarnation = $4
        and t.ended_at is null and t.prompted_at is not null
        and f.session_id = t.session_id";
const CANCELLED_FIRST: &str = "\
    select exists (select 1 from hearth.turns t
        where t.id = $1 and t.attempt = $2 and t.node = $3 and t.incarnation = $4
            and t.ended_at is null and t.prompted_at is null
            and t.cancel_requested_at is not null)";
/// The row keeps its id, so that whoever read it finds the newer commit.
const RECHECKPOINT: &str = "\
    with fence as materialized (
        select t.checkpoint_id from hearth.turns t
        where t.id = $1 and t.attempt = $2 and t.node = $3 and t.incarnation = $4
            and t.ended_at is null and t.prompted_at is not null and t.checkpoint_id = $5
        for no key update),
    checkpoint as (
        update checkpoints c set commit_sha = $6 from fence where c.id = fence.checkpoint_id)
    select true from fence";
const NOTE_LINK: &str = include_str!("sql/note_link.sql");
const NOTE_STATUS: &str = "\
    with link as (
        update agent_sessions set status = $3, last_active_at = clock_timestamp()
        where chat_id = $1 and agent = $2
        returning chat_id, agent)
    update hearth.agent_links l set pid = null
    from link
    where $3 in ('crashed', 'closed') and l.chat_id = link.chat_id and l.agent = link.agent
        and l.pid is not null";

#[async_trait]
impl Journal for Store {
    async fn open(&self, turn: &TurnRef, open: &OpenTurn) -> Result<Vec<Frame>, JournalError> {
        let worktree = &open.worktree;
        let rows: Vec<FrameRow> = fenced(OPEN, &turn.fence)
            .bind(turn.session.0)
            .bind(turn.chat.0)
            .bind(open.user_message.0)
            .bind(clean(&open.input))
            .bind(&worktree.baseline)
            .bind(worktree.id.0)
            .bind(worktree.path.to_string_lossy())
            .bind(&worktree.branch)
            .bind(&worktree.base_commit)
            .bind(open.checkpoint.as_ref().map(|checkpoint| checkpoint.id.0))
            .bind(
                open.checkpoint
                    .as_ref()
                    .map(|checkpoint| &checkpoint.commit),
            )
            .bind(open.alone)
            .fetch_all(&self.journal)
            .await
            .map_err(journal_error)?;
        if !rows.is_empty() {
            return written(rows);
        }
        // A repeat whose first answer was lost, a cancel, or an old fence.
        let rows = fenced(OPENED, &turn.fence)
            .fetch_all(&self.journal)
            .await
            .map_err(journal_error)?;
        if !rows.is_empty() {
            return written(rows);
        }
        let (cancelled,): (bool,) = fenced(CANCELLED_FIRST, &turn.fence)
            .fetch_one(&self.journal)
            .await
            .map_err(journal_error)?;
        Err(if cancelled {
            JournalError::Cancelled
        } else {
            JournalError::Fenced
        })
    }

    async fn past(&self, turn: &TurnRef, whole: bool) -> Result<Past, JournalError> {
        self.read_past(turn, whole).await
    }

    async fn tell(&self, turn: &TurnRef, telling: &Telling) -> Result<(), JournalError> {
        self.write_telling(turn, telling).await
    }

    async fn recheckpoint(
        &self,
        turn: &TurnRef,
        checkpoint: &Checkpoint,
    ) -> Result<(), JournalError> {
        let row: Option<(bool,)> = fenced(RECHECKPOINT, &turn.fence)
            .bind(checkpoint.id.0)
            .bind(&checkpoint.commit)
            .fetch_optional(&self.journal)
            .await
            .map_err(journal_error)?;
        row.map(drop).ok_or(JournalError::Fenced)
    }

    async fn append(&self, turn: &TurnRef, batch: &Batch) -> Result<Vec<Frame>, JournalError> {
        let usage = batch.usage.unwrap_or_default();
        let sequences: Vec<i32> = batch.parts.iter().map(|part| part.sequence).collect();
        let part_kinds: Vec<&str> = batch.parts.iter().map(|part| part.kind.as_str()).collect();
        let payloads: Vec<String> = batch.parts.iter().map(|part| json(&part.payload)).collect();
        let frame_kinds: Vec<&str> = batch
            .frames
            .iter()
            .map(|frame| frame.kind.as_str())
            .collect();
        let data: Vec<String> = batch.frames.iter().map(|frame| json(&frame.data)).collect();
        let write = if batch.id.is_nil() {
            Uuid::now_v7()
        } else {
            batch.id
        };
        if self.is_doubtful(write) {
            // The last try's answer was lost for longer than we looked for it.
            let found = self.find_write(turn, write).await.map_err(journal_error)?;
            self.settle_doubt(write);
            if let Some(place) = found {
                return place.number(turn, &batch.frames);
            }
        }
        let answer: sqlx::Result<Option<Place>> = fenced(APPEND, &turn.fence)
            .bind(turn.session.0)
            .bind(turn.chat.0)
            .bind(turn.message.0)
            .bind(sequences)
            .bind(part_kinds)
            .bind(payloads)
            .bind(frame_kinds)
            .bind(data)
            .bind(i64::try_from(batch.frames.len()).unwrap_or(i64::MAX))
            .bind(usage.input_tokens)
            .bind(usage.output_tokens)
            .bind(usage.cost)
            .bind(batch.first_token)
            .bind(write)
            .fetch_optional(&self.journal)
            .await;
        let place = match answer {
            // "Nothing was written" has to be true, or a retry writes twice.
            Err(lost) if is_in_doubt(&lost) => match self.find_write(turn, write).await {
                Ok(None) => return Err(journal_error(lost)),
                Err(unknown) => {
                    self.remember_doubt(write);
                    Err(unknown)
                }
                found => found,
            },
            answered => answered,
        };
        place
            .map_err(journal_error)?
            .ok_or(JournalError::Fenced)?
            .number(turn, &batch.frames)
    }

    async fn finish(&self, turn: &TurnRef, end: &TurnEnd) -> Result<Vec<Frame>, JournalError> {
        match self.end(turn, end).await {
            // With a diff the caller tries once more without it.
            Err(JournalError::Refused(why)) if end.diff.is_none() => {
                self.end_bare(turn, end, &why).await
            }
            ended => ended,
        }
    }

    async fn ask(&self, turn: &TurnRef, prompt: &NewPrompt) -> Result<Vec<Frame>, JournalError> {
        self.ask_human(turn, prompt).await
    }

    async fn settle(
        &self,
        turn: &TurnRef,
        prompt: PromptId,
        settled: &Settled,
    ) -> Result<Vec<Frame>, JournalError> {
        self.settle_prompt(turn, prompt, settled).await
    }

    async fn withdraw(&self, turn: &TurnRef, reason: &str) -> Result<Vec<Frame>, JournalError> {
        self.withdraw_prompts(turn, reason).await
    }

    async fn notice(&self, notice: &Notice) -> Result<(), JournalError> {
        self.write_notice(notice).await
    }

    async fn decided(
        &self,
        turn: &TurnRef,
        prompt: &NewPrompt,
        settled: &Settled,
    ) -> Result<Vec<Frame>, JournalError> {
        self.write_decision(turn, prompt, settled).await
    }

    async fn detach(
        &self,
        turn: &TurnRef,
        why: &str,
        unheard: &[PromptId],
    ) -> Result<Vec<Frame>, JournalError> {
        self.detach_turn(turn, why, unheard).await
    }

    async fn note_link(&self, note: &LinkNote) -> Result<(), JournalError> {
        let query = match &note.facts {
            None => sqlx::query(NOTE_STATUS)
                .bind(note.key.chat.0)
                .bind(note.key.agent.as_str())
                .bind(note.status.as_str()),
            Some(facts) => sqlx::query(NOTE_LINK)
                .bind(note.key.chat.0)
                .bind(note.key.agent.as_str())
                .bind(note.session.0)
                .bind(note.status.as_str())
                .bind(&facts.backend)
                .bind(clean(&facts.resume.agent_session_id).into_owned())
                .bind(&facts.resume.config_hash)
                .bind(&facts.resume.home_id)
                .bind(facts.pid)
                .bind(continuity(note))
                .bind(matches!(
                    facts.continuity,
                    Continuity::New | Continuity::Fresh { .. }
                )),
        };
        query.execute(&self.journal).await.map_err(journal_error)?;
        Ok(())
    }
}

/// Starts every journal statement: its first four parameters are the fence.
pub(super) fn fenced<'q, Row>(
    sql: &'static str,
    fence: &Fence,
) -> QueryAs<'q, Postgres, Row, PgArguments>
where
    Row: for<'r> FromRow<'r, sqlx::postgres::PgRow>,
{
    sqlx::query_as(sql)
        .bind(fence.turn.0)
        .bind(fence.attempt)
        .bind(fence.node.0)
        .bind(fence.incarnation)
}

/// `null` only if serde fails, which it cannot for this type.
fn continuity(note: &LinkNote) -> String {
    let value = note
        .facts
        .as_ref()
        .and_then(|facts| serde_json::to_value(&facts.continuity).ok())
        .unwrap_or_default();
    json(&value)
}

/// Where a batch's frames stand in the stream.
#[derive(FromRow)]
pub(super) struct Place {
    seq_before: Option<i64>,
    at: Option<DateTime<Utc>>,
}

impl Place {
    fn number(self, turn: &TurnRef, drafts: &[FrameDraft]) -> Result<Vec<Frame>, JournalError> {
        if drafts.is_empty() {
            return Ok(Vec::new());
        }
        let (Some(before), Some(at)) = (self.seq_before, self.at) else {
            return Err(JournalError::Refused(format!(
                "session {} has no stream",
                turn.session
            )));
        };
        Ok(drafts
            .iter()
            .zip(before + 1..)
            .map(|(draft, seq)| Frame {
                seq,
                kind: draft.kind,
                session_id: turn.session,
                chat_id: Some(turn.chat),
                task_id: Some(turn.fence.task),
                message_id: Some(turn.message),
                at,
                data: clean_value(&draft.data),
            })
            .collect())
    }
}

/// Every fenced statement that writes frames writes at least one.
pub(super) fn written(rows: Vec<FrameRow>) -> Result<Vec<Frame>, JournalError> {
    if rows.is_empty() {
        return Err(JournalError::Fenced);
    }
    Ok(super::frames::in_order(rows))
}
