//! Restore: a worktree brought back to a checkpoint, exactly as a scan sees it.
//!
//! What differs between the files as a scan finds them and the checkpoint's tree
//! is what moves; all else stays, and so do index and HEAD. No checkpoint holds
//! ignored files, repositories within, FIFOs, sockets and devices: they stay
//! too, and where a file of the checkpoint would have their place that is a
//! conflict. So do files that only the rules of today ignore: they show as new
//! afterwards. What was there before is a checkpoint of its own.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use git2::{Index, Oid, Repository};
use hearth_actors::ids::CheckpointId;
use hearth_actors::model::Checkpoint;
use hearth_actors::ports::WorktreeError;
use hearth_actors::review::Work;

use super::super::differing::{self, Differing, Side};
use super::super::errors::Context;
use super::super::ignores::Ignores;
use super::super::snapshot::split;
use super::super::stat::{FILE, LINK, PROGRAM};
use super::super::{Open, Room, checkpoint, history, names, scan, traps};
use super::beneath::Inside;
use super::change::not_written;
use super::draft::{Draft, Move, Undo};
use super::ground::{Found, Ground, State};
use super::place::Place;

/// Files that are told to stay in a folder that otherwise goes.
const MAX_TOLD: usize = 3;

/// A worktree as it is, and what lies between it and a checkpoint.
pub(super) struct Past {
    differing: Vec<Differing>,
    /// The tree of all files now, and the checkpoint's.
    now: Oid,
    wanted: Oid,
    /// What the scan left out.
    pub(super) notes: Vec<String>,
    /// All files are stored byte for byte.
    pub(super) plain: bool,
}

impl Past {
    /// Scans the worktree of the order.
    pub(super) fn find(room: &Room, open: &Open, work: &Work) -> Result<Self, WorktreeError> {
        let Some(checkpoint) = &work.checkpoint else {
            return Err(WorktreeError::Unusable(
                "the checkpoint to restore is not known (any more)".into(),
            ));
        };
        let wanted = history::tree_of(&open.repo, &checkpoint.commit)?;
        let shadow = scan::shadow(&open.scanned(&work.worktree), &room.snapshots)?;
        let at = &work.worktree.path;
        let differing = differing::files(&open.repo, shadow.tree, wanted);
        let differing = differing.cannot("compare the files with the checkpoint", at)?;
        let paths = differing.iter().map(|differing| &differing.path[..]);
        traps::attributes(&open.repo, paths)?;
        Ok(Self {
            differing,
            now: shadow.tree,
            wanted,
            notes: shadow.notes,
            plain: shadow.plain,
        })
    }

    /// The files as they are now.
    pub(super) fn shadow(&self) -> scan::Shadow {
        scan::Shadow {
            tree: self.now,
            notes: self.notes.clone(),
            plain: self.plain,
        }
    }

    /// Keeps the files as they are now as a checkpoint. It has the operation's
    /// id, so that a repeat makes no second one.
    pub(super) fn keep(
        &self,
        room: &Room,
        ground: &Ground,
        work: &Work,
    ) -> Result<Kept, WorktreeError> {
        let common = ground.repo.commondir();
        let _alone = room.hold(common)?;
        let undo = checkpoint::commit(&ground.repo, CheckpointId(work.id.0), self.now)?;
        let commits = std::iter::once(&undo).chain(&work.checkpoint);
        let commits = commits.map(|checkpoint| Oid::from_str(&checkpoint.commit));
        let commits = commits.collect::<Result<_, _>>();
        Ok(Kept {
            commits: commits.cannot("read a checkpoint's id", common)?,
            all: self.plain,
            undo,
        })
    }
}

/// What holds the content of a restore.
pub(super) struct Kept {
    /// The files as they were before it.
    pub(super) undo: Checkpoint,
    /// The commits of this checkpoint and of the one that is restored.
    pub(super) commits: Vec<Oid>,
    /// There is no content but theirs.
    pub(super) all: bool,
}

