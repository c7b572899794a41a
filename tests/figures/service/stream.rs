//! A client of a session's stream.

use std::collections::VecDeque;

use futures::StreamExt as _;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

pub(crate) struct Stream {
    response: reqwest::Response,
    rest: Vec<u8>,
    frames: VecDeque<Value>,
}

impl Stream {
    pub(crate) fn new(response: reqwest::Response) -> Self {
        assert!(response.status().is_success(), "{}", response.status());
        Self {
            response,
            rest: Vec::new(),
            frames: VecDeque::new(),
        }
    }

    pub(crate) async fn next(&mut self) -> Value {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return frame;
            }
            let chunk = self
                .response
                .chunk()
                .await
                .expect("a stream")
                .expect("more of it");
            self.rest.extend_from_slice(&chunk);
            self.split();
        }
    }

    /// The seq of the last frame that is stored, once all of those have come: none
    /// comes for a while then.
    pub(crate) async fn latest(&mut self) -> Option<i64> {
        let mut latest = None;
        while let Ok(frame) =
            tokio::time::timeout(std::time::Duration::from_millis(30), self.next()).await
        {
            latest = frame["seq"].as_i64().or(latest);
        }
        latest
    }

    pub(crate) async fn until(&mut self, wanted: impl Fn(&Value) -> bool) {
        while !wanted(&self.next().await) {}
    }

    fn split(&mut self) {
        let mut from = 0;
        while let Some(end) = find(&self.rest[from..], b"\n\n") {
            let event = String::from_utf8_lossy(&self.rest[from..from + end]);
            let data = event.lines().find_map(|line| line.strip_prefix("data:"));
            if let Some(frame) = data.and_then(|data| serde_json::from_str(data.trim()).ok()) {
                self.frames.push_back(frame);
            }
            from += end + 2;
        }
        self.rest.drain(..from);
    }
}

/// The same over WebSocket.
pub(crate) struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub(crate) async fn open(url: &str, token: &str) -> Self {
        let mut request = url.into_client_request().expect("an address");
        let bearer = format!("Bearer {token}").parse().expect("a header");
        request.headers_mut().insert("authorization", bearer);
        Self(connect_async(request).await.expect("a socket").0)
    }

    pub(crate) async fn next(&mut self) -> Value {
        loop {
            let message = self.0.next().await.expect("more of it").expect("a message");
            if let Message::Text(text) = message {
                return serde_json::from_str(&text).expect("a frame");
            }
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}
