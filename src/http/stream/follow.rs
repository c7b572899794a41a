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
//! storage still has gets the present state of the session first. Storage is also read at every
//! heartbeat: a frame that was never published is late, not lost.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use futures::Stream;
use hearth_actors::event::{Frame, FrameKind};
use hearth_actors::ids::{SessionId, TaskId};
use hearth_actors::outcome::TaskState;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::super::state::AppState;
use crate::store::StoreError;
use crate::store::rows::{messages, tasks};

/// Silence after which a comment shows that the stream lives: well below the
/// 30 to 60 s after which proxies cut a connection.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);
/// Frames in one read of storage.
const PAGE: i64 = 500;
/// Live frames are put together up to this size before they are written.
const CHUNK_BYTES: usize = 64 * 1024;
/// Messages in a snapshot; older ones are in the chats' lists.
const SNAPSHOT_MESSAGES: i64 = 200;

pub(super) struct Follow {
    state: AppState,
    session: SessionId,
    /// Only frames of this task, and the end of it is the end of the stream.
    task: Option<TaskId>,
    /// Seq of the last frame seen.
    cursor: i64,
    /// Nothing was read yet: the cursor may be older than what is kept.
    fresh: bool,
    live: Receiver<Arc<Frame>>,
    phase: Phase,
}

enum Phase {
    Replay,
    Live,
    Done,
}

impl Follow {
    pub(super) fn session(state: AppState, session: SessionId, cursor: i64) -> Self {
        Self::new(state, session, None, cursor)
    }

    pub(super) fn task(state: AppState, session: SessionId, task: TaskId, cursor: i64) -> Self {
        Self::new(state, session, Some(task), cursor)
    }

    fn new(state: AppState, session: SessionId, task: Option<TaskId>, cursor: i64) -> Self {
        let live = state.tree.hub().subscribe(session);
        Self {
            state,
            session,
            task,
            cursor,
            fresh: true,
            live,
            phase: Phase::Replay,
        }
    }

    /// The stream as pieces of its body, each holding whole events.
    pub(super) fn chunks(self) -> impl Stream<Item = Bytes> + Send + 'static {
        futures::stream::unfold(self, |mut follow| async move {
            let chunk = follow.next().await?;
            Some((chunk, follow))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let chunk = match self.phase {
                Phase::Done => return None,
                Phase::Replay => match self.replay().await {
                    Ok(chunk) => chunk,
                    Err(error) => {
                        // The reader comes back with its cursor.
                        tracing::warn!(session = %self.session, %error, "a stream ends: storage cannot be read");
                        return None;
                    }
                },
                Phase::Live => self.listen().await,
            };
            if !chunk.is_empty() {
                return Some(chunk.into());
            }
        }
    }

    /// One page of storage.
    async fn replay(&mut self) -> Result<Vec<u8>, StoreError> {
        // Asked before the read: what is over then has all its frames stored.
        let over = match self.task {
            Some(task) => tasks::is_over(self.state.store.pool(), task.0).await?,
            None => false,
        };
        let mut chunk = Vec::new();
        let first = std::mem::take(&mut self.fresh) && self.task.is_none();
        // Also asked before the read: what it misses comes live.
        let end = if first {
            self.state.store.last_seq(self.session).await?.unwrap_or(0)
        } else {
            self.cursor
        };
        let frames = self
            .state
            .store
            .read_frames(self.session, self.cursor, PAGE)
            .await?;
        if first {
            let kept_after = frames.first().map_or(end, |frame| frame.seq - 1);
            self.bridge(kept_after, &mut chunk).await?;
        }
        for frame in &frames {
            self.take(frame, &mut chunk);
        }
        if frames.is_empty() {
            self.phase = if over { Phase::Done } else { Phase::Live };
        }
        Ok(chunk)
    }

