//! A model server that speaks OpenAI's chat completions and Anthropic's messages,
//! steered by directives in the prompt (see [`script`]). It runs on a thread of its own, records every
//! request, and ends with its handle.

mod anthropic;
pub(crate) mod plan;
pub(crate) mod script;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;

use plan::{Ending, Plan};

/// Most requests that are remembered: far more than one test makes.
const MAX_SEEN: usize = 1_000;

/// Largest request that is read: a history with a 2 MB answer in it fits.
const MAX_BODY: usize = 32 * 1024 * 1024;

/// Longest time that a request is left hanging.
const MAX_HANG: Duration = Duration::from_secs(600);

/// One request, and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The last user message.
    pub(crate) prompt: String,
    /// All of it.
    pub(crate) body: Value,
    /// It offered no tools: the agent's own business, such as a title.
    pub(crate) aside: bool,
    /// Tokens in and out that the answer told; none until it was told.
    pub(crate) usage: Option<(i64, i64)>,
    /// When the first words of the answer were handed to the connection.
    pub(crate) first_word: Option<Instant>,
}

/// A running model. Dropping it ends it.
pub(crate) struct Model {
    url: String,
    shared: Arc<Shared>,
    _end: oneshot::Sender<Infallible>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    failures: Mutex<BTreeMap<String, usize>>,
    /// Answers that came to their middle and wait there for others, or did.
    met: watch::Sender<usize>,
}

impl Model {
    /// Starts on a free port of the loopback.
    pub(crate) fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared::default());
        let (end, ended) = oneshot::channel::<Infallible>();
        let routes = routes(Arc::clone(&shared));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener)
                    .unwrap()
                    // A word must not wait for the acknowledgement of the last.
                    .tap_io(|stream| stream.set_nodelay(true).unwrap());
                tokio::select! {
                    served = axum::serve(listener, routes) => served.unwrap(),
                    _ = ended => {}
                }
            });
        });
        Self {
            url,
            shared,
            _end: end,
        }
    }

    /// Where it listens, without a path.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What was asked so far, in order; titles and the like left out.
    pub(crate) fn asked(&self) -> Vec<Seen> {
        let seen = self.shared.seen();
        seen.iter().filter(|seen| !seen.aside).cloned().collect()
    }

    /// The requests whose prompt holds this.
    pub(crate) fn asked_about(&self, words: &str) -> Vec<Seen> {
        let mut asked = self.asked();
        asked.retain(|seen| seen.prompt.contains(words));
        asked
    }
}

