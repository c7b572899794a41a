//! Going back to a checkpoint.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use hearth_actors::ids::{ChatId, CheckpointId};
use hearth_actors::review::Order;
use serde::Deserialize;
use utoipa::ToSchema;

use super::error::{ApiError, ApiResult, ProblemBody};
use super::extract::{MaybeBody, parse_id};
use super::review::{Answer, carry_out};
use super::sessions::require;
use super::state::AppState;
use crate::store::rows::operations;

/// How to restore.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Restore {
    /// Later turns of other chats may lose their files.
    consent: bool,
}

/// Brings the worktree back to a checkpoint and its chat to the message before:
/// later messages are gone, and its agents begin a context of their own.
#[utoipa::path(post, path = "/api/sessions/{id}/checkpoints/{cid}/restore", tag = "checkpoints",
    params(("id" = Uuid, Path, description = "The session"),
        ("cid" = Uuid, Path, description = "The checkpoint")),
    request_body(content = Option<Restore>),
    responses((status = 200, body = Answer), (status = 202, body = Answer),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn restore(
    State(state): State<AppState>,
    Path((session, checkpoint)): Path<(String, String)>,
    headers: HeaderMap,
    MaybeBody(body): MaybeBody<Restore>,
) -> ApiResult<(StatusCode, Json<Answer>)> {
    let (session, checkpoint) = (parse_id(&session)?, parse_id(&checkpoint)?);
    require(&state, session).await?;
    let chat = operations::chat_of_checkpoint(state.store.pool(), session, checkpoint).await?;
    let Some(chat) = chat else {
        return Err(ApiError::not_found("checkpoint", checkpoint));
    };
    let order = Order::Restore {
        checkpoint: CheckpointId(checkpoint),
        chat: ChatId(chat),
        consent: body.consent,
        retries: None,
    };
    carry_out(&state, session, order, &headers).await
}
