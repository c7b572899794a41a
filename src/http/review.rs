//! Review of what agents changed: look, apply, reject, rewind.
//!
//! An order is carried out whether its caller waits or not; one that takes
//! longer than a request may is answered with 202 and the operation to look at.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use hearth_actors::ids::{ChangeId, OperationId, SessionId};
use hearth_actors::operation::Asked;
use hearth_actors::review::Order;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::error::{ApiError, ApiResult, Code, ProblemBody};
use super::extract::{Body, Id, MaybeBody, Params};
use super::page::{Page, slice};
use super::prompts::by;
use super::sessions::require;
use super::state::AppState;
use crate::store::rows::changes::{self, Change};
use crate::store::rows::operations::{self, Operation};

/// Longest wait for the end of an operation: a little less than a request may
/// take.
pub(super) const PATIENCE: Duration = Duration::from_secs(25);
/// Most changes that one order may name.
const MAX_CHANGES: usize = 10_000;

/// Which changes to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListChanges {
    /// Only in this state: `pending` if not given, `all` for every one.
    status: Option<Status>,
    /// Rows in the page, 1 to 200; 50 if not given.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// How the review of a change stands.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    /// It waits.
    #[default]
    Pending,
    /// It is in the project's checkout.
    Applied,
    /// It was taken out of the worktree.
    Rejected,
    /// It was applied, and taken back out.
    Reverted,
    /// Any of these.
    All,
}

/// What to apply.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Apply {
    /// These; all that are pending if not given, but for secret-named files
    /// unless `secrets` says so.
    change_ids: Option<Vec<Uuid>>,
    /// Secret-named files may be among them.
    secrets: bool,
}

/// What to reject.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Reject {
    /// These; all that are pending if not given.
    change_ids: Option<Vec<Uuid>>,
}

/// What to rewind.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rewind {
    /// These. All that were ever applied are nobody's wish.
    #[schema(min_items = 1, max_items = 10000)]
    change_ids: Vec<Uuid>,
}

/// How to apply one change.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ApplyOne {
    /// The file may be a secret-named one.
    secrets: bool,
}

/// What an order came to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Answer {
    /// `done`, `nothing_to_do`, or `underway`: then look at the operation again.
    pub(super) state: &'static str,
    /// What was done; none when there was nothing to do.
    pub(super) operation: Option<Operation>,
    /// Changes that were as wanted before.
    pub(super) already: Vec<Uuid>,
    /// Secret-named files that were left alone: name them, or say `secrets`.
    pub(super) left_alone: Vec<String>,
}

/// Changes of a session, oldest first.
#[utoipa::path(get, path = "/api/sessions/{id}/pending", tag = "changes",
    params(("id" = Uuid, Path, description = "The session"), ListChanges),
    responses((status = 200, body = Page<Change>),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(state): State<AppState>,
    Id(id): Id,
    Params(params): Params<ListChanges>,
) -> ApiResult<Json<Page<Change>>> {
    require(&state, id).await?;
    let slice = slice(params.limit, params.cursor.as_deref())?;
    let status = params.status.unwrap_or_default().word();
    let rows = changes::list(state.store.pool(), id, status, &slice).await?;
    Ok(Json(Page::cut(rows, &slice, Change::cursor)))
}

