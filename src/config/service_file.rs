//! `service.json` in the data directory: where the running service answers.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// What a client needs to find the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceFile {
    /// Such as `http://127.0.0.1:9502`.
    pub url: String,
    /// The service's process.
    pub pid: u32,
    /// When it began.
    pub started_at: DateTime<Utc>,
}

impl ServiceFile {
    /// What the data directory says; none when there is no readable file. It is
    /// a leftover unless [`super::home::is_taken`].
    #[must_use]
    pub fn read(home: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path(home)).ok()?).ok()
    }

    /// Replaces what the data directory says, whole.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn write(&self, home: &Path) -> io::Result<()> {
        let draft = home.join(format!(".service.{}.json", self.pid));
        fs::write(&draft, serde_json::to_vec_pretty(self)?)?;
        fs::rename(&draft, path(home))
    }

    /// Takes the file away, whoever wrote it: for the holder of the lock.
    pub fn clear(home: &Path) {
        // Without a lock on the home nobody believes it.
        drop(fs::remove_file(path(home)));
    }

    /// Takes the file away if it is still about process `pid`.
    pub fn remove(home: &Path, pid: u32) {
        if Self::read(home).is_some_and(|file| file.pid == pid) {
            Self::clear(home);
        }
    }
}

fn path(home: &Path) -> PathBuf {
    home.join("service.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_owner_takes_it_away() {
        let home = tempfile::tempdir().expect("a directory");
        let file = ServiceFile {
            url: "http://127.0.0.1:1".into(),
            pid: 7,
            started_at: DateTime::UNIX_EPOCH,
        };
        file.write(home.path()).expect("written");
        ServiceFile::remove(home.path(), 8);
        assert_eq!(ServiceFile::read(home.path()), Some(file.clone()));
        ServiceFile::remove(home.path(), 7);
        assert_eq!(ServiceFile::read(home.path()), None);
        file.write(home.path()).expect("written");
        ServiceFile::clear(home.path());
        assert_eq!(ServiceFile::read(home.path()), None);
    }
}
