//! Who is kept, who makes room.

use std::collections::BTreeMap;

use hearth_actors::ids::{ChatId, SessionKey};
use hearth_actors::rules::pool::{Admission, Slot, admit, expired};
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
    )
        .prop_map(|(busy, leaving, used, ttl)| Slot {
            busy,
            leaving,
            used: at(used),
            idle_ttl: millis(ttl),
        })
}

proptest! {
    #[test]
    fn every_answer_has_its_reason(
        slots in prop::collection::btree_map((0u8..12).prop_map(key), slot(), 0..10),
        wanted in (0u8..12).prop_map(key),
        max in 0usize..10,
        refused in prop::collection::vec((0u8..12).prop_map(key), 0..6),
    ) {
        let may_go = |key: &SessionKey, slot: &Slot| !slot.busy && !refused.contains(key);
        let leaving = slots.values().any(|slot| slot.leaving);
        match admit(&slots, &wanted, max, &refused) {
            Admission::Reuse => prop_assert!(!slots[&wanted].leaving),
            Admission::Spawn => {
                prop_assert!(!slots.contains_key(&wanted));
                prop_assert!(slots.len() < max, "more than may live");
            }
            Admission::Wait => prop_assert!(leaving),
            Admission::After(victim) => {
                prop_assert!(!slots.contains_key(&wanted) && slots.len() >= max && !leaving);
                prop_assert!(may_go(&victim, &slots[&victim]));
                for (key, slot) in &slots {
                    prop_assert!(!may_go(key, slot) || slot.used >= slots[&victim].used);
                }
            }
            Admission::Full => {
                prop_assert!(!slots.contains_key(&wanted) && slots.len() >= max && !leaving);
                prop_assert!(!slots.iter().any(|(key, slot)| may_go(key, slot)));
            }
        }
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
    let ask = |refused: &[SessionKey]| admit(&slots, &key(9), 3, refused);
    assert_eq!(ask(&[]), Admission::After(key(3)));
    assert_eq!(ask(&[key(3)]), Admission::After(key(2)));
    assert_eq!(ask(&[key(3), key(2)]), Admission::Full);
}

#[test]
fn one_at_a_time_is_asked_to_go() {
    let mut leaving = idle(0);
    leaving.leaving = true;
    let slots = slots(&[(1, leaving), (2, idle(20))]);
    assert_eq!(admit(&slots, &key(9), 2, &[]), Admission::Wait);
    assert_eq!(
        admit(&slots, &key(1), 9, &[]),
        Admission::Wait,
        "it comes back later"
    );
    assert_eq!(admit(&slots, &key(2), 2, &[]), Admission::Reuse);
}
