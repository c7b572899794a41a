//! Tasks: prompts to run.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use hearth_actors::ids::{ChatId, ProjectId, SessionId, TaskId};
use hearth_actors::model::Policy;
use hearth_actors::outcome::TaskState;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::agent::{choose, tighten};
use super::budgets::TaskBudget;
use super::error::{ApiError, ApiResult, Code, ProblemBody};
use super::extract::{Body, Check, Id, Params, idempotency_key};
use super::guard::Caller;
use super::messages::{Accepted, OnInterrupt, accept};
use super::page::{Page, slice};
use super::state::AppState;
use super::wishes::Wishes;
use crate::store::rows::tasks::{self, Filter, Task, Turn};
use crate::store::{CancelRequest, MAX_INPUT_CHARS, NewTask, StoreError};

/// A prompt to run.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PostTask {
    /// Where it works.
    project_id: Uuid,
    /// The prompt: 1 to 64 000 Unicode scalar values.
    #[schema(min_length = 1, max_length = 64000)]
    input: String,
    /// Who runs it; the service's `default_agent` if not given.
    agent: Option<String>,
    /// Wanted model.
    model: Option<String>,
    /// Wanted mode.
    mode_id: Option<String>,
    /// Wanted thinking option.
    thinking_option_id: Option<String>,
    /// Values of the agent's own options for this turn, by their ids: texts or booleans.
    #[serde(default)]
    #[schema(value_type = Object)]
    feature_values: BTreeMap<String, Value>,
    /// Its workspace; one of its own, not listed, if not given.
    session_id: Option<Uuid>,
    /// Its tab; the session's default chat if not given.
    chat_id: Option<Uuid>,
    /// The task that asks for it. Of an agent's tool it is the task that the
    /// agent works on.
    parent_task_id: Option<Uuid>,
    /// What the agent may do unasked; only tighter than its own setting, `deny`
    /// if not given, as nobody watches.
    #[schema(value_type = Option<String>, example = "deny")]
    policy: Option<Policy>,
    /// What it, and the tasks it asks for, may spend; only tighter than the
    /// settings and than its parent's.
    budget: Option<TaskBudget>,
    /// What happens when Hearth stops or crashes in mid-turn: `inbox` (default), or
    /// `retry`: once, on the files as they were before the turn. A person's to
    /// choose.
    #[serde(default)]
    on_interrupt: OnInterrupt,
}

/// Which tasks to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListTasks {
    /// Only in this state: `pending`, `running`, `blocked`, `completed`, `failed` or `cancelled`.
    #[param(value_type = Option<String>)]
    state: Option<TaskState>,
    /// Only of this project.
    project_id: Option<Uuid>,
    /// Only of this session.
    session_id: Option<Uuid>,
    /// Rows in the page, 1 to 200; 50 if not given.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A task and all its attempts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TaskDetail {
    #[serde(flatten)]
    task: Task,
    /// The attempts, first to last.
    turns: Vec<Turn>,
}

/// What became of a cancel.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Cancelled {
    /// The task.
    task_id: Uuid,
    /// `cancelled`: it will not run. `cancelling`: its turn ends within
    /// seconds; the stream tells when.
    status: &'static str,
}

