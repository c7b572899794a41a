//! What a session's process had to tell when it ended and no turn could hear it, for
//! the session's next process.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::map::Unsolicited;

/// Most sessions of which something is kept, 32 KiB each at most.
const MAX_SESSIONS: usize = 256;

/// By the sessions' ids. It ends with Hearth.
#[derive(Debug, Default)]
pub(super) struct Shelf(Mutex<BTreeMap<String, Unsolicited>>);

impl Shelf {
    /// For the next process of this session.
    pub(super) fn put(&self, session: &str, left: Unsolicited) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < MAX_SESSIONS || kept.contains_key(session) {
            kept.insert(session.to_owned(), left);
        } else {
            tracing::warn!(
                session,
                ?left,
                "a turn that nobody asked for is told to nobody"
            );
        }
    }

    /// What is left of its last process.
    pub(super) fn take(&self, session: &str) -> Option<Unsolicited> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(session)
    }
}
