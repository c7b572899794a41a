//! Restart intensity and back-off of one session key.
//!
//! Counted per key and not per supervisor, so that one bad agent never takes
//! other chats with it (a deviation from OTP, where the supervisor gives up).

use std::collections::VecDeque;
use std::time::Duration;

use crate::rules::moment::Moment;

/// How often a key may crash, and how long it waits after each crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intensity {
    /// Crashes allowed within `period`.
    pub crashes: usize,
    /// The window they are counted in.
    pub period: Duration,
    /// Wait after the first crash in a row; doubles with each.
    pub first: Duration,
    /// Longest wait between crashes within the intensity.
    pub longest: Duration,
    /// Wait once the intensity is exceeded.
    pub cool_down: Duration,
}

impl Default for Intensity {
    /// 3 crashes in 60 s, 0.5 s doubling to 30 s, then 60 s of rest.
    fn default() -> Self {
        Self {
            crashes: 3,
            period: Duration::from_secs(60),
            first: Duration::from_millis(500),
            longest: Duration::from_secs(30),
            cool_down: Duration::from_secs(60),
        }
    }
}

/// What a crash leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Start again no earlier than this.
    BackOff(Moment),
    /// Too many crashes: rest until then, and say so.
    CoolDown(Moment),
}

impl Rest {
    /// When the key may start again.
    #[must_use]
    pub fn until(self) -> Moment {
        match self {
            Self::BackOff(at) | Self::CoolDown(at) => at,
        }
    }
}

/// The crashes of one key.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Within the period, oldest first; at most `crashes + 1`.
    crashes: VecDeque<Moment>,
    /// Since the last turn that ended well.
    in_a_row: u32,
    /// Since the service started.
    total: u64,
    rest: Option<Rest>,
}

impl History {
    /// The key crashed. `jitter` in `0.0..=1.0` spreads the wait over the upper
    /// half of its length.
    pub fn crashed(&mut self, now: Moment, intensity: &Intensity, jitter: f64) -> Rest {
        while self
            .crashes
            .front()
            .is_some_and(|&at| now.since(at) >= intensity.period)
        {
            self.crashes.pop_front();
        }
        self.crashes.push_back(now);
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.total += 1;
        let rest = if self.crashes.len() > intensity.crashes {
            self.crashes.clear();
            Rest::CoolDown(now + intensity.cool_down)
        } else {
            let factor = 1u32.checked_shl(self.in_a_row - 1).unwrap_or(u32::MAX);
            let full = intensity
                .first
                .saturating_mul(factor)
                .min(intensity.longest);
            Rest::BackOff(now + full.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0)))
        };
        self.rest = Some(rest);
        rest
    }

    /// A turn ended well: the next crash is the first in a row again.
    pub fn worked(&mut self) {
        self.in_a_row = 0;
    }

    /// A human wants it to start at once.
    pub fn forgive(&mut self) {
        self.crashes.clear();
        self.in_a_row = 0;
        self.rest = None;
    }

    /// How long the key still rests, if it does.
    #[must_use]
    pub fn resting(&self, now: Moment) -> Option<Rest> {
        self.rest.filter(|rest| rest.until() > now)
    }

    /// Crashes since the service started.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Nothing worth remembering: the key may be forgotten.
    #[must_use]
    pub fn is_clean(&self, now: Moment, intensity: &Intensity) -> bool {
        self.resting(now).is_none()
            && self
                .crashes
                .back()
                .is_none_or(|&at| now.since(at) >= intensity.period)
    }
}
