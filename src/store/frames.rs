//! Reading a session's stream.

use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use hearth_actors::event::{Frame, FrameKind};
use hearth_actors::ids::SessionId;
use serde_json::Value;
use sqlx::{FromRow, Row as _};
use uuid::Uuid;

use super::{Store, StoreError};

/// Most frames that one read returns.
pub const FRAMES_PER_READ: i64 = 10_000;
/// A read ends with the frame that takes its data to this size as JSON, 4 MiB:
/// no more of it is held at a time, whoever's frames they are.
pub const BYTES_PER_READ: usize = 4 * 1024 * 1024;

impl Store {
    /// Up to `limit` frames of `session` behind `after`, in order. `limit` is
    /// capped at [`FRAMES_PER_READ`], and what they hold at [`BYTES_PER_READ`].
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn read_frames(
        &self,
        session: SessionId,
        after: i64,
        limit: i64,
    ) -> Result<Vec<Frame>, StoreError> {
        Ok(self.read_page(session, after, limit).await?.frames)
    }

    /// The same, with the size of what was read.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn read_page(
        &self,
        session: SessionId,
        after: i64,
        limit: i64,
    ) -> Result<FramePage, StoreError> {
        let mut rows = sqlx::query(
            "select seq, kind, session_id, chat_id, task_id, message_id, at, data
             from hearth.frames where session_id = $1 and seq > $2 order by seq limit $3",
        )
        .bind(session.0)
        .bind(after)
        .bind(limit.clamp(0, FRAMES_PER_READ))
        .fetch(&self.pool);
        let mut page = FramePage::default();
        while page.bytes < BYTES_PER_READ
            && let Some(row) = rows.try_next().await?
        {
            page.bytes += row.try_get_raw("data")?.as_bytes().map_or(0, <[u8]>::len);
            page.frames.extend(FrameRow::from_row(&row)?.frame());
        }
        Ok(page)
    }

    /// Seq of the session's last frame; 0 if it has none yet, none if there is
    /// no such session.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn last_seq(&self, session: SessionId) -> Result<Option<i64>, StoreError> {
        let last = sqlx::query_scalar(
            "select coalesce(st.last_seq, 0)
             from sessions s left join hearth.streams st on st.session_id = s.id where s.id = $1",
        )
        .bind(session.0)
        .fetch_optional(&self.pool)
        .await?;
        Ok(last)
    }

    /// What is left of the session's stream; none if there is no such session.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn extent(&self, session: SessionId) -> Result<Option<Extent>, StoreError> {
        let extent = sqlx::query_as(
            "select coalesce(st.last_seq, 0) as last_seq, coalesce(st.pruned_to, 0) as pruned_to
             from sessions s left join hearth.streams st on st.session_id = s.id where s.id = $1",
        )
        .bind(session.0)
        .fetch_optional(&self.pool)
        .await?;
        Ok(extent)
    }
}

/// Frames of one read.
#[derive(Debug, Default)]
pub struct FramePage {
    /// In order.
    pub frames: Vec<Frame>,
    /// Bytes of their data, as JSON.
    pub bytes: usize,
}

/// What is left of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromRow)]
pub struct Extent {
    /// Seq of its last frame; 0 when it has none yet.
    pub last_seq: i64,
    /// Frames up to this seq are no longer kept.
    pub pruned_to: i64,
}

/// A stored frame.
#[derive(FromRow)]
pub(super) struct FrameRow {
    seq: i64,
    kind: String,
    session_id: Uuid,
    chat_id: Option<Uuid>,
    task_id: Option<Uuid>,
    message_id: Option<Uuid>,
    at: DateTime<Utc>,
    data: Value,
}

/// `returning` promises no order.
pub(super) fn in_order(mut rows: Vec<FrameRow>) -> Vec<Frame> {
    rows.sort_by_key(|row| (row.session_id, row.seq));
    rows.into_iter().filter_map(FrameRow::frame).collect()
}

impl FrameRow {
    /// Its seq, and when it was committed.
    pub(super) fn place(&self) -> (i64, DateTime<Utc>) {
        (self.seq, self.at)
    }

    /// None for a kind that only a newer Hearth knows: its readers skip it.
    fn frame(self) -> Option<Frame> {
        Some(Frame {
            seq: self.seq,
            kind: FrameKind::parse(&self.kind)?,
            session_id: self.session_id.into(),
            chat_id: self.chat_id.map(Into::into),
            task_id: self.task_id.map(Into::into),
            message_id: self.message_id.map(Into::into),
            at: self.at,
            data: self.data,
        })
    }
}
