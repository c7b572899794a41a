//! Folders below a root, opened part by part without following a link. Whoever
//! swaps a folder for a link meanwhile gains nothing: what is open stays open.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use hearth_actors::ports::WorktreeError;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::super::errors::Context;
use super::place::Place;

/// Entries that are looked at to tell what is in a folder.
const MAX_ENTRIES: usize = 50_000;

/// The folder whose files an operation changes.
pub(super) struct Root {
    folder: OwnedFd,
    path: PathBuf,
    /// Folders that were walked to part by part a moment ago.
    walked: RefCell<BTreeSet<Vec<u8>>>,
}

/// The way to a file.
pub(super) enum Way {
    /// Its folder.
    Open(OwnedFd),
    /// A folder on the way is not there.
    Missing,
    /// Something else is where a folder should be.
    Barred(Bar),
}

/// What is where a folder should be.
#[derive(Debug)]
pub(super) struct Bar {
    pub(super) at: Place,
    /// For a person: "is a link", …
    pub(super) what: &'static str,
}

/// What has a name.
pub(super) enum Entry {
    Nothing,
    /// Open only to be named; for its bytes see [`read`].
    File(OwnedFd, FileStat),
    Link(OwnedFd),
    Folder,
    /// For a person: "is a FIFO", …
    Odd(&'static str),
}

/// What is in a folder, with all folders in it.
pub(super) enum Inside {
    /// Folders at most.
    Hollow,
    /// These files, and whatever else is no folder.
    Files(Vec<Place>),
    /// More than can be told, or a repository of its own.
    Full,
}

impl Root {
    pub(super) fn open(path: &Path) -> Result<Self, WorktreeError> {
        let folder = open(path, walk(), Mode::empty()).map_err(io::Error::from);
        Ok(Self {
            folder: folder.cannot("open the folder", path)?,
            path: path.to_owned(),
            walked: RefCell::default(),
        })
    }

    /// The same folder, for another thread.
    pub(super) fn again(&self) -> Result<Self, WorktreeError> {
        let folder = self.folder.try_clone();
        Ok(Self {
            folder: folder.cannot("open the folder", &self.path)?,
            path: self.path.clone(),
            walked: RefCell::default(),
        })
    }

    /// Looks at all parts of each way again, which may have become repositories
    /// of their own.
    pub(super) fn forget_ways(&self) {
        self.walked.borrow_mut().clear();
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The place's full path, to be shown.
    pub(super) fn full(&self, place: &Place) -> PathBuf {
        self.path.join(OsStr::from_bytes(place.bytes()))
    }

    /// The folder that the place is in.
    pub(super) fn way(&self, place: &Place) -> Result<Way, WorktreeError> {
        self.walk(place, false)
    }

    /// The same, made where it is missing.
    pub(super) fn make_way(&self, place: &Place) -> Result<Way, WorktreeError> {
        self.walk(place, true)
    }

    /// The folder in one step, without following a link or leaving the root: for
    /// folders that were walked to before. None where that cannot be done, by
    /// this system or any more.
    fn stride(&self, folder: &[u8]) -> Option<OwnedFd> {
        if !self.walked.borrow().contains(folder) {
            return None;
        }
        let folder = if folder.is_empty() { b"." } else { folder };
        let how = OpenHow::new().flags(walk()).resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_MAGICLINKS,
        );
        openat2(&self.folder, folder, how).ok()
    }

