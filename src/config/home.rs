//! The data directory: where it is, and that nobody else can read it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

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
