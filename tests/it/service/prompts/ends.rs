//! What ends a turn withdraws its questions.

use serde_json::{Value, json};

use super::*;

#[tokio::test]
async fn a_cancel_withdraws_the_question() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let (task, prompt) = ask(&service, &chat).await;
    let (status, _) = service
        .post(&format!("/api/tasks/{task}/cancel"), json!({}))
        .await;
    assert_eq!(status, 202);
    assert_eq!(service.outcome(&task).await, "cancelled");
    let (status, problem) = answer(&service, &prompt, json!({ "kind": "allow_once" })).await;
    assert_eq!(status, 410, "{problem}");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("the task was cancelled"),
        "{problem}"
    );
    assert_eq!(
        told(&service, &task).await,
        ["permission_requested", "permission_resolved cancelled"]
    );
    assert_eq!(inbox(&service).await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_killed_agent_takes_its_question_along() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let (task, prompt) = ask(&service, &chat).await;
    let pid = service.agent_pid(&chat).await;
    super::super::harness::signal(pid, nix::sys::signal::Signal::SIGKILL);
    assert_eq!(service.outcome(&task).await, "agent_crashed");
    let (status, problem) = answer(&service, &prompt, json!({ "kind": "allow_once" })).await;
    assert_eq!(status, 410, "{problem}");
    let items = inbox(&service).await;
    assert_eq!(items.len(), 1, "{items:?}");
    assert_eq!(items[0]["id"], format!("task:{task}"));
    assert_eq!(items[0]["state"], "failed");
    assert_eq!(items[0]["reason"], "agent_crashed");
}
