//! What agents run as.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;

use crate::ids::SessionKey;

/// What Hearth knows of the processes it owns.
#[async_trait]
pub trait ProcessLedger: Send + Sync {
    /// Waits until no process of `key` is alive, at most `within`. False when
    /// one still is.
    async fn gone(&self, key: &SessionKey, within: Duration) -> bool;

    /// Stops our own processes whose working directory is below `folder`, and waits
    /// for their end, a few seconds. The others that work there, at most 20, come
    /// back as `<pid> <name>`: nobody touches them.
    async fn leave(&self, folder: &Path) -> Vec<String>;

    /// Resident bytes of the process trees of `key`, if it has any. May block.
    fn rss_bytes(&self, key: &SessionKey) -> Option<u64>;

    /// What each key with a process of its own takes now. One whose processes cannot
    /// be read is not in it.
    async fn footprints(&self) -> BTreeMap<SessionKey, Footprint>;

    /// Remembers the processes that `key` has now: they are the agent and its
    /// helpers. Looks, waits so long, and forgets what it saw unless `still` holds then.
    async fn settled(&self, key: &SessionKey, wait: Duration, still: &(dyn Fn() -> bool + Sync));

    /// How many processes `key` has beyond those: work that its agent left running.
    /// None when that cannot be told; 0 when it has no process of its own.
    async fn left_running(&self, key: &SessionKey) -> Option<usize>;
}

/// What a process tree takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Its proportional share of memory (PSS): what is shared counts once, in parts.
    pub bytes: u64,
    /// Its processes, without the guard.
    pub processes: usize,
}
