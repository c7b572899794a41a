//! The happy path of every route.

use hearth::http::state::Readiness;
use hearth_actors::tree::board::Snapshot;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::support::wait::until;
use super::fixture::{answer, id, service, settings};
use hearth::http::state::Tree as _;

#[tokio::test]
async fn health_follows_what_the_wiring_tells() {
    let service = service().await;
    for (readiness, status, word) in [
        (Readiness::Starting, 503, "starting"),
        (Readiness::Stopping, 503, "stopping"),
        (Readiness::Ready, 200, "ok"),
    ] {
        service
            .health
            .send_modify(|health| health.readiness = readiness);
        for path in ["/api/health", "/api/health/ready"] {
            let (seen, body) = service.get(path).await;
            assert_eq!((seen, body["status"].as_str()), (status, Some(word)));
        }
        assert_eq!(service.get("/api/health/live").await.0, 200);
    }
}

#[tokio::test]
async fn a_project_is_registered_once() {
    let service = service().await;
    let path = service.repository("app");
    let body = json!({ "path": path });
    let (status, first) = service.post("/api/projects", &body).await;
    assert_eq!((status, &first["name"]), (201, &json!("app")));
    assert_eq!(first["path"], json!(path));
    assert_eq!(first["warnings"].as_array().map(Vec::len), Some(1));
    let (status, again) = service.post("/api/projects", &body).await;
    assert_eq!((status, id(&again)), (200, id(&first)));
    let (_, listed) = service.get("/api/projects").await;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(listed["next_cursor"], Value::Null);
}

#[tokio::test]
async fn a_message_is_committed_and_becomes_a_task() {
    let service = service().await;
    let (session, chat) = service.chat().await;
    let (_, chats) = service.get(&format!("/api/sessions/{session}/chats")).await;
    assert_eq!(chats["items"][0]["is_default"], true);
    let messages = format!("/api/chats/{chat}/messages");
    let body =
        json!({ "content": "hello\u{0}", "agent": "demo", "mode_id": "plan", "policy": "ask" });
    let (status, accepted) = service.post(&messages, &body).await;
    assert_eq!(status, 202, "{accepted}");
    assert_eq!(accepted["session_id"], json!(session));
    assert_eq!(accepted["chat_id"], json!(chat));
    assert_eq!(service.tree.asked(|asked| asked.wakeups), 1);
    let (_, listed) = service.get(&messages).await;
    assert_eq!(listed["items"][0]["id"], accepted["message_id"]);
    assert_eq!(listed["items"][0]["role"], "user");
    let task = accepted["task_id"].as_str().unwrap();
    let (status, task) = service.get(&format!("/api/tasks/{task}")).await;
    assert_eq!(status, 200, "{task}");
    settings().bind(|| insta::assert_json_snapshot!("http_task", task));
}

