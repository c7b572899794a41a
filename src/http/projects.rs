//! Projects.

use std::path::PathBuf;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::{ApiError, ApiResult, Code, ProblemBody};
use super::extract::{Body, Check, Params};
use super::page::{Page, PageParams};
use super::state::AppState;
use crate::store::rows::projects::{self, Project};

/// A repository to register.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewProject {
    /// Absolute path of a git repository, or of something inside it.
    #[schema(example = "/home/me/code/app")]
    path: String,
    /// What to call it; the directory's name if not given.
    name: Option<String>,
}

/// A registered project.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Registered {
    #[serde(flatten)]
    project: Project,
    /// What to know before working in it, such as uncommitted changes that
    /// sessions will not see.
    warnings: Vec<String>,
}

/// Registers a git repository; one that is registered already is returned.
#[utoipa::path(post, path = "/api/projects", tag = "projects", request_body = NewProject,
    responses((status = 201, body = Registered), (status = 200, body = Registered),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn create(
    State(state): State<AppState>,
    Body(new): Body<NewProject>,
) -> ApiResult<(StatusCode, Json<Registered>)> {
    Check::default()
        .chars("path", &new.path, 1, 4096)
        .name("name", new.name.as_deref())
        .done()?;
    let path = PathBuf::from(&new.path);
    if !path.is_absolute() || new.path.contains('\0') {
        let detail = "must be an absolute path";
        return Err(ApiError::field(Code::InvalidBody, "path", detail));
    }
    let found = state
        .repositories
        .inspect(&path)
        .await
        .map_err(|why| ApiError::field(Code::NotARepository, "path", why))?;
    let roots = &state.project_roots;
    if !roots.is_empty() && !roots.iter().any(|root| found.root.starts_with(root)) {
        let detail = "is not below one of the roots that HEARTH_PROJECT_ROOTS allows";
        return Err(ApiError::field(Code::OutsideProjectRoots, "path", detail));
    }
    let Some(root) = found.root.to_str() else {
        let detail = "is not UTF-8: rename the directory";
        return Err(ApiError::field(Code::NotARepository, "path", detail));
    };
    let name = new.name.unwrap_or_else(|| directory_name(&found.root));
    let (project, created) = projects::register(state.store.pool(), &name, root).await?;
    let warnings = if found.dirty {
        let files = &found.uncommitted;
        let applied = projects::applied(state.store.pool(), project.id, files).await?;
        Some(uncommitted(files.len(), applied.len()))
    } else {
        None
    };
    let status = if created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let warnings = warnings.into_iter().collect();
    Ok((status, Json(Registered { project, warnings })))
}

/// Registered projects, newest first.
#[utoipa::path(get, path = "/api/projects", tag = "projects", params(PageParams),
    responses((status = 200, body = Page<Project>),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(state): State<AppState>,
    Params(params): Params<PageParams>,
) -> ApiResult<Json<Page<Project>>> {
    let slice = params.slice()?;
    let rows = projects::list(state.store.pool(), &slice).await?;
    Ok(Json(Page::cut(rows, &slice, Project::cursor)))
}

/// What is not in HEAD, and whose it is: `applied` of these files hold what was
/// applied from sessions.
fn uncommitted(files: usize, applied: usize) -> String {
    let others = files.saturating_sub(applied);
    let rest = "a new session works from HEAD and will not see them";
    match (applied, others) {
        (0, _) => format!("there are uncommitted changes: {rest}"),
        (1, 0) => "1 file that you applied is not committed: a new session works from HEAD and \
                   will not see it; commit it, or go on in its session"
            .into(),
        (applied, 0) => format!(
            "{applied} files that you applied are not committed: {rest}; commit them, or go on in \
             their session"
        ),
        (applied, others) => format!(
            "there are uncommitted changes ({applied} of {} files were applied from sessions): \
             {rest}",
            applied + others
        ),
    }
}

fn directory_name(root: &std::path::Path) -> String {
    root.file_name()
        .map_or_else(|| "/".into(), |name| name.to_string_lossy().into_owned())
}
