//! What Hearth keeps about one worktree beside it, and the index that a whole
//! scan works with: a copy of the worktree's own, whose stat data spare the
//! hashing of everything, so that the agent's staging area is never touched.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use git2::{Index, IndexEntry, IndexEntryExtendedFlag, IndexEntryFlag, IndexTime, Oid, Repository};
use hearth_actors::ids::WorktreeId;
use hearth_actors::ports::WorktreeError;

use super::admin::replace;
use super::errors::Context;
use super::stat::{Time, time_of};

/// A folder for what Hearth alone knows about one worktree.
#[derive(Clone, Debug)]
pub(super) struct Private {
    dir: PathBuf,
}

impl Private {
    /// The folder of `worktree` under the worktrees' home, made if need be.
    pub(super) fn of(home: &Path, worktree: WorktreeId) -> Result<Self, WorktreeError> {
        let dir = home.join(".index").join(worktree.to_string());
        fs::create_dir_all(&dir).cannot("make a folder", &dir)?;
        Ok(Self { dir })
    }

    /// A file in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Remembers the worktree's entry in its repository. Its files' own word
    /// for it is not asked: an agent can change that.
    pub(super) fn remember_entry(&self, entry: &Path) -> Result<(), WorktreeError> {
        if self.entry().is_some_and(|kept| kept == entry) {
            return Ok(());
        }
        let path = self.file("entry");
        replace(&path, entry.as_os_str().as_bytes()).cannot("write", &path)
    }

    /// The remembered entry.
    pub(super) fn entry(&self) -> Option<PathBuf> {
        let bytes = fs::read(self.file("entry")).ok()?;
        Some(as_path(&bytes).to_owned())
    }

    /// The time by the file system's own clock, which is coarser than the
    /// system's: only times of the same clock can be compared.
    pub(super) fn now(&self) -> Result<Time, WorktreeError> {
        let path = self.file("clock");
        fs::write(&path, b"\n")
            .and_then(|()| fs::metadata(&path)?.modified())
            .map(time_of)
            .cannot("read the file system's clock", &path)
    }

    /// A copy of the agent's index, made the one that `repo` works with. Its
    /// modification time is the original's: git's racy-clean rule needs it.
    pub(super) fn seed(&self, repo: &Repository) -> Result<Index, WorktreeError> {
        let path = self.file("index");
        self.clear();
        match copy_with_time(&repo.path().join("index"), &path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.seed_from_head(repo);
            }
            Err(error) => return Err(error).cannot("copy the index", &path),
        }
        // Split and sparse indexes are beyond libgit2; HEAD is not.
        let Ok(mut index) = Index::open(&path) else {
            return self.seed_from_head(repo);
        };
        repo.set_index(&mut index).cannot("use the index", &path)?;
        settle_entries(&mut index, repo).cannot("read the index", &path)?;
        Ok(index)
    }

    /// HEAD's files, for want of the agent's index: all of them will be read.
    pub(super) fn seed_from_head(&self, repo: &Repository) -> Result<Index, WorktreeError> {
        let path = self.file("index");
        self.clear();
        let seed = || -> Result<Index, git2::Error> {
            let mut index = Index::open(&path)?;
            repo.set_index(&mut index)?;
            if let Ok(tree) = repo.head().and_then(|head| head.peel_to_tree()) {
                index.read_tree(&tree)?;
            }
            Ok(index)
        };
        seed().cannot("make an index", &path)
    }

    /// Removes what an earlier scan left.
    fn clear(&self) {
        for name in ["index", "index.lock"] {
            // Not there is as good as removed.
            let _ = fs::remove_file(self.file(name));
        }
    }
}

/// Takes out of the entries what would hide a file from the scan: conflicts,
/// "assume unchanged", "intent to add", and "skip" for files that are there.
fn settle_entries(index: &mut Index, repo: &Repository) -> Result<(), git2::Error> {
    let workdir = repo.workdir().unwrap_or(repo.path()).to_owned();
    let hides = |entry: &IndexEntry| {
        let skipped = has_extended(entry, IndexEntryExtendedFlag::SKIP_WORKTREE);
        stage(entry) != 0
            || entry.flags & IndexEntryFlag::VALID.bits() != 0
            || has_extended(entry, IndexEntryExtendedFlag::INTENT_TO_ADD)
            || (skipped
                && workdir
                    .join(as_path(&entry.path))
                    .symlink_metadata()
                    .is_ok())
    };
    let hiding: Vec<IndexEntry> = index.iter().filter(hides).collect();
    for entry in hiding {
        if stage(&entry) != 0 {
            index.remove(as_path(&entry.path), stage(&entry))?;
        }
        index.add(&unread(entry))?;
    }
    Ok(())
}

/// Whether the scan may find no file for this entry.
pub(super) fn may_be_absent(entry: &IndexEntry) -> bool {
    has_extended(entry, IndexEntryExtendedFlag::SKIP_WORKTREE)
}

fn has_extended(entry: &IndexEntry, flag: IndexEntryExtendedFlag) -> bool {
    entry.flags_extended & flag.bits() != 0
}

fn stage(entry: &IndexEntry) -> i32 {
    i32::from((entry.flags >> 12) & 3)
}

/// The entry without stat data: its file will be read.
fn unread(entry: IndexEntry) -> IndexEntry {
    IndexEntry {
        ctime: IndexTime::new(0, 0),
        mtime: IndexTime::new(0, 0),
        dev: 0,
        ino: 0,
        uid: 0,
        gid: 0,
        file_size: 0,
        flags: 0,
        flags_extended: 0,
        ..entry
    }
}

/// An entry without stat data, of what a tree names.
pub(super) fn bare_entry(path: &[u8], id: Oid, mode: u32) -> IndexEntry {
    IndexEntry {
        ctime: IndexTime::new(0, 0),
        mtime: IndexTime::new(0, 0),
        dev: 0,
        ino: 0,
        mode,
        uid: 0,
        gid: 0,
        file_size: 0,
        id,
        flags: 0,
        flags_extended: 0,
        path: path.to_vec(),
    }
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

fn copy_with_time(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let modified = source.metadata()?.modified()?;
    let mut target = File::create(to)?;
    io::copy(&mut source, &mut target)?;
    target.set_modified(modified)
}

/// Whether the object database still has this tree.
pub(super) fn has_object(repo: &Repository, id: Oid) -> bool {
    repo.odb().is_ok_and(|odb| odb.exists(id))
}
