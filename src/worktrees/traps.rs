//! Files of rules that libgit2 would never end reading, so that it is not let
//! near them.
//!
//! libgit2 1.9 loops for ever (`git_attr_fnmatch__parse`) on an ignore file with
//! a line in which only blanks, `!` or `/` stand before a vertical tab or a form
//! feed. Files of attributes it skips such bytes in. In both it waits for who
//! may write to a FIFO.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use git2::{Index, Repository};
use hearth_actors::ports::WorktreeError;

use super::errors::Context;
use super::ignores::Ignores;
use super::rules;
use super::snapshot::{join, split};

/// Bytes from which on libgit2 does not read a file of rules: its
/// `GIT_ATTR_MAX_FILE_SIZE`.
const MAX_READ: u64 = 100 * 1024 * 1024;

/// What a look at all folders found that are not ignored.
#[derive(Default)]
pub(super) struct Walked {
    /// Files and links that are tracked or not ignored.
    pub(super) files: BTreeSet<Vec<u8>>,
    /// Folders that are repositories of their own.
    pub(super) nested: Vec<PathBuf>,
    /// What has no say, and why.
    pub(super) left: Vec<(PathBuf, &'static str)>,
    /// libgit2 must not look at these files by itself.
    pub(super) endless: bool,
}

/// Looks at the folders that libgit2 would look at.
pub(super) fn walk(repo: &Repository, index: &Index) -> Result<Walked, WorktreeError> {
    let root = repo.workdir().unwrap_or(repo.path());
    attributes(repo, [])?;
    let mut walked = Walked {
        endless: outside(repo),
        ..Walked::default()
    };
    let mut ignores = Ignores::of(repo, root);
    let tracked: BTreeSet<Vec<u8>> = index.iter().map(|entry| entry.path).collect();
    let tracks = |path: &[u8], is_folder: bool| match is_folder {
        false => tracked.contains(path),
        true => {
            let below = join(path, b"");
            let mut after = tracked.range(below.clone()..);
            after.next().is_some_and(|path| path.starts_with(&below))
        }
    };
    let mut folders = vec![Vec::new()];
    while let Some(folder) = folders.pop() {
        let full = root.join(as_path(&folder));
        if !folder.is_empty() && full.join(".git").symlink_metadata().is_ok() {
            walked.nested.push(as_path(&folder).to_owned());
            continue;
        }
        refuse(&full.join(".gitattributes"))?;
        walked.endless |= is_endless(&full.join(".gitignore"));
        let listed = match fs::read_dir(&full) {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                walked
                    .left
                    .push((as_path(&folder).to_owned(), "may not be read"));
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).cannot("list", &full),
        };
        for entry in listed {
            let entry = entry.cannot("list", &full)?;
            let kind = entry.file_type().cannot("look", &entry.path())?;
            let name = entry.file_name();
            let path = join(&folder, name.as_bytes());
            let counts = kind.is_dir() || kind.is_file() || kind.is_symlink();
            if name == ".git" || !counts {
                continue;
            }
            if !tracks(&path, kind.is_dir()) && ignores.ignore(&path, kind.is_dir()) {
                continue;
            }
            match kind.is_dir() {
                true => folders.push(path),
                false => drop(walked.files.insert(path)),
            }
        }
    }
    let unread = ignores.unread.into_iter();
    let named = unread.map(|(path, why)| (as_path(&path).to_owned(), why));
    walked.left.extend(named);
    Ok(walked)
}

/// Whether the ignore rules outside the worktree are such.
pub(super) fn outside(repo: &Repository) -> bool {
    rules::excludes(repo).iter().any(|path| is_endless(path))
}

/// Refuses to let libgit2 read the ignore rules of the repository, of the user
/// and of the outermost folder, which it does wherever it writes files.
pub(super) fn ignores(repo: &Repository) -> Result<(), WorktreeError> {
    let own = repo.workdir().map(|root| root.join(".gitignore"));
    let mut files = rules::excludes(repo).into_iter().chain(own);
    let Some(trap) = files.find(|path| is_endless(path)) else {
        return Ok(());
    };
    Err(WorktreeError::Unusable(format!(
        "{} would never end being read where line endings are converted: take out the lines that begin with a vertical tab or a form feed, or the FIFO that has its place",
        trap.display()
    )))
}

/// Refuses to let git read the attributes that count for `paths` when it would
/// wait for ever: then a FIFO or a device has the place of the file.
pub(super) fn attributes<'a>(
    repo: &Repository,
    paths: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(), WorktreeError> {
    let root = repo.workdir().unwrap_or(repo.path());
    let mut seen = BTreeSet::new();
    let mut files = rules::attributes(repo);
    for path in paths {
        let mut folder = split(path).0;
        while seen.insert(folder.to_vec()) {
            files.push(root.join(as_path(&join(folder, b".gitattributes"))));
            folder = split(folder).0;
        }
    }
    files.iter().try_for_each(|path| refuse(path))
}

