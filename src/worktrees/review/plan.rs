//! From an order to a plan: drafted on the files as they are, with all that it
//! needs stored.

use std::collections::BTreeSet;

use git2::{Commit, Oid, Repository, Signature};
use hearth_actors::ids::OperationId;
use hearth_actors::ports::WorktreeError;
use hearth_actors::review::{Besides, Order, Plan, Planned, Recorded, Work};

use super::super::errors::{Context, failed};
use super::super::refs;
use super::super::stat::FILE;
use super::super::{Room, guard, traps};
use super::baseline::Baseline;
use super::convert::Convert;
use super::draft::Draft;
use super::ground::Ground;
use super::place::Place;
use super::restore::{self, Kept, Past};
use super::{apply, back, case, durable, stash};

/// Where an operation's objects are kept from `git gc`.
pub(super) fn ref_of(id: OperationId) -> String {
    format!("refs/hearth/operations/{id}")
}

/// Works out the order.
pub(super) fn plan(room: &Room, work: &Work) -> Result<Planned, WorktreeError> {
    if let Order::Compare { .. } = work.order {
        // A folder that is gone is told before anything is intended.
        room.ground(&work.worktree, &work.worktree.path)?;
        return Ok(Planned::Ready(Plan::nothing(
            work.id,
            work.worktree.clone(),
        )));
    }
    let root = match work.order {
        Order::Apply { .. } | Order::Rewind { .. } => guard::canonical(&work.project_path)?,
        Order::Reject { .. }
        | Order::Restore { .. }
        | Order::Retry { .. }
        | Order::Adopt { .. }
        | Order::Compare { .. }
        | Order::Stash
        | Order::Archive(_) => work.worktree.path.clone(),
    };
    let ground = room.ground(&work.worktree, &root)?;
    let _alone = room.hold_root(&work.worktree, &root)?;
    let scratch = room.scratch(&work.worktree)?;
    let mut draft = Draft::new(&ground, Convert::of(&ground.repo, scratch));
    let baseline = Baseline::open(&ground.repo, &work.worktree.baseline)?;
    let changes = once_each(&work.changes);
    let paths: Vec<_> = changes.iter().flat_map(paths).collect();
    traps::attributes(&ground.repo, paths.iter().map(Place::bytes))?;
    let mut undo = None;
    let mut besides = None;
    match work.order {
        Order::Apply { secrets, .. } => apply::apply(&mut draft, &changes, secrets)?,
        Order::Adopt { .. } => {
            // They stay pending: the baseline is none of theirs. A secret-named
            // file stays on this machine, and is asked about at its apply.
            apply::apply(&mut draft, &changes, true)?;
            draft.baseline.clear();
            for conflict in &mut draft.conflicts {
                conflict.reason = conflict.reason.replace("the checkout", "the session");
            }
        }
        Order::Reject { .. } => back::reject(&mut draft, &changes)?,
        Order::Rewind { .. } => back::rewind(&mut draft, &changes, &baseline)?,
        Order::Restore { .. } | Order::Retry { .. } => {
            let past = Past::find(room, &room.open(&work.worktree)?, work)?;
            restore::restore(&mut draft, &past)?;
            draft.notes.extend_from_slice(&past.notes);
            if draft.conflicts.is_empty() {
                undo = Some(past.keep(room, &ground, work)?);
            }
        }
        Order::Stash => {
            let head = stash::last_commit(&ground.repo, work)?;
            let back = Work {
                checkpoint: Some(head.clone()),
                ..work.clone()
            };
            let open = room.open(&work.worktree)?;
            let past = Past::find(room, &open, &back)?;
            restore::restore(&mut draft, &past)?;
            if let Some(note) = past.notes.first() {
                let reason = format!("{note}: a stash cannot hold it, move it away first");
                draft.refuse(None, work.worktree.path.display().to_string(), reason);
            }
            if stash::is_clean(&open.repo, &head, &past.shadow())? {
                draft.notes.push(stash::NOTHING.to_owned());
            } else if draft.conflicts.is_empty() {
                let commit = stash::commit(&open.repo, work, &past.shadow())?;
                besides = Some(Besides::Stash {
                    commit: commit.to_string(),
                });
                let mut kept = past.keep(room, &ground, &back)?;
                kept.commits.push(commit);
                undo = Some(kept);
            }
        }
        Order::Compare { .. } | Order::Archive(_) => {
            return Err(failed("plan", &root, "it is no plan of files".to_owned()));
        }
    }
    case::check(&mut draft)?;
    if !draft.conflicts.is_empty() {
        return Ok(Planned::Refused(draft.conflicts));
    }
    let plan = finish(room, work, &changes, &draft, &baseline, undo.as_ref())?;
    if undo.is_some() && room.config.sync {
        durable::everything(ground.repo.commondir())?;
    }
    let undo = undo.map(|kept| kept.undo);
    Ok(Planned::Ready(Plan {
        undo,
        besides,
        ..plan
    }))
}

