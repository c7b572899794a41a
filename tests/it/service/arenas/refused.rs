//! What an arena refuses, and that it changes nothing then.

use serde_json::{Value, json};
use uuid::Uuid;

use super::colours;

fn of(agents: &[&str]) -> Value {
    agents.iter().map(|name| json!({ "agent": name })).collect()
}

#[tokio::test]
async fn bad_arenas_are_refused_with_place_and_cure() {
    let service = colours().await;
    let project = service.project().await;
    let chat = service.chat_of(&project).await;
    let good =
        json!({ "project_id": project, "input": "say hi", "contestants": of(&["red", "blue"]) });
    let with = |changes: Value| {
        let mut body = good.clone();
        for (key, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => drop(body.as_object_mut().unwrap().remove(key)),
                value => body[key] = value.clone(),
            }
        }
        body
    };
    let check = |command: Value| json!({ "check": { "command": command } });
    for (body, status, code, pointer) in [
        (
            with(json!({ "contestants": of(&["red"]) })),
            422,
            "invalid_body",
            "#/contestants",
        ),
        (
            with(json!({ "contestants": of(&["red"; 6]) })),
            422,
            "invalid_body",
            "#/contestants",
        ),
        (
            with(json!({ "contestants": [] })),
            422,
            "invalid_body",
            "#/contestants",
        ),
        (
            with(json!({ "contestants": of(&["red", "hal"]) })),
            422,
            "unknown_agent",
            "#/contestants/1/agent",
        ),
        (
            with(json!({ "contestants": [{ "agent": "red", "colour": 1 }, { "agent": "red" }] })),
            422,
            "invalid_body",
            "#/contestants[0]/colour",
        ),
        (with(json!({ "input": "" })), 422, "invalid_body", "#/input"),
        (
            with(json!({ "input": "x".repeat(64_001) })),
            422,
            "invalid_body",
            "#/input",
        ),
        (
            with(json!({ "session_id": chat.session })),
            422,
            "invalid_body",
            "#/session_id",
        ),
        (
            with(json!({ "project_id": null })),
            422,
            "invalid_body",
            "#/session_id",
        ),
        (
            with(json!({ "project_id": Uuid::nil() })),
            422,
            "unknown_reference",
            "#/project_id",
        ),
        (
            with(json!({ "project_id": null, "session_id": Uuid::nil() })),
            422,
            "unknown_reference",
            "#/session_id",
        ),
        (
            with(check(json!([]))),
            422,
            "invalid_body",
            "#/check/command",
        ),
        (
            with(check(json!([""]))),
            422,
            "invalid_body",
            "#/check/command",
        ),
        (
            with(check(json!(["a\0b"]))),
            422,
            "invalid_body",
            "#/check/command",
        ),
        (
            with(check(json!(vec!["x"; 65]))),
            422,
            "invalid_body",
            "#/check/command",
        ),
        (
            with(json!({ "check": { "command": ["true"], "timeout_ms": 0 } })),
            422,
            "invalid_body",
            "#/check/timeout_ms",
        ),
        (
            with(json!({ "check": { "command": ["true"], "timeout_ms": 3_600_001 } })),
            422,
            "invalid_body",
            "#/check/timeout_ms",
        ),
        (
            with(json!({ "policy": "allow_everything" })),
            422,
            "invalid_body",
            "#/policy",
        ),
        (
            with(json!({ "verdict": "mine" })),
            422,
            "invalid_body",
            "#/verdict",
        ),
    ] {
        let (found, problem) = service.post("/api/arena", body).await;
        assert_eq!(
            (found, problem["code"].as_str()),
            (status, Some(code)),
            "{problem}"
        );
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    assert_eq!(service.get("/api/arena").await["items"], json!([]));
    let tasks = service.get("/api/tasks").await;
    assert_eq!(tasks["items"], json!([]), "nothing was left behind");
    for path in ["/api/arena/x", "/api/arena/x/cancel"] {
        let (_, problem) = match path.ends_with("cancel") {
            true => service.post(path, json!({})).await,
            false => (0, service.get(path).await),
        };
        assert_eq!(problem["code"], "invalid_id");
    }
    let nobody = Uuid::nil();
    let missing = service.get(&format!("/api/arena/{nobody}")).await;
    assert_eq!(missing["code"], "not_found");
    let (status, _) = service
        .post(&format!("/api/arena/{nobody}/cancel"), json!({}))
        .await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn a_session_that_is_busy_starts_no_arena() {
    let service = colours().await;
    let chat = service.chat().await;
    let task = service.say_to("red", &chat, "wait 100s").await;
    service
        .until("it runs", async || {
            let task = service.get(&format!("/api/tasks/{task}")).await;
            (task["state"] == "running").then_some(()).ok_or(task)
        })
        .await;
    let body = json!({ "session_id": chat.session, "input": "say hi", "contestants": of(&["red", "blue"]) });
    let (status, problem) = service.post("/api/arena", body.clone()).await;
    assert_eq!(
        (status, &problem["code"]),
        (409, &json!("worktree_busy")),
        "{problem}"
    );
    service
        .post(&format!("/api/tasks/{task}/cancel"), json!({}))
        .await;
    service.outcome(&task).await;
    let (status, accepted) = service.post("/api/arena", body).await;
    assert_eq!(status, 202, "{accepted}");
    let arena = accepted["arena_id"].as_str().unwrap();
    service.arena_is(arena, "judged").await;
    let (status, problem) = service
        .post(&format!("/api/arena/{arena}/cancel"), json!({}))
        .await;
    assert_eq!((status, &problem["code"]), (409, &json!("arena_decided")));
}

#[tokio::test]
async fn the_same_key_begins_one_arena() {
    let service = colours().await;
    let project = service.project().await;
    let body =
        json!({ "project_id": project, "input": "say hi", "contestants": of(&["red", "blue"]) });
    let (first, again) = tokio::join!(
        service.post_once("/api/arena", "k", body.clone()),
        service.post_once("/api/arena", "k", body.clone()),
    );
    assert_eq!((first.0, again.0), (202, 202));
    assert_eq!(first.1["arena_id"], again.1["arena_id"]);
    let mut other = body;
    other["input"] = json!("say something else");
    let (status, problem) = service.post_once("/api/arena", "k", other).await;
    assert_eq!(
        (status, &problem["code"]),
        (409, &json!("idempotency_conflict"))
    );
}
