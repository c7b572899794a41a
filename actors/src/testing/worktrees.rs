//! Worktrees that exist only by name, with files that exist only in memory.
//!
//! They pass the contract suite of [`super::contract_worktrees`]. There is no
//! commit to start from: every file is new until it was applied. Renames, modes,
//! secrets and the refs themselves are the real adapter's alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::arena::Archived;
use crate::ids::{CheckpointId, WorktreeId};
use crate::model::{BlobRef, Checkpoint, Diff, FileChange, Operation, Worktree, WorktreeSpec};
use crate::ports::{ReapFiles, WorktreeError, Worktrees};
use crate::reap::{Thing, ThingKind};
use crate::risk::{Facts, Purpose};
use crate::rules::risk;

use super::set_up::FakeSetUps;

/// The commit that worktrees start from.
const HEAD: &str = "base";

/// Contents by path.
pub type Files = BTreeMap<String, String>;

/// Worktrees in memory.
#[derive(Clone, Default)]
pub struct FakeWorktrees {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
pub(super) struct State {
    made: BTreeMap<PathBuf, Worktree>,
    /// By worktree, or checkout, and path.
    files: BTreeMap<(PathBuf, String), String>,
    /// The files that baselines hold; none for one that is not named here.
    pub(super) baselines: BTreeMap<String, Files>,
    /// The files that the commits of checkpoints hold.
    checkpoints: BTreeMap<String, Files>,
    /// By worktree: the checkpoint of the turn that has not come yet.
    prepared: BTreeMap<PathBuf, Checkpoint>,
    /// By path: the files of what was put away, until they come back.
    away: BTreeMap<PathBuf, Files>,
    /// What a worktree held when it was made.
    first: BTreeMap<PathBuf, Files>,
    /// Commits in the stash, the newest last.
    stash: Vec<String>,
    /// Leftovers on the disk, besides the worktrees.
    things: Vec<Thing>,
    /// Archives and checkpoints that were let go of.
    let_go: Vec<String>,
    no_checkout: Option<PathBuf>,
    fail: Option<String>,
    latency: Duration,
    panics: u32,
    low: bool,
    pub(super) set_up: FakeSetUps,
}

impl FakeWorktrees {
    /// From now on every call fails with these words, or works again.
    pub fn fail_with(&self, why: Option<&str>) {
        self.with(|state| state.fail = why.map(str::to_owned));
    }

    /// From now on there is too little room for new ones, or enough again.
    pub fn low_disk(&self, low: bool) {
        self.with(|state| state.low = low);
    }

    /// From now on every call takes so long.
    pub fn slow(&self, latency: Duration) {
        self.with(|state| state.latency = latency);
    }

    /// So many of the next steps of operations panic.
    pub fn panic_review(&self, times: u32) {
        self.with(|state| state.panics += times);
    }

