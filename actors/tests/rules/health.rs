//! The monitor of a shared server.

use hearth_actors::rules::health::{Cause, Health, Limits, Monitor, Order, Sign};
use hearth_actors::rules::moment::Moment;
use proptest::prelude::*;

use super::{at, millis, secs};

/// Plays time forward in steps of 100 ms: every probe is answered by `answer`,
/// which says after how long and how, or not at all.
fn play(
    monitor: &mut Monitor,
    from: Moment,
    to: Moment,
    mut answer: impl FnMut(u64) -> Option<bool>,
) -> Option<(Moment, Cause)> {
    let mut now = from;
    while now < to {
        let mut order = monitor.step(now, Sign::Tick);
        while let Some(next) = order {
            order = match next {
                Order::Restart(cause) | Order::Renew(cause) => return Some((now, cause)),
                Order::Probe(probe) => match answer(probe) {
                    Some(true) => monitor.step(now, Sign::Answered(probe)),
                    Some(false) => monitor.step(now, Sign::Failed(probe)),
                    None => None,
                },
            };
        }
        now = now + millis(100);
    }
    None
}

#[test]
fn an_idle_server_that_hangs_is_started_again_within_half_a_minute() {
    let mut monitor = Monitor::new(at(0), Limits::default());
    let (when, cause) = play(&mut monitor, at(0), at(60_000), |_| None).expect("a restart");
    assert_eq!(cause, Cause::Deaf);
    assert!(when <= at(30_000), "{when:?}");
    assert!(when >= at(15_000), "{when:?}");
    assert_eq!(monitor.health(), Health::Over(Cause::Deaf));
}

#[test]
fn one_that_refuses_is_started_again_sooner() {
    let mut monitor = Monitor::new(at(0), Limits::default());
    let (when, cause) = play(&mut monitor, at(0), at(60_000), |_| Some(false)).expect("a restart");
    assert_eq!(cause, Cause::Deaf);
    assert_eq!(when, at(15_000));
}

#[test]
fn a_deaf_server_keeps_its_turns_for_the_grace_and_no_longer() {
    let limits = Limits::default();
    let mut monitor = Monitor::new(at(0), limits);
    monitor.step(at(0), Sign::Turns(2));
    let (when, cause) = play(&mut monitor, at(0), at(600_000), |_| None).expect("a restart");
    assert_eq!(cause, Cause::DeafWithTurns);
    assert_eq!(when, at(0) + limits.busy_grace);
}

#[test]
fn its_last_turn_over_it_goes_at_once() {
    let mut monitor = Monitor::new(at(0), Limits::default());
    monitor.step(at(0), Sign::Turns(1));
    assert_eq!(play(&mut monitor, at(0), at(40_000), |_| None), None);
    assert_eq!(monitor.health(), Health::Deaf);
    let order = monitor.step(at(40_000), Sign::Turns(0));
    assert_eq!(order, Some(Order::Restart(Cause::Deaf)));
}

#[test]
fn bytes_count_as_health_even_when_no_probe_is_answered() {
    let mut monitor = Monitor::new(at(0), Limits::default());
    monitor.step(at(0), Sign::Turns(1));
    let mut now = at(0);
    while now < at(600_000) {
        assert_eq!(play(&mut monitor, now, now + secs(12), |_| None), None);
        now = now + secs(12);
        assert_eq!(monitor.step(now, Sign::Bytes), None);
        assert_eq!(monitor.health(), Health::Well);
    }
}

#[test]
fn an_exit_is_believed_at_once_and_once() {
    let mut monitor = Monitor::new(at(0), Limits::default());
    monitor.step(at(0), Sign::Turns(3));
    let order = monitor.step(at(1), Sign::Exited);
    assert_eq!(order, Some(Order::Restart(Cause::Exited)));
    assert_eq!(monitor.step(at(2), Sign::Exited), None);
    assert_eq!(monitor.step(at(90_000), Sign::Tick), None);
}

#[test]
fn memory_is_given_back_when_no_turn_runs() {
    let limits = Limits::default();
    let most = limits.memory.expect("a limit");
    let mut monitor = Monitor::new(at(0), limits);
    monitor.step(at(0), Sign::Turns(1));
    assert_eq!(monitor.step(at(1), Sign::Memory(most + 1)), None);
    let order = monitor.step(at(2), Sign::Turns(0));
    assert_eq!(order, Some(Order::Renew(Cause::Memory)));
    // Said once, and again behind a turn that came first.
    assert_eq!(monitor.step(at(3), Sign::Memory(most + 2)), None);
    assert_eq!(monitor.step(at(4), Sign::Turns(1)), None);
    let order = monitor.step(at(5), Sign::Turns(0));
    assert_eq!(order, Some(Order::Renew(Cause::Memory)));
    assert_eq!(
        monitor.health(),
        Health::Well,
        "it serves until it is ended"
    );
}

