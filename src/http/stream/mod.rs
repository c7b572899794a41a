//! Frames over server-sent events: from storage first, then live.

mod follow;
mod tree;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use futures::Stream;
use hearth_actors::ids::{SessionId, TaskId};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::IntoParams;

use super::error::{ApiError, ApiResult, Code, ProblemBody};
use super::extract::{Id, Params};
use super::state::AppState;
use crate::store::rows::tasks;
use follow::Follow;
pub(super) use tree::{__path_tree, tree};

/// Where to begin.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamParams {
    /// Only frames behind this seq; the header `Last-Event-ID` wins over it.
    #[param(minimum = 0)]
    after: Option<i64>,
}

/// Frames of a session: `event: <type>`, `id: <seq>`, `data: <frame>`. Without
/// a cursor all that is stored comes first. A subscriber that fell behind gets
/// `event: lagged` and then what it missed.
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
) -> ApiResult<Response> {
    let session = SessionId(id);
    let permit = admit(&state)?;
    let cursor = cursor(&params, &headers)?;
    let Some(last) = state.store.last_seq(session).await? else {
        return Err(ApiError::not_found("session", id));
    };
    let follow = Follow::session(state, session, cursor.unwrap_or(0).min(last));
    Ok(respond(permit, follow.chunks()))
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
) -> ApiResult<Response> {
    let permit = admit(&state)?;
    let cursor = cursor(&params, &headers)?;
    let place = tasks::stream_place(state.store.pool(), id).await?;
    let Some((session, first)) = place else {
        return Err(ApiError::not_found("task", id));
    };
    let from = cursor.map_or(first, |cursor| cursor.max(first));
    let follow = Follow::task(state, SessionId(session), TaskId(id), from);
    Ok(respond(permit, follow.chunks()))
}

fn admit(state: &AppState) -> ApiResult<OwnedSemaphorePermit> {
    state
        .streams
        .clone()
        .try_acquire_owned()
        .map_err(|_| ApiError::busy("streams"))
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

/// The permit lives as long as the body.
fn respond<S>(permit: OwnedSemaphorePermit, chunks: S) -> Response
where
    S: Stream<Item = axum::body::Bytes> + Send + 'static,
{
    let body = futures::StreamExt::map(chunks, move |chunk| {
        let _held = &permit;
        Ok::<_, std::convert::Infallible>(chunk)
    });
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Asks nginx not to hold frames back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
