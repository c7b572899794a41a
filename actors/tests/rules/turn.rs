//! The turn guard: one verdict, in time, for the right reason.

use std::time::Duration;

use hearth_actors::event::{AgentFault, AgentStop, ExitInfo, FaultClass, OutOfMemory};
use hearth_actors::handover::Taken;
use hearth_actors::model::Deadlines;
use hearth_actors::outcome::Outcome;
use hearth_actors::rules::moment::Moment;
use hearth_actors::rules::turn::{Guard, INTERRUPT_BOUND, Order, Verdict, Why};
use proptest::prelude::*;

use super::{at, secs};

#[derive(Clone, Debug)]
enum Op {
    Spoke,
    Asked,
    Answered,
    Cancel(Why),
    Ended(AgentStop),
    Exited,
    Tick,
}

fn why() -> impl Strategy<Value = Why> {
    prop_oneof![Just(Why::Asked), Just(Why::Interrupted)]
}

fn stop() -> impl Strategy<Value = AgentStop> {
    let fault = |class| {
        AgentStop::Error(AgentFault {
            class,
            message: "no".into(),
        })
    };
    prop_oneof![
        Just(AgentStop::EndTurn),
        Just(AgentStop::Cancelled),
        Just(AgentStop::Limit("max_tokens".into())),
        Just(fault(FaultClass::Overload)),
        Just(fault(FaultClass::Quota)),
        Just(fault(FaultClass::Auth)),
        Just(fault(FaultClass::Other)),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => Just(Op::Spoke),
        2 => Just(Op::Asked),
        2 => Just(Op::Answered),
        1 => why().prop_map(Op::Cancel),
        1 => stop().prop_map(Op::Ended),
        1 => Just(Op::Exited),
        4 => Just(Op::Tick),
    ]
}

/// Short clocks, so that random waits meet all of them.
fn deadlines() -> impl Strategy<Value = Deadlines> {
    (1u64..60, 1u64..90, 1u64..200, 0u64..20).prop_map(|(first, stall, wall, cancel)| Deadlines {
        first_byte: secs(first),
        stall: secs(stall),
        wall: secs(wall),
        cancel: secs(cancel),
        ..Deadlines::default()
    })
}

/// Counts orders and checks their order.
#[derive(Default)]
struct Seen {
    cancels: usize,
    stops: usize,
    verdict: Option<Verdict>,
}

impl Seen {
    fn take(&mut self, orders: Vec<Order>) {
        for order in orders {
            assert_eq!(self.verdict, None, "an order after the verdict: {order:?}");
            match order {
                Order::SendCancel => self.cancels += 1,
                Order::StopLink => {
                    assert_eq!(self.cancels, 1, "a stop before any cancel");
                    self.stops += 1;
                }
                Order::Settle(verdict) => self.verdict = Some(verdict),
            }
        }
        assert!(self.cancels <= 1 && self.stops <= 1);
    }
}

/// Ticks at each deadline until there is a verdict; tells when it came.
fn drain(guard: &mut Guard, seen: &mut Seen, mut now: Moment) -> Moment {
    for _ in 0..8 {
        if seen.verdict.is_some() {
            return now;
        }
        match guard.next_deadline() {
            Some(deadline) => {
                now = now.max(deadline);
                seen.take(guard.tick(now));
            }
            None => seen.take(guard.cancel(now, Why::Asked)),
        }
    }
    panic!("no verdict: {guard:?}");
}

proptest! {
    #[test]
    fn whatever_happens_there_is_exactly_one_verdict(
        deadlines in deadlines(),
        ops in prop::collection::vec((0u64..40_000, op()), 0..40),
    ) {
        let mut guard = Guard::new(at(0), deadlines);
        let mut seen = Seen::default();
        let mut now = at(0);
        for (wait, op) in ops {
            now = now + Duration::from_millis(wait);
            match op {
                Op::Spoke => guard.spoke(now),
                Op::Asked => guard.asked(now),
                Op::Answered => guard.answered(now),
                Op::Cancel(why) => seen.take(guard.cancel(now, why)),
                Op::Ended(stop) => seen.take(guard.agent_ended(&stop)),
                Op::Exited => seen.take(guard.exited(&ExitInfo::default())),
                Op::Tick => seen.take(guard.tick(now)),
            }
            if seen.verdict.is_some() {
                prop_assert_eq!(guard.next_deadline(), None, "a settled turn needs no clock");
            }
        }
        drain(&mut guard, &mut seen, now);
    }

    #[test]
    fn six_seconds_after_a_cancel_it_is_over_whatever_is_configured(
        deadlines in deadlines(),
        asked in any::<bool>(),
        why in why(),
    ) {
        let mut guard = Guard::new(at(0), deadlines);
        let mut seen = Seen::default();
        if asked {
            guard.asked(at(10));
        }
        seen.take(guard.cancel(at(500), why));
        let over = drain(&mut guard, &mut seen, at(500));
        prop_assert!(over.since(at(500)) <= INTERRUPT_BOUND, "{over:?}");
        let expected = match why {
            Why::Asked => Outcome::Cancelled,
            _ => Outcome::Interrupted,
        };
        prop_assert_eq!(seen.verdict.map(|verdict| verdict.outcome), Some(expected));
    }

    /// The clocks of silence and length against a model that counts the time in
    /// which no human was asked.
    #[test]
    fn clocks_stand_still_while_a_human_is_asked(
        deadlines in deadlines(),
        ops in prop::collection::vec((0u64..100_000, op()), 0..60),
    ) {
        let mut guard = Guard::new(at(0), deadlines);
        let (mut now, mut ran, mut last_byte, mut open) = (at(0), Duration::ZERO, None, 0usize);
        for (wait, op) in ops {
            let wait = Duration::from_millis(wait);
            now = now + wait;
            if open == 0 {
                ran += wait;
            }
            let overdue = match last_byte {
                _ if open > 0 => None,
                _ if ran >= deadlines.wall => Some(Outcome::WallClock),
                Some(last) if ran - last >= deadlines.stall => Some(Outcome::Stalled),
                None if ran >= deadlines.first_byte => Some(Outcome::Stalled),
                _ => None,
            };
            let cancelled = guard.tick(now) == [Order::SendCancel];
            prop_assert_eq!(cancelled, overdue.is_some(), "after {:?}", now);
            if let Some(outcome) = overdue {
                let mut seen = Seen { cancels: 1, ..Seen::default() };
                drain(&mut guard, &mut seen, now);
                prop_assert_eq!(seen.verdict.map(|verdict| verdict.outcome), Some(outcome));
                return Ok(());
            }
            prop_assert!(guard.next_deadline().is_none_or(|next| next > now));
            match op {
                Op::Spoke => { guard.spoke(now); last_byte = Some(ran); }
                Op::Asked => { guard.asked(now); open += 1; }
                Op::Answered => { guard.answered(now); open = open.saturating_sub(1); }
                _ => {}
            }
            prop_assert_eq!(guard.waits_for_human(), open > 0);
        }
    }
}

