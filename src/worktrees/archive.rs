//! Puts a worktree away: a shadow commit of all files first, then the folder and
//! the entry go. The branch stays.

use std::fs;
use std::path::{Path, PathBuf};

use git2::Repository;
use hearth_actors::arena::Archived;
use hearth_actors::ids::CheckpointId;
use hearth_actors::model::Worktree;
use hearth_actors::ports::WorktreeError;

use super::errors::Context;
use super::index::Private;
use super::review::leave::{aside, deleted_ref, in_its_place, remove};
use super::{Room, admin, checkpoint, refs, scan};

/// See [`hearth_actors::ports::Worktrees::archive`].
pub(super) fn archive(room: &Room, worktree: &Worktree) -> Result<Archived, WorktreeError> {
    let private = Private::of(&room.config.home, worktree.id)?;
    let entry = private.entry();
    if !worktree.path.is_dir() {
        remove_entry(room, worktree, entry)?;
        return Ok(Archived::Removed(None));
    }
    if let Some(reason) = entry.as_deref().and_then(admin::locked_by_a_person) {
        return Ok(Archived::Left(format!("it is locked: {reason}")));
    }
    let aside = aside(&worktree.path);
    if aside.is_dir() {
        let found = in_its_place(&aside);
        return Ok(Archived::Left(format!("{}: {}", found.path, found.reason)));
    }
    let open = room.open(worktree)?;
    let shadow = scan::shadow(&open.scanned(worktree), &room.snapshots)?;
    if !shadow.notes.is_empty() {
        return Ok(Archived::Left(shadow.notes.join("; ")));
    }
    let commit = keep(room, worktree, &open.repo, shadow.tree)?;
    drop(open);
    remove_files(worktree, &aside)?;
    remove_entry(room, worktree, entry)?;
    Ok(Archived::Removed(Some(commit)))
}

fn keep(
    room: &Room,
    worktree: &Worktree,
    repo: &Repository,
    tree: git2::Oid,
) -> Result<String, WorktreeError> {
    let _alone = room.hold(repo.commondir())?;
    let commit = checkpoint::write(repo, CheckpointId(worktree.id.0), tree)
        .cannot("write the checkpoint", &worktree.path)?;
    refs::keep(repo, &deleted_ref(worktree.id), commit)?;
    Ok(commit.to_string())
}

/// Renamed first, so that a folder that is half gone is never taken for the
/// worktree.
fn remove_files(worktree: &Worktree, aside: &Path) -> Result<(), WorktreeError> {
    fs::rename(&worktree.path, aside).cannot("move the worktree aside", &worktree.path)?;
    remove(aside)
}

/// The entry of files that are gone, unless it leads elsewhere; and the files of a try
/// that was cut short.
fn remove_entry(
    room: &Room,
    worktree: &Worktree,
    entry: Option<PathBuf>,
) -> Result<(), WorktreeError> {
    remove(&aside(&worktree.path))?;
    let ours = entry.filter(|entry| admin::leads_to(entry, &worktree.path));
    let Some(entry) = ours else { return Ok(()) };
    let common = entry.parent().and_then(Path::parent);
    let Some(common) = common else { return Ok(()) };
    let repo = Repository::open_bare(common).cannot("open the repository", common)?;
    let _alone = room.hold(common)?;
    admin::drop_entry(&repo, &entry, worktree.id)
}
