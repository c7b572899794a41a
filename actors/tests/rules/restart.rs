//! Restart intensity of one key.

use hearth_actors::rules::moment::Moment;
use hearth_actors::rules::restart::{History, Intensity, Rest};
use proptest::prelude::*;

use super::{at, millis, secs};

/// Full wait after the `n`th crash in a row.
fn full(intensity: &Intensity, n: usize) -> std::time::Duration {
    let mut wait = intensity.first;
    for _ in 1..n {
        wait = (wait * 2).min(intensity.longest);
    }
    wait.min(intensity.longest)
}

proptest! {
    #[test]
    fn window_doubling_cap_and_jitter(
        crashes in prop::collection::vec((0u64..50_000, -0.5f64..1.5, any::<bool>()), 1..60),
    ) {
        let intensity = Intensity::default();
        let mut history = History::default();
        let mut now = at(0);
        let (mut window, mut in_a_row): (Vec<Moment>, usize) = (Vec::new(), 0);
        for (total, (wait, jitter, worked)) in crashes.into_iter().enumerate() {
            now = now + millis(wait);
            if worked {
                history.worked();
                in_a_row = 0;
            }
            window.retain(|&crash| now.since(crash) < intensity.period);
            window.push(now);
            in_a_row += 1;
            let rest = history.crashed(now, &intensity, jitter);
            if window.len() > intensity.crashes {
                window.clear();
                prop_assert_eq!(rest, Rest::CoolDown(now + intensity.cool_down));
            } else {
                let full = full(&intensity, in_a_row);
                let wait = rest.until().since(now);
                prop_assert!(matches!(rest, Rest::BackOff(_)));
                prop_assert!(wait >= full / 2 && wait <= full, "{:?} of {:?}", wait, full);
            }
            prop_assert_eq!(history.total(), total as u64 + 1);
            prop_assert_eq!(history.resting(now), Some(rest));
            prop_assert_eq!(history.resting(rest.until()), None);
            prop_assert!(!history.is_clean(now, &intensity));
        }
    }
}

#[test]
fn the_fourth_crash_in_a_minute_cools_the_key_down_once() {
    let intensity = Intensity::default();
    let mut history = History::default();
    for second in [0, 1, 2] {
        let rest = history.crashed(at(second * 1000), &intensity, 1.0);
        assert!(matches!(rest, Rest::BackOff(_)));
    }
    let rest = history.crashed(at(3000), &intensity, 1.0);
    assert_eq!(rest, Rest::CoolDown(at(63_000)));
    let next = history.crashed(at(63_000), &intensity, 1.0);
    assert!(
        matches!(next, Rest::BackOff(_)),
        "a new window after the rest"
    );
}

#[test]
fn a_crash_a_period_ago_is_forgotten() {
    let intensity = Intensity::default();
    let mut history = History::default();
    for minute in 0..10 {
        let rest = history.crashed(at(minute * 60_000), &intensity, 0.0);
        assert!(matches!(rest, Rest::BackOff(_)));
    }
    assert!(!history.is_clean(at(9 * 60_000 + 59_999), &intensity));
    assert!(history.is_clean(at(10 * 60_000), &intensity));
}

#[test]
fn forgiven_means_at_once_and_from_the_start() {
    let intensity = Intensity::default();
    let mut history = History::default();
    for _ in 0..4 {
        history.crashed(at(0), &intensity, 1.0);
    }
    history.forgive();
    assert_eq!(history.resting(at(1)), None);
    assert!(history.is_clean(at(1), &intensity));
    let rest = history.crashed(at(1), &intensity, 1.0);
    assert_eq!(rest, Rest::BackOff(at(1) + intensity.first));
    assert_eq!(history.total(), 5, "the count since the start stays");
}

#[test]
fn many_crashes_in_a_row_overflow_nothing() {
    let intensity = Intensity {
        crashes: usize::MAX,
        ..Intensity::default()
    };
    let mut history = History::default();
    for minute in 0..100u64 {
        let now = at(minute * 60_000);
        let wait = history.crashed(now, &intensity, 1.0).until().since(now);
        assert!(wait <= secs(30));
    }
}
