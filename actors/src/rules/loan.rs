//! The credit that turns which wait for humans lend meanwhile.
//!
//! What is claimed with it takes the place of one that can leave, or says that it waits
//! for one. It is one credit, however many ask, and after each claim in vain none for a
//! while that doubles: else a long queue would be claimed and given back task by task.

use std::time::Duration;

use crate::rules::moment::Moment;

/// The longest rest after claims in vain.
pub const LONGEST: Duration = Duration::from_secs(60);

/// Whether the credit is lent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loan {
    asking: usize,
    is_lent: bool,
    /// Claims in vain since the number of those that ask changed.
    vain: u32,
    rests_until: Option<Moment>,
}

/// What becomes of the credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// One more task may be claimed.
    Lend,
    /// One less may.
    TakeBack,
}

impl Loan {
    /// So many turns wait for humans now. Another number begins anew: perhaps one of
    /// them can leave.
    pub fn look(&mut self, now: Moment, asking: usize) -> Option<Change> {
        if std::mem::replace(&mut self.asking, asking) != asking {
            (self.vain, self.rests_until) = (0, None);
        }
        let rests = self.rests_until.is_some_and(|until| until > now);
        let lends = asking > 0 && !rests;
        match (std::mem::replace(&mut self.is_lent, lends), lends) {
            (false, true) => Some(Change::Lend),
            (true, false) => Some(Change::TakeBack),
            _ => None,
        }
    }

    /// A task found no place, and waits so long. Tells how long the credit rests for
    /// that, if it was lent; look again now, and then.
    pub fn in_vain(&mut self, now: Moment, wait: Duration) -> Option<Duration> {
        if !self.is_lent {
            return None;
        }
        let factor = 1u32.checked_shl(self.vain).unwrap_or(u32::MAX);
        let rest = wait.saturating_mul(factor).min(LONGEST);
        self.vain = self.vain.saturating_add(1);
        self.rests_until = Some(now + rest);
        Some(rest)
    }
}
