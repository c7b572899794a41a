//! Whether the service lives, is ready, and what is wrong with it.

use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use hearth_actors::model::Policy;
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;

use super::guard::Caller;
use super::state::{AppState, Readiness};

/// Longest wait for the database's answer.
const DATABASE_DEADLINE: Duration = Duration::from_secs(2);

/// How the service is. Without a token only `status` is shown.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HealthBody {
    /// In one word.
    status: Status,
    /// More, for callers with the token.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
}

/// The service in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    /// All is well.
    Ok,
    /// Not ready for tasks yet.
    Starting,
    /// A stop was asked for.
    Stopping,
    /// The database cannot be reached.
    DatabaseUnavailable,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Details {
    /// Version of the service.
    version: &'static str,
    /// When this process began.
    started_at: DateTime<Utc>,
    /// Whether tasks are accepted and run.
    readiness: Readiness,
    /// The database.
    database: Database,
    /// Agents that tasks may name.
    agents: Vec<Agent>,
    /// Servers that chats of an agent share.
    servers: Vec<Server>,
    /// Runs tasks that name nobody.
    default_agent: Option<String>,
    /// Why the last life ended, if it is known.
    last_restart: Option<String>,
    /// What a person should know.
    warnings: Vec<String>,
    /// What the kernel holds agents to (`enforced: memory, pids, cpu, kill`), or why to
    /// nothing (`not enforced: …`).
    kernel_limits: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Database {
    /// It answers.
    ok: bool,
    /// What it says it is.
    version: Option<String>,
    /// Why it does not answer.
    problem: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Agent {
    /// Its name.
    name: String,
    /// What it may do unasked: `deny`, `ask`, `allow_edits` or `allow_all`.
    #[schema(value_type = String)]
    permission: Policy,
    /// `closed`; `open` while all its chats rest because it failed in several;
    /// `half_open` while one of them tries whether it works again.
    circuit: String,
    /// Until it is tried again, while it rests.
    rests_ms: Option<u64>,
    /// How it failed last, while its circuit is not closed.
    why: Option<String>,
}

fn agents(state: &AppState) -> Vec<Agent> {
    let pool = state.tree.board().get(&["root", "pool"]);
    let resting = pool.map(|pool| pool.detail["agents_resting"].clone());
    let resting = resting.unwrap_or_default();
    let of = |name: &str| {
        let mut resting = resting.as_array().into_iter().flatten();
        resting.find(|agent| agent["agent"] == name)
    };
    let known = state.known();
    let known = known.agents.iter();
    known
        .map(|(name, permission)| {
            let shown = of(name);
            let text = |field: &str| Some(shown?[field].as_str()?.to_owned());
            Agent {
                name: name.clone(),
                permission: *permission,
                circuit: text("state").unwrap_or_else(|| "closed".into()),
                rests_ms: shown.and_then(|shown| shown["ms"].as_u64()),
                why: text("why"),
            }
        })
        .collect()
}

/// A server that chats of an agent share.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Server {
    /// The agent.
    name: String,
    /// `up`, `starting`, `stopping`, `backing_off` or `down`.
    state: String,
    /// How it answers, while it is up.
    health: Option<String>,
    /// What it says that it is.
    version: Option<String>,
    /// Its process.
    pid: Option<i32>,
    /// Resident bytes of its process tree.
    rss_bytes: Option<u64>,
    /// Warm chats that live in it.
    tenants: u64,
    /// Turns that run in it.
    turns: u64,
    /// How often it crashed since the service started.
    crashes: u64,
    /// Why it was last ended.
    last_restart: Option<String>,
    /// When.
    last_restart_at: Option<String>,
    /// The last lines of its standard error.
    stderr: Option<String>,
}

fn servers(state: &AppState) -> Vec<Server> {
    let shown = state.tree.board().of_kind("server").into_iter();
    shown
        .map(|shown| {
            let text = |field: &str| {
                let text = shown.detail[field].as_str().filter(|text| !text.is_empty());
                text.map(str::to_owned)
            };
            let count = |field: &str| shown.detail[field].as_u64().unwrap_or_default();
            Server {
                health: text("health"),
                version: text("version"),
                tenants: count("tenants"),
                turns: count("turns"),
                last_restart: text("last_restart"),
                last_restart_at: text("last_restart_at"),
                stderr: text("stderr"),
                name: shown.name,
                state: shown.state,
                pid: shown.pid,
                rss_bytes: shown.rss_bytes,
                crashes: shown.restarts,
            }
        })
        .collect()
}

/// How the service is; 503 while it is not ready.
#[utoipa::path(get, path = "/api/health", tag = "health", security(()),
    responses((status = 200, body = HealthBody), (status = 503, body = HealthBody)))]
pub(super) async fn health(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
) -> Response {
    let told = state.health.borrow().clone();
    let database = database(state.store.pool()).await;
    let status = judge(told.readiness, database.ok);
    let details = caller.trusted.then(|| Details {
        version: env!("CARGO_PKG_VERSION"),
        started_at: told.started_at,
        readiness: told.readiness,
        database,
        agents: agents(&state),
        servers: servers(&state),
        default_agent: state.default_agent.clone(),
        last_restart: told.last_restart,
        warnings: told.warnings,
        kernel_limits: told.kernel_limits,
    });
    answer(status, details)
}

/// The process answers: nothing else is looked at.
#[utoipa::path(get, path = "/api/health/live", tag = "health", security(()),
    responses((status = 200, body = HealthBody)))]
pub(super) async fn live() -> Response {
    answer(Status::Ok, None)
}

/// Tasks are accepted and run; 503 while not.
#[utoipa::path(get, path = "/api/health/ready", tag = "health", security(()),
    responses((status = 200, body = HealthBody), (status = 503, body = HealthBody)))]
pub(super) async fn ready(State(state): State<AppState>) -> Response {
    let readiness = state.health.borrow().readiness;
    let database = database(state.store.pool()).await.ok;
    answer(judge(readiness, database), None)
}

/// Without a database nothing starts: that is what a person must know first.
fn judge(readiness: Readiness, database: bool) -> Status {
    match readiness {
        Readiness::Stopping => Status::Stopping,
        _ if !database => Status::DatabaseUnavailable,
        Readiness::Starting => Status::Starting,
        Readiness::Ready => Status::Ok,
    }
}

fn answer(status: Status, details: Option<Details>) -> Response {
    let code = match status {
        Status::Ok => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, axum::Json(HealthBody { status, details })).into_response()
}

async fn database(pool: &PgPool) -> Database {
    let asked = sqlx::query_scalar("show server_version").fetch_one(pool);
    let (version, problem) = match tokio::time::timeout(DATABASE_DEADLINE, asked).await {
        Ok(Ok(version)) => (Some(version), None),
        Ok(Err(error)) => (None, Some(format!("it refuses: {error}"))),
        Err(_) => (
            None,
            Some("it does not answer within 2 s; running turns wait for it, new ones too".into()),
        ),
    };
    Database {
        ok: version.is_some(),
        version,
        problem,
    }
}
