//! Promises about refusals, parking and budgets.

use std::time::Duration;

use hearth_actors::event::{FaultClass, Reset};
use hearth_actors::ids::TaskId;
use hearth_actors::limits::{Budget, ParkReason};
use hearth_actors::outcome::{Outcome, TaskState};
use hearth_actors::rules::routing::Origin;
use hearth_actors::testing::backend::{Start, Step};
use hearth_actors::testing::harness::{Harness, Setup};
use tokio::time::Instant;

fn tokens(tokens: i64) -> Budget {
    Budget {
        tokens: Some(tokens),
        ..Budget::default()
    }
}

/// Waits until the task is parked; tells why.
async fn parked(harness: &Harness, task: TaskId) -> ParkReason {
    harness
        .until("a parked task", |harness| {
            let row = harness.task(task);
            let waits = row.state == TaskState::Pending && row.not_before.is_some();
            row.parked.filter(|_| waits).map(|parked| parked.reason)
        })
        .await
}

#[tokio::test(start_paused = true)]
async fn a_refused_prompt_is_tried_again_by_the_same_process() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    for reset in [None, Some(Reset::After(Duration::from_secs(90)))] {
        let refusal = Step::Refuse(FaultClass::Overload, reset);
        harness.backend.next_turn(vec![refusal]);
    }
    let started = Instant::now();
    let task = harness.enqueue(session, &key, "1");
    let behind = harness.enqueue(session, &key, "2");
    assert_eq!(parked(&harness, task).await, ParkReason::Overload);
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(91), "{took:?}");
    assert_eq!(harness.outcome(behind).await, Outcome::Ok, "in order");
    assert_eq!(harness.task(task).attempts, 3);
    assert_eq!(harness.backend.prompts().len(), 4);
    assert_eq!(harness.backend.started().len(), 1, "it stayed warm");
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn refusals_without_end_end() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    for _ in 0..20 {
        let refusal = Step::Refuse(FaultClass::Overload, None);
        harness.backend.next_turn(vec![refusal]);
    }
    let task = harness.enqueue(session, &key, "1");
    assert_eq!(harness.outcome(task).await, Outcome::Overload);
    assert_eq!(harness.backend.prompts().len(), 5, "no storm");
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_quota_is_waited_for_only_when_its_reset_is_known() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    let hour = Duration::from_secs(3000);
    for reset in [None, Some(Reset::After(hour))] {
        let refusal = Step::Refuse(FaultClass::Quota, reset);
        harness.backend.next_turn(vec![refusal]);
    }
    let unknown = harness.enqueue(session, &key, "1");
    assert_eq!(harness.outcome(unknown).await, Outcome::Quota);
    let started = Instant::now();
    let known = harness.enqueue(session, &key, "2");
    assert_eq!(parked(&harness, known).await, ParkReason::Quota);
    assert_eq!(harness.outcome(known).await, Outcome::Ok);
    assert!(started.elapsed() >= hour);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_said_or_wrote_something_is_never_prompted_again() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    harness.backend.next_turn(vec![Step::Say("x"), Step::Fail]);
    harness
        .backend
        .next_turn(vec![Step::Refuse(FaultClass::Auth, None)]);
    let spoke = harness.enqueue(session, &key, "1");
    assert_eq!(harness.outcome(spoke).await, Outcome::AgentError);
    let auth = harness.enqueue(session, &key, "2");
    assert_eq!(harness.outcome(auth).await, Outcome::Auth);
    harness.backend.next_turn(vec![
        Step::Wait(Duration::from_secs(5)),
        Step::Refuse(FaultClass::Overload, None),
    ]);
    let wrote = harness.enqueue(session, &key, "3");
    harness.state(&key, "running").await;
    let worktree = harness.worktree(session);
    harness.worktrees.put(&worktree, "a.txt", "moved");
    assert_eq!(harness.outcome(wrote).await, Outcome::Overload);
    assert_eq!(harness.backend.prompts().len(), 3);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_parked_task_can_be_cancelled_and_a_cancel_comes_first() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    let hour = Some(Reset::After(Duration::from_secs(3600)));
    let refusal = Step::Refuse(FaultClass::Overload, hour);
    harness.backend.next_turn(vec![refusal]);
    let task = harness.enqueue(session, &key, "1");
    parked(&harness, task).await;
    harness.store.request_cancel(task);
    let next = harness.enqueue(session, &key, "2");
    assert_eq!(harness.outcome(next).await, Outcome::Ok);
    assert_eq!(harness.task(task).state, TaskState::Cancelled);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_task_that_waits_says_for_what() {
    let mut setup = Setup::default();
    setup.tree.limits.max_live = 1;
    let harness = Harness::start(setup).await;
    let (session, key) = harness.chat();
    for _ in 0..4 {
        harness.backend.next_start(Start::Refused);
    }
    let mut seen = Vec::new();
    for _ in 0..5 {
        let task = harness.enqueue(session, &key, "bad");
        let ended = harness
            .until("an end or a cool-down", |harness| {
                let row = harness.task(task);
                if let Some(parked) = row.parked.filter(|_| row.not_before.is_some()) {
                    seen.push(parked.reason);
                }
                let cools = seen.last() == Some(&ParkReason::CoolDown);
                (cools || !row.outcomes.is_empty()).then_some(!cools)
            })
            .await;
        if !ended {
            break;
        }
    }
    seen.dedup();
    assert_eq!(seen, [ParkReason::BackOff, ParkReason::CoolDown]);
    let told = harness.store.with(|rows| {
        let frames = rows.frames[&session].iter();
        let told = frames.filter_map(|frame| frame.data["parked"]["reason"].as_str());
        told.map(str::to_owned).collect::<Vec<_>>()
    });
    assert!(told.contains(&"cool_down".to_owned()), "{told:?}");
    harness.shutdown().await;
}

