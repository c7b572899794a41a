//! What is counted, for Prometheus. A scrape touches no database.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use hearth_actors::tree::board::Snapshot;

use super::error::ProblemBody;
use super::state::{AppState, Readiness};
use crate::metrics::{CONTENT_TYPE, Now};

/// Counters, gauges and histograms in the OpenMetrics text format.
#[utoipa::path(get, path = "/metrics", tag = "health",
    responses((status = 200, body = String, content_type = "application/openmetrics-text"),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn metrics(State(state): State<AppState>) -> impl IntoResponse {
    let text = state.metrics.text(&now(&state));
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text)
}

/// What is only a picture of this moment: read off the board.
fn now(state: &AppState) -> Now {
    let board = state.tree.board();
    let pool = board.get(&["root", "pool"]).unwrap_or_default();
    let number = |field: &str| pool.detail[field].as_u64();
    let sessions = board.of_kind("session");
    let mut now = Now {
        ready: state.health.borrow().readiness == Readiness::Ready,
        live: number("live").unwrap_or(0),
        max_live: number("max_live").unwrap_or(0),
        memory: number("memory_bytes").unwrap_or(0),
        memory_cap: number("memory_cap"),
        processes: number("processes").unwrap_or(0),
        ..Now::default()
    };
    let weights = &pool.detail["weights"];
    for session in &sessions {
        let agent = agent_of(session);
        let state = (agent.clone(), session.state.clone());
        *now.sessions.entry(state).or_default() += 1;
        if let Some(bytes) = weights[session.name.as_str()].as_u64() {
            *now.trees.entry(agent).or_default() += bytes;
        }
    }
    let resting = pool.detail["agents_resting"].as_array();
    let resting = resting.into_iter().flatten();
    let resting: BTreeMap<&str, bool> = resting
        .filter_map(|agent| Some((agent["agent"].as_str()?, true)))
        .collect();
    for agent in state.known().agents.keys() {
        let open = resting.contains_key(agent.as_str());
        now.circuits.insert(agent.clone(), open);
    }
    now
}

fn agent_of(session: &Snapshot) -> String {
    let agent = session.detail["agent"].as_str();
    agent.unwrap_or("other").to_owned()
}
