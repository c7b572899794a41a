//! What budgets allow.

use hearth_actors::limits::{Budget, Gauge, Measure, ParkReason, Scope};
use hearth_actors::rules::budget::{
    LOOK_AGAIN, Level, Start, WARN_AT, before_start, warnings, while_running,
};
use proptest::prelude::*;

use super::secs;

fn budget() -> impl Strategy<Value = Budget> {
    (
        prop::option::of(1i64..1000),
        prop::option::of(0.01f64..100.0),
        prop::option::of(1i64..1000),
        prop::option::of(1i64..10),
    )
        .prop_map(|(tokens, cost, wall_ms, turns)| Budget {
            tokens,
            cost,
            wall_ms,
            turns,
        })
}

fn gauges() -> impl Strategy<Value = Vec<Gauge>> {
    let one = (
        prop::sample::select(Scope::ALL),
        prop::sample::select(Measure::ALL),
        0.0f64..200.0,
        1.0f64..100.0,
    )
        .prop_map(|(scope, measure, used, limit)| Gauge {
            scope,
            subject: "s".into(),
            measure,
            used,
            limit,
            resets_in: (scope == Scope::Day).then(|| secs(3600)),
        });
    prop::collection::vec(one, 0..8)
}

proptest! {
    #[test]
    fn the_tighter_of_two_is_looser_than_neither(a in budget(), b in budget()) {
        let both = a.tightened(&b);
        prop_assert_eq!(both.looser_than(&a), None);
        prop_assert_eq!(both.looser_than(&b), None);
        prop_assert_eq!(both, b.tightened(&a));
        prop_assert_eq!(both.tightened(&a), both);
        prop_assert_eq!(both.is_empty(), a.is_empty() && b.is_empty());
        for (measure, limit) in both.limits() {
            let of = |budget: &Budget| budget.limits().find(|(own, _)| *own == measure);
            let least = [of(&a), of(&b)].into_iter().flatten().map(|(_, limit)| limit);
            prop_assert_eq!(Some(limit), least.reduce(f64::min));
        }
    }

    #[test]
    fn a_turn_starts_only_when_nothing_is_used_up(gauges in gauges()) {
        let out = |scope| gauges.iter().any(|g| g.scope == scope && g.used >= g.limit);
        match before_start(&gauges) {
            Start::Go => prop_assert!(!Scope::ALL.iter().any(|scope| out(*scope))),
            Start::Never(why) => {
                prop_assert!(out(Scope::Task));
                prop_assert!(why.contains("task's budget"), "{}", why);
            }
            Start::Wait(parked) => {
                prop_assert!(!out(Scope::Task));
                prop_assert_eq!(parked.reason, ParkReason::Budget);
                prop_assert_eq!(parked.open_ended, out(Scope::Session));
                let wait = if out(Scope::Session) { LOOK_AGAIN } else { secs(3600) };
                prop_assert_eq!(parked.after, wait);
            }
        }
    }

    #[test]
    fn a_running_turn_is_ended_by_all_but_the_count_of_turns(gauges in gauges()) {
        let look = while_running(&gauges);
        let out = gauges.iter().any(|g| g.measure != Measure::Turns && g.used >= g.limit);
        prop_assert_eq!(look.stop.is_some(), out);
        let clocked = gauges.iter().any(|g| g.measure == Measure::WallMs);
        prop_assert_eq!(look.again.is_some(), clocked && !out);
        if let Some(again) = look.again {
            let at = again.as_secs_f64() * 1e3;
            let clocks = gauges.iter().filter(|g| g.measure == Measure::WallMs);
            let least = clocks.map(|g| g.limit - g.used).fold(f64::MAX, f64::min);
            prop_assert!(at > least && at <= least + 2.0, "{} for {}", at, least);
        }
    }

    #[test]
    fn people_are_warned_from_the_same_part_on(gauges in gauges()) {
        let warned: Vec<_> = warnings(&gauges).collect();
        for gauge in &gauges {
            let near = gauge.used >= gauge.limit * WARN_AT;
            prop_assert_eq!(warned.contains(&gauge), near);
            prop_assert_eq!(gauge.level() >= Level::Warning, near);
            prop_assert!(gauge.left() >= 0.0);
        }
    }
}

#[test]
fn a_gauge_says_whose_and_how_much() {
    let mut gauge = Gauge {
        scope: Scope::Session,
        subject: "s".into(),
        measure: Measure::Tokens,
        used: 12_000.0,
        limit: 10_000.0,
        resets_in: None,
    };
    assert_eq!(
        gauge.text(),
        "the session's budget: 12000 of 10000 tokens are used"
    );
    gauge.measure = Measure::Cost;
    (gauge.used, gauge.limit) = (0.25, 2.0);
    assert_eq!(
        gauge.text(),
        "the session's budget: 0.2500 of 2.0000 US dollars are used"
    );
}
