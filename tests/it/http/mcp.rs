//! `/mcp` stands behind the same guards as every other route.

use hearth::http::state::{Limits, Origin};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::fixture::{Service, answer, service, service_with};
use super::sse::Reader;

fn list(request: RequestBuilder) -> RequestBuilder {
    request
        .header("accept", "application/json, text/event-stream")
        .json(&json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }))
}

fn post(service: &Service) -> RequestBuilder {
    service.request(Method::POST, "/mcp")
}

/// The answer within its stream of events.
async fn told(request: RequestBuilder) -> Value {
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    let text = answer.text().await.unwrap();
    let mut data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let told = data.find(|data| data.starts_with('{')).expect("an answer");
    serde_json::from_str(told).unwrap()
}

#[tokio::test]
async fn the_guards_of_all_routes_hold_for_mcp() {
    let service = service().await;
    let bare = service.bare(Method::POST, "/mcp");
    let (status, body) = answer(list(bare)).await;
    assert_eq!((status, &body["code"]), (401, &json!("unauthorized")));
    for (header, value, code) in [
        ("host", "evil.example", "host_not_allowed"),
        ("origin", "http://evil.example", "cross_site"),
        ("sec-fetch-site", "cross-site", "cross_site"),
    ] {
        let (status, body) = answer(list(post(&service).header(header, value))).await;
        assert_eq!((status, &body["code"]), (403, &json!(code)), "{header}");
    }
    let named = list(post(&service).header("host", "hearth.example.org"));
    assert!(told(named).await["result"]["tools"].is_array());
    let (status, body) = answer(
        post(&service)
            .body("{}")
            .header("content-type", "text/plain"),
    )
    .await;
    assert_eq!(
        (status, &body["code"]),
        (415, &json!("unsupported_media_type"))
    );
    let long = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": { "x": "y".repeat(1 << 20) } });
    let long = post(&service)
        .header("accept", "application/json, text/event-stream")
        .json(&long);
    assert_eq!(answer(long).await.0, 413);
    // Nothing is kept between requests: there is nothing to listen to or to end.
    for method in [Method::GET, Method::DELETE] {
        let request = service
            .request(method, "/mcp")
            .header("accept", "text/event-stream");
        let (status, body) = answer(request).await;
        assert_eq!((status, &body["code"]), (405, &json!("method_not_allowed")));
        assert!(body["detail"].as_str().unwrap().contains("POST"), "{body}");
    }
    let deaf = post(&service)
        .header("accept", "text/html")
        .json(&json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }));
    let deaf = deaf.send().await.unwrap();
    assert_eq!(deaf.headers()["content-type"], "application/problem+json");
    let body: Value = deaf.json().await.unwrap();
    assert_eq!(
        (&body["status"], &body["code"]),
        (&json!(406), &json!("not_acceptable"))
    );
    let broken = post(&service)
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json")
        .body("{\"half\": ");
    let (status, body) = answer(broken).await;
    assert_eq!(
        (status, &body["code"]),
        (400, &json!("malformed_json")),
        "{body}"
    );
}

#[tokio::test]
async fn agents_are_shown_less_and_strangers_nothing() {
    let service = service().await;
    let count = async || {
        told(list(post(&service))).await["result"]["tools"]
            .as_array()
            .unwrap()
            .len()
    };
    let all = count().await;
    let (_, key) = service.running_task().await;
    service.callers.are(Origin::Agent(Some(key)));
    assert_eq!(count().await, 3);
    service.callers.are(Origin::Gone);
    let (status, body) = answer(list(post(&service))).await;
    assert_eq!((status, &body["code"]), (403, &json!("agent_not_allowed")));
    service.callers.are(Origin::Elsewhere);
    assert_eq!(count().await, all);
}

#[tokio::test]
async fn an_answer_takes_a_streams_seat_and_gives_it_back() {
    let service = service_with(Limits {
        streams: 1,
        ..Limits::default()
    })
    .await;
    for _ in 0..3 {
        assert!(told(list(post(&service))).await["result"].is_object());
    }
    let _open = Reader::open(&service, "/api/debug/tree/stream").await;
    let (status, body) = answer(list(post(&service))).await;
    assert_eq!((status, &body["code"]), (503, &json!("busy")));
}
