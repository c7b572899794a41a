//! What agents run as.

use std::time::Duration;

use async_trait::async_trait;

use crate::ids::SessionKey;

/// What Hearth knows of the processes it owns.
#[async_trait]
pub trait ProcessLedger: Send + Sync {
    /// Waits until no process of `key` is alive, at most `within`. False when
    /// one still is.
    async fn gone(&self, key: &SessionKey, within: Duration) -> bool;

    /// Resident bytes of the process trees of `key`, if it has any.
    fn rss_bytes(&self, key: &SessionKey) -> Option<u64>;
}
