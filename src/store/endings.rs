//! The ends of turns, many in one commit. An end that comes while no other is on
//! its way is written at once; those that come meanwhile go together. A commit
//! costs about as much as ten ends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hearth_actors::event::{Frame, TurnRef};
use hearth_actors::model::TurnEnd;
use hearth_actors::outcome::Outcome;
use hearth_actors::ports::JournalError;
use sqlx::PgPool;
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use super::Store;
use super::doubt::{PATIENCE, ended_by};
use super::error::{is_in_doubt, is_transient, journal_error};
use super::frames::{FrameRow, in_order};
use super::text::clean;

const FINISH: &str = include_str!("sql/finish.sql");

/// Most ends in one commit: what one costs is then mostly its own rows, and the
/// rest goes in parallel.
const MOST: usize = 32;
/// Commits on their way at once: one for each of a small machine's cores.
const COMMITS: usize = 2;
/// Far more than there are live turns.
const MOST_UNHEARD: usize = 1024;

/// Ends that wait for a commit. There is at most one for each live turn, so the
/// pool's cap on sessions bounds the queue.
#[derive(Clone, Default)]
pub(super) struct Endings(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// On their way.
    commits: usize,
    /// Turns whose end was written, or may have been, without anyone hearing of
    /// it, and the name of the write. A repeat gets the frames.
    unheard: BTreeMap<Uuid, Uuid>,
}

struct Waiting {
    row: EndRow,
    answer: oneshot::Sender<Result<Vec<Frame>, JournalError>>,
}

/// One end as the statement's arrays take it.
pub(super) struct EndRow {
    turn: TurnRef,
    outcome: Outcome,
    detail: Option<String>,
    input_tokens: i64,
    output_tokens: i64,
    cost: f64,
    tree: Option<String>,
    unless_derived: bool,
    /// The name of the write.
    write: Uuid,
}

impl EndRow {
    /// None when the diff has changes or warnings, or something was told in front
    /// of the prompt: those need the long statement.
    pub(super) fn of(turn: &TurnRef, end: &TurnEnd) -> Option<Self> {
        let plain = end.diff.as_ref().is_none_or(|diff| {
            diff.changes.is_empty() && diff.omitted == 0 && diff.warnings.is_empty()
        });
        (plain && end.taken.is_none()).then(|| Self {
            turn: *turn,
            outcome: end.outcome,
            detail: end.detail.as_deref().map(|text| clean(text).into_owned()),
            input_tokens: end.usage.input_tokens,
            output_tokens: end.usage.output_tokens,
            cost: end.usage.cost,
            tree: end.diff.as_ref().map(|diff| diff.tree.clone()),
            unless_derived: end.diff.is_some(),
            write: Uuid::now_v7(),
        })
    }
}

impl Endings {
    pub(super) fn remember(&self, turn: &TurnRef, write: Uuid) {
        let mut state = lock(&self.0);
        if state.unheard.len() >= MOST_UNHEARD {
            state.unheard.pop_first();
        }
        state.unheard.insert(turn.fence.turn.0, write);
    }

    /// The frames of an end that this is a repeat of; none if it is not.
    pub(super) async fn recall(
        &self,
        journal: &PgPool,
        turn: &TurnRef,
    ) -> Result<Vec<Frame>, JournalError> {
        let write = lock(&self.0).unheard.get(&turn.fence.turn.0).copied();
        match write {
            None => Ok(Vec::new()),
            Some(write) => ended_by(journal, turn, write, Instant::now() + PATIENCE)
                .await
                .map_err(journal_error),
        }
    }

    fn forget(&self, turn: &TurnRef) {
        lock(&self.0).unheard.remove(&turn.fence.turn.0);
    }
}

/// An end on its way. Dropped without an answer, it is remembered.
struct Unanswered<'a> {
    endings: &'a Endings,
    turn: TurnRef,
    write: Uuid,
    answered: bool,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.endings.remember(&self.turn, self.write);
        }
    }
}

impl Store {
    /// Ends a turn together with others. No frames: it was not ended here.
    pub(super) async fn end_together(&self, row: EndRow) -> Result<Vec<Frame>, JournalError> {
        let (answer, answered) = oneshot::channel();
        let mut sent = Unanswered {
            endings: &self.endings,
            turn: row.turn,
            write: row.write,
            answered: false,
        };
        let start = {
            let mut state = lock(&self.endings.0);
            state.waiting.push_back(Waiting { row, answer });
            let start = state.commits < COMMITS;
            state.commits += usize::from(start);
            start
        };
        if start {
            // Not in this future: others wait for it too, and it may be dropped.
            tokio::spawn(commit_all(self.endings.clone(), self.journal.clone()));
        }
        let Ok(answer) = answered.await else {
            let stopped = "the commit of ends stopped";
            return Err(JournalError::Unavailable(stopped.into()));
        };
        sent.answered = true;
        if answer.as_ref().is_ok_and(|frames| !frames.is_empty()) {
            self.endings.forget(&sent.turn);
        }
        answer
    }
}

