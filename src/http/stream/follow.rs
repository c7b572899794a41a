//! One subscriber's way through a stream.
//!
//! ```text
//!            end of storage              lag, gap, heartbeat
//!  Replay ──────────────────► Live ──────────────────────────► Replay
//!     │ task is over            │ task's last frame, service stops
//!     └──────────► Done ◄───────┘
//! ```
//! It subscribes before it reads, so that between the two nothing is missed;
//! what comes twice is told by its seq. A reader whose cursor is older than what
//! storage still has gets a snapshot, the present state of the session, in place
//! of every frame so far, and then what comes. Storage is also read at every
//! heartbeat: a frame that was never published is late, not lost.
//!
//! What one subscriber holds is bounded: a page of storage, encoded, and a place
//! in the backlog that all subscribers of a session share. Nothing is read for a
//! subscriber that does not take what it has.

use std::sync::Arc;
use std::time::Duration;

use hearth_actors::arena::ArenaState;
use hearth_actors::event::{Frame, FrameKind};
use hearth_actors::ids::{ArenaId, SessionId, TaskId};
use hearth_actors::outcome::TaskState;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::super::state::AppState;
use crate::store::rows::{arenas, tasks};
use crate::store::{Snapshot, Store, StoreError};

/// Silence after which a sign of life is sent: well below the 30 to 60 s after
/// which proxies cut a connection.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);
/// Frames in the first read of storage: 8 MiB if each is of a tool and as large
/// as it may be.
const FIRST_PAGE: i64 = 64;
/// Most frames in one read of storage.
const LARGEST_PAGE: i64 = 500;
/// A page above this makes the next one smaller.
const PAGE_BYTES: usize = 1024 * 1024;
/// Live frames are put together up to this size before they are written.
const CHUNK_BYTES: usize = 64 * 1024;

/// What a subscriber is told, in the words of its protocol.
pub(super) trait Wire {
    /// A frame.
    fn frame(&mut self, frame: &Frame);
    /// It fell so many frames behind; they follow from storage.
    fn lagged(&mut self, missed: u64);
    /// Nothing happens, and the stream lives.
    fn heartbeat(&mut self);
    /// Bytes told so far.
    fn bytes(&self) -> usize;
}

/// Why a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The task is over, or the session is gone: nothing comes any more.
    Over,
    /// The service stops.
    Stopping,
    /// Storage cannot be read; the reader comes back with its cursor.
    Storage,
}

/// What of a session's stream is told.
#[derive(Clone, Copy)]
enum Part {
    Whole,
    /// Only frames of this task, and the end of it is the end of the stream.
    Task(TaskId),
    /// Only how the arena stands, until it is over; in the stream of this task,
    /// which is a contestant.
    Arena(ArenaId, TaskId),
}

pub(super) struct Follow {
    state: AppState,
    session: SessionId,
    part: Part,
    /// Seq of the last frame seen.
    cursor: i64,
    /// Frames in the next read of storage.
    page: i64,
    live: Receiver<Arc<Frame>>,
    phase: Phase,
}

enum Phase {
    Replay,
    Live,
    Done(End),
}

impl Follow {
    pub(super) fn session(state: AppState, session: SessionId, cursor: i64) -> Self {
        Self::new(state, session, Part::Whole, cursor)
    }

    pub(super) fn arena(
        state: AppState,
        arena: ArenaId,
        of: (SessionId, TaskId),
        cursor: i64,
    ) -> Self {
        Self::new(state, of.0, Part::Arena(arena, of.1), cursor)
    }

    pub(super) fn task(state: AppState, session: SessionId, task: TaskId, cursor: i64) -> Self {
        Self::new(state, session, Part::Task(task), cursor)
    }

    fn new(state: AppState, session: SessionId, part: Part, cursor: i64) -> Self {
        let live = state.tree.hub().subscribe(session);
        Self {
            state,
            session,
            part,
            cursor,
            page: FIRST_PAGE,
            live,
            phase: Phase::Replay,
        }
    }

    /// Waits until there is something to tell, and tells it. What was told
    /// before the end is told; the end comes with the call after it.
    pub(super) async fn next(&mut self, wire: &mut impl Wire) -> Result<(), End> {
        while wire.bytes() == 0 {
            match self.phase {
                Phase::Done(end) => return Err(end),
                Phase::Replay => {
                    if let Err(error) = self.replay(wire).await {
                        tracing::warn!(session = %self.session, %error, "a stream ends: storage cannot be read");
                        self.phase = Phase::Done(End::Storage);
                    }
                }
                Phase::Live => self.listen(wire).await,
            }
        }
        Ok(())
    }

    /// One page of storage.
    async fn replay(&mut self, wire: &mut impl Wire) -> Result<(), StoreError> {
        let store = &self.state.store;
        // Asked before the read: what is over then has all its frames stored.
        let over = self.part.is_over(store).await?;
        let page = store
            .read_page(self.session, self.cursor, self.page)
            .await?;
        let frames = &page.frames;
        // Asked after the read: what was deleted before it is known then.
        if frames
            .first()
            .is_none_or(|frame| frame.seq > self.cursor + 1)
        {
            match store.extent(self.session).await? {
                None => {
                    self.phase = Phase::Done(End::Over);
                    return Ok(());
                }
                Some(extent) if extent.pruned_to > self.cursor => {
                    if let Some(snapshot) = store.snapshot(self.session, self.part.task()).await? {
                        self.bridge(&snapshot, wire);
                    }
                    if over {
                        self.phase = Phase::Done(End::Over);
                    }
                    return Ok(());
                }
                Some(_) => {}
            }
        }
        for frame in frames {
            self.take(frame, wire);
        }
        // By what was read: of a task's stream most may be left out.
        if page.bytes > PAGE_BYTES {
            self.page = (self.page / 4).max(1);
        } else if page.bytes < PAGE_BYTES / 4 {
            self.page = (self.page * 2).min(LARGEST_PAGE);
        }
        if frames.is_empty() && !matches!(self.phase, Phase::Done(_)) {
            self.phase = if over {
                Phase::Done(End::Over)
            } else {
                Phase::Live
            };
        }
        Ok(())
    }

