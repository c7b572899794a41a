//! The hub: live frames to subscribers, after they are stored.
//!
//! It keeps nothing: who lags is told so by the channel and reads what it
//! missed from storage. A slow subscriber therefore costs nobody else anything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;

use crate::event::Frame;
use crate::ids::SessionId;

/// Frames a subscriber may fall behind before it must read from storage. They
/// are held once a session, however many subscribe; one of text has at most
/// 16 KiB, one of a tool 128 KiB.
const BACKLOG: usize = 256;

/// Live frames by session. Cheap to clone; all clones are one hub.
#[derive(Clone, Default)]
pub struct Hub {
    streams: Arc<Mutex<BTreeMap<SessionId, broadcast::Sender<Arc<Frame>>>>>,
}

impl Hub {
    /// Tells subscribers of frames that are already stored.
    pub fn publish(&self, frames: Vec<Frame>) {
        if frames.is_empty() {
            return;
        }
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        for frame in frames {
            let session = frame.session_id;
            if let Some(stream) = streams.get(&session)
                && stream.send(Arc::new(frame)).is_err()
            {
                streams.remove(&session);
            }
        }
    }

    /// Whether anybody subscribes to `session` at this moment.
    #[must_use]
    pub fn is_followed(&self, session: SessionId) -> bool {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams
            .get(&session)
            .is_some_and(|stream| stream.receiver_count() > 0)
    }

    /// Frames from now on. Subscribe first, then read storage up to its end,
    /// then drop what comes here with a seq already read.
    #[must_use]
    pub fn subscribe(&self, session: SessionId) -> broadcast::Receiver<Arc<Frame>> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever comes sweeps up after those who left.
        streams.retain(|_, stream| stream.receiver_count() > 0);
        streams
            .entry(session)
            .or_insert_with(|| broadcast::Sender::new(BACKLOG))
            .subscribe()
    }
}
