//! Worktrees and processes that exist only by name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::ids::{CheckpointId, WorktreeId};
use crate::model::{Checkpoint, Diff, Worktree, WorktreeSpec};
use crate::ports::{WorktreeError, Worktrees};

/// Worktrees in memory.
#[derive(Clone, Default)]
pub struct FakeWorktrees {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    made: BTreeMap<PathBuf, Worktree>,
    fail: Option<String>,
    latency: Duration,
}

impl FakeWorktrees {
    /// From now on every call fails with these words, or works again.
    pub fn fail_with(&self, why: Option<&str>) {
        self.with(|state| state.fail = why.map(str::to_owned));
    }

    /// From now on every call takes so long.
    pub fn slow(&self, latency: Duration) {
        self.with(|state| state.latency = latency);
    }

    fn with<R>(&self, look: impl FnOnce(&mut State) -> R) -> R {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn reach(&self) -> Result<(), WorktreeError> {
        let (latency, fail) = self.with(|state| (state.latency, state.fail.clone()));
        tokio::time::sleep(latency).await;
        fail.map_or(Ok(()), |why| Err(WorktreeError::Unusable(why)))
    }
}

#[async_trait]
impl Worktrees for FakeWorktrees {
    async fn ensure(&self, spec: &WorktreeSpec) -> Result<Worktree, WorktreeError> {
        self.reach().await?;
        let path = PathBuf::from(format!("/worktrees/{}", spec.session));
        Ok(self.with(|state| {
            state
                .made
                .entry(path.clone())
                .or_insert_with(|| Worktree {
                    id: WorktreeId::new(),
                    path,
                    branch: format!("session-{}", spec.session),
                    base_commit: "base".into(),
                    baseline: "base".into(),
                })
                .clone()
        }))
    }

    async fn checkpoint(
        &self,
        _worktree: &Worktree,
        id: CheckpointId,
        _known: Option<&str>,
    ) -> Result<Checkpoint, WorktreeError> {
        self.reach().await?;
        Ok(Checkpoint {
            id,
            commit: id.to_string(),
            tree: "tree".into(),
        })
    }

    async fn diff(&self, _worktree: &Worktree) -> Result<Diff, WorktreeError> {
        self.reach().await?;
        Ok(Diff {
            tree: "tree".into(),
            ..Diff::default()
        })
    }
}
