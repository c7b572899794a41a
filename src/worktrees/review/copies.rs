//! Files of the checkout that a worktree gets too. Links in the worktree are never
//! followed: its content comes from a repository that anybody may have written.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use gix_ignore::glob::wildmatch;
use hearth_actors::ports::WorktreeError;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::super::errors::Context;
use super::beneath::{self, Entry, Root, Way};
use super::place::Place;

/// Most files and bytes that are copied into one worktree.
const MAX_FILES: usize = 20_000;
const MAX_BYTES: u64 = 1 << 30;
/// Under this name a file is written before it has its own.
const HALF: &[u8] = b".hearth-copying";

/// Copies what matches one of `globs` from the checkout `from` into the worktree
/// `to`; a folder goes with all in it. What has the name already stays. How many.
pub(in super::super) fn copy(
    from: &Path,
    to: &Path,
    globs: &[String],
) -> Result<usize, WorktreeError> {
    let mut found = Vec::new();
    for glob in globs {
        let parts: Vec<&[u8]> = glob.split('/').map(str::as_bytes).collect();
        matching(from, &parts, &mut found)?;
    }
    found.sort();
    found.dedup();
    let root = Root::open(to)?;
    let mut copies = Copies {
        root: &root,
        from,
        files: 0,
        bytes: 0,
    };
    for path in found {
        copies.take(path)?;
    }
    Ok(copies.files)
}

/// Paths below `folder` that match part by part.
fn matching(folder: &Path, parts: &[&[u8]], found: &mut Vec<PathBuf>) -> Result<(), WorktreeError> {
    let Some((first, rest)) = parts.split_first() else {
        return Ok(());
    };
    for path in names(folder)? {
        let name = path.file_name().unwrap_or_default().as_bytes();
        let fits = wildmatch(
            (*first).into(),
            name.into(),
            wildmatch::Mode::NO_MATCH_SLASH_LITERAL,
        );
        if !fits || name == b".git" {
            continue;
        }
        if rest.is_empty() {
            found.push(path);
        } else if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            matching(&path, rest, found)?;
        }
    }
    Ok(())
}

/// In order. A folder that is gone, or that may not be read, has none.
fn names(folder: &Path) -> Result<Vec<PathBuf>, WorktreeError> {
    let mut paths = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(paths);
    };
    for entry in entries {
        paths.push(entry.cannot("list the folder", folder)?.path());
    }
    paths.sort();
    Ok(paths)
}

struct Copies<'a> {
    root: &'a Root,
    from: &'a Path,
    files: usize,
    bytes: u64,
}

impl Copies<'_> {
    /// A file, a link, or a folder with all in it, but no repository within.
    fn take(&mut self, path: PathBuf) -> Result<(), WorktreeError> {
        let mut paths = vec![path];
        while let Some(path) = paths.pop() {
            let Ok(found) = path.symlink_metadata() else {
                continue;
            };
            if found.is_dir() {
                if !path.join(".git").exists() {
                    paths.extend(names(&path)?);
                }
                continue;
            }
            self.files += 1;
            self.bytes += found.len();
            if self.files > MAX_FILES || self.bytes > MAX_BYTES {
                return Err(WorktreeError::Unusable(format!(
                    "what `copy` names in {} is more than {MAX_FILES} files or {} MiB: name less",
                    hearth_actors::set_up::FILE,
                    MAX_BYTES >> 20
                )));
            }
            self.one(&path, &found)?;
        }
        Ok(())
    }

    fn one(&self, path: &Path, found: &fs::Metadata) -> Result<(), WorktreeError> {
        let below = path.strip_prefix(self.from).unwrap_or(path);
        let place = Place::of_bytes(below.as_os_str().as_bytes().to_vec());
        let odd = !found.is_file() && !found.is_symlink();
        // Git's own, FIFOs, sockets.
        let Some(place) = place.ok().filter(|_| !odd) else {
            return Ok(());
        };
        let Way::Open(folder) = self.root.make_way(&place)? else {
            return Ok(());
        };
        let there = beneath::entry(&folder, place.name());
        let there = there.cannot("look at", &self.root.full(&place))?;
        if !matches!(there, Entry::Nothing) {
            return Ok(());
        }
        let write = || -> io::Result<()> {
            let half = beneath::own_path(&folder).join(std::ffi::OsStr::from_bytes(HALF));
            clear(&half)?;
            if found.is_symlink() {
                symlink(fs::read_link(path)?, &half)?;
            } else {
                let mut into = File::create_new(&half)?;
                io::copy(&mut File::open(path)?, &mut into)?;
                into.set_permissions(fs::Permissions::from_mode(found.mode() & 0o777))?;
            }
            named(&folder, &half, place.name())
        };
        write().cannot("copy the file to", &self.root.full(&place))
    }
}

fn clear(half: &Path) -> io::Result<()> {
    match fs::remove_file(half) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Gives the file its name, unless somebody took it meanwhile.
fn named(folder: &OwnedFd, half: &Path, name: &[u8]) -> io::Result<()> {
    let keep = RenameFlags::RENAME_NOREPLACE;
    match renameat2(AT_FDCWD, half, folder, name, keep) {
        Err(Errno::EEXIST) => clear(half),
        // A file system that cannot tell; the name was free a moment ago.
        Err(Errno::EINVAL) => {
            let path = beneath::own_path(folder).join(std::ffi::OsStr::from_bytes(name));
            fs::rename(half, path)
        }
        renamed => Ok(renamed?),
    }
}
