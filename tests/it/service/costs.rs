//! What agents spend is the same number wherever it is shown.

use serde_json::{Value, json};

use super::harness::Service;

#[tokio::test]
async fn sums_agree_at_turn_task_chat_and_in_the_statistics() {
    let service = Service::start().await;
    let chat = service.chat().await;
    // A word is a token of the demo agent.
    let mut spent = (0, 0);
    for (prompt, input, output) in [("say one two three", 4, 3), ("say four", 2, 1)] {
        let task = service.say(&chat, prompt).await;
        assert_eq!(service.outcome(&task).await, "ok");
        let task = service.get(&format!("/api/tasks/{task}")).await;
        let turn = &task["turns"][0];
        assert_eq!(
            (&turn["input_tokens"], &turn["output_tokens"]),
            (&json!(input), &json!(output)),
            "{task}"
        );
        assert_eq!(task["cost_tokens"], input + output);
        spent = (spent.0 + input, spent.1 + output);
    }
    let pair = |row: &Value| (row["input_tokens"].as_i64(), row["output_tokens"].as_i64());
    let expected = (Some(spent.0), Some(spent.1));
    let sessions = service
        .get(&format!("/api/sessions/{}/agent-sessions", chat.session))
        .await;
    let sessions = sessions["items"]
        .as_array()
        .or(sessions.as_array())
        .unwrap();
    assert_eq!(pair(&sessions[0]), expected, "{sessions:?}");
    for by in ["agent", "day", "project"] {
        let costs = service
            .get(&format!("/api/stats/costs?group_by={by}"))
            .await;
        assert_eq!(pair(&costs["items"][0]), expected, "{costs}");
        assert_eq!(costs["items"][0]["turns"], 2, "{costs}");
    }
}

#[tokio::test]
async fn a_live_session_and_a_look_tell_what_an_agent_offers_and_bind_wishes() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let task = service.say(&chat, "say hello").await;
    assert_eq!(service.outcome(&task).await, "ok");
    let pid = service.agent_pid(&chat).await;
    let demo = async |service: &Service| -> Value {
        let providers = service.get("/api/providers").await;
        let items = providers["items"].as_array().unwrap();
        items
            .iter()
            .find(|one| one["name"] == "demo")
            .unwrap()
            .clone()
    };
    let pool = service.pool().await;
    service
        .until("the session's telling", async || {
            sqlx::query_scalar::<_, bool>(
                "select true from hearth.providers where name = 'demo' and learned_at is not null",
            )
            .fetch_one(&pool)
            .await
        })
        .await;
    assert_eq!(
        demo(&service).await["catalog"]["models"]["choices"][1]["id"],
        "demo-2"
    );

    let path = format!("/api/chats/{}/messages", chat.id);
    let body = |model: &str| json!({"content": "who are you", "agent": "demo", "model": model});
    let (status, told) = service.post(&path, body("demo-9")).await;
    assert_eq!(status, 422, "{told}");
    let (status, told) = service.post(&path, body("demo-2")).await;
    assert_eq!(status, 202, "{told}");
    assert_eq!(
        service.outcome(told["task_id"].as_str().unwrap()).await,
        "ok"
    );
    assert_eq!(service.agent_pid(&chat).await, pid, "changed live");
    let back = service.say(&chat, "who are you").await;
    assert_eq!(service.outcome(&back).await, "ok");
    let answers = service.answers(&chat).await;
    assert!(answers[1].contains("model demo-2"), "{answers:?}");
    assert!(answers[2].contains("model demo-1"), "{answers:?}");

    let (status, told) = service
        .post("/api/providers/probe", json!({"agents": ["demo"]}))
        .await;
    assert_eq!(status, 202, "{told}");
    service
        .until("the look", async || {
            let demo = demo(&service).await;
            let done = demo["looking"] == false && demo["last_probed_at"].is_string();
            if done { Ok(()) } else { Err(demo) }
        })
        .await;
    let found = demo(&service).await;
    assert_eq!(
        (&found["fault"], &found["login"]),
        (&Value::Null, &json!("ready")),
        "{found}"
    );
}
