//! Who is kept, who makes room.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hearth_actors::ids::{ChatId, SessionKey};
use hearth_actors::rules::moment::Moment;
use hearth_actors::rules::pool::{
    Admission, Asks, FULL_WAIT, PATIENCE, PEOPLE_WAIT, Refused, Room, Slot, admit, bytes, expired,
    over_memory, surplus,
};
use proptest::prelude::*;
use uuid::Uuid;

use super::{at, millis, secs};

fn key(n: u8) -> SessionKey {
    SessionKey {
        chat: ChatId(Uuid::from_u128(n.into())),
        agent: "demo".into(),
    }
}

fn idle(used: u64) -> Slot {
    Slot {
        busy: false,
        leaving: false,
        used: at(used),
        idle_ttl: secs(60),
        asks: None,
        bytes: None,
    }
}

fn room(sessions: usize) -> Room {
    Room {
        sessions,
        bytes: None,
    }
}

fn after(victim: SessionKey, insist: bool) -> Admission {
    Admission::After {
        victim,
        insist,
        memory: false,
    }
}

fn turned_away(wait: Duration) -> Admission {
    Admission::Full {
        wait,
        memory: false,
    }
}

/// Its turn has waited for a human since then.
fn asking(since: u64, can_leave: bool) -> Slot {
    let asks = Asks {
        since: at(since),
        can_leave,
    };
    Slot {
        busy: true,
        asks: Some(asks),
        ..idle(0)
    }
}

fn slots(of: &[(u8, Slot)]) -> BTreeMap<SessionKey, Slot> {
    of.iter().map(|(n, slot)| (key(*n), *slot)).collect()
}

fn slot() -> impl Strategy<Value = Slot> {
    (
        any::<bool>(),
        prop::bool::weighted(0.2),
        0u64..100_000,
        0u64..100_000,
        prop::option::of((0u64..10_000, any::<bool>())),
        prop::option::of(0u64..1_000),
    )
        .prop_map(|(busy, leaving, used, ttl, asks, bytes)| Slot {
            bytes,
            busy,
            leaving,
            used: at(used),
            idle_ttl: millis(ttl),
            // Only turns ask.
            asks: asks.filter(|_| busy).map(|(since, can_leave)| Asks {
                since: at(since),
                can_leave,
            }),
        })
}

/// The model: who may make room, and who before whom.
fn rank(slot: &Slot, now: Moment) -> Option<(bool, Moment)> {
    match slot.asks {
        _ if slot.leaving => None,
        None => (!slot.busy).then_some((false, slot.used)),
        Some(asks) if !asks.can_leave || now.since(asks.since) < PATIENCE => None,
        Some(asks) => Some((true, asks.since)),
    }
}

