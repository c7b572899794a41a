//! A reader of a session's stream that comes back after every cut.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tokio::task::JoinHandle;

/// Frames that one reader remembers: far more than a run makes.
const MAX_FRAMES: usize = 4_000_000;
/// A heartbeat comes sooner than this.
const SILENCE: Duration = Duration::from_secs(60);
/// Largest frame and half-read rest.
const MAX_REST: usize = 64 << 20;

/// One frame as it came: its seq and a digest of all that it said.
pub(crate) type Heard = (i64, u64);

/// Its connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Visits {
    pub(crate) count: usize,
    /// Why the last one ended.
    pub(crate) last_end: String,
    pub(crate) reads: bool,
}

/// It follows until it is dropped.
pub(crate) struct Follower {
    /// Which of the run's sessions.
    pub(crate) session: usize,
    heard: Arc<Mutex<Vec<Heard>>>,
    visits: Arc<Mutex<Visits>>,
    following: JoinHandle<()>,
}

impl Visits {
    fn over(&mut self, end: anyhow::Result<()>) {
        self.reads = false;
        self.last_end = end.map_or_else(|why| format!("{why:#}"), |()| "the end".into());
    }
}

impl Follower {
    /// Reads the stream at `url` from its begin.
    pub(crate) fn start(http: reqwest::Client, url: String, token: String, session: usize) -> Self {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let visits: Arc<Mutex<Visits>> = Arc::default();
        let (into, count) = (Arc::clone(&heard), Arc::clone(&visits));
        let following = tokio::spawn(async move {
            loop {
                let last = lock(&into).last().map(|(seq, _)| *seq);
                lock(&count).count += 1;
                let end = visit(&http, &url, &token, last, &into, &count).await;
                lock(&count).over(end);
                tokio::time::sleep(Duration::from_millis(fastrand::u64(20..400))).await;
            }
        });
        Self {
            session,
            heard,
            visits,
            following,
        }
    }

    pub(crate) fn last(&self) -> i64 {
        lock(&self.heard).last().map_or(0, |(seq, _)| *seq)
    }

    pub(crate) fn visits(&self) -> Visits {
        lock(&self.visits).clone()
    }

    pub(crate) fn heard(&self) -> Vec<Heard> {
        lock(&self.heard).clone()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.following.abort();
    }
}

/// Reads until the connection ends.
async fn visit(
    http: &reqwest::Client,
    url: &str,
    token: &str,
    last: Option<i64>,
    heard: &Mutex<Vec<Heard>>,
    visits: &Mutex<Visits>,
) -> anyhow::Result<()> {
    let mut request = http.get(url).bearer_auth(token);
    if let Some(last) = last {
        request = request.header("last-event-id", last.to_string());
    }
    let response = tokio::time::timeout(SILENCE, request.send()).await;
    let mut response = response.context("no answer")??.error_for_status()?;
    lock(visits).reads = true;
    let mut rest = Vec::new();
    loop {
        let chunk = tokio::time::timeout(SILENCE, response.chunk()).await;
        let Some(chunk) = chunk.context("silence")?? else {
            return Ok(());
        };
        rest.extend_from_slice(&chunk);
        let mut from = 0;
        while let Some(end) = rest[from..].windows(2).position(|pair| pair == b"\n\n") {
            if let Some(frame) = frame(&rest[from..from + end]) {
                let mut heard = lock(heard);
                anyhow::ensure!(heard.len() < MAX_FRAMES, "too many frames");
                heard.push(frame);
            }
            from += end + 2;
        }
        rest.drain(..from);
        anyhow::ensure!(rest.len() < MAX_REST, "an endless frame");
    }
}

/// None for what is no frame of the stream: heartbeats, notices.
pub(crate) fn frame(event: &[u8]) -> Option<Heard> {
    let event = std::str::from_utf8(event).ok()?;
    let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
    let seq: i64 = field("id: ")?.parse().ok()?;
    let data: Value = serde_json::from_str(field("data: ")?).ok()?;
    Some((seq, digest(field("event: ")?, &data)))
}

fn digest(kind: &str, data: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    kind.hash(&mut hasher);
    add(&mut hasher, data);
    hasher.finish()
}

/// In no order of fields: what is stored comes back in another one.
fn add(hasher: &mut DefaultHasher, value: &Value) {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.iter().collect();
            fields.len().hash(hasher);
            for (name, value) in fields {
                name.hash(hasher);
                add(hasher, value);
            }
        }
        Value::Array(items) => {
            items.len().hash(hasher);
            items.iter().for_each(|item| add(hasher, item));
        }
        plain => plain.to_string().hash(hasher),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
