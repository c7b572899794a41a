//! Every bad input is a problem that says what and where.

use std::fmt::Write as _;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use uuid::Uuid;

use super::fixture::{Service, service, settings};

/// One line of head and the body, as the caller sees them.
async fn told(out: &mut String, name: &str, request: RequestBuilder) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let kind = answer.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    let text = answer.text().await.unwrap();
    let body: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
    assert_eq!(kind, "application/problem+json", "{name}: {body}");
    assert_eq!(body["status"], status, "{name}");
    assert!(
        body["type"]
            .as_str()
            .is_some_and(|uri| uri.starts_with("urn:hearth:problem:")),
        "{name}: {body}"
    );
    write!(
        out,
        "{name} -> {status} {}\n  {}\n",
        body["code"].as_str().unwrap(),
        body["detail"]
    )
    .unwrap();
    for error in body["errors"].as_array().into_iter().flatten() {
        writeln!(out, "  {} {}", error["pointer"], error["detail"]).unwrap();
    }
}

fn raw(service: &Service, path: &str, body: &str) -> RequestBuilder {
    service
        .request(Method::POST, path)
        .header("content-type", "application/json")
        .body(body.to_owned())
}

#[tokio::test]
async fn bodies_are_refused_with_reason_and_place() {
    let service = service().await;
    let (session, chat) = service.chat().await;
    let project = service.project().await;
    let messages = format!("/api/chats/{chat}/messages");
    let chats = format!("/api/sessions/{session}/chats");
    let mut out = String::new();
    for (name, path, body) in [
        ("no JSON", "/api/projects", "{\"path\": "),
        ("not JSON on line 2", "/api/projects", "{\n\"path\" = 1}"),
        ("empty body", "/api/projects", ""),
        ("array", "/api/projects", "[]"),
        ("missing field", "/api/projects", "{}"),
        ("unknown field", "/api/projects", "{\"path\": \"/x\", \"colour\": 1}"),
        ("wrong type", "/api/projects", "{\"path\": 5}"),
        ("relative path", "/api/projects", "{\"path\": \"x\"}"),
        ("NUL in path", "/api/projects", "{\"path\": \"/x\\u0000\"}"),
        ("no repository", "/api/projects", "{\"path\": \"/proc\"}"),
        ("long name", "/api/projects", &format!("{{\"path\": \"/x\", \"name\": \"{}\"}}", "n".repeat(201))),
        ("bad id in body", "/api/sessions", "{\"project_id\": \"7\"}"),
        ("unknown project", "/api/sessions", &json!({"project_id": Uuid::nil()}).to_string()),
        ("control in name", &chats, "{\"name\": \"a\\u0007\"}"),
        ("empty content", &messages, "{\"content\": \"\", \"agent\": \"demo\"}"),
        ("unknown agent", &messages, "{\"content\": \"x\", \"agent\": \"hal\"}"),
        ("no agent", &messages, "{\"content\": \"x\"}"),
        ("bad when_busy", &messages, "{\"content\": \"x\", \"agent\": \"demo\", \"when_busy\": \"now\"}"),
        ("looser policy", &messages, "{\"content\": \"x\", \"agent\": \"goose\", \"policy\": \"allow_all\"}"),
        ("several fields", &messages, "{\"content\": \"\", \"agent\": \"demo\", \"model\": \"\"}"),
        ("task of no project", "/api/tasks", &json!({"project_id": Uuid::nil(), "input": "x", "agent": "demo"}).to_string()),
        ("task of no session", "/api/tasks", &json!({"project_id": project, "session_id": Uuid::nil(), "input": "x", "agent": "demo"}).to_string()),
        ("task of no chat", "/api/tasks", &json!({"project_id": project, "chat_id": Uuid::nil(), "input": "x", "agent": "demo"}).to_string()),
    ] {
        told(&mut out, name, raw(&service, path, body)).await;
    }
    let outside = tempfile::tempdir().unwrap();
    git2::Repository::init(outside.path()).unwrap();
    let body = json!({ "path": outside.path() }).to_string();
    told(
        &mut out,
        "outside the roots",
        raw(&service, "/api/projects", &body),
    )
    .await;
    settings().bind(|| insta::assert_snapshot!("http_problems_bodies", out));
}

#[tokio::test]
async fn a_prompt_is_counted_in_scalar_values() {
    let service = service().await;
    let (_, chat) = service.chat().await;
    let path = format!("/api/chats/{chat}/messages");
    let say = |count: usize| json!({ "content": "é".repeat(count), "agent": "demo" });
    let (status, body) = service.post(&path, &say(64_000)).await;
    assert_eq!(status, 202, "{body}");
    let (status, body) = service.post(&path, &say(64_001)).await;
    assert_eq!((status, &body["code"]), (422, &json!("invalid_body")));
    assert_eq!(body["errors"][0]["pointer"], "#/content");
    let large = json!({ "content": "x".repeat(1 << 20), "agent": "demo" });
    let (status, body) = service.post(&path, &large).await;
    assert_eq!((status, &body["code"]), (413, &json!("body_too_large")));
}

