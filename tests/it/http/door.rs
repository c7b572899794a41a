//! Connections that say nothing, or are too many.

use std::time::{Duration, Instant};

use hearth::http::state::Limits;
use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::fixture::{Service, TOKEN, service_with};

const LIMIT: Duration = Duration::from_secs(30);
/// Short enough to wait for, long enough for a slow machine's request.
const HEAD: Duration = Duration::from_millis(700);

async fn connect(service: &Service) -> TcpStream {
    TcpStream::connect(service.address).await.unwrap()
}

/// What comes until the service closes the connection.
async fn rest(socket: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let read = tokio::time::timeout(LIMIT, socket.read_to_end(&mut text)).await;
    // Reset is closed too.
    let _ = read.expect("the service closes it in time");
    String::from_utf8_lossy(&text).into_owned()
}

/// Sends a request with the token and reads its answer's head; more may follow.
async fn ask(socket: &mut TcpStream, path: &str) -> String {
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut text = vec![0; 4096];
    let read = tokio::time::timeout(LIMIT, socket.read(&mut text)).await;
    let length = read.expect("an answer in time").unwrap();
    String::from_utf8_lossy(&text[..length]).into_owned()
}

#[tokio::test]
async fn who_sends_no_whole_head_in_time_is_cut() {
    let service = service_with(Limits {
        head_deadline: HEAD,
        ..Limits::default()
    })
    .await;
    let started = Instant::now();
    let mut silent = connect(&service).await;
    let mut half = connect(&service).await;
    half.write_all(b"GET /api/projects HTTP/1.1\r\nHost: loc")
        .await
        .unwrap();
    let mut idle = connect(&service).await;
    let answer = ask(&mut idle, "/api/projects").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // A byte now and then is no head either.
    let mut trickle = connect(&service).await;
    let trickling = async {
        for byte in
            b"GET /api/projects HTTP/1.1\r\nX-Slow: 1234567890123456789012345678901234567890"
        {
            if trickle.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(HEAD / 20).await;
        }
        rest(&mut trickle).await
    };
    let (silent, half, idle, _) = tokio::join!(
        rest(&mut silent),
        rest(&mut half),
        rest(&mut idle),
        trickling
    );
    assert!(started.elapsed() >= HEAD);
    assert!(!silent.contains("200") && !half.contains("200") && !idle.contains("200"));
}

#[tokio::test]
async fn a_stream_is_not_idle() {
    let service = service_with(Limits {
        head_deadline: HEAD,
        ..Limits::default()
    })
    .await;
    let mut socket = connect(&service).await;
    let answer = ask(&mut socket, "/api/debug/tree/stream").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let mut byte = [0; 1];
    // The first picture of the tree may come apart from the head.
    let quiet = tokio::time::sleep(HEAD * 3);
    tokio::pin!(quiet);
    loop {
        tokio::select! {
            () = &mut quiet => break,
            read = socket.read(&mut byte) => assert_eq!(read.unwrap(), 1, "it was cut"),
        }
    }
}

#[tokio::test]
async fn silent_sockets_give_way_to_who_has_something_to_say() {
    let service = service_with(Limits {
        connections: 4,
        connections_per_caller: 4,
        ..Limits::default()
    })
    .await;
    let mut known = connect(&service).await;
    let answer = ask(&mut known, "/api/debug/tree/stream").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(connect(&service).await);
    }
    // Without the token one stays a stranger, whatever one asks.
    let mut stranger = connect(&service).await;
    let request = b"GET /api/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stranger.write_all(request).await.unwrap();
    let (status, _) = service.get("/api/projects").await;
    assert_eq!(
        status, 200,
        "four places, and twenty who want them for nothing"
    );
    assert_eq!(rest(&mut silent[0]).await, "", "the oldest went first");
    for _ in 0..20 {
        silent.push(connect(&service).await);
    }
    rest(&mut stranger).await;
    let mut byte = [0; 1];
    let told = known.try_read(&mut byte);
    assert!(
        !matches!(told, Ok(0)),
        "who showed the token is not displaced"
    );
}

#[tokio::test]
async fn one_address_cannot_take_every_connection() {
    let service = service_with(Limits {
        connections: 4,
        connections_per_caller: 3,
        ..Limits::default()
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut socket = connect(&service).await;
        let answer = ask(&mut socket, "/api/debug/tree/stream").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        held.push(socket);
    }
    let mut fourth = connect(&service).await;
    let refused = rest(&mut fourth).await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("\"code\":\"busy\""), "{refused}");
    let other = TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.9:0".parse().unwrap()).unwrap();
    let mut other = other.connect(service.address).await.unwrap();
    let answer = ask(&mut other, "/api/projects").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(held);
    let started = Instant::now();
    loop {
        let request = service.request(Method::GET, "/api/projects");
        match request.send().await {
            Ok(answer) if answer.status() == 200 => break,
            last => assert!(started.elapsed() < LIMIT, "{last:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
