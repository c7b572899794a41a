//! Brings a snapshot up to date with the files that moved.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, FileType};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use git2::{Index, Oid, Repository};
use hearth_actors::ports::WorktreeError;

use super::contents::{self, Content, Wanted};
use super::errors::Context;
use super::ignores::Ignores;
use super::index::bare_entry;
use super::look::Moved;
use super::rules::is_rule;
use super::snapshot::{Entry, Folder, MAX_NAMES, Skip, Snapshot, join};
use super::stat::{FOLDER, SUBMODULE, Stat, Time};
use super::traps;

/// Why a snapshot cannot be brought up to date.
#[derive(Debug)]
pub(super) enum Stop {
    /// A rule moved, or a folder while it was read: begin anew.
    Anew,
    Failed(WorktreeError),
}

impl From<WorktreeError> for Stop {
    fn from(error: WorktreeError) -> Self {
        Self::Failed(error)
    }
}

/// A look at the files.
pub(super) struct Look<'a> {
    pub(super) repo: &'a Repository,
    /// When it began, by the file system's clock.
    pub(super) began: Time,
    /// The rules were read just now: whatever they say, it is not news.
    pub(super) first: bool,
    /// An older snapshot, whose objects are still there.
    pub(super) memory: Option<&'a Snapshot>,
}

/// Makes the snapshot true of the files that `moved`, writes the new blobs and
/// trees, and returns the tree.
pub(super) fn follow(
    look: &Look<'_>,
    snapshot: &mut Snapshot,
    moved: Vec<Moved>,
) -> Result<Oid, Stop> {
    let root = look.repo.workdir().unwrap_or(look.repo.path());
    let mut follow = Follow {
        look,
        root,
        snapshot,
        ignores: Ignores::of(look.repo, root),
        dirty: BTreeSet::new(),
        new: Vec::new(),
    };
    for Moved { path, itself, .. } in &moved {
        match itself {
            Some(Some(stat)) => follow.list(path, *stat)?,
            // Gone: the folder above told, unless it went a moment ago.
            Some(None) if follow.snapshot.folders.contains_key(path) => return Err(Stop::Anew),
            _ => {}
        }
    }
    follow.read(&moved)?;
    let Follow {
        snapshot,
        ignores,
        dirty,
        ..
    } = follow;
    snapshot.unread.extend(ignores.unread);
    let odb = look.repo.odb().cannot("open the objects", root)?;
    let tree = snapshot.write_trees(&odb, dirty);
    Ok(tree.cannot("write the trees", root)?)
}

