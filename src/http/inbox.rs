//! Everything that needs a human.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use hearth_actors::ids::{ChatId, CheckpointId, TaskId};
use hearth_actors::review::Order;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::agent::choose;
use super::error::{ApiError, ApiResult, Code, ProblemBody};
use super::extract::{MaybeBody, Params};
use super::messages::{Accepted, accept};
use super::page::{Page, slice};
use super::review::carry_out;
use super::state::AppState;
use crate::store::rows::inbox::{self, Item};
use crate::store::{Before, Retry, StoreError};

/// Which items to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListInbox {
    /// Only of this session.
    session_id: Option<Uuid>,
    /// Items in the page, 1 to 200; 50 if not given.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Everything that needs a human, newest first: tasks that failed, were
/// interrupted, wait for an answer or are parked for more than 10 s; open
/// prompts; notices. A task that was tried again or dismissed is not listed.
#[utoipa::path(get, path = "/api/inbox", tag = "inbox", params(ListInbox),
    responses((status = 200, body = Page<Item>),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(state): State<AppState>,
    Params(params): Params<ListInbox>,
) -> ApiResult<Json<Page<Item>>> {
    let slice = slice(params.limit, params.cursor.as_deref())?;
    let rows = inbox::list(state.store.pool(), params.session_id, &slice).await?;
    Ok(Json(Page::cut(rows, &slice, Item::cursor)))
}

/// How to try again.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PostRetry {
    /// First bring the files, and the chat, back to what they were before the
    /// task's first turn.
    restore: bool,
    /// Later turns of other chats may lose their files in this.
    consent: bool,
}

/// What became of a retry.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Retried {
    /// The task waits.
    Queued(Accepted),
    /// Its files are still being restored; the same order queues it.
    Restoring(Restoring),
}

/// A retry whose files are still being restored.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Restoring {
    /// The order: when it is done, the task is queued.
    operation_id: Uuid,
    /// Its workspace.
    session_id: Uuid,
}