/// Drafts the worktree as the checkpoint has it, or finds every conflict.
pub(super) fn restore(draft: &mut Draft<'_>, past: &Past) -> Result<(), WorktreeError> {
    let repo = &draft.ground.repo;
    let mut stays = Stays::of(repo, past.wanted)?;
    let mut come = Vec::new();
    let mut gone = Vec::new();
    for Differing {
        path,
        before,
        after,
    } in &past.differing
    {
        let shown = names::shown(path);
        let (now, wanted) = match (state(*before), state(*after)) {
            (Some(now), Some(wanted)) => (now, wanted),
            _ => {
                let note = format!("{shown} stays: it is a submodule, here or in the checkpoint");
                draft.notes.push(note);
                continue;
            }
        };
        match (Place::of_bytes(path.clone()), wanted) {
            (Err(why), _) => draft.refuse(None, shown, not_written(why)),
            (Ok(place), Some(wanted)) => come.push((place, now, wanted)),
            (Ok(place), None) if stays.keeps(&place) => {
                let note = format!("{shown} stays: the checkpoint's own rules ignore it");
                draft.notes.push(note);
            }
            (Ok(place), None) => {
                leave(draft, past, &place, now)?;
                gone.push(place);
            }
        }
    }
    if past
        .differing
        .iter()
        .any(|one| split(&one.path).1 == b".gitignore")
    {
        let note = "the ignore rules change: files that are ignored now stay, and may show as new";
        draft.notes.push(note.to_owned());
    }
    for (place, now, wanted) in &come {
        arrive(draft, past, place, *now, *wanted)?;
    }
    tell_what_stays(draft, past, &gone)
}

/// Files that a scan finds now and would not find in the checkpoint: they were
/// ignored then, and perhaps there.
struct Stays<'a> {
    ignores: Ignores<'a>,
    repo: &'a Repository,
}

impl<'a> Stays<'a> {
    fn of(repo: &'a Repository, wanted: Oid) -> Result<Self, WorktreeError> {
        let tree = repo.find_tree(wanted);
        let tree = tree.cannot("read the checkpoint", repo.commondir())?;
        Ok(Self {
            ignores: Ignores::of_tree(repo, tree),
            repo,
        })
    }

    fn keeps(&mut self, place: &Place) -> bool {
        let path = Path::new(OsStr::from_bytes(place.bytes()));
        let tracks = |index: Index| index.get_path(path, 0).is_some();
        self.ignores.ignore(place.bytes(), false) && !self.repo.index().is_ok_and(tracks)
    }
}

/// A side of the comparison; the outer none is a submodule.
#[expect(clippy::option_option, reason = "no file, and no state of a file")]
fn state(side: Option<Side>) -> Option<Option<State>> {
    match side {
        None => Some(None),
        Some(Side { mode, id }) => {
            matches!(mode, FILE | PROGRAM | LINK).then_some(Some(State::new(id, mode)))
        }
    }
}

/// Drafts what the scan found and read a moment ago, without another look.
/// Whether it still is so shows when the plan is carried out. False where bytes
/// on disk may be others than those stored.
fn as_scanned(
    draft: &mut Draft<'_>,
    past: &Past,
    place: &Place,
    now: Option<State>,
    to: Option<State>,
) -> bool {
    if now.is_none() || !past.plain {
        return false;
    }
    let (place, from) = (place.clone(), now);
    draft.put_stored(None, Move { place, from, to }, &mut Undo::default());
    true
}

/// Drafts the removal of a file that the checkpoint does not have.
fn leave(
    draft: &mut Draft<'_>,
    past: &Past,
    place: &Place,
    now: Option<State>,
) -> Result<(), WorktreeError> {
    if as_scanned(draft, past, place, now, None) {
        return Ok(());
    }
    match draft.find(place)? {
        // It went by itself.
        Found::Nothing => Ok(()),
        Found::File(raw) if Some(draft.stored(place, raw)?) == now => {
            put(draft, place, now, Some(raw), None)
        }
        _ => moving(draft, place),
    }
}