/// Its one-shot turns have a new key each, and are counted all the same.
#[tokio::test(start_paused = true)]
async fn a_bad_agents_one_shots_cool_down_together() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    let origin = Origin {
        own_chat: false,
        ..Origin::default()
    };
    for _ in 0..4 {
        harness.backend.next_start(Start::Refused);
    }
    let started = Instant::now();
    let bad: Vec<_> = (0..5)
        .map(|_| harness.enqueue_from(origin, session, &key, "bad"))
        .collect();
    for task in &bad[..4] {
        assert_eq!(harness.outcome(*task).await, Outcome::NoStart);
    }
    assert_eq!(parked(&harness, bad[4]).await, ParkReason::CoolDown);
    let pool = harness.tree.board().get(&["root", "pool"]).expect("a pool");
    assert_eq!(pool.detail["resting"][0]["one_shots"], true);
    // The chat's warm session is another matter.
    let (other, own) = harness.chat();
    let warm = harness.enqueue(other, &own, "good");
    assert_eq!(harness.outcome(warm).await, Outcome::Ok);
    assert!(started.elapsed() < Duration::from_secs(60));
    assert_eq!(harness.outcome(bad[4]).await, Outcome::Ok);
    assert!(started.elapsed() >= Duration::from_secs(60));
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_spends_too_much_is_ended_and_the_next_waits() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    harness
        .store
        .with(|rows| rows.budgets.insert(session, tokens(100)));
    harness.backend.next_turn(vec![
        Step::Spend(85),
        Step::Say("x"),
        Step::Spend(30),
        Step::Hang,
    ]);
    let task = harness.enqueue(session, &key, "1");
    assert_eq!(harness.outcome(task).await, Outcome::Budget);
    let next = harness.enqueue(session, &key, "2");
    assert_eq!(parked(&harness, next).await, ParkReason::Budget);
    assert_eq!(harness.backend.prompts().len(), 1, "not prompted");
    let told = harness.store.with(|rows| {
        let frames = rows.frames[&session].iter();
        let told = frames.filter_map(|frame| frame.data["level"].as_str());
        told.map(str::to_owned).collect::<Vec<_>>()
    });
    assert_eq!(told.len(), 1, "once: {told:?}");
    harness
        .store
        .with(|rows| rows.budgets.insert(session, tokens(1000)));
    // Whoever raises it has the parked ones looked at.
    harness
        .store
        .with(|rows| rows.tasks.get_mut(&next).map(|row| row.not_before = None));
    harness.tree.wakeup();
    assert_eq!(harness.outcome(next).await, Outcome::Ok);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn time_is_a_budget_and_runs_out_in_silence() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    harness.backend.next_turn(vec![Step::Say("x"), Step::Hang]);
    let budget = Budget {
        wall_ms: Some(90_000),
        ..Budget::default()
    };
    let task = harness.store.insert(session, key.clone(), "1");
    harness.store.with(|rows| {
        rows.tasks
            .get_mut(&task)
            .map(|row| row.budget = Some(budget))
    });
    let started = Instant::now();
    harness.tree.wakeup();
    assert_eq!(harness.outcome(task).await, Outcome::Budget);
    let took = started.elapsed();
    assert!((90..98).contains(&took.as_secs()), "{took:?}");
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_task_without_anything_left_ends_unprompted() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    let budget = Budget {
        turns: Some(1),
        ..Budget::default()
    };
    harness
        .backend
        .next_turn(vec![Step::Refuse(FaultClass::Overload, None)]);
    let task = harness.store.insert(session, key.clone(), "1");
    harness.store.with(|rows| {
        rows.tasks
            .get_mut(&task)
            .map(|row| row.budget = Some(budget))
    });
    harness.tree.wakeup();
    assert_eq!(harness.outcome(task).await, Outcome::Budget);
    assert_eq!(harness.backend.prompts().len(), 1);
    let free = harness.enqueue(session, &key, "2");
    assert_eq!(
        harness.outcome(free).await,
        Outcome::Ok,
        "the credit is back"
    );
    harness.shutdown().await;
}

