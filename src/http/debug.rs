//! The supervision tree, and control of one warm session.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use hearth_actors::ids::{AgentName, ChatId, SessionKey};
use serde::Deserialize;
use utoipa::IntoParams;

use super::error::{ApiError, ApiResult, Code, ProblemBody};
use super::extract::{Params, parse_id};
use super::render::render;
use super::state::AppState;

/// How to show the tree.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TreeParams {
    /// `json` (the default) or `text`.
    #[param(inline)]
    format: Option<Format>,
}

/// How to show the tree.
#[derive(Clone, Copy, Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum Format {
    /// Nodes with children.
    Json,
    /// For people.
    Text,
}

/// All actors: `{id, kind, name, state, since, generation, restarts, last_exit,
/// mailbox, pid, rss_bytes, detail, children[]}`; null before the root is up.
#[utoipa::path(get, path = "/api/debug/tree", tag = "debug", params(TreeParams),
    responses((status = 200, body = Object, content_type = "application/json"),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn tree(
    State(state): State<AppState>,
    Params(params): Params<TreeParams>,
) -> Response {
    let tree = state.tree.snapshot().await;
    match params.format {
        None | Some(Format::Json) => Json(tree).into_response(),
        Some(Format::Text) => {
            let text = tree.map_or_else(
                || "the supervision tree is not up\n".to_owned(),
                |tree| render(&tree, Utc::now(), false),
            );
            ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
        }
    }
}

/// Stops an idle warm session; its next prompt starts it again. Refused while
/// it is busy, with the reason as `code`.
#[utoipa::path(post, path = "/api/debug/sessions/{chat_id}/{agent}/evict", tag = "debug",
    params(("chat_id" = Uuid, Path, description = "The chat"), ("agent" = String, Path, description = "The agent")),
    responses((status = 204, description = "Stopped"),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn evict(
    State(state): State<AppState>,
    Path((chat, agent)): Path<(String, String)>,
) -> ApiResult<StatusCode> {
    state.tree.evict(key(&chat, &agent)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Stops a warm session, interrupting its turn, forgets its crashes, and lets the
/// tasks that waited for the end of its rest run.
#[utoipa::path(post, path = "/api/debug/sessions/{chat_id}/{agent}/restart", tag = "debug",
    params(("chat_id" = Uuid, Path, description = "The chat"), ("agent" = String, Path, description = "The agent")),
    responses((status = 204, description = "Stopped"),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn restart(
    State(state): State<AppState>,
    Path((chat, agent)): Path<(String, String)>,
) -> ApiResult<StatusCode> {
    let key = key(&chat, &agent)?;
    state.tree.restart(key.clone()).await?;
    state.store.unpark(&key).await?;
    state.tree.wakeup();
    Ok(StatusCode::NO_CONTENT)
}

fn key(chat: &str, agent: &str) -> ApiResult<SessionKey> {
    if agent.chars().count() > 200 {
        return Err(ApiError::new(
            Code::UnknownAgent,
            "no agent has so long a name",
        ));
    }
    Ok(SessionKey {
        chat: ChatId(parse_id(chat)?),
        agent: AgentName::from(agent),
    })
}
