//! What the supervision tree asks of the room. Reads of `/proc` happen beside the
//! actors, on threads that may block.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hearth_actors::ids::SessionKey;
use hearth_actors::ports::{Footprint, ProcessLedger};

use super::procfs::{self, Identity};
use super::sweep;
use super::trees::Tree;
use super::{Owner, Room};

#[async_trait]
impl ProcessLedger for Room {
    async fn gone(&self, key: &SessionKey, within: Duration) -> bool {
        tokio::time::timeout(within, self.0.trees.gone(key))
            .await
            .is_ok()
    }

    async fn leave(&self, folder: &Path) -> Vec<String> {
        let (inner, folder) = (Arc::clone(&self.0), folder.to_owned());
        tokio::task::spawn_blocking(move || sweep::leave(&inner, &folder))
            .await
            .unwrap_or_default()
    }

    /// Without the shims, which share most of their pages with Hearth.
    fn rss_bytes(&self, key: &SessionKey) -> Option<u64> {
        let trees = self.0.trees.of(key);
        if trees.is_empty() {
            return None;
        }
        Some(procfs::resident_bytes(trees.iter().flat_map(members)))
    }

    async fn footprints(&self) -> BTreeMap<SessionKey, Footprint> {
        let trees = self.0.trees.all();
        let weigh = move || {
            let mut weights: BTreeMap<SessionKey, Footprint> = BTreeMap::new();
            for tree in &trees {
                let Owner::Session(key) = &tree.owner else {
                    continue;
                };
                let shares = members(tree).into_iter().filter_map(procfs::share_of);
                for bytes in shares {
                    let weight = weights.entry(key.clone()).or_default();
                    weight.bytes += bytes;
                    weight.processes += 1;
                }
            }
            weights
        };
        tokio::task::spawn_blocking(weigh).await.unwrap_or_default()
    }

    async fn settled(&self, key: &SessionKey, wait: Duration, still: &(dyn Fn() -> bool + Sync)) {
        let trees = self.0.trees.of(key);
        let look = move || {
            let seen = trees.into_iter().map(|tree| {
                let now: BTreeSet<Identity> = members(&tree).into_iter().collect();
                (tree.agent, Arc::new(now))
            });
            seen.collect::<Vec<_>>()
        };
        let seen = tokio::task::spawn_blocking(look).await.unwrap_or_default();
        tokio::time::sleep(wait).await;
        if !still() {
            return;
        }
        for (agent, now) in seen {
            self.0.trees.update_of(key, |own| {
                if own.agent == agent {
                    own.settled = Some(Arc::clone(&now));
                }
            });
        }
    }

    async fn left_running(&self, key: &SessionKey) -> Option<usize> {
        let trees = self.0.trees.of(key);
        let count = move || {
            let mut left = 0;
            for tree in &trees {
                let settled = tree.settled.as_ref()?;
                let now = members(tree);
                left += now.iter().filter(|now| !settled.contains(now)).count();
            }
            Some(left)
        };
        tokio::task::spawn_blocking(count).await.ok().flatten()
    }
}

/// The processes of a tree, the guard left out.
fn members(tree: &Tree) -> Vec<Identity> {
    match tree.shim {
        Some(shim) => procfs::descendants(shim.pid),
        None => tree.agent.into_iter().collect(),
    }
}
