//! Promises about arenas: side by side, judged once each, through every fault.

use std::time::Duration;

use hearth_actors::arena::{ArenaState, CheckCommand, CheckResult, Stage};
use hearth_actors::ids::{ArenaId, SessionId, SessionKey, TaskId};
use hearth_actors::outcome::Outcome;
use hearth_actors::testing::backend::Step;
use hearth_actors::testing::harness::{Harness, Setup};
use hearth_actors::testing::memory::ArenaRow;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

fn check(command: &str) -> CheckCommand {
    CheckCommand {
        command: command.split(' ').map(str::to_owned).collect(),
        timeout: 60 * SECOND,
    }
}

fn begin(
    harness: &Harness,
    source: Option<SessionId>,
    many: usize,
    command: Option<&str>,
) -> (ArenaId, Vec<TaskId>) {
    let keys: Vec<SessionKey> = (0..many).map(|_| harness.key()).collect();
    let made = harness
        .store
        .create_arena(source, &keys, command.map(check))
        .expect("the gate is free");
    harness.tree.look_at_arenas();
    harness.tree.wakeup();
    made
}

async fn is(harness: &Harness, arena: ArenaId, state: ArenaState) -> ArenaRow {
    harness
        .until(&format!("the arena is {state}"), |harness| {
            let row = harness.store.arena(arena);
            (row.state == state).then_some(row)
        })
        .await
}

/// Every contestant was judged once, and no gate is held.
fn settled(harness: &Harness, row: &ArenaRow) {
    assert!(
        row.contestants.iter().all(|one| one.verdicts == 1),
        "{row:#?}"
    );
    assert!(harness.store.with(|rows| rows.held.is_empty()));
    assert_eq!(harness.checks.alive().0, 0);
}

