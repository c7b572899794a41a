//! Sessions, and what hangs on one: the agents' contexts.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::budgets::SessionBudget;
use super::error::{ApiError, ApiResult, Code, ProblemBody};
use super::extract::{Body, Check, Id, Params};
use super::page::{Page, slice};
use super::state::AppState;
use crate::store::rows::agent_sessions::{self, AgentSession};
use crate::store::rows::sessions::{self, Session};

/// A workspace to open.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSession {
    /// Whose workspace.
    project_id: Uuid,
    /// What to call it; `session` if not given.
    name: Option<String>,
    /// What all its turns may spend together; only tighter than the settings.
    budget: Option<SessionBudget>,
}

/// Which sessions to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListSessions {
    /// Only of this project.
    project_id: Option<Uuid>,
    /// Rows in the page, 1 to 200; 50 if not given.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Opens a workspace; its worktree is made when something first runs in it.
#[utoipa::path(post, path = "/api/sessions", tag = "sessions", request_body = NewSession,
    responses((status = 201, body = Session),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn create(
    State(state): State<AppState>,
    Body(new): Body<NewSession>,
) -> ApiResult<(StatusCode, Json<Session>)> {
    let mut check = Check::default();
    check.name("name", new.name.as_deref());
    let budget = new
        .budget
        .map(|budget| budget.checked("budget/", &mut check))
        .filter(|budget| !budget.is_empty());
    check.done()?;
    if let Some(budget) = &budget {
        state.store.check_session_budget(budget)?;
    }
    let name = new.name.as_deref().unwrap_or("session");
    match sessions::create(state.store.pool(), new.project_id, name, budget).await? {
        Some(session) => Ok((StatusCode::CREATED, Json(session))),
        None => Err(ApiError::field(
            Code::UnknownReference,
            "project_id",
            format!("names no project: there is no {}", new.project_id),
        )),
    }
}

/// Sessions, newest first.
#[utoipa::path(get, path = "/api/sessions", tag = "sessions", params(ListSessions),
    responses((status = 200, body = Page<Session>),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(state): State<AppState>,
    Params(params): Params<ListSessions>,
) -> ApiResult<Json<Page<Session>>> {
    let slice = slice(params.limit, params.cursor.as_deref())?;
    let rows = sessions::list(state.store.pool(), params.project_id, &slice).await?;
    Ok(Json(Page::cut(rows, &slice, Session::cursor)))
}

/// One session.
#[utoipa::path(get, path = "/api/sessions/{id}", tag = "sessions",
    params(("id" = Uuid, Path, description = "The session")),
    responses((status = 200, body = Session),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn get(State(state): State<AppState>, Id(id): Id) -> ApiResult<Json<Session>> {
    sessions::get(state.store.pool(), id)
        .await?
        .map(Json)
        .ok_or_else(|| ApiError::not_found("session", id))
}

/// The agents of a session.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AgentSessions {
    /// One for each chat and agent.
    items: Vec<AgentSession>,
}

/// What is remembered of each agent in each chat of the session.
#[utoipa::path(get, path = "/api/sessions/{id}/agent-sessions", tag = "sessions",
    params(("id" = Uuid, Path, description = "The session")),
    responses((status = 200, body = AgentSessions),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn agents(
    State(state): State<AppState>,
    Id(id): Id,
) -> ApiResult<Json<AgentSessions>> {
    require(&state, id).await?;
    let items = agent_sessions::list(state.store.pool(), id).await?;
    Ok(Json(AgentSessions { items }))
}

/// # Errors
/// There is no such session.
pub(super) async fn require(state: &AppState, id: Uuid) -> ApiResult<()> {
    if sessions::exists(state.store.pool(), id).await? {
        Ok(())
    } else {
        Err(ApiError::not_found("session", id))
    }
}
