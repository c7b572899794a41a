//! Asking the service to stop, from wherever the token is.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::error::TrySendError;
use utoipa::ToSchema;

use super::error::{ApiError, ApiResult, Code, ProblemBody};
use super::extract::Body;
use super::state::{AppState, Readiness, Stop};

/// Longest grace: a day.
const MAX_GRACE_MS: u64 = 24 * 60 * 60 * 1000;

/// How to stop.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PostDrain {
    /// How long turns that run may go on, in milliseconds; the service's
    /// `shutdown_grace_ms` if not given. At most a day.
    grace_ms: Option<u64>,
}

/// It stops.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Draining {
    /// How long turns that run may go on, in milliseconds; 0 when the service is
    /// stopping already.
    grace_ms: u64,
    /// Turns that run now.
    turns: u64,
}

/// Stops the service as SIGTERM does: it claims nothing any more, lets turns finish
/// for the grace, interrupts the others, ends all agents and releases its lease;
/// then it is gone. Asked again, turns have no grace any more.
#[utoipa::path(post, path = "/api/drain", tag = "debug", request_body = PostDrain,
    responses((status = 202, body = Draining),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn drain(
    State(state): State<AppState>,
    Body(wanted): Body<PostDrain>,
) -> ApiResult<(StatusCode, Json<Draining>)> {
    if wanted.grace_ms.is_some_and(|grace| grace > MAX_GRACE_MS) {
        let detail = format!("is too long: at most {MAX_GRACE_MS} (a day)");
        return Err(ApiError::field(Code::InvalidBody, "grace_ms", detail));
    }
    let asked = state.draining.swap(true, Ordering::Relaxed);
    let again = asked || state.health.borrow().readiness == Readiness::Stopping;
    let grace = match wanted.grace_ms {
        _ if again => Duration::ZERO,
        Some(grace) => Duration::from_millis(grace),
        None => state.known().grace,
    };
    // One that is full has been asked twice already.
    if let Err(TrySendError::Closed(_)) = state.stop.try_send(Stop { grace }) {
        return Err(ApiError::new(
            Code::TreeUnavailable,
            "this service ends with the command that started it: end that, or start `hearth serve`",
        ));
    }
    let pool = state.tree.board().get(&["root", "pool"]);
    let turns = pool.and_then(|pool| pool.detail["busy"].as_u64());
    let body = Draining {
        grace_ms: u64::try_from(grace.as_millis()).unwrap_or(MAX_GRACE_MS),
        turns: turns.unwrap_or(0),
    };
    Ok((StatusCode::ACCEPTED, Json(body)))
}
