//! Arenas: one prompt for several agents, and the table that compares them.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use hearth_actors::arena::CheckCommand;
use hearth_actors::ids::{ArenaId, ProjectId, SessionId, TaskId};
use hearth_actors::model::Policy;
use hearth_actors::review::Order;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::agent::{choose, tighten};
use super::error::{ApiError, ApiResult, Code, ProblemBody};
use super::extract::{Body, Check, Id, Ids, Params, idempotency_key};
use super::page::{Page, slice};
use super::review::carry_out;
use super::state::{AppState, Shared};
use super::wishes::Wishes;
use crate::store::rows::arenas::{self, Arena};
use crate::store::rows::operations::Operation;
use crate::store::{
    CancelArena, MAX_INPUT_CHARS, NewArena, NewContestant, NewGround, Select, StoreError,
};

/// Those who may compete at a time.
const CONTESTANTS: std::ops::RangeInclusive<usize> = 2..=5;
/// Longest run of a check if none is given, in milliseconds: 10 minutes.
const DEFAULT_TIMEOUT_MS: u64 = 600_000;
/// Longest run of a check that may be given, in milliseconds: an hour.
const MAX_TIMEOUT_MS: u64 = 3_600_000;
/// Words of a check's command.
const MAX_WORDS: usize = 64;
/// Bytes of one of them.
const MAX_WORD_BYTES: usize = 4096;

/// An arena to begin.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PostArena {
    /// Starts from this session's files as they are; the winner's changes come back there.
    session_id: Option<Uuid>,
    /// Starts from this project's HEAD; not together with `session_id`.
    project_id: Option<Uuid>,
    /// The prompt of all: 1 to 64 000 Unicode scalar values.
    #[schema(min_length = 1, max_length = 64000)]
    input: String,
    /// Two to five.
    #[schema(min_items = 2, max_items = 5)]
    contestants: Vec<PostContestant>,
    /// What judges the results by its exit code.
    check: Option<PostCheck>,
    /// What the agents may do unasked; only tighter than their own settings,
    /// which apply if not given.
    #[schema(value_type = Option<String>, example = "allow_edits")]
    policy: Option<Policy>,
}

/// One who competes. The same agent may do so several times.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PostContestant {
    /// Who.
    agent: String,
    /// Wanted model.
    model: Option<String>,
    /// Wanted mode.
    mode_id: Option<String>,
    /// Wanted thinking option.
    thinking_option_id: Option<String>,
    /// Values of the agent's own options, by their ids: texts or booleans.
    #[serde(default)]
    #[schema(value_type = Object)]
    feature_values: BTreeMap<String, Value>,
}

/// A command that runs in each contestant's worktree after its turn.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PostCheck {
    /// The program and its arguments; no shell reads them.
    #[schema(min_items = 1, max_items = 64, example = json!(["cargo", "test"]))]
    command: Vec<String>,
    /// Killed after so many milliseconds, 1 to 3 600 000; 600 000 if not given.
    #[schema(minimum = 1, maximum = 3_600_000)]
    timeout_ms: Option<u64>,
}

/// A committed arena.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AcceptedArena {
    /// Its id.
    arena_id: Uuid,
    /// Who competes.
    tasks: Vec<Entered>,
}

/// One who competes.
#[derive(Debug, Serialize, ToSchema)]
struct Entered {
    /// Its task.
    task_id: Uuid,
    /// Its workspace.
    session_id: Uuid,
    /// Who.
    agent: Option<String>,
}

/// Which arenas to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListArenas {
    /// Only of this project.
    project_id: Option<Uuid>,
    /// Only those that started from this session.
    session_id: Option<Uuid>,
    /// Rows in the page, 1 to 200; 50 if not given.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// What became of a cancel.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CancelledArena {
    /// The arena.
    arena_id: Uuid,
    /// `cancelling`: what runs ends within seconds. `cancelled`: it is over.
    status: &'static str,
}

