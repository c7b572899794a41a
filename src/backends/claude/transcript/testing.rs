//! A program that writes transcripts, and a store that it is mirrored into.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use hearth_actors::testing::contract_transcripts::fresh_key;
use hearth_actors::testing::memory::MemoryTranscripts;
use hearth_actors::transcript::TranscriptKey;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::keys::{file_of, metadata_of};
use super::{Mirror, Rebuilt, lines, rebuild};

/// A configuration directory on one node.
pub(super) struct Host {
    pub(super) dir: TempDir,
    pub(super) store: MemoryTranscripts,
    pub(super) main: TranscriptKey,
}

impl Host {
    pub(super) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            store: MemoryTranscripts::default(),
            main: fresh_key(),
        }
    }

    /// Another machine with the same database.
    pub(super) fn elsewhere(&self) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            store: self.store.twin(),
            main: self.main.clone(),
        }
    }

    pub(super) fn mirror(&self, rebuilt: Option<&Rebuilt>) -> Mirror {
        Mirror::start(Arc::new(self.store.clone()), self.dir.path(), rebuilt)
    }

    pub(super) async fn rebuild(&self) -> Rebuilt {
        let rebuilt = rebuild(&self.store, self.dir.path(), &self.main).await;
        rebuilt.expect("rebuilt")
    }

    pub(super) fn file(&self, key: &TranscriptKey) -> std::path::PathBuf {
        file_of(&self.projects(), key)
    }

    pub(super) fn projects(&self) -> std::path::PathBuf {
        self.dir.path().join("projects")
    }

    /// The program appends to its file, and nothing else.
    pub(super) fn write(&self, key: &TranscriptKey, entries: &[Value]) {
        let path = self.file(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        file.write_all(&lines::print(entries)).unwrap();
    }

    /// The program appends to its file, and says so.
    pub(super) fn say(&self, mirror: &Mirror, key: &TranscriptKey, entries: &[Value]) {
        self.write(key, entries);
        mirror.take(&self.file(key), entries.to_vec());
    }

    pub(super) fn entries(&self, key: &TranscriptKey) -> Vec<Value> {
        lines::read(&fs::read(self.file(key)).unwrap()).entries
    }

    pub(super) fn metadata(&self, key: &TranscriptKey) -> Option<Value> {
        let path = metadata_of(&self.projects(), key)?;
        lines::parse(&fs::read_to_string(path).ok()?)
    }
}

/// Entries of a chain with these names, behind `parent`.
pub(super) fn chain(parent: Option<&str>, names: &[&str]) -> Vec<Value> {
    let mut parent = parent.map(str::to_owned);
    let mut entry = |name: &&str| {
        let entry = json!({"type": "user", "uuid": name, "parentUuid": parent, "sessionId": "s"});
        parent = Some((*name).to_owned());
        entry
    };
    names.iter().map(&mut entry).collect()
}

pub(super) fn note(text: &str) -> Value {
    json!({"type": "last-prompt", "lastPrompt": text})
}

pub(super) fn mode_of(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
