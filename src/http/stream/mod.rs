//! Frames over server-sent events and WebSocket: from storage first, then live.

mod admission;
mod follow;
mod sse;
mod tree;
mod ws;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use hearth_actors::ids::{ArenaId, SessionId, TaskId};
use serde::Deserialize;
use utoipa::IntoParams;

use super::error::{ApiError, ApiResult, Code, ProblemBody};
use super::extract::{Id, Params};
use super::guard::Caller;
use super::state::AppState;
use crate::store::rows::{arenas, tasks};
pub(super) use admission::{Admission, Seat};
use follow::Follow;
pub(super) use sse::hold;
pub(super) use tree::{__path_tree, tree};
pub(super) use ws::{__path_socket, socket};

/// Routes that a ticket opens.
pub(super) const ROUTES: &[&str] = &[
    "/api/sessions/{id}/stream",
    "/api/tasks/{id}/stream",
    "/api/arena/{id}/stream",
    "/api/ws/sessions/{id}",
    "/api/debug/tree/stream",
];

/// Where to begin.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamParams {
    /// Only frames behind this seq; the header `Last-Event-ID` wins over it.
    #[param(minimum = 0)]
    after: Option<i64>,
    /// In place of the token, for pages: of `POST /api/tickets`.
    #[serde(rename = "ticket")]
    #[param(rename = "ticket")]
    _ticket: Option<String>,
}

/// Frames of a session: `event: <type>`, `id: <seq>`, `data: <frame>`. Without
/// a cursor all that is stored comes first. A subscriber that fell behind gets
/// `event: lagged` and then what it missed. A cursor older than what is kept
/// gets one `snapshot` (`messages` with their parts, `tasks` that are not over,
/// open `permissions`) in place of all frames up to its seq.
#[utoipa::path(get, path = "/api/sessions/{id}/stream", tag = "streams",
    params(("id" = Uuid, Path, description = "The session"), StreamParams,
        ("Last-Event-ID" = Option<i64>, Header, description = "Seq of the last frame seen")),
    responses((status = 200, content_type = "text/event-stream", body = String),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn session(
    State(state): State<AppState>,
    Id(id): Id,
    Params(params): Params<StreamParams>,
    headers: HeaderMap,
    Extension(caller): Extension<Caller>,
) -> ApiResult<Response> {
    let session = SessionId(id);
    let seat = admit(&state, caller)?;
    let cursor = cursor(&params, &headers)?;
    let Some(last) = state.store.last_seq(session).await? else {
        return Err(ApiError::not_found("session", id));
    };
    let follow = Follow::session(state, session, cursor.unwrap_or(0).min(last));
    Ok(sse::respond(seat, sse::chunks(follow)))
}

/// Frames of one task; ends after the frame that tells its outcome.
#[utoipa::path(get, path = "/api/tasks/{id}/stream", tag = "streams",
    params(("id" = Uuid, Path, description = "The task"), StreamParams,
        ("Last-Event-ID" = Option<i64>, Header, description = "Seq of the last frame seen")),
    responses((status = 200, content_type = "text/event-stream", body = String),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn task(
    State(state): State<AppState>,
    Id(id): Id,
    Params(params): Params<StreamParams>,
    headers: HeaderMap,
    Extension(caller): Extension<Caller>,
) -> ApiResult<Response> {
    let seat = admit(&state, caller)?;
    let cursor = cursor(&params, &headers)?;
    let place = tasks::stream_place(state.store.pool(), id).await?;
    let Some(place) = place else {
        return Err(ApiError::not_found("task", id));
    };
    let cursor = cursor.unwrap_or(0);
    // Behind frames that are no longer kept the cursor stays, for a snapshot.
    let from = if place.maybe_pruned {
        cursor
    } else {
        cursor.max(place.first)
    };
    let follow = Follow::task(state, SessionId(place.session_id), TaskId(id), from);
    Ok(sse::respond(seat, sse::chunks(follow)))
}

/// How an arena stands, with or without a session: a frame `arena_updated` at each
/// step; ends when it is decided, ended or failed. The seqs are those of the first
/// contestant's stream, of which these frames are a part.
#[utoipa::path(get, path = "/api/arena/{id}/stream", tag = "streams",
    params(("id" = Uuid, Path, description = "The arena"), StreamParams,
        ("Last-Event-ID" = Option<i64>, Header, description = "Seq of the last frame seen")),
    responses((status = 200, content_type = "text/event-stream", body = String),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn arena(
    State(state): State<AppState>,
    Id(id): Id,
    Params(params): Params<StreamParams>,
    headers: HeaderMap,
    Extension(caller): Extension<Caller>,
) -> ApiResult<Response> {
    let seat = admit(&state, caller)?;
    let cursor = cursor(&params, &headers)?;
    let Some((session, task)) = arenas::stream_place(state.store.pool(), id).await? else {
        return Err(ApiError::not_found("arena", id));
    };
    let of = (SessionId(session), TaskId(task));
    let follow = Follow::arena(state, ArenaId(id), of, cursor.unwrap_or(0));
    Ok(sse::respond(seat, sse::chunks(follow)))
}

fn admit(state: &AppState, caller: Caller) -> ApiResult<Seat> {
    state
        .streams
        .admit(caller.address)
        .ok_or_else(|| ApiError::busy("streams"))
}

/// A browser that reconnects repeats the address of its first try, so that the
/// header knows better.
fn cursor(params: &StreamParams, headers: &HeaderMap) -> ApiResult<Option<i64>> {
    let wrong = |code, name: &str| {
        ApiError::new(
            code,
            format!("{name}: not a seq; give a whole number from 0"),
        )
    };
    if let Some(value) = headers.get("last-event-id") {
        let seq = value.to_str().ok().and_then(|text| text.parse().ok());
        return match seq {
            Some(seq) if seq >= 0 => Ok(Some(seq)),
            _ => Err(wrong(Code::InvalidHeader, "Last-Event-ID")),
        };
    }
    match params.after {
        Some(seq) if seq < 0 => Err(wrong(Code::InvalidQuery, "after")),
        after => Ok(after),
    }
}
