//! The program's own files.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use hearth_actors::transcript::{Subpath, TranscriptKey};
use serde_json::Value;
use uuid::Uuid;

use super::chain::Transcript;
use super::keys::{file_of, key_of, metadata_of};
use super::lines;

/// Largest file that is read. Sessions are compacted long before.
const MAX_FILE: u64 = 256 << 20;
/// Most files beside a main transcript that are looked at, and most folders deep.
const MAX_BESIDE: usize = 10_000;
const MAX_DEPTH: usize = 8;

/// The folder `projects` of a configuration directory. Everything here blocks.
#[derive(Clone, Debug)]
pub(super) struct Local {
    projects: PathBuf,
}

impl Local {
    pub(super) fn new(config_dir: &Path) -> Self {
        Self {
            projects: config_dir.join("projects"),
        }
    }

    pub(super) fn projects(&self) -> &Path {
        &self.projects
    }

    /// The file, and what the one beside it says it is of.
    pub(super) fn read(&self, key: &TranscriptKey) -> io::Result<Option<Transcript>> {
        let Some(bytes) = read_bounded(&file_of(&self.projects, key))? else {
            return Ok(None);
        };
        let found = lines::read(&bytes);
        if found.unreadable > 0 {
            tracing::warn!(%key, lines = found.unreadable, "lines of a transcript that are no entries are left out");
        }
        Ok(Some(Transcript {
            metadata: self.read_metadata(key)?,
            ..Transcript::of(found.entries)
        }))
    }

    fn read_metadata(&self, key: &TranscriptKey) -> io::Result<Option<Value>> {
        let Some(path) = metadata_of(&self.projects, key) else {
            return Ok(None);
        };
        let bytes = read_bounded(&path)?.unwrap_or_default();
        Ok(lines::parse(&String::from_utf8_lossy(&bytes)))
    }

    /// Replaces the file, and the one that says what it is of. A reader finds the
    /// old file or the new one; after a loss of power perhaps an empty one, which
    /// is older than the store and written again.
    pub(super) fn write(&self, key: &TranscriptKey, stored: &Transcript) -> io::Result<()> {
        if let (Some(path), Some(metadata)) = (metadata_of(&self.projects, key), &stored.metadata) {
            replace(&path, metadata.to_string().as_bytes())?;
        }
        replace(
            &file_of(&self.projects, key),
            &lines::print(&stored.entries),
        )
    }

    /// Moves the file out of the program's sight, in place of the one that was
    /// moved there before.
    pub(super) fn set_aside(&self, key: &TranscriptKey) -> io::Result<PathBuf> {
        let file = file_of(&self.projects, key);
        let aside = file.with_extension("jsonl.diverged");
        fs::rename(file, &aside)?;
        Ok(aside)
    }

    /// The transcripts beside the main one, in the order of their names. Files whose
    /// names are no keys are none.
    pub(super) fn beside(&self, main: &TranscriptKey) -> io::Result<Vec<Subpath>> {
        let folder = file_of(&self.projects, main).with_extension("");
        let mut found = Vec::new();
        let mut folders = vec![(folder, 0)];
        while let Some((folder, depth)) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                Err(gone) if gone.kind() == io::ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries.take(MAX_BESIDE) {
                let entry = entry?;
                // A link is neither: it could lead in circles.
                let kind = entry.file_type()?;
                if kind.is_dir() && depth < MAX_DEPTH {
                    folders.push((entry.path(), depth + 1));
                } else if kind.is_file()
                    && let Some(Ok(key)) = key_of(&self.projects, &entry.path())
                    && found.len() < MAX_BESIDE
                {
                    found.extend(key.subpath);
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

fn read_bounded(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(gone) if gone.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|read| read > MAX_FILE) {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("is larger than {MAX_FILE} bytes"),
        ));
    }
    Ok(Some(bytes))
}

/// For its owner's eyes only, as the program writes it.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let fresh = folder.join(format!(".hearth-{}", Uuid::now_v7()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| fs::rename(&fresh, path));
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    written
}
