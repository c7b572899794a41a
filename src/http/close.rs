//! Closing chats and sessions, and deleting sessions. Each is written down first,
//! and then told to what runs.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use hearth_actors::ids::{ChatId, OperationId, SessionId};
use hearth_actors::operation::Asked;
use hearth_actors::ports::OperationsError;
use hearth_actors::review::{Leave, Order};
use hearth_actors::rules::risk;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::error::{ApiError, ApiResult, Code, ProblemBody};
use super::extract::{Id, Params};
use super::prompts::by;
use super::review::PATIENCE;
use super::risk::WorktreeRisk;
use super::state::AppState;
use crate::store::rows::sessions;
use crate::store::{Closed, Deleted, StoreError};

/// Longest wait for turns to end: 6 s, and their last words.
const TURNS_END: Duration = Duration::from_secs(12);
/// Between two looks whether they have.
const LOOK: Duration = Duration::from_millis(50);

/// A chat that is closed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ClosedChat {
    /// The chat.
    chat_id: Uuid,
    /// Its session, which stays open.
    session_id: Option<Uuid>,
    /// Tasks that waited, and are cancelled.
    cancelled: usize,
    /// Turns that are being ended: within 6 s.
    interrupted: usize,
}

/// Closes a chat: what waits in it is cancelled, its open prompts too, its turn is
/// ended, its agents are stopped. Its files stay. Closing it again changes nothing;
/// a message opens it again.
#[utoipa::path(post, path = "/api/chats/{id}/close", tag = "chats",
    params(("id" = Uuid, Path, description = "The chat")),
    responses((status = 200, body = ClosedChat),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn chat(State(state): State<AppState>, Id(id): Id) -> ApiResult<Json<ClosedChat>> {
    let closed = state.store.close_chat(ChatId(id)).await;
    let closed = closed.map_err(|error| missing(error, "chat", id))?;
    state.tree.close_chat(ChatId(id));
    let answer = ClosedChat {
        chat_id: id,
        session_id: closed.session.map(|session| session.0),
        cancelled: closed.cancelled,
        interrupted: closed.running.len(),
    };
    tell(&state, closed);
    Ok(Json(answer))
}

/// What became of a worktree.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Became {
    /// There was none.
    None,
    /// Its files are kept in the repository, and off the disk.
    Archived,
    /// It stays where it is.
    Kept,
    /// It is being put away.
    Underway,
}

/// A session that is closed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ClosedSession {
    /// The session.
    session_id: Uuid,
    /// Tasks that waited, and are cancelled.
    cancelled: usize,
    /// Turns that were ended.
    interrupted: usize,
    /// What became of its worktree.
    worktree: Became,
    /// Why it stays.
    why: Option<String>,
    /// What would be lost with it.
    risk: Option<WorktreeRisk>,
}

/// Closes a session and all its chats, and puts its worktree away if that loses
/// nothing. Closing it again changes nothing, but looks at the worktree again. A
/// message opens it again, with its files at the same path.
#[utoipa::path(post, path = "/api/sessions/{id}/close", tag = "sessions",
    params(("id" = Uuid, Path, description = "The session")),
    responses((status = 200, body = ClosedSession),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn session(
    State(state): State<AppState>,
    Id(id): Id,
    headers: HeaderMap,
) -> ApiResult<Json<ClosedSession>> {
    let (cancelled, interrupted) = end(&state, id).await?;
    let leave = Leave::default();
    let (worktree, why, risk) = match put_away(&state, id, leave, &headers).await {
        None => (Became::Underway, None, None),
        Some(Ok(_)) => (Became::Archived, None, None),
        Some(Err(OperationsError::Wrong {
            code: "no_worktree",
            ..
        })) => (Became::None, None, None),
        Some(Err(OperationsError::AtRisk(facts, purpose))) => {
            let why = "work would be lost with it".to_owned();
            let risk = WorktreeRisk::of(&facts, purpose);
            (Became::Kept, Some(why), Some(risk))
        }
        Some(Err(error)) => (Became::Kept, Some(ApiError::from(error).detail()), None),
    };
    Ok(Json(ClosedSession {
        session_id: id,
        cancelled,
        interrupted,
        worktree,
        why,
        risk,
    }))
}

/// How to delete.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct HowToDelete {
    /// Work that is nowhere else may go: a commit keeps it for 14 days, under
    /// `refs/hearth/deleted/<worktree>`. What runs there is ended.
    force: bool,
    /// The worktree may go without its project's teardown, or although that failed.
    skip_teardown: bool,
}

/// A session that is deleted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeletedSession {
    /// The session.
    session_id: Uuid,
    /// What became of its worktree.
    worktree: Became,
    /// The private ref that keeps what its worktree held.
    kept_as: Option<String>,
    /// The operation that puts it away.
    operation_id: Option<Uuid>,
}