#[tokio::test]
async fn a_key_creates_nothing_twice() {
    let service = service().await;
    let (_, chat) = service.chat().await;
    let path = format!("/api/chats/{chat}/messages");
    let say = |content: &str| {
        service
            .request(Method::POST, &path)
            .header("idempotency-key", "k1")
            .json(&json!({ "content": content, "agent": "demo" }))
    };
    let (status, first) = answer(say("one")).await;
    assert_eq!(status, 202, "{first}");
    let (status, again) = answer(say("one")).await;
    assert_eq!((status, &again), (202, &first));
    let (status, other) = answer(say("two")).await;
    assert_eq!(
        (status, &other["code"]),
        (409, &json!("idempotency_conflict"))
    );
    let (_, tasks) = service.get("/api/tasks").await;
    assert_eq!(tasks["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_task_without_a_session_gets_a_hidden_one() {
    let service = service().await;
    let project = service.project().await;
    let body = json!({ "project_id": project, "input": "count", "agent": "demo" });
    let (status, accepted) = service.post("/api/tasks", &body).await;
    assert_eq!(status, 202, "{accepted}");
    let (_, sessions) = service.get("/api/sessions").await;
    assert_eq!(sessions["items"], json!([]));
    let own = accepted["session_id"].as_str().unwrap();
    let (status, session) = service.get(&format!("/api/sessions/{own}")).await;
    assert_eq!((status, &session["hidden"]), (200, &json!(true)));
    for (filter, count) in [
        (format!("project_id={project}"), 1),
        (format!("session_id={own}"), 1),
        ("state=pending".to_owned(), 1),
        ("state=failed".to_owned(), 0),
        (format!("project_id={}", Uuid::nil()), 0),
    ] {
        let (_, tasks) = service.get(&format!("/api/tasks?{filter}")).await;
        assert_eq!(
            tasks["items"].as_array().map(Vec::len),
            Some(count),
            "{filter}"
        );
    }
}

#[tokio::test]
async fn a_waiting_task_is_cancelled_at_once_and_only_once() {
    let service = service().await;
    let (_, task) = service.task().await;
    let path = format!("/api/tasks/{task}/cancel");
    let (status, body) = answer(service.request(Method::POST, &path)).await;
    assert_eq!((status, &body["status"]), (200, &json!("cancelled")));
    let (_, seen) = service.get(&format!("/api/tasks/{task}")).await;
    assert_eq!(seen["state"], "cancelled");
    let (status, body) = service.post(&path, &json!({})).await;
    assert_eq!((status, &body["code"]), (409, &json!("task_ended")));
    assert!(service.tree.asked(|asked| asked.cancels.is_empty()));
}

#[tokio::test]
async fn changes_and_agents_of_a_session_are_listed() {
    let service = service().await;
    let (session, chat) = service.chat().await;
    let change: Uuid = sqlx::query_scalar(
        "insert into pending_changes(session_id, file_path, operation, diff, agent)
         values ($1, 'a.txt', 'create', E'--- /dev/null\n+++ b/a.txt\n@@ -0,0 +1,2 @@\n+a\n+b\n', 'demo')
         returning id",
    )
    .bind(session)
    .fetch_one(service.store.pool())
    .await
    .unwrap();
    sqlx::query(
        "insert into agent_sessions(chat_id, agent, session_id, backend, agent_session_id, input_tokens)
         values ($1, 'demo', $2, 'acp_warm', 'x', 7)",
    )
    .bind(chat)
    .bind(session)
    .execute(service.store.pool())
    .await
    .unwrap();
    let (_, changes) = service
        .get(&format!("/api/sessions/{session}/pending"))
        .await;
    assert_eq!(id(&changes["items"][0]), change);
    assert_eq!(changes["items"][0]["additions"], 2);
    assert_eq!(changes["items"][0]["deletions"], 0);
    let (_, agents) = service
        .get(&format!("/api/sessions/{session}/agent-sessions"))
        .await;
    assert_eq!(agents["items"][0]["has_session"], true);
    assert_eq!(agents["items"][0]["input_tokens"], 7);
}

#[tokio::test]
async fn the_tree_is_shown_as_json_and_text_and_can_be_told() {
    let service = service().await;
    assert_eq!(service.get("/api/debug/tree").await, (200, Value::Null));
    let snapshot = Snapshot {
        kind: "root".into(),
        name: "root".into(),
        state: "up".into(),
        ..Snapshot::default()
    };
    service.tree.board().put(&["root"], snapshot);
    let (_, tree) = service.get("/api/debug/tree").await;
    assert_eq!(tree["state"], "up");
    let (_, text) = service.get("/api/debug/tree?format=text").await;
    assert!(
        text.as_str()
            .is_some_and(|text| text.starts_with("root  up ")),
        "{text}"
    );
    let nobody = Uuid::nil();
    for verb in ["evict", "restart"] {
        let path = format!("/api/debug/sessions/{nobody}/demo/{verb}");
        assert_eq!(answer(service.request(Method::POST, &path)).await.0, 204);
    }
    let keys = || service.tree.asked(|asked| asked.keys.clone());
    let wanted = |keys: &Vec<String>| *keys == ["evict demo", "restart demo"];
    until(
        "the tree was told",
        std::time::Duration::from_secs(1),
        keys,
        wanted,
    )
    .await;
}

#[tokio::test]
async fn a_stop_is_asked_for_once_and_bounded() {
    let mut service = service().await;
    let (status, body) = service.post("/api/drain", &json!({})).await;
    assert_eq!((status, &body["grace_ms"]), (202, &json!(30_000)), "{body}");
    let wish = service.stops.recv().await.unwrap();
    assert_eq!(wish.grace, std::time::Duration::from_secs(30));
    // The second wish leaves turns no time, whatever it says.
    let (status, body) = service.post("/api/drain", &json!({ "grace_ms": 7 })).await;
    assert_eq!((status, &body["turns"]), (202, &json!(0)), "{body}");
    assert_eq!(body["grace_ms"], 0, "{body}");
    assert!(service.stops.recv().await.unwrap().grace.is_zero());
    for bad in [
        json!({ "grace_ms": 86_400_001 }),
        json!({ "grace_ms": -1 }),
        json!({ "x": 1 }),
    ] {
        let (status, body) = service.post("/api/drain", &bad).await;
        assert_eq!(
            (status, &body["code"]),
            (422, &json!("invalid_body")),
            "{body}"
        );
    }
    assert!(service.stops.try_recv().is_err());
    // A service inside a command ends with it.
    service.stops.close();
    let (status, body) = service.post("/api/drain", &json!({})).await;
    assert_eq!(
        (status, &body["code"]),
        (503, &json!("tree_unavailable")),
        "{body}"
    );
    let open = service.bare(Method::POST, "/api/drain").json(&json!({}));
    assert_eq!(answer(open).await.0, 401);
}

#[tokio::test]
async fn metrics_are_for_who_has_the_token() {
    let service = service().await;
    let text = service
        .request(Method::GET, "/metrics")
        .send()
        .await
        .unwrap();
    assert_eq!(text.status(), 200);
    let text = text.text().await.unwrap();
    assert!(
        text.contains("hearth_build_info{") && text.ends_with("# EOF\n"),
        "{text}"
    );
    assert_eq!(answer(service.bare(Method::GET, "/metrics")).await.0, 401);
}

#[tokio::test]
async fn all_that_is_described_is_there() {
    let service = service().await;
    let (_, document) = service.get("/api/openapi.json").await;
    let mut routes = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        if path.ends_with("/tree/stream") {
            continue;
        }
        let path = path
            .replace("{id}", &Uuid::nil().to_string())
            .replace("{chat_id}", &Uuid::nil().to_string())
            .replace("{agent}", "demo");
        for method in item.as_object().unwrap().keys() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let (status, body) = answer(service.request(method.clone(), &path)).await;
            assert_ne!(status, 405, "{method} {path}");
            assert_ne!(body["code"], "route_not_found", "{method} {path}");
            routes += 1;
        }
    }
    assert!(routes > 20, "{routes}");
}

#[tokio::test]
async fn the_description_is_served() {
    let service = service().await;
    let (status, body) = service.get("/api/openapi.json").await;
    assert_eq!(status, 200);
    assert_eq!(body["info"]["title"], "Hearth");
    assert!(body["paths"]["/api/tasks/{id}/cancel"]["post"].is_object());
}
