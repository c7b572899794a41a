//! 100 000 chunks as fast as an agent can write them: all stored, all delivered,
//! in order, to every kind of reader, and in bounded memory.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::harness::{Chat, Service};

const CHUNKS: usize = 100_000;
const CHUNK_BYTES: usize = 40;
/// Longest wait of a reader for the next word, and for the whole flood.
const LIMIT: Duration = Duration::from_secs(120);
/// What the service may grow by, whoever reads or does not.
const GROWTH: u64 = 64 * 1024 * 1024;

/// What the demo agent writes.
fn expected() -> String {
    let mut text = String::with_capacity(CHUNKS * CHUNK_BYTES);
    for number in 0..CHUNKS {
        let word = format!("{number} ");
        text.push_str(&word);
        text.push_str(&"x".repeat(CHUNK_BYTES - word.len()));
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_reaches_every_reader_whole_and_in_order() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let task = service.say(&chat, "say warm").await;
    assert_eq!(service.outcome(&task).await, "ok");
    let from = last_seq(&service, &chat).await;
    let before = service.memory("VmRSS");

    let at = Place::of(&service, &chat, from);
    let mut asleep = at.open().await;
    let readers = [at.clone(), at.clone(), at.clone()];
    let [fast, restless, socket] = readers;
    let fast = tokio::spawn(async move { fast.read_all(usize::MAX).await });
    let restless = tokio::spawn(async move { restless.read_all(CHUNKS * CHUNK_BYTES / 21).await });
    let socket = tokio::spawn(async move { socket.read_socket().await });
    let started = Instant::now();
    let task = service
        .say(&chat, &format!("flood {CHUNKS} {CHUNK_BYTES}"))
        .await;
    service.ended(&task).await;
    let took = started.elapsed();
    assert_eq!(service.outcome(&task).await, "ok");
    // Only now: all of it waited in storage, none of it in the service.
    let mut slow = Told::after(from);
    while !slow.over {
        match asleep.next().await {
            Some(frame) => slow.take(&frame),
            // Cut for not reading; it comes back with its cursor.
            None => asleep = at.behind(slow.last).open().await,
        }
    }
    let fast = fast.await.unwrap();
    let restless = restless.await.unwrap();
    let socket = socket.await.unwrap();
    let grown = service.memory("VmHWM").saturating_sub(before);
    println!(
        "{CHUNKS} chunks in {took:?} ({:.0}/s), {} frames, {} KiB grown",
        CHUNKS as f64 / took.as_secs_f64(),
        fast.last - from,
        grown / 1024
    );
    assert!(grown < GROWTH, "the service grew by {grown} bytes");
    assert_eq!(restless.opened, 21, "it left and came back 20 times");

    let expected = expected();
    let stored: String = parts(&service, &chat).await;
    assert!(
        stored.ends_with(&expected),
        "stored: {} bytes",
        stored.len()
    );
    let service = service.again().await;
    let late = Place::of(&service, &chat, from).read_all(usize::MAX).await;
    for (who, told) in [
        ("fast", fast),
        ("slow", slow),
        ("reconnecting", restless),
        ("after a restart", late),
        ("WebSocket", socket),
    ] {
        assert!(
            told.text == expected,
            "{who}: {} of {} bytes",
            told.text.len(),
            expected.len()
        );
    }
}

async fn last_seq(service: &Service, chat: &Chat) -> i64 {
    let pool = service.pool().await;
    sqlx::query_scalar("select last_seq from hearth.streams where session_id = $1::uuid")
        .bind(&chat.session)
        .fetch_one(&pool)
        .await
        .unwrap()
}

/// The text parts of all answers, in order.
async fn parts(service: &Service, chat: &Chat) -> String {
    let pool = service.pool().await;
    let texts: Vec<String> = sqlx::query_scalar(
        "select p.payload ->> 'text' from messages m join message_parts p on p.message_id = m.id
         where m.chat_id = $1::uuid and m.role = 'assistant' and p.kind = 'text'
         order by m.created_at, p.sequence",
    )
    .bind(&chat.id)
    .fetch_all(&pool)
    .await
    .unwrap();
    texts.concat()
}

/// Where a reader reads.
#[derive(Clone)]
struct Place {
    url: String,
    token: String,
    session: String,
    after: i64,
}

/// What a reader was told.
struct Told {
    text: String,
    last: i64,
    over: bool,
    opened: usize,
}

impl Told {
    fn after(last: i64) -> Self {
        Self {
            text: String::new(),
            last,
            over: false,
            opened: 1,
        }
    }

    fn take(&mut self, frame: &Value) {
        let Some(seq) = frame["seq"].as_i64() else {
            assert_eq!(frame["type"], "lagged", "{frame}");
            return;
        };
        assert_eq!(seq, self.last + 1, "in order, without holes or repeats");
        self.last = seq;
        match frame["type"].as_str() {
            Some("delta") => self.text.push_str(frame["text"].as_str().unwrap()),
            Some("task_updated") => self.over |= frame["state"] == "completed",
            Some("snapshot") => panic!("nothing is old here: {frame}"),
            _ => {}
        }
    }
}

impl Place {
    fn of(service: &Service, chat: &Chat, after: i64) -> Self {
        Self {
            url: service.url().to_owned(),
            token: service.token().to_owned(),
            session: chat.session.clone(),
            after,
        }
    }

    fn behind(&self, after: i64) -> Self {
        Self {
            after,
            ..self.clone()
        }
    }

    async fn open(&self) -> Events {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = http
            .get(format!("{}/api/sessions/{}/stream", self.url, self.session))
            .header("last-event-id", self.after.to_string())
            .bearer_auth(&self.token);
        let response = request.send().await.unwrap();
        Events {
            response: response.error_for_status().unwrap(),
            rest: Vec::new(),
            read: 0,
        }
    }

    /// Leaves after so many bytes and comes back with the last seq, at most 20
    /// times.
    async fn read_all(&self, leave_after: usize) -> Told {
        let mut told = Told::after(self.after);
        let mut events = self.open().await;
        while !told.over {
            if events.read > leave_after && told.opened <= 20 {
                told.opened += 1;
                events = self.behind(told.last).open().await;
            }
            let frame = events.next().await.expect("the stream goes on");
            told.take(&frame);
        }
        told
    }

    async fn read_socket(&self) -> Told {
        let url = format!(
            "{}/api/ws/sessions/{}?after={}",
            self.url.replace("http://", "ws://"),
            self.session,
            self.after
        );
        let mut request = url.into_client_request().unwrap();
        let bearer = format!("Bearer {}", self.token).parse().unwrap();
        request.headers_mut().insert("authorization", bearer);
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
        let mut told = Told::after(self.after);
        while !told.over {
            let message = tokio::time::timeout(LIMIT, socket.next()).await;
            let message = message.expect("a message in time").expect("more of it");
            if let Message::Text(text) = message.unwrap() {
                told.take(&serde_json::from_str(&text).unwrap());
            }
        }
        told
    }
}

/// Server-sent events, one by one.
struct Events {
    response: reqwest::Response,
    rest: Vec<u8>,
    read: usize,
}

impl Events {
    /// None when the stream was cut.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = self.rest.drain(..end + 2).collect();
                let event = String::from_utf8(event).unwrap();
                let data = event.lines().find_map(|line| line.strip_prefix("data: "));
                if let Some(data) = data {
                    return Some(serde_json::from_str(data).unwrap());
                }
                continue;
            }
            let chunk = tokio::time::timeout(LIMIT, self.response.chunk()).await;
            let chunk = chunk.expect("a word in time").ok()??;
            self.read += chunk.len();
            self.rest.extend_from_slice(&chunk);
        }
    }
}
