//! What agents are told that they have not seen, with the demo agent: it recalls
//! what it was told.

use serde_json::{Value, json};

use super::harness::{Chat, Service};

/// What the task's last turn was told in front of its prompt.
pub(super) fn told(task: &Value) -> Value {
    task["turns"]
        .as_array()
        .and_then(|turns| turns.last())
        .unwrap()["told"]
        .clone()
}

/// With a second name for the demo agent: another agent of the same chat.
async fn two_agents(settings: &str) -> Service {
    let second = "[agents.second]\nalias = \"demo\"\n";
    Service::with_config(Some(&format!("{second}{settings}"))).await
}

async fn turn(service: &Service, agent: &str, chat: &Chat, content: &str) -> (Value, String) {
    let task = service.say_to(agent, chat, content).await;
    let task = service.ended(&task).await;
    assert_eq!(task["outcome"], "ok", "{task:#}\n{}", service.log());
    let answer = service.answers(chat).await.pop().unwrap();
    (task, answer)
}

#[tokio::test]
async fn a_restart_of_hearth_forgets_nothing_of_what_was_told() {
    let service = two_agents("").await;
    let chat = service.chat().await;
    turn(&service, "demo", &chat, "say tamarind").await;
    let (task, answer) = turn(&service, "second", &chat, "recall").await;
    assert!(answer.contains("- told: say tamarind"), "{answer}");
    assert_eq!(told(&task)["messages"], 2);
    // The stream says so, too.
    let frames: Vec<Option<Value>> = sqlx::query_scalar(
        "select data -> 'told' from hearth.frames where kind = 'message_started' order by seq",
    )
    .fetch_all(&service.pool().await)
    .await
    .unwrap();
    assert_eq!(frames[0], None);
    assert_eq!(frames[1].as_ref().unwrap()["reason"], "joined");

    let mut service = service;
    service.kill().await;
    let service = service.again().await;
    let (task, answer) = turn(&service, "second", &chat, "recall").await;
    assert_eq!(told(&task), Value::Null, "its session holds it");
    assert!(answer.contains("I remember 1 earlier"), "{answer}");
    let (task, answer) = turn(&service, "demo", &chat, "recall").await;
    assert_eq!(told(&task)["messages"], 4, "{task:#}");
    assert!(answer.contains("- told: recall"), "{answer}");
    let (task, _) = turn(&service, "demo", &chat, "say on").await;
    assert_eq!(told(&task), Value::Null);
}

/// Hearth dies while a prompt with a hand-over is on its way.
#[tokio::test]
async fn a_death_of_hearth_leaves_no_hand_over_in_doubt() {
    for words in ["say heard\nhang", "hang"] {
        let mut service = two_agents("").await;
        let chat = service.chat().await;
        turn(&service, "demo", &chat, "say tamarind").await;
        turn(&service, "second", &chat, "say otter").await;
        let task = service.say(&chat, words).await;
        service
            .until("the prompt is with the agent", async || {
                let task = service.get(&format!("/api/tasks/{task}")).await;
                let turn = &task["turns"][0];
                let there = turn["prompted_at"].is_string()
                    && (words == "hang" || turn["first_token_at"].is_string());
                there.then_some(()).ok_or(task)
            })
            .await;
        service.kill().await;
        let service = service.again().await;
        assert_eq!(service.outcome(&task).await, "interrupted");
        let (task, answer) = turn(&service, "demo", &chat, "recall").await;
        if words == "hang" {
            // Nobody knows: a fresh context is given everything.
            assert_eq!(told(&task)["reason"], "fresh", "{task:#}");
            assert!(answer.contains("- told: say tamarind"), "{answer}");
            assert!(answer.contains("0 earlier"), "{answer}");
        } else {
            assert_eq!(told(&task), Value::Null, "{task:#}");
            assert!(!answer.contains("0 earlier"), "{answer}");
        }
        assert!(answer.contains("- told: say otter"), "{answer}");
    }
}

