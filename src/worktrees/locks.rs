//! One holder at a time for each repository and for each worktree.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// Locks by path. A path that nobody holds or waits for takes no room for long.
#[derive(Clone, Default)]
pub(super) struct Locks {
    by_path: Arc<Mutex<BTreeMap<PathBuf, Weak<AsyncMutex<()>>>>>,
}

impl Locks {
    /// Waits for the path's lock. The caller bounds the wait.
    pub(super) async fn hold(&self, path: &Path) -> OwnedMutexGuard<()> {
        self.of(path).lock_owned().await
    }

    fn of(&self, path: &Path) -> Arc<AsyncMutex<()>> {
        let mut by_path = self.by_path.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = by_path.get(path).and_then(Weak::upgrade) {
            return lock;
        }
        by_path.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(AsyncMutex::new(()));
        by_path.insert(path.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_path_has_one_holder_and_is_forgotten_after_it() {
        let locks = Locks::default();
        let held = locks.hold(Path::new("/a")).await;
        assert!(locks.of(Path::new("/a")).try_lock().is_err());
        drop(held);
        assert!(locks.of(Path::new("/a")).try_lock().is_ok());
        let _other = locks.hold(Path::new("/b")).await;
        assert_eq!(locks.by_path.lock().expect("not poisoned").len(), 1);
    }
}
