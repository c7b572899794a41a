//! The data directory: where it is, and that nobody else can read it.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

/// Why the data directory cannot be used.
#[derive(Debug, Error)]
pub enum HomeError {
    /// It belongs to someone else.
    #[error(
        "{path} belongs to user {owner}, not to us (user {us})\n  cure: set HEARTH_HOME to a directory of your own, or run as its owner"
    )]
    Foreign {
        /// Which directory.
        path: PathBuf,
        /// User id of its owner.
        owner: u32,
        /// Our user id.
        us: u32,
    },
    /// It cannot be made or changed.
    #[error(
        "{path} cannot be used as data directory: {source}\n  cure: set HEARTH_HOME to a directory that you may write"
    )]
    Unusable {
        /// Which directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What others may do at most: the group of a private PostgreSQL's user may pass
/// through to its own directory, when we are root and it is not.
const MOST: u32 = 0o710;

/// Makes the directory if need be, and closes it to everyone else (0700).
///
/// # Errors
/// It belongs to another user, or cannot be made.
pub fn prepare(path: &Path) -> Result<(), HomeError> {
    let unusable = |source| HomeError::Unusable {
        path: path.to_owned(),
        source,
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(unusable)?;
    let found = fs::metadata(path).map_err(unusable)?;
    let us = nix::unistd::geteuid().as_raw();
    if found.uid() != us {
        return Err(HomeError::Foreign {
            path: path.to_owned(),
            owner: found.uid(),
            us,
        });
    }
    let mode = found.mode() & 0o777;
    // A group of our own has no business here: only the one it was opened for.
    let foreign_group = found.gid() != nix::unistd::getegid().as_raw();
    let most = if foreign_group { MOST } else { 0o700 };
    if mode & !most != 0 {
        let closed = fs::Permissions::from_mode(mode & most | 0o700);
        fs::set_permissions(path, closed).map_err(unusable)?;
    }
    Ok(())
}

/// A client that looks whether the lock is held holds it for a moment itself.
const LOCK_TRIES: u32 = 10;
const BETWEEN_TRIES: Duration = Duration::from_millis(10);

/// Held by the service that runs on the data directory, for as long as it lives.
#[must_use]
pub fn lock_file(home: &Path) -> PathBuf {
    home.join("lock")
}

/// Takes the data directory for one service; the lock goes with the file. None
/// when another one has it.
///
/// # Errors
/// The file cannot be made or locked.
pub async fn lock(home: &Path) -> io::Result<Option<File>> {
    let file = File::create(lock_file(home))?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(BETWEEN_TRIES).await,
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(None)
}

/// Whether a service has the data directory.
#[must_use]
pub fn is_taken(home: &Path) -> bool {
    let Ok(file) = File::open(lock_file(home)) else {
        return false;
    };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// `/var/lib/hearth` for root, else below `$XDG_DATA_HOME` or `~/.local/share`.
#[must_use]
pub fn default_home(env: &BTreeMap<String, String>) -> Option<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return Some("/var/lib/hearth".into());
    }
    xdg(env, "XDG_DATA_HOME", ".local/share").map(|dir| dir.join("hearth"))
}

/// `$XDG_CONFIG_HOME/hearth`, else `~/.config/hearth`.
#[must_use]
pub fn config_dir(env: &BTreeMap<String, String>) -> Option<PathBuf> {
    xdg(env, "XDG_CONFIG_HOME", ".config").map(|dir| dir.join("hearth"))
}

/// The base directory specification: a relative path counts as unset.
fn xdg(env: &BTreeMap<String, String>, variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |name: &str| {
        env.get(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(below_home)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_service_has_the_directory_and_looking_takes_nothing() {
        let home = tempfile::tempdir().expect("a directory");
        assert!(!is_taken(home.path()), "no file yet");
        let first = lock(home.path()).await.expect("locked");
        assert!(first.is_some());
        assert!(is_taken(home.path()));
        assert!(lock(home.path()).await.expect("looked").is_none());
        drop(first);
        assert!(!is_taken(home.path()));
        assert!(lock(home.path()).await.expect("locked").is_some());
    }
}
