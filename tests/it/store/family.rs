//! Tasks that tasks ask for, and ends whose messages are refused.

use hearth::store::{CancelRequest, Created, NewTask, StoreError};
use hearth_actors::event::{Frame, FrameKind};
use hearth_actors::ids::{ProjectId, TaskId};
use hearth_actors::outcome::{Outcome, TaskState};
use hearth_actors::testing::contract_store::{
    AGENT, StoreUnderTest, acquire, claim, claim_one, finish, open,
};

use super::contract::RealStore;

async fn ask(
    store: &RealStore,
    project: ProjectId,
    parent: Option<TaskId>,
) -> Result<Created, StoreError> {
    let task = NewTask {
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
        idempotency_key: None,
    };
    store.store.create_task(&task).await
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
    finish(&store, &turn, Outcome::Ok).await;
    let child = ask(&store, project, Some(parent.task)).await.unwrap();
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
    store.queue().release(&turn.fence, rest).await.unwrap();
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
