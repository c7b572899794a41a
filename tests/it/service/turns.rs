//! Warm turns, and their end on request.

use std::time::{Duration, Instant};

use serde_json::json;

use super::harness::Service;

#[tokio::test]
async fn two_messages_of_a_chat_meet_the_same_process_and_context() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let first = service.say(&chat, "say the word is tamarind").await;
    assert_eq!(service.outcome(&first).await, "ok");
    let pid = service.agent_pid(&chat).await;
    let node = service.node(&chat).await.unwrap();
    let second = service.say(&chat, "recall").await;
    assert_eq!(service.outcome(&second).await, "ok");
    assert_eq!(service.agent_pid(&chat).await, pid);
    let detail =
        |node: &serde_json::Value| node["children"][0]["detail"]["agent_session_id"].clone();
    assert_eq!(detail(&service.node(&chat).await.unwrap()), detail(&node));
    let answers = service.answers(&chat).await;
    assert!(answers[1].contains("tamarind"), "{answers:?}");
}

#[tokio::test]
async fn a_file_becomes_one_pending_change() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let task = service
        .say(&chat, "create haiku.txt with a haiku about tides")
        .await;
    assert_eq!(service.outcome(&task).await, "ok");
    let pending = service
        .get(&format!("/api/sessions/{}/pending", chat.session))
        .await;
    let items = pending["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "{pending}");
    assert_eq!(items[0]["file_path"], "haiku.txt");
    assert_eq!(items[0]["operation"], "create");
    assert_eq!(items[0]["agent"], "demo");
}

#[tokio::test]
async fn a_cancel_in_mid_stream_is_quick_and_the_process_stays() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let task = service.say(&chat, "slow 100000 20").await;
    service.state(&chat, "running").await;
    let pid = service.agent_pid(&chat).await;
    let asked = Instant::now();
    let (status, body) = service
        .post(&format!("/api/tasks/{task}/cancel"), json!({}))
        .await;
    assert!(status < 300, "{status} {body}");
    assert_eq!(service.outcome(&task).await, "cancelled");
    assert!(
        asked.elapsed() < Duration::from_secs(1),
        "{:?}",
        asked.elapsed()
    );
    let next = service.say(&chat, "say again").await;
    assert_eq!(service.outcome(&next).await, "ok");
    assert_eq!(service.agent_pid(&chat).await, pid);
}

#[tokio::test]
async fn an_agent_that_ignores_everything_is_ended_within_six_seconds() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let task = service.say(&chat, "ignore cancel\nhang").await;
    service.state(&chat, "running").await;
    let pid = service.agent_pid(&chat).await;
    let asked = Instant::now();
    service
        .post(&format!("/api/tasks/{task}/cancel"), json!({}))
        .await;
    assert_eq!(service.outcome(&task).await, "cancelled");
    assert!(
        asked.elapsed() < Duration::from_millis(6_200),
        "{:?}",
        asked.elapsed()
    );
    let next = service.say(&chat, "recall").await;
    assert_eq!(service.outcome(&next).await, "ok");
    assert_ne!(service.agent_pid(&chat).await, pid);
}

#[tokio::test]
async fn interrupting_puts_the_new_message_first() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let first = service.say(&chat, "slow 100000 20").await;
    let second = service.say(&chat, "say second").await;
    service.state(&chat, "running").await;
    let path = format!("/api/chats/{}/messages", chat.id);
    let body = json!({ "content": "say urgent", "agent": "demo", "when_busy": "interrupt" });
    let (status, urgent) = service.post(&path, body).await;
    assert_eq!(status, 202, "{urgent}");
    assert_eq!(service.outcome(&first).await, "cancelled");
    assert_eq!(
        service.outcome(urgent["task_id"].as_str().unwrap()).await,
        "ok"
    );
    assert_eq!(service.outcome(&second).await, "ok");
    let answers = service.answers(&chat).await;
    let urgent = answers.iter().position(|text| text.contains("urgent"));
    let second = answers.iter().position(|text| text.contains("second"));
    assert!(urgent.is_some() && second.is_some(), "{answers:?}");
    let order = service.pool().await;
    let claimed: Vec<String> = sqlx::query_scalar(
        "select t.input from hearth.turns u join tasks t on t.id = u.task_id order by u.claimed_at",
    )
    .fetch_all(&order)
    .await
    .unwrap();
    assert_eq!(claimed, ["slow 100000 20", "say urgent", "say second"]);
}

#[tokio::test]
async fn a_stop_waits_for_the_turn_and_leaves_nothing() {
    let mut service = Service::start().await;
    let chat = service.chat().await;
    let task = service.say(&chat, "wait 2s\nsay done").await;
    service.state(&chat, "running").await;
    let pool = service.pool().await;
    assert!(service.terminate().await.success(), "{}", service.log());
    let (state,): (String,) = sqlx::query_as("select state from tasks where id = $1::uuid")
        .bind(&task)
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(state, "completed");
    assert_eq!(service.processes(), Vec::<i32>::new());
}