    /// Where frames behind the cursor are no longer kept, a `snapshot` stands
    /// for them.
    async fn bridge(&mut self, kept_after: i64, chunk: &mut Vec<u8>) -> Result<(), StoreError> {
        if kept_after <= self.cursor {
            return Ok(());
        }
        let messages =
            messages::latest(self.state.store.pool(), self.session.0, SNAPSHOT_MESSAGES).await?;
        let snapshot = Frame {
            seq: kept_after,
            kind: FrameKind::Snapshot,
            session_id: self.session,
            chat_id: None,
            task_id: None,
            message_id: None,
            at: chrono::Utc::now(),
            data: serde_json::json!({ "messages": messages }),
        };
        self.take(&snapshot, chunk);
        Ok(())
    }

    /// Waits for frames and puts together those that are there.
    async fn listen(&mut self) -> Vec<u8> {
        let mut chunk = Vec::new();
        let received = tokio::select! {
            biased;
            () = self.state.closing.cancelled() => {
                self.phase = Phase::Done;
                return chunk;
            }
            received = self.live.recv() => received,
            () = tokio::time::sleep(HEARTBEAT) => {
                self.phase = Phase::Replay;
                return b": heartbeat\n\n".to_vec();
            }
        };
        match received {
            Ok(frame) => self.follow_up(&frame, &mut chunk),
            Err(RecvError::Lagged(missed)) => self.lag(missed, &mut chunk),
            Err(RecvError::Closed) => self.phase = Phase::Done,
        }
        while matches!(self.phase, Phase::Live) && chunk.len() < CHUNK_BYTES {
            match self.live.try_recv() {
                Ok(frame) => self.follow_up(&frame, &mut chunk),
                // Lag is told again by the next `recv`.
                Err(_) => break,
            }
        }
        chunk
    }

    fn follow_up(&mut self, frame: &Frame, chunk: &mut Vec<u8>) {
        if frame.seq > self.cursor + 1 {
            self.phase = Phase::Replay;
        } else if frame.seq > self.cursor {
            self.take(frame, chunk);
        }
    }

    fn lag(&mut self, missed: u64, chunk: &mut Vec<u8>) {
        let notice =
            format!("event: lagged\ndata: {{\"type\":\"lagged\",\"missed\":{missed}}}\n\n");
        chunk.extend_from_slice(notice.as_bytes());
        self.phase = Phase::Replay;
    }

    fn take(&mut self, frame: &Frame, chunk: &mut Vec<u8>) {
        self.cursor = frame.seq;
        if self.task.is_some() && frame.task_id != self.task {
            return;
        }
        if matches!(self.phase, Phase::Done) {
            return;
        }
        encode(frame, chunk);
        if self.task.is_some() && is_last(frame) {
            self.phase = Phase::Done;
        }
    }
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

/// JSON text has no line breaks, so that one `data:` line holds it.
fn encode(frame: &Frame, chunk: &mut Vec<u8>) {
    let start = chunk.len();
    let head = format!("event: {}\nid: {}\ndata: ", frame.kind.as_str(), frame.seq);
    chunk.extend_from_slice(head.as_bytes());
    match serde_json::to_writer(&mut *chunk, frame) {
        Ok(()) => chunk.extend_from_slice(b"\n\n"),
        Err(error) => {
            tracing::error!(seq = frame.seq, %error, "a frame's data is no object; it is left out");
            chunk.truncate(start);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn frame(kind: FrameKind, data: serde_json::Value) -> Frame {
        Frame {
            seq: 7,
            kind,
            session_id: SessionId(uuid::Uuid::nil()),
            chat_id: None,
            task_id: None,
            message_id: None,
            at: chrono::DateTime::UNIX_EPOCH,
            data,
        }
    }

    #[test]
    fn a_frame_is_one_event_with_its_seq_as_id() {
        let mut chunk = Vec::new();
        encode(
            &frame(FrameKind::Delta, json!({"content": "a\nb"})),
            &mut chunk,
        );
        insta::assert_snapshot!(String::from_utf8(chunk).expect("text"));
    }

    #[test]
    fn only_a_final_state_ends_a_task() {
        for (state, last) in [
            ("completed", true),
            ("failed", true),
            ("cancelled", true),
            ("running", false),
            ("blocked", false),
        ] {
            assert_eq!(
                is_last(&frame(FrameKind::TaskUpdated, json!({"state": state}))),
                last
            );
        }
        assert!(!is_last(&frame(
            FrameKind::Delta,
            json!({"state": "failed"})
        )));
    }
}
