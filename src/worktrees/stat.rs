//! Stat data as a git index keeps them: enough to see that a file did not
//! change without reading it.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use git2::{IndexEntry, IndexTime};
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, fstat, fstatat};

/// Modes as git's trees and indexes write them.
pub(super) const FILE: u32 = 0o100_644;
pub(super) const PROGRAM: u32 = 0o100_755;
pub(super) const LINK: u32 = 0o120_000;
pub(super) const FOLDER: u32 = 0o040_000;
pub(super) const SUBMODULE: u32 = 0o160_000;

/// Seconds and nanoseconds since 1970, wrapped as an index wraps them.
pub(super) type Time = (u32, u32);

/// All that changes when a file does. Inode and size are cut to 32 bits, as in
/// an index: the time of the last change has nanoseconds and cannot be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    /// One of the modes above, or 0 for what git does not store.
    pub(super) mode: u32,
    inode: u32,
    size: u32,
    owner: (u32, u32),
    modified: Time,
    changed: Time,
}

impl Stat {
    /// Of `name` below an open folder; a link is not followed.
    pub(super) fn below(folder: impl AsFd, name: &[u8]) -> Option<Self> {
        let found = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        Some(Self::of(&found))
    }

    /// Of an open file.
    pub(super) fn of_open(file: impl AsFd) -> Option<Self> {
        fstat(file).ok().map(|found| Self::of(&found))
    }

    /// Of what a path leads to.
    pub(super) fn at(path: &Path) -> Option<Self> {
        nix::sys::stat::stat(path)
            .ok()
            .map(|found| Self::of(&found))
    }

    /// As an index recorded it.
    pub(super) fn recorded(entry: &IndexEntry) -> Self {
        let time = |time: &IndexTime| (time.seconds().cast_unsigned(), time.nanoseconds());
        Self {
            mode: entry.mode,
            inode: entry.ino,
            size: entry.file_size,
            owner: (entry.uid, entry.gid),
            modified: time(&entry.mtime),
            changed: time(&entry.ctime),
        }
    }

    /// Whether the file was last touched before `time`. Only then does an equal
    /// stat, taken later, tell that nothing changed after `time` either: a
    /// change within one tick of the clock leaves no trace.
    pub(super) fn older_than(&self, time: Time) -> bool {
        self.modified < time && self.changed < time
    }

    /// When the file was last written.
    pub(super) fn modified(&self) -> Time {
        self.modified
    }

    /// Bytes, modulo 2³².
    pub(super) fn size(&self) -> u32 {
        self.size
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "wrapped as an index wraps them"
    )]
    fn of(found: &FileStat) -> Self {
        Self {
            mode: git_mode(found.st_mode),
            inode: found.st_ino as u32,
            size: found.st_size as u32,
            owner: (found.st_uid, found.st_gid),
            modified: (found.st_mtime as u32, found.st_mtime_nsec as u32),
            changed: (found.st_ctime as u32, found.st_ctime_nsec as u32),
        }
    }
}

/// The system's time as stat data tell it.
pub(super) fn time_of(time: SystemTime) -> Time {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "wrapped as an index wraps it"
    )]
    let seconds = since.as_secs() as u32;
    (seconds, since.subsec_nanos())
}

/// Opens a folder below another to look into it. The last part of the path may
/// be no link.
pub(super) fn open_folder(root: &File, path: &[u8]) -> Option<std::os::fd::OwnedFd> {
    use nix::fcntl::{OFlag, openat};
    let path = if path.is_empty() { b"." } else { path };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(root, path, flags, nix::sys::stat::Mode::empty()).ok()
}

fn git_mode(mode: u32) -> u32 {
    const KIND: u32 = 0o170_000;
    const OWNER_RUNS: u32 = 0o100;
    match mode & KIND {
        0o100_000 if mode & OWNER_RUNS != 0 => PROGRAM,
        0o100_000 => FILE,
        LINK => LINK,
        FOLDER => FOLDER,
        _ => 0,
    }
}
