//! Choices in arenas, and what comes in between; and which arenas a look reads.

use std::collections::BTreeMap;

use hearth::store::{CancelArena, NewArena, NewContestant, NewGround, Select};
use hearth_actors::arena::{ArenaState, Base};
use hearth_actors::ids::{ArenaId, OperationId, ProjectId, SessionId, TaskId};
use hearth_actors::model::Diff;
use hearth_actors::operation::{Abandoned, Asked, Begun, Started};
use hearth_actors::outcome::Outcome;
use hearth_actors::ports::{Arenas as _, OperationsError};
use hearth_actors::review::{Order, Plan};
use hearth_actors::testing::contract_store::{
    AGENT, StoreUnderTest, acquire, claim, claim_one, finish, finish_with, open,
};

use super::contract::RealStore;

async fn begun(store: &RealStore, ground: NewGround) -> (ArenaId, Vec<TaskId>) {
    let one = NewContestant {
        agent: AGENT.into(),
        model: None,
        mode: None,
        thinking: None,
        features: BTreeMap::new(),
        policy: None,
    };
    let new = NewArena {
        ground,
        input: "compete".into(),
        contestants: vec![one; 2],
        check: None,
        budget: None,
        idempotency_key: None,
    };
    let made = store.store.create_arena(&new).await.unwrap().arena;
    let base = Base {
        commit: "c0ffee".into(),
        source: None,
    };
    store.store.begin(made, &base).await.unwrap();
    let tasks: Vec<uuid::Uuid> = sqlx::query_scalar(
        "select task_id from hearth.contestants where arena_id = $1 order by place",
    )
    .bind(made.0)
    .fetch_all(store.store.pool())
    .await
    .unwrap();
    (made, tasks.into_iter().map(TaskId).collect())
}

async fn judge(store: &RealStore, task: TaskId) {
    assert!(store.store.examine(task, false).await.unwrap());
    store.store.judge(task, None, None).await.unwrap();
}

/// The first has its verdict and changed a file, the second still runs. In a
/// session with a worktree.
async fn half_judged(store: &RealStore) -> (SessionId, ArenaId, Vec<TaskId>) {
    acquire(store).await;
    let session = store.insert_session().await;
    store.insert_task(Some(session), None, AGENT).await;
    let turn = claim_one(store).await;
    open(store, &turn).await;
    finish(store, &turn, Outcome::Ok).await;
    let (arena, tasks) = begun(store, NewGround::Session(session)).await;
    for turn in claim(store, 5).await.assignments {
        open(store, &turn).await;
        if turn.fence.task == tasks[0] {
            finish_with(store, &turn, &[("a.txt", "1")]).await;
        }
    }
    judge(store, tasks[0]).await;
    (session, arena, tasks)
}

async fn adopting(store: &RealStore, session: SessionId, arena: ArenaId, task: TaskId) -> Started {
    let asked = Asked {
        id: OperationId::new(),
        session,
        order: Order::Adopt {
            arena,
            task,
            changes: Vec::new(),
        },
        caller: "http".into(),
    };
    match store.operations().begin(&asked).await {
        Ok(Begun::Work(started)) => *started,
        other => panic!("{other:?}"),
    }
}

async fn carry_through(store: &RealStore, started: &Started) {
    let work = &started.work;
    let plan = Plan::nothing(work.id, work.worktree.clone());
    let plan = Plan { undo: None, ..plan };
    let operations = store.operations();
    operations.intend(&started.owner, &plan).await.unwrap();
    let diff = Diff {
        tree: "after".into(),
        ..Diff::default()
    };
    operations
        .complete(&started.owner, &plan, &diff)
        .await
        .unwrap();
}

async fn state(store: &RealStore, arena: ArenaId) -> (String, Option<uuid::Uuid>, bool) {
    sqlx::query_as(
        "select state, winner, cancel_requested_at is not null from hearth.arenas where id = $1",
    )
    .bind(arena.0)
    .fetch_one(store.store.pool())
    .await
    .unwrap()
}