/// Commits an arena: each contestant gets the same prompt in a worktree of its
/// own that starts from the same commit, uncommitted files of the session in it.
#[utoipa::path(post, path = "/api/arena", tag = "arena", request_body = PostArena,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key creates nothing twice")),
    responses((status = 202, body = AcceptedArena),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn create(
    State(state): State<AppState>,
    headers: HeaderMap,
    Body(new): Body<PostArena>,
) -> ApiResult<(StatusCode, Json<AcceptedArena>)> {
    let idempotency_key = idempotency_key(&headers)?;
    let mut check = Check::default();
    let ground = ground(&new, &mut check);
    check.chars("input", &new.input, 1, MAX_INPUT_CHARS);
    let count = new.contestants.len();
    if !CONTESTANTS.contains(&count) {
        check.wrong(
            "contestants",
            format!("has {count} of them; 2 to 5 are accepted"),
        );
    }
    for one in new.contestants.iter().take(*CONTESTANTS.end()) {
        one.wishes().shape(&mut check);
    }
    let judge = new.check.map(|wanted| wanted.checked(&mut check));
    check.done()?;
    let mut contestants = Vec::new();
    for (place, one) in new.contestants.into_iter().enumerate() {
        let entered = one.enter(&state, new.policy).await;
        contestants.push(entered.map_err(|error| error.below(&format!("contestants/{place}")))?);
    }
    let arena = NewArena {
        ground,
        input: new.input,
        contestants,
        check: judge,
        idempotency_key,
    };
    let created = state.store.create_arena(&arena).await?;
    state.tree.hub().publish(created.frames);
    if !created.repeated {
        state.tree.look_at_arenas();
    }
    let shown = require(&state, created.arena.0).await?;
    let tasks = shown.contestants.0.into_iter().map(|one| Entered {
        task_id: one.task_id,
        session_id: one.session_id,
        agent: one.agent,
    });
    let accepted = AcceptedArena {
        arena_id: shown.id,
        tasks: tasks.collect(),
    };
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}

/// Arenas with their verdict tables, newest first. The logs of checks are in
/// those of a single arena.
#[utoipa::path(get, path = "/api/arena", tag = "arena", params(ListArenas),
    responses((status = 200, body = Page<Arena>),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(state): State<AppState>,
    Params(params): Params<ListArenas>,
) -> ApiResult<Json<Page<Arena>>> {
    let slice = slice(params.limit, params.cursor.as_deref())?;
    let pool = state.store.pool();
    let rows = arenas::list(pool, params.project_id, params.session_id, &slice).await?;
    Ok(Json(Page::cut(rows, &slice, Arena::cursor)))
}

/// One arena with its verdict table.
#[utoipa::path(get, path = "/api/arena/{id}", tag = "arena",
    params(("id" = Uuid, Path, description = "The arena")),
    responses((status = 200, body = Arena),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn get(State(state): State<AppState>, Id(id): Id) -> ApiResult<Json<Arena>> {
    require(&state, id).await.map(Json)
}

/// Chooses a contestant: what it changed comes into the session that the arena
/// started from, as changes that are pending there, all of it or nothing; without
/// such a session its own becomes an ordinary one. The others are ended, closed
/// and put away. Repeating a choice changes nothing.
#[utoipa::path(post, path = "/api/arena/{id}/select/{task_id}", tag = "arena",
    params(("id" = Uuid, Path, description = "The arena"),
        ("task_id" = Uuid, Path, description = "The winner's task")),
    responses((status = 200, body = Selected), (status = 202, body = Selected),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn select(
    State(state): State<AppState>,
    Ids(id, task): Ids,
    headers: HeaderMap,
) -> ApiResult<(StatusCode, Json<Selected>)> {
    let (arena, winner) = (ArenaId(id), TaskId(task));
    let mut selected = Selected {
        arena_id: id,
        task_id: task,
        session_id: Uuid::nil(),
        operation: None,
    };
    // Changes that a person rejects meanwhile are moved no more.
    for _ in 0..2 {
        match chosen(&state, arena, winner).await? {
            Select::Done {
                session,
                running,
                frames,
            } => {
                state.tree.hub().publish(frames);
                for task in running {
                    state.tree.cancel(task);
                }
                state.tree.look_at_arenas();
                selected.session_id = session.0;
                return Ok((StatusCode::OK, Json(selected)));
            }
            Select::Adopt(session) => {
                selected.session_id = session.0;
                let order = Order::Adopt {
                    arena,
                    task: winner,
                    changes: Vec::new(),
                };
                let (code, answer) = carry_out(&state, session.0, order, &headers).await?;
                if answer.operation.is_some() {
                    selected.operation = answer.0.operation;
                    return Ok((code, Json(selected)));
                }
            }
            Select::TooEarly(why) => return Err(ApiError::new(Code::TurnRunning, why)),
            Select::Decided(why) => return Err(ApiError::new(Code::ArenaDecided, why)),
        }
    }
    Err(ApiError::busy("choices and changes"))
}

async fn chosen(state: &Shared, arena: ArenaId, task: TaskId) -> ApiResult<Select> {
    match state.store.select_arena(arena, task).await {
        Err(StoreError::NotFound { what, id }) => Err(ApiError::not_found(what, id)),
        other => Ok(other?),
    }
}

/// Ends an arena: what waits at once, turns and checks within seconds. What was
/// made stays where it is. Repeating it changes nothing.
#[utoipa::path(post, path = "/api/arena/{id}/cancel", tag = "arena",
    params(("id" = Uuid, Path, description = "The arena")),
    responses((status = 200, body = CancelledArena), (status = 202, body = CancelledArena),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn cancel(
    State(state): State<AppState>,
    Id(id): Id,
) -> ApiResult<(StatusCode, Json<CancelledArena>)> {
    let cancelled = match state.store.cancel_arena(ArenaId(id)).await {
        Err(StoreError::NotFound { .. }) => return Err(ApiError::not_found("arena", id)),
        other => other?,
    };
    let (code, status) = match cancelled {
        CancelArena::Cancelling(running, frames) => {
            state.tree.hub().publish(frames);
            for task in running {
                state.tree.cancel(task);
            }
            state.tree.look_at_arenas();
            (StatusCode::ACCEPTED, "cancelling")
        }
        CancelArena::Over(is) if is == "cancelled" => (StatusCode::OK, "cancelled"),
        CancelArena::Over(is) => {
            return Err(ApiError::new(
                Code::ArenaDecided,
                format!("arena {id} is {is}: there is nothing left to cancel"),
            ));
        }
    };
    let arena_id = id;
    Ok((code, Json(CancelledArena { arena_id, status })))
}

/// A choice.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Selected {
    /// The arena.
    arena_id: Uuid,
    /// The winner's task.
    task_id: Uuid,
    /// Where the winner's work is from now on.
    session_id: Uuid,
    /// What brought its changes there; none where nothing was to be moved.
    operation: Option<Operation>,
}

async fn require(state: &Shared, id: Uuid) -> ApiResult<Arena> {
    arenas::get(state.store.pool(), id)
        .await?
        .ok_or_else(|| ApiError::not_found("arena", id))
}

/// One of both, and not both.
fn ground(new: &PostArena, check: &mut Check) -> NewGround {
    match (new.session_id, new.project_id) {
        (Some(session), None) => NewGround::Session(SessionId(session)),
        (None, Some(project)) => NewGround::Project(ProjectId(project)),
        (session, _) => {
            let problem = if session.is_some() {
                "says where to start, and `project_id` does too: give one of them"
            } else {
                "or `project_id` is needed: it says where to start"
            };
            check.wrong("session_id", problem.into());
            NewGround::Session(SessionId::default())
        }
    }
}

impl PostCheck {
    fn checked(self, check: &mut Check) -> CheckCommand {
        let words = self.command.len();
        if !(1..=MAX_WORDS).contains(&words) || self.command.first().is_some_and(String::is_empty) {
            check.wrong(
                "check/command",
                format!("has {words} words; 1 to {MAX_WORDS} are accepted, the program first"),
            );
        }
        if self
            .command
            .iter()
            .any(|word| word.len() > MAX_WORD_BYTES || word.contains('\0'))
        {
            check.wrong(
                "check/command",
                format!("has a word with more than {MAX_WORD_BYTES} bytes or with a zero byte"),
            );
        }
        let timeout = self.timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS);
        if !(1..=MAX_TIMEOUT_MS).contains(&timeout) {
            check.wrong(
                "check/timeout_ms",
                format!("is {timeout}; 1 to {MAX_TIMEOUT_MS} are accepted"),
            );
        }
        CheckCommand {
            command: self.command,
            timeout: Duration::from_millis(timeout),
        }
    }
}

impl PostContestant {
    fn wishes(&self) -> Wishes<'_> {
        Wishes {
            model: self.model.as_deref(),
            mode: self.mode_id.as_deref(),
            thinking: self.thinking_option_id.as_deref(),
            features: &self.feature_values,
        }
    }

    /// A person began the arena, so that an agent asks as it would in a chat.
    async fn enter(self, state: &Shared, policy: Option<Policy>) -> ApiResult<NewContestant> {
        let agent = choose(state, Some(&self.agent))?;
        let own = state.agents.get(agent.as_str()).copied();
        let policy = tighten(state, &agent, policy)?.or(own);
        self.wishes().fit(state, &agent).await?;
        Ok(NewContestant {
            agent,
            model: self.model,
            mode: self.mode_id,
            thinking: self.thinking_option_id,
            features: self.feature_values,
            policy,
        })
    }
}
