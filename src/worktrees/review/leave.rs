//! Putting a whole worktree away: a commit of all it has, then it moves aside, and
//! only then it goes.
//!
//! Whoever writes into it between the commit and the move is found out by a second
//! look, at the place to which it moved: then it moves back.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use git2::Oid;
use hearth_actors::ids::{CheckpointId, WorktreeId};
use hearth_actors::model::{Checkpoint, Worktree};
use hearth_actors::ports::WorktreeError;
use hearth_actors::review::{Besides, Conflict, Leave, Plan, Planned, Work};
use hearth_actors::rules::reap::{KEPT, TOMBSTONE};
use hearth_actors::rules::risk as rule;

use super::super::errors::Context;
use super::super::index::Private;
use super::super::{Open, Room, admin, guard, refs, risk, scan};
use super::durable;
use super::plan::ref_of;

/// Where it moves to: beside its path, so that the move is one rename.
pub(in super::super) fn aside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{TOMBSTONE}{name}"))
}

pub(in super::super) fn deleted_ref(worktree: WorktreeId) -> String {
    format!("refs/hearth/deleted/{worktree}")
}

/// Works out what would be lost, and keeps it. What no commit can hold stays,
/// whoever consents.
pub(super) fn plan(room: &Room, work: &Work, leave: Leave) -> Result<Planned, WorktreeError> {
    let worktree = &work.worktree;
    let plan = Plan {
        besides: Some(Besides::Leave {
            aside: aside(&worktree.path),
        }),
        ..Plan::nothing(work.id, worktree.clone())
    };
    if !worktree.path.is_dir() {
        return Ok(Planned::Ready(plan));
    }
    let looked = match room.open(worktree) {
        Ok(open) => match risk::look(room, worktree, &open) {
            Ok(looked) => Ok((open, looked)),
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    let (open, looked) = match looked {
        Ok(looked) => looked,
        Err(WorktreeError::DiskFull { path }) => return Err(WorktreeError::DiskFull { path }),
        Err(_) => return Ok(Planned::AtRisk(Box::new(risk::facts(room, worktree)))),
    };
    let facts = looked.facts;
    if rule::refuses(&facts, leave) {
        return Ok(Planned::AtRisk(Box::new(facts)));
    }
    if let Some(reason) = admin::locked_by_a_person(open.repo.path()) {
        let why = format!("{} is locked: {reason}", worktree.path.display());
        return Err(WorktreeError::Unusable(why));
    }
    let commit = risk::keep(&open.repo, worktree, &looked.shadow, &facts)?;
    let common = open.repo.commondir();
    {
        let _alone = room.hold(common)?;
        refs::keep(&open.repo, &ref_of(work.id), commit)?;
    }
    if room.config.sync {
        durable::everything(common)?;
    }
    let undo = Checkpoint {
        id: CheckpointId(work.id.0),
        commit: commit.to_string(),
        tree: looked.shadow.tree.to_string(),
    };
    Ok(Planned::Ready(Plan {
        undo: Some(undo),
        ..plan
    }))
}

/// Moves it aside. Repeatable: one that moved before is only looked at once more.
pub(super) fn carry_out(
    room: &Room,
    plan: &Plan,
    aside: &Path,
) -> Result<Vec<Conflict>, WorktreeError> {
    let worktree = &plan.worktree;
    let Some((commit, tree)) = kept(plan) else {
        // Nothing was there, so that nothing may be there now.
        let came = worktree.path.is_dir();
        return Ok(came.then(|| moved(worktree)).into_iter().collect());
    };
    if worktree.path.is_dir() {
        if aside.is_dir() {
            return take_back(plan, aside);
        }
        let open = room.open(worktree)?;
        {
            let _alone = room.hold(open.repo.commondir())?;
            refs::keep(&open.repo, &deleted_ref(worktree.id), commit)?;
        }
        if now(room, worktree, &open)? != Some(tree) {
            return Ok(vec![moved(worktree)]);
        }
        drop(open);
        fs::rename(&worktree.path, aside).cannot("move the worktree aside", &worktree.path)?;
    }
    if !aside.is_dir() {
        return Ok(Vec::new());
    }
    // What was open there may have been written to until it moved.
    let there = Worktree {
        path: aside.to_owned(),
        ..worktree.clone()
    };
    let same = room
        .open(&there)
        .and_then(|open| now(room, &there, &open))
        .map(|found| found == Some(tree));
    if same.as_ref().is_ok_and(|same| *same) {
        return Ok(Vec::new());
    }
    let left = take_back(plan, aside)?;
    if !left.is_empty() {
        return Ok(left);
    }
    same.map(|_| vec![moved(worktree)])
}

/// The tree of all files, where a commit can hold them all.
fn now(room: &Room, worktree: &Worktree, open: &Open) -> Result<Option<Oid>, WorktreeError> {
    // Whatever the last scan remembers was of another place or time.
    room.snapshots.take(worktree.id);
    let shadow = scan::shadow(&open.scanned(worktree), &room.snapshots)?;
    Ok(shadow.notes.is_empty().then_some(shadow.tree))
}

/// Moves it back, if it moved. Where something else has its place by now it is kept
/// under a name that nobody removes, which is a conflict.
pub(super) fn take_back(plan: &Plan, aside: &Path) -> Result<Vec<Conflict>, WorktreeError> {
    let path = &plan.worktree.path;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let kept = path.with_file_name(format!("{KEPT}{name}-{}", plan.id));
    if !aside.is_dir() {
        let is_kept = kept.is_dir().then(|| in_its_place(&kept));
        return Ok(is_kept.into_iter().collect());
    }
    match fs::rename(aside, path) {
        Err(error) if is_taken(error.kind()) => {
            fs::rename(aside, &kept).cannot("keep the files that were written to", aside)?;
            Ok(vec![in_its_place(&kept)])
        }
        moved => moved
            .cannot("move the worktree back", aside)
            .map(|()| Vec::new()),
    }
}

/// An empty folder takes nobody's place.
fn is_taken(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{AlreadyExists, DirectoryNotEmpty, NotADirectory};
    matches!(kind, AlreadyExists | DirectoryNotEmpty | NotADirectory)
}

/// Removes what moved aside, with its entry; or lets go of what planning kept.
pub(super) fn settle(
    room: &Room,
    plan: &Plan,
    aside: &Path,
    done: bool,
) -> Result<(), WorktreeError> {
    let worktree = &plan.worktree;
    let private = Private::of(&room.config.home, worktree.id)?;
    if done {
        remove(aside)?;
    }
    let Some(entry) = private.entry() else {
        return Ok(());
    };
    // The entry itself may be gone: its repository is two folders up.
    let Some(common) = entry.parent().and_then(Path::parent) else {
        return Ok(());
    };
    let repo = match git2::Repository::open_bare(common) {
        Ok(repo) => repo,
        Err(error) => return Err(error).cannot("open the repository", common),
    };
    let _alone = room.hold(common)?;
    if done {
        room.snapshots.take(worktree.id);
        refs::drop(&repo, &format!("refs/hearth/trees/{}", worktree.id))?;
        if !worktree.path.exists() && admin::leads_to(&entry, &worktree.path) {
            admin::drop_entry(&repo, &entry, worktree.id)?;
        }
    } else if let Some((commit, _)) = kept(plan)
        && commit_of(&repo, worktree) == Some(commit)
    {
        refs::drop(&repo, &deleted_ref(worktree.id))?;
    }
    refs::drop(&repo, &ref_of(plan.id))
}

fn commit_of(repo: &git2::Repository, worktree: &Worktree) -> Option<Oid> {
    repo.refname_to_id(&deleted_ref(worktree.id)).ok()
}

/// The commit and the tree that hold its files; none where nothing was there.
fn kept(plan: &Plan) -> Option<(Oid, Oid)> {
    let undo = plan.undo.as_ref()?;
    Some((
        Oid::from_str(&undo.commit).ok()?,
        Oid::from_str(&undo.tree).ok()?,
    ))
}

fn moved(worktree: &Worktree) -> Conflict {
    let path = worktree.path.display().to_string();
    Conflict {
        change: None,
        reason: format!("files in {path} change while it is put away: try again when it rests"),
        path,
        hunks: Vec::new(),
    }
}

pub(in super::super) fn in_its_place(aside: &Path) -> Conflict {
    Conflict {
        change: None,
        path: aside.display().to_string(),
        reason: "its files are here: something took their place".into(),
        hunks: Vec::new(),
    }
}

/// A folder, or nothing.
pub(in super::super) fn remove(folder: &Path) -> Result<(), WorktreeError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).cannot("remove the folder", folder)
        }
        _ => Ok(()),
    }
}

/// Opens the repository of a checkout, for its refs.
pub(in super::super) fn repository(project: &Path) -> Result<git2::Repository, WorktreeError> {
    Ok(guard::Project::open(project)?.repo)
}
