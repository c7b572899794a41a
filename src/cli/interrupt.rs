//! Ctrl-C, counted.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::{Exit, Failure};

/// Ctrl-C and the terminate signal, from now on.
pub(super) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    /// How many came.
    count: u32,
}

impl Interrupts {
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Failure::plain(Exit::Failed, format!("signals cannot be received: {error}"))
            })
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            count: 0,
        })
    }

    /// Waits for the next one. Cancel-safe.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        self.count += 1;
    }

    /// What comes of `work`; none where the next one came before.
    pub(super) async fn unless<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.next() => None,
            done = work => Some(done),
        }
    }

    /// Whether a person asked twice, and wants no more politeness.
    pub(super) fn came_twice(&self) -> bool {
        self.count > 1
    }
}
