//! The warm pool: which sessions are kept, which one makes room.
//!
//! The pool only nominates. The session's actor decides at that moment whether
//! it may go, because only it knows. Unknown means keep.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::SessionKey;
use crate::rules::moment::Moment;

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
    /// The key is on its way out: decide again when it is gone.
    Wait,
    /// Everyone is busy or refuses: give the task back for a while.
    Full,
}

/// Decides about an assignment for `key` with at most `max_live` sessions.
/// `refused` are keys that were asked for this assignment and would not go.
#[must_use]
pub fn admit(
    slots: &BTreeMap<SessionKey, Slot>,
    key: &SessionKey,
    max_live: usize,
    refused: &[SessionKey],
) -> Admission {
    match slots.get(key) {
        Some(slot) if slot.leaving => return Admission::Wait,
        Some(_) => return Admission::Reuse,
        None => {}
    }
    if slots.len() < max_live {
        return Admission::Spawn;
    }
    if slots.values().any(|slot| slot.leaving) {
        return Admission::Wait;
    }
    slots
        .iter()
        .filter(|(key, slot)| !slot.busy && !refused.contains(key))
        .min_by_key(|(_, slot)| slot.used)
        .map_or(Admission::Full, |(key, _)| Admission::After(key.clone()))
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
