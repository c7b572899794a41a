//! The snapshots that are kept between scans, within bounds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use git2::Oid;
use hearth_actors::ids::WorktreeId;

use super::snapshot::Snapshot;

/// Worktrees whose snapshot is kept: more than are warm at a time.
const MAX_SNAPSHOTS: usize = 64;

/// Files and folders of all snapshots together, some 250 bytes each: 250 MB at
/// most.
const MAX_NAMES: usize = 1_000_000;

/// The snapshots of all worktrees, the latest ones.
#[derive(Clone, Default)]
pub(super) struct Snapshots {
    kept: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    by_worktree: BTreeMap<WorktreeId, (u64, Kept)>,
    /// Counts up with each use.
    used: u64,
}

/// A snapshot and the tree that it makes.
pub(super) struct Kept {
    pub(super) tree: Oid,
    pub(super) snapshot: Snapshot,
}

impl Snapshots {
    /// Takes the snapshot out: a scan that fails leaves none behind.
    pub(super) fn take(&self, worktree: WorktreeId) -> Option<Kept> {
        let taken = self.lock().by_worktree.remove(&worktree);
        taken.map(|(_, kept)| kept)
    }

    /// Looks into the snapshot of a worktree, if there is one.
    pub(super) fn with<T>(
        &self,
        worktree: WorktreeId,
        look: impl FnOnce(&Snapshot) -> T,
    ) -> Option<T> {
        let state = self.lock();
        let kept = state.by_worktree.get(&worktree);
        kept.map(|(_, kept)| look(&kept.snapshot))
    }

    /// Keeps a snapshot, at the cost of those that were not used for longest.
    pub(super) fn keep(&self, worktree: WorktreeId, tree: Oid, snapshot: Snapshot) {
        let mut state = self.lock();
        state.used += 1;
        let used = state.used;
        let kept = Kept { tree, snapshot };
        state.by_worktree.insert(worktree, (used, kept));
        while state.is_over() {
            let oldest = state.by_worktree.iter().min_by_key(|(_, (used, _))| *used);
            let Some(oldest) = oldest.map(|(id, _)| *id) else {
                return;
            };
            state.by_worktree.remove(&oldest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_over(&self) -> bool {
        let sizes = self
            .by_worktree
            .values()
            .map(|(_, kept)| kept.snapshot.size);
        self.by_worktree.len() > MAX_SNAPSHOTS || sizes.sum::<usize>() > MAX_NAMES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_not_used_for_longest_makes_room() {
        let snapshots = Snapshots::default();
        let of_size = |size| Snapshot {
            size,
            ..Snapshot::default()
        };
        let ids: Vec<WorktreeId> = (0..=MAX_SNAPSHOTS).map(|_| WorktreeId::new()).collect();
        for id in &ids {
            snapshots.keep(*id, Oid::ZERO_SHA1, of_size(1));
        }
        assert!(snapshots.take(ids[0]).is_none());
        assert!(snapshots.take(ids[1]).is_some());
        snapshots.keep(ids[2], Oid::ZERO_SHA1, of_size(MAX_NAMES));
        assert!(snapshots.take(ids[3]).is_none());
        assert!(snapshots.take(ids[2]).is_some());
    }
}