/// Deletes a session with its worktree. Without `force` nothing is changed where a
/// turn runs (409 `worktree_busy`) or work would be lost (409 `worktree_at_risk`,
/// with the report); what no checkpoint could hold stays with it, too. 202 when the
/// files take longer.
#[utoipa::path(delete, path = "/api/sessions/{id}", tag = "sessions",
    params(("id" = Uuid, Path, description = "The session"), HowToDelete),
    responses((status = 200, body = DeletedSession), (status = 202, body = DeletedSession),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn delete(
    State(state): State<AppState>,
    Id(id): Id,
    Params(how): Params<HowToDelete>,
    headers: HeaderMap,
) -> ApiResult<(StatusCode, Json<DeletedSession>)> {
    let works = state.store.works_in(SessionId(id)).await?;
    let works = works.ok_or_else(|| ApiError::not_found("session", id))?;
    if works && !how.force {
        return Err(busy(id));
    }
    let leave = Leave {
        force: how.force,
        delete: true,
        skip_teardown: how.skip_teardown,
    };
    let found = sessions::worktree(state.store.pool(), id).await?;
    let ended = found.is_none();
    let kept_as = match &found {
        Some(worktree) => {
            let facts = state.files.facts(worktree).await;
            if risk::refuses(&facts, leave) {
                return Err(OperationsError::AtRisk(Box::new(facts), leave.purpose()).into());
            }
            (!facts.gone).then(|| format!("refs/hearth/deleted/{}", worktree.id))
        }
        None => None,
    };
    if how.force {
        end(&state, id).await?;
    }
    if ended {
        match state.store.delete_session(SessionId(id)).await {
            Ok(Deleted::Done(closed)) => {
                state.tree.close_session(SessionId(id));
                tell(&state, closed);
                let answer = deleted(id, Became::None, None, None);
                return Ok((StatusCode::OK, Json(answer)));
            }
            // It began a moment ago.
            Ok(Deleted::Busy) => return Err(busy(id)),
            Ok(Deleted::HasWorktree) => {}
            Err(error) => return Err(missing(error, "session", id)),
        }
    }
    match put_away(&state, id, leave, &headers).await {
        None => {
            let answer = deleted(id, Became::Underway, kept_as, None);
            Ok((StatusCode::ACCEPTED, Json(answer)))
        }
        Some(Ok(operation)) => {
            state.tree.close_session(SessionId(id));
            let answer = deleted(id, Became::Archived, kept_as, operation);
            Ok((StatusCode::OK, Json(answer)))
        }
        Some(Err(error)) => Err(error.into()),
    }
}

fn deleted(
    id: Uuid,
    worktree: Became,
    kept_as: Option<String>,
    operation: Option<OperationId>,
) -> DeletedSession {
    DeletedSession {
        session_id: id,
        worktree,
        kept_as,
        operation_id: operation.map(|id| id.0),
    }
}

/// Closes the session and waits until its turn has ended, at most so long as a turn
/// may take to end. What waited, and what ran.
async fn end(state: &AppState, id: Uuid) -> ApiResult<(usize, usize)> {
    let closed = state.store.close_session(SessionId(id)).await;
    let closed = closed.map_err(|error| missing(error, "session", id))?;
    state.tree.close_session(SessionId(id));
    let counts = (closed.cancelled, closed.running.len());
    tell(state, closed);
    let until = Instant::now() + TURNS_END;
    while state.store.works_in(SessionId(id)).await? == Some(true) && Instant::now() < until {
        sleep(LOOK).await;
    }
    Ok(counts)
}

/// None when it takes longer, and goes on.
async fn put_away(
    state: &AppState,
    id: Uuid,
    leave: Leave,
    headers: &HeaderMap,
) -> Option<Result<Option<OperationId>, OperationsError>> {
    let asked = Asked {
        id: OperationId::new(),
        session: SessionId(id),
        order: Order::Archive(leave),
        caller: by(headers).to_string(),
    };
    let patience = PATIENCE.saturating_sub(TURNS_END);
    let came = state.tree.operate(asked, patience).await?;
    Some(came.map(|done| done.id))
}

fn tell(state: &AppState, closed: Closed) {
    state.tree.hub().publish(closed.frames);
    for task in closed.running {
        state.tree.cancel(task);
    }
}

fn busy(id: Uuid) -> ApiError {
    ApiError::new(
        Code::WorktreeBusy,
        format!("session {id} is being worked in: close it first, or delete it with `force=true`"),
    )
}

fn missing(error: StoreError, what: &'static str, id: Uuid) -> ApiError {
    match error {
        StoreError::NotFound { what: named, .. } if named == what || named == "session" => {
            ApiError::not_found(what, id)
        }
        error => error.into(),
    }
}
