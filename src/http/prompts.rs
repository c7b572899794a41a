//! Requests of agents that wait for a human.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use hearth_actors::event::AskKind;
use hearth_actors::ids::{PromptId, TaskId};
use hearth_actors::prompt::{AnsweredBy, PromptState};
use hearth_actors::tree::handle::Refusal;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::error::{ApiError, ApiResult, Code, ProblemBody};
use super::extract::{Body, Id, Params};
use super::page::{Page, slice};
use super::state::{AppState, CLI_AGENT};
use crate::store::rows::prompts::{self, Choice, Filter, Prompt};

/// Which prompts to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListPrompts {
    /// Only in this state: `open`, `answered`, `cancelled` or `expired`.
    #[param(value_type = Option<String>)]
    state: Option<PromptState>,
    /// Only of this session.
    session_id: Option<Uuid>,
    /// Only of this task.
    task_id: Option<Uuid>,
    /// Rows in the page, 1 to 200; 50 if not given.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// An answer: one of the two.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PostAnswer {
    /// The id of one of the prompt's `options`.
    option_id: Option<String>,
    /// The first option of this meaning: `allow_once`, `allow_always`,
    /// `reject_once` or `reject_always`.
    #[schema(value_type = Option<String>, example = "allow_once")]
    kind: Option<AskKind>,
}

/// Requests for a human's consent, newest first.
#[utoipa::path(get, path = "/api/prompts", tag = "prompts", params(ListPrompts),
    responses((status = 200, body = Page<Prompt>),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(state): State<AppState>,
    Params(params): Params<ListPrompts>,
) -> ApiResult<Json<Page<Prompt>>> {
    let slice = slice(params.limit, params.cursor.as_deref())?;
    let filter = Filter {
        state: params.state.map(PromptState::as_str),
        session: params.session_id,
        task: params.task_id,
    };
    let rows = prompts::list(state.store.pool(), &filter, &slice).await?;
    Ok(Json(Page::cut(rows, &slice, Prompt::cursor)))
}

/// One request, and how it was settled.
#[utoipa::path(get, path = "/api/prompts/{id}", tag = "prompts",
    params(("id" = Uuid, Path, description = "The prompt")),
    responses((status = 200, body = Prompt),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn get(State(state): State<AppState>, Id(id): Id) -> ApiResult<Json<Prompt>> {
    find(&state, id).await.map(Json)
}

/// Answers a request; the agent goes on with the answer. The first answer wins:
/// the same one again is 200, another is 409 with what was answered. 410 when
/// the turn that asked is over.
#[utoipa::path(post, path = "/api/prompts/{id}/answer", tag = "prompts", request_body = PostAnswer,
    params(("id" = Uuid, Path, description = "The prompt")),
    responses((status = 200, body = Prompt),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn answer(
    State(state): State<AppState>,
    Id(id): Id,
    headers: HeaderMap,
    Body(body): Body<PostAnswer>,
) -> ApiResult<Json<Prompt>> {
    let prompt = find(&state, id).await?;
    let wanted = choose(&prompt, &body)?.clone();
    if prompt.state != PromptState::Open.as_str() {
        return settled(prompt, &wanted);
    }
    let (task, asked) = (TaskId(prompt.task_id), PromptId(id));
    let option = wanted.id.clone();
    let told = state.tree.answer(task, asked, option, by(&headers)).await;
    // Whatever the tree says, the row knows who won.
    let prompt = find(&state, id).await?;
    if prompt.state != PromptState::Open.as_str() {
        return settled(prompt, &wanted);
    }
    Err(match told {
        Err(Refusal::Unavailable(why)) => Refusal::Unavailable(why).into(),
        _ => ApiError::new(
            Code::TreeUnavailable,
            format!("the turn that asked is about to end: look at GET /api/prompts/{id}"),
        )
        .with_header(header::RETRY_AFTER, "1"),
    })
}

async fn find(state: &AppState, id: Uuid) -> ApiResult<Prompt> {
    prompts::get(state.store.pool(), id)
        .await?
        .ok_or_else(|| ApiError::not_found("prompt", id))
}

/// What a settled prompt means for somebody who wanted to answer so.
fn settled(prompt: Prompt, wanted: &Choice) -> ApiResult<Json<Prompt>> {
    let id = prompt.id;
    if prompt.state == PromptState::Answered.as_str() {
        return match &prompt.answer {
            Some(answer) if answer.id == wanted.id => Ok(Json(prompt)),
            answer => Err(ApiError::new(
                Code::PromptAnswered,
                format!(
                    "it was answered {} ({}) before; see GET /api/prompts/{id}",
                    answer.as_ref().map_or("otherwise", |answer| &answer.id),
                    prompt.answered_by.as_deref().unwrap_or("by somebody"),
                ),
            )),
        };
    }
    Err(ApiError::new(
        Code::PromptClosed,
        format!(
            "it is {}: {}",
            prompt.state,
            prompt.reason.as_deref().unwrap_or("its turn is over")
        ),
    ))
}

/// The option that is meant.
fn choose<'a>(prompt: &'a Prompt, body: &PostAnswer) -> ApiResult<&'a Choice> {
    let (name, found, said) = match (&body.option_id, body.kind) {
        (Some(id), None) => {
            let found = prompt.options.iter().find(|option| option.id == *id);
            ("option_id", found, id.chars().take(64).collect())
        }
        (None, Some(kind)) => {
            let word = serde_json::to_value(kind).unwrap_or_default();
            let word = word.as_str().unwrap_or_default().to_owned();
            let found = prompt.options.iter().find(|option| option.kind == word);
            ("kind", found, word)
        }
        _ => {
            return Err(ApiError::new(
                Code::InvalidBody,
                "give either `option_id` or `kind`",
            ));
        }
    };
    found.ok_or_else(|| {
        let offered: Vec<String> = prompt
            .options
            .iter()
            .map(|option| format!("{} ({})", option.id, option.kind))
            .collect();
        ApiError::field(
            Code::UnknownOption,
            name,
            format!(
                "`{}` is not on offer; there is: {}",
                said.escape_debug(),
                offered.join(", ")
            ),
        )
    })
}

/// For the record, not for a decision.
pub(super) fn by(headers: &HeaderMap) -> AnsweredBy {
    let agent = headers.get(header::USER_AGENT);
    let agent = agent.and_then(|agent| agent.to_str().ok());
    if agent.is_some_and(|agent| agent.starts_with(CLI_AGENT)) {
        AnsweredBy::Cli
    } else {
        AnsweredBy::Http
    }
}
