//! Reject and rewind: a change taken back where it is, and only where the file
//! still is what the change made it.

use hearth_actors::ids::ChangeId;
use hearth_actors::ports::WorktreeError;
use hearth_actors::review::Recorded;

use super::baseline::Baseline;
use super::change::{Change, checked, not_written};
use super::draft::{Draft, Move, Undo};
use super::ground::{Found, State};
use super::place::Place;

const LATER: &str = "was changed later by what was applied, too: rewind that one first";

/// One file's way back.
struct Want {
    place: Place,
    /// What must be there.
    expect: Option<State>,
    to: Option<State>,
}

/// A change's way back.
struct Back {
    id: ChangeId,
    files: Vec<Want>,
    /// Whether the states are what a scan stores, or bytes on disk.
    stored: bool,
    /// The files of the baseline, which go the same way.
    baseline: Vec<Want>,
}

/// Why a change does not go back.
struct Refusal {
    path: String,
    reason: String,
}

/// Drafts the worktree without the changes, or finds every conflict.
pub(super) fn reject(draft: &mut Draft<'_>, changes: &[Recorded]) -> Result<(), WorktreeError> {
    let mut backs = Vec::new();
    for change in changes {
        if let Some(change) = checked(draft, change) {
            backs.push(Back {
                id: change.id,
                files: ways(change),
                stored: true,
                baseline: Vec::new(),
            });
        }
    }
    go_back(draft, backs, None)
}

/// Drafts the checkout, and the baseline, without the applied changes.
pub(super) fn rewind(
    draft: &mut Draft<'_>,
    changes: &[Recorded],
    baseline: &Baseline<'_>,
) -> Result<(), WorktreeError> {
    let mut backs = Vec::new();
    for recorded in changes {
        if recorded.covered {
            // Its bytes may be the same, and the later row would say that it is applied.
            let reason = format!("{} {LATER}", recorded.path);
            draft.refuse(Some(recorded.id), recorded.path.clone(), reason);
            continue;
        }
        let Some(files) = applied(draft, recorded) else {
            continue;
        };
        if let Some(change) = checked(draft, recorded) {
            backs.push(Back {
                id: change.id,
                files,
                stored: false,
                baseline: ways(change),
            });
        }
    }
    go_back(draft, backs, Some(baseline))
}

/// The ways back of a change's files.
fn ways(change: Change) -> Vec<Want> {
    let Change {
        place,
        old,
        before,
        after,
        ..
    } = change;
    let source = old.map(|old| Want {
        place: old,
        expect: None,
        to: before,
    });
    let to = if source.is_some() { None } else { before };
    let expect = after;
    let file = Want { place, expect, to };
    std::iter::once(file).chain(source).collect()
}

/// The ways back of what an apply wrote. None after a conflict.
fn applied(draft: &mut Draft<'_>, change: &Recorded) -> Option<Vec<Want>> {
    let mut wants = Vec::new();
    for step in change.applied.iter().rev() {
        let state = |told: &Option<_>| told.as_ref().map(State::parse);
        match (Place::of(&step.path), state(&step.to), state(&step.from)) {
            (Ok(place), None | Some(Some(_)), None | Some(Some(_))) => wants.push(Want {
                place,
                expect: state(&step.to).flatten(),
                to: state(&step.from).flatten(),
            }),
            (place, ..) => {
                let why = place.err().unwrap_or("was recorded with no file's state");
                draft.refuse(Some(change.id), step.path.clone(), not_written(why));
                return None;
            }
        }
    }
    Some(wants)
}

/// Takes back one change after the other, the newest first: several may be about
/// one file, and what stands in one's way may go with another.
fn go_back(
    draft: &mut Draft<'_>,
    mut backs: Vec<Back>,
    baseline: Option<&Baseline<'_>>,
) -> Result<(), WorktreeError> {
    backs.reverse();
    loop {
        let before = backs.len();
        let mut left = Vec::new();
        let mut refusals = Vec::new();
        for back in backs {
            if let Err(refusal) = try_back(draft, &back, baseline)? {
                refusals.push((back.id, refusal));
                left.push(back);
            }
        }
        if left.is_empty() || left.len() == before {
            for (id, Refusal { path, reason }) in refusals {
                draft.refuse(Some(id), path, reason);
            }
            return Ok(());
        }
        backs = left;
    }
}

fn try_back(
    draft: &mut Draft<'_>,
    back: &Back,
    baseline: Option<&Baseline<'_>>,
) -> Result<Result<(), Refusal>, WorktreeError> {
    if let Some(baseline) = baseline {
        for Want { place, expect, .. } in &back.baseline {
            let now = match draft.baseline.get(place) {
                Some(now) => *now,
                None => baseline.file(place)?,
            };
            if now != *expect {
                return Ok(refused(place, LATER));
            }
        }
    }
    let mut undo = Undo::default();
    // What goes, goes first: it may be in the way of the rest.
    let (gone, kept): (Vec<_>, Vec<_>) = back.files.iter().partition(|want| want.to.is_none());
    for want in gone.into_iter().chain(kept) {
        if let Err(refusal) = try_file(draft, back, want, &mut undo)? {
            draft.take_back(back.id, undo);
            return Ok(Err(refusal));
        }
    }
    let goes = back
        .baseline
        .iter()
        .map(|want| (want.place.clone(), want.to));
    draft.baseline.extend(goes);
    Ok(Ok(()))
}

fn try_file(
    draft: &mut Draft<'_>,
    back: &Back,
    want: &Want,
    undo: &mut Undo,
) -> Result<Result<(), Refusal>, WorktreeError> {
    let Want { place, expect, to } = want;
    let raw = match draft.find(place)? {
        Found::Nothing => None,
        Found::File(raw) => Some(raw),
        Found::Folder(_) => return Ok(refused(place, "is a folder now: move it away")),
        Found::Odd(what) => return Ok(refused(place, &format!("{what}: move it away"))),
        Found::Barred(bar) => {
            let reason = format!("{}: move it away", bar.what);
            return Ok(refused(&bar.at, &reason));
        }
    };
    let now = match raw {
        Some(raw) if back.stored => Some(draft.stored(place, raw)?),
        raw => raw,
    };
    if now == *to {
        return Ok(Ok(()));
    }
    if now != *expect {
        let reason = match back.stored {
            true => {
                "is not what was recorded any more: look at it, and let the next turn record it"
            }
            false => "is not what the apply wrote any more: take your own edits out first",
        };
        return Ok(refused(place, reason));
    }
    let to = match to {
        Some(to) if back.stored => Some(draft.raw(place, *to)?),
        to => *to,
    };
    let step = Move {
        place: place.clone(),
        from: raw,
        to,
    };
    Ok(match draft.put(Some(back.id), step, undo)? {
        true => Ok(()),
        false => refused(
            place,
            "changes while it is looked at: try again when it rests",
        ),
    })
}

fn refused(place: &Place, reason: &str) -> Result<(), Refusal> {
    let path = place.shown();
    let reason = format!("{path} {reason}");
    Err(Refusal { path, reason })
}
