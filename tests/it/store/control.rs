//! Messages, tasks and cancels as routes ask for them.

use hearth::store::{CancelRequest, NewMessage, NewTask, StoreError};
use hearth_actors::event::FrameKind;
use hearth_actors::ids::{ChatId, ProjectId, TaskId};
use hearth_actors::model::Policy;
use hearth_actors::outcome::{Outcome, TaskState};
use hearth_actors::testing::contract_store::{
    AGENT, StoreUnderTest, acquire, claim, claim_one, finish, open,
};

use super::contract::RealStore;

#[tokio::test]
async fn a_message_is_a_row_a_task_and_a_frame() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let chat = chat(&store).await;
    let mut message = message(chat);
    message.policy = Some(Policy::AllowEdits);
    message.content = "hello\0there".into();
    let created = store.store.create_message(&message).await.unwrap();
    assert!(!created.repeated);
    assert_eq!(created.frames.len(), 1);
    assert_eq!(created.frames[0].kind, FrameKind::TaskUpdated);
    assert_eq!(store.frames(created.session).await, created.frames);
    let text = "hello\u{fffd}there".to_owned();
    let stored = store.message(created.message).await;
    assert_eq!(stored, Some(("queued".into(), text.clone())));

    let turn = claim_one(&store).await;
    assert_eq!(turn.fence.task, created.task);
    assert_eq!(turn.user_message, created.message);
    assert_eq!(turn.policy, Some(Policy::AllowEdits));
    assert_eq!(turn.input, text);
    open(&store, &turn).await;
    assert_eq!(
        store.message(created.message).await,
        Some(("complete".into(), text))
    );
    let in_chat: i64 = sqlx::query_scalar("select count(*) from messages where chat_id = $1")
        .bind(chat.0)
        .fetch_one(store.store.pool())
        .await
        .unwrap();
    assert_eq!(in_chat, 2, "one of the user, one of the assistant");
}

#[tokio::test]
async fn an_idempotency_key_creates_once_also_at_the_same_time() {
    let store = RealStore::fresh().await;
    let chat = chat(&store).await;
    let mut keyed = message(chat);
    keyed.idempotency_key = Some("k".into());
    let (a, b, c) = tokio::join!(
        store.store.create_message(&keyed),
        store.store.create_message(&keyed),
        store.store.create_message(&keyed),
    );
    let created = [a.unwrap(), b.unwrap(), c.unwrap()];
    assert_eq!(
        created.iter().filter(|created| !created.repeated).count(),
        1
    );
    assert!(created.iter().all(|one| one.task == created[0].task));
    assert!(created.iter().all(|one| one.message == created[0].message));

    keyed.content = "something else".into();
    let reused = store.store.create_message(&keyed).await;
    assert!(matches!(reused, Err(StoreError::KeyReused)), "{reused:?}");

    let other = self::chat(&store).await;
    let elsewhere = NewMessage {
        chat: other,
        ..keyed
    };
    assert!(
        !store
            .store
            .create_message(&elsewhere)
            .await
            .unwrap()
            .repeated
    );
}

/// Many more than there are connections: none needs two.
#[tokio::test]
async fn forty_messages_at_the_same_time_are_all_taken() {
    let store = RealStore::fresh().await;
    let mut messages = Vec::new();
    for _ in 0..40 {
        messages.push(message(chat(&store).await));
    }
    let created = messages.iter().map(|new| store.store.create_message(new));
    for one in futures::future::join_all(created).await {
        assert!(!one.expect("taken").repeated);
    }
}

#[tokio::test]
async fn an_interrupt_cancels_this_chat_and_goes_first() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let chat = chat(&store).await;
    let running = store.store.create_message(&message(chat)).await.unwrap();
    let turn = claim_one(&store).await;
    let queued = store.store.create_message(&message(chat)).await.unwrap();
    let urgent = NewMessage {
        interrupt: true,
        ..message(chat)
    };
    let urgent = store.store.create_message(&urgent).await.unwrap();
    let asked: bool = sqlx::query_scalar(
        "select cancel_requested_at is not null from hearth.turns where task_id = $1",
    )
    .bind(running.task.0)
    .fetch_one(store.store.pool())
    .await
    .unwrap();
    assert!(asked);
    finish(&store, &turn, Outcome::Cancelled).await;
    for task in [urgent.task, queued.task] {
        let turn = claim_one(&store).await;
        assert_eq!(turn.fence.task, task);
        finish(&store, &turn, Outcome::Ok).await;
    }
}