#[tokio::test]
async fn a_reset_chat_begins_anew_and_says_why() {
    let service = Service::start().await;
    let chat = service.chat().await;
    turn(&service, "demo", &chat, "say tamarind").await;
    let (trimmed, _) = turn(&service, "demo", &chat, "say zebra").await;
    // As plain SQL does it, with a warm agent.
    let pool = service.pool().await;
    let user = trimmed["turns"][0]["user_message_id"].as_str().unwrap();
    for (sql, value) in [
        (
            "delete from messages m using messages f where f.id = $1::uuid
                and m.chat_id = f.chat_id and m.created_at >= f.created_at",
            user,
        ),
        (
            "select hearth.reset_contexts($1::uuid, 'somebody went back in time')",
            chat.id.as_str(),
        ),
    ] {
        sqlx::query(sql).bind(value).execute(&pool).await.unwrap();
    }
    let path = format!("/api/sessions/{}/agent-sessions", chat.session);
    let row = service.get(&path).await["items"][0].clone();
    assert_eq!(row["reset_why"], "somebody went back in time", "{row:#}");
    assert_eq!(row["has_session"], false);

    let (_, answer) = turn(&service, "demo", &chat, "recall").await;
    assert!(answer.contains("0 earlier"), "{answer}");
    assert!(answer.contains("- told: say tamarind"), "{answer}");
    assert!(!answer.contains("zebra"), "{answer}");
    let row = service.get(&path).await["items"][0].clone();
    assert_eq!(row["continuity"], "fresh", "{row:#}");
    assert_eq!(row["continuity_why"], "somebody went back in time");
    assert_eq!(row["told"]["messages"], 2);
    assert_eq!(row["reset_why"], Value::Null);
}

#[tokio::test]
async fn what_a_child_brought_is_told_with_the_next_prompt() {
    let service = Service::start().await;
    let project = service.project().await;
    let chat = service.chat_of(&project).await;
    let parent = service.say(&chat, "say go\nwait 3s").await;
    service
        .until("the parent runs", async || {
            let task = service.get(&format!("/api/tasks/{parent}")).await;
            (task["state"] == "running").then_some(()).ok_or(task)
        })
        .await;
    let asked = json!({
        "project_id": project, "input": "say the lake is deep", "agent": "demo",
        "parent_task_id": parent,
    });
    let (status, child) = service.post("/api/tasks", asked).await;
    assert!(status < 300, "{status} {child}");
    assert_eq!(
        service.outcome(child["task_id"].as_str().unwrap()).await,
        "ok"
    );
    assert_eq!(service.outcome(&parent).await, "ok");
    let (task, answer) = turn(&service, "demo", &chat, "recall").await;
    assert_eq!(told(&task)["children"], 1, "{task:#}");
    assert!(answer.contains("- told: the lake is deep"), "{answer}");
    let (task, _) = turn(&service, "demo", &chat, "say on").await;
    assert_eq!(told(&task), Value::Null);
}

/// A notice of another program in the chat is told like everything else.
#[tokio::test]
async fn a_notice_in_the_chat_is_told() {
    let service = Service::start().await;
    let chat = service.chat().await;
    turn(&service, "demo", &chat, "say tamarind").await;
    sqlx::query(
        "insert into messages (session_id, chat_id, role, content)
         values ($1::uuid, $2::uuid, 'system', 'the files were restored beneath you')",
    )
    .bind(&chat.session)
    .bind(&chat.id)
    .execute(&service.pool().await)
    .await
    .unwrap();
    let (_, answer) = turn(&service, "demo", &chat, "recall").await;
    assert!(
        answer.contains("- told: the files were restored beneath you"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_setting_that_cannot_change_live_begins_a_declared_fresh_context() {
    let settings = "[agents.demo]\nenv = { HEARTH_DEMO_WITHOUT = \"live\" }\n";
    let service = two_agents(settings).await;
    let chat = service.chat().await;
    turn(&service, "demo", &chat, "say tamarind").await;
    let pid = service.agent_pid(&chat).await;

    let path = format!("/api/chats/{}/messages", chat.id);
    let body = json!({"content": "who are you\nrecall", "agent": "demo", "model": "demo-2"});
    let (status, accepted) = service.post(&path, body).await;
    assert_eq!(status, 202, "{accepted}");
    let task = service.ended(accepted["task_id"].as_str().unwrap()).await;
    assert_eq!(task["outcome"], "ok", "{task:#}");
    assert_eq!(told(&task)["reason"], "fresh", "{task:#}");
    let answer = service.answers(&chat).await.pop().unwrap();
    assert!(
        answer.contains("model demo-2") && answer.contains("0 earlier"),
        "{answer}"
    );
    assert!(answer.contains("- told: say tamarind"), "{answer}");
    assert_eq!(service.agent_pid(&chat).await, pid, "in the same process");
    let path = format!("/api/sessions/{}/agent-sessions", chat.session);
    let row = service.get(&path).await["items"][0].clone();
    assert_eq!(row["continuity"], "fresh", "{row:#}");
    let why = row["continuity_why"].as_str().unwrap();
    assert!(why.contains("before the first prompt only"), "{why}");
}
