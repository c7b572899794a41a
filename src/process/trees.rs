//! The process trees that are alive now, kept in memory so that nobody has to
//! ask the kernel whether a session's old tree is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hearth_actors::ids::SessionKey;
use tokio::sync::watch;

use super::procfs::Identity;
use super::{Owner, ProcessError};

/// The trees by id, and a signal for every one that is gone.
#[derive(Debug)]
pub(super) struct Trees {
    alive: Mutex<BTreeMap<String, Tree>>,
    /// Counts the trees that are gone, for those who wait.
    gone: watch::Sender<u64>,
}

/// One of them. The processes are none until they have started.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) owner: Owner,
    pub(super) shim: Option<Identity>,
    pub(super) agent: Option<Identity>,
    /// The agent and its helpers, once it could be prompted.
    pub(super) settled: Option<Arc<BTreeSet<Identity>>>,
}

/// Process trees alive at once: several times the pool's default of 10 agents
/// with their servers and one-shots.
pub(super) const TREE_LIMIT: usize = 256;

impl Trees {
    pub(super) fn new() -> Self {
        Self {
            alive: Mutex::default(),
            gone: watch::Sender::new(0),
        }
    }

    /// Enters a tree that is about to start.
    pub(super) fn enter(&self, id: &str, owner: Owner) -> Result<(), ProcessError> {
        let mut alive = self.lock();
        if alive.len() >= TREE_LIMIT {
            return Err(ProcessError::Full { limit: TREE_LIMIT });
        }
        let tree = Tree {
            owner,
            shim: None,
            agent: None,
            settled: None,
        };
        alive.insert(id.to_owned(), tree);
        Ok(())
    }

    pub(super) fn update(&self, id: &str, change: impl FnOnce(&mut Tree)) {
        if let Some(tree) = self.lock().get_mut(id) {
            change(tree);
        }
    }

    pub(super) fn leave(&self, id: &str) {
        self.lock().remove(id);
        self.gone.send_modify(|count| *count += 1);
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.lock().contains_key(id)
    }

    pub(super) fn all(&self) -> Vec<Tree> {
        self.lock().values().cloned().collect()
    }

    /// The outermost processes of all trees.
    pub(super) fn roots(&self) -> Vec<Identity> {
        self.all()
            .iter()
            .flat_map(|tree| [tree.shim, tree.agent])
            .flatten()
            .collect()
    }

    pub(super) fn of(&self, key: &SessionKey) -> Vec<Tree> {
        self.lock()
            .values()
            .filter(|tree| matches!(&tree.owner, Owner::Session(owner) if owner == key))
            .cloned()
            .collect()
    }

    /// The trees of this key, each changed.
    pub(super) fn update_of(&self, key: &SessionKey, change: impl Fn(&mut Tree)) {
        let mut alive = self.lock();
        let own = alive
            .values_mut()
            .filter(|tree| matches!(&tree.owner, Owner::Session(owner) if owner == key));
        own.for_each(change);
    }

    /// Returns once `key` has no tree.
    pub(super) async fn gone(&self, key: &SessionKey) {
        let mut changes = self.gone.subscribe();
        while !self.of(key).is_empty() {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Tree>> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_trees_is_bounded_and_a_place_becomes_free_again() {
        let trees = Trees::new();
        let enter = |id: usize| trees.enter(&id.to_string(), Owner::Named("test".into()));
        for id in 0..TREE_LIMIT {
            enter(id).unwrap();
        }
        assert!(matches!(enter(TREE_LIMIT), Err(ProcessError::Full { .. })));
        trees.leave("0");
        enter(TREE_LIMIT).unwrap();
    }
}