proptest! {
    #[test]
    fn every_answer_has_its_reason(
        slots in prop::collection::btree_map((0u8..12).prop_map(key), slot(), 0..10),
        wanted in (0u8..12).prop_map(key),
        max in 0usize..10,
        cap in prop::option::of(0u64..6_000),
        refused in prop::collection::vec(((0u8..12).prop_map(key), any::<bool>()), 0..6),
        ahead in 0usize..4,
        now in 0u64..20_000,
    ) {
        let now = at(now);
        // The model: 0 goes at once, 1 when one insists, none stays.
        let word = |key: &SessionKey| refused.iter().rev().find(|(of, _)| of == key);
        let rank = |key: &SessionKey, slot: &Slot| {
            let insisted = match word(key) {
                None => 0,
                Some((_, true)) => 1,
                Some((_, false)) => return None,
            };
            rank(slot, now).map(|rank| (insisted, rank))
        };
        let refused: Vec<_> = refused
            .iter()
            .map(|(key, needed)| Refused { key: key.clone(), needed: *needed })
            .collect();
        // A place comes free that nobody ahead takes, or some memory does.
        let leaving = slots.values().filter(|slot| slot.leaving).count();
        let left = slots.len() - leaving + ahead;
        let comes = if slots.len() < max { leaving > 0 } else { left < max };
        let heavy = !slots.is_empty() && cap.is_some_and(|cap| bytes(&slots) >= cap);
        let is_full = slots.len() >= max || heavy;
        let given = Room { sessions: max, bytes: cap };
        match admit(&slots, &wanted, given, &refused, ahead, now) {
            Admission::Reuse => prop_assert!(!slots[&wanted].leaving && !slots[&wanted].busy),
            Admission::Spawn => {
                prop_assert!(!slots.contains_key(&wanted));
                prop_assert!(!is_full, "more than may live");
            }
            Admission::Wait => {
                let own = slots.get(&wanted);
                prop_assert!(own.map_or(is_full && comes, |own| own.busy || own.leaving));
            }
            Admission::After { victim, insist, memory } => {
                prop_assert!(!slots.contains_key(&wanted) && is_full && !comes);
                prop_assert_eq!(memory, slots.len() < max);
                let first = rank(&victim, &slots[&victim]);
                prop_assert_eq!(first.map(|(insisted, _)| insisted == 1), Some(insist));
                for (key, slot) in &slots {
                    prop_assert!(rank(key, slot).is_none_or(|rank| Some(rank) >= first));
                }
            }
            Admission::Full { wait, memory } => {
                prop_assert_eq!(memory, slots.len() < max);
                prop_assert!(!slots.contains_key(&wanted) && is_full && !comes);
                prop_assert!(slots.iter().all(|(key, slot)| rank(key, slot).is_none()));
                prop_assert!(wait == FULL_WAIT || wait == PEOPLE_WAIT);
            }
        }
    }

    #[test]
    fn memory_makes_the_least_recently_used_idle_one_go_and_one_at_a_time(
        slots in prop::collection::btree_map((0u8..12).prop_map(key), slot(), 0..10),
        cap in 0u64..6_000,
    ) {
        let given = Room { sessions: 10, bytes: Some(cap) };
        let known: Vec<u64> = slots.values().filter_map(|slot| slot.bytes).collect();
        let sum: u64 = known.iter().sum();
        let mean = if known.is_empty() { 0 } else { sum / known.len() as u64 };
        prop_assert_eq!(bytes(&slots), sum + mean * (slots.len() - known.len()) as u64);
        let leaving = slots.values().any(|slot| slot.leaving);
        match over_memory(&slots, given) {
            None => {
                let idle = slots.values().any(|slot| !slot.busy);
                prop_assert!(bytes(&slots) <= cap || leaving || !idle);
            }
            Some(victim) => {
                prop_assert!(bytes(&slots) > cap && !leaving && !slots[&victim].busy);
                let idle = slots.values().filter(|slot| !slot.busy);
                prop_assert!(idle.min_by_key(|slot| slot.used).unwrap().used == slots[&victim].used);
            }
        }
        prop_assert_eq!(over_memory(&slots, room(10)), None);
    }

    #[test]
    fn as_many_idle_ones_go_as_are_too_many_and_no_more(
        slots in prop::collection::btree_map((0u8..12).prop_map(key), slot(), 0..10),
        max in 0usize..10,
    ) {
        let going = surplus(&slots, room(max));
        let idle: BTreeSet<_> = slots
            .iter()
            .filter(|(_, slot)| !slot.busy && !slot.leaving)
            .map(|(key, _)| key.clone())
            .collect();
        let staying = slots.values().filter(|slot| !slot.leaving).count();
        prop_assert_eq!(going.len(), staying.saturating_sub(max).min(idle.len()));
        let named: BTreeSet<_> = going.iter().cloned().collect();
        prop_assert!(named.len() == going.len() && named.is_subset(&idle));
        let last = going.iter().map(|key| slots[key].used).max();
        let kept = idle.difference(&named).map(|key| slots[key].used).min();
        prop_assert!(last.zip(kept).is_none_or(|(last, kept)| last <= kept));
    }

    #[test]
    fn exactly_the_unused_expire_longest_unused_first(
        slots in prop::collection::btree_map((0u8..12).prop_map(key), slot(), 0..10),
        now in 0u64..200_000,
    ) {
        let now = at(now);
        let due = expired(&slots, now);
        prop_assert!(due.windows(2).all(|two| slots[&two[0]].used <= slots[&two[1]].used));
        for (key, slot) in &slots {
            let unused = !slot.busy && !slot.leaving && now.since(slot.used) >= slot.idle_ttl;
            prop_assert_eq!(due.contains(key), unused);
        }
    }
}

