//! Chats: the tabs of a session.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::error::{ApiError, ApiResult, ProblemBody};
use super::extract::{Body, Check, Id, Params};
use super::page::{Page, PageParams};
use super::sessions::require;
use super::state::AppState;
use crate::store::rows::chats::{self, Chat};

/// A tab to open.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewChat {
    /// What to call it.
    name: Option<String>,
}

/// Opens a tab. The first one of a session becomes its default.
#[utoipa::path(post, path = "/api/sessions/{id}/chats", tag = "chats", request_body = NewChat,
    params(("id" = Uuid, Path, description = "The session")),
    responses((status = 201, body = Chat),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn create(
    State(state): State<AppState>,
    Id(session): Id,
    Body(new): Body<NewChat>,
) -> ApiResult<(StatusCode, Json<Chat>)> {
    Check::default().name("name", new.name.as_deref()).done()?;
    chats::create(state.store.pool(), session, new.name.as_deref())
        .await?
        .map(|chat| (StatusCode::CREATED, Json(chat)))
        .ok_or_else(|| ApiError::not_found("session", session))
}

/// The session's tabs, oldest first.
#[utoipa::path(get, path = "/api/sessions/{id}/chats", tag = "chats",
    params(("id" = Uuid, Path, description = "The session"), PageParams),
    responses((status = 200, body = Page<Chat>),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(state): State<AppState>,
    Id(session): Id,
    Params(params): Params<PageParams>,
) -> ApiResult<Json<Page<Chat>>> {
    require(&state, session).await?;
    let slice = params.slice()?;
    let rows = chats::list(state.store.pool(), session, &slice).await?;
    Ok(Json(Page::cut(rows, &slice, Chat::cursor)))
}
