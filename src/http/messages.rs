//! Messages: what people say and what agents answer.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use hearth_actors::ids::ChatId;
use hearth_actors::model::Policy;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::agent::{choose, tighten};
use super::budgets::TaskBudget;
use super::error::{ApiError, ApiResult, ProblemBody};
use super::extract::{Body, Check, Id, Params, idempotency_key};
use super::page::{Page, PageParams};
use super::state::AppState;
use super::wishes::Wishes;
use crate::store::rows::chats;
use crate::store::rows::messages::{self, Message};
use crate::store::{Created, MAX_INPUT_CHARS, NewMessage};

/// Something to say to an agent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PostMessage {
    /// The text: 1 to 64 000 Unicode scalar values.
    #[schema(min_length = 1, max_length = 64000)]
    content: String,
    /// Who answers; the service's `default_agent` if not given.
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
    /// What happens when a turn runs in this chat: `queue` if not given.
    #[serde(default)]
    when_busy: WhenBusy,
    /// What the agent may do unasked; only tighter than its own setting.
    #[schema(value_type = Option<String>, example = "ask")]
    policy: Option<Policy>,
    /// What this turn may spend; only tighter than the settings.
    budget: Option<TaskBudget>,
    /// What happens when Hearth stops or crashes in mid-turn: `inbox` (default), or
    /// `retry`: once, on the files as they were before the turn.
    #[serde(default)]
    on_interrupt: OnInterrupt,
}

/// What happens to a task whose owner went away in mid-turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum OnInterrupt {
    /// It waits for a person.
    #[default]
    Inbox,
    /// It is tried again once, after its files were restored.
    Retry,
}

/// What happens when a turn runs in this chat.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "snake_case")]
enum WhenBusy {
    /// The message waits for its turn.
    #[default]
    Queue,
    /// The running turn is cancelled and the message is next.
    Interrupt,
}

/// A committed message or task, to be run.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Accepted {
    /// The task that runs it.
    task_id: Uuid,
    /// The user's message.
    message_id: Uuid,
    /// Its tab.
    chat_id: Uuid,
    /// Its workspace.
    session_id: Uuid,
}

/// Commits a message; its turn starts as soon as the session is free. Follow it
/// by the stream of the session or of the task.
#[utoipa::path(post, path = "/api/chats/{id}/messages", tag = "messages", request_body = PostMessage,
    params(("id" = Uuid, Path, description = "The chat"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key creates nothing twice")),
    responses((status = 202, body = Accepted),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn create(
    State(state): State<AppState>,
    Id(chat): Id,
    headers: HeaderMap,
    Body(new): Body<PostMessage>,
) -> ApiResult<(StatusCode, Json<Accepted>)> {
    let idempotency_key = idempotency_key(&headers)?;
    let mut check = Check::default();
    check.chars("content", &new.content, 1, MAX_INPUT_CHARS);
    let wishes = Wishes {
        model: new.model.as_deref(),
        mode: new.mode_id.as_deref(),
        thinking: new.thinking_option_id.as_deref(),
        features: &new.feature_values,
    };
    wishes.shape(&mut check);
    let budget = new.budget.map(|budget| budget.checked(&mut check));
    check.done()?;
    require(&state, chat).await?;
    let agent = choose(&state, new.agent.as_deref())?;
    let policy = tighten(&state, &agent, new.policy)?;
    wishes.fit(&state, &agent, policy).await?;
    let message = NewMessage {
        chat: ChatId(chat),
        content: new.content,
        agent,
        model: new.model,
        mode: new.mode_id,
        thinking: new.thinking_option_id,
        features: new.feature_values,
        policy,
        budget,
        interrupt: new.when_busy == WhenBusy::Interrupt,
        retry_interrupted: new.on_interrupt == OnInterrupt::Retry,
        retry_of: None,
        idempotency_key,
    };
    let created = state.store.create_message(&message).await?;
    Ok((StatusCode::ACCEPTED, Json(accept(&state, created))))
}

/// The chat's messages with their parts, oldest first.
#[utoipa::path(get, path = "/api/chats/{id}/messages", tag = "messages",
    params(("id" = Uuid, Path, description = "The chat"), PageParams),
    responses((status = 200, body = Page<Message>),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(state): State<AppState>,
    Id(chat): Id,
    Params(params): Params<PageParams>,
) -> ApiResult<Json<Page<Message>>> {
    require(&state, chat).await?;
    let slice = params.slice()?;
    let rows = messages::list(state.store.pool(), chat, &slice).await?;
    Ok(Json(Page::cut(rows, &slice, Message::cursor)))
}

/// Publishes what was just committed and wakes the dispatcher: the insert's own
/// notification takes the longer way.
pub(super) fn accept(state: &AppState, created: Created) -> Accepted {
    state.tree.hub().publish(created.frames);
    state.tree.wakeup();
    Accepted {
        task_id: created.task.0,
        message_id: created.message.0,
        chat_id: created.chat.0,
        session_id: created.session.0,
    }
}

async fn require(state: &AppState, chat: Uuid) -> ApiResult<()> {
    if chats::exists(state.store.pool(), chat).await? {
        Ok(())
    } else {
        Err(ApiError::not_found("chat", chat))
    }
}
