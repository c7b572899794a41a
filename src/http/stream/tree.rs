//! The supervision tree, whenever it changes.

use std::time::Duration;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use tokio::sync::watch;

use super::super::error::{ApiResult, ProblemBody};
use super::super::guard::Caller;
use super::super::state::AppState;
use super::admit;
use super::follow::HEARTBEAT;
use super::sse::respond;

/// Shortest time between two pictures of the tree.
const THROTTLE: Duration = Duration::from_millis(100);

/// The tree at once and after every change, at most ten times a second:
/// `event: tree`, `data: <node>` as `/api/debug/tree` shows it.
#[utoipa::path(get, path = "/api/debug/tree/stream", tag = "debug",
    responses((status = 200, content_type = "text/event-stream", body = String),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(in crate::http) async fn tree(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
) -> ApiResult<Response> {
    let seat = admit(&state, caller)?;
    let changes = state.tree.board().changes();
    let first = (state, changes, true);
    let chunks = futures::stream::unfold(first, |(state, mut changes, first)| async move {
        let chunk = next(&state, &mut changes, first).await?;
        Some((chunk, (state, changes, false)))
    });
    Ok(respond(seat, chunks))
}

async fn next(state: &AppState, changes: &mut watch::Receiver<u64>, first: bool) -> Option<Bytes> {
    if !first {
        let calm = async {
            tokio::time::sleep(THROTTLE).await;
            changes.changed().await.ok()
        };
        tokio::select! {
            biased;
            () = state.closing.cancelled() => return None,
            changed = calm => changed?,
            () = tokio::time::sleep(HEARTBEAT) => return Some(Bytes::from_static(b": heartbeat\n\n")),
        }
    }
    changes.mark_unchanged();
    let tree = serde_json::to_string(&state.tree.snapshot().await).ok()?;
    Some(format!("event: tree\ndata: {tree}\n\n").into())
}
