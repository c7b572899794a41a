//! Lists in pages.

use serde_json::{Value, json};

use super::fixture::{Service, service};

/// Walks a list to its end and returns the names of its rows.
async fn walk(service: &Service, path: &str, limit: usize, key: &str) -> Vec<String> {
    let separator = if path.contains('?') { '&' } else { '?' };
    let mut names = Vec::new();
    let mut cursor = String::new();
    loop {
        let (status, page) = service
            .get(&format!("{path}{separator}limit={limit}{cursor}"))
            .await;
        assert_eq!(status, 200, "{page}");
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= limit);
        names.extend(
            items
                .iter()
                .map(|item| item[key].as_str().unwrap().to_owned()),
        );
        match &page["next_cursor"] {
            Value::String(next) => {
                assert_eq!(items.len(), limit, "a page before the last is full");
                cursor = format!("&cursor={next}");
            }
            _ => return names,
        }
    }
}

#[tokio::test]
async fn every_row_comes_once_in_order_whatever_the_page_size() {
    let service = service().await;
    let (session, chat) = service.chat().await;
    let (_, home) = service.get(&format!("/api/sessions/{session}")).await;
    let project = home["project_id"].clone();
    for number in 0..6 {
        let name = json!({ "name": format!("chat {number}") });
        service
            .post(&format!("/api/sessions/{session}/chats"), &name)
            .await;
        let body = json!({ "project_id": project, "name": format!("session {number}") });
        service.post("/api/sessions", &body).await;
        let body = json!({ "content": format!("message {number}"), "agent": "demo" });
        service
            .post(&format!("/api/chats/{chat}/messages"), &body)
            .await;
    }
    let named = |kind: &str| (0..6).map(|n| format!("{kind} {n}")).collect::<Vec<_>>();
    for limit in [1, 2, 3, 6, 7, 200] {
        let messages = walk(
            &service,
            &format!("/api/chats/{chat}/messages"),
            limit,
            "content",
        )
        .await;
        assert_eq!(messages, named("message"), "limit {limit}");
        let mut sessions = walk(&service, "/api/sessions", limit, "name").await;
        assert_eq!(sessions.pop().as_deref(), Some("session"));
        sessions.reverse();
        assert_eq!(sessions, named("session"), "limit {limit}");
        let mut tasks = walk(&service, "/api/tasks?state=pending", limit, "input").await;
        tasks.reverse();
        assert_eq!(tasks, named("message"), "limit {limit}");
    }
    let (_, page) = service
        .get(&format!("/api/sessions/{session}/chats?limit=7"))
        .await;
    assert_eq!(
        page["next_cursor"],
        Value::Null,
        "a full last page has no next one"
    );
}

#[tokio::test]
async fn rows_of_one_moment_are_told_apart() {
    let service = service().await;
    sqlx::query(
        "insert into projects(name, path, created_at)
         select 'p' || n, '/p/' || n, '2026-01-01' from generate_series(1, 5) n",
    )
    .execute(service.store.pool())
    .await
    .unwrap();
    let mut names = walk(&service, "/api/projects", 2, "name").await;
    names.sort();
    assert_eq!(names, ["p1", "p2", "p3", "p4", "p5"]);
}