/// Commits what waits until nothing does.
async fn commit_all(endings: Endings, journal: PgPool) {
    let mut commits = Commits {
        endings: &endings,
        given_back: false,
    };
    while let Some(batch) = commits.next() {
        commit(&endings, &journal, batch).await;
    }
}

/// The right to one of the commits: given back in the same step that finds
/// nothing to do, so that no end waits for nobody; and by a panic.
struct Commits<'a> {
    endings: &'a Endings,
    given_back: bool,
}

impl Commits<'_> {
    /// What goes together: each session once, so that a repeat waits for the
    /// commit that it repeats.
    fn next(&mut self) -> Option<Vec<Waiting>> {
        let mut state = lock(&self.endings.0);
        let mut sessions = BTreeSet::new();
        let mut batch = Vec::new();
        let mut left = VecDeque::new();
        for waiting in state.waiting.drain(..) {
            if batch.len() < MOST && sessions.insert(waiting.row.turn.session) {
                batch.push(waiting);
            } else {
                left.push_back(waiting);
            }
        }
        state.waiting = left;
        if batch.is_empty() {
            state.commits -= 1;
            self.given_back = true;
            return None;
        }
        Some(batch)
    }
}

impl Drop for Commits<'_> {
    fn drop(&mut self) {
        if !self.given_back {
            lock(&self.endings.0).commits -= 1;
        }
    }
}

async fn commit(endings: &Endings, journal: &PgPool, batch: Vec<Waiting>) {
    let rows: Vec<&EndRow> = batch.iter().map(|waiting| &waiting.row).collect();
    match end_on_pool(journal, &rows).await {
        Ok(frames) => {
            let mut frames = by_session(frames);
            for Waiting { row, answer } in batch {
                let own = match frames.remove(&row.turn.session.0) {
                    Some(frames) => Ok(frames),
                    None => endings.recall(journal, &row.turn).await,
                };
                // Fails when nobody waits any more: the end stands all the same.
                let _ = answer.send(own);
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            let deadline = Instant::now() + PATIENCE;
            let alone = batch.len() > 1 && !is_transient(&error);
            for Waiting { row, answer } in batch {
                let own = if is_in_doubt(&error) {
                    endings.remember(&row.turn, row.write);
                    match ended_by(journal, &row.turn, row.write, deadline).await {
                        Ok(frames) if !frames.is_empty() => Ok(frames),
                        _ => Err(shared_error(&error)),
                    }
                } else if alone {
                    // One of them is refused: the others go through.
                    let rows = end_on_pool(journal, &[&row]).await;
                    rows.map(in_order).map_err(journal_error)
                } else {
                    Err(shared_error(&error))
                };
                let _ = answer.send(own);
            }
        }
    }
}

async fn end_on_pool(journal: &PgPool, rows: &[&EndRow]) -> sqlx::Result<Vec<FrameRow>> {
    fn column<'a, T>(rows: &[&'a EndRow], read: impl Fn(&'a EndRow) -> T) -> Vec<T> {
        rows.iter().map(|row| read(row)).collect()
    }
    sqlx::query_as(FINISH)
        .bind(column(rows, |row| row.turn.fence.turn.0))
        .bind(column(rows, |row| row.turn.fence.attempt))
        .bind(column(rows, |row| row.turn.fence.node.0))
        .bind(column(rows, |row| row.turn.fence.incarnation))
        .bind(column(rows, |row| row.turn.session.0))
        .bind(column(rows, |row| row.turn.chat.0))
        .bind(column(rows, |row| row.outcome.as_str()))
        .bind(column(rows, |row| row.detail.as_deref()))
        .bind(column(rows, |row| row.outcome.task_state().as_str()))
        .bind(column(rows, |row| row.outcome.message_status()))
        .bind(column(rows, |row| status_after(row.outcome)))
        .bind(column(rows, |row| row.input_tokens))
        .bind(column(rows, |row| row.output_tokens))
        .bind(column(rows, |row| row.cost))
        .bind(column(rows, |row| row.tree.as_deref()))
        .bind(column(rows, |row| row.unless_derived))
        .bind(column(rows, |row| row.write))
        .fetch_all(journal)
        .await
}

/// `agent_status_updated.status` once a turn has ended so.
pub(super) fn status_after(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok | Outcome::Cancelled | Outcome::Interrupted => "idle",
        _ => "error",
    }
}

/// Each session has at most one end in a commit.
fn by_session(rows: Vec<FrameRow>) -> BTreeMap<Uuid, Vec<Frame>> {
    let mut frames: BTreeMap<Uuid, Vec<Frame>> = BTreeMap::new();
    for frame in in_order(rows) {
        frames.entry(frame.session_id.0).or_default().push(frame);
    }
    frames
}

fn shared_error(error: &Arc<sqlx::Error>) -> JournalError {
    if is_transient(error) {
        JournalError::Unavailable(error.clone().into())
    } else {
        JournalError::Refused(error.to_string())
    }
}

/// A panic elsewhere leaves the state whole: every change to it is one step.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
