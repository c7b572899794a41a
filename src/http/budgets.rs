//! What may be spent, and what was.

use axum::Json;
use axum::extract::State;
use hearth_actors::ids::SessionId;
use hearth_actors::limits::Budget;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::error::{ApiError, ApiResult, Code, ProblemBody};
use super::extract::{Body, Check, Id, Params};
use super::state::AppState;
use crate::store::StoreError;
use crate::store::rows::budgets::BudgetUse;

/// Sessions, and tasks, in an answer when nobody says how many.
const DEFAULT_LIMIT: u32 = 200;
/// Most of them.
const MAX_LIMIT: u32 = 1000;

/// More is no limit: the settings' own bounds.
const MOST_TOKENS: i64 = 1_000_000_000_000_000;
const MOST_DOLLARS: f64 = 1e9;
const MOST_TURNS: i64 = 1_000_000;

/// What a task, and those it asks for, may spend; what is left out is bounded by
/// the settings and the tasks above alone. Only tighter than those.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskBudget {
    /// Tokens in and out together.
    #[schema(minimum = 1)]
    tokens: Option<i64>,
    /// US dollars, above 0.
    cost: Option<f64>,
    /// Milliseconds of its turns, without waiting for people.
    #[schema(minimum = 1)]
    wall_ms: Option<i64>,
    /// Prompted turns, repeated attempts too.
    #[schema(minimum = 1)]
    turns: Option<i64>,
}

/// What all turns of a session may spend together; what is left out is bounded by
/// the settings alone. Only tighter than those.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionBudget {
    /// Tokens in and out together.
    #[schema(minimum = 1)]
    tokens: Option<i64>,
    /// US dollars, above 0.
    cost: Option<f64>,
}

impl TaskBudget {
    pub(super) fn checked(self, check: &mut Check) -> Budget {
        let budget = Budget {
            tokens: self.tokens,
            cost: self.cost,
            wall_ms: self.wall_ms,
            turns: self.turns,
        };
        shape(&budget, "budget/", check);
        budget
    }
}

impl SessionBudget {
    pub(super) fn checked(self, prefix: &str, check: &mut Check) -> Budget {
        let budget = Budget {
            tokens: self.tokens,
            cost: self.cost,
            ..Budget::default()
        };
        shape(&budget, prefix, check);
        budget
    }
}

/// What can be said without knowing what it is for.
fn shape(budget: &Budget, prefix: &str, check: &mut Check) {
    for (name, value, most) in [
        ("tokens", budget.tokens, MOST_TOKENS),
        ("wall_ms", budget.wall_ms, MOST_TOKENS),
        ("turns", budget.turns, MOST_TURNS),
    ] {
        if value.is_some_and(|value| !(1..=most).contains(&value)) {
            check.wrong(
                &format!("{prefix}{name}"),
                format!("is not a whole number from 1 to {most}"),
            );
        }
    }
    if budget
        .cost
        .is_some_and(|cost| !(cost > 0.0 && cost <= MOST_DOLLARS))
    {
        let detail = format!("is not an amount above 0 and up to {MOST_DOLLARS} US dollars");
        check.wrong(&format!("{prefix}cost"), detail);
    }
}

/// Which budgets to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct BudgetParams {
    /// Only of this session and its tasks, and of the day.
    session_id: Option<Uuid>,
    /// Sessions, and tasks, in the answer: 1 to 1000; 200 if not given.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Budgets and what is used of them.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Budgets {
    /// One for each limit.
    items: Vec<BudgetUse>,
}

/// What is used of every budget that still bounds something: of the day (of UTC,
/// by the database's clock), of sessions, and of tasks that are not over. Tokens
/// and money count as agents report them, also those of running turns. Where the
/// settings bound every session or task, only those in which a turn runs are
/// listed, unless `session_id` names one.
#[utoipa::path(get, path = "/api/stats/budgets", tag = "stats", params(BudgetParams),
    responses((status = 200, body = Budgets),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(state): State<AppState>,
    Params(params): Params<BudgetParams>,
) -> ApiResult<Json<Budgets>> {
    let limit = params.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        let detail = format!("limit: {limit} is not a number from 1 to {MAX_LIMIT}");
        return Err(ApiError::new(Code::InvalidQuery, detail));
    }
    let session = params.session_id.map(SessionId);
    let items = state.store.budgets(session, i64::from(limit)).await?;
    Ok(Json(Budgets { items }))
}

/// Bounds what all turns of a session may spend together; `{}` leaves it to the
/// settings. A running turn that has used it up is ended at once, of whatever
/// chat, arena or task that was asked for here; tasks that were parked by it are looked at again at
/// once.
#[utoipa::path(put, path = "/api/sessions/{id}/budget", tag = "sessions", request_body = SessionBudget,
    params(("id" = Uuid, Path, description = "The session")),
    responses((status = 200, body = Budgets),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn set(
    State(state): State<AppState>,
    Id(id): Id,
    Body(new): Body<SessionBudget>,
) -> ApiResult<Json<Budgets>> {
    let mut check = Check::default();
    let budget = new.checked("", &mut check);
    check.done()?;
    let session = SessionId(id);
    match state.store.set_session_budget(session, &budget).await {
        Err(StoreError::NotFound { .. }) => return Err(ApiError::not_found("session", id)),
        other => other?,
    }
    state.tree.look_at_budgets();
    state.tree.wakeup();
    let items = state
        .store
        .budgets(Some(session), i64::from(DEFAULT_LIMIT))
        .await?;
    Ok(Json(Budgets { items }))
}
