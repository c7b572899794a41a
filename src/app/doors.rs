//! What HTTP asks of the rooms that it does not know.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use hearth_actors::ids::{ProjectId, SessionId};
use hearth_actors::model::{Diff, Worktree, WorktreeSpec};
use hearth_actors::ports::{WorktreeError, Worktrees as _};

use crate::http::checkpoints::History;
use crate::http::state::{Origin, Peers, Repositories, Repository};
use crate::process::{CallerKind, Owner, Room};
use crate::worktrees::{self, GitWorktrees};

/// Access asks the process room whose process calls.
pub(super) struct Callers(pub(super) Room);

#[async_trait]
impl Peers for Callers {
    async fn origin(&self, peer: SocketAddr, local: SocketAddr) -> Origin {
        let room = self.0.clone();
        let caller = tokio::task::spawn_blocking(move || room.caller(peer, local)).await;
        match caller {
            Ok(CallerKind::Ours(owner)) => Origin::Agent(match owner {
                Owner::Session(key) => Some(key),
                Owner::Named(_) => None,
            }),
            Ok(CallerKind::Other) => Origin::Elsewhere,
            // Who cannot be told is not let in.
            Ok(CallerKind::Gone) | Err(_) => Origin::Gone,
        }
    }
}

/// Registration looks at repositories through the worktrees room.
pub(super) struct Git;

#[async_trait]
impl Repositories for Git {
    async fn inspect(&self, path: &Path) -> Result<Repository, String> {
        let path = path.to_owned();
        let facts = tokio::task::spawn_blocking(move || worktrees::inspect_project(&path))
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        Ok(Repository {
            root: facts.root,
            dirty: facts.dirty,
            uncommitted: facts.uncommitted,
        })
    }
}

#[async_trait]
impl History for GitWorktrees {
    async fn kept(&self, project: &Path, commits: Vec<String>) -> Option<Vec<bool>> {
        Self::kept(self, project, commits).await
    }

    async fn since(&self, worktree: &Worktree, from: &str) -> Result<Diff, WorktreeError> {
        Self::since(self, worktree, from).await
    }

    async fn between(&self, project: &Path, from: &str, to: &str) -> Result<Diff, WorktreeError> {
        Self::between(self, project, from, to).await
    }

    fn place(&self, project: ProjectId, session: SessionId) -> PathBuf {
        Self::place(self, project, session)
    }

    async fn make(&self, spec: &WorktreeSpec) -> Result<Diff, WorktreeError> {
        let worktree = self.ensure(spec).await?;
        Self::since(self, &worktree, &worktree.baseline).await
    }
}
