//! Subscribers that do not read, and too many of them.

use std::time::{Duration, Instant};

use hearth::http::state::{Limits, Tree as _};
use hearth_actors::event::FrameKind;
use hearth_actors::ids::SessionId;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::fixture::{Service, TOKEN, service_with};
use super::sse::Reader;

/// Opens a stream by hand and reads no more than the answer's first bytes.
async fn deaf(service: &Service, path: &str, upgrade: &str) -> TcpStream {
    let mut socket = TcpStream::connect(service.address).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n{upgrade}\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    socket.read_exact(&mut first).await.unwrap();
    assert!(first.starts_with(b"HTTP/1.1 "), "{first:?}");
    socket
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_never_reads_is_cut_and_costs_nobody_else_anything() {
    let service = service_with(Limits {
        streams: 3,
        write_deadline: Duration::from_millis(500),
        ..Limits::default()
    })
    .await;
    let session = SessionId(service.session().await);
    let path = format!("/api/sessions/{session}/stream");
    let _silent = deaf(&service, &path, "").await;
    let _socket = deaf(&service, &format!("/api/ws/sessions/{session}"), UPGRADE).await;
    let mut reader = Reader::open(&service, &path).await;
    // More than the buffers of both kernels' sockets hold.
    let word = "x".repeat(16 * 1024);
    let drafts = vec![(FrameKind::Delta, json!({ "text": word })); 100];
    for round in 0..20 {
        let live = service.store_frames(session, None, &drafts).await;
        service.tree.hub().publish(live);
        let seqs = reader.seqs(100).await;
        assert_eq!(seqs[0], round * 100 + 1, "a reader loses nothing");
    }
    drop(reader);
    let started = Instant::now();
    loop {
        let mut open = Vec::new();
        for _ in 0..3 {
            let request = service.request(Method::GET, &path);
            let response = request.send().await.unwrap();
            if response.status() == 200 {
                open.push(response);
            }
        }
        if open.len() == 3 {
            break;
        }
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "only {} seats are free: the deaf still have theirs",
            open.len()
        );
        drop(open);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_number_of_streams_is_bounded_and_said() {
    let service = service_with(Limits {
        streams: 2,
        ..Limits::default()
    })
    .await;
    let session = service.session().await;
    let path = format!("/api/sessions/{session}/stream");
    let _first = Reader::open(&service, &path).await;
    let _second = Reader::open(&service, "/api/debug/tree/stream").await;
    let (status, body) = service.get(&path).await;
    assert_eq!((status, &body["code"]), (503, &json!("busy")));
    let (status, _) = service.get("/api/projects").await;
    assert_eq!(status, 200, "requests are not streams");
}
