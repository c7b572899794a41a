//! Promises about turns that wait for a human while their place is needed: by a stop
//! of Hearth, or by other turns. What is asked stays open, and no answer is lost.

use std::time::Duration;

use hearth_actors::event::Answer;
use hearth_actors::ids::{PromptId, SessionId, SessionKey, TaskId};
use hearth_actors::limits::ParkReason;
use hearth_actors::model::Policy;
use hearth_actors::outcome::{Outcome, TaskState};
use hearth_actors::rules::pool::PATIENCE;
use hearth_actors::rules::routing::Origin;
use hearth_actors::testing::backend::Step;
use hearth_actors::testing::harness::{Harness, Setup};
use hearth_actors::tree::handle::Refusal;
use tokio::time::Instant;

const GRACE: Duration = Duration::from_secs(30);
/// A stop that waits for nobody, the fake's death of a process in it.
const AT_ONCE: Duration = Duration::from_secs(1);

fn asking(max_live: usize) -> Setup {
    let mut setup = Setup {
        policy: Policy::Ask,
        ..Setup::default()
    };
    setup.tree.limits.max_live = max_live;
    setup
}

/// A task that asks, and its open prompt.
async fn ask(
    harness: &Harness,
    script: Vec<Step>,
    prompts: usize,
) -> (SessionId, SessionKey, TaskId, Vec<PromptId>) {
    harness.backend.next_turn(script);
    let (session, key) = harness.chat();
    let task = harness.enqueue(session, &key, "x");
    let open = harness.open_prompts(prompts).await;
    (session, key, task, open)
}

/// Its process ends with its turn, and none goes on with it.
fn one_shot_that_may_ask(harness: &Harness) -> TaskId {
    let (session, key) = harness.chat();
    let task = harness.enqueue_from(Origin::default(), session, &key, "x");
    let policy = Some(Policy::Ask);
    harness
        .store
        .with(|rows| rows.tasks.get_mut(&task).expect("the task").policy = policy);
    task
}

async fn detached(harness: &Harness, task: TaskId) {
    harness
        .until("the task waits without a turn", |harness| {
            let row = harness.task(task);
            (row.detached && row.state == TaskState::Blocked).then_some(())
        })
        .await;
}

