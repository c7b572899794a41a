//! Worktrees that exist only by name, with files that exist only in memory.
//!
//! They pass the contract suite of [`super::contract_worktrees`]. There is no
//! commit to start from; renames, modes, secrets and the refs themselves are the
//! real adapter's alone.

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

/// The mode of every file here.
pub(super) const MODE: u32 = 0o100_644;

/// By path: what a file says.
pub(super) type Files = BTreeMap<String, String>;

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
    /// By commit.
    taken: BTreeMap<String, Files>,
    /// By commit.
    baselines: BTreeMap<String, Files>,
    fail: Option<String>,
    latency: Duration,
    panics: u32,
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

    /// From now on this many calls about what people do panic.
    pub fn panic_review(&self, times: u32) {
        self.with(|state| state.panics += times);
    }

    pub(super) fn break_if_told(&self) {
        let told = self.with(|state| {
            let told = state.panics > 0;
            state.panics = state.panics.saturating_sub(1);
            told
        });
        assert!(!told, "the fake review panics as told");
    }

    /// The files below a root: a worktree's or the project's.
    pub fn files(&self, root: &Path) -> BTreeMap<String, String> {
        self.with(|state| {
            let files = state.files.iter();
            let ours = files.filter(|((of, _), _)| of == root);
            ours.map(|((_, path), content)| (path.clone(), content.clone()))
                .collect()
        })
    }

    /// Writes a file below a root, as a person would; none removes it.
    pub fn write(&self, root: &Path, path: &str, content: Option<&str>) {
        let place = (root.to_owned(), path.to_owned());
        self.with(|state| match content {
            Some(content) => state.files.insert(place, content.to_owned()),
            None => state.files.remove(&place),
        });
    }

    pub(super) fn baseline(&self, commit: &str) -> Files {
        self.with(|state| state.baselines.get(commit).cloned().unwrap_or_default())
    }

    pub(super) fn keep_baseline(&self, name: &str, files: Files) -> String {
        let commit = format!("baseline {name}");
        self.with(|state| state.baselines.insert(commit.clone(), files));
        commit
    }

    pub(super) fn taken_files(&self, commit: &str) -> Files {
        self.with(|state| state.taken.get(commit).cloned().unwrap_or_default())
    }

    /// What differs from the worktree's baseline.
    fn changes(&self, worktree: &Worktree) -> Vec<FileChange> {
        let (before, after) = (self.baseline(&worktree.baseline), self.files(&worktree.path));
        let mut paths: Vec<_> = before.keys().chain(after.keys()).collect();
        paths.sort();
        paths.dedup();
        let sides = paths
            .into_iter()
            .map(|path| (path, before.get(path), after.get(path)));
        sides
            .filter(|(_, before, after)| before != after)
            .map(|(path, before, after)| changed(path, before, after))
            .collect()
    }

    fn taken(&self, worktree: &Worktree, id: CheckpointId) -> Checkpoint {
        let files = self.files(&worktree.path);
        let tree = tree_of(&files);
        let commit = format!("{id} of {tree}");
        self.with(|state| state.taken.insert(commit.clone(), files));
        Checkpoint { id, commit, tree }
    }

    fn with<R>(&self, look: impl FnOnce(&mut State) -> R) -> R {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) async fn reach(&self) -> Result<(), WorktreeError> {
        let (latency, fail) = self.with(|state| (state.latency, state.fail.clone()));
        tokio::time::sleep(latency).await;
        fail.map_or(Ok(()), |why| Err(WorktreeError::Unusable(why)))
    }
}

#[async_trait]
impl Worktrees for FakeWorktrees {
    async fn ensure(&self, spec: &WorktreeSpec) -> Result<Worktree, WorktreeError> {
        self.reach().await?;
        if let Some(row) = &spec.existing {
            return Ok(row.clone());
        }
        let path = PathBuf::from(format!("/worktrees/{}", spec.session));
        if let Some(made) = self.with(|state| state.made.get(&path).cloned()) {
            return Ok(made);
        }
        let made = Worktree {
            id: WorktreeId::new(),
            path: path.clone(),
            branch: format!("session-{}", spec.session),
            base_commit: HEAD.into(),
            baseline: spec.start.clone().unwrap_or_else(|| HEAD.into()),
        };
        let files = self.taken_files(&made.baseline);
        for (name, content) in &files {
            self.put(&made, name, content);
        }
        self.with(|state| {
            state.baselines.entry(made.baseline.clone()).or_insert(files);
            state.made.insert(path, made.clone());
        });
        Ok(made)
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
        Ok(Diff {
            tree: tree_of(&self.files(&worktree.path)),
            changes: self.changes(worktree),
            ..Diff::default()
        })
    }

    async fn head(&self, _project_path: &Path) -> Result<String, WorktreeError> {
        self.reach().await?;
        Ok(HEAD.into())
    }

    async fn archive(&self, worktree: &Worktree) -> Result<Archived, WorktreeError> {
        self.reach().await?;
        let held = format!("deleted of {}", tree_of(&self.files(&worktree.path)));
        Ok(self.with(|state| {
            state.files.retain(|(of, _), _| *of != worktree.path);
            let was = state.made.remove(&worktree.path);
            Archived::Removed(was.map(|_| held))
        }))
    }
}

fn changed(path: &str, before: Option<&String>, after: Option<&String>) -> FileChange {
    let blob = |content: &String| BlobRef {
        id: content.clone(),
        mode: MODE,
        size: content.len() as u64,
    };
    FileChange {
        path: path.to_owned(),
        old_path: None,
        operation: match (before, after) {
            (None, _) => Operation::Create,
            (_, None) => Operation::Delete,
            _ => Operation::Edit,
        },
        before: before.map(blob),
        after: after.map(blob),
        diff: format!("{before:?} to {after:?}"),
        truncated: false,
        binary: false,
        secret: false,
    }
}

/// Equal for equal files.
fn tree_of(files: &Files) -> String {
    format!("{files:?}")
}
