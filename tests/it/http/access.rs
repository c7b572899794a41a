//! Who gets in.

use hearth::http::state::Origin;
use hearth_actors::ids::{SessionKey, TaskId};
use reqwest::Method;
use serde_json::{Value, json};

use super::fixture::{Service, TOKEN, answer, service};

#[tokio::test]
async fn nothing_but_bare_health_is_shown_without_the_token() {
    let service = service().await;
    for path in [
        "/api/projects",
        "/api/openapi.json",
        "/api/debug/tree",
        "/api/nothing",
        "/api/sessions/00000000-0000-0000-0000-000000000000/stream",
    ] {
        let refused = service.bare(Method::GET, path).send().await.unwrap();
        assert_eq!(refused.status(), 401, "{path}");
        assert!(refused.headers().contains_key("www-authenticate"));
        let body: Value = refused.json().await.unwrap();
        assert_eq!(body["code"], "unauthorized");
    }
    for wrong in ["Bearer wrong-wrong-wrong-wrong", "Basic abc", TOKEN, ""] {
        let request = service
            .bare(Method::GET, "/api/projects")
            .header("authorization", wrong);
        assert_eq!(answer(request).await.0, 401, "{wrong}");
    }
    let (status, body) = answer(service.bare(Method::GET, "/api/health")).await;
    assert_eq!((status, body), (200, json!({ "status": "ok" })));
    for path in ["/api/health/live", "/api/health/ready"] {
        assert_eq!(answer(service.bare(Method::GET, path)).await.0, 200);
    }
    let (_, body) = service.get("/api/health").await;
    assert_eq!(
        body["agents"][0],
        json!({
            "name": "demo", "permission": "allow_edits",
            "circuit": "closed", "rests_ms": null, "why": null
        })
    );
    assert_eq!(body["database"]["ok"], true);
    assert_eq!(body["warnings"][0], "goose is not installed");
}

#[tokio::test]
async fn a_foreign_name_is_refused_even_with_the_token() {
    let service = service().await;
    for (host, status) in [
        ("evil.example", 403),
        ("localhost.evil.example:9502", 403),
        ("10.1.2.3", 403),
        ("localhost:1", 200),
        ("[::1]:9502", 200),
        ("HEARTH.example.org", 200),
    ] {
        let request = service
            .request(Method::GET, "/api/projects")
            .header("host", host);
        let (seen, body) = answer(request).await;
        assert_eq!(seen, status, "{host}: {body}");
        if status == 403 {
            assert_eq!(body["code"], "host_not_allowed");
        }
    }
    let health = service
        .bare(Method::GET, "/api/health")
        .header("host", "evil.example");
    assert_eq!(answer(health).await.0, 403);
}

#[tokio::test]
async fn pages_of_other_sites_change_nothing() {
    let service = service().await;
    let own = format!("http://{}", service.address);
    let path = "/api/debug/sessions/00000000-0000-0000-0000-000000000000/demo/evict";
    for (header, value, status) in [
        ("origin", own.as_str(), 204),
        ("origin", "http://evil.example", 403),
        ("origin", "null", 403),
        ("origin", "http://127.0.0.1:1", 403),
        ("sec-fetch-site", "same-origin", 204),
        ("sec-fetch-site", "none", 204),
        ("sec-fetch-site", "same-site", 403),
        ("sec-fetch-site", "cross-site", 403),
    ] {
        let request = service.request(Method::POST, path).header(header, value);
        let (seen, body) = answer(request).await;
        assert_eq!(seen, status, "{header}: {value}: {body}");
        if status == 403 {
            assert_eq!(body["code"], "cross_site");
        }
        let reading = service
            .request(Method::GET, "/api/projects")
            .header(header, value);
        assert_eq!(answer(reading).await.0, 200, "{header}: {value}");
    }
    assert_eq!(service.tree.asked(|asked| asked.keys.len()), 3);
}

#[tokio::test]
async fn an_agents_tool_may_create_tasks_and_read_and_no_more() {
    let service = service().await;
    let (_, document) = service.get("/api/openapi.json").await;
    let mut asked = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            asked.push((method.to_uppercase(), path.clone()));
        }
    }
    assert!(asked.len() > 20, "{asked:?}");
    let nobody = "00000000-0000-0000-0000-000000000000";
    for (origin, refused) in [
        (Origin::Agent(None), true),
        (Origin::Gone, true),
        (Origin::Elsewhere, false),
    ] {
        service.callers.are(origin.clone());
        for (method, path) in &asked {
            if path.ends_with("/stream") {
                continue;
            }
            let at = path
                .replace("{id}", nobody)
                .replace("{chat_id}", nobody)
                .replace("{agent}", "demo");
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let open =
                method == Method::GET || (origin == Origin::Agent(None) && path == "/api/tasks");
            // What is asked of the creating route itself is refused by its body.
            let request = service.request(method.clone(), &at).json(&json!({}));
            let (status, body) = answer(request).await;
            assert_eq!(
                body["code"] == "agent_not_allowed",
                refused && !open,
                "{origin:?} {method} {path}: {status} {body}"
            );
        }
    }
}

async fn project_of(service: &Service, task: TaskId) -> Value {
    let (_, task) = service.get(&format!("/api/tasks/{task}")).await;
    task["project_id"].clone()
}

