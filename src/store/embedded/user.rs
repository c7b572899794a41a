//! Whom PostgreSQL runs as. It refuses to run as root.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};

use super::EmbeddedError;

/// The user of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerUser {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// It is not the user who runs Hearth.
    pub(super) other: bool,
}

impl ServerUser {
    /// Ourselves, unless we are root: then the owner of existing data, else
    /// `wanted`, else `postgres`, else `nobody`.
    pub(super) fn choose(data: &Path, wanted: Option<&str>) -> Result<Self, EmbeddedError> {
        let me = Uid::effective();
        if !me.is_root() {
            // initdb looks itself up by name.
            return by_uid(me).map(|user| Self::from(user, false)).ok_or_else(|| {
                EmbeddedError::User(format!(
                    "user id {me} has no entry in /etc/passwd, and PostgreSQL needs one: add one, or set DATABASE_URL"
                ))
            });
        }
        let owner = fs::metadata(data.join("PG_VERSION"))
            .ok()
            .and_then(|file| by_uid(Uid::from_raw(file.uid())))
            .filter(|user| !user.uid.is_root());
        let chosen = owner.or_else(|| match wanted {
            Some(name) => by_name(name),
            None => by_name("postgres").or_else(|| by_name("nobody")),
        });
        chosen.map(|user| Self::from(user, true)).ok_or_else(|| {
            EmbeddedError::User(format!(
                "PostgreSQL does not run as root and there is no user `{}`: create it (`useradd --system postgres`), name another one with HEARTH_PG_USER, run Hearth as an ordinary user, or set DATABASE_URL",
                wanted.unwrap_or("postgres")
            ))
        })
    }

    /// Uid and gid to start its programs as, if it takes a change.
    pub(super) fn run_as(&self) -> Option<(u32, u32)> {
        self.other.then_some((self.uid, self.gid))
    }

    /// Makes it the owner of `path`.
    pub(super) fn give(&self, path: &Path) -> Result<(), EmbeddedError> {
        if self.other {
            chown(path, Some(self.uid), Some(self.gid))
                .map_err(EmbeddedError::io("giving it to the PostgreSQL user", path))?;
        }
        Ok(())
    }

    /// Sees that it can reach `base`. The directory around it is Hearth's own
    /// and closed: the user's group gets the right to pass, not to look.
    pub(super) fn let_through(&self, base: &Path) -> Result<(), EmbeddedError> {
        if !self.other {
            return Ok(());
        }
        if let Some(home) = base.parent().filter(|home| !self.may_enter(home)) {
            open_to_group(home, self.gid)
                .map_err(EmbeddedError::io("letting the PostgreSQL user pass", home))?;
        }
        match self.first_closed(base) {
            None => Ok(()),
            Some(path) => Err(EmbeddedError::Directory {
                reason: format!(
                    "the user `{}`, as whom PostgreSQL runs, may not enter it: set HEARTH_HOME to a directory such as /var/lib/hearth, or DATABASE_URL",
                    self.name
                ),
                path,
            }),
        }
    }

    fn first_closed(&self, base: &Path) -> Option<PathBuf> {
        let mut above: Vec<&Path> = base.ancestors().skip(1).collect();
        above.reverse();
        above
            .into_iter()
            .find(|directory| !self.may_enter(directory))
            .map(Path::to_owned)
    }

    fn may_enter(&self, directory: &Path) -> bool {
        directory.metadata().is_ok_and(|found| {
            let allowed = match (found.uid() == self.uid, found.gid() == self.gid) {
                (true, _) => 0o100,
                (false, true) => 0o010,
                (false, false) => 0o001,
            };
            found.mode() & allowed != 0
        })
    }

    fn from(user: User, other: bool) -> Self {
        Self {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            other,
        }
    }
}

fn open_to_group(home: &Path, gid: u32) -> std::io::Result<()> {
    let found = home.metadata()?;
    // Only a directory of our own, and only one that nobody else's group uses.
    if found.uid() != Uid::effective().as_raw() || found.mode() & 0o077 != 0 {
        return Ok(());
    }
    chown(home, None, Some(gid))?;
    fs::set_permissions(home, PermissionsExt::from_mode(0o710))
}

fn by_uid(uid: Uid) -> Option<User> {
    User::from_uid(uid).ok().flatten()
}

fn by_name(name: &str) -> Option<User> {
    User::from_name(name).ok().flatten()
}
