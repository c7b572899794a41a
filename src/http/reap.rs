//! The reaper, on demand.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use hearth_actors::ports::ReapError;
use hearth_actors::reap::Line;
use hearth_actors::risk::Purpose;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::error::{ApiError, ApiResult, Code, ProblemBody};
use super::extract::Params;
use super::risk::WorktreeRisk;
use super::state::AppState;

/// How to reap.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct HowToReap {
    /// Only look: say what would be done, and why.
    dry_run: bool,
}

/// One thing that the reaper found.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Reaped {
    /// `archive` a session's worktree, `bury` one that no session has, `note_gone`
    /// that files are, `clear` a leftover, `forget` an archive.
    deed: String,
    /// Where.
    path: String,
    /// Whose, if it is a session's.
    session_id: Option<Uuid>,
    /// Why: `session_closed`, `arena_over`, `idle`, `orphan`, `files_gone`,
    /// `half_removed`, `half_made`, `expired`.
    reason: String,
    /// `done`, in a dry run: would be; `kept`, because work would be lost; `later`.
    fate: String,
    /// More about it.
    detail: Option<String>,
    /// What would be lost.
    risk: Option<WorktreeRisk>,
}

/// What the reaper did, or would do.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReapReport {
    /// Nothing was changed.
    dry_run: bool,
    /// What it found, at most 500.
    items: Vec<Reaped>,
    /// What it found beyond that.
    omitted: u64,
    /// Old checkpoints that were let go of, or would be.
    checkpoints: u64,
}

/// Looks for worktrees that nobody needs on the disk and for what is left of them,
/// and removes what loses nothing. It does so by itself every minute.
#[utoipa::path(post, path = "/api/reap", tag = "sessions", params(HowToReap),
    responses((status = 200, body = ReapReport),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn reap(
    State(state): State<AppState>,
    Params(how): Params<HowToReap>,
) -> ApiResult<Json<ReapReport>> {
    let report = state.tree.reap(how.dry_run).await.map_err(away)?;
    Ok(Json(ReapReport {
        dry_run: report.dry_run,
        items: report.lines.into_iter().map(reaped).collect(),
        omitted: report.omitted,
        checkpoints: report.checkpoints,
    }))
}

fn reaped(line: Line) -> Reaped {
    let purpose = match line.deed.as_str() {
        "archive" => Purpose::Archive,
        _ => Purpose::Delete,
    };
    Reaped {
        risk: line
            .facts
            .as_ref()
            .map(|facts| WorktreeRisk::of(facts, purpose)),
        deed: line.deed,
        path: line.path.display().to_string(),
        session_id: line.session.map(|session| session.0),
        reason: line.reason.to_string(),
        fate: line.fate.to_string(),
        detail: line.detail,
    }
}

fn away(error: ReapError) -> ApiError {
    ApiError::new(
        Code::TreeUnavailable,
        hearth_actors::ports::with_source(&error),
    )
    .with_header(header::RETRY_AFTER, "1")
}
