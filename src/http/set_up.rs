//! What a project wants done in its worktrees, and whether people trust it.

use axum::Json;
use axum::extract::State;
use hearth_actors::ids::ProjectId;
use hearth_actors::set_up::{Consent, FILE, Found, SetUp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::error::{ApiError, ApiResult, Code, ProblemBody};
use super::extract::{Body, Id};
use super::state::AppState;
use crate::store::rows::projects;

/// Whether a project's set-up runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Standing {
    /// It wants nothing.
    None,
    /// Its file cannot be understood: new worktrees wait.
    Wrong,
    /// Nobody decided about this content: new worktrees wait.
    Undecided,
    /// It runs in new worktrees.
    Trusted,
    /// New worktrees go without.
    Refused,
}

/// What a project wants done in each of its worktrees before an agent works there.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WorktreeSetup {
    /// The project.
    project_id: Uuid,
    /// Where it says so.
    path: String,
    /// Whether that is done.
    state: Standing,
    /// SHA-256 of the file, in hexadecimal: what is trusted.
    hash: Option<String>,
    /// Files and folders of the checkout that worktrees get too.
    copy: Vec<String>,
    /// The script, for `/bin/sh -e`, in the worktree.
    setup: Option<String>,
    /// The same, before the worktree goes.
    teardown: Option<String>,
    /// Longest run of each, in milliseconds.
    timeout_ms: Option<u64>,
    /// Why it cannot be used.
    wrong: Option<String>,
    /// Tasks that waited for the decision and are tried now.
    woken: Option<u64>,
}

/// What is decided about a content.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Decided {
    /// It runs.
    Trusted,
    /// It never runs; worktrees go without.
    Refused,
}

/// A decision.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Decision {
    /// Of the content that was looked at.
    hash: String,
    /// What is to become of it.
    consent: Decided,
}

/// What the project wants done in its worktrees, as its checkout says now, and
/// whether that was decided about.
#[utoipa::path(get, path = "/api/projects/{id}/worktree-setup", tag = "projects",
    params(("id" = Uuid, Path, description = "The project")),
    responses((status = 200, body = WorktreeSetup),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn get(
    State(state): State<AppState>,
    Id(id): Id,
) -> ApiResult<Json<WorktreeSetup>> {
    let found = found(&state, id).await?;
    Ok(Json(shown(&state, id, found).await?))
}

/// Trusts or refuses this content, for all worktrees that are made from now on. What
/// a trusted script calls is trusted with it. Tasks that wait for it are tried now.
#[utoipa::path(put, path = "/api/projects/{id}/worktree-setup", tag = "projects",
    params(("id" = Uuid, Path, description = "The project")), request_body = Decision,
    responses((status = 200, body = WorktreeSetup),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn decide(
    State(state): State<AppState>,
    Id(id): Id,
    Body(decision): Body<Decision>,
) -> ApiResult<Json<WorktreeSetup>> {
    let found = found(&state, id).await?;
    let this = match &found {
        Found::This(this) if this.hash == decision.hash => this.clone(),
        Found::This(this) => {
            return Err(ApiError::new(
                Code::SetupChanged,
                format!("{FILE} is {} by now: look at it again", this.hash),
            ));
        }
        Found::Nothing => {
            let detail = format!("there is no {FILE}");
            return Err(ApiError::new(Code::SetupChanged, detail));
        }
        Found::Wrong(why) => {
            let detail = format!("{FILE} cannot be used: {why}");
            return Err(ApiError::new(Code::SetupChanged, detail));
        }
    };
    let consent = match decision.consent {
        Decided::Trusted => Consent::Trusted,
        Decided::Refused => Consent::Refused,
    };
    let woken = state.store.decide_set_up(ProjectId(id), &this, consent);
    let woken = woken.await?;
    tracing::info!(project = %id, hash = this.hash, %consent, "a project's set-up was decided about");
    state.tree.wakeup();
    let shown = shown(&state, id, found).await?;
    Ok(Json(WorktreeSetup {
        woken: Some(woken),
        ..shown
    }))
}

async fn found(state: &AppState, id: Uuid) -> ApiResult<Found> {
    let path = projects::path(state.store.pool(), id).await?;
    let path = path.ok_or_else(|| ApiError::not_found("project", id))?;
    Ok(state.set_ups.wanted(path.as_ref()).await)
}

async fn shown(state: &AppState, id: Uuid, found: Found) -> ApiResult<WorktreeSetup> {
    let bare = |state| WorktreeSetup {
        project_id: id,
        path: FILE.to_owned(),
        state,
        hash: None,
        copy: Vec::new(),
        setup: None,
        teardown: None,
        timeout_ms: None,
        wrong: None,
        woken: None,
    };
    let this = match found {
        Found::Nothing => return Ok(bare(Standing::None)),
        Found::Wrong(why) => {
            return Ok(WorktreeSetup {
                wrong: Some(why),
                ..bare(Standing::Wrong)
            });
        }
        Found::This(this) => *this,
    };
    let consent = state
        .store
        .set_up_consent(ProjectId(id), &this.hash)
        .await?;
    let standing = match consent {
        None => Standing::Undecided,
        Some(Consent::Trusted) => Standing::Trusted,
        Some(Consent::Refused) => Standing::Refused,
    };
    let SetUp {
        hash,
        copy,
        set_up,
        tear_down,
        timeout,
    } = this;
    Ok(WorktreeSetup {
        hash: Some(hash),
        copy,
        setup: set_up,
        teardown: tear_down,
        timeout_ms: u64::try_from(timeout.as_millis()).ok(),
        ..bare(standing)
    })
}
