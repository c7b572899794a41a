//! Frames over WebSocket.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use hearth::http::state::Tree as _;
use hearth_actors::event::FrameKind;
use hearth_actors::ids::SessionId;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use uuid::Uuid;

use super::fixture::{Service, TOKEN, answer, service};

const LIMIT: Duration = Duration::from_secs(30);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn open(service: &Service, session: SessionId, query: &str, token: bool) -> Socket {
    let url = format!("ws://{}/api/ws/sessions/{session}{query}", service.address);
    let mut request = url.into_client_request().unwrap();
    if token {
        let bearer = format!("Bearer {TOKEN}").parse().unwrap();
        request.headers_mut().insert("authorization", bearer);
    }
    connect_async(request).await.unwrap().0
}

async fn next(socket: &mut Socket) -> Message {
    let message = tokio::time::timeout(LIMIT, socket.next()).await;
    message
        .expect("a message in time")
        .expect("a message")
        .unwrap()
}

async fn frame(socket: &mut Socket) -> Value {
    serde_json::from_str(next(socket).await.to_text().unwrap()).unwrap()
}

async fn seqs(socket: &mut Socket, count: usize) -> Vec<i64> {
    let mut seqs = Vec::new();
    while seqs.len() < count {
        seqs.extend(frame(socket).await["seq"].as_i64());
    }
    seqs
}

async fn goodbye(socket: &mut Socket) -> (u16, String) {
    loop {
        if let Message::Close(Some(CloseFrame { code, reason })) = next(socket).await {
            return (code.into(), reason.to_string());
        }
    }
}

fn deltas(count: usize) -> Vec<(FrameKind, Value)> {
    vec![(FrameKind::Delta, json!({ "text": "x" })); count]
}

#[tokio::test]
async fn the_same_frames_come_from_storage_and_then_live() {
    let service = service().await;
    let session = SessionId(service.session().await);
    service.store_frames(session, None, &deltas(700)).await;
    let mut socket = open(&service, session, "", true).await;
    assert_eq!(seqs(&mut socket, 700).await, (1..=700).collect::<Vec<_>>());
    let live = service.store_frames(session, None, &deltas(1)).await;
    service.tree.hub().publish(live.clone());
    let seen = frame(&mut socket).await;
    assert_eq!(seen, serde_json::to_value(&live[0]).unwrap());
    let mut later = open(&service, session, "?after=699", true).await;
    assert_eq!(seqs(&mut later, 2).await, [700, 701]);
    let more = service.store_frames(session, None, &deltas(3000)).await;
    service.tree.hub().publish(more);
    let told = frame(&mut socket).await;
    assert_eq!(told["type"], "lagged");
    assert!(told["missed"].as_u64().is_some_and(|missed| missed > 1000));
    let all = seqs(&mut socket, 3000).await;
    assert_eq!(all, (702..=3701).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_ticket_opens_it_and_pings_are_answered() {
    let service = service().await;
    let session = SessionId(service.session().await);
    let (_, body) = answer(service.request(Method::POST, "/api/tickets")).await;
    let query = format!("?ticket={}", body["ticket"].as_str().unwrap());
    let mut socket = open(&service, session, &query, false).await;
    let ping = Message::Ping(Bytes::from_static(b"there?"));
    socket.send(ping).await.unwrap();
    assert_eq!(
        next(&mut socket).await,
        Message::Pong(Bytes::from_static(b"there?"))
    );
}

#[tokio::test]
async fn a_goodbye_has_its_reason() {
    let service = service().await;
    let session = SessionId(service.session().await);
    let mut talker = open(&service, session, "", true).await;
    talker.send(Message::text("hello")).await.unwrap();
    let (code, reason) = goodbye(&mut talker).await;
    assert_eq!(code, 1003, "{reason}");
    assert!(reason.contains("no messages"), "{reason}");
    let mut listener = open(&service, session, "", true).await;
    service.closing.cancel();
    assert_eq!(
        goodbye(&mut listener).await,
        (1001, "the service stops".to_owned())
    );
}

#[tokio::test]
async fn what_is_no_handshake_is_refused_with_a_reason() {
    let service = service().await;
    let session = service.session().await;
    let path = format!("/api/ws/sessions/{session}");
    let (status, body) = service.get(&path).await;
    assert_eq!((status, &body["code"]), (426, &json!("not_a_websocket")));
    let shake = |path: &str| {
        service
            .request(Method::GET, path)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
    };
    let (status, body) = answer(shake(&format!("{path}?after=-1"))).await;
    assert_eq!((status, &body["code"]), (400, &json!("invalid_query")));
    let (status, body) = answer(shake(&format!("{path}?since=1"))).await;
    assert_eq!((status, &body["code"]), (400, &json!("invalid_query")));
    let unknown = format!("/api/ws/sessions/{}", Uuid::now_v7());
    let (status, body) = answer(shake(&unknown)).await;
    assert_eq!((status, &body["code"]), (404, &json!("not_found")));
    let (status, body) = answer(shake("/api/ws/sessions/x")).await;
    assert_eq!((status, &body["code"]), (400, &json!("invalid_id")));
    let foreign = shake(&path).header("host", "evil.example");
    let (status, body) = answer(foreign).await;
    assert_eq!((status, &body["code"]), (403, &json!("host_not_allowed")));
}
