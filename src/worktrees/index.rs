//! The private index of a worktree: what its files were at the last scan.
//!
//! It begins as a copy of the worktree's own index, whose stat data spare the
//! hashing of everything, and is scanned and kept apart from it, so that the
//! agent's staging area is never touched. When the agent's index changes, what
//! it tracks may have changed too (`git add -f`, `git rm --cached`), so the
//! copy is taken afresh.
//!
//! A file is known to be unchanged by its stat data only when it was last
//! changed before the scan began: the index carries the begin of its scan as
//! its own modification time, as git's racy-clean rule expects.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use git2::{Index, IndexEntry, IndexEntryExtendedFlag, IndexEntryFlag, IndexTime, Oid, Repository};
use hearth_actors::ids::WorktreeId;
use hearth_actors::ports::WorktreeError;

use super::admin::replace;
use super::errors::Context;

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
    pub(super) fn now(&self) -> Result<SystemTime, WorktreeError> {
        let path = self.file("clock");
        fs::write(&path, b"\n")
            .and_then(|()| fs::metadata(&path)?.modified())
            .cannot("read the file system's clock", &path)
    }

    /// Opens the index and makes it the one that `repo` works with.
    pub(super) fn open(&self, repo: &Repository) -> Result<Opened, WorktreeError> {
        let path = self.file("index");
        // A lock here was left by a killed Hearth: nobody else writes this file.
        let _ = fs::remove_file(self.file("index.lock"));
        let real = repo.path().join("index");
        let kept = fs::read_to_string(self.file("state")).ok();
        if let Some(source) = stamp(&real)
            && kept.is_some()
            && kept == self.state(&source).ok()
            && let Ok(mut index) = Index::open(&path)
        {
            repo.set_index(&mut index).cannot("use the index", &path)?;
            if is_sparse(repo) {
                settle_entries(&mut index, repo).cannot("read the index", &path)?;
            }
            return Ok(Opened {
                index,
                source,
                fresh: false,
            });
        }
        self.seed(repo, &real)
    }

    /// Stamps the index, if it was written, as true since `began`. The state is
    /// told last: a killed scan is followed by one from a fresh copy.
    pub(super) fn close(&self, opened: &Opened, began: SystemTime) -> Result<(), WorktreeError> {
        let path = self.file("index");
        let kept = fs::read_to_string(self.file("state")).ok();
        let close = || {
            if kept.is_some() && kept == self.state(&opened.source).ok() {
                return Ok(());
            }
            let file = File::options().append(true).open(&path)?;
            file.set_modified(began)?;
            let state = self.state(&opened.source)?;
            replace(&self.file("state"), state.as_bytes())
        };
        close().cannot("stamp the index", &path)
    }

    /// Which index was copied, and the copy's own last change.
    fn state(&self, source: &str) -> io::Result<String> {
        let own = fs::metadata(self.file("index"))?;
        Ok(format!(
            "{source}\n{}.{:09}\n",
            own.mtime(),
            own.mtime_nsec()
        ))
    }

    /// Forgets the index, so that the next scan reads every file.
    pub(super) fn forget(&self) {
        for name in ["state", "index"] {
            // Not there is as good as removed, and a scan writes them anew.
            let _ = fs::remove_file(self.file(name));
        }
    }

    /// Starts from HEAD instead of the agent's index: everything is read.
    fn seed_from_head(&self, repo: &Repository) -> Result<Opened, WorktreeError> {
        let path = self.file("index");
        self.forget();
        let empty = || -> Result<Index, git2::Error> {
            let mut index = Index::open(&path)?;
            repo.set_index(&mut index)?;
            if let Ok(tree) = repo.head().and_then(|head| head.peel_to_tree()) {
                index.read_tree(&tree)?;
            }
            index.write()?;
            Ok(index)
        };
        let index = empty().cannot("make an index", &path)?;
        let source = stamp(&repo.path().join("index")).unwrap_or_default();
        Ok(Opened {
            index,
            source,
            fresh: true,
        })
    }

    fn seed(&self, repo: &Repository, real: &Path) -> Result<Opened, WorktreeError> {
        let path = self.file("index");
        self.forget();
        let source = match copy_with_time(real, &path) {
            Ok(source) => source,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.seed_from_head(repo);
            }
            Err(error) => return Err(error).cannot("copy the index", &path),
        };
        // Split and sparse indexes are beyond libgit2; HEAD is not.
        let Ok(mut index) = Index::open(&path) else {
            return self.seed_from_head(repo);
        };
        repo.set_index(&mut index).cannot("use the index", &path)?;
        settle_entries(&mut index, repo).cannot("read the index", &path)?;
        Ok(Opened {
            index,
            source,
            fresh: true,
        })
    }
}

/// The private index, open.
pub(super) struct Opened {
    pub(super) index: Index,
    /// Which state of the agent's index it began as.
    source: String,
    /// It was copied just now and not yet written as our own.
    pub(super) fresh: bool,
}

/// Whether git leaves files of this repository out of the checkout.
fn is_sparse(repo: &Repository) -> bool {
    repo.config()
        .and_then(|config| config.get_bool("core.sparseCheckout"))
        .unwrap_or(false)
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

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

/// Tells one state of a file from another without reading it.
fn stamp(path: &Path) -> Option<String> {
    fs::metadata(path).ok().map(|found| stamp_of(&found))
}

fn stamp_of(found: &fs::Metadata) -> String {
    format!(
        "{} {} {}.{:09} {}.{:09}",
        found.ino(),
        found.size(),
        found.mtime(),
        found.mtime_nsec(),
        found.ctime(),
        found.ctime_nsec()
    )
}

/// Copies an index with its modification time, which the racy-clean rule
/// needs, and says which state of it was copied.
fn copy_with_time(from: &Path, to: &Path) -> io::Result<String> {
    let mut source = File::open(from)?;
    let found = source.metadata()?;
    let beside = to.with_extension("copy");
    let mut target = File::create(&beside)?;
    io::copy(&mut source, &mut target)?;
    target.set_modified(found.modified()?)?;
    fs::rename(&beside, to)?;
    Ok(stamp_of(&found))
}

/// Whether the object database still has this tree.
pub(super) fn has_object(repo: &Repository, id: Oid) -> bool {
    repo.odb().is_ok_and(|odb| odb.exists(id))
}