#[tokio::test]
async fn an_agents_task_gets_no_policy_of_its_choice() {
    let service = service().await;
    let (parent, key) = service.running_task().await;
    let project = project_of(&service, parent).await;
    service.callers.are(Origin::Agent(Some(key)));
    let mut task = json!({ "project_id": project, "input": "x", "agent": "demo" });
    let (status, body) = service.post("/api/tasks", &task).await;
    assert_eq!(status, 202, "{body}");
    let made = body["task_id"].as_str().unwrap();
    let (_, made) = service.get(&format!("/api/tasks/{made}")).await;
    assert_eq!(made["parent_task_id"], json!(parent), "said or not");
    task["policy"] = json!("allow_edits");
    let (status, body) = service.post("/api/tasks", &task).await;
    assert_eq!((status, &body["code"]), (403, &json!("agent_not_allowed")));
    service.callers.are(Origin::Elsewhere);
    assert_eq!(service.post("/api/tasks", &task).await.0, 202);
}

#[tokio::test]
async fn an_agents_task_belongs_to_the_one_that_it_works_on() {
    let service = service().await;
    let (_, other) = service.task().await;
    let (parent, key) = service.running_task().await;
    let project = project_of(&service, parent).await;
    let mut task = json!({ "project_id": project, "input": "x", "agent": "demo" });
    let refused = async |task: &Value| {
        let (status, body) = service.post("/api/tasks", task).await;
        assert_eq!((status, &body["code"]), (403, &json!("agent_not_allowed")));
        body["detail"].as_str().unwrap().to_owned()
    };
    // An agent between its turns, another one of that chat, a look at an agent.
    let idle = SessionKey {
        agent: "goose".into(),
        ..key.clone()
    };
    for of in [Some(idle), None] {
        service.callers.are(Origin::Agent(of));
        let detail = refused(&task).await;
        assert!(detail.contains("runs no turn"), "{detail}");
    }
    service.callers.are(Origin::Agent(Some(key)));
    task["parent_task_id"] = json!(other);
    let detail = refused(&task).await;
    assert!(detail.contains(&parent.to_string()), "{detail}");
    task["parent_task_id"] = json!(parent);
    assert_eq!(service.post("/api/tasks", &task).await.0, 202);
    // The caps of the family hold for what says nothing.
    task["parent_task_id"] = Value::Null;
    for _ in 1..8 {
        assert_eq!(service.post("/api/tasks", &task).await.0, 202);
    }
    let (status, body) = service.post("/api/tasks", &task).await;
    assert_eq!((status, &body["code"]), (409, &json!("too_many_tasks")));
    let (_, seen) = service.get("/api/caller").await;
    assert_eq!(
        (&seen["agent"], &seen["task_id"]),
        (&json!(true), &json!(parent))
    );
    service.callers.are(Origin::Elsewhere);
    let (_, seen) = service.get("/api/caller").await;
    assert_eq!(
        (&seen["agent"], &seen["task_id"]),
        (&json!(false), &Value::Null)
    );
}

#[tokio::test]
async fn an_agents_task_stays_where_the_agent_works() {
    let service = service().await;
    let (parent, key) = service.running_task().await;
    let (_, row) = service.get(&format!("/api/tasks/{parent}")).await;
    let project = row["project_id"].clone();
    let (_, strange) = service
        .post("/api/sessions", &json!({ "project_id": project }))
        .await;
    let elsewhere = service.repository("elsewhere");
    let (status, elsewhere) = service
        .post("/api/projects", &json!({ "path": elsewhere }))
        .await;
    assert_eq!(status, 201, "{elsewhere}");
    let agent = Origin::Agent(Some(key));
    service.callers.are(agent.clone());
    for (name, session, project) in [
        ("session_id", strange["id"].clone(), project.clone()),
        ("project_id", Value::Null, elsewhere["id"].clone()),
    ] {
        let task = json!({ "project_id": project, "session_id": session, "input": "x",
            "agent": "demo" });
        let (status, body) = service.post("/api/tasks", &task).await;
        assert_eq!((status, &body["code"]), (403, &json!("agent_not_allowed")));
        assert_eq!(body["errors"][0]["pointer"], format!("#/{name}"), "{body}");
        // A person may.
        service.callers.are(Origin::Elsewhere);
        assert_eq!(service.post("/api/tasks", &task).await.0, 202, "{name}");
        service.callers.are(agent.clone());
    }
    let own = json!({ "project_id": project, "session_id": row["session_id"], "input": "x",
        "agent": "demo" });
    let (status, body) = service.post("/api/tasks", &own).await;
    assert_eq!(status, 202, "{body}");
    let (_, made) = service
        .get(&format!("/api/tasks/{}", body["task_id"].as_str().unwrap()))
        .await;
    assert_eq!(made["session_id"], row["session_id"]);
}

#[tokio::test]
async fn every_answer_is_sealed_for_browsers() {
    let service = service().await;
    for path in ["/api/health", "/api/projects", "/api/nothing", "/"] {
        for request in [
            service.request(Method::GET, path),
            service.bare(Method::GET, path),
        ] {
            let answer = request.send().await.unwrap();
            let headers = answer.headers();
            let policy = headers["content-security-policy"].to_str().unwrap();
            assert!(policy.contains("default-src 'none'"), "{policy}");
            assert_eq!(headers["x-content-type-options"], "nosniff");
            assert_eq!(headers["cross-origin-resource-policy"], "same-origin");
            assert!(!headers.contains_key("access-control-allow-origin"));
        }
    }
    let preflight = service
        .bare(Method::OPTIONS, "/api/projects")
        .header("origin", "http://evil.example")
        .header("access-control-request-method", "POST")
        .send()
        .await
        .unwrap();
    assert!(!preflight.status().is_success());
    assert!(
        !preflight
            .headers()
            .contains_key("access-control-allow-origin")
    );
}

#[tokio::test]
async fn two_hosts_are_one_too_many() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let service = service().await;
    let mut socket = tokio::net::TcpStream::connect(service.address)
        .await
        .unwrap();
    let request = format!(
        "GET /api/projects HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(answer.contains("host_not_allowed"), "{answer}");
}
