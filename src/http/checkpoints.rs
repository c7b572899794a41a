//! Checkpoints: what a worktree was before each turn, and what to do from there.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use hearth_actors::ids::{ProjectId, SessionId};
use hearth_actors::model::{Diff, Worktree, WorktreeSpec};
use hearth_actors::ports::{WorktreeError, with_source};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::error::{ApiError, ApiResult, Code, ProblemBody};
use super::extract::{Body, Check, Id, Ids, Params};
use super::page::{Page, PageParams};
use super::sessions::require;
use super::state::AppState;
use crate::store::branches;
use crate::store::rows::chats::Chat;
use crate::store::rows::checkpoints::{self, Checkpoint, CheckpointDiff, Taken};
use crate::store::rows::sessions::{self, Session};

/// Characters of a session's name that go into the name of one that branches off.
const BRANCH_NAME: usize = 150;

/// What these routes ask of the worktrees.
#[async_trait]
pub trait History: Send + Sync {
    /// Which of the commits the repository of a checkout still has, in their
    /// order; none when it cannot be looked into.
    async fn kept(&self, project: &Path, commits: Vec<String>) -> Option<Vec<bool>>;
    /// What changed in a worktree since a commit.
    async fn since(&self, worktree: &Worktree, from: &str) -> Result<Diff, WorktreeError>;
    /// What lies between two commits of a checkout's repository.
    async fn between(&self, project: &Path, from: &str, to: &str) -> Result<Diff, WorktreeError>;
    /// Where a session's worktree is made.
    fn place(&self, project: ProjectId, session: SessionId) -> PathBuf;
    /// Makes a worktree and tells how it differs from its baseline.
    async fn make(&self, spec: &WorktreeSpec) -> Result<Diff, WorktreeError>;
}

/// Checkpoints of a session's worktree, newest first.
#[utoipa::path(get, path = "/api/sessions/{id}/checkpoints", tag = "checkpoints",
    params(("id" = Uuid, Path, description = "The session"), PageParams),
    responses((status = 200, body = Page<Checkpoint>),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(state): State<AppState>,
    Id(id): Id,
    Params(params): Params<PageParams>,
) -> ApiResult<Json<Page<Checkpoint>>> {
    require(&state, id).await?;
    let slice = params.slice()?;
    let rows = checkpoints::list(state.store.pool(), id, &slice).await?;
    let mut page = Page::cut(rows, &slice, Checkpoint::cursor);
    let project = checkpoints::project_path(state.store.pool(), id).await?;
    let commits = page.items.iter().map(|item| item.commit.clone()).collect();
    if let Some(project) = project
        && let Some(kept) = state.history.kept(&project, commits).await
    {
        for (item, kept) in page.items.iter_mut().zip(kept) {
            item.available = Some(kept);
        }
    }
    Ok(Json(page))
}

/// What a checkpoint is compared with.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Against {
    /// Another checkpoint of the session; the files as they are now if not given.
    to: Option<Uuid>,
}

/// What changed since a checkpoint.
#[utoipa::path(get, path = "/api/sessions/{id}/checkpoints/{cid}/diff", tag = "checkpoints",
    params(("id" = Uuid, Path, description = "The session"),
        ("cid" = Uuid, Path, description = "The checkpoint"), Against),
    responses((status = 200, body = CheckpointDiff),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn diff(
    State(state): State<AppState>,
    Ids(id, cid): Ids,
    Params(against): Params<Against>,
) -> ApiResult<Json<CheckpointDiff>> {
    let from = taken(&state, id, cid).await?;
    let diff = match against.to {
        Some(to) => {
            let to = taken(&state, id, to).await?;
            let project = from.project_path();
            let found = state.history.between(&project, &from.commit, &to.commit);
            found.await
        }
        None => match from.worktree() {
            Some(worktree) => state.history.since(&worktree, &from.commit).await,
            None => Err(WorktreeError::Unusable(
                "the session has no worktree now: compare with another checkpoint (`to`), or branch a session from this one".into(),
            )),
        },
    };
    let diff = diff.map_err(|error| unusable(&error))?;
    Ok(Json(CheckpointDiff {
        from: cid,
        to: against.to,
        items: diff.changes.into_iter().map(Into::into).collect(),
        omitted: diff.omitted,
        notes: diff.warnings,
    }))
}

/// A session to branch off.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewBranch {
    /// What to call it; after the session and the checkpoint it comes from if not given.
    name: Option<String>,
}