/// Files move already: the choice that moves them comes first.
#[tokio::test]
async fn a_cancel_waits_for_the_choice_that_is_carried_out() {
    let store = RealStore::fresh().await;
    let (session, arena, tasks) = half_judged(&store).await;
    let started = adopting(&store, session, arena, tasks[0]).await;
    let cancelled = store.store.cancel_arena(arena).await.unwrap();
    assert!(
        matches!(cancelled, CancelArena::BeingDecided),
        "{cancelled:?}"
    );
    let second = store.store.select_arena(arena, tasks[0]).await.unwrap();
    let Select::TooEarly(why) = second else {
        panic!("{second:?}")
    };
    assert!(why.contains("being carried out"), "{why}");
    carry_through(&store, &started).await;
    let winner = Some(tasks[0].0);
    assert_eq!(
        state(&store, arena).await,
        ("selected".into(), winner, false)
    );
    let cancelled = store.store.cancel_arena(arena).await.unwrap();
    assert!(matches!(cancelled, CancelArena::Over(is) if is == "selected"));
}

/// A choice that came to nothing leaves the arena as it was, to be ended.
#[tokio::test]
async fn a_choice_that_is_given_up_lets_the_arena_be_ended() {
    let store = RealStore::fresh().await;
    let (session, arena, tasks) = half_judged(&store).await;
    let started = adopting(&store, session, arena, tasks[0]).await;
    let gave_up = store
        .operations()
        .abandon(&started.owner, &Abandoned::default())
        .await;
    gave_up.unwrap();
    let cancelled = store.store.cancel_arena(arena).await.unwrap();
    assert!(
        matches!(cancelled, CancelArena::Cancelling(..)),
        "{cancelled:?}"
    );
    let late = Asked {
        id: OperationId::new(),
        session,
        order: started.work.order.clone(),
        caller: "http".into(),
    };
    let refused = store.operations().begin(&late).await;
    assert!(
        matches!(
            refused,
            Err(OperationsError::Wrong {
                code: "arena_decided",
                ..
            })
        ),
        "{refused:?}"
    );
}

/// Whatever happened to an arena behind the back of a choice: the choice changes
/// nothing of what is decided.
#[tokio::test]
async fn a_choice_decides_no_arena_that_is_decided() {
    let store = RealStore::fresh().await;
    let (session, arena, tasks) = half_judged(&store).await;
    let started = adopting(&store, session, arena, tasks[0]).await;
    sqlx::query("update hearth.arenas set cancel_requested_at = clock_timestamp() where id = $1")
        .bind(arena.0)
        .execute(store.store.pool())
        .await
        .unwrap();
    let plan = Plan::nothing(started.work.id, started.work.worktree.clone());
    let plan = Plan { undo: None, ..plan };
    let operations = store.operations();
    operations.intend(&started.owner, &plan).await.unwrap();
    let completed = operations
        .complete(&started.owner, &plan, &Diff::default())
        .await;
    assert!(completed.is_err(), "{completed:?}");
    assert_eq!(state(&store, arena).await, ("running".into(), None, true));
}

/// What runs comes before what is only put away, and a winner whose session goes
/// on is not waited for.
#[tokio::test]
async fn a_look_reads_what_runs_first_and_no_winner_that_stays() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let project = || async { NewGround::Project(ProjectId(store.insert_project().await)) };
    let (chosen, tasks) = begun(&store, project().await).await;
    for turn in claim(&store, 5).await.assignments {
        open(&store, &turn).await;
        finish(&store, &turn, Outcome::Ok).await;
    }
    for task in &tasks {
        judge(&store, *task).await;
    }
    let (running, _) = begun(&store, project().await).await;
    store
        .store
        .conclude(chosen, ArenaState::Judged)
        .await
        .unwrap();
    let seen = async || -> Vec<ArenaId> {
        let open = store.store.open().await.unwrap();
        open.iter().map(|arena| arena.id).collect()
    };
    assert_eq!(seen().await, [running], "judged, it waits for a person");
    let selected = store.store.select_arena(chosen, tasks[0]).await.unwrap();
    assert!(matches!(selected, Select::Done { .. }), "{selected:?}");
    assert_eq!(
        seen().await,
        [running, chosen],
        "the older one is only put away"
    );
    assert!(store.store.archive(tasks[1]).await.unwrap());
    store.store.archived(tasks[1], None).await.unwrap();
    assert_eq!(seen().await, [running], "the winner stays where it is");
}
