//! Tickets: what a page opens a stream with.

use std::time::Duration;

use hearth::http::state::Limits;
use hearth_actors::event::FrameKind;
use hearth_actors::ids::SessionId;
use reqwest::Method;
use serde_json::{Value, json};

use super::fixture::{Service, TOKEN, answer, service, service_with};

async fn ticket(service: &Service) -> String {
    let (status, body) = answer(service.request(Method::POST, "/api/tickets")).await;
    assert_eq!(status, 201, "{body}");
    assert!(body["expires_in"].as_u64().is_some_and(|s| s <= 30));
    body["ticket"].as_str().unwrap().to_owned()
}

/// Status, and the code of a refusal.
async fn open(service: &Service, path: &str) -> (u16, Value) {
    let response = service.bare(Method::GET, path).send().await.unwrap();
    let status = response.status().as_u16();
    if status == 200 {
        return (status, Value::Null);
    }
    let body: Value = response.json().await.unwrap();
    (status, body["code"].clone())
}

#[tokio::test]
async fn a_ticket_opens_one_stream_once_and_nothing_else() {
    let service = service().await;
    let session = SessionId(service.session().await);
    service
        .store_frames(session, None, &[(FrameKind::Delta, json!({}))])
        .await;
    let stream = format!("/api/sessions/{session}/stream");
    let good = ticket(&service).await;
    let with = |path: &str, ticket: &str| format!("{path}?ticket={ticket}");
    let elsewhere = with("/api/projects", &good);
    assert_eq!(
        open(&service, &elsewhere).await,
        (401, json!("unauthorized"))
    );
    assert_eq!(open(&service, &with(&stream, &good)).await.0, 200);
    let again = open(&service, &with(&stream, &good)).await;
    assert_eq!(again, (401, json!("ticket_invalid")));
    for bad in ["", "x", TOKEN, "%00", &"x".repeat(5000)] {
        let seen = open(&service, &with(&stream, bad)).await;
        assert_eq!(seen, (401, json!("ticket_invalid")), "{bad}");
    }
    let tree = ticket(&service).await;
    assert_eq!(
        open(&service, &with("/api/debug/tree/stream", &tree))
            .await
            .0,
        200
    );
    let (_, task) = service.task().await;
    let of_task = with(
        &format!("/api/tasks/{task}/stream"),
        &ticket(&service).await,
    );
    assert_eq!(open(&service, &of_task).await.0, 200);
    let minted = service.bare(Method::POST, "/api/tickets");
    assert_eq!(
        answer(minted).await.0,
        401,
        "a ticket is for who has the token"
    );
    let token = open(&service, &format!("{stream}?token={TOKEN}")).await;
    assert_eq!(token, (401, json!("unauthorized")));
}

#[tokio::test]
async fn an_old_ticket_opens_nothing() {
    let service = service_with(Limits {
        ticket_ttl: Duration::ZERO,
        ..Limits::default()
    })
    .await;
    let session = service.session().await;
    let old = ticket(&service).await;
    let seen = open(
        &service,
        &format!("/api/sessions/{session}/stream?ticket={old}"),
    )
    .await;
    assert_eq!(seen, (401, json!("ticket_invalid")));
}

#[tokio::test]
async fn a_page_of_another_site_opens_nothing_even_with_a_ticket() {
    let service = service().await;
    let session = service.session().await;
    let own = format!("http://{}", service.address);
    let ticket = ticket(&service).await;
    for stream in [
        format!("/api/sessions/{session}/stream?ticket={ticket}"),
        format!("/api/ws/sessions/{session}?ticket={ticket}"),
        format!("/api/debug/tree/stream?ticket={ticket}"),
    ] {
        for (header, value) in [
            ("origin", "http://evil.example"),
            ("origin", "null"),
            ("origin", "http://127.0.0.1:1"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            let request = service.bare(Method::GET, &stream).header(header, value);
            let (status, body) = answer(request).await;
            assert_eq!(
                (status, &body["code"]),
                (403, &json!("cross_site")),
                "{header}: {value}"
            );
        }
    }
    let own = service
        .bare(
            Method::GET,
            &format!("/api/sessions/{session}/stream?ticket={ticket}"),
        )
        .header("origin", own)
        .header("sec-fetch-site", "same-origin");
    let status = own.send().await.unwrap().status();
    assert_eq!(status, 200, "what was refused did not use the ticket up");
}