/// A session that begins at a checkpoint.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct Branched {
    /// The session.
    #[serde(flatten)]
    session: Session,
    /// Its first chat.
    chat_id: Uuid,
    /// The checkpoint it began at.
    checkpoint_id: Uuid,
    /// Files that differ from its baseline: its pending changes.
    changed: usize,
}

/// Names are typed: two sessions of one name could not be told apart. The checkpoint is
/// written as lists show it.
fn branch_name(session: &str, checkpoint: Uuid) -> String {
    let head: String = session.chars().take(BRANCH_NAME).collect();
    let id = checkpoint.simple().to_string();
    format!("{head} from {}", &id[24..])
}

/// Opens a session whose files are those of a checkpoint. The session it comes
/// from is not touched, whatever runs there.
#[utoipa::path(post, path = "/api/sessions/{id}/checkpoints/{cid}/branch", tag = "checkpoints",
    params(("id" = Uuid, Path, description = "The session that the checkpoint is of"),
        ("cid" = Uuid, Path, description = "The checkpoint")),
    request_body = NewBranch,
    responses((status = 201, body = Branched),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn branch(
    State(state): State<AppState>,
    Ids(id, cid): Ids,
    Body(new): Body<NewBranch>,
) -> ApiResult<(StatusCode, Json<Branched>)> {
    Check::default().name("name", new.name.as_deref()).done()?;
    let source = taken(&state, id, cid).await?;
    let session = SessionId::new();
    let place = state.history.place(source.project(), session);
    let spec = source.branched(session, place);
    let (spec, worktree) = spec
        .and_then(|spec| Some((spec.clone(), spec.existing?)))
        .ok_or_else(|| {
            ApiError::new(
                Code::WorktreeUnusable,
                "nobody knows any more which commit the checkpoint's worktree came from: open a session and copy the files",
            )
        })?;
    let name = new.name;
    let name = name.unwrap_or_else(|| branch_name(&source.session_name, cid));
    // A caller that hangs up leaves no session with half its rows.
    let made = tokio::spawn(async move {
        let pool = state.store.pool();
        let chat = branches::open(pool, &name, &spec, &worktree).await?;
        let diff = match state.history.make(&spec).await {
            Ok(diff) => diff,
            Err(error) => {
                branches::close(pool, &spec, &worktree).await?;
                return Err(unusable(&error));
            }
        };
        branches::show(pool, &spec, &worktree, id, &diff).await?;
        let session = sessions::get(pool, session.0).await?;
        let session = session.ok_or_else(|| ApiError::not_found("session", spec.session))?;
        Ok((session, chat, diff.changes.len() + diff.omitted))
    })
    .await;
    let (session, chat, changed): (Session, Chat, usize) =
        made.map_err(|panic| ApiError::internal(&panic))??;
    let branched = Branched {
        session,
        chat_id: chat.id,
        checkpoint_id: cid,
        changed,
    };
    Ok((StatusCode::CREATED, Json(branched)))
}

/// The checkpoint, if its commit is still there.
async fn taken(state: &AppState, session: Uuid, id: Uuid) -> ApiResult<Taken> {
    require(state, session).await?;
    let taken = checkpoints::taken(state.store.pool(), session, id).await?;
    let taken = taken.ok_or_else(|| ApiError::not_found("checkpoint of this session", id))?;
    let project = taken.project_path();
    let kept = state.history.kept(&project, vec![taken.commit.clone()]);
    match kept.await.as_deref() {
        Some([true]) => Ok(taken),
        Some(_) => Err(ApiError::new(
            Code::CheckpointGone,
            format!(
                "the commit {} of checkpoint {id} is no longer in {}",
                taken.commit,
                project.display()
            ),
        )),
        None => Err(ApiError::new(
            Code::WorktreeUnusable,
            format!(
                "the repository at {} cannot be looked into: is it still there?",
                project.display()
            ),
        )),
    }
}

fn unusable(error: &WorktreeError) -> ApiError {
    match error {
        WorktreeError::Unusable(why) => ApiError::new(Code::WorktreeUnusable, why.clone()),
        WorktreeError::DiskFull { .. } | WorktreeError::DiskLow { .. } => {
            ApiError::new(Code::DiskFull, error.to_string())
        }
        WorktreeError::Failed { .. } => {
            tracing::error!(error = %with_source(error), "a worktree could not be read or made");
            ApiError::new(Code::WorktreeUnusable, with_source(error))
        }
    }
}
