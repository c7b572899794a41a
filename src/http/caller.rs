//! Who calls.

use axum::extract::State;
use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::error::{ApiResult, ProblemBody};
use super::operator::{self, AgentCaller, Ends};
use super::state::{AppState, Origin};
use crate::store::rows::tasks;

/// The caller, as the service sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Seen {
    /// A process that an agent of this service runs, or that nobody can tell
    /// from one: it may create tasks and read.
    agent: bool,
    /// The task that this agent works on.
    task_id: Option<Uuid>,
    /// Where that task works.
    project_id: Option<Uuid>,
}

/// Whose process the caller is, by its connection: a person's program, or one
/// that an agent of this service runs.
#[utoipa::path(get, path = "/api/caller", tag = "access",
    responses((status = 200, body = Seen),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn get(
    State(state): State<AppState>,
    ends: Option<Extension<Ends>>,
) -> ApiResult<Json<Seen>> {
    let agent = match operator::origin(&state, ends.map(|ends| ends.0)).await {
        Origin::Elsewhere => None,
        Origin::Agent(of) => Some(AgentCaller::new(of)),
        Origin::Gone => Some(AgentCaller::new(None)),
    };
    let mut seen = Seen {
        agent: agent.is_some(),
        task_id: None,
        project_id: None,
    };
    if let Some(agent) = agent
        && let Some(task) = agent.task(&state).await?
    {
        seen.task_id = Some(task.0);
        let task = tasks::get(state.store.pool(), task.0).await?;
        seen.project_id = task.map(|task| task.project_id);
    }
    Ok(Json(seen))
}
