//! Worktrees that exist only by name, with files that exist only in memory.
//!
//! They pass the contract suite of [`super::contract_worktrees`]. Every file is a
//! new one, because there is no commit to start from; edits, deletions, renames,
//! modes, secrets and the refs themselves are the real adapter's alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::arena::Archived;
use crate::ids::{CheckpointId, WorktreeId};
use crate::model::{BlobRef, Checkpoint, Diff, FileChange, Operation, Worktree, WorktreeSpec};
use crate::ports::{WorktreeError, Worktrees};

/// The commit that worktrees start from.
const HEAD: &str = "base";

/// Worktrees in memory.
#[derive(Clone, Default)]
pub struct FakeWorktrees {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    made: BTreeMap<PathBuf, Worktree>,
    /// By worktree and path.
    files: BTreeMap<(PathBuf, String), String>,
    /// By worktree: the checkpoint of the turn that has not come yet.
    prepared: BTreeMap<PathBuf, Checkpoint>,
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

    /// Writes a file, as an agent would.
    pub fn put(&self, worktree: &Worktree, path: &str, content: &str) {
        let place = (worktree.path.clone(), path.to_owned());
        self.with(|state| state.files.insert(place, content.to_owned()));
    }

    /// Removes a file, as an agent would.
    pub fn remove(&self, worktree: &Worktree, path: &str) {
        let place = (worktree.path.clone(), path.to_owned());
        self.with(|state| state.files.remove(&place));
    }

    /// The files of a worktree by path, each as a change.
    fn changes(&self, worktree: &Worktree) -> Vec<FileChange> {
        self.with(|state| {
            let files = state.files.iter();
            let ours = files.filter(|((of, _), _)| *of == worktree.path);
            ours.map(|((_, path), content)| created(path, content))
                .collect()
        })
    }

    fn taken(&self, worktree: &Worktree, id: CheckpointId) -> Checkpoint {
        let tree = tree_of(&self.changes(worktree));
        Checkpoint {
            id,
            commit: format!("{id} of {tree}"),
            tree,
        }
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
                    base_commit: HEAD.into(),
                    baseline: spec.start.clone().unwrap_or_else(|| HEAD.into()),
                })
                .clone()
        }))
    }

    async fn checkpoint(
        &self,
        worktree: &Worktree,
        id: CheckpointId,
        _known: Option<&str>,
    ) -> Result<Checkpoint, WorktreeError> {
        self.reach().await?;
        Ok(self.taken(worktree, id))
    }

    async fn prepare(
        &self,
        worktree: &Worktree,
        id: CheckpointId,
    ) -> Result<Checkpoint, WorktreeError> {
        self.reach().await?;
        let taken = self.taken(worktree, id);
        let path = worktree.path.clone();
        self.with(|state| state.prepared.insert(path, taken.clone()));
        Ok(taken)
    }

    async fn confirm(
        &self,
        worktree: &Worktree,
        prepared: &Checkpoint,
    ) -> Result<bool, WorktreeError> {
        self.reach().await?;
        let latest = self.with(|state| state.prepared.get(&worktree.path).cloned());
        Ok(latest.as_ref() == Some(prepared)
            && self.taken(worktree, prepared.id).tree == prepared.tree)
    }

    async fn diff(&self, worktree: &Worktree) -> Result<Diff, WorktreeError> {
        self.reach().await?;
        let changes = self.changes(worktree);
        Ok(Diff {
            tree: tree_of(&changes),
            changes,
            ..Diff::default()
        })
    }

    async fn head(&self, _project_path: &Path) -> Result<String, WorktreeError> {
        self.reach().await?;
        Ok(HEAD.into())
    }

    async fn archive(&self, worktree: &Worktree) -> Result<Archived, WorktreeError> {
        self.reach().await?;
        let held = format!("deleted of {}", tree_of(&self.changes(worktree)));
        Ok(self.with(|state| {
            state.files.retain(|(of, _), _| *of != worktree.path);
            let was = state.made.remove(&worktree.path);
            Archived::Removed(was.map(|_| held))
        }))
    }
}

fn created(path: &str, content: &str) -> FileChange {
    FileChange {
        path: path.to_owned(),
        old_path: None,
        operation: Operation::Create,
        before: None,
        after: Some(BlobRef {
            id: content.to_owned(),
            mode: 0o100_644,
            size: content.len() as u64,
        }),
        diff: format!("+{content}"),
        truncated: false,
        binary: false,
        secret: false,
    }
}

/// Equal for equal files.
fn tree_of(changes: &[FileChange]) -> String {
    let files: Vec<_> = changes
        .iter()
        .map(|change| (&change.path, change.after.as_ref().map(|blob| &blob.id)))
        .collect();
    format!("{files:?}")
}
