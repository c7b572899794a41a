//! Serves a page, takes its report, and relays all else to the service, byte by
//! byte and on the record.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Head and body of what a page sends here.
const MAX_REQUEST: usize = 64 * 1024;

pub(super) struct Relay {
    pub(super) port: u16,
    shared: Arc<Shared>,
    reports: mpsc::Receiver<Value>,
}

struct Shared {
    target: String,
    page: Mutex<String>,
    record: Mutex<Vec<u8>>,
    reports: mpsc::Sender<Value>,
}

impl Relay {
    /// In front of the service at `target`.
    pub(super) async fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, reports) = mpsc::channel(1);
        let shared = Arc::new(Shared {
            target: target.to_owned(),
            page: Mutex::default(),
            record: Mutex::default(),
            reports: sender,
        });
        let serving = shared.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(connection(socket, serving.clone()));
            }
        });
        Self {
            port,
            shared,
            reports,
        }
    }

    pub(super) fn target(&self) -> &str {
        &self.shared.target
    }

    pub(super) fn show(&self, page: String) {
        *self.shared.page.lock().unwrap() = page;
    }

    /// What the page reports.
    pub(super) async fn report(&mut self) -> Value {
        self.reports.recv().await.expect("the relay runs")
    }

    /// All that was relayed, both ways.
    pub(super) fn record(&self) -> String {
        String::from_utf8_lossy(&self.shared.record.lock().unwrap()).into_owned()
    }
}

async fn connection(mut socket: TcpStream, shared: Arc<Shared>) {
    let mut head = vec![0; MAX_REQUEST];
    let Ok(count) = socket.read(&mut head).await else {
        return;
    };
    head.truncate(count);
    if head.starts_with(b"GET /page ") {
        let page = shared.page.lock().unwrap().clone();
        answer(&mut socket, "text/html", &page).await;
    } else if head.starts_with(b"POST /report ") {
        let report = body(&mut socket, head).await;
        answer(&mut socket, "text/plain", "thanks").await;
        let _ = shared.reports.send(report).await;
    } else if head.starts_with(b"GET /favicon.ico ") {
        answer(&mut socket, "text/plain", "").await;
    } else if count > 0 {
        relay(socket, &head, &shared).await;
    }
}

async fn answer(socket: &mut TcpStream, kind: &str, body: &str) {
    // The next request comes by a connection of its own.
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = socket.write_all(head.as_bytes()).await;
    let _ = socket.write_all(body.as_bytes()).await;
    let _ = socket.shutdown().await;
}

/// The report is the JSON behind the head.
async fn body(socket: &mut TcpStream, mut request: Vec<u8>) -> Value {
    loop {
        let end = request.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end
            && let Ok(report) = serde_json::from_slice(&request[end + 4..])
        {
            return report;
        }
        assert!(request.len() < MAX_REQUEST, "no report");
        let count = socket.read_buf(&mut request).await.unwrap();
        assert!(count > 0, "half a report");
    }
}

async fn relay(socket: TcpStream, head: &[u8], shared: &Shared) {
    let Ok(service) = TcpStream::connect(&shared.target).await else {
        return;
    };
    let (from_page, to_page) = socket.into_split();
    let (from_service, mut to_service) = service.into_split();
    shared.record.lock().unwrap().extend_from_slice(head);
    if to_service.write_all(head).await.is_err() {
        return;
    }
    tokio::join!(
        copy(from_page, to_service, shared),
        copy(from_service, to_page, shared),
    );
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, shared: &Shared) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        shared
            .record
            .lock()
            .unwrap()
            .extend_from_slice(&buffer[..count]);
        if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
