//! Frames over a WebSocket: one JSON text message a frame, the same as the
//! `data` of a server-sent event. The client says nothing but pongs and its
//! goodbye. A ping every 15 s shows that both are there.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::HeaderMap;
use axum::response::Response;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use hearth_actors::event::Frame;
use hearth_actors::ids::SessionId;
use tokio::time::{Instant, timeout};

use super::super::error::{ApiError, ApiResult, Code, ProblemBody};
use super::super::extract::{Id, Params};
use super::super::guard::Caller;
use super::super::state::AppState;
use super::admission::Seat;
use super::follow::{End, Follow, HEARTBEAT, Wire};
use super::{StreamParams, admit, cursor};

/// Longest silence of a client. A ping waits behind what was written before it:
/// a client so slow that this takes longer comes back with its cursor.
const SILENCE: Duration = Duration::from_secs(120);
/// Longest wait for the goodbye to be written.
const GOODBYE: Duration = Duration::from_secs(5);
/// Largest message that a client may send.
const MAX_INCOMING: usize = 4 * 1024;
/// Bytes that are put together before they are written.
const WRITE_BUFFER: usize = 64 * 1024;
/// Bytes that may wait for a slow client: the largest frames, a snapshot among
/// them, fit.
const MAX_WAITING: usize = 16 * 1024 * 1024;

/// Frames of a session over a WebSocket, one text message each: the same JSON
/// as `data` of the event stream, and resumed in the same way by `after`. A
/// subscriber that fell behind gets `{"type":"lagged","missed":…}` and then what
/// it missed. Close codes: 1000 nothing comes any more, 1001 the service stops,
/// 1003 the client sent a message, 1008 it was silent for 120 s, 1011 storage
/// cannot be read.
#[utoipa::path(get, path = "/api/ws/sessions/{id}", tag = "streams",
    params(("id" = Uuid, Path, description = "The session"), StreamParams),
    responses((status = 101, description = "The frames follow"),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(in crate::http) async fn socket(
    State(state): State<AppState>,
    Id(id): Id,
    Params(params): Params<StreamParams>,
    headers: HeaderMap,
    Extension(caller): Extension<Caller>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> ApiResult<Response> {
    let upgrade = upgrade.map_err(|error| {
        ApiError::new(
            Code::NotAWebSocket,
            format!("this route speaks WebSocket only: {error}"),
        )
    })?;
    let session = SessionId(id);
    let seat = admit(&state, caller)?;
    let cursor = cursor(&params, &headers)?;
    let Some(last) = state.store.last_seq(session).await? else {
        return Err(ApiError::not_found("session", id));
    };
    let deadline = state.limits.write_deadline;
    let follow = Follow::session(state, session, cursor.unwrap_or(0).min(last));
    Ok(upgrade
        .max_message_size(MAX_INCOMING)
        .max_frame_size(MAX_INCOMING)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(MAX_WAITING)
        .on_upgrade(move |socket| converse(socket, follow, seat, deadline)))
}

/// Until one side leaves. The seat is held as long.
async fn converse(socket: WebSocket, follow: Follow, _seat: Seat, deadline: Duration) {
    let (mut sink, stream) = socket.split();
    let goodbye = tokio::select! {
        biased;
        goodbye = listen(stream) => goodbye,
        goodbye = speak(&mut sink, follow, deadline) => goodbye,
    };
    if let Some((code, reason)) = goodbye {
        let close = Message::Close(Some(CloseFrame {
            code,
            reason: reason.into(),
        }));
        // Who does not take it is cut.
        let _ = timeout(GOODBYE, sink.send(close)).await;
    }
}

/// A close code and its reason; none when there is nobody to tell.
type Goodbye = Option<(u16, &'static str)>;

async fn speak(
    sink: &mut SplitSink<WebSocket, Message>,
    mut follow: Follow,
    deadline: Duration,
) -> Goodbye {
    let mut pinged = Instant::now();
    loop {
        let mut texts = Texts::default();
        match follow.next(&mut texts).await {
            Ok(()) => {}
            Err(End::Over) => return Some((close_code::NORMAL, "nothing comes any more")),
            Err(End::Stopping) => return Some((close_code::AWAY, "the service stops")),
            Err(End::Storage) => {
                return Some((
                    close_code::ERROR,
                    "storage cannot be read; come back with the last seq",
                ));
            }
        }
        if pinged.elapsed() >= HEARTBEAT {
            pinged = Instant::now();
            texts.messages.push(Message::Ping(axum::body::Bytes::new()));
        }
        for message in texts.messages {
            match timeout(deadline, sink.feed(message)).await {
                Ok(Ok(())) => {}
                // Gone, or not reading: nothing could be told.
                Ok(Err(_)) | Err(_) => return None,
            }
        }
        match timeout(deadline, sink.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return None,
        }
    }
}

async fn listen(mut stream: SplitStream<WebSocket>) -> Goodbye {
    loop {
        match timeout(SILENCE, stream.next()).await {
            Err(_) => return Some((close_code::POLICY, "nothing was heard for 120 s")),
            Ok(None | Some(Err(_) | Ok(Message::Close(_)))) => return None,
            Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => {}
            Ok(Some(Ok(Message::Text(_) | Message::Binary(_)))) => {
                return Some((close_code::UNSUPPORTED, "this stream takes no messages"));
            }
        }
    }
}

/// Messages that are to be written.
#[derive(Default)]
struct Texts {
    messages: Vec<Message>,
    bytes: usize,
}

impl Texts {
    fn push(&mut self, text: String) {
        self.bytes += text.len();
        self.messages.push(Message::Text(text.into()));
    }
}

impl Wire for Texts {
    fn frame(&mut self, frame: &Frame) {
        match serde_json::to_string(frame) {
            Ok(text) => self.push(text),
            Err(error) => {
                tracing::error!(seq = frame.seq, %error, "a frame's data is no object; it is left out");
            }
        }
    }

    fn lagged(&mut self, missed: u64) {
        self.push(format!("{{\"type\":\"lagged\",\"missed\":{missed}}}"));
    }

    /// The ping is sent by the clock of the speaker; this only wakes it.
    fn heartbeat(&mut self) {
        self.bytes += 1;
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}
