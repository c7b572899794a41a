//! The HTTP face: one file per resource, one file for errors, one for what
//! every request must pass.

mod agent;
mod chats;
mod debug;
pub mod error;
mod extract;
mod guard;
mod health;
mod messages;
mod openapi;
mod page;
mod projects;
pub mod render;
mod sessions;
pub mod state;
mod stream;
mod tasks;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::Uri;
use axum::middleware::from_fn_with_state;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use error::{ApiError, Code};
pub use guard::HostRules;
use state::AppState;

/// All routes behind their guards.
#[must_use]
pub fn router(state: AppState) -> Router {
    let (router, _) = api().split_for_parts();
    router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(extract::MAX_BODY_BYTES))
        .layer(from_fn_with_state(state.clone(), guard::admit))
        .layer(from_fn_with_state(state.clone(), guard::bound))
        .with_state(state)
}

/// The routes with their descriptions: what is not listed here does not exist.
fn api() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(health::health))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(projects::create, projects::list))
        .routes(routes!(sessions::create, sessions::list))
        .routes(routes!(sessions::get))
        .routes(routes!(sessions::pending))
        .routes(routes!(sessions::agents))
        .routes(routes!(chats::create, chats::list))
        .routes(routes!(messages::create, messages::list))
        .routes(routes!(tasks::create, tasks::list))
        .routes(routes!(tasks::get))
        .routes(routes!(tasks::cancel))
        .routes(routes!(stream::session))
        .routes(routes!(stream::task))
        .routes(routes!(stream::tree))
        .routes(routes!(debug::tree))
        .routes(routes!(debug::evict))
        .routes(routes!(debug::restart))
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
