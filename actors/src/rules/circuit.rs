//! One circuit an agent: when it fails in chat after chat, all its chats rest, and
//! then one of them tries first.
//!
//! ```text
//! Closed ─failed too often, in several keys─► Open ─rested─► Half open ─a turn tries─┐
//!    ▲                                         ▲  └── failed: rests twice as long ◄──┤
//!    └──────────── any turn ends well ─────────┴────────────────── it answers ◄──────┘
//! ```
//!
//! A key that crashes by itself is the business of [`restart`](super::restart): it
//! never opens the circuit alone.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::ids::{SessionKey, TurnId};
use crate::rules::moment::Moment;
use crate::rules::trial::Trial;

/// When a circuit opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// So many failures …
    pub failures: usize,
    /// … in so many keys …
    pub keys: usize,
    /// … within this time, and no turn that ended well between.
    pub period: Duration,
    /// The first rest; doubles with each try that fails.
    pub first: Duration,
    /// The longest.
    pub longest: Duration,
}

impl Default for Limits {
    /// 6 failures in 3 keys within 60 s; 30 s, doubling to 10 min.
    fn default() -> Self {
        Self {
            failures: 6,
            keys: 3,
            period: Duration::from_secs(60),
            first: Duration::from_secs(30),
            longest: Duration::from_secs(600),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Closed,
    Open(Moment),
    HalfOpen(Trial),
}

/// The circuit of one agent.
#[derive(Clone, Debug, Default)]
pub struct Circuit {
    phase: Phase,
    /// Within the period, oldest first; of each key at most as many as open it.
    failures: VecDeque<(Moment, SessionKey)>,
    /// Rests in a row.
    rests: u32,
}

/// Whether a turn may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It may; if the circuit is half open, it is the one that tries.
    Go,
    /// Not before so long.
    Rests(Duration),
    /// Another one tries: look again when that is over.
    Tried,
}

/// What people call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// All is well.
    Closed,
    /// It rests for so long.
    Open(Duration),
    /// It has rested; one turn tries.
    HalfOpen,
}

impl Circuit {
    /// The agent failed in `key`. Tells for how long all its chats rest, when that
    /// begins now.
    pub fn failed(&mut self, now: Moment, key: &SessionKey, limits: &Limits) -> Option<Duration> {
        match self.phase {
            Phase::Open(_) => None,
            Phase::HalfOpen(_) => Some(self.open(now, limits)),
            Phase::Closed => {
                let old = |(at, _): &(Moment, SessionKey)| now.since(*at) >= limits.period;
                while self.failures.front().is_some_and(old) {
                    self.failures.pop_front();
                }
                self.failures.push_back((now, key.clone()));
                let keys: BTreeSet<_> = self.failures.iter().map(|(_, key)| key).collect();
                if self.failures.len() >= limits.failures && keys.len() >= limits.keys {
                    return Some(self.open(now, limits));
                }
                // No more than these of one key ever count.
                let own = |(_, other): &(Moment, SessionKey)| other == key;
                if self.failures.iter().filter(|failure| own(failure)).count() > limits.failures
                    && let Some(oldest) = self.failures.iter().position(own)
                {
                    self.failures.remove(oldest);
                }
                None
            }
        }
    }

    fn open(&mut self, now: Moment, limits: &Limits) -> Duration {
        let factor = 1u32.checked_shl(self.rests).unwrap_or(u32::MAX);
        let rest = limits.first.saturating_mul(factor).min(limits.longest);
        self.rests = self.rests.saturating_add(1);
        self.failures.clear();
        self.phase = Phase::Open(now + rest);
        rest
    }

    /// A turn of the agent ended well, or a person wants it to be tried. True when
    /// it rested.
    pub fn worked(&mut self) -> bool {
        let rested = self.phase != Phase::Closed;
        *self = Self::default();
        rested
    }

    /// A turn that needs the agent wants to begin.
    pub fn enter(&mut self, now: Moment, turn: TurnId) -> Entry {
        if let Phase::Open(until) = self.phase {
            if until > now {
                return Entry::Rests(until.since(now));
            }
            self.phase = Phase::HalfOpen(Trial::default());
        }
        match &mut self.phase {
            Phase::HalfOpen(trial) => match trial.enter(turn) {
                true => Entry::Go,
                false => Entry::Tried,
            },
            _ => Entry::Go,
        }
    }

    /// A turn is over or was given back. `answered`: the agent was there. True when
    /// that closed the circuit.
    pub fn left(&mut self, turn: TurnId, answered: bool) -> bool {
        match &mut self.phase {
            Phase::HalfOpen(trial) if trial.is_by(turn) => {
                *trial = Trial::default();
                answered && self.worked()
            }
            _ => false,
        }
    }

    /// For people.
    #[must_use]
    pub fn shown(&self, now: Moment) -> Shown {
        match self.phase {
            Phase::Closed => Shown::Closed,
            Phase::Open(until) if until > now => Shown::Open(until.since(now)),
            Phase::Open(_) | Phase::HalfOpen(_) => Shown::HalfOpen,
        }
    }

    /// Nothing worth remembering.
    #[must_use]
    pub fn is_clean(&self, now: Moment, limits: &Limits) -> bool {
        let last = self.failures.back();
        self.phase == Phase::Closed && last.is_none_or(|(at, _)| now.since(*at) >= limits.period)
    }
}
