//! The present state of a session, as it stands for frames that are gone.

use hearth::store::{Snapshot, Store, StoreOptions};
use hearth_actors::ids::{NodeId, SessionId, TaskId};
use serde_json::json;

use super::harness::Service;

async fn snapshot(store: &Store, session: &str, task: Option<&str>) -> Snapshot {
    let session = SessionId(session.parse().unwrap());
    let task = task.map(|id| TaskId(id.parse().unwrap()));
    store.snapshot(session, task).await.unwrap().unwrap()
}

#[tokio::test]
async fn an_open_question_is_in_it_until_it_is_settled() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let said = service.say(&chat, "say before").await;
    assert_eq!(service.outcome(&said).await, "ok");
    let asking = service.say(&chat, "ask may I go on\nhang").await;
    let task = format!("/api/tasks/{asking}");
    service
        .until("blocked", async || {
            let task = service.get(&task).await;
            (task["state"] == "blocked").then_some(()).ok_or(task)
        })
        .await;
    let pool = service.pool().await;
    let options = StoreOptions::new((*pool.connect_options()).clone(), NodeId::new());
    let store = Store::connect(options).await.unwrap();

    let now = snapshot(&store, &chat.session, None).await;
    assert_eq!(now.permissions.len(), 1, "{now:?}");
    let ask = &now.permissions[0];
    assert_eq!(ask.task_id.to_string(), asking);
    assert!(
        ask.request["options"]
            .as_array()
            .is_some_and(|o| !o.is_empty()),
        "{ask:?}"
    );
    assert_eq!(now.tasks.len(), 1, "{now:?}");
    assert_eq!(now.tasks[0].state, "blocked");
    let answer = now
        .messages
        .iter()
        .find(|m| Some(m.id) == now.tasks[0].message_id);
    assert_eq!(answer.unwrap().status, "streaming");
    assert_eq!(
        now.messages.len(),
        4,
        "two of a person, two of the agent: {now:?}"
    );
    let before = now
        .messages
        .iter()
        .find(|m| m.content.contains("before") && m.role == "assistant");
    assert!(!before.unwrap().parts.is_empty());

    let of_task = snapshot(&store, &chat.session, Some(&asking)).await;
    assert_eq!(of_task.messages.len(), 2, "{of_task:?}");
    assert_eq!(of_task.permissions.len(), 1);
    let of_other = snapshot(&store, &chat.session, Some(&said)).await;
    assert_eq!(
        (of_other.permissions.len(), of_other.messages.len()),
        (0, 2)
    );
    assert_eq!(of_other.tasks[0].outcome.as_deref(), Some("ok"));

    // What is settled is not open, although its turn goes on.
    let path = format!("/api/prompts/{}/answer", ask.id);
    let (status, body) = service.post(&path, json!({ "kind": "allow_once" })).await;
    assert_eq!(status, 200, "{body}");
    let going_on = snapshot(&store, &chat.session, None).await;
    assert_eq!(
        (going_on.permissions.len(), going_on.tasks.len()),
        (0, 1),
        "{going_on:?}"
    );

    let (status, body) = service.post(&format!("{task}/cancel"), json!({})).await;
    assert_eq!(status, 202, "{body}");
    assert_eq!(service.outcome(&asking).await, "cancelled");
    let after = snapshot(&store, &chat.session, None).await;
    assert_eq!(
        (after.permissions.len(), after.tasks.len()),
        (0, 0),
        "{after:?}"
    );
    assert!(after.seq > now.seq);
    store.close().await;
}