/// A budget that nobody can count is not spent, and a database that is away for a
/// moment is waited for.
#[tokio::test(start_paused = true)]
async fn a_database_that_is_away_keeps_budgets() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    harness
        .store
        .with(|rows| rows.budgets.insert(session, tokens(100)));
    harness
        .store
        .break_it(|faults| faults.latency = Duration::from_secs(2));
    let task = harness.enqueue(session, &key, "1");
    harness
        .until("a look at the budget", |harness| {
            let pool = harness.tree.board().get(&["root", "pool"])?;
            (pool.detail["weighing"] == 1).then_some(())
        })
        .await;
    harness.store.break_it(|faults| faults.down = true);
    tokio::time::sleep(Duration::from_secs(5)).await;
    harness
        .store
        .break_it(|faults| *faults = Default::default());
    assert_eq!(harness.outcome(task).await, Outcome::Ok);

    // A cancel finds it there too.
    harness
        .store
        .break_it(|faults| faults.latency = Duration::from_secs(2));
    let task = harness.enqueue(session, &key, "2");
    harness
        .until("a look at the budget", |harness| {
            let pool = harness.tree.board().get(&["root", "pool"])?;
            (pool.detail["weighing"] == 1).then_some(())
        })
        .await;
    harness.store.request_cancel(task);
    harness.tree.cancel(task);
    assert_eq!(harness.outcome(task).await, Outcome::Cancelled);
    assert_eq!(harness.backend.prompts().len(), 1);
    harness.shutdown().await;
}

/// One chat found out for all; when its time is over, one of them tries and the
/// others wait for what comes of it.
#[tokio::test(start_paused = true)]
async fn a_quota_holds_back_every_chat_of_its_agent_and_one_tries_first() {
    let harness = Harness::start(Setup::default()).await;
    let quota = Duration::from_secs(1200);
    let refusal = || Step::Refuse(FaultClass::Quota, Some(Reset::After(quota)));
    let started = Instant::now();
    let (session, key) = harness.chat();
    harness.backend.next_turn(vec![refusal()]);
    let first = harness.enqueue(session, &key, "1");
    assert_eq!(parked(&harness, first).await, ParkReason::Quota);
    let mut others = Vec::new();
    for _ in 0..3 {
        let (session, key) = harness.chat();
        others.push(harness.enqueue(session, &key, "other"));
    }
    for other in &others {
        assert_eq!(parked(&harness, *other).await, ParkReason::Quota);
        let row = harness.task(*other).parked.expect("it says why");
        assert!(row.after > quota - Duration::from_secs(60), "{row:?}");
        assert!(!row.open_ended);
    }
    assert_eq!(harness.backend.prompts().len(), 1, "one found it out");

    // The first that tries is refused again, and takes its time.
    harness
        .backend
        .next_turn(vec![Step::Wait(Duration::from_secs(40)), refusal()]);
    harness
        .until("a second refusal", |harness| {
            let prompts = harness.backend.prompts().len();
            (prompts == 2 && started.elapsed() > quota + Duration::from_secs(200)).then_some(())
        })
        .await;
    assert_eq!(harness.backend.prompts().len(), 2, "one tried for all");
    harness
        .backend
        .next_turn(vec![Step::Wait(Duration::from_secs(40)), Step::Say("yes")]);
    for task in others.iter().chain([&first]) {
        assert_eq!(harness.outcome(*task).await, Outcome::Ok);
    }
    let took = started.elapsed();
    assert!(took > 2 * quota && took < 2 * quota + quota / 4, "{took:?}");
    assert!(harness.store.with(|rows| rows.rests.is_empty()));
    harness.shutdown().await;
}

/// Somebody bounds what runs already.
#[tokio::test(start_paused = true)]
async fn a_budget_reaches_a_turn_that_had_none() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    harness.backend.next_turn(vec![Step::Spend(85), Step::Hang]);
    let task = harness.enqueue(session, &key, "1");
    harness
        .until("what it spent", |harness| {
            harness.store.with(|rows| {
                let mut turns = rows.turns.values();
                turns
                    .any(|turn| turn.usage.output_tokens + turn.usage.input_tokens >= 85)
                    .then_some(())
            })
        })
        .await;
    let started = Instant::now();
    harness.tree.look_at_budgets();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(harness.task(task).outcomes.is_empty(), "nothing bounds it");
    harness
        .store
        .with(|rows| rows.budgets.insert(session, tokens(80)));
    harness.tree.look_at_budgets();
    assert_eq!(harness.outcome(task).await, Outcome::Budget);
    assert!(started.elapsed() < Duration::from_secs(15));
    harness.shutdown().await;
}

/// Each look sums up all that was spent: far from its end, a budget is not looked at
/// for every report.
#[tokio::test(start_paused = true)]
async fn a_budget_far_from_its_end_is_looked_at_once_a_second() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    harness
        .store
        .with(|rows| rows.budgets.insert(session, tokens(100_000)));
    let mut steps = Vec::new();
    for _ in 0..50 {
        steps.extend([Step::Spend(1), Step::Wait(Duration::from_millis(100))]);
    }
    harness.backend.next_turn(steps);
    let task = harness.enqueue(session, &key, "1");
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    let looks = harness.store.with(|rows| rows.budget_looks);
    // Five seconds, with one look before the prompt and one behind the end.
    assert!((5..=9).contains(&looks), "{looks} looks");
    harness.shutdown().await;
}