#[tokio::test]
async fn paths_queries_and_methods_are_refused_with_reason_and_place() {
    let service = service().await;
    let nobody = Uuid::nil();
    let (session, task) = service.task().await;
    let mut out = String::new();
    for (name, method, path) in [
        ("no route", Method::GET, "/api/nothing".to_owned()),
        ("no route outside the API", Method::GET, "/".to_owned()),
        ("wrong method", Method::DELETE, "/api/projects".to_owned()),
        (
            "wrong method of a task",
            Method::PUT,
            format!("/api/tasks/{task}"),
        ),
        ("bad id", Method::GET, "/api/tasks/7".to_owned()),
        (
            "bad id, not UTF-8",
            Method::GET,
            "/api/tasks/%ff".to_owned(),
        ),
        (
            "bad id of a stream",
            Method::GET,
            "/api/sessions/x/stream".to_owned(),
        ),
        ("no session", Method::GET, format!("/api/sessions/{nobody}")),
        (
            "no session's chats",
            Method::GET,
            format!("/api/sessions/{nobody}/chats"),
        ),
        (
            "no session's changes",
            Method::GET,
            format!("/api/sessions/{nobody}/pending"),
        ),
        (
            "no session's agents",
            Method::GET,
            format!("/api/sessions/{nobody}/agent-sessions"),
        ),
        (
            "no session's stream",
            Method::GET,
            format!("/api/sessions/{nobody}/stream"),
        ),
        (
            "no chat",
            Method::GET,
            format!("/api/chats/{nobody}/messages"),
        ),
        ("no task", Method::GET, format!("/api/tasks/{nobody}")),
        (
            "no task to cancel",
            Method::POST,
            format!("/api/tasks/{nobody}/cancel"),
        ),
        (
            "no task's stream",
            Method::GET,
            format!("/api/tasks/{nobody}/stream"),
        ),
        ("limit 0", Method::GET, "/api/projects?limit=0".to_owned()),
        (
            "limit 201",
            Method::GET,
            "/api/projects?limit=201".to_owned(),
        ),
        ("limit x", Method::GET, "/api/projects?limit=x".to_owned()),
        (
            "bad cursor",
            Method::GET,
            "/api/projects?cursor=abc".to_owned(),
        ),
        (
            "unknown parameter",
            Method::GET,
            "/api/projects?page=2".to_owned(),
        ),
        (
            "bad filter",
            Method::GET,
            "/api/tasks?state=done".to_owned(),
        ),
        (
            "bad id filter",
            Method::GET,
            "/api/tasks?session_id=1".to_owned(),
        ),
        (
            "negative seq",
            Method::GET,
            format!("/api/sessions/{session}/stream?after=-1"),
        ),
        (
            "bad format",
            Method::GET,
            "/api/debug/tree?format=xml".to_owned(),
        ),
        (
            "bad key",
            Method::POST,
            "/api/debug/sessions/x/demo/evict".to_owned(),
        ),
        (
            "not warm",
            Method::POST,
            format!("/api/debug/sessions/{nobody}/goose/evict"),
        ),
        (
            "busy",
            Method::POST,
            format!("/api/debug/sessions/{nobody}/busy/evict"),
        ),
    ] {
        told(&mut out, name, service.request(method, &path)).await;
    }
    let bad_event = service
        .request(Method::GET, &format!("/api/sessions/{session}/stream"))
        .header("last-event-id", "x");
    told(&mut out, "bad Last-Event-ID", bad_event).await;
    let form = service
        .request(Method::POST, "/api/projects")
        .header("content-type", "text/plain")
        .body("{}");
    told(&mut out, "not declared as JSON", form).await;
    let body = json!({ "project_id": nobody, "input": "x", "agent": "demo" });
    let key = service
        .request(Method::POST, "/api/tasks")
        .header("idempotency-key", "x".repeat(256))
        .json(&body);
    told(&mut out, "long key", key).await;
    settings().bind(|| insta::assert_snapshot!("http_problems_paths", out));
}

#[tokio::test]
async fn a_wrong_method_names_the_right_ones() {
    let service = service().await;
    let answer = service
        .request(Method::PATCH, "/api/projects")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 405);
    let allow = answer.headers()["allow"].to_str().unwrap();
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
}

#[tokio::test]
async fn a_lost_database_is_503_with_a_time_to_try_again() {
    let service = service().await;
    service.store.close().await;
    let answer = service
        .request(Method::GET, "/api/projects")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "1");
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["code"], "database_unavailable");
    let (status, body) = service.get("/api/health").await;
    assert_eq!(
        (status, &body["status"]),
        (503, &json!("database_unavailable"))
    );
    let (status, _) = service.get("/api/health/live").await;
    assert_eq!(status, 200);
}
