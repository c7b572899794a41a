//! What follows a refusal.

use std::time::Duration;

use chrono::DateTime;
use hearth_actors::event::Reset;
use hearth_actors::limits::{ParkReason, Parked, Refusals};
use hearth_actors::outcome::Outcome;
use hearth_actors::rules::retry::{Decision, Limits, decide};
use proptest::prelude::*;

use super::secs;

fn before(of_task: u32, in_last_hour: u32) -> Refusals {
    Refusals {
        of_task,
        in_last_hour,
        now: DateTime::UNIX_EPOCH,
    }
}

fn parked(decision: Decision) -> Parked {
    match decision {
        Decision::Park(parked) => parked,
        Decision::Fail(why) => panic!("it failed: {why:?}"),
    }
}

proptest! {
    #[test]
    fn waits_double_within_their_bounds(of_task in 0u32..4, jitter in -1.0f64..2.0) {
        let limits = Limits::default();
        let wait = parked(decide(Outcome::Overload, None, &before(of_task, 0), &limits, jitter));
        let full = (limits.first * 2u32.pow(of_task)).min(limits.longest);
        prop_assert_eq!(wait.reason, ParkReason::Overload);
        prop_assert!(wait.after >= full / 2 && wait.after <= full, "{:?}", wait);
    }

    #[test]
    fn nobody_is_asked_before_the_reset(
        seconds in 0u64..9 * 86_400, jitter in 0.0f64..1.0, quota in any::<bool>(), at in any::<bool>(),
    ) {
        let limits = Limits::default();
        let outcome = if quota { Outcome::Quota } else { Outcome::Overload };
        let promised = secs(seconds);
        let reset = if at {
            Reset::At(DateTime::UNIX_EPOCH + promised)
        } else {
            Reset::After(promised)
        };
        match decide(outcome, Some(reset), &before(0, 0), &limits, jitter) {
            Decision::Park(parked) => {
                prop_assert!(parked.after >= promised);
                prop_assert!(parked.after <= promised.max(limits.first) + secs(61));
                prop_assert!(parked.after <= limits.furthest);
                prop_assert!(!parked.open_ended);
            }
            Decision::Fail(why) => {
                prop_assert!(promised + secs(61) > limits.furthest, "{:?}", why);
            }
        }
    }

    #[test]
    fn caps_hold_whatever_is_promised(
        of_task in 0u32..20, in_last_hour in 0u32..200, attempts in 1u32..10, per_hour in 0u32..100,
        outcome in prop::sample::select(Outcome::ALL), seconds in prop::option::of(0u64..3600),
    ) {
        let limits = Limits { attempts, per_hour, ..Limits::default() };
        let reset = seconds.map(|seconds| Reset::After(secs(seconds)));
        let decision = decide(outcome, reset, &before(of_task, in_last_hour), &limits, 0.5);
        let class = match outcome {
            Outcome::Overload => true,
            Outcome::Quota => reset.is_some(),
            _ => false,
        };
        let may = class && of_task + 1 < attempts && in_last_hour < per_hour;
        prop_assert_eq!(matches!(decision, Decision::Park(_)), may, "{:?}", decision);
    }
}

#[test]
fn what_would_fail_again_is_not_tried() {
    let limits = Limits::default();
    for outcome in [
        Outcome::Auth,
        Outcome::AgentError,
        Outcome::AgentCrashed,
        Outcome::Stalled,
    ] {
        let decision = decide(outcome, None, &before(0, 0), &limits, 0.0);
        assert_eq!(decision, Decision::Fail(None), "{outcome}");
    }
    let Decision::Fail(Some(why)) = decide(Outcome::Quota, None, &before(0, 0), &limits, 0.0)
    else {
        panic!("nobody knows when")
    };
    assert!(why.contains("nobody says when"), "{why}");
}

#[test]
fn a_limit_names_its_setting() {
    let limits = Limits::default();
    let fails = |of_task, in_last_hour| {
        let before = before(of_task, in_last_hour);
        match decide(Outcome::Overload, None, &before, &limits, 0.0) {
            Decision::Fail(Some(why)) => why,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        fails(4, 0),
        "refused 5 times, which is the limit (HEARTH_RETRY_ATTEMPTS)"
    );
    assert!(fails(0, 60).contains("60 times within an hour"));
    let never = Limits {
        attempts: 1,
        ..limits
    };
    let decision = decide(Outcome::Overload, None, &before(0, 0), &never, 0.0);
    assert_eq!(decision, Decision::Fail(None), "it was not to be tried");
}

#[test]
fn a_reset_in_the_past_is_now() {
    let limits = Limits::default();
    let past = Reset::At(DateTime::UNIX_EPOCH - Duration::from_secs(100));
    let decision = decide(Outcome::Quota, Some(past), &before(0, 0), &limits, 1.0);
    assert_eq!(parked(decision).after, secs(1));
}
