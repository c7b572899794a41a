//! What agents run as.

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

    /// Resident bytes of the process trees of `key`, if it has any.
    fn rss_bytes(&self, key: &SessionKey) -> Option<u64>;
}
