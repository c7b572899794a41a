//! What would be lost with a session's worktree, and the way out of it.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use hearth_actors::review::Order;
use hearth_actors::risk::{Facts, Named, Purpose};
use hearth_actors::rules::risk;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::error::{ApiResult, ProblemBody};
use super::extract::Id;
use super::review::{Answer, carry_out};
use super::sessions::require;
use super::state::AppState;
use crate::store::rows::sessions;

/// How many there are, and at most 20 of them by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Counted {
    total: u64,
    names: Vec<String>,
}

impl From<&Named> for Counted {
    fn from(named: &Named) -> Self {
        Self {
            total: named.total,
            names: named.names.clone(),
        }
    }
}

/// What would be lost if the worktree went. Files that its repository ignores are
/// no part of it: no checkpoint holds them.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WorktreeRisk {
    /// The worktree.
    worktree_id: Option<Uuid>,
    /// Where its files are.
    path: String,
    /// Its files are not there.
    gone: bool,
    /// The branch it has checked out; none when its HEAD is detached.
    branch: Option<String>,
    /// What its commits are compared with.
    default_branch: Option<String>,
    /// Deleting its session, or closing it, would lose something.
    at_risk: bool,
    /// The kinds of loss: `unreadable`, `unkept`, `unfinished`, `modified`,
    /// `untracked`, `staged`, `unpushed`, `unmerged`.
    losses: Vec<String>,
    /// Why it cannot be looked at.
    unreadable: Option<String>,
    /// What is under way: a merge, a rebase, …
    unfinished: Option<String>,
    /// Tracked files with changes that no commit has.
    modified: Counted,
    /// Files that git does not track.
    untracked: Counted,
    /// Files that are staged as they are nowhere else.
    staged: Counted,
    /// What no checkpoint could hold either.
    unkept: Counted,
    /// Files that differ from the branch, but not from the default branch.
    merged_files: u64,
    /// Commits that neither the default branch nor a remote has.
    unpushed: Counted,
    /// Commits that the default branch has not, nor an equal patch.
    unmerged: Counted,
}

impl WorktreeRisk {
    /// What the facts mean for this purpose.
    #[must_use]
    pub fn of(facts: &Facts, purpose: Purpose) -> Self {
        let losses = risk::losses(facts, purpose);
        Self {
            worktree_id: facts.worktree.map(|id| id.0),
            path: facts.path.display().to_string(),
            gone: facts.gone,
            branch: facts.branch.clone(),
            default_branch: facts.default_branch.clone(),
            at_risk: !losses.is_empty(),
            losses: losses.iter().map(ToString::to_string).collect(),
            unreadable: facts.unreadable.clone(),
            unfinished: facts.unfinished.clone(),
            modified: (&facts.modified).into(),
            untracked: (&facts.untracked).into(),
            staged: (&facts.staged).into(),
            unkept: (&facts.unkept).into(),
            merged_files: facts.merged_files,
            unpushed: (&facts.unpushed).into(),
            unmerged: (&facts.unmerged).into(),
        }
    }
}

/// What would be lost with a session.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionRisk {
    /// Deleting it would lose something.
    at_risk: bool,
    /// Its worktree, if it has one on the disk.
    worktree: Option<WorktreeRisk>,
}

/// What deleting the session would lose: uncommitted and untracked files, commits
/// that are on no remote or not in the default branch. What cannot be looked at
/// counts as at risk.
#[utoipa::path(get, path = "/api/sessions/{id}/worktree-risk", tag = "sessions",
    params(("id" = Uuid, Path, description = "The session")),
    responses((status = 200, body = SessionRisk),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn get(State(state): State<AppState>, Id(id): Id) -> ApiResult<Json<SessionRisk>> {
    require(&state, id).await?;
    let Some(worktree) = sessions::worktree(state.store.pool(), id).await? else {
        return Ok(Json(SessionRisk {
            at_risk: false,
            worktree: None,
        }));
    };
    let facts = state.files.facts(&worktree).await;
    let risk = WorktreeRisk::of(&facts, Purpose::Delete);
    Ok(Json(SessionRisk {
        at_risk: risk.at_risk,
        worktree: Some(risk),
    }))
}

/// Puts what is not committed into the repository's stash, new files too, and
/// brings the worktree back to its last commit. `git stash list` shows it. Where nothing
/// differs from that commit, no entry is made and a note says so.
#[utoipa::path(post, path = "/api/sessions/{id}/worktree-stash", tag = "sessions",
    params(("id" = Uuid, Path, description = "The session")),
    responses((status = 200, body = Answer), (status = 202, body = Answer),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn stash(
    State(state): State<AppState>,
    Id(id): Id,
    headers: HeaderMap,
) -> ApiResult<(StatusCode, Json<Answer>)> {
    require(&state, id).await?;
    carry_out(&state, id, Order::Stash, &headers).await
}
