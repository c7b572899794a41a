//! The HTTP face: one file per resource, one file for errors, one for what
//! every request must pass.

mod agent;
mod arenas;
mod budgets;
mod caller;
mod chats;
pub mod checkpoints;
mod close;
mod debug;
mod drain;
pub mod error;
mod extract;
mod guard;
mod health;
mod hosts;
pub mod ids;
mod inbox;
mod listener;
mod mcp;
mod messages;
mod metrics;
mod openapi;
mod operator;
mod page;
mod places;
mod projects;
mod prompts;
mod providers;
mod reap;
pub mod render;
mod restore;
mod review;
mod risk;
mod sessions;
mod set_up;
pub mod state;
mod stats;
mod stream;
mod tasks;
mod tickets;
mod wishes;

use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::Uri;
use axum::middleware::{from_fn, from_fn_with_state};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use error::{ApiError, Code};
pub use hosts::HostRules;
use listener::Doorway;
use state::AppState;

/// How long requests in flight may take when the service stops.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// All routes behind their guards.
pub fn router(state: AppState) -> Router {
    let (routes, _) = api().split_for_parts();
    let inside = guarded(routes.clone(), &state);
    guarded(
        routes.route(mcp::PATH, mcp::service(inside, &state)),
        &state,
    )
}

fn guarded(routes: Router<AppState>, state: &AppState) -> Router {
    routes
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(extract::MAX_BODY_BYTES))
        .layer(from_fn_with_state(state.clone(), guard::admit))
        .layer(from_fn_with_state(state.clone(), guard::bound))
        .layer(from_fn(guard::sealed))
        .with_state(state.clone())
}

/// Answers on `listener` until the state's `closing` is cancelled, and then for
/// at most [`LAST_ANSWERS`] more.
pub async fn serve(listener: TcpListener, state: AppState) {
    let closing = state.closing.clone();
    let mut door = Doorway::new(listener, state.limits);
    let router = router(state);
    let open = TaskTracker::new();
    loop {
        let connection = tokio::select! {
            biased;
            () = closing.cancelled() => break,
            connection = door.enter() => connection,
        };
        open.spawn(connection.converse(router.clone(), closing.clone()));
    }
    drop(door);
    open.close();
    // Who takes longer is cut with the process.
    let _ = tokio::time::timeout(LAST_ANSWERS, open.wait()).await;
}

/// The routes with their descriptions: what is not listed here does not exist.
fn api() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(health::health))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(projects::create, projects::list))
        .routes(routes!(set_up::get, set_up::decide))
        .routes(routes!(sessions::create, sessions::list))
        .routes(routes!(sessions::get, close::delete))
        .routes(routes!(close::session))
        .routes(routes!(close::chat))
        .routes(routes!(risk::get))
        .routes(routes!(risk::stash))
        .routes(routes!(reap::reap))
        .routes(routes!(budgets::set))
        .routes(routes!(sessions::agents))
        .routes(routes!(review::list))
        .routes(routes!(review::apply))
        .routes(routes!(review::reject))
        .routes(routes!(review::rewind))
        .routes(routes!(review::get))
        .routes(routes!(review::apply_one))
        .routes(routes!(review::reject_one))
        .routes(routes!(review::rewind_one))
        .routes(routes!(review::operation))
        .routes(routes!(restore::restore))
        .routes(routes!(checkpoints::list))
        .routes(routes!(checkpoints::diff))
        .routes(routes!(checkpoints::branch))
        .routes(routes!(chats::create, chats::list))
        .routes(routes!(messages::create, messages::list))
        .routes(routes!(tasks::create, tasks::list))
        .routes(routes!(tasks::get))
        .routes(routes!(tasks::cancel))
        .routes(routes!(arenas::create, arenas::list))
        .routes(routes!(arenas::get))
        .routes(routes!(arenas::select))
        .routes(routes!(arenas::cancel))
        .routes(routes!(prompts::list))
        .routes(routes!(prompts::get))
        .routes(routes!(prompts::answer))
        .routes(routes!(ids::find))
        .routes(routes!(inbox::list))
        .routes(routes!(inbox::retry))
        .routes(routes!(inbox::dismiss))
        .routes(routes!(providers::list))
        .routes(routes!(providers::probe))
        .routes(routes!(stats::costs))
        .routes(routes!(budgets::list))
        .routes(routes!(stream::session))
        .routes(routes!(stream::task))
        .routes(routes!(stream::arena))
        .routes(routes!(stream::tree))
        .routes(routes!(stream::socket))
        .routes(routes!(tickets::create))
        .routes(routes!(caller::get))
        .routes(routes!(debug::tree))
        .routes(routes!(debug::evict))
        .routes(routes!(debug::restart))
        .routes(routes!(drain::drain))
        .routes(routes!(metrics::metrics))
        .routes(routes!(openapi::document))
}

async fn no_route(uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    ApiError::new(
        Code::RouteNotFound,
        format!(
            "there is no {}; /api/openapi.json lists what there is",
            path.escape_debug()
        ),
    )
}

async fn no_method() -> ApiError {
    ApiError::new(
        Code::MethodNotAllowed,
        "the header Allow lists the methods of this route",
    )
}