#[test]
fn a_turn_that_will_not_end_costs_the_server_when_no_other_runs() {
    let mut monitor = Monitor::new(at(0), Limits::default());
    monitor.step(at(0), Sign::Turns(1));
    assert_eq!(monitor.step(at(1), Sign::Unruly), None);
    let order = monitor.step(at(2), Sign::Turns(0));
    assert_eq!(order, Some(Order::Renew(Cause::Unruly)));
}

#[test]
fn the_answer_of_an_old_probe_is_nothing() {
    let mut monitor = Monitor::new(at(0), Limits::default());
    assert_eq!(monitor.step(at(5_000), Sign::Tick), Some(Order::Probe(1)));
    assert_eq!(monitor.step(at(5_001), Sign::Failed(1)), None);
    assert_eq!(monitor.step(at(5_002), Sign::Answered(1)), None);
    assert_eq!(monitor.health(), Health::Doubtful(1));
}

#[derive(Clone, Debug)]
enum Event {
    Wait(u64),
    Bytes,
    Answer,
    Fail,
    Turns(usize),
    Memory(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (1u64..20_000).prop_map(Event::Wait),
        1 => Just(Event::Bytes),
        2 => Just(Event::Answer),
        2 => Just(Event::Fail),
        1 => (0usize..3).prop_map(Event::Turns),
        1 => (0u64..4).prop_map(|gib| Event::Memory(gib << 30)),
    ]
}

proptest! {
    /// Whatever happens: at most one probe is under way, a restart has its reason,
    /// and a server that gave a sign of life within the shortest time to a
    /// verdict is never called deaf.
    #[test]
    fn no_false_alarm_and_no_second_probe(events in prop::collection::vec(event(), 1..200)) {
        let limits = Limits::default();
        let mut monitor = Monitor::new(at(0), limits);
        let (mut now, mut last_sign) = (at(0), at(0));
        let (mut turns, mut memory) = (0, 0);
        let mut renewed = false;
        let mut open: Option<(u64, Moment)> = None;
        for event in events {
            let sign = match event {
                Event::Wait(ms) => { now = now + millis(ms); Sign::Tick }
                Event::Bytes => { last_sign = now; Sign::Bytes }
                Event::Answer => match open.take() {
                    Some((probe, sent)) => {
                        if now.since(sent) < limits.timeout { last_sign = now; }
                        Sign::Answered(probe)
                    }
                    None => Sign::Tick,
                },
                Event::Fail => open.take().map_or(Sign::Tick, |(probe, _)| Sign::Failed(probe)),
                Event::Turns(some) => { turns = some; renewed &= some == 0; Sign::Turns(some) }
                Event::Memory(bytes) => { memory = bytes; Sign::Memory(bytes) }
            };
            // A late answer is one all the same, as long as nobody gave it up.
            if matches!(sign, Sign::Answered(_)) && monitor.health() == Health::Well { last_sign = now; }
            let answered = matches!(sign, Sign::Answered(_));
            match monitor.step(now, sign) {
                None => {}
                Some(Order::Probe(probe)) => {
                    if let Some((_, sent)) = open {
                        prop_assert!(now.since(sent) >= limits.timeout, "two probes at once");
                    }
                    prop_assert!(monitor.next(now) > now);
                    open = Some((probe, now));
                }
                Some(Order::Restart(cause)) => {
                    match cause {
                        Cause::Memory | Cause::Unruly => prop_assert!(false, "it is not ended for that"),
                        Cause::Deaf => prop_assert!(turns == 0 && !answered),
                        Cause::DeafWithTurns => {
                            prop_assert!(turns > 0);
                            prop_assert!(now.since(last_sign) >= limits.busy_grace);
                        }
                        Cause::Exited => prop_assert!(false, "nobody said so"),
                    }
                    let shortest = limits.period * limits.failures;
                    prop_assert!(now.since(last_sign) >= shortest, "{:?}", now.since(last_sign));
                    break;
                }
                Some(Order::Renew(cause)) => {
                    prop_assert_eq!(cause, Cause::Memory);
                    prop_assert!(turns == 0 && Some(memory) > limits.memory);
                    prop_assert!(!std::mem::replace(&mut renewed, true), "said twice");
                }
            }
        }
    }
}
