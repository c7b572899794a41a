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
    /// Memory of its process tree when it was last weighed.
    pub bytes: Option<u64>,
}

/// How much there may be at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Sessions.
    pub sessions: usize,
    /// Bytes of all their process trees; none does not limit.
    pub bytes: Option<u64>,
}

/// A session that was asked to make room and would not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which.
    pub key: SessionKey,
    /// Only because a message waits for it, which may start it again.
    pub needed: bool,
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
    After {
        /// Whom.
        victim: SessionKey,
        /// A message that waits for it does not keep it.
        insist: bool,
        /// There are places, and no memory.
        memory: bool,
    },
    /// The key is on its way out, or its last turn's end is still to be told: decide
    /// again when it is gone, or when that was told.
    Wait,
    /// Everyone is busy or refuses: give the task back.
    Full {
        /// For so long.
        wait: Duration,
        /// There are places, and no memory.
        memory: bool,
    },
}

/// Decides about an assignment for `key`: idle ones make room first, least recently
/// used before others; then those that wait for a human, longest asking before
/// others; those a message waits for when nobody else goes. `refused` were asked for
/// this assignment and would not go; so many assignments `ahead` of it wait for a
/// place too, and take the first ones that become free.
#[must_use]
pub fn admit(
    slots: &BTreeMap<SessionKey, Slot>,
    key: &SessionKey,
    room: Room,
    refused: &[Refused],
    ahead: usize,
    now: Moment,
) -> Admission {
    match slots.get(key) {
        // Claimed as soon as its last turn's end was committed: the word of that end is
        // on its way, and would be taken for the end of this one.
        Some(slot) if slot.leaving || slot.busy => return Admission::Wait,
        Some(_) => return Admission::Reuse,
        None => {}
    }
    let has_place = slots.len() < room.sessions;
    if has_place && !is_heavy(slots, room) {
        return Admission::Spawn;
    }
    let leaving = slots.values().filter(|slot| slot.leaving).count();
    // Who goes makes one place, and an unknown amount of memory.
    let is_coming = match has_place {
        true => leaving > 0,
        false => slots.len() + ahead < room.sessions + leaving,
    };
    if is_coming {
        return Admission::Wait;
    }
    let first = |may: &dyn Fn(&SessionKey) -> bool| {
        let going = slots
            .iter()
            .filter(|(key, slot)| !slot.leaving && slot.may_go(now) && may(key));
        let first = going.min_by_key(|(_, slot)| match slot.asks {
            Some(asks) => (true, asks.since),
            None => (false, slot.used),
        });
        first.map(|(key, _)| key.clone())
    };
    // Its last word counts.
    let word = |key: &SessionKey| refused.iter().rev().find(|refused| refused.key == *key);
    if let Some(victim) = first(&|key| word(key).is_none()) {
        return Admission::After {
            victim,
            insist: false,
            memory: has_place,
        };
    }
    if let Some(victim) = first(&|key| word(key).is_some_and(|word| word.needed)) {
        return Admission::After {
            victim,
            insist: true,
            memory: has_place,
        };
    }
    let stays = |slot: &Slot| slot.asks.is_some_and(|asks| !asks.can_leave);
    let wait = if slots.values().all(stays) {
        PEOPLE_WAIT
    } else {
        FULL_WAIT
    };
    Admission::Full {
        wait,
        memory: has_place,
    }
}

/// Bytes of all process trees; one that was not weighed yet counts as the mean of
/// the others.
#[must_use]
pub fn bytes(slots: &BTreeMap<SessionKey, Slot>) -> u64 {
    let known: Vec<u64> = slots.values().filter_map(|slot| slot.bytes).collect();
    let sum = known
        .iter()
        .fold(0u64, |sum, bytes| sum.saturating_add(*bytes));
    let unknown = (slots.len() - known.len()) as u64;
    let mean = sum.checked_div(known.len() as u64).unwrap_or(0);
    sum.saturating_add(mean.saturating_mul(unknown))
}

/// No further one may start: together they take what they may, and they are not none.
fn is_heavy(slots: &BTreeMap<SessionKey, Slot>, room: Room) -> bool {
    !slots.is_empty() && room.bytes.is_some_and(|cap| bytes(slots) >= cap)
}

/// Who should go because all together take more than they may: the least recently
/// used idle one, and nobody while another is still going.
#[must_use]
pub fn over_memory(slots: &BTreeMap<SessionKey, Slot>, room: Room) -> Option<SessionKey> {
    let over = room.bytes.is_some_and(|cap| bytes(slots) > cap);
    if !over || slots.values().any(|slot| slot.leaving) {
        return None;
    }
    let idle = slots.iter().filter(|(_, slot)| !slot.busy);
    let first = idle.min_by_key(|(_, slot)| slot.used);
    first.map(|(key, _)| key.clone())
}

/// Who should go because there are more than there may be: of the idle ones the least
/// recently used, as many as are too many when those that are going are gone.
#[must_use]
pub fn surplus(slots: &BTreeMap<SessionKey, Slot>, room: Room) -> Vec<SessionKey> {
    let (leaving, staying): (Vec<_>, Vec<_>) = slots.iter().partition(|(_, slot)| slot.leaving);
    let over = (slots.len() - leaving.len()).saturating_sub(room.sessions);
    let mut idle: Vec<_> = staying.into_iter().filter(|(_, slot)| !slot.busy).collect();
    idle.sort_by_key(|(_, slot)| slot.used);
    let going = idle.into_iter().take(over);
    going.map(|(key, _)| key.clone()).collect()
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
