//! What HTTP asks of the rooms that it does not know.

use std::net::SocketAddr;
use std::path::Path;

use async_trait::async_trait;

use crate::http::state::{Origin, Peers, Repositories, Repository};
use crate::process::{CallerKind, Owner, Room};
use crate::worktrees;

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
        })
    }
}