impl Seen {
    /// Whether any message of the request holds this.
    pub(crate) fn knows(&self, words: &str) -> bool {
        self.body["messages"].to_string().contains(words)
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a request; its number. None when there are too many.
    fn take_in(&self, plan: &Plan, body: Value) -> Option<usize> {
        let mut seen = self.seen();
        if seen.len() >= MAX_SEEN {
            return None;
        }
        seen.push(Seen {
            prompt: plan.prompt.clone(),
            body,
            aside: plan.aside,
            usage: None,
            first_word: None,
        });
        Some(seen.len() - 1)
    }

    /// A request was answered in one piece.
    fn told(&self, number: usize, usage: (i64, i64)) {
        let mut seen = self.seen();
        seen[number].usage = Some(usage);
        seen[number].first_word = Some(Instant::now());
    }

    /// Waits for so many answers that come to their middle.
    async fn meet(&self, wanted: usize) {
        self.met.send_modify(|met| *met += 1);
        let mut met = self.met.subscribe();
        let all = met.wait_for(|met| *met >= wanted);
        let _ = tokio::time::timeout(MAX_HANG, all).await;
    }

    /// How often the directives of this prompt have failed before; counts this time
    /// too. What an agent puts in front of them makes no other prompt.
    fn failed_before(&self, prompt: &str) -> usize {
        let directives = prompt.lines().rev().find(|line| line.contains("[["));
        let prompt = directives.unwrap_or(prompt);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(prompt.to_owned()).or_default();
        *count += 1;
        *count - 1
    }
}

fn routes(shared: Arc<Shared>) -> Router {
    let models = json!({"object": "list", "data": [
        {"id": "mock-1", "object": "model", "created": 0, "owned_by": "tests"},
        {"id": "mock-2", "object": "model", "created": 0, "owned_by": "tests"},
    ]});
    Router::new()
        .route("/v1/models", get(async move || Json(models.clone())))
        .route("/v1/chat/completions", post(complete))
        .route("/v1/messages", post(anthropic::complete))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(shared)
}

async fn complete(State(shared): State<Arc<Shared>>, Json(body): Json<Value>) -> Response {
    let mut plan = Plan::of(&body);
    let Some(number) = shared.take_in(&plan, body.clone()) else {
        return (StatusCode::INSUFFICIENT_STORAGE, "too many requests").into_response();
    };
    match &plan.ending {
        Ending::Error {
            status,
            times,
            retry_after,
            refusal,
        } if times.is_none_or(|times| shared.failed_before(&plan.prompt) < times) => {
            return refuse(*status, *retry_after, refusal.as_ref());
        }
        Ending::Hang => tokio::time::sleep(MAX_HANG).await,
        Ending::Cut(_, Some(times)) if shared.failed_before(&plan.prompt) >= *times => {
            plan.ending = Ending::Well;
        }
        _ => {}
    }
    tokio::time::sleep(plan.delay).await;
    if body["stream"] == true {
        let (chunks, stream) = mpsc::channel(1);
        tokio::spawn(stream_out(shared, number, plan, chunks));
        return Response::builder()
            .header(header::CONTENT_TYPE, "text/event-stream")
            .header(header::CACHE_CONTROL, "no-cache")
            .body(Body::from_stream(ReceiverStream::new(stream)))
            .unwrap();
    }
    shared.told(number, plan.usage);
    Json(plan.whole(number)).into_response()
}

fn refuse(status: u16, retry_after: Option<u64>, refusal: Option<&(String, String)>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let error = match refusal {
        Some((kind, words)) => json!({"message": words, "type": kind, "code": kind}),
        None => json!({
            "message": format!("the model refuses: {status}"),
            "type": "refused",
            "code": status.as_str(),
        }),
    };
    let mut response = (status, Json(json!({ "error": error }))).into_response();
    if let Some(seconds) = retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// Says the plan piece by piece, until it is said or nobody listens.
async fn stream_out(
    shared: Arc<Shared>,
    number: usize,
    plan: Plan,
    chunks: mpsc::Sender<io::Result<Bytes>>,
) {
    let deltas = plan.deltas();
    let middle = deltas.len() / 2;
    for (index, delta) in deltas.into_iter().enumerate() {
        if matches!(plan.ending, Ending::Cut(pieces, _) if pieces == index) {
            // What was said must be on its way before the connection breaks.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let _ = chunks
                .send(Err(io::ErrorKind::ConnectionReset.into()))
                .await;
            return;
        }
        let choices = json!([{"index": 0, "delta": delta, "finish_reason": null}]);
        if index == 1 {
            shared.seen()[number].first_word = Some(Instant::now());
        }
        if say(&chunks, &plan, number, choices, None).await.is_err() {
            return;
        }
        tokio::time::sleep(plan.gap).await;
        if index == middle
            && let Some(wanted) = plan.meet
        {
            shared.meet(wanted).await;
        }
    }
    let finish = json!([{"index": 0, "delta": {}, "finish_reason": plan.finish()}]);
    if say(&chunks, &plan, number, finish, None).await.is_err() {
        return;
    }
    shared.seen()[number].usage = Some(plan.usage);
    let usage = plan.usage_report();
    if say(&chunks, &plan, number, json!([]), Some(usage))
        .await
        .is_ok()
    {
        let _ = chunks.send(Ok("data: [DONE]\n\n".into())).await;
    }
}

async fn say(
    chunks: &mpsc::Sender<io::Result<Bytes>>,
    plan: &Plan,
    number: usize,
    choices: Value,
    usage: Option<Value>,
) -> Result<(), ()> {
    let mut chunk = json!({
        "id": format!("completion-{number}"),
        "object": "chat.completion.chunk",
        "created": 0,
        "model": plan.model,
        "choices": choices,
    });
    if let Some(usage) = usage {
        chunk["usage"] = usage;
    }
    let line = format!("data: {chunk}\n\n");
    chunks.send(Ok(line.into())).await.map_err(|_| ())
}
