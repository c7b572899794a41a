//! The agents that are configured: what was found of each, and new looks.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::{ApiError, ApiResult, Code, ProblemBody};
use super::extract::Body;
use super::state::{AppState, Shared};
use crate::store::rows::providers::{self, Provider};

/// Most agents that one request may name.
const MAX_NAMED: usize = 100;

/// One agent, and what is known of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProviderView {
    /// What was found.
    #[serde(flatten)]
    provider: Provider,
    /// Tasks may name it.
    configured: bool,
    /// It is another name for that agent.
    alias_of: Option<String>,
    /// It is being looked at, or will be.
    looking: bool,
}

/// All agents.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Providers {
    /// By name.
    items: Vec<ProviderView>,
}

/// Which agents to look at.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PostProbe {
    /// Their names; all if not given.
    agents: Option<Vec<String>>,
}

/// What will be looked at.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Probing {
    /// The agents; `looking` of `GET /api/providers` tells when it is done.
    agents: Vec<String>,
}

/// The agents with versions, modes, models, options and commands, and the fault
/// and its cure where something is wrong. A failed look keeps what the last good
/// one found.
#[utoipa::path(get, path = "/api/providers", tag = "providers",
    responses((status = 200, body = Providers),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn list(State(state): State<AppState>) -> ApiResult<Json<Providers>> {
    let found = providers::list(state.store.pool()).await?;
    let pending = state.looks.pending();
    let row = |name: &str| found.iter().find(|row| row.name == name).cloned();
    let known = state.known();
    let mut items: Vec<ProviderView> = known
        .agents
        .keys()
        .map(|name| {
            let target = definition(&state, name);
            let mut provider = row(&target).unwrap_or_default();
            provider.name.clone_from(name);
            ProviderView {
                provider,
                configured: true,
                looking: pending.contains(&target),
                alias_of: (target != *name).then_some(target),
            }
        })
        .collect();
    let others = found
        .iter()
        .filter(|row| !known.agents.contains_key(&row.name));
    items.extend(others.map(|row| ProviderView {
        provider: row.clone(),
        configured: false,
        alias_of: None,
        looking: pending.contains(&row.name),
    }));
    items.sort_by(|a, b| a.provider.name.cmp(&b.provider.name));
    Ok(Json(Providers { items }))
}

/// Looks at agents anew, one after the other and beside running turns: each is
/// started, opens one session, and is stopped again. No model is called.
#[utoipa::path(post, path = "/api/providers/probe", tag = "providers", request_body = PostProbe,
    responses((status = 202, body = Probing),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn probe(
    State(state): State<AppState>,
    Body(wanted): Body<PostProbe>,
) -> ApiResult<(StatusCode, Json<Probing>)> {
    let known = state.looks.names();
    let mut agents = match wanted.agents {
        None => known,
        Some(named) if named.is_empty() || named.len() > MAX_NAMED => {
            let detail = format!("has {} names; 1 to {MAX_NAMED} are accepted", named.len());
            return Err(ApiError::field(Code::InvalidBody, "agents", detail));
        }
        Some(named) => named
            .iter()
            .map(|name| {
                let target = definition(&state, name);
                if known.contains(&target) {
                    return Ok(target);
                }
                let shown: String = name.chars().take(64).collect();
                let detail = format!(
                    "names `{}`, which is not configured; known: {}",
                    shown.escape_debug(),
                    known.join(", ")
                );
                Err(ApiError::field(Code::UnknownAgent, "agents", detail))
            })
            .collect::<ApiResult<_>>()?,
    };
    agents.sort();
    agents.dedup();
    state.looks.ask(&agents);
    Ok((StatusCode::ACCEPTED, Json(Probing { agents })))
}

/// The agent that a name stands for.
pub(super) fn definition(state: &Shared, name: &str) -> String {
    let known = state.known();
    let target = known.aliases.get(name).map_or(name, String::as_str);
    target.to_owned()
}