/// Queues a failed task again: same chat, agent and prompt, on the files as they
/// are now, or as they were before it. Asked for again, it answers 200 with the
/// task that the first call made, and restores nothing. Files that take longer than a
/// request to restore answer 202 with the operation that queues it. A parked task
/// is tried now: 200 with the task itself.
#[utoipa::path(post, path = "/api/inbox/{id}/retry", tag = "inbox",
    params(("id" = String, Path, description = "`task:…` as the inbox lists it")),
    request_body(content = Option<PostRetry>),
    responses((status = 202, body = Retried), (status = 200, body = Retried),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn retry(
    State(state): State<AppState>,
    Path(id): Path<String>,
    headers: HeaderMap,
    MaybeBody(body): MaybeBody<PostRetry>,
) -> ApiResult<(StatusCode, Json<Retried>)> {
    let Named::Task(task) = Named::parse(&id)? else {
        return Err(ApiError::new(
            Code::NotRetryable,
            "only a task can be tried again; a prompt is answered, a notice dismissed",
        ));
    };
    let Some(agent) = state.store.agent_of(TaskId(task)).await? else {
        return Err(ApiError::not_found("task", task));
    };
    choose(&state, agent.as_deref())?;
    if body.restore {
        if let Some(answer) = go_back(&state, TaskId(task), body.consent, &headers).await? {
            return Ok(answer);
        }
    } else if body.consent {
        return Err(ApiError::field(
            Code::InvalidBody,
            "consent",
            "is for `restore`: say both or none",
        ));
    }
    match state.store.retry(TaskId(task)).await {
        Ok(Retry::Created(created)) => {
            let status = if created.repeated {
                StatusCode::OK
            } else {
                StatusCode::ACCEPTED
            };
            Ok((status, Json(Retried::Queued(accept(&state, created)))))
        }
        Ok(Retry::NotFailed(is)) => {
            let parked = match is.as_str() {
                // There is nothing yet to go back from.
                "pending" if !body.restore => state.store.try_now(TaskId(task)).await?,
                _ => None,
            };
            let Some(created) = parked else {
                return Err(ApiError::new(
                    Code::NotRetryable,
                    format!(
                        "task {task} is {is}; only a failed one can be tried again, and a parked \
                         one tried now"
                    ),
                ));
            };
            Ok((
                StatusCode::OK,
                Json(Retried::Queued(accept(&state, created))),
            ))
        }
        Err(StoreError::NotFound { what: "task", .. }) => Err(ApiError::not_found("task", task)),
        Err(error) => Err(error.into()),
    }
}

/// One order that restores the files as they were before the task and queues it
/// again. None where there is nothing to go back from, or it was tried again
/// already: what is left is told by the retry.
async fn go_back(
    state: &AppState,
    task: TaskId,
    consent: bool,
    headers: &HeaderMap,
) -> ApiResult<Option<(StatusCode, Json<Retried>)>> {
    let Some(before) = before(state, task).await? else {
        return Ok(None);
    };
    let (Some(session), Some(chat), Some(checkpoint)) =
        (before.session_id, before.chat_id, before.checkpoint_id)
    else {
        return Err(ApiError::new(
            Code::NotRetryable,
            format!(
                "no checkpoint of the files before task {task} is kept; without `restore` it is \
                 tried again on the files as they are"
            ),
        ));
    };
    let order = Order::Restore {
        checkpoint: CheckpointId(checkpoint),
        chat: ChatId(chat),
        consent,
        retries: Some(task),
    };
    let answer = match carry_out(state, session, order, headers).await {
        Ok((_, Json(answer))) => answer,
        // Another call was faster.
        Err(error)
            if error.code() == Code::NotRetryable && self::before(state, task).await?.is_none() =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let operation = answer.operation.filter(|of| of.ended_at.is_none());
    if let Some(operation) = operation {
        let restoring = Restoring {
            operation_id: operation.id,
            session_id: session,
        };
        return Ok(Some((
            StatusCode::ACCEPTED,
            Json(Retried::Restoring(restoring)),
        )));
    }
    match state.store.retry(task).await? {
        // The order made it.
        Retry::Created(created) => {
            let accepted = Retried::Queued(accept(state, created));
            Ok(Some((StatusCode::ACCEPTED, Json(accepted))))
        }
        Retry::NotFailed(_) => Ok(None),
    }
}

/// What the files were before a task that failed, was prompted, and was not tried
/// again.
async fn before(state: &AppState, task: TaskId) -> ApiResult<Option<Before>> {
    let before = state.store.before(task).await?;
    let before = before.ok_or_else(|| ApiError::not_found("task", task.0))?;
    let fits = before.state == "failed" && before.prompted && !before.retried;
    Ok(fits.then_some(before))
}

/// Takes a failed task or a notice out of the inbox. What it is about stays as
/// it is.
#[utoipa::path(post, path = "/api/inbox/{id}/dismiss", tag = "inbox",
    params(("id" = String, Path, description = "`task:…` or `notice:…` as the inbox lists it")),
    responses((status = 204, description = "It is not listed any more"),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn dismiss(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    let pool = state.store.pool();
    match Named::parse(&id)? {
        Named::Task(task) => match inbox::dismiss_task(pool, task).await?.as_deref() {
            Some("failed") => Ok(StatusCode::NO_CONTENT),
            Some(is) => Err(ApiError::new(
                Code::NotDismissable,
                format!(
                    "task {task} is {is}; only a failed one can be dismissed, others cancelled"
                ),
            )),
            None => Err(ApiError::not_found("task", task)),
        },
        Named::Notice(notice) if inbox::dismiss_notice(pool, notice).await? => {
            Ok(StatusCode::NO_CONTENT)
        }
        Named::Notice(notice) => Err(ApiError::not_found("notice", notice)),
        Named::Prompt(prompt) => Err(ApiError::new(
            Code::NotDismissable,
            format!("answer it by POST /api/prompts/{prompt}/answer, or cancel its task"),
        )),
    }
}

/// What an item's id names.
#[derive(Debug, PartialEq)]
enum Named {
    Task(Uuid),
    Prompt(Uuid),
    Notice(Uuid),
}

impl Named {
    fn parse(id: &str) -> ApiResult<Self> {
        let parsed = id.split_once(':').and_then(|(kind, id)| {
            let id = Uuid::try_parse(id).ok()?;
            match kind {
                "task" => Some(Self::Task(id)),
                "prompt" => Some(Self::Prompt(id)),
                "notice" => Some(Self::Notice(id)),
                _ => None,
            }
        });
        parsed.ok_or_else(|| {
            let shown: String = id.chars().take(64).collect();
            ApiError::new(
                Code::InvalidId,
                format!(
                    "`{}` is not an id of the inbox: task:…, prompt:… or notice:… with a UUID",
                    shown.escape_debug()
                ),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_what_it_names() {
        let id = Uuid::now_v7();
        let parse = |text: String| Named::parse(&text).ok();
        assert_eq!(parse(format!("task:{id}")), Some(Named::Task(id)));
        assert_eq!(parse(format!("prompt:{id}")), Some(Named::Prompt(id)));
        assert_eq!(parse(format!("notice:{id}")), Some(Named::Notice(id)));
        for wrong in [id.to_string(), format!("tasks:{id}"), "task:1".into()] {
            assert_eq!(parse(wrong.clone()), None, "{wrong}");
        }
    }
}
