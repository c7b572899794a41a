//! Arenas: one prompt for several agents, and the table that compares them.

mod post;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use hearth_actors::ids::{ArenaId, TaskId};
use hearth_actors::review::Order;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::error::{ApiError, ApiResult, Code, ProblemBody};
use super::extract::{Body, Check, Id, Ids, Params, idempotency_key};
use super::page::{Page, slice};
use super::review::carry_out;
use super::state::{AppState, Shared};
use crate::store::rows::arenas::{self, Arena};
use crate::store::rows::operations::Operation;
use crate::store::{CancelArena, MAX_INPUT_CHARS, NewArena, Select, StoreError};
use post::{CONTESTANTS, PostArena, ground};

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
    let budget = new.budget.map(|budget| budget.checked(&mut check));
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
        budget,
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
        CancelArena::BeingDecided => {
            return Err(ApiError::new(
                Code::WorktreeBusy,
                format!("a choice in arena {id} is being carried out: wait until it is over"),
            ));
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