/// Refuses to open a repository of which a file of git's own is none: who opens
/// a FIFO may wait for ever. An agent that swaps one later than this look is not
/// stopped by it.
pub(super) fn git_files(git_dir: &Path) -> Result<(), WorktreeError> {
    const OWN: [&str; 5] = ["HEAD", "commondir", "gitdir", "index", "config.worktree"];
    const COMMON: [&str; 6] = [
        "HEAD",
        "config",
        "config.worktree",
        "packed-refs",
        "shallow",
        "objects/info/alternates",
    ];
    OWN.iter()
        .try_for_each(|name| ordinary(&git_dir.join(name)))?;
    let common = match first_line(&git_dir.join("commondir")) {
        Some(common) => git_dir.join(common),
        None => git_dir.to_owned(),
    };
    COMMON
        .iter()
        .try_for_each(|name| ordinary(&common.join(name)))?;
    match first_line(&git_dir.join("HEAD")) {
        Some(head) => match head.strip_prefix("ref: ") {
            // A folder there is a longer branch's, and git says so.
            Some(branch) if common.join(branch).is_dir() => Ok(()),
            Some(branch) => ordinary(&common.join(branch)),
            None => Ok(()),
        },
        None => Ok(()),
    }
}

/// The git directory that libgit2 finds for a path in a checkout.
pub(super) fn git_dir_of(path: &Path) -> Option<PathBuf> {
    path.ancestors().find_map(|folder| {
        let own = folder.join(".git");
        if own.is_dir() {
            return Some(own);
        }
        match own.is_file() {
            true => {
                let line = first_line(&own)?;
                Some(folder.join(line.strip_prefix("gitdir: ")?))
            }
            // A bare one, or a way into a git directory.
            false => {
                let has = |name| folder.join(name).exists();
                (has("HEAD") && has("objects") && has("refs")).then(|| folder.to_owned())
            }
        }
    })
}

/// Of an ordinary file; some of it where it is long.
fn first_line(path: &Path) -> Option<String> {
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    File::open(path)
        .ok()?
        .take(8_192)
        .read_to_string(&mut text)
        .ok()?;
    text.lines().next().map(|line| line.trim_end().to_owned())
}

/// Refuses what is there and no ordinary file.
fn ordinary(path: &Path) -> Result<(), WorktreeError> {
    let what = match fs::metadata(path) {
        Ok(found) if found.is_dir() => "a folder",
        Ok(found) if !found.is_file() => "a FIFO, a socket or a device",
        _ => return Ok(()),
    };
    Err(WorktreeError::Unusable(format!(
        "{} should be a file of git's own but is {what}: put back the file that was there, or remove it where there was none, and try again",
        path.display()
    )))
}

fn refuse(path: &Path) -> Result<(), WorktreeError> {
    if !waits(path) {
        return Ok(());
    }
    Err(WorktreeError::Unusable(format!(
        "{} should be a file of attributes but is a FIFO, a socket or a device, which git would wait for without end: remove it",
        path.display()
    )))
}

/// Whether who opens the file may wait for ever.
fn waits(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// Whether libgit2 would never end reading this file of ignore rules.
fn is_endless(path: &Path) -> bool {
    if waits(path) {
        return true;
    }
    let Ok(file) = File::open(path) else {
        return false;
    };
    let mut file = file.take(MAX_READ);
    let mut buffer = vec![0; 64 * 1024];
    let mut line = Line::Blank;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return false,
            Ok(read) if line.goes_on(&buffer[..read]) => return true,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

/// How a line of ignore rules began.
#[derive(Clone, Copy)]
enum Line {
    /// With nothing that makes a rule. Some of these libgit2 reads well; it is
    /// kept from them all.
    Blank,
    Rule,
}

impl Line {
    /// Whether there is a line without end in the bytes that follow.
    fn goes_on(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            *self = match (*self, byte) {
                (Self::Blank, 0x0b | 0x0c) => return true,
                (_, b'\n') => Self::Blank,
                // The byte order mark is three of these.
                (Self::Blank, b' ' | b'\t' | b'\r' | b'!' | b'/' | 0xef | 0xbb | 0xbf) => {
                    Self::Blank
                }
                _ => Self::Rule,
            };
        }
        false
    }
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without_end(content: &[u8]) -> bool {
        Line::Blank.goes_on(content)
    }

    #[test]
    fn lines_without_end_are_known() {
        for content in [
            "\x0b",
            "\x0c\n",
            "a\n\x0c",
            "!\x0b",
            "/\x0c",
            "!/\x0b",
            "  \x0b",
            " \t\x0c",
            "\r\x0b",
            "!  \r\x0b",
            "a\r\n\r\n\x0c",
            "\u{feff}\x0b",
        ] {
            assert!(without_end(content.as_bytes()), "{content:?}");
        }
        for content in [
            "",
            "a\x0b",
            "a \x0c\nb",
            "#\x0c",
            "\\\x0b",
            "\n\n",
            "!a/\x0c",
        ] {
            assert!(!without_end(content.as_bytes()), "{content:?}");
        }
    }
}