/// Commits a task; it runs as soon as its session is free.
#[utoipa::path(post, path = "/api/tasks", tag = "tasks", request_body = PostTask,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key creates nothing twice")),
    responses((status = 202, body = Accepted),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn create(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Body(new): Body<PostTask>,
) -> ApiResult<(StatusCode, Json<Accepted>)> {
    if caller.agent.is_some() && new.policy.is_some() {
        return Err(ApiError::field(
            Code::AgentNotAllowed,
            "policy",
            "is a person's to choose: leave it out, and the task runs with `deny`",
        ));
    }
    if caller.agent.is_some() && new.on_interrupt != OnInterrupt::default() {
        return Err(ApiError::field(
            Code::AgentNotAllowed,
            "on_interrupt",
            "is a person's to choose: leave it out",
        ));
    }
    if caller.agent.is_some() && (new.mode_id.is_some() || !new.feature_values.is_empty()) {
        let field = if new.mode_id.is_some() {
            "mode_id"
        } else {
            "feature_values"
        };
        return Err(ApiError::field(
            Code::AgentNotAllowed,
            field,
            "may decide what an agent asks for, and is a person's to choose: leave it out",
        ));
    }
    if caller.agent.is_some() && new.chat_id.is_some() {
        return Err(ApiError::field(
            Code::AgentNotAllowed,
            "chat_id",
            "a person's chat is not an agent's to speak in: leave it out, and the task runs in a process of its own",
        ));
    }
    let idempotency_key = idempotency_key(&headers)?;
    let mut check = Check::default();
    check.chars("input", &new.input, 1, MAX_INPUT_CHARS);
    let wishes = Wishes {
        model: new.model.as_deref(),
        mode: new.mode_id.as_deref(),
        thinking: new.thinking_option_id.as_deref(),
        features: &new.feature_values,
    };
    wishes.shape(&mut check);
    let budget = new.budget.map(|budget| budget.checked(&mut check));
    check.done()?;
    let agent = choose(&state, new.agent.as_deref())?;
    let policy = tighten(&state, &agent, new.policy)?.unwrap_or(Policy::Deny);
    let named = new.parent_task_id.map(TaskId);
    let parent = match &caller.agent {
        Some(agent) => {
            let parent = agent.parent(&state, named).await?;
            stays_at_home(&state, parent, new.project_id, new.session_id).await?;
            Some(parent)
        }
        None => named,
    };
    if let Some(parent) = parent {
        no_freer_than(&state, parent, policy).await?;
    }
    wishes.fit(&state, &agent, Some(policy)).await?;
    let task = NewTask {
        project: ProjectId(new.project_id),
        input: new.input,
        agent: Some(agent),
        model: new.model,
        mode: new.mode_id,
        thinking: new.thinking_option_id,
        features: new.feature_values,
        session: new.session_id.map(SessionId),
        chat: new.chat_id.map(ChatId),
        parent,
        policy: Some(policy),
        budget,
        retry_interrupted: new.on_interrupt == OnInterrupt::Retry,
        idempotency_key,
    };
    let created = state.store.create_task(&task).await?;
    Ok((StatusCode::ACCEPTED, Json(accept(&state, created))))
}

/// What an agent asks for works where the agent does: in its project, and in no
/// session of other people's.
async fn stays_at_home(
    state: &AppState,
    parent: TaskId,
    project: Uuid,
    session: Option<Uuid>,
) -> ApiResult<()> {
    let Some(parent) = tasks::get(state.store.pool(), parent.0).await? else {
        return Ok(());
    };
    if project != parent.project_id {
        return Err(ApiError::field(
            Code::AgentNotAllowed,
            "project_id",
            format!(
                "is not the project that the caller works in, which is {}",
                parent.project_id
            ),
        ));
    }
    if session.is_some() && session != parent.session_id {
        return Err(ApiError::field(
            Code::AgentNotAllowed,
            "session_id",
            "is not the session that the caller works in: leave it out, and the task gets a workspace of its own",
        ));
    }
    Ok(())
}

/// What a task asks for may do no more than the task itself.
async fn no_freer_than(state: &AppState, parent: TaskId, policy: Policy) -> ApiResult<()> {
    // The store tells of a parent that is not there.
    let Some((agent, given)) = state.store.policy_of(parent).await? else {
        return Ok(());
    };
    let agent = agent.or_else(|| state.default_agent.clone());
    let own = agent.and_then(|agent| state.known().agents.get(&agent).copied());
    let allowed = own
        .unwrap_or(Policy::Deny)
        .min(given.unwrap_or(Policy::AllowAll));
    if policy > allowed {
        return Err(ApiError::field(
            Code::InvalidBody,
            "policy",
            format!("is looser than its parent's: task {parent} runs with `{allowed}`"),
        ));
    }
    Ok(())
}

/// Tasks with the outcome of their latest attempt, newest first.
#[utoipa::path(get, path = "/api/tasks", tag = "tasks", params(ListTasks),
    responses((status = 200, body = Page<Task>),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(state): State<AppState>,
    Params(params): Params<ListTasks>,
) -> ApiResult<Json<Page<Task>>> {
    let slice = slice(params.limit, params.cursor.as_deref())?;
    let filter = Filter {
        state: params.state.map(TaskState::as_str),
        project: params.project_id,
        session: params.session_id,
    };
    let rows = tasks::list(state.store.pool(), &filter, &slice).await?;
    Ok(Json(Page::cut(rows, &slice, Task::cursor)))
}

/// One task with all its attempts.
#[utoipa::path(get, path = "/api/tasks/{id}", tag = "tasks",
    params(("id" = Uuid, Path, description = "The task")),
    responses((status = 200, body = TaskDetail),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn get(State(state): State<AppState>, Id(id): Id) -> ApiResult<Json<TaskDetail>> {
    let Some(task) = tasks::get(state.store.pool(), id).await? else {
        return Err(ApiError::not_found("task", id));
    };
    let turns = tasks::turns(state.store.pool(), id).await?;
    Ok(Json(TaskDetail { task, turns }))
}

/// Cancels a task: at once while it waits, within seconds while it runs.
#[utoipa::path(post, path = "/api/tasks/{id}/cancel", tag = "tasks",
    params(("id" = Uuid, Path, description = "The task")),
    responses((status = 200, body = Cancelled), (status = 202, body = Cancelled),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn cancel(
    State(state): State<AppState>,
    Id(id): Id,
) -> ApiResult<(StatusCode, Json<Cancelled>)> {
    let requested = match state.store.request_cancel(TaskId(id)).await {
        Err(StoreError::NotFound { .. }) => return Err(ApiError::not_found("task", id)),
        other => other?,
    };
    let (code, status) = match requested {
        CancelRequest::Cancelled(frames) => {
            state.tree.hub().publish(frames);
            (StatusCode::OK, "cancelled")
        }
        CancelRequest::Requested(frames) => {
            state.tree.hub().publish(frames);
            state.tree.cancel(TaskId(id));
            (StatusCode::ACCEPTED, "cancelling")
        }
        CancelRequest::Ended => {
            return Err(ApiError::new(
                Code::TaskEnded,
                format!("task {id} has ended; its outcome is in GET /api/tasks/{id}"),
            ));
        }
    };
    let task_id = id;
    Ok((code, Json(Cancelled { task_id, status })))
}
