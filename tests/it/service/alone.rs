//! Tasks that are no chat turn, and following turns from the command line.

use std::process::{Output, Stdio};

use serde_json::{Value, json};

use super::harness::{Chat, Service};

async fn task(service: &Service, chat: &Chat, input: &str, more: Value) -> (u16, Value) {
    let session = service
        .get(&format!("/api/sessions/{}", chat.session))
        .await;
    let mut body = json!({
        "project_id": session["project_id"], "session_id": chat.session,
        "agent": "demo", "input": input,
    });
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    service.post("/api/tasks", body).await
}

async fn hearth(service: &Service, arguments: &[&str]) -> Output {
    tokio::process::Command::new(env!("CARGO_BIN_EXE_hearth"))
        .args(arguments)
        .env_clear()
        .env("HEARTH_HOME", &service.home)
        .env("HOME", service.home.parent().unwrap())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_child_runs_in_its_own_process_and_is_told_to_its_parent() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let parent = service
        .say(&chat, "say the word is tamarind\nwait 2s")
        .await;
    service.state(&chat, "running").await;
    let warm = service.agent_pid(&chat).await;
    let before = service.processes().len();
    let (status, child) = task(
        &service,
        &chat,
        "recall",
        json!({ "parent_task_id": parent, "policy": "deny" }),
    )
    .await;
    assert_eq!(status, 202, "{child}");
    let child = child["task_id"].as_str().unwrap().to_owned();
    assert_eq!(service.outcome(&parent).await, "ok");
    assert_eq!(service.outcome(&child).await, "ok");
    let answer = service.answers(&chat).await.pop().unwrap();
    assert!(!answer.contains("tamarind"), "another context: {answer}");
    service
        .until("only the warm agent", async || {
            let left = service.processes();
            (left.len() == before).then_some(()).ok_or(left)
        })
        .await;
    let next = service.say(&chat, "recall").await;
    assert_eq!(service.outcome(&next).await, "ok");
    assert_eq!(service.agent_pid(&chat).await, warm);
    let told: i64 = sqlx::query_scalar(
        "select count(*) from hearth.frames
         where task_id = $1::uuid and data -> 'child' ->> 'task_id' = $2",
    )
    .bind(&parent)
    .bind(&child)
    .fetch_one(&service.pool().await)
    .await
    .unwrap();
    assert_eq!(told, 1);
    let looser = json!({ "parent_task_id": child, "policy": "ask" });
    let (status, refused) = task(&service, &chat, "say x", looser).await;
    assert_eq!(status, 422, "{refused}");
    let detail = refused.to_string();
    assert!(detail.contains("looser than its parent's"), "{detail}");
}

#[tokio::test]
async fn a_turn_is_sent_attached_and_cancelled_by_short_ids() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let sent = hearth(
        &service,
        &["send", &chat.session, "say tamarind", "-a", "demo"],
    )
    .await;
    assert_eq!(sent.status.code(), Some(0), "{sent:?}");
    assert!(String::from_utf8_lossy(&sent.stdout).contains("tamarind"));
    let queued = hearth(
        &service,
        &[
            "send",
            &chat.id,
            "slow 100000 20",
            "-a",
            "demo",
            "--no-wait",
        ],
    )
    .await;
    assert_eq!(queued.status.code(), Some(0), "{queued:?}");
    let id = String::from_utf8_lossy(&queued.stdout).trim().to_owned();
    service.state(&chat, "running").await;
    // The end of an id is its random part: the beginning up to there fits one.
    let short = &id[..30];
    let cancelled = hearth(&service, &["cancel", short, "--json"]).await;
    let answer: Value = serde_json::from_slice(&cancelled.stdout).unwrap();
    assert_eq!(answer["task_id"], id, "{cancelled:?}");
    assert_eq!(service.outcome(&id).await, "cancelled");
    let attached = hearth(&service, &["attach", short, "--json"]).await;
    assert_eq!(attached.status.code(), Some(1), "{attached:?}");
    let lines = String::from_utf8_lossy(&attached.stdout);
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(last["type"], "result");
    assert_eq!(last["outcome"], "cancelled");
    // Nothing comes behind its last frame, yet it ends.
    let late = hearth(&service, &["attach", short, "--after", "1000000", "--json"]).await;
    let lines = String::from_utf8_lossy(&late.stdout);
    let last: Value = serde_json::from_str(lines.lines().last().unwrap_or_default()).unwrap();
    assert_eq!(last["outcome"], "cancelled", "{late:?}");
    let none = hearth(&service, &["attach", "ffffffff"]).await;
    assert_eq!(none.status.code(), Some(2), "{none:?}");
    let script = hearth(&service, &["completions", "bash"]).await;
    assert!(String::from_utf8_lossy(&script.stdout).contains("--no-wait"));
}