    fn walk(&self, place: &Place, make: bool) -> Result<Way, WorktreeError> {
        if let Some(folder) = self.stride(place.folder()) {
            return Ok(Way::Open(folder));
        }
        let here = openat(&self.folder, ".", walk(), Mode::empty()).map_err(io::Error::from);
        let mut folder = here.cannot("open the folder", &self.path)?;
        let mut at: Option<Place> = None;
        for part in place.folders() {
            let next = match &at {
                Some(folder) => folder.join(part),
                None => Place::of_bytes(part.to_vec()).unwrap_or_else(|_| place.clone()),
            };
            let mut opened = openat(&folder, part, walk(), Mode::empty());
            if make && matches!(opened, Err(Errno::ENOENT)) {
                make_folder(&folder, part)
                    .map_err(io::Error::from)
                    .cannot("make the folder", &self.full(&next))?;
                opened = openat(&folder, part, walk(), Mode::empty());
            }
            let bar = |what| {
                Ok(Way::Barred(Bar {
                    at: next.clone(),
                    what,
                }))
            };
            folder = match opened {
                Ok(opened) => opened,
                Err(Errno::ENOENT) => return Ok(Way::Missing),
                Err(Errno::ENOTDIR | Errno::ELOOP) => return bar(what_is(&folder, part)),
                Err(Errno::EACCES | Errno::EPERM) => return bar("may not be entered"),
                Err(Errno::ENAMETOOLONG) => return bar("has a name that is too long here"),
                Err(error) => {
                    return Err(io::Error::from(error)).cannot("open", &self.full(&next));
                }
            };
            if fstatat(&folder, ".git", AtFlags::AT_SYMLINK_NOFOLLOW).is_ok() {
                return bar("is a repository of its own");
            }
            at = Some(next);
        }
        let walked = place.folder().to_vec();
        self.walked.borrow_mut().insert(walked);
        Ok(Way::Open(folder))
    }

