//! The warm pool: which sessions are kept, which one makes room.
//!
//! The pool only nominates. The session's actor decides at that moment whether
//! it may go, because only it knows. Unknown means keep.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::SessionKey;
use crate::rules::moment::Moment;

/// A session that waits for a human keeps its agent at least so long: who sits in
/// front of it answers within seconds, and to start it again may take as long.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// A task that finds every session busy waits so long before it is claimed again.
pub const FULL_WAIT: Duration = Duration::from_secs(1);
/// The same where nothing but people can make room.
pub const PEOPLE_WAIT: Duration = Duration::from_secs(5);

/// What the pool knows of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// A turn is assigned to it.
    pub busy: bool,
    /// Asked to go and not gone yet.
    pub leaving: bool,
    /// When it last began or ended a turn, or refused to go.
    pub used: Moment,
    /// Unused this long, it may go.
    pub idle_ttl: Duration,
    /// Its turn waits for a human.
    pub asks: Option<Asks>,
}

/// A turn that waits for a human.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asks {
    /// Since when.
    pub since: Moment,
    /// Its agent may go, and what it asks stays open.
    pub can_leave: bool,
}

impl Slot {
    fn may_go(&self, now: Moment) -> bool {
        match self.asks {
            Some(asks) => asks.can_leave && now.since(asks.since) >= PATIENCE,
            None => !self.busy,
        }
    }
}

/// What to do with an assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The key is up: hand it over.
    Reuse,
    /// There is room: start the key.
    Spawn,
    /// Ask this key to go; decide again when it is gone or refuses.
    After(SessionKey),
    /// The key is on its way out, or its last turn's end is still to be told: decide
    /// again when it is gone, or when that was told.
    Wait,
    /// Everyone is busy or refuses: give the task back for so long.
    Full(Duration),
}

/// Decides about an assignment for `key` with at most `max_live` sessions: idle ones
/// make room first, least recently used before others; then those that wait for a
/// human, longest asking before others. `refused` are keys that were asked for this
/// assignment and would not go.
#[must_use]
pub fn admit(
    slots: &BTreeMap<SessionKey, Slot>,
    key: &SessionKey,
    max_live: usize,
    refused: &[SessionKey],
    now: Moment,
) -> Admission {
    match slots.get(key) {
        // Claimed as soon as its last turn's end was committed: the word of that end is
        // on its way, and would be taken for the end of this one.
        Some(slot) if slot.leaving || slot.busy => return Admission::Wait,
        Some(_) => return Admission::Reuse,
        None => {}
    }
    if slots.len() < max_live {
        return Admission::Spawn;
    }
    if slots.values().any(|slot| slot.leaving) {
        return Admission::Wait;
    }
    let victim = slots
        .iter()
        .filter(|(key, slot)| slot.may_go(now) && !refused.contains(key))
        .min_by_key(|(_, slot)| match slot.asks {
            Some(asks) => (true, asks.since),
            None => (false, slot.used),
        });
    if let Some((victim, _)) = victim {
        return Admission::After(victim.clone());
    }
    let stays = |slot: &Slot| slot.asks.is_some_and(|asks| !asks.can_leave);
    Admission::Full(if slots.values().all(stays) {
        PEOPLE_WAIT
    } else {
        FULL_WAIT
    })
}

/// Keys whose idle time is over, longest unused first.
#[must_use]
pub fn expired(slots: &BTreeMap<SessionKey, Slot>, now: Moment) -> Vec<SessionKey> {
    let mut due: Vec<_> = slots
        .iter()
        .filter(|(_, slot)| !slot.busy && !slot.leaving && now.since(slot.used) >= slot.idle_ttl)
        .collect();
    due.sort_by_key(|(_, slot)| slot.used);
    due.into_iter().map(|(key, _)| key.clone()).collect()
}
