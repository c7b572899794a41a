//! How one turn's end is written: among others where its files stayed as they
//! are, with its diff by itself, or the outcome alone where its messages are
//! refused.

use hearth_actors::event::{Frame, TurnRef};
use hearth_actors::handover::Taken;
use hearth_actors::model::{Diff, FileChange, TurnEnd, Usage};
use hearth_actors::ports::JournalError;
use serde_json::{Value, json};
use sqlx::Postgres;
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::QueryAs;
use uuid::Uuid;

use super::Store;
use super::endings::{EndRow, status_after};
use super::error::{is_in_doubt, journal_error};
use super::frames::FrameRow;
use super::journal::{fenced, written};
use super::text::{clean, json};

const FINISH_DIFF: &str = concat!(
    include_str!("sql/finish_diff.sql"),
    include_str!("sql/changes.sql"),
    include_str!("sql/finish_diff_end.sql")
);
const FINISH_BARE: &str = include_str!("sql/finish_bare.sql");

impl Store {
    pub(super) async fn end(
        &self,
        turn: &TurnRef,
        end: &TurnEnd,
    ) -> Result<Vec<Frame>, JournalError> {
        if let Some(row) = EndRow::of(turn, end) {
            let frames = self.end_together(row).await?;
            if !frames.is_empty() {
                return Ok(frames);
            }
            if end.diff.is_none() {
                return Err(JournalError::Fenced);
            }
        }
        self.end_with_diff(turn, end).await
    }

    /// The outcome alone, where messages are refused, such as by a chat that
    /// goes away at this moment (23503).
    pub(super) async fn end_bare(
        &self,
        turn: &TurnRef,
        end: &TurnEnd,
        why: &str,
    ) -> Result<Vec<Frame>, JournalError> {
        tracing::error!(task = %turn.fence.task, why, "the messages of a turn's end were refused");
        let rows: Vec<FrameRow> = fenced(FINISH_BARE, &turn.fence)
            .bind(turn.session.0)
            .bind(end.outcome.as_str())
            .bind(end.detail.as_deref().map(clean))
            .bind(end.outcome.task_state().as_str())
            .bind(status_after(end.outcome))
            .fetch_all(&self.journal)
            .await
            .map_err(journal_error)?;
        written(rows)
    }

    /// Planned each time at first, on the pool for that: how many rows a diff
    /// joins decides how.
    async fn end_with_diff(
        &self,
        turn: &TurnRef,
        end: &TurnEnd,
    ) -> Result<Vec<Frame>, JournalError> {
        let write = Uuid::now_v7();
        let mut connection = self.pool.acquire().await.map_err(journal_error)?;
        let answer = finish_as(&mut connection, turn, end, write).await;
        drop(connection);
        match answer {
            Ok(rows) if rows.is_empty() => {
                let frames = self.endings.recall(&self.journal, turn).await?;
                if frames.is_empty() {
                    return Err(JournalError::Fenced);
                }
                Ok(frames)
            }
            Ok(rows) => Ok(super::frames::in_order(rows)),
            Err(lost) if is_in_doubt(&lost) => {
                self.endings.remember(turn, write);
                match self.endings.recall(&self.journal, turn).await {
                    Ok(frames) if !frames.is_empty() => Ok(frames),
                    _ => Err(journal_error(lost)),
                }
            }
            Err(error) => Err(journal_error(error)),
        }
    }
}

/// Ends a turn on `connection`, which may be in a transaction. No row when the
/// turn has ended already or the fence is old.
pub(super) async fn finish_on(
    connection: &mut PgConnection,
    turn: &TurnRef,
    end: &TurnEnd,
) -> sqlx::Result<Vec<FrameRow>> {
    finish_as(connection, turn, end, Uuid::now_v7()).await
}

async fn finish_as(
    connection: &mut PgConnection,
    turn: &TurnRef,
    end: &TurnEnd,
    write: Uuid,
) -> sqlx::Result<Vec<FrameRow>> {
    let changes = end.diff.as_ref().map_or(&[][..], |diff| &diff.changes);
    let Usage {
        input_tokens,
        output_tokens,
        cost,
    } = end.usage;
    let query = fenced(FINISH_DIFF, &turn.fence)
        .bind(turn.session.0)
        .bind(turn.chat.0)
        .bind(end.outcome.as_str())
        .bind(end.detail.as_deref().map(clean))
        .bind(end.outcome.task_state().as_str())
        .bind(end.outcome.message_status())
        .bind(input_tokens)
        .bind(output_tokens)
        .bind(cost)
        .bind(status_after(end.outcome))
        .bind(end.diff.is_some())
        .bind(end.diff.as_ref().map(|diff| diff.tree.as_str()))
        .bind(end.diff.as_ref().and_then(covered_to));
    bind_changes(query, changes)
        .bind(write)
        .bind(end.diff.as_ref().and_then(notes).map(|notes| json(&notes)))
        .bind(end.taken.map(Taken::as_str))
        .fetch_all(connection)
        .await
}

/// Binds twelve arrays: the columns of what a comparison found.
pub(super) fn bind_changes<'q, Row>(
    query: QueryAs<'q, Postgres, Row, PgArguments>,
    changes: &'q [FileChange],
) -> QueryAs<'q, Postgres, Row, PgArguments> {
    fn column<'a, T>(changes: &'a [FileChange], read: impl Fn(&'a FileChange) -> T) -> Vec<T> {
        changes.iter().map(read).collect()
    }
    let mode = |mode: u32| i32::try_from(mode).unwrap_or(i32::MAX);
    query
        .bind(column(changes, |change| clean(&change.path)))
        .bind(column(changes, |change| {
            change.old_path.as_deref().map(clean)
        }))
        .bind(column(changes, |change| change.operation.as_str()))
        .bind(column(changes, |change| clean(&change.diff)))
        .bind(column(changes, |change| {
            change.before.as_ref().map(|blob| blob.id.as_str())
        }))
        .bind(column(changes, |change| {
            change.before.as_ref().map(|blob| mode(blob.mode))
        }))
        .bind(column(changes, |change| {
            change.after.as_ref().map(|blob| blob.id.as_str())
        }))
        .bind(column(changes, |change| {
            change.after.as_ref().map(|blob| mode(blob.mode))
        }))
        .bind(column(changes, |change| {
            let shown = change.after.as_ref().or(change.before.as_ref());
            shown.map(|blob| i64::try_from(blob.size).unwrap_or(i64::MAX))
        }))
        .bind(column(changes, |change| change.binary))
        .bind(column(changes, |change| change.secret))
        .bind(column(changes, |change| change.truncated))
}

/// What a person must know of a diff beside its rows; none if there is nothing.
pub(super) fn notes(diff: &Diff) -> Option<Value> {
    (diff.omitted > 0 || !diff.warnings.is_empty())
        .then(|| json!({ "omitted": diff.omitted, "warnings": diff.warnings }))
}

/// A diff that left files out says nothing of paths behind its last one: their
/// rows stay. None covers every path.
pub(super) fn covered_to(diff: &Diff) -> Option<&str> {
    (diff.omitted > 0).then(|| {
        diff.changes
            .last()
            .map_or("", |change| change.path.as_str())
    })
}