struct Follow<'a> {
    look: &'a Look<'a>,
    root: &'a Path,
    snapshot: &'a mut Snapshot,
    ignores: Ignores<'a>,
    /// Folders whose trees are to be written.
    dirty: BTreeSet<Vec<u8>>,
    /// Files that are not recorded yet: folder and name.
    new: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Follow<'_> {
    /// Compares the names in a folder with those recorded. `stat` was taken
    /// before.
    fn list(&mut self, path: &[u8], stat: Stat) -> Result<(), Stop> {
        let Some(mut before) = self.snapshot.folders.remove(path) else {
            // It was in a folder that is gone.
            return Ok(());
        };
        let full = self.full(path);
        if before.nested {
            if !full.join(".git").exists() {
                return Err(Stop::Anew);
            }
            before.stat = stat.older_than(self.look.began).then_some(stat);
            self.snapshot.folders.insert(path.to_vec(), before);
            return Ok(());
        }
        let mut now = Folder {
            stat: stat.older_than(self.look.began).then_some(stat),
            ..Folder::default()
        };
        if self.look.first {
            self.dirty.insert(path.to_vec());
        }
        for entry in fs::read_dir(&full).map_err(|error| self.lost(error, &full))? {
            let entry = entry.cannot("list", &full)?;
            let kind = entry.file_type().map_err(|error| self.lost(error, &full))?;
            let name = entry.file_name();
            let name = name.as_bytes();
            if name == b".git" {
                if path.is_empty() || self.look.first {
                    continue;
                }
                // The folder became a repository of its own.
                return Err(Stop::Anew);
            }
            let recorded = before.names.remove(name);
            match recorded {
                Some(entry) if is_of(&entry, kind) => {
                    now.names.insert(name.to_vec(), entry);
                    continue;
                }
                Some(entry) => self.drop(path, name, &entry)?,
                None => {}
            }
            self.meet(path, &mut now, name, kind, before.skipped.get(name))?;
        }
        for (name, entry) in before.names {
            if entry.mode == SUBMODULE {
                now.names.insert(name, entry);
            } else {
                self.drop(path, &name, &entry)?;
            }
        }
        self.snapshot.folders.insert(path.to_vec(), now);
        Ok(())
    }

    /// Takes up a name that is not recorded.
    fn meet(
        &mut self,
        folder: &[u8],
        now: &mut Folder,
        name: &[u8],
        kind: FileType,
        skipped: Option<&Skip>,
    ) -> Result<(), Stop> {
        let path = join(folder, name);
        let known = match skipped {
            Some(Skip::IgnoredFile) => !kind.is_dir(),
            Some(Skip::IgnoredFolder) => kind.is_dir(),
            _ => false,
        };
        if let Some(skip) = skipped.filter(|_| known) {
            now.skipped.insert(name.to_vec(), *skip);
            return Ok(());
        }
        if !kind.is_dir() && !kind.is_file() && !kind.is_symlink() {
            return Ok(());
        }
        self.snapshot.size += 1;
        if self.snapshot.size > MAX_NAMES {
            return Err(Stop::Anew);
        }
        if is_rule(name) {
            self.met_rule(&path, name)?;
        }
        let awaited = self.snapshot.awaits(&path);
        if !awaited && self.ignores.ignore(&path, kind.is_dir()) {
            let skip = match kind.is_dir() {
                true => Skip::IgnoredFolder,
                false => Skip::IgnoredFile,
            };
            now.skipped.insert(name.to_vec(), skip);
            return Ok(());
        }
        if !kind.is_dir() {
            self.new.push((folder.to_vec(), name.to_vec()));
            return Ok(());
        }
        let full = self.full(&path);
        let nested = full.join(".git").exists();
        if nested {
            now.skipped.insert(name.to_vec(), Skip::Nested);
        } else {
            now.names.insert(name.to_vec(), Entry::folder());
        }
        let new = Folder {
            nested,
            ..Folder::default()
        };
        self.snapshot.folders.insert(path.clone(), new);
        let found = fs::File::open(self.root).cannot("open the worktree", self.root)?;
        match Stat::below(&found, &path) {
            Some(stat) if stat.mode == FOLDER => self.list(&path, stat),
            _ => Err(Stop::Anew),
        }
    }

    /// A rule file that is not recorded: news, unless this is the first look.
    fn met_rule(&mut self, path: &[u8], name: &[u8]) -> Result<(), Stop> {
        if !self.look.first {
            return Err(Stop::Anew);
        }
        if name == b".gitattributes" {
            self.snapshot.plain = false;
        }
        let full = self.full(path);
        let stat = Stat::at(&full);
        self.snapshot.outside.push((full, stat));
        Ok(())
    }

    fn drop(&mut self, folder: &[u8], name: &[u8], entry: &Entry) -> Result<(), Stop> {
        // Attributes that are gone from the files still count in the index.
        if name == b".gitattributes" || (is_rule(name) && !self.look.first) {
            return Err(Stop::Anew);
        }
        self.snapshot.forget(&join(folder, name), entry);
        self.dirty.insert(folder.to_vec());
        Ok(())
    }

    /// Reads the moved and the new files.
    fn read(&mut self, moved: &[Moved]) -> Result<(), Stop> {
        let mut places: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for Moved { path, files, .. } in moved {
            for name in files {
                let folder = self.snapshot.folders.get(path);
                let there = folder.and_then(|folder| folder.names.get(name));
                if !there.is_some_and(Entry::is_file) {
                    continue;
                }
                if is_rule(name) && !self.look.first {
                    return Err(Stop::Anew);
                }
                places.push((path.clone(), name.clone()));
            }
        }
        let recorded = places.len();
        places.append(&mut self.new);
        if places.is_empty() {
            return Ok(());
        }
        let wanted: Vec<Wanted> = places
            .iter()
            .map(|(folder, name)| self.wanted(join(folder, name)))
            .collect();
        if !self.snapshot.plain {
            traps::attributes(self.look.repo, wanted.iter().map(|wanted| &wanted.path[..]))?;
        }
        let mut index = self.known_index(&wanted)?;
        let stored = contents::store(self.look.repo, &wanted, self.snapshot.plain)?;
        for (number, ((folder, name), content)) in places.into_iter().zip(stored).enumerate() {
            let new = number >= recorded;
            let path = &wanted[number].path;
            let forbidden = match content {
                Content::Stored { id, stat } if new => forbids(&mut index, path, id, stat.mode)?,
                _ => false,
            };
            self.record(folder, name, path, content, forbidden);
        }
        Ok(())
    }

    fn wanted(&self, path: Vec<u8>) -> Wanted {
        let memory = self.look.memory.and_then(|memory| memory.get(&path));
        let remembered = memory.filter(|entry| entry.is_file() && entry.stat.is_some());
        let here = self.snapshot.get(&path);
        let known = remembered.or(here).map(|entry| (entry.id, entry.stat));
        Wanted { path, known }
    }

    /// An index for `repo` in which git's rules find what they ask: what the
    /// wanted files were.
    fn known_index(&self, wanted: &[Wanted]) -> Result<Index, WorktreeError> {
        let make = || -> Result<Index, git2::Error> {
            let mut index = Index::new()?;
            self.look.repo.set_index(&mut index)?;
            if !self.snapshot.plain {
                for wanted in wanted {
                    if let Some(entry) = self.snapshot.get(&wanted.path) {
                        index.add(&bare_entry(&wanted.path, entry.id, entry.mode))?;
                    }
                }
            }
            Ok(index)
        };
        make().cannot("prepare the reading", self.root)
    }

    fn record(
        &mut self,
        folder: Vec<u8>,
        name: Vec<u8>,
        path: &[u8],
        content: Content,
        forbidden: bool,
    ) {
        let tracked = self.snapshot.gone.remove(path);
        let Some(place) = self.snapshot.folders.get_mut(&folder) else {
            return;
        };
        let before = place.names.get(&name).copied();
        match content {
            Content::Stored { .. } if forbidden => {
                place.skipped.insert(name, Skip::Forbidden);
            }
            Content::Stored { id, stat } => {
                let entry = Entry {
                    mode: stat.mode,
                    id,
                    stat: stat.older_than(self.look.began).then_some(stat),
                    tracked: tracked || before.is_some_and(|before| before.tracked),
                };
                place.names.insert(name, entry);
                if before.is_none_or(|before| (before.id, before.mode) != (id, stat.mode)) {
                    self.dirty.insert(folder);
                }
            }
            Content::Gone => {
                // The names are to be looked at again.
                place.stat = None;
                if let Some(before) = place.names.remove(&name) {
                    self.snapshot.forget(path, &before);
                }
                self.dirty.insert(folder);
            }
            Content::Unreadable => {
                place.stat = None;
                place.skipped.insert(name, Skip::Unreadable);
            }
        }
    }

    fn full(&self, path: &[u8]) -> PathBuf {
        self.root.join(as_path(path))
    }

    /// A folder that went away while it was read is no failure, and what to do
    /// about one that may not be read is left to libgit2.
    fn lost(&self, error: io::Error, full: &Path) -> Stop {
        match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::PermissionDenied => Stop::Anew,
            _ => match Err::<(), _>(error).cannot("list", full) {
                Err(error) => Stop::Failed(error),
                Ok(()) => Stop::Anew,
            },
        }
    }
}

/// Whether what was recorded is still of the kind that is there now. Files and
/// links are looked at one by one.
fn is_of(entry: &Entry, kind: FileType) -> bool {
    match entry.mode {
        SUBMODULE => true,
        FOLDER => kind.is_dir(),
        _ => kind.is_file() || kind.is_symlink(),
    }
}

/// Whether git refuses the name. libgit2 tells when an index is to take it.
fn forbids(index: &mut Index, path: &[u8], id: Oid, mode: u32) -> Result<bool, WorktreeError> {
    match index.add(&bare_entry(path, id, mode)) {
        Ok(()) => Ok(false),
        Err(error) if error.message().contains("invalid path") => Ok(true),
        Err(error) => Err(error).cannot("record the file", as_path(path)),
    }
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}
