//! A program that writes transcripts, and a store that it is mirrored into.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use hearth_actors::testing::contract_transcripts::fresh_key;
use hearth_actors::testing::memory::MemoryTranscripts;
use hearth_actors::transcript::{TranscriptId, TranscriptKey};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::keys::{file_of, metadata_of, project_key};
use super::{Mirror, Rebuilt, lines, rebuild};

/// A configuration directory on one node.
pub(in crate::backends::claude) struct Host {
    pub(in crate::backends::claude) dir: TempDir,
    pub(in crate::backends::claude) store: MemoryTranscripts,
    pub(in crate::backends::claude) main: TranscriptKey,
}

impl Host {
    pub(in crate::backends::claude) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            store: MemoryTranscripts::default(),
            main: fresh_key(),
        }
    }

    /// Of this session of a directory, whose links are resolved.
    pub(in crate::backends::claude) fn of(cwd: &Path, id: &str) -> Self {
        let session = TranscriptId::parse(id).unwrap();
        Self {
            main: TranscriptKey::main(project_key(cwd).unwrap(), session),
            ..Self::new()
        }
    }

    /// Another machine with the same database.
    pub(in crate::backends::claude) fn elsewhere(&self) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            store: self.store.twin(),
            main: self.main.clone(),
        }
    }

    pub(in crate::backends::claude) fn mirror(&self, rebuilt: Option<&Rebuilt>) -> Mirror {
        Mirror::start(Arc::new(self.store.clone()), self.dir.path(), rebuilt)
    }

    pub(in crate::backends::claude) async fn rebuild(&self) -> Rebuilt {
        let rebuilt = rebuild(&self.store, self.dir.path(), &self.main).await;
        rebuilt.expect("rebuilt")
    }

    pub(in crate::backends::claude) fn file(&self, key: &TranscriptKey) -> std::path::PathBuf {
        file_of(&self.projects(), key)
    }

    pub(in crate::backends::claude) fn projects(&self) -> std::path::PathBuf {
        self.dir.path().join("projects")
    }

    /// The program appends to its file, and nothing else.
    pub(in crate::backends::claude) fn write(&self, key: &TranscriptKey, entries: &[Value]) {
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
    pub(in crate::backends::claude) fn say(
        &self,
        mirror: &Mirror,
        key: &TranscriptKey,
        entries: &[Value],
    ) {
        self.write(key, entries);
        mirror.take(&self.file(key), entries.to_vec());
    }

    pub(in crate::backends::claude) fn entries(&self, key: &TranscriptKey) -> Vec<Value> {
        lines::read(&fs::read(self.file(key)).unwrap()).entries
    }

    pub(in crate::backends::claude) fn metadata(&self, key: &TranscriptKey) -> Option<Value> {
        let path = metadata_of(&self.projects(), key)?;
        lines::parse(&fs::read_to_string(path).ok()?)
    }
}

/// Entries of a chain with these names, behind `parent`.
pub(in crate::backends::claude) fn chain(parent: Option<&str>, names: &[&str]) -> Vec<Value> {
    let mut parent = parent.map(str::to_owned);
    let mut entry = |name: &&str| {
        let entry = json!({"type": "user", "uuid": name, "parentUuid": parent, "sessionId": "s"});
        parent = Some((*name).to_owned());
        entry
    };
    names.iter().map(&mut entry).collect()
}

pub(in crate::backends::claude) fn note(text: &str) -> Value {
    json!({"type": "last-prompt", "lastPrompt": text})
}

pub(in crate::backends::claude) fn mode_of(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
