//! The tree of all files by libgit2 alone: slower, on one thread, and right for
//! every repository, such as those with a sparse checkout or with names that
//! are compared without case.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use git2::{Delta, DiffOptions, ErrorCode, FileMode, Index, IndexEntry, Repository};
use hearth_actors::ports::WorktreeError;

use super::errors::Context;
use super::index::may_be_absent;
use super::notes::Notes;
use super::rules;
use super::scan::Shadow;
use super::stat::{FILE, PROGRAM, SUBMODULE};
use super::traps::{self, Walked};

/// Finds the tree of all files. Nothing is remembered.
pub(super) fn scan(repo: &Repository, index: &mut Index) -> Result<Shadow, WorktreeError> {
    let at = repo.workdir().unwrap_or(repo.path());
    let walked = traps::walk(repo, index)?;
    let mut notes = Notes::default();
    let moves = if walked.endless {
        for (path, why) in &walked.left {
            notes.tell(path, why);
        }
        Moves::of(walked, index)
    } else {
        differences(repo, index).cannot("scan the files", at)?
    };
    for gone in &moves.gone {
        forget(index, gone).cannot("update the index", at)?;
    }
    let modes = rules::believes_modes(repo);
    for path in &moves.present {
        take_up(repo, index, path, modes, &mut notes)?;
    }
    for nested in &moves.nested {
        notes.add(nested, "is a repository of its own");
    }
    let tree = index.write_tree().cannot("write the tree", at)?;
    Ok(Shadow {
        tree,
        notes: notes.into_lines(),
        plain: false,
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
    /// All files that are there: which of them changed, their content tells.
    fn of(walked: Walked, index: &Index) -> Self {
        let path = |bytes: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
        let is_gone = |entry: &IndexEntry| {
            let kept = may_be_absent(entry) || entry.mode == SUBMODULE;
            !kept && !walked.files.contains(&entry.path)
        };
        let gone = index.iter().filter(is_gone);
        Self {
            gone: gone.map(|entry| path(&entry.path)).collect(),
            present: walked.files.iter().map(|file| path(file)).collect(),
            nested: walked.nested,
        }
    }
}

/// Compares the files with the index.
fn differences(repo: &Repository, index: &Index) -> Result<Moves, git2::Error> {
    let mut options = DiffOptions::new();
    options
        .include_untracked(true)
        .recurse_untracked_dirs(true)
        .include_typechange(true)
        .ignore_submodules(true)
        .skip_binary_check(true)
        .update_index(false);
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
    modes: bool,
    notes: &mut Notes,
) -> Result<(), WorktreeError> {
    let Err(error) = add(index, path, modes) else {
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

/// Adds the file. An index that was not opened through its repository does not
/// know that permissions are not to be believed: then a file keeps the mode that
/// it has there, and a new one is no program.
fn add(index: &mut Index, path: &Path, modes: bool) -> Result<(), git2::Error> {
    let ordinary = |entry: &IndexEntry| matches!(entry.mode, FILE | PROGRAM);
    let before = index.get_path(path, 0).filter(ordinary);
    index.add_path(path)?;
    if modes {
        return Ok(());
    }
    match index.get_path(path, 0).filter(ordinary) {
        Some(entry) => index.add(&IndexEntry {
            mode: before.map_or(FILE, |before| before.mode),
            ..entry
        }),
        None => Ok(()),
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
