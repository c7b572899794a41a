//! One circuit an agent.

use std::time::Duration;

use hearth_actors::ids::{ChatId, SessionKey, TurnId};
use hearth_actors::rules::circuit::{Circuit, Entry, Limits, Shown};
use hearth_actors::rules::moment::Moment;
use proptest::prelude::*;
use uuid::Uuid;

use super::{at, millis, secs};

fn key(n: u8) -> SessionKey {
    SessionKey {
        chat: ChatId(Uuid::from_u128(n.into())),
        agent: "demo".into(),
    }
}

fn turn(n: u8) -> TurnId {
    TurnId(Uuid::from_u128(n.into()))
}

#[derive(Clone, Debug)]
enum Event {
    Failed(u8),
    Worked,
    Enter(u8),
    Left(u8, bool),
}

fn event() -> impl Strategy<Value = (u64, Event)> {
    let what = prop_oneof![
        6 => (0u8..5).prop_map(Event::Failed),
        1 => Just(Event::Worked),
        4 => (0u8..4).prop_map(Event::Enter),
        3 => ((0u8..4), any::<bool>()).prop_map(|(n, answered)| Event::Left(n, answered)),
    ];
    (0u64..15_000, what)
}

/// The model: all failures since the last good turn, kept for ever.
#[derive(Default)]
struct Model {
    failures: Vec<(Moment, u8)>,
    until: Option<Moment>,
    tries: Option<u8>,
    rests: u32,
}

impl Model {
    fn rest(&mut self, now: Moment) -> Duration {
        let rest = (0..self.rests).fold(secs(30), |rest, _| (rest * 2).min(secs(600)));
        self.rests += 1;
        self.failures.clear();
        (self.until, self.tries) = (Some(now + rest), None);
        rest
    }

    fn resting(&self, now: Moment) -> bool {
        self.until.is_some_and(|until| until > now)
    }
}

proptest! {
    #[test]
    fn it_opens_rests_and_lets_one_try(events in prop::collection::vec(event(), 1..150)) {
        let limits = Limits::default();
        let (mut circuit, mut model, mut now) = (Circuit::default(), Model::default(), at(0));
        // Half open begins with somebody who wants in.
        let mut half_open = false;
        for (wait, event) in events {
            now = now + millis(wait);
            match event {
                Event::Failed(n) => {
                    let told = circuit.failed(now, &key(n), &limits);
                    if half_open {
                        half_open = false;
                        prop_assert_eq!(told, Some(model.rest(now)));
                    } else if model.until.is_some() {
                        prop_assert_eq!(told, None);
                    } else {
                        model.failures.push((now, n));
                        let recent: Vec<_> = model.failures.iter()
                            .filter(|(at, _)| now.since(*at) < limits.period)
                            .map(|(_, n)| *n)
                            .collect();
                        let mut keys = recent.clone();
                        keys.sort_unstable();
                        keys.dedup();
                        let opens = recent.len() >= limits.failures && keys.len() >= limits.keys;
                        prop_assert_eq!(told, opens.then(|| model.rest(now)));
                    }
                }
                Event::Worked => {
                    prop_assert_eq!(circuit.worked(), model.until.is_some());
                    (model, half_open) = (Model::default(), false);
                }
                Event::Enter(n) => match circuit.enter(now, turn(n)) {
                    Entry::Rests(rest) => {
                        prop_assert!(!half_open && model.resting(now));
                        prop_assert_eq!(model.until, Some(now + rest));
                    }
                    Entry::Tried => prop_assert!(model.tries.is_some_and(|first| first != n)),
                    Entry::Go => if model.until.is_some() {
                        prop_assert!(!model.resting(now), "before it has rested");
                        prop_assert!(model.tries.is_none_or(|first| first == n), "two try at once");
                        (model.tries, half_open) = (Some(n), true);
                    },
                },
                Event::Left(n, answered) => {
                    let closes = half_open && model.tries == Some(n) && answered;
                    prop_assert_eq!(circuit.left(turn(n), answered), closes);
                    if closes {
                        (model, half_open) = (Model::default(), false);
                    } else if model.tries == Some(n) {
                        model.tries = None;
                    }
                }
            }
            match circuit.shown(now) {
                Shown::Closed => prop_assert!(model.until.is_none()),
                Shown::Open(rest) => prop_assert_eq!(model.until, Some(now + rest)),
                Shown::HalfOpen => prop_assert!(half_open || !model.resting(now)),
            }
        }
    }
}

#[test]
fn one_key_alone_never_opens_it_and_never_hides_the_others() {
    let limits = Limits::default();
    let mut circuit = Circuit::default();
    for n in 0..100 {
        assert_eq!(circuit.failed(at(n * 10), &key(1), &limits), None);
    }
    assert_eq!(circuit.failed(at(1001), &key(2), &limits), None);
    let opened = circuit.failed(at(1002), &key(3), &limits);
    assert_eq!(opened, Some(limits.first));
}
