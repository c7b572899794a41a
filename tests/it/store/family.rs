//! Tasks that tasks ask for, and ends whose messages are refused.

use hearth::store::{CancelRequest, Created, NewMessage, NewTask, StoreError};
use hearth_actors::event::{Frame, FrameKind};
use hearth_actors::ids::{ProjectId, TaskId};
use hearth_actors::limits::{ParkReason, Parked};
use hearth_actors::model::{Assignment, TurnEnd, Usage};
use hearth_actors::outcome::{Outcome, TaskState};
use hearth_actors::ports::Journal as _;
use hearth_actors::testing::contract_store::{
    AGENT, StoreUnderTest, acquire, claim, claim_one, finish, open, turn_ref,
};

use super::contract::RealStore;

async fn ask(
    store: &RealStore,
    project: ProjectId,
    parent: Option<TaskId>,
) -> Result<Created, StoreError> {
    store.store.create_task(&new(project, parent)).await
}

fn new(project: ProjectId, parent: Option<TaskId>) -> NewTask {
    NewTask {
        project,
        input: "say hello".into(),
        agent: Some(AGENT.into()),
        model: None,
        mode: None,
        thinking: None,
        features: std::collections::BTreeMap::new(),
        session: None,
        chat: None,
        parent,
        retry_interrupted: false,
        policy: None,
        budget: None,
        idempotency_key: None,
    }
}

#[tokio::test]
async fn children_are_bounded_in_number_and_depth() {
    let store = RealStore::fresh().await;
    let project = ProjectId(store.insert_project().await);
    let first = ask(&store, project, None).await.unwrap().task;
    let mut line = vec![first];
    for _ in 0..3 {
        let child = ask(&store, project, line.last().copied()).await.unwrap();
        line.push(child.task);
    }
    let too_deep = ask(&store, project, line.last().copied()).await;
    let too_deep = too_deep.unwrap_err().to_string();
    assert!(too_deep.contains("3 generations"), "{too_deep}");
    for _ in 1..8 {
        ask(&store, project, Some(first)).await.unwrap();
    }
    let too_many = ask(&store, project, Some(first)).await.unwrap_err();
    assert!(matches!(too_many, StoreError::TooManyTasks(_)));
    assert!(too_many.to_string().contains("8 tasks"), "{too_many}");
    let tasks: i64 = sqlx::query_scalar("select count(*) from tasks")
        .fetch_one(store.store.pool())
        .await
        .unwrap();
    assert_eq!(tasks, 11, "what was refused left nothing");
}

#[tokio::test]
async fn a_cancel_takes_what_waits_below_along() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let project = ProjectId(store.insert_project().await);
    let parent = ask(&store, project, None).await.unwrap().task;
    claim_one(&store).await;
    let child = ask(&store, project, Some(parent)).await.unwrap();
    let grandchild = ask(&store, project, Some(child.task)).await.unwrap();
    let other = ask(&store, project, None).await.unwrap();
    let CancelRequest::Requested(frames) = store.store.request_cancel(parent).await.unwrap() else {
        panic!("it runs");
    };
    let told: Vec<_> = frames.iter().map(|frame| frame.session_id).collect();
    assert!(told.contains(&child.session) && told.contains(&grandchild.session));
    assert_eq!(store.task_state(child.task).await, TaskState::Cancelled);
    assert_eq!(
        store.task_state(grandchild.task).await,
        TaskState::Cancelled
    );
    assert_eq!(store.task_state(other.task).await, TaskState::Pending);
    let late = ask(&store, project, Some(child.task)).await.unwrap_err();
    assert!(late.to_string().contains("was cancelled"), "{late}");
}

#[tokio::test]
async fn the_end_of_a_child_is_told_once_in_its_parents_stream() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let project = ProjectId(store.insert_project().await);
    let parent = ask(&store, project, None).await.unwrap();
    let turn = claim_one(&store).await;
    open(&store, &turn).await;
    let child = ask(&store, project, Some(parent.task)).await.unwrap();
    finish(&store, &turn, Outcome::Ok).await;
    let turn = claim_one(&store).await;
    assert!(
        turn.origin.child && !turn.origin.own_chat,
        "{:?}",
        turn.origin
    );
    open(&store, &turn).await;
    finish(&store, &turn, Outcome::AgentError).await;
    let told: Vec<Frame> = store.frames(parent.session).await;
    let told: Vec<_> = told
        .iter()
        .filter(|frame| frame.data["child"].is_object())
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].kind, FrameKind::TaskUpdated);
    assert_eq!(told[0].task_id, Some(parent.task));
    assert_eq!(told[0].data["child"]["task_id"], child.task.to_string());
    assert_eq!(told[0].data["child"]["state"], "failed");
    assert_eq!(told[0].data["child"]["outcome"], "agent_error");
}

#[tokio::test]
async fn an_unparked_task_is_claimed_at_once() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let task = store.insert_task(None, None, AGENT).await;
    let turn = claim_one(&store).await;
    let rest = std::time::Duration::from_secs(3600);
    let parked = Parked::until(ParkReason::CoolDown, rest);
    let released = store.queue().release(&turn.fence, Some(&parked)).await;
    released.unwrap();
    assert!(claim(&store, 5).await.assignments.is_empty());
    store.store.unpark(&turn.key).await.unwrap();
    assert_eq!(claim_one(&store).await.fence.task, task);
}