/// One change with its diff.
#[utoipa::path(get, path = "/api/pending/{id}", tag = "changes",
    params(("id" = Uuid, Path, description = "The change")),
    responses((status = 200, body = Change),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn get(State(state): State<AppState>, Id(id): Id) -> ApiResult<Json<Change>> {
    changes::get(state.store.pool(), id)
        .await?
        .map(Json)
        .ok_or_else(|| ApiError::not_found("change", id))
}

/// Brings pending changes into the project's checkout, all of them or none.
#[utoipa::path(post, path = "/api/sessions/{id}/pending/apply", tag = "changes",
    params(("id" = Uuid, Path, description = "The session")),
    request_body(content = Option<Apply>),
    responses((status = 200, body = Answer), (status = 202, body = Answer),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn apply(
    State(state): State<AppState>,
    Id(id): Id,
    headers: HeaderMap,
    MaybeBody(body): MaybeBody<Apply>,
) -> ApiResult<(StatusCode, Json<Answer>)> {
    let order = Order::Apply {
        changes: named(body.change_ids)?,
        secrets: body.secrets,
    };
    carry_out(&state, id, order, &headers).await
}

/// Takes pending changes back out of the worktree, all of them or none.
#[utoipa::path(post, path = "/api/sessions/{id}/pending/reject", tag = "changes",
    params(("id" = Uuid, Path, description = "The session")),
    request_body(content = Option<Reject>),
    responses((status = 200, body = Answer), (status = 202, body = Answer),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn reject(
    State(state): State<AppState>,
    Id(id): Id,
    headers: HeaderMap,
    MaybeBody(body): MaybeBody<Reject>,
) -> ApiResult<(StatusCode, Json<Answer>)> {
    let order = Order::Reject {
        changes: named(body.change_ids)?,
    };
    carry_out(&state, id, order, &headers).await
}

/// Takes applied changes out of the project's checkout again, all of them or none;
/// their files are pending once more, under new ids.
#[utoipa::path(post, path = "/api/sessions/{id}/pending/rewind", tag = "changes",
    params(("id" = Uuid, Path, description = "The session")),
    request_body(content = Rewind),
    responses((status = 200, body = Answer), (status = 202, body = Answer),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn rewind(
    State(state): State<AppState>,
    Id(id): Id,
    headers: HeaderMap,
    Body(body): Body<Rewind>,
) -> ApiResult<(StatusCode, Json<Answer>)> {
    let order = Order::Rewind {
        changes: named(Some(body.change_ids))?,
    };
    carry_out(&state, id, order, &headers).await
}

/// Brings one pending change into the project's checkout.
#[utoipa::path(post, path = "/api/pending/{id}/apply", tag = "changes",
    params(("id" = Uuid, Path, description = "The change")),
    request_body(content = Option<ApplyOne>),
    responses((status = 200, body = Answer), (status = 202, body = Answer),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn apply_one(
    State(state): State<AppState>,
    Id(id): Id,
    headers: HeaderMap,
    MaybeBody(body): MaybeBody<ApplyOne>,
) -> ApiResult<(StatusCode, Json<Answer>)> {
    let order = Order::Apply {
        changes: vec![ChangeId(id)],
        secrets: body.secrets,
    };
    carry_out(&state, session_of(&state, id).await?, order, &headers).await
}

/// Takes one pending change back out of the worktree.
#[utoipa::path(post, path = "/api/pending/{id}/reject", tag = "changes",
    params(("id" = Uuid, Path, description = "The change")),
    responses((status = 200, body = Answer), (status = 202, body = Answer),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn reject_one(
    State(state): State<AppState>,
    Id(id): Id,
    headers: HeaderMap,
) -> ApiResult<(StatusCode, Json<Answer>)> {
    let order = Order::Reject {
        changes: vec![ChangeId(id)],
    };
    carry_out(&state, session_of(&state, id).await?, order, &headers).await
}

/// Takes one applied change out of the project's checkout again; its file is
/// pending once more, under a new id.
#[utoipa::path(post, path = "/api/pending/{id}/rewind", tag = "changes",
    params(("id" = Uuid, Path, description = "The change")),
    responses((status = 200, body = Answer), (status = 202, body = Answer),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn rewind_one(
    State(state): State<AppState>,
    Id(id): Id,
    headers: HeaderMap,
) -> ApiResult<(StatusCode, Json<Answer>)> {
    let order = Order::Rewind {
        changes: vec![ChangeId(id)],
    };
    carry_out(&state, session_of(&state, id).await?, order, &headers).await
}

/// One operation: how far it is, or what it did.
#[utoipa::path(get, path = "/api/operations/{id}", tag = "changes",
    params(("id" = Uuid, Path, description = "The operation")),
    responses((status = 200, body = Operation),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn operation(
    State(state): State<AppState>,
    Id(id): Id,
) -> ApiResult<Json<Operation>> {
    operations::get(state.store.pool(), id)
        .await?
        .map(Json)
        .ok_or_else(|| ApiError::not_found("operation", id))
}

/// Gives the order, and waits a while for its end.
///
/// # Errors
/// Why it was not carried out.
pub(super) async fn carry_out(
    state: &AppState,
    session: Uuid,
    order: Order,
    headers: &HeaderMap,
) -> ApiResult<(StatusCode, Json<Answer>)> {
    let id = OperationId::new();
    let asked = Asked {
        id,
        session: SessionId(session),
        order,
        caller: by(headers).to_string(),
    };
    let Some(came) = state.tree.operate(asked, PATIENCE).await else {
        let operation = operations::get(state.store.pool(), id.0).await?;
        let Some(operation) = operation else {
            return Err(ApiError::new(
                Code::TreeUnavailable,
                format!(
                    "the order was not taken in time, and it is not known yet whether it will be \
                     carried out: look at GET /api/operations/{id}; if there is none in a minute, \
                     nothing was done"
                ),
            ));
        };
        let answer = Answer {
            state: "underway",
            operation: Some(operation),
            already: Vec::new(),
            left_alone: Vec::new(),
        };
        return Ok((StatusCode::ACCEPTED, Json(answer)));
    };
    let done = came?;
    let operation = match done.id {
        Some(id) => operations::get(state.store.pool(), id.0).await?,
        None => None,
    };
    let answer = Answer {
        state: if operation.is_some() {
            "done"
        } else {
            "nothing_to_do"
        },
        operation,
        already: done.already.iter().map(|id| id.0).collect(),
        left_alone: done.left_alone,
    };
    Ok((StatusCode::OK, Json(answer)))
}

impl Status {
    fn word(self) -> Option<&'static str> {
        match self {
            Self::Pending => Some("pending"),
            Self::Applied => Some("applied"),
            Self::Rejected => Some("rejected"),
            Self::Reverted => Some("reverted"),
            Self::All => None,
        }
    }
}

/// None named means all, which an empty list does not say.
fn named(ids: Option<Vec<Uuid>>) -> ApiResult<Vec<ChangeId>> {
    let Some(ids) = ids else {
        return Ok(Vec::new());
    };
    if ids.is_empty() || ids.len() > MAX_CHANGES {
        let detail = format!("has {} ids; 1 to {MAX_CHANGES} are accepted", ids.len());
        return Err(ApiError::field(Code::InvalidBody, "change_ids", detail));
    }
    Ok(ids.into_iter().map(ChangeId).collect())
}

async fn session_of(state: &AppState, change: Uuid) -> ApiResult<Uuid> {
    let row = changes::get(state.store.pool(), change).await?;
    row.and_then(|row| row.session_id)
        .ok_or_else(|| ApiError::not_found("change", change))
}
