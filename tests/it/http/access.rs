//! Who gets in.

use reqwest::Method;
use serde_json::{Value, json};

use super::fixture::{TOKEN, answer, service};

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
        json!({ "name": "demo", "permission": "allow_edits" })
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
