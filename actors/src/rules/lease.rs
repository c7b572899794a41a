//! How long a node may trust its own lease.
//!
//! The lease lasts 30 s in the database's time. The node counts from the *start*
//! of its last successful renewal and stops after 22 s, so that its agents are
//! gone (6 s at most) before anybody else may take over.

use std::time::Duration;

use crate::rules::moment::Moment;

/// Between renewals.
pub const RENEW_EVERY: Duration = Duration::from_secs(10);
/// Between renewals while they fail.
pub const RETRY_EVERY: Duration = Duration::from_secs(1);
/// From the start of the last good renewal.
pub const TRUST: Duration = Duration::from_secs(22);

/// What a node believes of its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trust {
    good_from: Moment,
    failing: bool,
}

impl Trust {
    /// A lease won by a call that started at `started`.
    #[must_use]
    pub fn won(started: Moment) -> Self {
        Self {
            good_from: started,
            failing: false,
        }
    }

    /// A renewal that started at `started` succeeded.
    pub fn renewed(&mut self, started: Moment) {
        self.good_from = self.good_from.max(started);
        self.failing = false;
    }

    /// A renewal failed; the lease may still be good.
    pub fn failed(&mut self) {
        self.failing = true;
    }

    /// Agents must be stopped from here on.
    #[must_use]
    pub fn is_over(&self, now: Moment) -> bool {
        now >= self.ends()
    }

    /// When that is.
    #[must_use]
    pub fn ends(&self) -> Moment {
        self.good_from + TRUST
    }

    /// When to try the next renewal.
    #[must_use]
    pub fn next_renewal(&self, now: Moment) -> Moment {
        if self.failing {
            (now + RETRY_EVERY).min(self.ends())
        } else {
            self.good_from + RENEW_EVERY
        }
    }
}
