//! Whether a session goes that was asked to.

use hearth_actors::rules::evict::{
    Agent, Decision, KEEP_CONTEXT, Keep, Looked, Nomination, Stays, View, Work, decide,
};
use proptest::prelude::*;

use super::secs;

fn idle() -> View {
    View {
        stopping: false,
        work: Work::None,
        agent: Agent::Up { resumable: true },
        idle: secs(60),
        looked: Some(Looked {
            queued: Some(false),
            left_running: Some(0),
        }),
    }
}

fn keep() -> Keep {
    Keep {
        unneeded: secs(1000),
        needed: secs(100),
    }
}

fn asked(view: View, why: Nomination, insist: bool) -> Decision {
    decide(&view, why, insist, keep())
}

fn view() -> impl Strategy<Value = View> {
    let work = prop_oneof![
        4 => Just(Work::None),
        1 => Just(Work::Turn),
        1 => Just(Work::Settling),
        1 => any::<bool>().prop_map(|can_leave| Work::Asking { can_leave }),
    ];
    let agent = prop_oneof![
        1 => Just(Agent::Down),
        1 => Just(Agent::Starting),
        4 => any::<bool>().prop_map(|resumable| Agent::Up { resumable }),
    ];
    let looked = prop::option::of((prop::option::of(any::<bool>()), prop::option::of(0usize..2)));
    (prop::bool::weighted(0.1), work, agent, 0u64..2000, looked).prop_map(
        |(stopping, work, agent, idle, looked)| View {
            stopping,
            work,
            agent,
            idle: secs(idle),
            looked: looked.map(|(queued, left_running)| Looked {
                queued,
                left_running,
            }),
        },
    )
}

proptest! {
    /// The model: a list of all that may keep it, in words of its own.
    #[test]
    fn it_goes_exactly_when_nothing_keeps_it(
        view in view(),
        why in prop::sample::select(Nomination::ALL),
        insist in any::<bool>(),
    ) {
        let pressed = [Nomination::Lru, Nomination::Memory].contains(&why);
        let young = view.idle < if pressed { secs(100) } else { secs(1000) };
        let has_turn = view.work != Work::None;
        let is_up = matches!(view.agent, Agent::Up { .. });
        let resumable = view.agent != Agent::Up { resumable: false };
        let free = !has_turn && is_up;
        let looked = view.looked.unwrap_or_default();
        let mut keeps = vec![];
        if view.stopping { keeps.push(Stays::Stopping); }
        match view.work {
            Work::Turn => keeps.push(Stays::TurnRunning),
            Work::Settling => keeps.push(Stays::UnstoredOutput),
            Work::Asking { can_leave: false } => keeps.push(Stays::OpenPrompt),
            Work::Asking { can_leave: true } | Work::None => {}
        }
        if !has_turn && view.agent == Agent::Starting { keeps.push(Stays::Starting); }
        let cut_off = pressed && view.idle >= KEEP_CONTEXT;
        if free && !resumable && young && !cut_off && why != Nomination::Config {
            keeps.push(Stays::NotResumable);
        }
        if free && view.looked.is_some() {
            if looked.left_running.is_some_and(|many| many > 0) && young {
                keeps.push(Stays::BackgroundWork);
            }
            if looked.queued == Some(true) && !insist { keeps.push(Stays::QueuedMessage); }
            let dark = looked.left_running.is_none() || (looked.queued.is_none() && !insist);
            if dark && young { keeps.push(Stays::Unknown); }
        }
        match decide(&view, why, insist, keep()) {
            Decision::Stays(word) => prop_assert!(keeps.contains(&word), "{word} of {keeps:?}"),
            Decision::Goes => {
                prop_assert!(keeps.is_empty(), "{keeps:?}");
                prop_assert!(!free || view.looked.is_some(), "without a look");
            }
            Decision::Look => prop_assert!(keeps.is_empty() && free && view.looked.is_none()),
        }
    }
}

#[test]
fn unknown_means_keep() {
    for looked in [
        Looked::default(),
        Looked {
            queued: None,
            left_running: Some(0),
        },
        Looked {
            queued: Some(false),
            left_running: None,
        },
    ] {
        let dark = View {
            looked: Some(looked),
            ..idle()
        };
        assert_eq!(
            asked(dark, Nomination::Ttl, false),
            Decision::Stays(Stays::Unknown)
        );
    }
}

#[test]
fn what_was_left_running_keeps_it_for_longer_while_nobody_needs_its_place() {
    let works = View {
        looked: Some(Looked {
            queued: Some(false),
            left_running: Some(3),
        }),
        ..idle()
    };
    let stays = Decision::Stays(Stays::BackgroundWork);
    for why in Nomination::ALL {
        assert_eq!(asked(works, *why, true), stays, "{why}");
    }
    let later = View {
        idle: secs(100),
        ..works
    };
    assert_eq!(asked(later, Nomination::Lru, false), Decision::Goes);
    assert_eq!(asked(later, Nomination::Ttl, false), stays);
    let much_later = View {
        idle: secs(1000),
        ..works
    };
    assert_eq!(asked(much_later, Nomination::Ttl, false), Decision::Goes);
}

#[test]
fn a_context_that_would_be_lost_keeps_it_a_minute_while_its_place_is_needed() {
    let lost = |idle_for| View {
        agent: Agent::Up { resumable: false },
        idle: idle_for,
        ..idle()
    };
    let stays = Decision::Stays(Stays::NotResumable);
    let almost = KEEP_CONTEXT.saturating_sub(secs(1));
    for why in [Nomination::Lru, Nomination::Memory] {
        assert_eq!(asked(lost(almost), why, true), stays, "{why}");
        assert_eq!(asked(lost(KEEP_CONTEXT), why, false), Decision::Goes);
    }
    for why in [Nomination::Ttl, Nomination::Operator] {
        assert_eq!(asked(lost(KEEP_CONTEXT), why, true), stays, "{why}");
    }
    // An idle time that is shorter holds.
    let short = Keep {
        needed: secs(10),
        ..keep()
    };
    let early = decide(&lost(secs(10)), Nomination::Lru, false, short);
    assert_eq!(early, Decision::Goes);
}

#[test]
fn a_message_that_waits_keeps_it_unless_one_insists() {
    let needed = View {
        looked: Some(Looked {
            queued: Some(true),
            left_running: Some(0),
        }),
        ..idle()
    };
    let stays = Decision::Stays(Stays::QueuedMessage);
    assert_eq!(asked(needed, Nomination::Lru, false), stays);
    assert_eq!(asked(needed, Nomination::Lru, true), Decision::Goes);
}
