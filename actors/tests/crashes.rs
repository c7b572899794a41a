//! Promises about crashes, evictions, leases and stops.

use std::time::Duration;

use hearth_actors::limits::ParkReason;
use hearth_actors::outcome::{Outcome, TaskState};
use hearth_actors::ports::Fact;
use hearth_actors::testing::backend::{Start, Step};
use hearth_actors::testing::harness::{Harness, Setup};
use hearth_actors::tree::Status;
use hearth_actors::tree::handle::Refusal;
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn a_death_in_mid_turn_ends_that_turn_and_the_next_starts_again() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    harness
        .backend
        .next_turn(vec![Step::Say("x"), Step::Exit(1)]);
    let first = harness.enqueue(session, &key, "1");
    let second = harness.enqueue(session, &key, "2");
    assert_eq!(harness.outcome(first).await, Outcome::AgentCrashed);
    assert_eq!(harness.outcome(second).await, Outcome::Ok);
    assert_eq!(harness.backend.started().len(), 2);
    let board = harness.tree.board();
    let shown = board
        .get(&["root", "pool", &key.to_string()])
        .expect("a session");
    assert_eq!(shown.restarts, 1);
    assert!(
        shown
            .last_exit
            .is_some_and(|why| why.contains("exit code 1"))
    );
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_bad_agent_cools_down_and_takes_no_other_chat_with_it() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    for _ in 0..4 {
        harness.backend.next_start(Start::Refused);
    }
    let started = Instant::now();
    let bad: Vec<_> = (0..5)
        .map(|_| harness.enqueue(session, &key, "bad"))
        .collect();
    for task in &bad[..4] {
        assert_eq!(harness.outcome(*task).await, Outcome::NoStart);
    }
    let (other, healthy) = harness.chat();
    let task = harness.enqueue(other, &healthy, "good");
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    assert!(started.elapsed() < Duration::from_secs(60));
    assert_eq!(harness.task(bad[4]).state, TaskState::Pending);
    assert_eq!(harness.outcome(bad[4]).await, Outcome::Ok);
    assert!(started.elapsed() >= Duration::from_secs(60));
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_hangs_or_fails_at_its_start_runs_the_turn_alone() {
    let harness = Harness::start(Setup::default()).await;
    let bound = Setup::default().deadlines.spawn;
    for start in [Start::After(bound * 10), Start::Refused] {
        let (session, mut key) = harness.chat();
        key.agent = "lonely".into();
        harness.backend.next_start(start.clone());
        let started = Instant::now();
        let task = harness.enqueue(session, &key, "x");
        assert_eq!(harness.outcome(task).await, Outcome::Ok, "{start:?}");
        assert!(started.elapsed() < bound, "{start:?}");
    }
    // Without anything else that could run it the whole time is its own.
    let (session, key) = harness.chat();
    harness
        .backend
        .next_start(Start::After(bound - Duration::from_secs(1)));
    let task = harness.enqueue(session, &key, "x");
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_panics_in_mid_turn_interrupts_it_and_lives_again() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    harness.backend.next_turn(vec![
        Step::Wait(Duration::from_secs(5)),
        Step::Say("x"),
        Step::Hang,
    ]);
    let first = harness.enqueue(session, &key, "1");
    harness.state(&key, "running").await;
    harness.store.break_it(|faults| faults.append_panics = 1);
    let second = harness.enqueue(session, &key, "2");
    assert_eq!(harness.outcome(first).await, Outcome::Interrupted);
    assert_eq!(harness.outcome(second).await, Outcome::Ok);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_panics_settles_its_turns_by_a_new_life() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    harness.backend.next_turn(vec![Step::Say("x"), Step::Hang]);
    let first = harness.enqueue(session, &key, "1");
    harness.state(&key, "running").await;
    harness.backend.panic_pool();
    let (other, key2) = harness.chat();
    let second = harness.enqueue(other, &key2, "2");
    assert_eq!(harness.outcome(first).await, Outcome::Interrupted);
    assert_eq!(harness.outcome(second).await, Outcome::Ok);
    assert_eq!(harness.task(second).attempts, 2);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_root_whose_children_keep_failing_gives_up() {
    let harness = Harness::start(Setup::default()).await;
    for _ in 0..6 {
        harness.backend.panic_pool();
    }
    let (session, key) = harness.chat();
    harness.enqueue(session, &key, "1");
    let mut status = harness.tree.status();
    let failed = status.wait_for(|status| matches!(status, Status::Failed(_)));
    let failed = tokio::time::timeout(Duration::from_secs(600), failed).await;
    assert!(failed.expect("in time").is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_stops_the_agents_and_writes_nothing() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    harness.backend.next_turn(vec![Step::Say("x"), Step::Hang]);
    let first = harness.enqueue(session, &key, "1");
    harness.state(&key, "running").await;
    harness.store.steal_lease();
    assert_eq!(harness.outcome(first).await, Outcome::Interrupted);
    let second = harness.enqueue(session, &key, "2");
    assert_eq!(harness.outcome(second).await, Outcome::Ok);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn agents_are_gone_before_a_lease_that_cannot_be_renewed_ends() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    harness
        .backend
        .next_turn(vec![Step::IgnoreCancel, Step::Hang]);
    let task = harness.enqueue(session, &key, "1");
    harness.state(&key, "running").await;
    harness.store.break_it(|faults| faults.down = true);
    let down = Instant::now();
    harness
        .until("all agents are gone", |h| {
            (h.backend.alive() == 0).then_some(())
        })
        .await;
    assert!(
        down.elapsed() < Duration::from_secs(30),
        "{:?}",
        down.elapsed()
    );
    harness.store.break_it(|faults| faults.down = false);
    assert_eq!(harness.outcome(task).await, Outcome::Interrupted);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_away_for_a_while_costs_nothing() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    harness.backend.next_turn(vec![
        Step::Flood(10_000),
        Step::Wait(Duration::from_secs(1)),
        Step::Flood(10_000),
    ]);
    let task = harness.enqueue(session, &key, "1");
    harness.state(&key, "running").await;
    harness.store.break_it(|faults| faults.down = true);
    tokio::time::sleep(Duration::from_secs(8)).await;
    harness.store.break_it(|faults| faults.down = false);
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    let words: usize = harness.store.with(|rows| {
        let parts = rows
            .messages
            .values()
            .flat_map(|message| message.parts.values());
        parts
            .map(|part| part.payload["text"].as_str().unwrap_or_default().len())
            .sum()
    });
    assert_eq!(words, 100_000);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn lost_notifications_cost_at_most_a_poll() {
    let mut harness = Harness::start(Setup::default()).await;
    let mut status = harness.tree.status();
    status
        .wait_for(|status| *status == Status::Ready)
        .await
        .expect("a tree");
    tokio::time::sleep(Duration::from_secs(1)).await;
    harness.lose_wakeups = true;
    let (session, key) = harness.chat();
    let queued = Instant::now();
    let task = harness.enqueue(session, &key, "1");
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    assert!(
        queued.elapsed() <= Duration::from_millis(5_100),
        "{:?}",
        queued.elapsed()
    );
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn idle_sessions_go_and_busy_ones_stay() {
    let harness = Harness::start(Setup::default()).await;
    let (session, idle) = harness.chat();
    let first = harness.enqueue(session, &idle, "1");
    assert_eq!(harness.outcome(first).await, Outcome::Ok);
    let (other, busy) = harness.chat();
    harness.backend.next_turn(
        (0..60)
            .flat_map(|_| [Step::Say("x"), Step::Wait(Duration::from_secs(60))])
            .collect(),
    );
    let long = harness.enqueue(other, &busy, "2");
    harness.state(&busy, "running").await;
    assert_eq!(
        harness.tree.evict(busy.clone()).await,
        Err(Refusal::TurnRunning)
    );
    harness
        .until("the idle one is gone", |h| {
            h.tree
                .board()
                .get(&["root", "pool", &idle.to_string()])
                .is_none()
                .then_some(())
        })
        .await;
    assert_eq!(harness.backend.alive(), 1);
    assert_eq!(harness.outcome(long).await, Outcome::Ok);
    assert_eq!(harness.tree.evict(busy.clone()).await, Ok(()));
    assert_eq!(
        harness.tree.evict(busy.clone()).await,
        Err(Refusal::NotWarm(busy))
    );
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_least_recently_used_makes_room() {
    let mut setup = Setup::default();
    setup.tree.limits.max_live = 2;
    let harness = Harness::start(setup).await;
    let chats: Vec<_> = (0..4).map(|_| harness.chat()).collect();
    for (session, key) in &chats {
        let task = harness.enqueue(*session, key, "x");
        assert_eq!(harness.outcome(task).await, Outcome::Ok);
        assert!(harness.backend.alive() <= 2);
    }
    harness.state(&chats[2].1, "idle").await;
    harness.state(&chats[3].1, "idle").await;
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_turns_finish_within_the_grace_and_interrupts_the_rest() {
    let harness = Harness::start(Setup::default()).await;
    let (one, quick) = harness.chat();
    let (two, slow) = harness.chat();
    harness
        .backend
        .next_turn(vec![Step::Wait(Duration::from_millis(500)), Step::Say("x")]);
    harness.backend.next_turn(vec![Step::Say("x"), Step::Hang]);
    let first = harness.enqueue(one, &quick, "1");
    harness.state(&quick, "running").await;
    let second = harness.enqueue(two, &slow, "2");
    harness.state(&slow, "running").await;
    let store = harness.store.clone();
    harness.shutdown().await;
    let ended = |task| store.with(|rows| rows.tasks[&task].outcomes.clone());
    assert_eq!(ended(first), [Outcome::Ok]);
    assert_eq!(ended(second), [Outcome::Interrupted]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_by_hand_interrupts_and_forgives() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    harness.backend.next_turn(vec![Step::Say("x"), Step::Hang]);
    let task = harness.enqueue(session, &key, "1");
    harness.state(&key, "running").await;
    assert_eq!(harness.tree.restart(key.clone()).await, Ok(()));
    assert_eq!(harness.outcome(task).await, Outcome::Interrupted);
    let next = harness.enqueue(session, &key, "2");
    assert_eq!(harness.outcome(next).await, Outcome::Ok);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_fails_in_chat_after_chat_rests_in_all_and_one_tries_first() {
    let harness = Harness::start(Setup::default()).await;
    let (well_session, well) = harness.warm().await;
    let chats: Vec<_> = (0..3).map(|_| harness.chat()).collect();
    // Two failures each, then the seventh start fails too: the try.
    for _ in 0..7 {
        harness.backend.next_start(Start::Refused);
    }
    let mut tasks = Vec::new();
    for (session, key) in &chats {
        for _ in 0..2 {
            tasks.push(harness.enqueue(*session, key, "bad"));
        }
    }
    for task in tasks {
        assert_eq!(harness.outcome(task).await, Outcome::NoStart);
    }
    let opened = Instant::now();
    let resting = |harness: &Harness| harness.store.with(|rows| rows.resting_agents.len());
    harness
        .until("people are told", |harness| {
            (resting(harness) == 1).then_some(())
        })
        .await;
    let others: Vec<_> = (0..4)
        .map(|_| {
            let (session, key) = harness.chat();
            harness.enqueue(session, &key, "later")
        })
        .collect();
    sleep(Duration::from_secs(5)).await;
    for task in &others {
        let parked = harness.task(*task).parked.expect("it waits");
        assert_eq!(parked.reason, ParkReason::CoolDown);
    }
    let failed = harness
        .until("one has tried", |harness| {
            let mut tasks = others.iter();
            tasks.position(|task| !harness.task(*task).outcomes.is_empty())
        })
        .await;
    assert!(opened.elapsed() >= Duration::from_secs(29));
    assert_eq!(harness.outcome(others[failed]).await, Outcome::NoStart);
    let tried_again = Instant::now();
    for (index, task) in others.iter().enumerate() {
        if index != failed {
            assert_eq!(harness.outcome(*task).await, Outcome::Ok);
        }
    }
    assert!(
        tried_again.elapsed() >= Duration::from_secs(59),
        "twice as long"
    );
    harness
        .until("people are told", |harness| {
            (resting(harness) == 0).then_some(())
        })
        .await;
    let circuits = harness.meter.facts(|fact| match fact {
        Fact::Circuit { open, .. } => Some(*open),
        _ => None,
    });
    assert_eq!(circuits, [true, true, false]);
    let task = harness.enqueue(well_session, &well, "still");
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_warm_and_well_chat_works_while_its_agent_rests_elsewhere() {
    let harness = Harness::start(Setup::default()).await;
    let (session, well) = harness.warm().await;
    for _ in 0..6 {
        harness.backend.next_start(Start::Refused);
    }
    let mut bad = Vec::new();
    for _ in 0..3 {
        let (session, key) = harness.chat();
        for _ in 0..2 {
            bad.push(harness.enqueue(session, &key, "bad"));
        }
    }
    for task in bad {
        assert_eq!(harness.outcome(task).await, Outcome::NoStart);
    }
    let began = Instant::now();
    let task = harness.enqueue(session, &well, "good");
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    assert!(began.elapsed() < Duration::from_secs(5));
    // It works, whatever was wrong elsewhere.
    let (session, key) = harness.chat();
    let task = harness.enqueue(session, &key, "new");
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    assert!(began.elapsed() < Duration::from_secs(5));
    harness.shutdown().await;
}
