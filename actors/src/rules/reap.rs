//! What the reaper does about what it finds. Whether work would be lost is
//! looked at behind this, by [`super::risk`]: nothing here is removed unseen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::ids::SessionId;
use crate::reap::{Deed, Keep, Place, Reason, Standing, Thing, ThingKind};

/// What is to be done, and why; rows first, each in their order. `open` are all
/// sessions that are neither closed nor deleted: what is theirs is left to them.
#[must_use]
pub fn deeds(
    places: &[Place],
    things: &[Thing],
    open: &BTreeSet<SessionId>,
    keep: &Keep,
) -> Vec<(Deed, Reason)> {
    let paths_of = |kind: ThingKind| -> BTreeSet<PathBuf> {
        let of_kind = things.iter().filter(|thing| thing.kind == kind);
        of_kind.map(whole).collect()
    };
    let (there, aside) = (paths_of(ThingKind::Folder), paths_of(ThingKind::Tombstone));
    let of_rows = places.iter().filter_map(|place| {
        let path = &place.worktree.path;
        of_row(place, there.contains(path), aside.contains(path), keep)
    });
    let rows = Rows::of(places);
    let of_disk = things
        .iter()
        .filter_map(|thing| of_thing(thing, &rows, open, keep));
    of_rows.chain(of_disk).collect()
}

/// By the path that they have while they are whole. A path may have been that of
/// several rows, of which one counts: the one that somebody may still want.
struct Rows<'a>(BTreeMap<&'a Path, &'a Place>);

impl<'a> Rows<'a> {
    fn of(places: &'a [Place]) -> Self {
        let mut rows: BTreeMap<&Path, &Place> = BTreeMap::new();
        for place in places {
            let kept = rows.entry(&place.worktree.path).or_insert(place);
            if place.standing < kept.standing {
                *kept = place;
            }
        }
        Self(rows)
    }

    fn at(&self, path: &Path) -> Option<&'a Place> {
        self.0.get(path).copied()
    }
}

/// `aside`: files of it were moved away to be removed, and were not.
fn of_row(place: &Place, there: bool, aside: bool, keep: &Keep) -> Option<(Deed, Reason)> {
    let archive = |reason| Some((Deed::Archive(place.clone()), reason));
    match place.standing {
        Standing::InUse => None,
        Standing::Open | Standing::Closed | Standing::ArenaOver if !there && !aside => {
            // Somebody may be making it.
            (place.idle >= keep.orphan).then(|| (Deed::NoteGone(place.clone()), Reason::FilesGone))
        }
        Standing::Closed => archive(Reason::SessionClosed),
        Standing::ArenaOver => archive(Reason::ArenaOver),
        Standing::Open if place.idle >= keep.idle => archive(Reason::Idle),
        Standing::Open => None,
        Standing::Orphaned if !there => Some((Deed::NoteGone(place.clone()), Reason::FilesGone)),
        // Its folder is looked at among the things.
        Standing::Orphaned => None,
        // What was put away comes back from its archive.
        Standing::PutAway => None,
        Standing::Archived => (!place.forgotten && !there && place.idle >= keep.archive)
            .then(|| (Deed::Forget(place.clone()), Reason::Expired)),
    }
}

fn of_thing(
    thing: &Thing,
    rows: &Rows<'_>,
    open: &BTreeSet<SessionId>,
    keep: &Keep,
) -> Option<(Deed, Reason)> {
    let row = rows.at(&whole(thing));
    let old = thing.age >= keep.orphan;
    let is_open = |session: &SessionId| open.contains(session);
    let wanted = row.is_some_and(|row| !row.standing.is_over());
    match thing.kind {
        ThingKind::Folder => {
            // Its files come back from their archive, not from what was left of them.
            let wanted = wanted && row.is_some_and(|row| row.standing != Standing::PutAway);
            let expected = row.is_none() && thing.session.as_ref().is_some_and(is_open);
            (old && !wanted && !expected)
                .then(|| (Deed::Bury(thing.clone(), row.cloned()), Reason::Orphan))
        }
        // Only what a row says is kept elsewhere. An operation under way sees to
        // its own.
        ThingKind::Tombstone => row
            .is_some_and(|row| matches!(row.standing, Standing::PutAway | Standing::Archived))
            .then(|| (Deed::Clear(thing.clone()), Reason::HalfRemoved)),
        ThingKind::HalfMade => {
            let in_use = row.is_some_and(|row| row.standing == Standing::InUse);
            (old && !in_use).then(|| (Deed::Clear(thing.clone()), Reason::HalfMade))
        }
        ThingKind::Entry => {
            (old && !wanted).then(|| (Deed::Clear(thing.clone()), Reason::FilesGone))
        }
    }
}

/// Names of folders beside a worktree's: one whose files a commit holds, and that only
/// has to go.
pub const TOMBSTONE: &str = ".archived-";
/// The same, of one that was written to on its way out, and whose place was taken
/// meanwhile: its files are a person's to look at, and nobody else's.
pub const KEPT: &str = ".kept-";
/// The same, of one that is being made.
pub const HALF_MADE: &str = ".making-";

/// The path of the worktree that the thing is of.
#[must_use]
pub fn whole(thing: &Thing) -> PathBuf {
    let name = thing.path.file_name().unwrap_or_default().to_string_lossy();
    let own = match thing.kind {
        ThingKind::Tombstone => name.strip_prefix(TOMBSTONE),
        ThingKind::HalfMade => name.strip_prefix(HALF_MADE),
        ThingKind::Folder | ThingKind::Entry => None,
    };
    own.map_or_else(|| thing.path.clone(), |own| thing.path.with_file_name(own))
}