fn finish(
    room: &Room,
    work: &Work,
    changes: &[Recorded],
    draft: &Draft<'_>,
    baseline: &Baseline<'_>,
    kept: Option<&Kept>,
) -> Result<Plan, WorktreeError> {
    let ground = draft.ground;
    let mut written = Vec::new();
    let commit = baseline.with(&draft.baseline, &mut written)?;
    let mut contents = BTreeSet::new();
    if !kept.is_some_and(|kept| kept.all) {
        contents.extend(draft.contents().map(|state| state.id));
    }
    let held = kept.map_or(&[][..], |kept| &kept.commits);
    let written = kept.is_none().then_some(written);
    keep(
        room,
        ground,
        work.id,
        &contents,
        &[&[commit], held].concat(),
        written,
    )?;
    let ids: Vec<_> = changes.iter().map(|change| change.id).collect();
    Ok(Plan {
        id: work.id,
        root: ground.root.path().to_owned(),
        worktree: work.worktree.clone(),
        steps: draft.steps(),
        baseline: commit.to_string(),
        accounts: draft.accounts(&ids),
        notes: draft.notes.clone(),
        undo: None,
        besides: None,
    })
}

/// Keeps contents and commits of an operation, its baseline first, under its ref;
/// on the disk when it is told what else was `written` for it.
fn keep(
    room: &Room,
    ground: &Ground,
    id: OperationId,
    contents: &BTreeSet<Oid>,
    commits: &[Oid],
    written: Option<Vec<Oid>>,
) -> Result<(), WorktreeError> {
    let repo = &ground.repo;
    let common = repo.commondir();
    let commit = || -> Result<(Oid, Oid), git2::Error> {
        let mut tree = repo.treebuilder(None)?;
        for blob in contents {
            tree.insert(blob.to_string(), *blob, FILE.cast_signed())?;
        }
        let tree = tree.write()?;
        let parents = commits.iter().map(|commit| repo.find_commit(*commit));
        let parents: Vec<Commit<'_>> = parents.collect::<Result<_, _>>()?;
        let commit = commit(repo, id, tree, &parents)?;
        Ok((tree, commit))
    };
    let (tree, commit) = commit().cannot("keep what the operation needs", common)?;
    let name = ref_of(id);
    let alone = room.hold(common)?;
    refs::keep(repo, &name, commit)?;
    drop(alone);
    let Some(written) = written.filter(|_| room.config.sync) else {
        return Ok(());
    };
    let mut all = contents.clone();
    all.extend(written);
    all.extend([tree, commit]);
    all.extend(commits);
    durable::objects(repo, &all, &name)
}

fn commit(
    repo: &Repository,
    id: OperationId,
    tree: Oid,
    parents: &[Commit<'_>],
) -> Result<Oid, git2::Error> {
    let author = Signature::now("Hearth", "hearth@localhost")?;
    let tree = repo.find_tree(tree)?;
    let message = format!("Operation {id}");
    let parents: Vec<&Commit<'_>> = parents.iter().collect();
    repo.commit(None, &author, &author, &message, &tree, &parents)
}

/// The files that a change is about, as far as they can be.
fn paths(change: &Recorded) -> impl Iterator<Item = Place> {
    let paths = std::iter::once(&change.path).chain(&change.old_path);
    paths.filter_map(|path| Place::of(path).ok())
}

/// A change that is named twice is done once.
fn once_each(changes: &[Recorded]) -> Vec<Recorded> {
    let mut seen = BTreeSet::new();
    let new = |change: &&Recorded| seen.insert(change.id);
    changes.iter().filter(new).cloned().collect()
}