#[tokio::test(start_paused = true)]
async fn contestants_run_side_by_side_from_one_base() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    let first = harness.enqueue(session, &key, "work");
    harness.outcome(first).await;
    for _ in 0..3 {
        harness.backend.next_turn(vec![Step::Wait(10 * SECOND)]);
    }
    let started = Instant::now();
    let (arena, tasks) = begin(&harness, Some(session), 3, Some("exit 0"));
    let row = is(&harness, arena, ArenaState::Judged).await;
    assert!(started.elapsed() < 25 * SECOND, "{:?}", started.elapsed());
    settled(&harness, &row);
    for one in &row.contestants {
        let start = harness.store.with(|rows| rows.starts[&one.session].clone());
        assert_eq!(Some(&start), row.base.as_ref());
        assert_eq!(harness.worktree(one.session).baseline, start);
        let end = one.check.as_ref().expect("a check");
        assert_eq!(end.result, CheckResult::Passed);
        assert!(one.result.is_some(), "its files are kept");
    }
    let begun: Vec<TaskId> = harness
        .checks
        .begun()
        .into_iter()
        .map(|(task, _)| task)
        .collect();
    assert_eq!(begun.len(), 3);
    assert!(tasks.iter().all(|task| begun.contains(task)));
    assert_eq!(
        harness.checks.alive().1,
        1,
        "the checks of an arena take turns"
    );
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_waits_for_the_base_and_no_longer() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    harness.worktrees.slow(5 * SECOND);
    let (arena, _) = begin(&harness, Some(session), 2, None);
    harness.backend.next_turn(vec![Step::Say("mine")]);
    let task = harness.enqueue(session, &key, "meanwhile");
    tokio::time::sleep(SECOND).await;
    assert!(harness.task(task).outcomes.is_empty(), "the gate is held");
    harness.worktrees.slow(Duration::ZERO);
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    is(&harness, arena, ArenaState::Judged).await;
    let busy = harness.chat();
    harness.backend.next_turn(vec![Step::Hang]);
    let hangs = harness.enqueue(busy.0, &busy.1, "hang");
    harness.state(&busy.1, "running").await;
    let keys = [harness.key(), harness.key()];
    assert!(
        harness
            .store
            .create_arena(Some(busy.0), &keys, None)
            .is_none()
    );
    harness.tree.cancel(hangs);
    harness.outcome(hangs).await;
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn verdicts_say_how_each_check_went() {
    let harness = Harness::start(Setup::default()).await;
    let (arena, tasks) = begin(&harness, None, 5, Some("exit 0"));
    harness.checks.play(tasks[1], "exit 3");
    harness.checks.play(tasks[2], "sleep 1000 0");
    harness.checks.play(tasks[3], "nonsense");
    let row = is(&harness, arena, ArenaState::Judged).await;
    settled(&harness, &row);
    let results: Vec<CheckResult> = row
        .contestants
        .iter()
        .map(|one| one.check.as_ref().expect("a check").result)
        .collect();
    assert_eq!(
        results,
        [
            CheckResult::Passed,
            CheckResult::Failed,
            CheckResult::TimedOut,
            CheckResult::NotStarted,
            CheckResult::Passed
        ]
    );
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_cuts_the_check_and_ends_the_turns() {
    let harness = Harness::start(Setup::default()).await;
    harness.backend.next_turn(vec![Step::Say("quick")]);
    harness.backend.next_turn(vec![Step::Hang]);
    let (arena, _) = begin(&harness, None, 2, Some("sleep 50 0"));
    harness
        .until("one is checked", |harness| {
            (harness.checks.alive().0 == 1).then_some(())
        })
        .await;
    let started = Instant::now();
    harness.store.cancel_arena(arena);
    harness.tree.look_at_arenas();
    let row = is(&harness, arena, ArenaState::Cancelled).await;
    assert!(started.elapsed() < 8 * SECOND, "{:?}", started.elapsed());
    settled(&harness, &row);
    assert_eq!(harness.checks.cut(), 1);
    for one in &row.contestants {
        let end = one.check.as_ref().expect("a word on the check");
        assert_eq!(end.result, CheckResult::Skipped);
    }
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_in_the_middle_is_taken_up_by_the_next_life() {
    let harness = Harness::start(Setup::default()).await;
    let (arena, tasks) = begin(&harness, None, 2, Some("sleep 50 0"));
    harness
        .until("one is checked", |harness| {
            (harness.checks.alive().0 == 1).then_some(())
        })
        .await;
    let harness = harness.start_over(SECOND, Setup::default()).await;
    assert_eq!(harness.checks.cut(), 1, "a stop does not wait for checks");
    let row = is(&harness, arena, ArenaState::Judged).await;
    settled(&harness, &row);
    assert_eq!(
        harness.checks.begun().len(),
        3,
        "the one that was cut ran again"
    );
    assert!(
        tasks
            .iter()
            .all(|task| harness.task(*task).outcomes == [Outcome::Ok])
    );
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_arena_without_a_base_fails_with_the_reason() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    harness.worktrees.fail_with(Some("the disk is on fire"));
    let (arena, tasks) = begin(&harness, Some(session), 2, Some("exit 0"));
    let row = is(&harness, arena, ArenaState::Failed).await;
    assert_eq!(row.detail.as_deref(), Some("the disk is on fire"));
    harness.worktrees.fail_with(None);
    assert!(harness.store.with(|rows| rows.held.is_empty()));
    let task = harness.enqueue(session, &key, "go on");
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    assert!(tasks.iter().all(|task| harness.task(*task).attempts == 0));
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_losers_of_a_choice_are_stopped_and_put_away() {
    let harness = Harness::start(Setup::default()).await;
    harness.backend.next_turn(vec![Step::Say("quick")]);
    harness.backend.next_turn(vec![Step::Hang]);
    let (arena, _) = begin(&harness, None, 2, Some("exit 0"));
    let winner = harness
        .until("the quick one is judged", |harness| {
            let row = harness.store.arena(arena);
            let judged = row
                .contestants
                .iter()
                .find(|one| one.stage == Stage::Judged);
            judged.map(|one| one.task)
        })
        .await;
    harness.store.select(arena, winner);
    harness.tree.look_at_arenas();
    let row = harness
        .until("the loser is put away", |harness| {
            let row = harness.store.arena(arena);
            row.contestants
                .iter()
                .any(|one| one.archived)
                .then_some(row)
        })
        .await;
    for one in &row.contestants {
        assert_eq!(
            (one.archived, one.closed),
            (one.task != winner, one.task != winner)
        );
    }
    settled(&harness, &row);
    harness.shutdown().await;
}

/// A person has talked with the loser since: its agent is still warm in a folder
/// that goes.
#[tokio::test(start_paused = true)]
async fn a_loser_that_is_put_away_leaves_no_warm_agent() {
    let harness = Harness::start(Setup::default()).await;
    let (arena, tasks) = begin(&harness, None, 2, None);
    let row = is(&harness, arena, ArenaState::Judged).await;
    let loser = &row.contestants[1];
    let key = harness.key();
    let chat = harness.enqueue(loser.session, &key, "why so?");
    assert_eq!(harness.outcome(chat).await, Outcome::Ok);
    let name = key.to_string();
    let warm = || harness.tree.board().get(&["root", "pool", &name]).is_some();
    assert!(warm());
    harness.store.select(arena, tasks[0]);
    harness.tree.look_at_arenas();
    harness
        .until("the loser is put away", |harness| {
            let row = harness.store.arena(arena);
            row.contestants[1].archived.then_some(())
        })
        .await;
    assert!(!warm(), "its agent is gone before its folder");
    harness.shutdown().await;
}

/// Faults at random moments; whatever they are, the arena ends with one verdict
/// for each contestant, and every gate is free.
#[test]
fn every_arena_ends_under_every_fault() {
    for seed in 0..60 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        println!("SEED {seed}");
        runtime.block_on(under_faults(seed));
    }
}

async fn under_faults(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    let many = random.usize(2..=5);
    for _ in 0..many {
        let script = match random.u8(0..4) {
            0 => vec![Step::Exit(1)],
            1 => vec![Step::Wait(random.u32(1..40) * SECOND)],
            _ => vec![Step::Say("done")],
        };
        harness.backend.next_turn(script);
    }
    let source = random.bool().then_some(session);
    let (arena, _) = begin(&harness, source, many, random.bool().then_some("sleep 7 0"));
    for _ in 0..random.usize(0..6) {
        tokio::time::sleep(Duration::from_millis(random.u64(0..20_000))).await;
        match random.u8(0..6) {
            0 => {
                harness.store.break_it(|faults| faults.down = true);
                tokio::time::sleep(Duration::from_millis(random.u64(0..30_000))).await;
                harness.store.break_it(|faults| faults.down = false);
            }
            1 => harness.store.steal_lease(),
            2 => harness = harness.start_over(SECOND, Setup::default()).await,
            3 => harness.backend.panic_pool(),
            4 => harness.store.cancel_arena(arena),
            _ => harness.tree.look_at_arenas(),
        }
    }
    let row = harness
        .until("the arena is over", |harness| {
            let row = harness.store.arena(arena);
            let over = matches!(row.state, ArenaState::Judged | ArenaState::Cancelled);
            over.then_some(row)
        })
        .await;
    settled(&harness, &row);
    harness.backend.calm();
    let task = harness.enqueue(session, &key, "go on");
    assert_eq!(harness.outcome(task).await, Outcome::Ok, "seed {seed}");
    harness.shutdown().await;
}