#[tokio::test]
async fn a_refused_message_does_not_cost_the_turn_its_outcome() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let task = store.insert_task(None, None, AGENT).await;
    let turn = claim_one(&store).await;
    open(&store, &turn).await;
    // What a chat that goes away at that moment looks like to the statement.
    for statement in [
        "create function refuse() returns trigger language plpgsql as
            $$ begin raise foreign_key_violation using message = 'the chat is gone'; end $$",
        "create trigger refuse before insert or update on messages
            for each row execute function refuse()",
    ] {
        sqlx::query(statement)
            .execute(store.store.pool())
            .await
            .unwrap();
    }
    let frames = finish(&store, &turn, Outcome::AgentError).await;
    assert_eq!(frames.len(), 2, "{frames:?}");
    assert_eq!(frames[0].data["outcome"], "agent_error");
    assert_eq!(store.task_state(task).await, TaskState::Failed);
    assert_eq!(store.outcome(task).await, Some(Outcome::AgentError));
}

/// A task that is over, or is to be, asks for nothing more.
#[tokio::test]
async fn what_is_ending_asks_for_no_more() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let project = ProjectId(store.insert_project().await);
    let parent = ask(&store, project, None).await.unwrap().task;
    let turn = claim_one(&store).await;
    open(&store, &turn).await;
    ask(&store, project, Some(parent)).await.unwrap();
    store.store.request_cancel(parent).await.unwrap();
    let late = ask(&store, project, Some(parent)).await.unwrap_err();
    assert!(late.to_string().contains("is being cancelled"), "{late}");
    finish(&store, &turn, Outcome::Cancelled).await;
    let late = ask(&store, project, Some(parent)).await.unwrap_err();
    assert!(late.to_string().contains("was cancelled"), "{late}");

    let ended = ask(&store, project, None).await.unwrap().task;
    let turn = claim_one(&store).await;
    finish(&store, &turn, Outcome::Ok).await;
    let late = ask(&store, project, Some(ended)).await.unwrap_err();
    assert!(late.to_string().contains("has ended"), "{late}");
    assert!(matches!(late, StoreError::TooManyTasks(_)));
}

#[tokio::test]
async fn an_interrupt_takes_what_waits_below_along() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let session = store.insert_session().await;
    let chat = store.insert_chat(session).await;
    let message = |interrupt| NewMessage {
        chat,
        content: "say hello".into(),
        agent: AGENT.into(),
        model: None,
        mode: None,
        thinking: None,
        features: std::collections::BTreeMap::new(),
        policy: None,
        budget: None,
        interrupt,
        retry_interrupted: false,
        retry_of: None,
        idempotency_key: None,
    };
    let running = store.store.create_message(&message(false)).await.unwrap();
    let turn = claim_one(&store).await;
    open(&store, &turn).await;
    let project = ProjectId(store.insert_project().await);
    let child = ask(&store, project, Some(running.task)).await.unwrap();
    let urgent = store.store.create_message(&message(true)).await.unwrap();
    assert_eq!(store.task_state(child.task).await, TaskState::Cancelled);
    let told = |session, state: &str| {
        let mut frames = urgent.frames.iter();
        frames.any(|frame| frame.session_id == session && frame.data["state"] == state)
    };
    assert!(told(child.session, "cancelled"), "{:?}", urgent.frames);
    assert!(told(urgent.session, "pending"), "{:?}", urgent.frames);
    finish(&store, &turn, Outcome::Cancelled).await;
    assert_eq!(claim_one(&store).await.fence.task, urgent.task);
}

/// Ends of children write into the stream of their parent, and a cancel of the
/// parent ends children: whoever locks in another order waits for ever.
#[tokio::test]
async fn cancels_ends_and_new_children_do_not_lock_each_other_out() {
    const ROUNDS: usize = 30;
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let project = ProjectId(store.insert_project().await);
    for round in 0..ROUNDS {
        let parent = ask(&store, project, None).await.unwrap();
        let turn = claim_one(&store).await;
        open(&store, &turn).await;
        // One child runs in each of two sessions, others wait behind it.
        let mut sessions = Vec::new();
        for _ in 0..2 {
            let child = ask(&store, project, Some(parent.task)).await.unwrap();
            sessions.push(child.session);
        }
        for session in sessions.iter().chain(&sessions) {
            let mut behind = new(project, Some(parent.task));
            behind.session = Some(*session);
            store.store.create_task(&behind).await.unwrap();
        }
        let children = claim(&store, 5).await.assignments;
        assert_eq!(children.len(), 2, "round {round}");
        for child in &children {
            open(&store, child).await;
        }
        let end = |child: &Assignment| {
            let (turn, store) = (turn_ref(child), store.store.clone());
            async move {
                let end = TurnEnd {
                    outcome: Outcome::Ok,
                    detail: None,
                    diff: None,
                    usage: Usage::default(),
                    taken: None,
                };
                store.finish(&turn, &end).await
            }
        };
        let (cancelled, again, first, second, late) = tokio::join!(
            store.store.request_cancel(parent.task),
            store.store.request_cancel(parent.task),
            end(&children[0]),
            end(&children[1]),
            ask(&store, project, Some(parent.task)),
        );
        cancelled.unwrap();
        again.unwrap();
        first.unwrap();
        second.unwrap();
        // It came before the cancel, and was cancelled with it, or is refused.
        match late {
            Ok(child) => {
                assert_eq!(store.task_state(child.task).await, TaskState::Cancelled);
            }
            Err(StoreError::TooManyTasks(_)) => {}
            Err(other) => panic!("round {round}: {other}"),
        }
        finish(&store, &turn, Outcome::Cancelled).await;
        assert!(claim(&store, 5).await.assignments.is_empty());
    }
    // Of two that lock each other out the database ends one, and counts it.
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    let deadlocks: i64 = sqlx::query_scalar(
        "select deadlocks from pg_stat_database where datname = current_database()",
    )
    .fetch_one(store.store.pool())
    .await
    .unwrap();
    assert_eq!(deadlocks, 0);
}
