//! Parts of ids, as people type them.

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::error::{ApiError, ApiResult, Code, ProblemBody};
use super::extract::Params;
use super::state::AppState;
use crate::store::rows::ids::{self, Fitting, KINDS};

/// Fewest digits that are looked for: fewer are a slip of the finger more often
/// than an id.
pub const FEWEST_DIGITS: usize = 4;
/// Digits of a whole id.
const ALL_DIGITS: usize = 32;
/// Candidates in an answer.
const MAX_SHOWN: usize = 20;

/// Which of them.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Among {
    /// Only these, by commas: `session`, `chat`, `task`, `checkpoint`, `change`,
    /// `prompt`, `arena`; all if not given.
    kind: Option<String>,
    /// Only of this session.
    session_id: Option<Uuid>,
}

/// Everything that may be meant.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Candidates {
    /// The newest first, 20 at most.
    items: Vec<Fitting>,
    /// There are others.
    more: bool,
}

/// What has an id that begins or ends with these digits: 4 or more hexadecimal
/// ones, dashes do not count.
#[utoipa::path(get, path = "/api/ids/{digits}", tag = "ids",
    params(("digits" = String, Path, description = "Four or more of the first or last digits"), Among),
    responses((status = 200, body = Candidates),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn find(
    State(state): State<AppState>,
    Path(typed): Path<String>,
    Params(among): Params<Among>,
) -> ApiResult<Json<Candidates>> {
    let digits = typed.replace('-', "").to_ascii_lowercase();
    let fits = (FEWEST_DIGITS..=ALL_DIGITS).contains(&digits.len());
    if !fits || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        let shown: String = typed.chars().take(64).collect();
        return Err(ApiError::new(
            Code::InvalidId,
            format!(
                "`{}` is no part of an id: {FEWEST_DIGITS} to {ALL_DIGITS} hexadecimal digits are",
                shown.escape_debug()
            ),
        ));
    }
    let kinds: Vec<String> = match &among.kind {
        Some(kinds) => kinds.split(',').map(str::to_owned).collect(),
        None => KINDS.map(str::to_owned).to_vec(),
    };
    if let Some(wrong) = kinds.iter().find(|kind| !KINDS.contains(&kind.as_str())) {
        let shown: String = wrong.chars().take(64).collect();
        return Err(ApiError::new(
            Code::InvalidQuery,
            format!(
                "kind: `{}` is none of {}",
                shown.escape_debug(),
                KINDS.join(", ")
            ),
        ));
    }
    let one_more = MAX_SHOWN as i64 + 1;
    let pool = state.store.pool();
    let mut items = ids::fitting(pool, &digits, &kinds, among.session_id, one_more).await?;
    let more = items.len() > MAX_SHOWN;
    items.truncate(MAX_SHOWN);
    Ok(Json(Candidates { items, more }))
}
