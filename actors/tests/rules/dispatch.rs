//! When to claim, and how many.

use hearth_actors::rules::dispatch::{Dispatch, POLL};
use proptest::prelude::*;

use super::{at, millis, secs};

#[derive(Clone, Debug)]
enum Op {
    Wait(u64),
    Wake,
    Credit(usize),
    Ended,
    Debit,
    Begin,
    Claimed {
        share: usize,
        more: bool,
        left: bool,
        due: Option<u64>,
    },
    Failed,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => (0u64..3_000).prop_map(Op::Wait),
        2 => Just(Op::Wake),
        1 => (1usize..4).prop_map(Op::Credit),
        2 => Just(Op::Ended),
        1 => Just(Op::Debit),
        4 => Just(Op::Begin),
        3 => (0usize..=4, any::<bool>(), any::<bool>(), prop::option::of(0u64..8_000))
            .prop_map(|(share, more, left, due)| Op::Claimed { share, more, left, due }),
        1 => Just(Op::Failed),
    ]
}

proptest! {
    #[test]
    fn credit_is_never_exceeded_and_nothing_is_lost(
        first in 0isize..5,
        ops in prop::collection::vec(op(), 0..120),
    ) {
        let mut now = at(0);
        let mut rule = Dispatch::new(now, first.cast_unsigned());
        let (mut credit, mut asked, mut news, mut failures) = (first, None, true, 0u32);
        let mut known_left = true;
        for op in ops {
            match op {
                Op::Wait(ms) => now = now + millis(ms),
                Op::Wake => { rule.wake(); news = true; }
                Op::Credit(turns) => {
                    rule.credit(turns);
                    credit += turns.cast_signed();
                    news = true;
                }
                Op::Debit => { rule.debit(); credit -= 1; }
                Op::Ended => {
                    rule.ended();
                    credit += 1;
                    // A claim under way may have found the session busy.
                    news |= known_left || asked.is_some();
                }
                Op::Begin => {
                    let begun = rule.begin(now);
                    if let Some(count) = begun {
                        prop_assert!(asked.is_none(), "two claims at once");
                        prop_assert_eq!(count.cast_signed(), credit);
                        prop_assert!(count > 0);
                        prop_assert!(failures == 0 || now >= rule.next_look(), "no back-off");
                        (asked, news) = (Some(count), false);
                    } else if asked.is_none() && failures == 0 && news {
                        prop_assert!(credit <= 0, "a wake-up was lost");
                    }
                }
                Op::Claimed { share, more, left, due } => if let Some(count) = asked.take() {
                    let taken = count * share / 4;
                    rule.claimed(now, taken, more, left, due.map(millis));
                    known_left = left;
                    credit -= taken.cast_signed();
                    news |= more;
                    failures = 0;
                    let wait = rule.next_look().since(now);
                    prop_assert!(wait <= POLL);
                    prop_assert!(due.is_none_or(|due| wait <= millis(due.max(5))));
                    prop_assert!(!wait.is_zero(), "looks would spin");
                },
                Op::Failed => if asked.take().is_some() {
                    rule.failed(now);
                    let wait = (millis(100) * 2u32.pow(failures.min(10))).min(POLL);
                    prop_assert_eq!(rule.next_look(), now + wait);
                    failures += 1;
                },
            }
            prop_assert_eq!(rule.available().cast_signed(), credit.max(0));
            prop_assert_eq!(rule.is_claiming(), asked.is_some());
        }
        // Never stuck: with credit and no claim, the next look claims.
        if asked.is_none() && credit > 0 {
            prop_assert_eq!(rule.begin(now.max(rule.next_look())), Some(credit.cast_unsigned()));
        }
    }
}

#[test]
fn it_looks_at_once_and_then_at_each_poll() {
    let mut rule = Dispatch::new(at(0), 2);
    assert_eq!(rule.begin(at(0)), Some(2));
    rule.claimed(at(10), 0, false, false, None);
    assert_eq!(rule.begin(at(11)), None);
    assert_eq!(rule.next_look(), at(10) + POLL);
    assert_eq!(rule.begin(at(10) + POLL), Some(2));
}

#[test]
fn a_wake_up_during_a_claim_is_one_more_look() {
    let mut rule = Dispatch::new(at(0), 2);
    rule.begin(at(0));
    rule.wake();
    rule.wake();
    assert_eq!(rule.begin(at(1)), None);
    rule.claimed(at(2), 1, false, false, None);
    assert_eq!(rule.begin(at(2)), Some(1));
    rule.claimed(at(3), 0, false, false, None);
    assert_eq!(rule.begin(at(3)), None);
}

#[test]
fn a_parked_task_that_is_due_now_is_looked_for_without_a_wake_up() {
    let mut rule = Dispatch::new(at(0), 1);
    rule.begin(at(0));
    rule.claimed(at(10), 0, false, false, Some(secs(0)));
    assert_eq!(rule.begin(rule.next_look()), Some(1));
    assert!(rule.next_look() <= at(15));
}

#[test]
fn a_wake_up_does_not_shorten_the_back_off() {
    let mut rule = Dispatch::new(at(0), 1);
    rule.begin(at(0));
    rule.failed(at(0));
    rule.wake();
    assert_eq!(rule.begin(at(99)), None);
    assert_eq!(rule.begin(at(100)), Some(1));
}

#[test]
fn paused_is_for_good() {
    let mut rule = Dispatch::new(at(0), 1);
    rule.pause();
    rule.wake();
    rule.credit(5);
    assert_eq!(rule.begin(at(1_000_000)), None);
    assert!(rule.is_paused());
}

#[test]
fn an_end_is_a_reason_to_look_only_where_something_was_left() {
    let mut rule = Dispatch::new(at(0), 1);
    rule.begin(at(0));
    rule.claimed(at(1), 1, false, false, None);
    rule.ended();
    assert_eq!(rule.begin(at(2)), None, "the queue was empty");
    rule.wake();
    assert_eq!(rule.begin(at(3)), Some(1));
    rule.claimed(at(4), 1, false, true, None);
    rule.ended();
    assert_eq!(rule.begin(at(5)), Some(1), "the session has more");
}

/// The claim may have looked before the end was committed.
#[test]
fn an_end_during_a_claim_is_one_more_look() {
    let mut rule = Dispatch::new(at(0), 2);
    rule.begin(at(0));
    rule.claimed(at(1), 1, false, false, None);
    rule.wake();
    assert_eq!(rule.begin(at(2)), Some(1));
    rule.ended();
    rule.claimed(at(3), 0, false, true, None);
    assert_eq!(rule.begin(at(3)), Some(2));
}
