//! What the rows of arenas promise the tree: one suite for the real ones and the
//! fake.

use std::time::Duration;

use async_trait::async_trait;

use crate::arena::{Arena, ArenaState, Base, CheckCommand, CheckEnd, CheckResult, Stage};
use crate::event::FrameKind;
use crate::ids::{ArenaId, CheckpointId, SessionId, TaskId};
use crate::model::{Assignment, Checkpoint};
use crate::outcome::{Outcome, TaskState};
use crate::ports::{Arenas, ArenasError};
use crate::testing::contract_store::{
    AGENT, StoreUnderTest, acquire, claim, claim_one, finish, open,
};

/// A store whose arenas are looked at.
#[async_trait]
pub trait ArenasUnderTest: StoreUnderTest {
    /// The port.
    fn arenas(&self) -> &dyn Arenas;
    /// Begins an arena of so many as the route does; none if the gate is held.
    async fn create(
        &self,
        source: Option<SessionId>,
        many: usize,
        check: Option<CheckCommand>,
    ) -> Option<(ArenaId, Vec<TaskId>)>;
    /// A person ends it.
    async fn cancel_arena(&self, arena: ArenaId);
}

/// Runs the whole suite, each promise on a store of its own.
///
/// # Panics
/// When a promise is broken.
pub async fn check<S, F>(fresh: impl Fn() -> F)
where
    S: ArenasUnderTest,
    F: Future<Output = S>,
{
    nobody_begins_before_the_base_is_known(&fresh().await).await;
    a_session_is_held_until_then_and_a_busy_one_refuses(&fresh().await).await;
    a_verdict_is_given_once_and_holds_the_session_until_then(&fresh().await).await;
    an_arena_that_fails_ends_its_tasks(&fresh().await).await;
    a_cancelled_arena_ends_as_cancelled_only(&fresh().await).await;
    an_old_life_changes_nothing(&fresh().await).await;
}

fn base() -> Base {
    Base {
        commit: "c0ffee".into(),
        source: None,
    }
}

fn judged() -> CheckEnd {
    CheckEnd {
        result: CheckResult::Failed,
        exit_code: Some(3),
        signal: None,
        wall: Duration::from_millis(5),
        log: "no\0 good".into(),
    }
}

async fn only(store: &dyn ArenasUnderTest) -> Arena {
    let mut open = store.arenas().open().await.expect("the store answers");
    assert_eq!(open.len(), 1, "{open:?}");
    open.remove(0)
}

async fn begin(store: &dyn ArenasUnderTest, arena: ArenaId) {
    let frames = store.arenas().begin(arena, &base()).await;
    assert!(!frames.expect("the lease is held").is_empty());
}

async fn run(store: &dyn ArenasUnderTest) -> Assignment {
    let turn = claim_one(store).await;
    open(store, &turn).await;
    finish(store, &turn, Outcome::Ok).await;
    turn
}

async fn nobody_begins_before_the_base_is_known(store: &dyn ArenasUnderTest) {
    acquire(store).await;
    let check = CheckCommand {
        command: vec!["make".into(), "test".into()],
        timeout: Duration::from_millis(1234),
    };
    let made = store.create(None, 2, Some(check.clone())).await;
    let (arena, tasks) = made.expect("it begins");
    assert!(claim(store, 9).await.assignments.is_empty());
    let seen = only(store).await;
    assert_eq!((seen.id, seen.state), (arena, ArenaState::Preparing));
    assert_eq!(seen.check, Some(check));
    let named: Vec<TaskId> = seen.contestants.iter().map(|one| one.task).collect();
    assert_eq!(named, tasks);
    begin(store, arena).await;
    let again = store.arenas().begin(arena, &base()).await;
    assert!(again.expect("harmless").is_empty(), "it begins once");
    let claimed = claim(store, 9).await.assignments;
    assert_eq!(claimed.len(), 2, "side by side");
    for turn in claimed {
        assert!(turn.origin.contestant);
        assert_eq!(turn.key.agent.as_str(), AGENT);
        assert_eq!(turn.worktree.start.as_deref(), Some("c0ffee"));
        let frames = store.frames(turn.session).await;
        let shown = frames.iter().find(|frame| {
            frame.kind == FrameKind::ArenaUpdated && frame.data["state"] == "running"
        });
        assert_eq!(shown.expect("told").task_id, Some(turn.fence.task));
    }
    assert_eq!(only(store).await.state, ArenaState::Running);
}

async fn a_session_is_held_until_then_and_a_busy_one_refuses(store: &dyn ArenasUnderTest) {
    acquire(store).await;
    let session = store.insert_session().await;
    let (arena, _) = store.create(Some(session), 2, None).await.expect("free");
    let task = store.insert_task(Some(session), None, AGENT).await;
    assert!(claim(store, 9).await.assignments.is_empty(), "it is held");
    assert!(store.create(Some(session), 2, None).await.is_none());
    begin(store, arena).await;
    let claimed = claim(store, 9).await.assignments;
    let turn = claimed.iter().find(|turn| turn.fence.task == task);
    assert_eq!(turn.expect("free again").worktree.start, None);
    assert!(
        store.create(Some(session), 2, None).await.is_none(),
        "a turn runs"
    );
    let told = store.frames(session).await;
    assert!(
        told.iter()
            .any(|frame| frame.kind == FrameKind::ArenaUpdated)
    );
}