fn allowed(ask: &str) -> (String, Answer) {
    (ask.into(), Answer::Option("allow".into()))
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_no_human() {
    let beside = [
        vec![Step::Ask],
        // Another tool of the turn works on beside the question.
        vec![Step::AskAtOnce(2), Step::Hang],
    ];
    for (script, prompts) in beside.into_iter().zip([1, 2]) {
        let harness = Harness::start(asking(4)).await;
        let (_, _, task, open) = ask(&harness, script, prompts).await;
        let began = Instant::now();
        let harness = harness.start_over(GRACE, asking(4)).await;
        assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
        detached(&harness, task).await;
        assert_eq!(harness.open_prompts(prompts).await, open);
        for prompt in open {
            assert!(harness.answer_detached(prompt, "allow"));
        }
        assert_eq!(harness.outcome(task).await, Outcome::Ok);
        harness.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_works_is_waited_for_until_it_asks() {
    let harness = Harness::start(asking(4)).await;
    let (session, key) = harness.chat();
    let work = Step::Wait(Duration::from_secs(10));
    harness
        .backend
        .next_turn(vec![Step::Say("x"), work.clone()]);
    let works = harness.enqueue(session, &key, "x");
    harness.state(&key, "running").await;
    harness.backend.next_turn(vec![work, Step::Ask]);
    let (session, key) = harness.chat();
    let asks = harness.enqueue(session, &key, "y");
    harness.state(&key, "running").await;
    let began = Instant::now();
    let harness = harness.start_over(GRACE, asking(4)).await;
    let took = began.elapsed();
    assert!(
        took >= Duration::from_secs(9) && took < Duration::from_secs(12),
        "{took:?}"
    );
    assert_eq!(harness.outcome(works).await, Outcome::Ok);
    detached(&harness, asks).await;
    let prompt = harness.open_prompts(1).await[0];
    assert!(harness.answer_detached(prompt, "allow"));
    assert_eq!(harness.outcome(asks).await, Outcome::Ok);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_claimed_and_not_begun_waits_for_the_next_start() {
    let harness = Harness::start(asking(4)).await;
    harness.worktrees.slow(Duration::from_secs(3600));
    let (session, key) = harness.chat();
    let task = harness.enqueue(session, &key, "x");
    harness.state(&key, "preparing").await;
    harness.worktrees.slow(Duration::ZERO);
    let harness = harness.start_over(Duration::ZERO, asking(4)).await;
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    assert_eq!(harness.backend.prompts().len(), 1);
    harness.shutdown().await;
}

/// An answer comes at any moment of a stop, to a store of any speed: the agent hears
/// it and goes on, or its next process does; who gave it is told at once.
#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_while_hearth_stops_is_never_lost() {
    let mut stored = 0;
    for latency in [0, 3, 40] {
        for delay in 0..50 {
            let harness = Harness::start(asking(4)).await;
            let script = vec![Step::Ask, Step::Say("thanks")];
            let (session, _, task, open) = ask(&harness, script, 1).await;
            let prompt = open[0];
            harness
                .backend
                .next_turn(vec![Step::Ask, Step::Say("again")]);
            harness
                .store
                .break_it(|faults| faults.latency = Duration::from_millis(latency));
            let (tree, option) = (harness.tree.clone(), "allow");
            // The stop, or the answer, comes first.
            let (stop_after, answer_after) = if delay % 2 == 0 {
                (0, delay * (latency + 2) / 8)
            } else {
                (delay * (latency + 2) / 8, 0)
            };
            let stop = async {
                tokio::time::sleep(Duration::from_millis(stop_after)).await;
                tree.shutdown(GRACE).await;
            };
            let began = Instant::now();
            let answer = async {
                tokio::time::sleep(Duration::from_millis(answer_after)).await;
                let told = harness.answer(task, prompt, option).await;
                (told, began.elapsed())
            };
            let ((), (told, took)) = tokio::join!(stop, answer);
            let seen = format!("latency {latency} ms, delay {delay}: {told:?} after {took:?}");
            assert!(took < Duration::from_secs(2), "{seen}");
            let harness = harness.start_over(Duration::ZERO, asking(4)).await;
            harness
                .store
                .break_it(|faults| faults.latency = Duration::ZERO);
            if told.is_ok() {
                assert!(harness.settled(prompt).is_some(), "{seen}");
            } else {
                // The row is open still, and takes the answer that was not taken.
                assert!(harness.answer_detached(prompt, option), "{seen}");
            }
            assert_eq!(harness.outcome(task).await, Outcome::Ok, "{seen}");
            let heard = harness.backend.answers();
            assert_eq!(heard.last(), Some(&allowed("ask-1")), "{seen}");
            stored += usize::from(told.is_ok() && harness.task(task).attempts == 2);
            let asked = harness.store.with(|rows| rows.prompts.len());
            assert!(asked <= 2, "{seen}: nobody is asked again");
            let _ = session;
            harness.shutdown().await;
        }
    }
    assert!(stored > 5, "only {stored} answers met the stop itself");
}

#[tokio::test(start_paused = true)]
async fn a_cancel_that_comes_while_hearth_stops_is_a_cancel() {
    let harness = Harness::start(asking(4)).await;
    let (session, key) = harness.chat();
    harness.backend.next_turn(vec![Step::Say("x"), Step::Hang]);
    let task = harness.enqueue(session, &key, "x");
    harness.state(&key, "running").await;
    let tree = harness.tree.clone();
    let began = Instant::now();
    let stop = tree.shutdown(GRACE);
    let cancel = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        harness.store.request_cancel(task);
        harness.tree.cancel(task);
    };
    tokio::join!(stop, cancel);
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(harness.task(task).outcomes, [Outcome::Cancelled]);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_pool_of_questions_makes_room_and_the_answer_goes_on() {
    let harness = Harness::start(asking(1)).await;
    let (_, key, task, open) = ask(&harness, vec![Step::Ask], 1).await;
    let asked = Instant::now();
    let (other, other_key) = harness.chat();
    let next = harness.enqueue(other, &other_key, "y");
    assert_eq!(harness.outcome(next).await, Outcome::Ok);
    let waited = asked.elapsed();
    assert!(
        waited >= PATIENCE && waited < PATIENCE + Duration::from_secs(3),
        "{waited:?}"
    );
    detached(&harness, task).await;
    assert_eq!(harness.open_prompts(1).await, open);
    assert!(
        harness
            .tree
            .board()
            .get(&["root", "pool", &key.to_string()])
            .is_none()
    );
    let again = vec![Step::Ask, Step::Say("thanks")];
    harness.backend.next_turn(again);
    assert!(harness.answer_detached(open[0], "allow"));
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    assert_eq!(harness.backend.answers(), [allowed("ask-1")]);
    harness.shutdown().await;
}

/// Three places, six sessions that all ask, and one that does not: all come to their
/// turn, and all that is asked stays open.
#[tokio::test(start_paused = true)]
async fn questions_never_starve_the_others() {
    let harness = Harness::start(asking(3)).await;
    let mut tasks = Vec::new();
    for _ in 0..6 {
        harness.backend.next_turn(vec![Step::Ask]);
    }
    for _ in 0..7 {
        let (session, key) = harness.chat();
        tasks.push(harness.enqueue(session, &key, "x"));
    }
    let last = tasks.pop().expect("the seventh");
    assert_eq!(harness.outcome(last).await, Outcome::Ok);
    let open = harness.open_prompts(6).await;
    for task in &tasks {
        assert_eq!(harness.task(*task).state, TaskState::Blocked);
    }
    for prompt in open {
        let task = harness
            .store
            .with(|rows| rows.prompts[&prompt].turn.fence.task);
        if harness.answer(task, prompt, "allow").await != Ok(()) {
            assert!(harness.answer_detached(prompt, "allow"));
        }
    }
    for task in tasks {
        assert_eq!(harness.outcome(task).await, Outcome::Ok);
    }
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn who_cannot_be_asked_again_stays_and_the_others_say_that_they_wait() {
    for one_shot in [false, true] {
        let harness = Harness::start(asking(1)).await;
        if !one_shot {
            harness.backend.deny_continuing();
        }
        harness
            .backend
            .next_turn(vec![Step::Ask, Step::Say("thanks")]);
        let task = if one_shot {
            one_shot_that_may_ask(&harness)
        } else {
            let (session, key) = harness.chat();
            harness.enqueue(session, &key, "x")
        };
        let prompt = harness.open_prompts(1).await[0];
        let (other, other_key) = harness.chat();
        let next = harness.enqueue(other, &other_key, "y");
        let parked = harness
            .until("it says that it waits", |harness| {
                harness.task(next).parked.clone()
            })
            .await;
        assert_eq!(parked.reason, ParkReason::PoolFull);
        let detail = parked.detail.expect("a detail");
        assert!(detail.contains("1 of them wait for people"), "{detail}");
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(harness.task(next).outcomes, []);
        assert_eq!(harness.task(task).state, TaskState::Blocked);
        let pool = harness.tree.board().get(&["root", "pool"]).expect("a pool");
        assert_eq!(pool.detail["asking"], 1);
        let turned_away = pool.detail["turned_away"].as_u64().expect("a number");
        // After 5, 10, 20 and 40 s, then once a minute.
        assert!((55..65).contains(&turned_away), "{turned_away} in an hour");
        assert_eq!(harness.answer(task, prompt, "allow").await, Ok(()));
        assert_eq!(harness.outcome(task).await, Outcome::Ok);
        assert_eq!(harness.outcome(next).await, Outcome::Ok);
        harness.shutdown().await;
    }
}

/// However many questions wait, the queue behind them is left in peace: a task now and
/// again finds that no place is free, and not each of them.
#[tokio::test(start_paused = true)]
async fn questions_that_cannot_leave_do_not_churn_the_queue() {
    let harness = Harness::start(asking(4)).await;
    for many in 1..=4 {
        harness.backend.next_turn(vec![Step::Ask]);
        one_shot_that_may_ask(&harness);
        harness.open_prompts(many).await;
    }
    let waits: Vec<_> = (0..200)
        .map(|_| {
            let (session, key) = harness.chat();
            harness.enqueue(session, &key, "x")
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let attempts = |harness: &Harness| -> i32 {
        let rows = waits.iter().map(|task| harness.task(*task).attempts);
        rows.sum()
    };
    let in_vain = attempts(&harness);
    assert!((10..20).contains(&in_vain), "{in_vain} claims in vain");
    // An answer makes room at once for all of them, one after another.
    let prompt = harness.open_prompts(4).await[0];
    let task = harness
        .store
        .with(|rows| rows.prompts[&prompt].turn.fence.task);
    let began = Instant::now();
    assert_eq!(harness.answer(task, prompt, "allow").await, Ok(()));
    for task in waits {
        assert_eq!(harness.outcome(task).await, Outcome::Ok);
    }
    assert!(began.elapsed() < AT_ONCE * 60, "{:?}", began.elapsed());
    harness.shutdown().await;
}

/// Credit is lent and taken back: never more turns than places, however often turns
/// ask and are answered.
#[tokio::test(start_paused = true)]
async fn lent_credit_comes_back() {
    let harness = Harness::start(asking(2)).await;
    let mut chats = Vec::new();
    for _ in 0..4 {
        chats.push(harness.chat());
    }
    let mut tasks = Vec::new();
    for round in 0..40 {
        let (session, key) = &chats[round % 4];
        harness.backend.next_turn(vec![
            Step::Ask,
            Step::Wait(Duration::from_millis(700)),
            Step::AskAtOnce(2),
        ]);
        tasks.push(harness.enqueue(*session, key, "x"));
    }
    let all = tasks.clone();
    let answered = async {
        for _ in 0..2000 {
            tokio::time::sleep(Duration::from_millis(900)).await;
            let open: Vec<_> = harness.store.with(|rows| {
                let open = rows.prompts.iter().filter(|(_, row)| row.settled.is_none());
                open.map(|(id, row)| (*id, row.turn.fence.task)).collect()
            });
            for (prompt, task) in open {
                let told = harness.answer(task, prompt, "allow").await;
                if matches!(told, Err(Refusal::NoPrompt)) {
                    harness.answer_detached(prompt, "allow");
                }
            }
            if all
                .iter()
                .all(|task| !harness.task(*task).outcomes.is_empty())
            {
                break;
            }
        }
    };
    answered.await;
    for task in tasks {
        assert_eq!(harness.outcome(task).await, Outcome::Ok);
    }
    harness
        .until("all credit is back", |harness| {
            let shown = harness.tree.board().get(&["root", "dispatcher"])?;
            (shown.detail["credit"] == 2).then_some(())
        })
        .await;
    harness.shutdown().await;
}