#[tokio::test]
async fn bad_requests_say_what_is_wrong() {
    let store = RealStore::fresh().await;
    let chat = chat(&store).await;
    for content in [String::new(), "é".repeat(64_001)] {
        let refused = store
            .store
            .create_message(&NewMessage {
                content,
                ..message(chat)
            })
            .await;
        let Err(StoreError::Invalid { field, problem }) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(field, "content");
        assert!(problem.contains("1 to 64000"), "{problem}");
    }
    let longest = NewMessage {
        content: "é".repeat(64_000),
        ..message(chat)
    };
    store.store.create_message(&longest).await.unwrap();

    let nowhere = store.store.create_message(&message(ChatId::new())).await;
    assert!(
        matches!(nowhere, Err(StoreError::NotFound { what: "chat", .. })),
        "{nowhere:?}"
    );
    let nowhere = store.store.create_task(&task(ProjectId::new())).await;
    assert!(
        matches!(
            nowhere,
            Err(StoreError::NotFound {
                what: "project",
                ..
            })
        ),
        "{nowhere:?}"
    );
    let nothing = store.store.request_cancel(TaskId::new()).await;
    assert!(
        matches!(nothing, Err(StoreError::NotFound { what: "task", .. })),
        "{nothing:?}"
    );
}

#[tokio::test]
async fn a_task_needs_only_a_project() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let project = store.insert_project().await;
    let created = store
        .store
        .create_task(&task(project.into()))
        .await
        .unwrap();
    let turn = claim_one(&store).await;
    assert_eq!(
        (turn.fence.task, turn.session),
        (created.task, created.session)
    );
    assert_eq!(turn.worktree.project.0, project);
}

#[tokio::test]
async fn a_waiting_task_is_cancelled_at_once() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let created = store
        .store
        .create_message(&message(chat(&store).await))
        .await
        .unwrap();
    let cancelled = store.store.request_cancel(created.task).await.unwrap();
    let CancelRequest::Cancelled(frames) = cancelled else {
        panic!("{cancelled:?}")
    };
    assert_eq!(frames[0].data["state"], "cancelled");
    assert!(store.frames(created.session).await.ends_with(&frames));
    assert_eq!(store.task_state(created.task).await, TaskState::Cancelled);
    assert!(claim(&store, 5).await.assignments.is_empty());
    let again = store.store.request_cancel(created.task).await.unwrap();
    assert_eq!(again, CancelRequest::Ended);
}

#[tokio::test]
async fn a_running_task_is_asked_to_end_and_its_release_ends_it() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let task = store.insert_task(None, None, AGENT).await;
    let turn = claim_one(&store).await;
    assert_eq!(
        store.store.request_cancel(task).await.unwrap(),
        CancelRequest::Requested(Vec::new())
    );
    assert_eq!(store.task_state(task).await, TaskState::Running);
    store.queue().release(&turn.fence, None).await.unwrap();
    assert_eq!(store.task_state(task).await, TaskState::Cancelled);
    assert_eq!(store.outcome(task).await, Some(Outcome::Cancelled));
    assert_eq!(
        store.store.request_cancel(task).await.unwrap(),
        CancelRequest::Ended
    );
}

/// As a front end of its own would do it.
#[tokio::test]
async fn a_cancel_by_sql_keeps_its_word() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let task = store.insert_task(None, None, AGENT).await;
    let turn = claim_one(&store).await;
    sqlx::query("update tasks set state = 'cancelled' where id = $1")
        .bind(task.0)
        .execute(store.store.pool())
        .await
        .unwrap();
    finish(&store, &turn, Outcome::Ok).await;
    assert_eq!(store.task_state(task).await, TaskState::Cancelled);
}

#[tokio::test]
async fn a_deleted_chat_takes_its_waiting_tasks_along() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let session = store.insert_session().await;
    let chat = store.insert_chat(session).await;
    let running = store.insert_task(Some(session), Some(chat), AGENT).await;
    let waiting = store.insert_task(Some(session), Some(chat), AGENT).await;
    let turn = claim_one(&store).await;
    open(&store, &turn).await;
    sqlx::query("delete from chats where id = $1")
        .bind(chat.0)
        .execute(store.store.pool())
        .await
        .unwrap();
    assert_eq!(store.task_state(waiting).await, TaskState::Cancelled);
    finish(&store, &turn, Outcome::Cancelled).await;
    assert_eq!(store.task_state(running).await, TaskState::Cancelled);
}

async fn chat(store: &RealStore) -> ChatId {
    let session = store.insert_session().await;
    store.insert_chat(session).await
}

fn message(chat: ChatId) -> NewMessage {
    NewMessage {
        chat,
        content: "say hello".into(),
        agent: AGENT.into(),
        model: None,
        mode: None,
        thinking: None,
        features: std::collections::BTreeMap::new(),
        policy: None,
        budget: None,
        retry_interrupted: false,
        interrupt: false,
        retry_of: None,
        idempotency_key: None,
    }
}

fn task(project: ProjectId) -> NewTask {
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
        parent: None,
        retry_interrupted: false,
        policy: None,
        budget: None,
        idempotency_key: None,
    }
}
