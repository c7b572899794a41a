//! What the last scan of a worktree read, so that a file that still looks as it
//! did need not be read again to be named.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use hearth_actors::review::Plan;

use super::super::Room;
use super::super::stat::Stat;
use super::ground::State;
use super::place::Place;

/// Files by path, and how they looked before they were read. As for a scan, only
/// what was older than the look is believed.
#[derive(Default)]
pub(super) struct Known(HashMap<Vec<u8>, (State, Stat)>);

impl Known {
    /// What the file at the place is, if it still looks so.
    pub(super) fn state(&self, folder: &OwnedFd, place: &Place) -> Option<State> {
        let (state, then) = self.0.get(place.bytes())?;
        (Stat::below(folder, place.name())? == *then).then_some(*state)
    }
}

/// What is known of the files of a plan: those of a worktree whose files are
/// stored byte for byte.
pub(super) fn of(room: &Room, plan: &Plan) -> Known {
    if plan.root != plan.worktree.path {
        return Known::default();
    }
    let places = plan
        .steps
        .iter()
        .filter_map(|step| Place::of(&step.path).ok());
    let known = room.snapshots.with(plan.worktree.id, |snapshot| {
        let known = |place: Place| {
            let entry = snapshot
                .get(place.bytes())
                .filter(|entry| entry.is_file())?;
            let state = State::new(entry.id, entry.mode);
            Some((place.bytes().to_vec(), (state, entry.stat?)))
        };
        match snapshot.plain {
            true => places.filter_map(known).collect(),
            false => HashMap::new(),
        }
    });
    Known(known.unwrap_or_default())
}
