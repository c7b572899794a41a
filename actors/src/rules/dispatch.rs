//! When to claim, and how many.
//!
//! Credit is the number of turns that may still be started. A wake-up carries no
//! data: it says "look", the database says what. One claim is in flight at a
//! time; whatever happens meanwhile is remembered as one more look.

use std::time::Duration;

use crate::rules::moment::Moment;

/// Looks without any wake-up happen this often, as a net under lost notifications.
pub const POLL: Duration = Duration::from_secs(5);
/// A parked task that is almost due is looked for no earlier than this, so that
/// clocks that differ by a hair cannot make the looks spin.
const SOONEST: Duration = Duration::from_millis(5);
/// After a failed claim: first wait, doubling up to [`POLL`].
const FIRST_RETRY: Duration = Duration::from_millis(100);

/// The dispatcher's state.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// Below zero: so many turns must end before the next.
    credit: isize,
    claiming: bool,
    look_again: bool,
    /// The last claim left entries in the queue, or nobody knows.
    left: bool,
    paused: bool,
    failures: u32,
    next_look: Moment,
}

impl Dispatch {
    /// With room for `credit` turns; looks at once.
    #[must_use]
    pub fn new(now: Moment, credit: usize) -> Self {
        Self {
            credit: credit.cast_signed(),
            claiming: false,
            look_again: true,
            left: true,
            paused: false,
            failures: 0,
            next_look: now,
        }
    }

    /// Something may be claimable.
    pub fn wake(&mut self) {
        self.look_again = true;
    }

    /// A turn ended, and with it what held back its session. Where the last
    /// claim left nothing, what came since said so by a wake-up.
    pub fn ended(&mut self) {
        self.credit += 1;
        self.look_again |= self.left || self.claiming;
    }

    /// Turns were given back: their tasks wait again.
    pub fn credit(&mut self, turns: usize) {
        self.credit += turns.cast_signed();
        self.look_again = true;
    }

    /// A turn that had lent its credit, because it waited for a human, takes it back.
    pub fn debit(&mut self) {
        self.credit -= 1;
    }

    /// So many more turns, or less, may run at a time.
    pub fn resize(&mut self, by: isize) {
        self.credit = self.credit.saturating_add(by);
        self.look_again |= by > 0;
    }

    /// Claim nothing any more.
    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// The number of tasks to claim now, if any. Counts as begun. When none is
    /// to be claimed although [`Dispatch::next_look`] has come, something else
    /// than time is waited for: the claim under way, or credit.
    pub fn begin(&mut self, now: Moment) -> Option<usize> {
        let is_due = now >= self.next_look;
        let look = is_due || (self.look_again && self.failures == 0);
        if !look || self.claiming || self.paused || self.available() == 0 {
            return None;
        }
        self.claiming = true;
        self.look_again = false;
        Some(self.available())
    }

    /// The claim brought `taken` tasks. `more`: heads were left; `left`: entries
    /// were, of busy sessions perhaps; `next_due`: until a parked task comes due.
    pub fn claimed(
        &mut self,
        now: Moment,
        taken: usize,
        more: bool,
        left: bool,
        next_due: Option<Duration>,
    ) {
        self.left = left;
        self.claiming = false;
        self.failures = 0;
        self.credit -= taken.cast_signed();
        self.look_again |= more;
        self.next_look = now + next_due.map_or(POLL, |due| due.clamp(SOONEST, POLL));
    }

    /// The claim failed.
    pub fn failed(&mut self, now: Moment) {
        self.claiming = false;
        let factor = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1).min(16);
        self.next_look = now + FIRST_RETRY.saturating_mul(factor).min(POLL);
    }

    /// When to call [`Dispatch::begin`] again, if nothing happens before.
    #[must_use]
    pub fn next_look(&self) -> Moment {
        self.next_look
    }

    /// Turns that may still be started.
    #[must_use]
    pub fn available(&self) -> usize {
        self.credit.max(0).cast_unsigned()
    }

    /// A claim is under way.
    #[must_use]
    pub fn is_claiming(&self) -> bool {
        self.claiming
    }

    /// Nothing is claimed any more.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused
    }
}