    /// Where frames behind the cursor are no longer kept, a `snapshot` stands
    /// for all frames up to its own seq.
    fn bridge(&mut self, snapshot: &Snapshot, wire: &mut impl Wire) {
        self.cursor = snapshot.seq;
        let data = serde_json::to_value(snapshot).unwrap_or_default();
        wire.frame(&Frame {
            seq: snapshot.seq,
            kind: FrameKind::Snapshot,
            session_id: self.session,
            chat_id: None,
            task_id: self.part.task(),
            message_id: None,
            at: snapshot.at,
            data,
        });
    }

    /// Waits for frames and puts together those that are there.
    async fn listen(&mut self, wire: &mut impl Wire) {
        let received = tokio::select! {
            biased;
            () = self.state.closing.cancelled() => {
                self.phase = Phase::Done(End::Stopping);
                return;
            }
            received = self.live.recv() => received,
            () = tokio::time::sleep(HEARTBEAT) => {
                self.phase = Phase::Replay;
                wire.heartbeat();
                return;
            }
        };
        match received {
            Ok(frame) => self.follow_up(&frame, wire),
            Err(RecvError::Lagged(missed)) => {
                wire.lagged(missed);
                self.phase = Phase::Replay;
            }
            Err(RecvError::Closed) => self.phase = Phase::Done(End::Stopping),
        }
        while matches!(self.phase, Phase::Live) && wire.bytes() < CHUNK_BYTES {
            match self.live.try_recv() {
                Ok(frame) => self.follow_up(&frame, wire),
                // Lag is told again by the next `recv`.
                Err(_) => break,
            }
        }
    }

    fn follow_up(&mut self, frame: &Frame, wire: &mut impl Wire) {
        if frame.seq > self.cursor + 1 {
            self.phase = Phase::Replay;
        } else if frame.seq > self.cursor {
            self.take(frame, wire);
        }
    }

    fn take(&mut self, frame: &Frame, wire: &mut impl Wire) {
        self.cursor = frame.seq;
        if !self.part.has(frame) {
            return;
        }
        if matches!(self.phase, Phase::Done(_)) {
            return;
        }
        wire.frame(frame);
        if self.part.ends_with(frame) {
            self.phase = Phase::Done(End::Over);
        }
    }
}

impl Part {
    fn task(self) -> Option<TaskId> {
        match self {
            Self::Whole => None,
            Self::Task(task) | Self::Arena(_, task) => Some(task),
        }
    }

    async fn is_over(self, store: &Store) -> Result<bool, StoreError> {
        Ok(match self {
            Self::Whole => false,
            Self::Task(task) => tasks::is_over(store.pool(), task.0).await?,
            Self::Arena(arena, _) => arenas::state(store.pool(), arena.0)
                .await?
                .is_none_or(|state| is_decided(&state)),
        })
    }

    fn has(self, frame: &Frame) -> bool {
        match self {
            Self::Whole => true,
            Self::Task(task) => frame.task_id == Some(task),
            Self::Arena(arena, _) => {
                frame.kind == FrameKind::ArenaUpdated
                    && frame.data["arena_id"].as_str() == Some(&arena.to_string())
            }
        }
    }

    fn ends_with(self, frame: &Frame) -> bool {
        match self {
            Self::Whole => false,
            Self::Task(_) => is_last(frame),
            Self::Arena(..) => frame.data["state"].as_str().is_some_and(is_decided),
        }
    }
}

/// Nothing more is told of an arena: judged, it waits for a choice.
fn is_decided(state: &str) -> bool {
    matches!(
        ArenaState::parse(state),
        Some(ArenaState::Selected | ArenaState::Cancelled | ArenaState::Failed)
    )
}

/// A task's outcome is its last word.
fn is_last(frame: &Frame) -> bool {
    let state = || frame.data.get("state")?.as_str().and_then(TaskState::parse);
    frame.kind == FrameKind::TaskUpdated
        && matches!(
            state(),
            Some(TaskState::Completed | TaskState::Failed | TaskState::Cancelled)
        )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_final_state_ends_a_task() {
        let frame = |kind: FrameKind, state: &str| Frame {
            seq: 7,
            kind,
            session_id: SessionId(uuid::Uuid::nil()),
            chat_id: None,
            task_id: None,
            message_id: None,
            at: chrono::DateTime::UNIX_EPOCH,
            data: json!({ "state": state }),
        };
        for (state, last) in [
            ("completed", true),
            ("failed", true),
            ("cancelled", true),
            ("running", false),
            ("blocked", false),
        ] {
            assert_eq!(is_last(&frame(FrameKind::TaskUpdated, state)), last);
        }
        assert!(!is_last(&frame(FrameKind::Delta, "failed")));
    }
}
