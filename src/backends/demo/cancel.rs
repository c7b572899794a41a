//! The end of a turn as a thread can wait for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Whether a turn was asked to end.
#[derive(Debug, Default)]
pub(super) struct Cancel {
    asked: Mutex<bool>,
    bell: Condvar,
    /// The same word, readable in a tight loop.
    fast: AtomicBool,
}

impl Cancel {
    /// Asks the turn to end.
    pub(super) fn ask(&self) {
        self.fast.store(true, Ordering::Release);
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.bell.notify_all();
    }

    /// Whether it was asked.
    pub(super) fn asked(&self) -> bool {
        self.fast.load(Ordering::Acquire)
    }

    /// Waits that long, or until asked.
    pub(super) fn wait(&self, length: Duration) {
        let deadline = Instant::now() + length;
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        while !*asked {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return;
            };
            asked = self
                .bell
                .wait_timeout(asked, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}
