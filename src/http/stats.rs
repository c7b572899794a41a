//! Sums over turns.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::error::{ApiError, ApiResult, Code, ProblemBody};
use super::extract::Params;
use super::state::AppState;
use crate::store::rows::stats::{self, Cost, Grouping, Query};

/// Groups in an answer when nobody says how many.
const DEFAULT_LIMIT: u32 = 100;
/// Most groups in an answer.
const MAX_LIMIT: u32 = 1000;
/// Longest cursor: longer than any key.
const MAX_CURSOR: usize = 200;

/// What to sum up.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CostParams {
    /// `project`, `agent` or `day` (of UTC).
    group_by: Grouping,
    /// Turns claimed then or later: RFC 3339, or a day (`2026-11-21`).
    #[param(example = "2026-11-01")]
    from: Option<String>,
    /// Turns claimed before then: RFC 3339, or a day, which does not belong any more.
    to: Option<String>,
    /// Groups in the answer, 1 to 1000; 100 if not given.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the answer before.
    cursor: Option<String>,
}

/// Sums a group, ordered by key.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Costs {
    /// The groups.
    items: Vec<Cost>,
    /// Pass it as `cursor` to get the next groups; null behind the last one.
    next_cursor: Option<String>,
}

/// Tokens and money by project, agent or day, as the agents themselves report
/// them. A turn counts where it was claimed, and while it runs.
#[utoipa::path(get, path = "/api/stats/costs", tag = "stats", params(CostParams),
    responses((status = 200, body = Costs),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn costs(
    State(state): State<AppState>,
    Params(params): Params<CostParams>,
) -> ApiResult<Json<Costs>> {
    let limit = params.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(invalid(format!(
            "limit: {limit} is not a number from 1 to {MAX_LIMIT}"
        )));
    }
    let after = params.cursor;
    let odd = |text: &String| text.len() > MAX_CURSOR || text.contains('\0');
    if after.as_ref().is_some_and(odd) {
        return Err(invalid(
            "cursor: not one of ours; pass `next_cursor` of the answer before, or none".into(),
        ));
    }
    let from = params.from.map(|text| moment("from", &text)).transpose()?;
    let to = params.to.map(|text| moment("to", &text)).transpose()?;
    if let (Some(from), Some(to)) = (from, to)
        && from >= to
    {
        return Err(invalid(format!(
            "to: {to} is not after from ({from}): give a later time"
        )));
    }
    let query = Query {
        by: params.group_by,
        from,
        to,
        after,
        limit: i64::from(limit) + 1,
    };
    let mut items = stats::costs(state.store.pool(), &query).await?;
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = items.len() > wanted;
    items.truncate(wanted);
    let next_cursor = items.last().filter(|_| more).map(|last| last.key.clone());
    Ok(Json(Costs { items, next_cursor }))
}

fn moment(name: &str, text: &str) -> ApiResult<DateTime<Utc>> {
    let day = || {
        let day: NaiveDate = text.parse().ok()?;
        Some(day.and_hms_opt(0, 0, 0)?.and_utc())
    };
    let exact = || Some(DateTime::parse_from_rfc3339(text).ok()?.to_utc());
    exact()
        .or_else(day)
        // The database's range is narrower than the calendar's.
        .filter(|at| (1970..=9999).contains(&chrono::Datelike::year(at)))
        .ok_or_else(|| {
            let shown: String = text.chars().take(64).collect();
            invalid(format!(
                "{name}: `{}` is no time; write 2026-11-21 or 2026-11-21T08:00:00Z",
                shown.escape_debug()
            ))
        })
}

fn invalid(detail: String) -> ApiError {
    ApiError::new(Code::InvalidQuery, detail)
}
