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
use std::time::SystemTime;

use git2::{Delta, DiffOptions, ErrorCode, FileMode, Index, Oid, Repository};
use hearth_actors::ids::WorktreeId;
use hearth_actors::ports::WorktreeError;

use super::errors::Context;
use super::index::{Opened, Private, has_object, may_be_absent};
use super::proof::{Moved, Proof, Proofs};
use super::refs;

/// How many files that were left out are told by name.
const MAX_NOTES: usize = 20;

/// What a scan found.
#[derive(Clone, Debug)]
pub(super) struct Shadow {
    /// The tree of all files.
    pub(super) tree: Oid,
    /// What was left out and why, at most a few.
    pub(super) notes: Vec<String>,
    /// There is a proof for the next scan; otherwise [`prove`] can make one.
    pub(super) proven: bool,
}

/// A worktree to scan.
pub(super) struct Scanned<'a> {
    pub(super) repo: &'a Repository,
    pub(super) private: &'a Private,
    pub(super) worktree: WorktreeId,
    /// When the repository and its settings were opened, by the file system's
    /// clock.
    pub(super) began: SystemTime,
}

/// Finds the tree of all files. When nothing moved since the last scan, that is
/// proved and no file is read; otherwise what may have moved is read, and new
/// blobs and trees are written. The tree is kept under a private ref until the
/// next scan, safe from `git gc`.
pub(super) fn shadow(scanned: &Scanned<'_>, proofs: &Proofs) -> Result<Shadow, WorktreeError> {
    let Scanned { repo, worktree, .. } = *scanned;
    let proof = proofs.take(worktree);
    let at = repo.workdir().unwrap_or(repo.path());
    let mut moved = proof.as_ref().map_or(Moved::Anything, |p| p.moved(at));
    if let Some(proof) = proof {
        if moved == Moved::Nothing && has_object(repo, proof.tree) {
            let (tree, notes) = (proof.tree, proof.notes.clone());
            proofs.keep(worktree, proof);
            return Ok(Shadow {
                tree,
                notes,
                proven: true,
            });
        }
        if !proof.notes.is_empty() {
            // A part of the files would tell only a part of what is left out.
            moved = Moved::Anything;
        }
    }
    let result = try_twice(scanned, &moved);
    if result.is_err() {
        scanned.private.forget();
    }
    let found = result?;
    let name = format!("refs/hearth/trees/{worktree}");
    refs::keep(repo, &name, found.tree)?;
    Ok(found)
}

/// Remembers the scan that began at `began` and found `found`, for the next
/// one. Costs about as much as the scan and can wait until after it: what moved
/// in between is younger than `began` and makes the proof none.
pub(super) fn prove(
    scanned: &Scanned<'_>,
    found: Shadow,
    began: SystemTime,
    proofs: &Proofs,
) -> Result<(), WorktreeError> {
    let opened = scanned.private.open(scanned.repo)?;
    if !opened.fresh {
        let proof = Proof::of(scanned.repo, &opened.index, found.tree, found.notes, began);
        proofs.offer(scanned.worktree, proof);
    }
    Ok(())
}

fn try_twice(scanned: &Scanned<'_>, moved: &Moved) -> Result<Shadow, WorktreeError> {
    match scan(scanned, moved) {
        Ok(found) if has_object(scanned.repo, found.tree) => Ok(found),
        // What the private index names may be gone: a `git gc --prune=now` can
        // have come between its last writing and the ref. A fresh copy of the
        // worktree's own index names only what git keeps.
        _ => {
            scanned.private.forget();
            scan(scanned, &Moved::Anything)
        }
    }
}

fn scan(scanned: &Scanned<'_>, moved: &Moved) -> Result<Shadow, WorktreeError> {
    let Scanned { repo, private, .. } = *scanned;
    let mut opened = private.open(repo)?;
    let found = bring_up_to_date(repo, &mut opened, moved)?;
    private.close(&opened, scanned.began)?;
    Ok(found)
}

fn bring_up_to_date(
    repo: &Repository,
    opened: &mut Opened,
    moved: &Moved,
) -> Result<Shadow, WorktreeError> {
    let at = repo.workdir().unwrap_or(repo.path());
    let fresh = opened.fresh;
    let index = &mut opened.index;
    let only = match moved {
        Moved::Only(paths) if !fresh => paths.as_slice(),
        _ => &[],
    };
    let moves = differences(repo, index, only).cannot("scan the files", at)?;
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
        proven: false,
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

/// Compares the files with the index: those at or below the paths of `only`,
/// or all when it is empty.
fn differences(repo: &Repository, index: &Index, only: &[Vec<u8>]) -> Result<Moves, git2::Error> {
    let mut options = DiffOptions::new();
    options
        .include_untracked(true)
        .recurse_untracked_dirs(true)
        .include_typechange(true)
        .ignore_submodules(true)
        .skip_binary_check(true)
        .update_index(true);
    if !only.is_empty() {
        options.disable_pathspec_match(true);
        for path in only {
            options.pathspec(path.as_slice());
        }
    }
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