#[test]
fn the_least_recently_used_idle_one_is_asked_then_the_next() {
    let mut busy = idle(0);
    busy.busy = true;
    let slots = slots(&[(1, busy), (2, idle(20)), (3, idle(10))]);
    let no = |n, needed| Refused {
        key: key(n),
        needed,
    };
    let ask = |refused: &[Refused]| admit(&slots, &key(9), room(3), refused, 0, at(30));
    assert_eq!(ask(&[]), after(key(3), false));
    assert_eq!(ask(&[no(3, true)]), after(key(2), false));
    assert_eq!(ask(&[no(3, false), no(2, false)]), turned_away(FULL_WAIT));
    // One whose message is younger than the one that needs its place, and nobody else.
    assert_eq!(ask(&[no(3, true), no(2, false)]), after(key(3), true));
    let last = [no(3, true), no(2, false), no(3, false)];
    assert_eq!(ask(&last), turned_away(FULL_WAIT));
}

#[test]
fn as_many_are_asked_to_go_as_wait_for_a_place() {
    let leaving = Slot {
        leaving: true,
        ..idle(0)
    };
    let slots = slots(&[(1, leaving), (2, idle(20)), (3, idle(10))]);
    let wants = |wanted, ahead| admit(&slots, &key(wanted), room(3), &[], ahead, at(30));
    assert_eq!(wants(9, 0), Admission::Wait, "for the one that goes");
    assert_eq!(wants(9, 1), after(key(3), false), "that place is taken");
    assert_eq!(wants(1, 0), Admission::Wait, "it comes back later");
    assert_eq!(wants(2, 1), Admission::Reuse);
    // There are fewer places since: one that goes makes none yet.
    let fewer = admit(&slots, &key(9), room(2), &[], 0, at(30));
    assert_eq!(fewer, after(key(3), false));
}

#[test]
fn one_at_a_time_is_asked_to_go_for_memory() {
    let of = |leaving| {
        let heavy = |used| Slot {
            bytes: Some(100),
            ..idle(used)
        };
        let first = Slot {
            leaving,
            ..heavy(0)
        };
        let given = Room {
            sessions: 9,
            bytes: Some(200),
        };
        admit(
            &slots(&[(1, first), (2, heavy(1))]),
            &key(9),
            given,
            &[],
            3,
            at(9),
        )
    };
    let first = Admission::After {
        victim: key(1),
        insist: false,
        memory: true,
    };
    assert_eq!((of(false), of(true)), (first, Admission::Wait));
}

#[test]
fn a_turn_waits_until_the_end_of_the_last_one_was_told() {
    let mut busy = idle(0);
    busy.busy = true;
    let early = admit(&slots(&[(1, busy)]), &key(1), room(9), &[], 0, at(0));
    assert_eq!(early, Admission::Wait);
    let told = admit(&slots(&[(1, idle(0))]), &key(1), room(9), &[], 0, at(0));
    assert_eq!(told, Admission::Reuse);
}

#[test]
fn who_waits_for_a_human_makes_room_after_a_while_and_after_all_others() {
    let (first, second) = (asking(2_000, true), asking(3_000, true));
    let admitted =
        |of: &[(u8, Slot)], now| admit(&slots(of), &key(9), room(of.len()), &[], 0, at(now));
    let patience = u64::try_from(PATIENCE.as_millis()).expect("small");
    let two = [(1, second), (2, first)];
    assert_eq!(admitted(&two, 2_000 + patience - 1), turned_away(FULL_WAIT));
    assert_eq!(admitted(&two, 2_000 + patience), after(key(2), false));
    let three = [(1, second), (2, first), (3, idle(60_000))];
    assert_eq!(admitted(&three, 90_000), after(key(3), false));
}

#[test]
fn a_pool_of_questions_that_cannot_leave_is_full_for_longer() {
    let stays = asking(0, false);
    let admitted =
        |of: &[(u8, Slot)]| admit(&slots(of), &key(9), room(of.len()), &[], 0, at(90_000));
    let full = admitted(&[(1, stays), (2, stays)]);
    assert_eq!(full, turned_away(PEOPLE_WAIT));
    let mut busy = idle(0);
    busy.busy = true;
    let full = admitted(&[(1, stays), (2, busy)]);
    assert_eq!(full, turned_away(FULL_WAIT), "it may end at any time");
}
