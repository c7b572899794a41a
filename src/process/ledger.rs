//! The ledger on disk: one small file for each process tree that is alive, so
//! that the next life can find what this one left behind.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ProcessError;
use super::procfs::Identity;

/// One process tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The boot in which the start times below were read.
    pub(super) boot: String,
    /// Value of the marker in the environment of each of its processes.
    pub(super) marker: String,
    /// Whose it is, for people.
    pub(super) owner: String,
    /// The process that guards it.
    pub(super) shim: Identity,
    /// The agent itself, and the leader of its process group.
    pub(super) agent: Identity,
}

/// The directory of entries.
#[derive(Debug)]
pub(super) struct Ledger {
    directory: PathBuf,
}

impl Ledger {
    pub(super) fn open(directory: PathBuf) -> Result<Self, ProcessError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(|source| failed(&directory, source))?;
        Ok(Self { directory })
    }

    /// Writes an entry whole or not at all.
    pub(super) fn write(&self, id: &str, entry: &Entry) -> Result<(), ProcessError> {
        let path = self.path(id);
        let new = path.with_extension(NEW);
        let text = serde_json::to_vec(entry).map_err(|error| failed(&path, error.into()))?;
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)
            .and_then(|mut file| file.write_all(&text))
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|source| failed(&path, source))
    }

    /// A missing entry is fine.
    pub(super) fn remove(&self, id: &str) {
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, id, "a process ledger entry could not be removed");
            }
            _ => {}
        }
    }

    /// All entries with their ids; files that are no entries come as none.
    /// Reads at most [`ENTRY_LIMIT`] of them.
    pub(super) fn read(&self) -> Vec<(String, Option<Entry>)> {
        let Ok(files) = fs::read_dir(&self.directory) else {
            return Vec::new();
        };
        files
            .flatten()
            .map(|file| file.path())
            .filter(|path| path.extension().is_some_and(|e| e == EXTENSION))
            .take(ENTRY_LIMIT)
            .filter_map(|path| {
                let id = path.file_stem()?.to_str()?.to_owned();
                let entry = fs::read(&path)
                    .ok()
                    .and_then(|t| serde_json::from_slice(&t).ok());
                Some((id, entry))
            })
            .collect()
    }

    fn path(&self, id: &str) -> PathBuf {
        self.directory.join(id).with_extension(EXTENSION)
    }
}

const EXTENSION: &str = "json";
const NEW: &str = "new";
/// Far above the number of trees a room allows at once.
const ENTRY_LIMIT: usize = 4096;

fn failed(path: &Path, source: io::Error) -> ProcessError {
    ProcessError::Ledger {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            boot: "b".into(),
            marker: "node:1".into(),
            owner: "somebody".into(),
            shim: Identity { pid: 1, start: 2 },
            agent: Identity { pid: 3, start: 4 },
        }
    }

    #[test]
    fn an_entry_is_there_until_it_is_removed_and_removing_twice_is_fine() {
        let home = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(home.path().join("ledger")).unwrap();
        ledger.write("one", &entry()).unwrap();
        assert_eq!(ledger.read(), [("one".to_owned(), Some(entry()))]);
        ledger.remove("one");
        ledger.remove("one");
        assert_eq!(ledger.read(), []);
    }

    #[test]
    fn a_damaged_entry_is_reported_as_such() {
        let home = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(home.path().to_owned()).unwrap();
        fs::write(home.path().join("half.json"), "{\"boot\":").unwrap();
        assert_eq!(ledger.read(), [("half".to_owned(), None)]);
    }
}