#[test]
fn words_while_a_human_is_asked_do_not_put_the_stall_off() {
    let deadlines = Deadlines {
        stall: secs(10),
        ..Deadlines::default()
    };
    let mut guard = Guard::new(at(0), deadlines);
    guard.spoke(at(1_000));
    guard.asked(at(2_000));
    guard.spoke(at(3_600_000));
    guard.answered(at(3_601_000));
    assert_eq!(guard.next_deadline(), Some(at(3_611_000)));
}

#[test]
fn what_the_agent_says_of_its_end_has_a_name_each() {
    let fault = |class| {
        AgentStop::Error(AgentFault {
            class,
            message: "no".into(),
        })
    };
    for (stop, outcome) in [
        (AgentStop::EndTurn, Outcome::Ok),
        (AgentStop::Cancelled, Outcome::AgentError),
        (AgentStop::Limit("refusal".into()), Outcome::AgentError),
        (fault(FaultClass::Overload), Outcome::Overload),
        (fault(FaultClass::Quota), Outcome::Quota),
        (fault(FaultClass::Auth), Outcome::Auth),
        (fault(FaultClass::Other), Outcome::AgentError),
    ] {
        let mut seen = Seen::default();
        seen.take(Guard::new(at(0), Deadlines::default()).agent_ended(&stop));
        assert_eq!(seen.verdict.map(|verdict| verdict.outcome), Some(outcome));
    }
}

#[test]
fn a_death_in_mid_turn_is_told_with_its_last_words() {
    let exit = ExitInfo {
        signal: Some(9),
        stderr_tail: "starting\nout of cheese\n\n".into(),
        ..ExitInfo::default()
    };
    let mut seen = Seen::default();
    seen.take(Guard::new(at(0), Deadlines::default()).exited(&exit));
    let verdict = seen.verdict.expect("a verdict");
    assert_eq!(verdict.outcome, Outcome::AgentCrashed);
    let detail = verdict.detail.expect("a reason");
    assert!(
        detail.contains("signal 9") && detail.contains("out of cheese"),
        "{detail}"
    );
}

#[test]
fn a_death_of_memory_is_told_with_the_limit_and_where_it_is_set() {
    let killed = |whose, shared| ExitInfo {
        signal: Some(9),
        out_of_memory: Some(whose),
        shared,
        ..ExitInfo::default()
    };
    let limit = OutOfMemory::Limit(120 * 1024 * 1024);
    for (exit, words) in [
        (
            killed(limit, false),
            ["the agent's processes", "120 MB", "`memory_mb`"],
        ),
        (
            killed(limit, true),
            ["the agent's server", "120 MB", "`server.memory_mb`"],
        ),
        (
            killed(OutOfMemory::Machine, false),
            [
                "the agent's processes",
                "memory of the machine",
                "`memory_mb`",
            ],
        ),
    ] {
        let mut seen = Seen::default();
        let mut guard = Guard::new(at(0), Deadlines::default());
        guard.spoke(at(1));
        seen.take(guard.exited(&exit));
        let verdict = seen.verdict.expect("a verdict");
        assert_eq!(verdict.outcome, Outcome::OutOfMemory);
        let detail = verdict.detail.expect("a reason");
        for word in words {
            assert!(detail.contains(word), "{word} is not in: {detail}");
        }
        assert_eq!(verdict.taken, Taken::Yes);
        assert_eq!(exit.summary(), "signal 9, as memory ran out");

        // Who was ending it anyway has the word.
        let mut seen = Seen::default();
        let mut guard = Guard::new(at(0), Deadlines::default());
        seen.take(guard.cancel(at(1), Why::Asked));
        seen.take(guard.exited(&exit));
        assert_eq!(
            seen.verdict.map(|verdict| verdict.outcome),
            Some(Outcome::Cancelled)
        );
    }
}

#[test]
fn the_first_reason_stands() {
    let mut guard = Guard::new(at(0), Deadlines::default());
    let mut seen = Seen::default();
    seen.take(guard.cancel(at(1), Why::Interrupted));
    seen.take(guard.cancel(at(2), Why::Asked));
    seen.take(guard.agent_ended(&AgentStop::EndTurn));
    assert_eq!(
        seen.verdict.map(|verdict| verdict.outcome),
        Some(Outcome::Interrupted)
    );
}
