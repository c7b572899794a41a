//! Recorded changes, checked before they are worked with.

use hearth_actors::ids::ChangeId;
use hearth_actors::review::{FileState, Recorded};

use super::draft::Draft;
use super::ground::State;
use super::place::Place;

/// A recorded change whose paths may be written and whose content is there.
pub(super) struct Change {
    pub(super) id: ChangeId,
    pub(super) place: Place,
    /// Where a renamed file was.
    pub(super) old: Option<Place>,
    pub(super) before: Option<State>,
    pub(super) after: Option<State>,
}

/// The change, or a conflict in the draft.
pub(super) fn checked(draft: &mut Draft<'_>, change: &Recorded) -> Option<Change> {
    match check(draft, change) {
        Ok(change) => Some(change),
        Err((path, reason)) => {
            draft.refuse(Some(change.id), path, reason);
            None
        }
    }
}

type Refusal = (String, String);

fn check(draft: &Draft<'_>, change: &Recorded) -> Result<Change, Refusal> {
    let place = |path: &str| Place::of(path).map_err(|why| (path.to_owned(), not_written(why)));
    let state = |told: &Option<FileState>| match told {
        None => Ok(None),
        Some(told) => State::parse(told)
            .filter(|state| draft.ground.size(state.id).is_some())
            .map(Some)
            .ok_or_else(|| (change.path.clone(), GONE.to_owned())),
    };
    let checked = Change {
        id: change.id,
        place: place(&change.path)?,
        old: change.old_path.as_deref().map(place).transpose()?,
        before: state(&change.before)?,
        after: state(&change.after)?,
    };
    if checked.before.is_none() && checked.after.is_none() {
        return Err((change.path.clone(), GONE.to_owned()));
    }
    Ok(Change {
        old: checked
            .old
            .filter(|_| checked.before.is_some() && checked.after.is_some()),
        ..checked
    })
}

const GONE: &str = "its recorded content is not in the repository (any more): reject it by hand in the worktree, and let the next turn record anew";

/// Says why Hearth writes no such path.
pub(super) fn not_written(why: &str) -> String {
    format!("its path {why}: Hearth does not write there; move the file in the worktree")
}
