//! Checkpoints of turns that have not come yet. One a worktree is kept under
//! `refs/hearth/prepared/<worktree>`, so that those nobody used leave nothing
//! behind.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use git2::{Oid, Repository};
use hearth_actors::ids::{CheckpointId, WorktreeId};
use hearth_actors::model::Checkpoint;
use hearth_actors::ports::WorktreeError;

use super::errors::Context;
use super::{checkpoint, refs};

/// Worktrees whose latest one is known, far more than are warm at a time. One
/// that is forgotten is not confirmed any more.
const MAX_KNOWN: usize = 4_096;

/// The latest one of each worktree.
#[derive(Clone, Default)]
pub(super) struct Prepared(Arc<Mutex<BTreeMap<WorktreeId, CheckpointId>>>);

impl Prepared {
    pub(super) fn is_latest(&self, worktree: WorktreeId, id: CheckpointId) -> bool {
        self.lock().get(&worktree) == Some(&id)
    }

    fn knows(&self, worktree: WorktreeId) -> bool {
        self.lock().contains_key(&worktree)
    }

    fn note(&self, worktree: WorktreeId, id: CheckpointId) {
        let mut known = self.lock();
        known.insert(worktree, id);
        if known.len() > MAX_KNOWN
            && let Some(other) = known.keys().find(|other| **other != worktree).copied()
        {
            known.remove(&other);
        }
    }

    /// A panic elsewhere leaves the map whole: every change to it is one step.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<WorktreeId, CheckpointId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Commits `tree` for the turn that will have the checkpoint `id`.
pub(super) fn prepare(
    repo: &Repository,
    worktree: WorktreeId,
    id: CheckpointId,
    tree: Oid,
    prepared: &Prepared,
) -> Result<Checkpoint, WorktreeError> {
    let at = repo.workdir().unwrap_or(repo.path());
    let name = format!("refs/hearth/prepared/{worktree}");
    if !prepared.knows(worktree) {
        keep_of_a_former_life(repo, &name)?;
    }
    let commit = checkpoint::write(repo, id, tree).cannot("write the checkpoint", at)?;
    refs::keep(repo, &name, commit)?;
    prepared.note(worktree, id);
    Ok(Checkpoint {
        id,
        commit: commit.to_string(),
        tree: tree.to_string(),
    })
}

/// A Hearth that was killed between the opening of a turn and its prompt left a
/// row that names a checkpoint without a ref of its own. Nobody here can tell
/// whether there is such a row, so the checkpoint becomes one like all others.
fn keep_of_a_former_life(repo: &Repository, name: &str) -> Result<(), WorktreeError> {
    let Ok(commit) = repo.refname_to_id(name).and_then(|id| repo.find_commit(id)) else {
        return Ok(());
    };
    match checkpoint::id_of(&commit) {
        Some(id) => checkpoint::keep(repo, id, commit.id()),
        None => Ok(()),
    }
}

/// Whether the commit follows HEAD as it is now.
pub(super) fn is_of_head(repo: &Repository, commit: Oid) -> bool {
    let head = repo.head().ok().and_then(|head| head.target());
    repo.find_commit(commit)
        .is_ok_and(|commit| commit.parent_id(0).ok() == head)
}

/// Tree and commit.
pub(super) fn parse(checkpoint: &Checkpoint) -> Result<(Oid, Oid), WorktreeError> {
    let read = |hex: &str| Oid::from_str(hex).cannot("read the checkpoint", hex.as_ref());
    Ok((read(&checkpoint.tree)?, read(&checkpoint.commit)?))
}
