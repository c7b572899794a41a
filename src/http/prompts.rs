//! Requests of agents that wait for a human.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use hearth_actors::event::{AskKind, AskOption};
use hearth_actors::ids::{PromptId, TaskId};
use hearth_actors::prompt::{AnsweredBy, PromptState, Settled};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::error::{ApiError, ApiResult, Code, ProblemBody};
use super::extract::{Body, Id, Params};
use super::page::{Page, slice};
use super::state::{AppState, CLI_AGENT, Readiness};
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

/// Longest wait for an answer to be written down.
const PATIENCE: Duration = Duration::from_secs(20);
/// The same from when the service begins to stop.
const LAST_PATIENCE: Duration = Duration::from_millis(1500);
/// Between two tries to give an answer to a turn that is about to end.
const AGAIN: Duration = Duration::from_millis(50);

/// Longest answer in one's own words, in characters.
const MAX_TEXT: usize = 4000;

/// An answer: one of the three.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PostAnswer {
    /// The id of one of the prompt's `options`.
    option_id: Option<String>,
    /// The first option of this meaning: `allow_once`, `allow_always`,
    /// `reject_once` or `reject_always`.
    #[schema(value_type = Option<String>, example = "allow_once")]
    kind: Option<Meaning>,
    /// The answer to a question that takes words: 1 to 4000 characters.
    text: Option<String>,
}

/// Meanings that name an option.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Meaning {
    AllowOnce,
    AllowAlways,
    RejectOnce,
    RejectAlways,
}

impl Meaning {
    fn as_str(self) -> &'static str {
        match self {
            Self::AllowOnce => "allow_once",
            Self::AllowAlways => "allow_always",
            Self::RejectOnce => "reject_once",
            Self::RejectAlways => "reject_always",
        }
    }
}

/// Requests for a human's consent or answer, newest first.
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
/// the same one again is 200, another is 409 with what was answered. Where the
/// agent is gone (`detached_at`), the last answer starts it again, in its own
/// session. 410 when nobody wants the answer any more.
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
    let wanted = choose(&prompt, &body)?;
    let by = by(&headers);
    let late = over(&state);
    tokio::pin!(late);
    tokio::select! {
        biased;
        prompt = put(&state, prompt, &wanted, by) => settled(prompt?, &wanted),
        () = &mut late => Err(ApiError::new(
            Code::TreeUnavailable,
            format!(
                "nobody knows yet whether the answer came in time: look at GET /api/prompts/{id}, \
                 or give it again"
            ),
        )
        .with_header(header::RETRY_AFTER, "1")),
    }
}

/// Gives the answer to whoever has the prompt, until its row says that it is
/// settled: the agent may go while the answer is on its way to it.
async fn put(
    state: &AppState,
    mut prompt: Prompt,
    wanted: &AskOption,
    by: AnsweredBy,
) -> ApiResult<Prompt> {
    let id = PromptId(prompt.id);
    while prompt.state == PromptState::Open.as_str() {
        let was_live = prompt.detached_at.is_none();
        if was_live {
            let task = TaskId(prompt.task_id);
            // What it says is said by the row, too.
            let _ = state.tree.answer(task, id, wanted.clone(), by).await;
        } else {
            let settled = Settled::answered(wanted.clone(), by);
            let frames = state.store.answer_detached(id, &settled).await?;
            state.tree.hub().publish(frames);
            state.tree.wakeup();
        }
        // Whoever won, the row knows.
        prompt = find(state, id.0).await?;
        let is_open = prompt.state == PromptState::Open.as_str();
        if is_open && was_live == prompt.detached_at.is_none() {
            tokio::time::sleep(AGAIN).await;
        }
    }
    Ok(prompt)
}

/// Returns when whoever answers has waited long enough.
async fn over(state: &AppState) {
    let mut health = state.health.clone();
    let stops = health.wait_for(|health| health.readiness == Readiness::Stopping);
    if tokio::time::timeout(PATIENCE, stops).await.is_ok() {
        tokio::time::sleep(LAST_PATIENCE).await;
    }
}

async fn find(state: &AppState, id: Uuid) -> ApiResult<Prompt> {
    prompts::get(state.store.pool(), id)
        .await?
        .ok_or_else(|| ApiError::not_found("prompt", id))
}

/// What a settled prompt means for somebody who wanted to answer so.
fn settled(prompt: Prompt, wanted: &AskOption) -> ApiResult<Json<Prompt>> {
    let id = prompt.id;
    if prompt.state == PromptState::Answered.as_str() {
        let same = |answer: &Choice| answer.id == wanted.id && answer.label == wanted.label;
        return match &prompt.answer {
            Some(answer) if same(answer) => Ok(Json(prompt)),
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

/// The answer that is meant.
fn choose(prompt: &Prompt, body: &PostAnswer) -> ApiResult<AskOption> {
    let is_text = |option: &&AskOption| option.kind == AskKind::Text;
    let options: Vec<AskOption> = prompt.options.iter().filter_map(Choice::option).collect();
    let (name, found, said) = match (&body.option_id, body.kind, &body.text) {
        (Some(id), None, None) => {
            let found = options.iter().find(|option| option.id == *id);
            // Words are said, not chosen.
            ("option_id", found.filter(|o| !is_text(o)), id.as_str())
        }
        (None, Some(kind), None) => {
            let of = |option: &&AskOption| kind_of(option.kind) == Some(kind.as_str());
            ("kind", options.iter().find(of), kind.as_str())
        }
        (None, None, Some(text)) => match options.iter().find(is_text) {
            Some(option) => return words(option, text),
            None => ("text", None, text.as_str()),
        },
        _ => {
            return Err(ApiError::new(
                Code::InvalidBody,
                "give one of `option_id`, `kind` and `text`",
            ));
        }
    };
    found.cloned().ok_or_else(|| {
        let offered: Vec<String> = options.iter().map(offer).collect();
        let said: String = said.chars().take(64).collect();
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

fn kind_of(kind: AskKind) -> Option<&'static str> {
    match kind {
        AskKind::AllowOnce => Some("allow_once"),
        AskKind::AllowAlways => Some("allow_always"),
        AskKind::RejectOnce => Some("reject_once"),
        AskKind::RejectAlways => Some("reject_always"),
        AskKind::Choice | AskKind::Text => None,
    }
}

fn offer(option: &AskOption) -> String {
    match option.kind {
        AskKind::Text => "`text`".into(),
        kind => format!("{} ({})", option.id, kind_of(kind).unwrap_or("choice")),
    }
}

/// The words, where the option takes such ones.
fn words(option: &AskOption, text: &str) -> ApiResult<AskOption> {
    let chars = text.chars().count();
    let problem = match option.id.as_str() {
        _ if chars > MAX_TEXT => Some(format!("has {chars} characters, may have 1 to {MAX_TEXT}")),
        _ if text.trim().is_empty() => Some("is empty".into()),
        "integer" if text.trim().parse::<i64>().is_err() => Some("is no whole number".into()),
        "number" if !text.trim().parse::<f64>().is_ok_and(f64::is_finite) => {
            Some("is no number".into())
        }
        _ => None,
    };
    match problem {
        Some(problem) => Err(ApiError::field(Code::InvalidBody, "text", problem)),
        None => Ok(AskOption {
            label: text.to_owned(),
            ..option.clone()
        }),
    }
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