    /// One step of an operation: it takes its time, fails or panics as told.
    pub(super) async fn step(&self) -> Result<(), WorktreeError> {
        self.reach().await?;
        let told = self.with(|state| {
            let told = state.panics > 0;
            state.panics = state.panics.saturating_sub(1);
            told
        });
        assert!(!told, "the fake review panics as told");
        Ok(())
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

    /// The files of a worktree that are not as in its baseline.
    pub fn changes(&self, worktree: &Worktree) -> Vec<FileChange> {
        let (before, after) = (
            self.baseline(&worktree.baseline),
            self.files_at(&worktree.path),
        );
        let mut paths: Vec<&String> = before.keys().chain(after.keys()).collect();
        paths.sort();
        paths.dedup();
        let change = |path: &String| changed(path, before.get(path), after.get(path));
        paths.into_iter().filter_map(change).collect()
    }

    /// The files of a worktree or a checkout.
    pub fn files_at(&self, root: &Path) -> Files {
        self.with(|state| {
            let files = state.files.iter().filter(|((of, _), _)| of == root);
            files
                .map(|((_, path), content)| (path.clone(), content.clone()))
                .collect()
        })
    }

    pub(super) fn baseline(&self, id: &str) -> Files {
        self.with(|state| state.baselines.get(id).cloned().unwrap_or_default())
    }

    /// Keeps a baseline; its id.
    pub(super) fn keep_baseline(&self, files: Files) -> String {
        let id = format!("{files:?}");
        self.with(|state| state.baselines.insert(id.clone(), files));
        id
    }

    pub(super) fn with_files<R>(
        &self,
        look: impl FnOnce(&mut BTreeMap<(PathBuf, String), String>) -> R,
    ) -> R {
        self.with(|state| look(&mut state.files))
    }

    /// The files that a checkpoint's commit holds.
    pub(super) fn checkpointed(&self, commit: &str) -> Option<Files> {
        self.with(|state| state.checkpoints.get(commit).cloned())
    }

    pub(super) fn taken(&self, worktree: &Worktree, id: CheckpointId) -> Checkpoint {
        let files = self.files_at(&worktree.path);
        let tree = tree_of(&files);
        let commit = format!("{id} of {tree}");
        self.with(|state| state.checkpoints.insert(commit.clone(), files));
        Checkpoint { id, commit, tree }
    }

    pub(super) fn with<R>(&self, look: impl FnOnce(&mut State) -> R) -> R {
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
        if let Some(row) = &spec.existing {
            let back = self.with(|state| {
                state.made.insert(row.path.clone(), row.clone());
                let back = state.away.remove(&row.path);
                if back.is_some() {
                    state.set_up.due.insert(row.path.clone());
                }
                back
            });
            for (name, content) in back.unwrap_or_default() {
                self.put(row, &name, &content);
            }
            return Ok(row.clone());
        }
        let path = PathBuf::from(format!("/worktrees/{}", spec.session));
        if let Some(made) = self.with(|state| state.made.get(&path).cloned()) {
            return Ok(made);
        }
        if self.with(|state| state.low) {
            return Err(WorktreeError::DiskLow {
                path,
                free_mb: 1,
                least_mb: 2,
            });
        }
        let made = Worktree {
            id: WorktreeId::new(),
            path: path.clone(),
            branch: format!("session-{}", spec.session),
            base_commit: HEAD.into(),
            baseline: spec.start.clone().unwrap_or_else(|| HEAD.into()),
        };
        let files = self.checkpointed(&made.baseline).unwrap_or_default();
        for (name, content) in &files {
            self.put(&made, name, content);
        }
        self.with(|state| {
            let baseline = made.baseline.clone();
            state.baselines.entry(baseline).or_insert(files.clone());
            state.first.insert(path.clone(), files);
            state.set_up.due.insert(path.clone());
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
        let changes = self.changes(worktree);
        Ok(Diff {
            tree: tree_of(&self.files_at(&worktree.path)),
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
        let held = format!("deleted of {:?}", self.files_at(&worktree.path));
        Ok(self.with(|state| {
            state.files.retain(|(of, _), _| *of != worktree.path);
            let was = state.made.remove(&worktree.path);
            Archived::Removed(was.map(|_| held))
        }))
    }
}

impl FakeWorktrees {
    pub(super) fn first_files(&self, root: &Path) -> Files {
        self.with(|state| state.first.get(root).cloned().unwrap_or_default())
    }

    pub(super) fn move_files(&self, from: &Path, to: &Path) {
        for (name, content) in self.files_at(from) {
            self.with(|state| {
                state.files.remove(&(from.to_owned(), name.clone()));
                state.files.insert((to.to_owned(), name), content);
            });
        }
    }

    /// What was put away is kept until it comes back.
    pub(super) fn drop_aside(&self, worktree: &Worktree, aside: &Path) {
        let files = self.files_at(aside);
        self.with(|state| {
            state.files.retain(|(of, _), _| of != aside);
            if state.made.remove(&worktree.path).is_some() {
                state.away.insert(worktree.path.clone(), files);
            }
        });
    }

    pub(super) fn push_stash(&self, commit: &str) {
        self.with(|state| {
            if state.stash.last().is_none_or(|last| last != commit) {
                state.stash.push(commit.to_owned());
            }
        });
    }

    /// The commits in the stash.
    pub fn stash_list(&self) -> Vec<String> {
        self.with(|state| state.stash.clone())
    }

    /// Files that differ from what the worktree started with are untracked here:
    /// nothing is ever committed.
    pub(super) fn look(&self, worktree: &Worktree) -> Facts {
        let (fail, made) = self.with(|state| {
            let made = state.made.contains_key(&worktree.path);
            (state.fail.clone(), made)
        });
        let (first, now) = (
            self.first_files(&worktree.path),
            self.files_at(&worktree.path),
        );
        let mut paths: Vec<&String> = first.keys().chain(now.keys()).collect();
        paths.sort();
        paths.dedup();
        let differs = paths
            .into_iter()
            .filter(|path| first.get(*path) != now.get(*path));
        Facts {
            worktree: Some(worktree.id),
            path: worktree.path.clone(),
            gone: !made,
            unreadable: fail,
            untracked: differs.cloned().collect(),
            ..Facts::default()
        }
    }

    /// Something lies on the disk.
    pub fn leave_behind(&self, thing: Thing) {
        self.with(|state| {
            if let Some(worktree) = &thing.worktree {
                state.made.insert(worktree.path.clone(), worktree.clone());
            }
            state.things.push(thing);
        });
    }

    /// The folder of a worktree vanishes, files and all.
    pub fn lose(&self, worktree: &Worktree) {
        self.with(|state| {
            state.made.remove(&worktree.path);
            state.files.retain(|(of, _), _| *of != worktree.path);
        });
    }

    /// From now on the checkout of a project is gone.
    pub fn lose_checkout(&self, project: &Path) {
        self.with(|state| state.no_checkout = Some(project.to_owned()));
    }

    /// The worktree is there.
    pub fn is_made(&self, path: &Path) -> bool {
        self.with(|state| state.made.contains_key(path))
    }

    /// What repositories were told to let go of.
    pub fn released(&self) -> Vec<String> {
        self.with(|state| state.let_go.clone())
    }
}

#[async_trait]
impl ReapFiles for FakeWorktrees {
    async fn facts(&self, worktree: &Worktree) -> Facts {
        let latency = self.with(|state| state.latency);
        tokio::time::sleep(latency).await;
        self.look(worktree)
    }

    async fn things(
        &self,
        _projects: &[PathBuf],
        _rows: &[PathBuf],
    ) -> Result<Vec<Thing>, WorktreeError> {
        self.reach().await?;
        Ok(self.with(|state| {
            let told: Vec<&PathBuf> = state.things.iter().map(|thing| &thing.path).collect();
            let made = state
                .made
                .iter()
                .filter(|(path, _)| !told.contains(path))
                .map(|(path, worktree)| Thing {
                    kind: ThingKind::Folder,
                    path: path.clone(),
                    session: None,
                    worktree: Some(worktree.clone()),
                    age: Duration::ZERO,
                });
            made.chain(state.things.iter().cloned()).collect()
        }))
    }

    async fn bury(&self, worktree: &Worktree) -> Result<Archived, WorktreeError> {
        let facts = self.look(worktree);
        if !risk::losses(&facts, Purpose::Delete).is_empty() {
            return Ok(Archived::Left(risk::told(&facts, Purpose::Delete)));
        }
        self.with(|state| state.things.retain(|thing| thing.path != worktree.path));
        self.archive(worktree).await
    }

    async fn clear(&self, thing: &Thing) -> Result<(), WorktreeError> {
        self.reach().await?;
        self.with(|state| state.things.retain(|known| known != thing));
        Ok(())
    }

    async fn forget(&self, worktree: WorktreeId, _project: &Path) -> Result<(), WorktreeError> {
        self.reach().await?;
        self.with(|state| state.let_go.push(worktree.to_string()));
        Ok(())
    }

    async fn let_go(&self, project: &Path, ids: &[CheckpointId]) -> Result<(), WorktreeError> {
        self.reach().await?;
        if self.with(|state| state.no_checkout.as_deref() == Some(project)) {
            let why = format!("{} is gone", project.display());
            return Err(WorktreeError::Unusable(why));
        }
        self.with(|state| state.let_go.extend(ids.iter().map(ToString::to_string)));
        Ok(())
    }
}

fn changed(path: &str, before: Option<&String>, after: Option<&String>) -> Option<FileChange> {
    let side = |content: &String| BlobRef {
        id: content.clone(),
        mode: 0o100_644,
        size: content.len() as u64,
    };
    let (operation, diff) = match (before, after) {
        (before, after) if before == after => return None,
        (None, Some(after)) => (Operation::Create, format!("+{after}")),
        (Some(before), None) => (Operation::Delete, format!("-{before}")),
        (before, after) => (Operation::Edit, format!("-{before:?}+{after:?}")),
    };
    Some(FileChange {
        path: path.to_owned(),
        old_path: None,
        operation,
        before: before.map(side),
        after: after.map(side),
        diff,
        truncated: false,
        binary: false,
        secret: false,
    })
}

/// Equal for equal files.
fn tree_of(files: &Files) -> String {
    format!("{files:?}")
}
