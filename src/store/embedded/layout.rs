//! Where things lie, and who may touch them.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::user::ServerUser;
use super::{EmbeddedConfig, EmbeddedError};

/// Names the socket file only, as no TCP port is opened.
pub(super) const PORT: u16 = 5432;
/// `sun_path` has 108 bytes, the last one a zero.
const SOCKET_PATH_MAX: usize = 107;

impl EmbeddedConfig {
    pub(super) fn data(&self) -> PathBuf {
        self.base.join("data")
    }

    /// Creates the directory that everything is in, and makes its path
    /// absolute and free of links: `/proc` shows it so.
    pub(super) fn settle(mut self) -> Result<Self, EmbeddedError> {
        create_private(&self.base)?;
        self.base = fs::canonicalize(&self.base)
            .map_err(EmbeddedError::io("resolving the directory", &self.base))?;
        Ok(self)
    }

    /// Where the socket is: beside the data, or in a short place of the system
    /// when that path is longer than a socket's may be. Every opener of the
    /// same data finds the same place.
    pub(super) fn socket_dir(&self) -> PathBuf {
        let beside = self.base.join("run");
        if fits(&beside) {
            return beside;
        }
        let hash = Sha256::digest(self.base.as_os_str().as_encoded_bytes());
        let short = format!(
            "hearth-{:02x}{:02x}{:02x}{:02x}",
            hash[0], hash[1], hash[2], hash[3]
        );
        let me = Uid::effective();
        let root = match me.is_root() {
            true => PathBuf::from("/run"),
            false => PathBuf::from(format!("/run/user/{me}")),
        };
        if root.is_dir() {
            root
        } else {
            std::env::temp_dir()
        }
        .join(short)
    }

    /// The password, made up at the first call. Only Hearth's own user can read it.
    pub(super) fn password(&self) -> Result<String, EmbeddedError> {
        match fs::read_to_string(&self.password_file) {
            Ok(password) if !password.trim().is_empty() => return Ok(password.trim().to_owned()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let failed =
                    EmbeddedError::io("reading the database password", &self.password_file);
                return Err(failed(error));
            }
            _ => {}
        }
        let password = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let new = self.password_file.with_extension("new");
        let _ = fs::remove_file(&new);
        write_private(&new, &password)
            .and_then(|()| fs::rename(&new, &self.password_file))
            .map_err(EmbeddedError::io(
                "writing the database password",
                &self.password_file,
            ))?;
        Ok(password)
    }
}

/// A directory that only its owner can enter.
pub(super) fn create_private(path: &Path) -> Result<(), EmbeddedError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(EmbeddedError::io("creating the directory", path))
}

/// A new file that only its owner can read.
pub(super) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?
        .write_all(text.as_bytes())
}

/// Makes the socket directory for the server, and empties it: the lock file of
/// a killed server names a number that may be a stranger's by now.
pub(super) fn fresh_socket_dir(path: &Path, user: &ServerUser) -> Result<(), EmbeddedError> {
    create_private(path)?;
    let found = fs::symlink_metadata(path).map_err(EmbeddedError::io("looking at it", path))?;
    let mine = [Uid::effective().as_raw(), user.uid].contains(&found.uid());
    if !found.is_dir() || !mine || found.permissions().mode() & 0o077 != 0 {
        return Err(EmbeddedError::Directory {
            path: path.to_owned(),
            reason:
                "it is somebody else's or open to others: remove it, or set a shorter HEARTH_HOME"
                    .into(),
        });
    }
    for name in [format!(".s.PGSQL.{PORT}"), format!(".s.PGSQL.{PORT}.lock")] {
        let _ = fs::remove_file(path.join(name));
    }
    user.give(path)
}

fn fits(directory: &Path) -> bool {
    directory.join(format!(".s.PGSQL.{PORT}")).as_os_str().len() <= SOCKET_PATH_MAX
}
