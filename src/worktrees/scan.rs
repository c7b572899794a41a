//! The tree of all files as they are now: what `git add -A` would stage.
//!
//! Line endings are converted as git does it; external filters (LFS,
//! git-crypt) never run, so such files are kept as the bytes on disk, before
//! and after a turn alike. Ignored files and submodules are left out, and so
//! is what no tree can hold: devices, FIFOs, sockets, nested repositories,
//! names that git forbids.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use git2::{Delta, DiffOptions, ErrorCode, FileMode, Index, Oid, Repository};
use hearth_actors::ids::WorktreeId;
use hearth_actors::ports::WorktreeError;

use super::errors::Context;
use super::index::{Opened, Private, has_object, may_be_absent};
use super::refs;

/// How many files that were left out are told by name.
const MAX_NOTES: usize = 20;

/// What a scan found.
#[derive(Debug)]
pub(super) struct Shadow {
    /// The tree of all files.
    pub(super) tree: Oid,
    /// What was left out and why, at most a few.
    pub(super) notes: Vec<String>,
}

/// Scans the files of `repo`. Reads what changed since the last scan, proves
/// by stat data that the rest did not, and writes new blobs and trees. The tree
/// is kept under a private ref until the next scan, safe from `git gc`.
pub(super) fn shadow(
    repo: &Repository,
    private: &Private,
    worktree: WorktreeId,
) -> Result<Shadow, WorktreeError> {
    let scanned = try_twice(repo, private);
    if scanned.is_err() {
        private.forget();
    }
    let found = scanned?;
    refs::keep(repo, &format!("refs/hearth/trees/{worktree}"), found.tree)?;
    Ok(found)
}

fn try_twice(repo: &Repository, private: &Private) -> Result<Shadow, WorktreeError> {
    match scan(repo, private) {
        Ok(found) if has_object(repo, found.tree) => Ok(found),
        // What the private index names may be gone: a `git gc --prune=now` can
        // have come between its last writing and the ref. A fresh copy of the
        // worktree's own index names only what git keeps.
        _ => {
            private.forget();
            scan(repo, private)
        }
    }
}

fn scan(repo: &Repository, private: &Private) -> Result<Shadow, WorktreeError> {
    let began = private.now()?;
    let mut opened = private.open(repo)?;
    let found = bring_up_to_date(repo, &mut opened)?;
    private.close(&opened, began)?;
    Ok(found)
}

fn bring_up_to_date(repo: &Repository, opened: &mut Opened) -> Result<Shadow, WorktreeError> {
    let at = repo.workdir().unwrap_or(repo.path());
    let fresh = opened.fresh;
    let index = &mut opened.index;
    let moves = differences(repo, index).cannot("scan the files", at)?;
    let mut notes = Notes::default();
    for gone in &moves.gone {
        forget(index, gone).cannot("update the index", at)?;
    }
    for path in &moves.present {
        take_up(repo, index, path, &mut notes)?;
    }
    for nested in &moves.nested {
        notes.add(nested, "is a repository of its own");
    }
    let tree = index.write_tree().cannot("write the tree", at)?;
    if fresh || moves.any() {
        index.write().cannot("write the index", at)?;
    }
    Ok(Shadow {
        tree,
        notes: notes.into_lines(),
    })
}

/// How the files differ from the index.
#[derive(Default)]
struct Moves {
    gone: Vec<PathBuf>,
    present: Vec<PathBuf>,
    nested: Vec<PathBuf>,
}

impl Moves {
    fn any(&self) -> bool {
        !self.gone.is_empty() || !self.present.is_empty()
    }
}

fn differences(repo: &Repository, index: &Index) -> Result<Moves, git2::Error> {
    let mut options = DiffOptions::new();
    options
        .include_untracked(true)
        .recurse_untracked_dirs(true)
        .include_typechange(true)
        .ignore_submodules(true)
        .skip_binary_check(true)
        .update_index(true);
    let diff = repo.diff_index_to_workdir(Some(index), Some(&mut options))?;
    let mut moves = Moves::default();
    for delta in diff.deltas() {
        let file = match delta.status() {
            Delta::Deleted => delta.old_file(),
            _ => delta.new_file(),
        };
        let Some(bytes) = file.path_bytes() else {
            continue;
        };
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
        match delta.status() {
            Delta::Deleted if index.get_path(&path, 0).is_some_and(|e| may_be_absent(&e)) => {}
            Delta::Deleted => moves.gone.push(path),
            _ if bytes.ends_with(b"/") || file.mode() == FileMode::Commit => {
                moves.nested.push(path);
            }
            _ => moves.present.push(path),
        }
    }
    Ok(moves)
}

/// Writes the file's blob and its entry, or says why not.
fn take_up(
    repo: &Repository,
    index: &mut Index,
    path: &Path,
    notes: &mut Notes,
) -> Result<(), WorktreeError> {
    let Err(error) = index.add_path(path) else {
        return Ok(());
    };
    let full = repo.workdir().unwrap_or(repo.path()).join(path);
    match why_not(&full, &error) {
        // It went away, or stopped being a file, after the scan saw it.
        WhyNot::Gone => forget(index, path).cannot("update the index", &full),
        WhyNot::LeftOut(why) => {
            notes.add(path, why);
            Ok(())
        }
        WhyNot::Failed => Err(error).cannot("store the file", &full),
    }
}

enum WhyNot {
    Gone,
    LeftOut(&'static str),
    Failed,
}

fn why_not(full: &Path, error: &git2::Error) -> WhyNot {
    let Ok(found) = fs::symlink_metadata(full) else {
        return WhyNot::Gone;
    };
    if !found.is_file() && !found.is_symlink() {
        return WhyNot::Gone;
    }
    if error.message().contains("invalid path") {
        return WhyNot::LeftOut("has a name that git forbids");
    }
    match File::open(full) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            WhyNot::LeftOut("may not be read")
        }
        _ => WhyNot::Failed,
    }
}

/// Removes the entry; a file that took its folder's place did so already.
fn forget(index: &mut Index, path: &Path) -> Result<(), git2::Error> {
    match index.remove(path, 0) {
        Err(error) if error.code() != ErrorCode::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A bounded list of what was left out.
#[derive(Default)]
struct Notes {
    lines: Vec<String>,
    more: usize,
}

impl Notes {
    fn add(&mut self, path: &Path, why: &str) {
        if self.lines.len() < MAX_NOTES {
            let path = path.to_string_lossy();
            let path = path.trim_end_matches('/').escape_debug();
            self.lines.push(format!("not recorded: {path} {why}"));
        } else {
            self.more += 1;
        }
    }

    fn into_lines(mut self) -> Vec<String> {
        if self.more > 0 {
            self.lines
                .push(format!("not recorded: {} more files", self.more));
        }
        self.lines
    }
}