/// Drafts a file as the checkpoint has it.
fn arrive(
    draft: &mut Draft<'_>,
    past: &Past,
    place: &Place,
    now: Option<State>,
    wanted: State,
) -> Result<(), WorktreeError> {
    if !draft.ground.has(wanted.id) {
        let reason = format!(
            "the checkpoint's content of {} is no longer in the repository: restore another checkpoint",
            place.shown()
        );
        draft.refuse(None, place.shown(), reason);
        return Ok(());
    }
    if as_scanned(draft, past, place, now, Some(wanted)) {
        return Ok(());
    }
    let (at, what) = match (draft.find(place)?, now) {
        (Found::Nothing, _) => {
            let to = draft.raw(place, wanted)?;
            return put(draft, place, None, None, Some(to));
        }
        (Found::File(raw), Some(was)) => {
            let to = draft.raw(place, wanted)?;
            return match draft.stored(place, raw)? == was {
                true => put(draft, place, now, Some(raw), Some(to)),
                false => moving(draft, place),
            };
        }
        (Found::File(raw), None) => {
            if raw == draft.raw(place, wanted)? {
                return Ok(());
            }
            (
                place.clone(),
                "is an ignored file, which no checkpoint holds",
            )
        }
        (Found::Folder(_), _) => (
            place.clone(),
            "is a folder with files that no checkpoint holds, such as ignored ones",
        ),
        (Found::Odd(what), _) => (place.clone(), what),
        (Found::Barred(bar), _) => (bar.at, bar.what),
    };
    let reason = format!("{} {what}: move it away, and restore again", at.shown());
    draft.refuse(None, at.shown(), reason);
    Ok(())
}

/// Drafts a move. What the scan found, `now`, it stored: where that is what is on
/// disk the file need not be read again.
fn put(
    draft: &mut Draft<'_>,
    place: &Place,
    now: Option<State>,
    from: Option<State>,
    to: Option<State>,
) -> Result<(), WorktreeError> {
    let step = Move {
        place: place.clone(),
        from,
        to,
    };
    if from == now {
        draft.put_stored(None, step, &mut Undo::default());
        return Ok(());
    }
    match draft.put(None, step, &mut Undo::default())? {
        true => Ok(()),
        false => moving(draft, place),
    }
}

fn moving(draft: &mut Draft<'_>, place: &Place) -> Result<(), WorktreeError> {
    let reason = format!(
        "{} changes while it is looked at: try again when it rests",
        place.shown()
    );
    draft.refuse(None, place.shown(), reason);
    Ok(())
}

/// Names the folders that would go with their files, if there were not others in
/// them.
fn tell_what_stays(
    draft: &mut Draft<'_>,
    past: &Past,
    gone: &[Place],
) -> Result<(), WorktreeError> {
    let ground = draft.ground;
    let wanted = ground.repo.find_tree(past.wanted);
    let wanted = wanted.cannot("read the checkpoint", ground.repo.commondir())?;
    let has = |folder: &Place| {
        wanted
            .get_path(Path::new(OsStr::from_bytes(folder.bytes())))
            .is_ok()
    };
    let leaving: BTreeSet<&Place> = gone.iter().collect();
    let outermost = |place: &Place| place.above().take_while(|folder| !has(folder)).last();
    let folders: BTreeSet<Place> = gone.iter().filter_map(outermost).collect();
    for folder in folders {
        let stays = match ground.root.inside(&folder)? {
            Inside::Hollow => continue,
            Inside::Full => "a repository of its own, or too much to be told".to_owned(),
            Inside::Files(files) => {
                let mut others = files
                    .iter()
                    .filter(|file| !leaving.contains(file))
                    .peekable();
                if others.peek().is_none() {
                    continue;
                }
                let shown: Vec<_> = others.by_ref().take(MAX_TOLD).map(Place::shown).collect();
                let more = match others.count() {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                format!("{}{more}", shown.join(", "))
            }
        };
        let note = format!(
            "{} stays: it holds what no checkpoint holds: {stays}",
            folder.shown()
        );
        draft.notes.push(note);
    }
    Ok(())
}
