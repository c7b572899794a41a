//! Who runs a request, and how freely.

use hearth_actors::ids::AgentName;
use hearth_actors::model::Policy;

use super::error::{ApiError, ApiResult, Code};
use super::state::Shared;

/// The agent that was named, else the default one.
///
/// # Errors
/// It is not configured, or none was named and there is no default. The known
/// ones are listed.
pub(super) fn choose(state: &Shared, named: Option<&str>) -> ApiResult<AgentName> {
    let agents = &state.known().agents;
    let known = || {
        let names: Vec<&str> = agents.keys().map(String::as_str).collect();
        names.join(", ")
    };
    match named.or(state.default_agent.as_deref()) {
        Some(name) if agents.contains_key(name) => Ok(name.into()),
        Some(name) => {
            let shown: String = name.chars().take(64).collect();
            let detail = format!(
                "`{}` is not configured; known: {}",
                shown.escape_debug(),
                known()
            );
            Err(ApiError::field(Code::UnknownAgent, "agent", detail))
        }
        None => {
            let detail = format!("is needed, as no default_agent is set; known: {}", known());
            Err(ApiError::field(Code::UnknownAgent, "agent", detail))
        }
    }
}

/// A request may only tighten what its agent is allowed.
///
/// # Errors
/// It asks for more.
pub(super) fn tighten(
    state: &Shared,
    agent: &AgentName,
    wanted: Option<Policy>,
) -> ApiResult<Option<Policy>> {
    let allowed = state
        .known()
        .agents
        .get(agent.as_str())
        .copied()
        .unwrap_or_default();
    match wanted {
        Some(wanted) if wanted > allowed => Err(ApiError::field(
            Code::InvalidBody,
            "policy",
            format!(
                "is looser than agent `{agent}` allows: its `permission` is set in hearth.toml"
            ),
        )),
        wanted => Ok(wanted),
    }
}
