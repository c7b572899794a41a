//! The board: one current snapshot per actor, for the debug endpoint and for tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use parking::Lock;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

/// What one actor shows of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// `root`, `dispatcher`, `pool`, `session`, `pump`, `agent`, `lease`, …
    pub kind: String,
    /// What a person calls it.
    pub name: String,
    /// One word: `idle`, `busy`, `starting`, `backing_off`, …
    pub state: String,
    /// When it entered that state (wall clock, for people).
    pub since: DateTime<Utc>,
    /// Which life of it this is; 0 where lives are not counted.
    pub generation: u64,
    /// Restarts after crashes since the service started.
    pub restarts: u64,
    /// How its last life ended, if one did.
    pub last_exit: Option<String>,
    /// Messages that wait to be handled.
    pub mailbox: u64,
    /// The process it owns.
    pub pid: Option<i32>,
    /// Resident bytes of that process tree.
    pub rss_bytes: Option<u64>,
    /// Whatever else explains it.
    pub detail: Value,
}

/// A snapshot with those below it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TreeNode {
    /// Path of the node, such as `root/pool/<chat>/<agent>`.
    pub id: String,
    /// The node itself.
    #[serde(flatten)]
    pub snapshot: Snapshot,
    /// Nodes below, ordered by id.
    pub children: Vec<TreeNode>,
}

/// Where actors keep their snapshots. Cheap to clone; all clones are one board.
#[derive(Clone)]
pub struct Board {
    entries: Arc<Lock<BTreeMap<Vec<String>, Snapshot>>>,
    version: Arc<watch::Sender<u64>>,
}

impl Default for Board {
    fn default() -> Self {
        Self::new()
    }
}

impl Board {
    /// An empty board.
    #[must_use]
    pub fn new() -> Self {
        Self {
            entries: Arc::default(),
            version: Arc::new(watch::Sender::new(0)),
        }
    }

    /// Puts up or replaces the snapshot at `path`. `since` is kept while the
    /// state stays the same.
    pub fn put(&self, path: &[&str], mut snapshot: Snapshot) {
        let key = owned(path);
        self.entries.with(|entries| {
            snapshot.since = match entries.get(&key) {
                Some(old) if old.state == snapshot.state => old.since,
                _ => Utc::now(),
            };
            entries.insert(key, snapshot);
        });
        self.bump();
    }

    /// Takes down the snapshot at `path` and all below it.
    pub fn remove(&self, path: &[&str]) {
        let key = owned(path);
        self.entries
            .with(|entries| entries.retain(|other, _| !other.starts_with(&key)));
        self.bump();
    }

    /// The snapshot at `path`.
    #[must_use]
    pub fn get(&self, path: &[&str]) -> Option<Snapshot> {
        let key = owned(path);
        self.entries.with(|entries| entries.get(&key).cloned())
    }

    /// The whole tree; none before the root has put itself up. A node whose
    /// parent is not up hangs under its nearest ancestor that is.
    #[must_use]
    pub fn tree(&self) -> Option<TreeNode> {
        let entries = self.entries.with(|entries| entries.clone());
        build(entries.into_iter().collect())
    }

    /// All snapshots of that kind, ordered by their paths.
    #[must_use]
    pub fn of_kind(&self, kind: &str) -> Vec<Snapshot> {
        self.entries.with(|entries| {
            let of_kind = entries.values().filter(|snapshot| snapshot.kind == kind);
            of_kind.cloned().collect()
        })
    }

    /// Changes whenever a snapshot does. Wait on it, then read.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    fn bump(&self) {
        self.version.send_modify(|version| *version += 1);
    }
}

fn owned(path: &[&str]) -> Vec<String> {
    path.iter().map(|part| (*part).to_owned()).collect()
}

/// Entries come ordered, so that every node follows its ancestors.
fn build(entries: Vec<(Vec<String>, Snapshot)>) -> Option<TreeNode> {
    let mut open: Vec<(Vec<String>, TreeNode)> = Vec::new();
    for (path, snapshot) in entries {
        while open.len() > 1 && !path.starts_with(&open[open.len() - 1].0) {
            close(&mut open);
        }
        let id = path.join("/");
        let node = TreeNode {
            id,
            snapshot,
            children: Vec::new(),
        };
        open.push((path, node));
    }
    while open.len() > 1 {
        close(&mut open);
    }
    open.pop().map(|(_, root)| root)
}

fn close(open: &mut Vec<(Vec<String>, TreeNode)>) {
    if let Some((_, node)) = open.pop()
        && let Some((_, parent)) = open.last_mut()
    {
        parent.children.push(node);
    }
}

/// A lock that is never held across an await and survives a panicking holder.
mod parking {
    use std::sync::{Mutex, PoisonError};

    #[derive(Default)]
    pub(super) struct Lock<T>(Mutex<T>);

    impl<T> Lock<T> {
        pub(super) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
            f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(state: &str) -> Snapshot {
        Snapshot {
            state: state.into(),
            ..Snapshot::default()
        }
    }

    #[test]
    fn nodes_hang_under_their_nearest_ancestor() {
        let board = Board::new();
        board.put(&["root"], named("up"));
        board.put(&["root", "pool"], named("up"));
        board.put(&["root", "pool", "b"], named("idle"));
        board.put(&["root", "pool", "a"], named("idle"));
        board.put(&["root", "dispatcher"], named("up"));
        let tree = board.tree().expect("a root");
        let ids: Vec<_> = tree.children.iter().map(|n| n.id.as_str()).collect();
        assert_eq!(ids, ["root/dispatcher", "root/pool"]);
        let ids: Vec<_> = tree.children[1]
            .children
            .iter()
            .map(|n| n.id.as_str())
            .collect();
        assert_eq!(ids, ["root/pool/a", "root/pool/b"]);
        board.remove(&["root", "pool"]);
        assert_eq!(board.tree().expect("a root").children.len(), 1);
    }
}
