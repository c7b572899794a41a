//! An agent's tool that calls the API.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::harness::Service;

/// A shell command that sends a request by hand and stores the answer.
fn call(service: &Service, method: &str, path: &str, body: &str, to: &Path) -> String {
    let port = service.url().rsplit(':').next().unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\\r\\nHost: localhost\\r\\nAuthorization: Bearer {}\\r\\nContent-Type: application/json\\r\\nContent-Length: {}\\r\\nConnection: close\\r\\n\\r\\n",
        service.token(),
        body.len()
    );
    let body = body.replace('"', "\\\"");
    format!(
        "exec 3<>/dev/tcp/127.0.0.1/{port}; printf \"{head}{body}\" >&3; cat <&3 >{}",
        to.display()
    )
}

async fn answer(service: &Service, file: PathBuf) -> String {
    service
        .until("the tool's answer", async || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            // The body comes last and is JSON.
            if text.ends_with('}') {
                Ok(text)
            } else {
                Err(text)
            }
        })
        .await
}

#[tokio::test]
async fn a_tool_of_an_agent_may_create_a_task_and_control_nothing() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let other = service.chat().await;
    let running = service.say(&other, "wait 60s").await;
    service.state(&other, "running").await;
    let dir = tempfile::tempdir().unwrap();
    let cancel = format!("/api/tasks/{running}/cancel");
    let evict = format!("/api/debug/sessions/{}/demo/restart", other.id);
    let mut asked = Vec::new();
    for (name, how, path) in [
        ("plain", "bash -c", cancel.as_str()),
        // Of a session and a parent of its own.
        ("detached", "setsid -f bash -c", evict.as_str()),
    ] {
        let file = dir.path().join(name);
        let command = call(&service, "POST", path, "", &file);
        let task = service.say(&chat, &format!("run {how} '{command}'")).await;
        let answer = answer(&service, file).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{name}: {answer}");
        assert!(answer.contains("agent_not_allowed"), "{name}: {answer}");
        asked.push(task);
    }
    let project = service
        .get(&format!("/api/sessions/{}", chat.session))
        .await["project_id"]
        .clone();
    let body = json!({ "project_id": project, "agent": "demo", "input": "say child" }).to_string();
    let file = dir.path().join("create");
    let command = call(&service, "POST", "/api/tasks", &body, &file);
    asked.push(
        service
            .say(&chat, &format!("run bash -c '{command}'"))
            .await,
    );
    let created = answer(&service, file).await;
    assert!(created.starts_with("HTTP/1.1 202"), "{created}");
    // What only people choose.
    for (field, value) in [
        ("policy", json!("ask")),
        ("mode_id", json!("yolo")),
        ("feature_values", json!({ "x": true })),
        ("on_interrupt", json!("retry")),
    ] {
        let mut wish = json!({ "project_id": project, "agent": "demo", "input": "say child" });
        wish[field] = value;
        let file = dir.path().join(field);
        let command = call(&service, "POST", "/api/tasks", &wish.to_string(), &file);
        asked.push(
            service
                .say(&chat, &format!("run bash -c '{command}'"))
                .await,
        );
        let refused = answer(&service, file).await;
        assert!(refused.starts_with("HTTP/1.1 403"), "{field}: {refused}");
        assert!(refused.contains("agent_not_allowed"), "{field}: {refused}");
        assert!(
            refused.contains(&format!("#/{field}")),
            "{field}: {refused}"
        );
    }
    let file = dir.path().join("list");
    let command = call(&service, "GET", "/api/tasks", "", &file);
    asked.push(
        service
            .say(&chat, &format!("run bash -c '{command}'"))
            .await,
    );
    let listed = answer(&service, file).await;
    assert!(listed.starts_with("HTTP/1.1 200"), "{listed}");
    for task in asked {
        assert_eq!(service.outcome(&task).await, "ok");
    }
    let still = service.get(&format!("/api/tasks/{running}")).await;
    assert_eq!(still["state"], "running", "{still}");
    // The same words of a person.
    let (status, said) = service.post(&cancel, json!({})).await;
    assert_eq!(status, 202, "{said}");
    assert_eq!(service.outcome(&running).await, "cancelled");
}
