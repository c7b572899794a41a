//! Worktrees that need something before anybody works there: no prompt leaves in a
//! half-made one, and no task is lost over it.

use std::time::Duration;

use hearth_actors::ids::{OperationId, SessionId, SessionKey, TaskId};
use hearth_actors::limits::ParkReason;
use hearth_actors::operation::{Asked, Done};
use hearth_actors::outcome::{Outcome, TaskState};
use hearth_actors::ports::OperationsError;
use hearth_actors::review::{Leave, Order};
use hearth_actors::set_up::{Consent, Found, SetUp, TearDown};
use hearth_actors::testing::backend::Step;
use hearth_actors::testing::harness::{Harness, Setup};

const HASH: &str = "0123456789abcdef";

/// What the fake runs: `exit <code>`, `sleep <seconds> <code>`.
fn wanted(script: &str) -> Found {
    Found::This(Box::new(SetUp {
        hash: HASH.into(),
        copy: vec![".env".into()],
        set_up: Some(script.into()),
        tear_down: None,
        timeout: Duration::from_secs(60),
    }))
}

fn say(harness: &Harness, session: SessionId, key: &SessionKey) -> TaskId {
    harness.backend.next_turn(vec![Step::Say("x")]);
    harness.enqueue(session, key, "x")
}

async fn parked(harness: &Harness, task: TaskId) -> ParkReason {
    let seen = |harness: &Harness| {
        let row = harness.task(task);
        let parked = row.parked.filter(|_| row.state == TaskState::Pending)?;
        assert!(parked.open_ended && parked.detail.is_some());
        Some(parked.reason)
    };
    harness.until("a parked task", seen).await
}

async fn archive(
    harness: &Harness,
    session: SessionId,
    leave: Leave,
) -> Result<Done, OperationsError> {
    let asked = Asked {
        id: OperationId::new(),
        session,
        order: Order::Archive(leave),
        caller: "test".into(),
    };
    let came = harness.tree.operate(asked, Duration::from_secs(600)).await;
    came.expect("an end within its patience")
}