async fn a_verdict_is_given_once_and_holds_the_session_until_then(store: &dyn ArenasUnderTest) {
    acquire(store).await;
    let (arena, _) = store.create(None, 2, None).await.expect("it begins");
    begin(store, arena).await;
    let turn = claim_one(store).await;
    let task = turn.fence.task;
    open(store, &turn).await;
    let arenas = store.arenas();
    assert!(
        !arenas.examine(task, true).await.expect("leased"),
        "it runs"
    );
    finish(store, &turn, Outcome::Ok).await;
    assert!(arenas.examine(task, true).await.expect("leased"));
    assert!(
        arenas.examine(task, true).await.expect("leased"),
        "after a crash"
    );
    let result = Checkpoint {
        id: CheckpointId(task.0),
        commit: "c1".into(),
        tree: "t1".into(),
    };
    arenas.keep(task, &result).await.expect("leased");
    let other = store.insert_task(Some(turn.session), None, AGENT).await;
    let run: Vec<TaskId> = claim(store, 9)
        .await
        .assignments
        .iter()
        .map(|turn| turn.fence.task)
        .collect();
    assert!(!run.contains(&other), "its session is held");
    let seen = only(store).await;
    let one = seen.contestants.iter().find(|one| one.task == task);
    let one = one.expect("it competes");
    assert_eq!((one.stage, one.checks_begun), (Stage::Examining, 2));
    assert_eq!(
        (one.state, one.outcome),
        (TaskState::Completed, Some(Outcome::Ok))
    );
    assert_eq!(one.result.as_ref(), Some(&result));
    assert!(one.worktree.is_some());
    let frames = arenas.judge(task, Some(&judged()), Some("a note")).await;
    assert!(!frames.expect("leased").is_empty());
    let again = arenas.judge(task, None, None).await;
    assert!(again.expect("harmless").is_empty(), "a verdict stands");
    let claimed = claim(store, 9).await.assignments;
    assert!(
        claimed.iter().any(|turn| turn.fence.task == other),
        "free again"
    );
}

async fn an_arena_that_fails_ends_its_tasks(store: &dyn ArenasUnderTest) {
    acquire(store).await;
    let session = store.insert_session().await;
    let (arena, tasks) = store.create(Some(session), 3, None).await.expect("free");
    let frames = store.arenas().fail(arena, "no base").await;
    assert!(!frames.expect("leased").is_empty());
    for task in tasks {
        assert_eq!(store.task_state(task).await, TaskState::Cancelled);
    }
    assert!(store.arenas().open().await.expect("read").is_empty());
    let again = store.create(Some(session), 2, None).await;
    assert!(again.is_some(), "the session is free");
    let late = store.arenas().begin(arena, &base()).await;
    assert!(late.expect("harmless").is_empty());
}

async fn a_cancelled_arena_ends_as_cancelled_only(store: &dyn ArenasUnderTest) {
    acquire(store).await;
    let (arena, _) = store.create(None, 2, None).await.expect("it begins");
    begin(store, arena).await;
    let arenas = store.arenas();
    let turn = run(store).await;
    store.cancel_arena(arena).await;
    assert!(only(store).await.cancelled);
    let judged = arenas.conclude(arena, ArenaState::Judged).await;
    assert!(judged.expect("harmless").is_empty());
    let other = only(store).await.contestants;
    let other = other.iter().find(|one| one.task != turn.fence.task);
    let (_, running) = arenas.stop(other.expect("two").task).await.expect("leased");
    assert!(!running, "it never ran");
    let frames = arenas.conclude(arena, ArenaState::Cancelled).await;
    assert!(!frames.expect("leased").is_empty());
    let again = arenas.conclude(arena, ArenaState::Cancelled).await;
    assert!(again.expect("harmless").is_empty());
    assert!(arenas.open().await.expect("read").is_empty());
}

async fn an_old_life_changes_nothing(store: &dyn ArenasUnderTest) {
    acquire(store).await;
    let (arena, tasks) = store.create(None, 2, None).await.expect("it begins");
    let twin = store.twin().await;
    twin.lease().acquire().await.expect("the next life");
    let arenas = store.arenas();
    let lost = |done: bool, what: &str| assert!(done, "{what} of an old life");
    lost(
        matches!(
            arenas.begin(arena, &base()).await,
            Err(ArenasError::LeaseLost)
        ),
        "a beginning",
    );
    lost(
        matches!(arenas.fail(arena, "x").await, Err(ArenasError::LeaseLost)),
        "an end",
    );
    lost(
        matches!(
            arenas.examine(tasks[0], true).await,
            Err(ArenasError::LeaseLost)
        ),
        "an examination",
    );
    lost(
        matches!(
            arenas.judge(tasks[0], None, None).await,
            Err(ArenasError::LeaseLost)
        ),
        "a verdict",
    );
    lost(
        matches!(
            arenas.conclude(arena, ArenaState::Judged).await,
            Err(ArenasError::LeaseLost)
        ),
        "a conclusion",
    );
    assert!(claim(&*twin, 9).await.assignments.is_empty());
}