    /// Removes the folders above the place that are empty.
    pub(super) fn prune(&self, place: &Place) -> Result<(), WorktreeError> {
        for folder in place.above() {
            let Way::Open(parent) = self.way(&folder)? else {
                continue;
            };
            match unlinkat(&parent, folder.name(), UnlinkatFlags::RemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                // Something is in it, or somebody holds it.
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// What is in the folder at this place.
    pub(super) fn inside(&self, place: &Place) -> Result<Inside, WorktreeError> {
        let Way::Open(parent) = self.way(place)? else {
            return Ok(Inside::Full);
        };
        let mut seen = Seen {
            files: Vec::new(),
            left: MAX_ENTRIES,
        };
        Ok(match seen.list(&parent, place) {
            Some(()) if seen.files.is_empty() => Inside::Hollow,
            Some(()) => Inside::Files(seen.files),
            None => Inside::Full,
        })
    }

    /// The names in the folder that the place is in.
    pub(super) fn beside(&self, place: &Place) -> Result<Vec<Vec<u8>>, WorktreeError> {
        Ok(match self.way(place)? {
            Way::Open(folder) => names_in(&folder, b".").unwrap_or_default(),
            Way::Missing | Way::Barred(_) => Vec::new(),
        })
    }

    /// Whether a name in the folder that the place is in begins so; true when that
    /// cannot be told.
    pub(super) fn may_hold(&self, place: &Place, begin: &[u8]) -> Result<bool, WorktreeError> {
        Ok(match self.way(place)? {
            Way::Open(folder) => names_in(&folder, b".")
                .is_none_or(|names| names.iter().any(|name| name.starts_with(begin))),
            Way::Missing | Way::Barred(_) => false,
        })
    }

    /// Removes the folder at this place with all folders in it, unless there is
    /// anything else.
    pub(super) fn remove_hollow(&self, parent: &OwnedFd, name: &[u8]) -> bool {
        for inner in names_in(parent, name).unwrap_or_default() {
            let Ok(folder) = openat(parent, name, walk(), Mode::empty()) else {
                return false;
            };
            if !self.remove_hollow(&folder, &inner) {
                return false;
            }
        }
        unlinkat(parent, name, UnlinkatFlags::RemoveDir).is_ok()
    }
}

struct Seen {
    files: Vec<Place>,
    left: usize,
}

impl Seen {
    fn list(&mut self, parent: &OwnedFd, folder: &Place) -> Option<()> {
        let open = openat(parent, folder.name(), walk(), Mode::empty()).ok()?;
        for name in names_in(parent, folder.name())? {
            self.left = self.left.checked_sub(1)?;
            let inner = folder.join(&name);
            Place::of_bytes(inner.bytes().to_vec()).ok()?;
            match entry(&open, &name).ok()? {
                Entry::Folder => self.list(&open, &inner)?,
                _ => self.files.push(inner),
            }
        }
        Some(())
    }
}

/// What has this name in an open folder. Nothing is opened for reading.
pub(super) fn entry(folder: impl AsFd, name: &[u8]) -> io::Result<Entry> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let found = match openat(folder, name, flags, Mode::empty()) {
        Ok(found) => found,
        Err(Errno::ENOENT) => return Ok(Entry::Nothing),
        Err(Errno::ENAMETOOLONG) => return Ok(Entry::Odd("has a name that is too long here")),
        Err(Errno::EACCES | Errno::EPERM) => return Ok(Entry::Odd("may not be looked at")),
        Err(error) => return Err(error.into()),
    };
    let stat = fstat(&found)?;
    Ok(match kind(&stat) {
        Kind::File => Entry::File(found, stat),
        Kind::Link => Entry::Link(found),
        Kind::Folder => Entry::Folder,
        Kind::Odd(what) => Entry::Odd(what),
    })
}

/// The ordinary file of this name in an open folder, open for reading; none where
/// there is none, or where [`entry`] must tell what is wrong. Nothing is waited
/// for that takes its place meanwhile.
pub(super) fn file(folder: impl AsFd, name: &[u8]) -> Option<(fs::File, FileStat)> {
    let is_file = |stat: &FileStat| matches!(kind(stat), Kind::File);
    fstatat(&folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)
        .ok()
        .filter(is_file)?;
    let flags = OFlag::O_RDONLY
        | OFlag::O_NOFOLLOW
        | OFlag::O_NONBLOCK
        | OFlag::O_NOCTTY
        | OFlag::O_CLOEXEC;
    let file = openat(&folder, name, flags, Mode::empty()).ok()?;
    let stat = fstat(&file).ok().filter(is_file)?;
    Some((fs::File::from(file), stat))
}

/// The file that [`entry`] found, open for reading: that one and no other.
pub(super) fn read(found: &OwnedFd) -> io::Result<fs::File> {
    fs::File::open(own_path(found))
}

/// A path that leads to what is open here.
pub(super) fn own_path(open: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()))
}

/// The target of the link that [`entry`] found.
pub(super) fn target(found: &OwnedFd) -> io::Result<Vec<u8>> {
    Ok(nix::fcntl::readlinkat(found, "")?.into_vec())
}

/// The same folder, open so that it can be synced.
pub(super) fn reopened(folder: &OwnedFd) -> io::Result<fs::File> {
    Ok(fs::File::from(openat(folder, ".", list(), Mode::empty())?))
}

enum Kind {
    File,
    Link,
    Folder,
    Odd(&'static str),
}

fn kind(stat: &FileStat) -> Kind {
    match stat.st_mode & 0o170_000 {
        0o100_000 => Kind::File,
        0o120_000 => Kind::Link,
        0o040_000 => Kind::Folder,
        0o010_000 => Kind::Odd("is a FIFO"),
        0o140_000 => Kind::Odd("is a socket"),
        _ => Kind::Odd("is a device"),
    }
}

fn what_is(folder: &OwnedFd, name: &[u8]) -> &'static str {
    match fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW).map(|stat| kind(&stat)) {
        Ok(Kind::Link) => "is a link, not a folder",
        Ok(Kind::File) => "is a file, not a folder",
        Ok(Kind::Odd(what)) => what,
        _ => "is no folder",
    }
}

/// As open to others as the folder it is in, whatever our own umask is.
fn make_folder(parent: &OwnedFd, name: &[u8]) -> nix::Result<()> {
    match mkdirat(parent, name, Mode::S_IRWXU) {
        Ok(()) => {
            let mode = fstat(parent)?.st_mode & 0o775 | 0o700;
            let made = openat(parent, name, list(), Mode::empty())?;
            fchmod(made, Mode::from_bits_truncate(mode))
        }
        Err(Errno::EEXIST) => Ok(()),
        Err(error) => Err(error),
    }
}

fn names_in(parent: &OwnedFd, name: &[u8]) -> Option<Vec<Vec<u8>>> {
    let folder = openat(parent, name, list(), Mode::empty()).ok()?;
    let mut names = Vec::new();
    for entry in fs::read_dir(own_path(&folder)).ok()? {
        names.push(entry.ok()?.file_name().into_vec());
        if names.len() > MAX_ENTRIES {
            return None;
        }
    }
    Some(names)
}

fn walk() -> OFlag {
    OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

fn list() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}