#[tokio::test(start_paused = true)]
async fn a_task_waits_while_the_disk_is_low_and_warm_ones_do_not() {
    let harness = Harness::start(Setup::default()).await;
    let (warm, warm_key) = harness.chat();
    assert_eq!(
        harness.outcome(say(&harness, warm, &warm_key)).await,
        Outcome::Ok
    );
    harness.worktrees.low_disk(true);
    let (session, key) = harness.chat();
    let task = say(&harness, session, &key);
    assert_eq!(parked(&harness, task).await, ParkReason::DiskLow);
    let other = say(&harness, warm, &warm_key);
    assert_eq!(
        harness.outcome(other).await,
        Outcome::Ok,
        "its worktree is there"
    );
    harness.worktrees.low_disk(false);
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_task_waits_for_trust_and_is_prompted_behind_the_set_up() {
    let harness = Harness::start(Setup::default()).await;
    harness.worktrees.want(wanted("sleep 30 0"));
    let (session, key) = harness.chat();
    let task = say(&harness, session, &key);
    assert_eq!(parked(&harness, task).await, ParkReason::SetUp);
    assert!(harness.checks.scripts().is_empty(), "nobody trusts it");
    harness.store.decide_set_up(HASH, Consent::Trusted, None);
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    let scripts = harness.checks.scripts();
    let [(script, env)] = &scripts[..] else {
        panic!("once: {scripts:?}");
    };
    let worktree = harness.worktree(session);
    assert_eq!(script, "sleep 30 0");
    assert_eq!(env["HEARTH_WORKTREE"], worktree.path.display().to_string());
    assert_eq!(env["HEARTH_PORT"], "20000");
    // What was copied is no work of the agent's.
    let copied = harness.worktrees.content_at(&worktree.path, ".env");
    assert_eq!(copied.as_deref(), Some("copied"));
    let changes = harness.worktrees.changes(&worktree);
    assert!(changes.is_empty(), "{changes:?}");
    // The next turn needs nothing.
    let task = say(&harness, session, &key);
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    assert_eq!(harness.checks.scripts().len(), 1);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn no_prompt_leaves_where_the_set_up_failed() {
    let harness = Harness::start(Setup::default()).await;
    harness.worktrees.want(wanted("exit 3"));
    harness.store.decide_set_up(HASH, Consent::Trusted, None);
    let (session, key) = harness.chat();
    for tries in 1..=2 {
        let task = harness.enqueue(session, &key, "x");
        assert_eq!(harness.outcome(task).await, Outcome::NoStart);
        assert_eq!(harness.checks.scripts().len(), tries, "it is still due");
    }
    assert_eq!(harness.backend.alive(), 0, "no agent was started for it");
    assert_eq!(harness.worktrees.logs(), ["exit 3", "exit 3"]);
    harness.worktrees.want(wanted("exit 0"));
    assert_eq!(
        harness.outcome(say(&harness, session, &key)).await,
        Outcome::Ok
    );
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_never_runs() {
    let harness = Harness::start(Setup::default()).await;
    harness.worktrees.want(wanted("exit 0"));
    harness.store.decide_set_up(HASH, Consent::Refused, None);
    let (session, key) = harness.chat();
    assert_eq!(
        harness.outcome(say(&harness, session, &key)).await,
        Outcome::Ok
    );
    assert!(harness.checks.scripts().is_empty());
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_worktree_goes_behind_its_teardown_and_is_set_up_again_when_it_comes_back() {
    let harness = Harness::start(Setup::default()).await;
    harness.worktrees.want(Found::This(Box::new(SetUp {
        hash: HASH.into(),
        copy: Vec::new(),
        set_up: Some("exit 0".into()),
        tear_down: Some("exit 7".into()),
        timeout: Duration::from_secs(60),
    })));
    let tear_down = |script: &str| {
        Some(TearDown {
            script: script.into(),
            timeout: Duration::from_secs(60),
        })
    };
    harness
        .store
        .decide_set_up(HASH, Consent::Trusted, tear_down("exit 7"));
    let (session, key) = harness.chat();
    assert_eq!(
        harness.outcome(say(&harness, session, &key)).await,
        Outcome::Ok
    );
    let path = harness.worktree(session).path;
    match archive(&harness, session, Leave::default()).await {
        Err(OperationsError::TearDown(why)) => assert!(why.contains("code 7"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert!(harness.worktrees.is_made(&path), "it stays");
    // Force is no consent to that.
    let forced = Leave {
        force: true,
        ..Leave::default()
    };
    let refused = archive(&harness, session, forced).await;
    assert!(
        matches!(refused, Err(OperationsError::TearDown(_))),
        "{refused:?}"
    );
    harness
        .store
        .decide_set_up(HASH, Consent::Trusted, tear_down("exit 0"));
    archive(&harness, session, Leave::default())
        .await
        .expect("archived");
    assert!(!harness.worktrees.is_made(&path));
    let before = harness.checks.scripts().len();
    assert_eq!(
        harness.outcome(say(&harness, session, &key)).await,
        Outcome::Ok
    );
    let scripts = harness.checks.scripts();
    assert_eq!(scripts[before..].len(), 1, "set up again: {scripts:?}");
    harness
        .store
        .decide_set_up(HASH, Consent::Trusted, tear_down("exit 7"));
    let skipped = Leave {
        skip_teardown: true,
        ..Leave::default()
    };
    archive(&harness, session, skipped)
        .await
        .expect("without it");
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_ends_a_set_up() {
    let harness = Harness::start(Setup::default()).await;
    harness.worktrees.want(wanted("sleep 50 0"));
    harness.store.decide_set_up(HASH, Consent::Trusted, None);
    let (session, key) = harness.chat();
    let task = harness.enqueue(session, &key, "x");
    let runs = |harness: &Harness| (harness.checks.alive().0 == 1).then_some(());
    harness.until("the script runs", runs).await;
    harness.store.request_cancel(task);
    harness.tree.cancel(task);
    assert_eq!(harness.outcome(task).await, Outcome::Cancelled);
    harness
        .until("it is gone", |harness| {
            (harness.checks.cut() == 1).then_some(())
        })
        .await;
    harness.shutdown().await;
}
