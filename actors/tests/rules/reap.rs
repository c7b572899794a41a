//! What the reaper does about what it finds.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use hearth_actors::ids::{SessionId, WorktreeId};
use hearth_actors::model::Worktree;
use hearth_actors::reap::{Deed, Keep, Place, Reason, Standing, Thing, ThingKind};
use hearth_actors::rules::reap::{HALF_MADE, TOMBSTONE, deeds};
use proptest::prelude::*;
use uuid::Uuid;

const HOUR: Duration = Duration::from_secs(3600);

fn session(n: u8) -> SessionId {
    SessionId(Uuid::from_u128(u128::from(n) + 1))
}

fn path(n: u8) -> PathBuf {
    PathBuf::from(format!("/home/p/{n}"))
}

fn place(n: u8, standing: Standing, idle: Duration) -> Place {
    Place {
        worktree: Worktree {
            id: WorktreeId(Uuid::from_u128(u128::from(n) + 100)),
            path: path(n),
            branch: format!("session-{n}"),
            base_commit: "base".into(),
            baseline: "base".into(),
        },
        session: Some(session(n)),
        project_path: Some("/project".into()),
        standing,
        idle,
        forgotten: false,
    }
}

fn thing(n: u8, kind: ThingKind, age: Duration) -> Thing {
    let prefix = match kind {
        ThingKind::Tombstone => TOMBSTONE,
        ThingKind::HalfMade => HALF_MADE,
        _ => "",
    };
    Thing {
        kind,
        path: PathBuf::from(format!("/home/p/{prefix}{n}")),
        session: Some(session(n)),
        worktree: None,
        age,
    }
}

fn folder(n: u8) -> Thing {
    thing(n, ThingKind::Folder, 2 * HOUR)
}

fn decide(places: &[Place], things: &[Thing], open: &[SessionId]) -> Vec<(Deed, Reason)> {
    let open: BTreeSet<SessionId> = open.iter().copied().collect();
    deeds(places, things, &open, &Keep::default())
}

#[test]
fn a_closed_session_gives_its_worktree_up_at_once_and_an_idle_one_after_72_hours() {
    let closed = place(1, Standing::Closed, Duration::ZERO);
    assert_eq!(
        decide(std::slice::from_ref(&closed), &[folder(1)], &[]),
        [(Deed::Archive(closed), Reason::SessionClosed)]
    );
    let open = [session(1)];
    let fresh = place(1, Standing::Open, 71 * HOUR);
    assert_eq!(decide(&[fresh], &[folder(1)], &open), []);
    let idle = place(1, Standing::Open, 72 * HOUR);
    assert_eq!(
        decide(std::slice::from_ref(&idle), &[folder(1)], &open),
        [(Deed::Archive(idle), Reason::Idle)]
    );
}

#[test]
fn what_no_row_wants_is_left_alone_for_an_hour_and_while_its_session_is_open() {
    let young = thing(1, ThingKind::Folder, HOUR - Duration::from_secs(1));
    assert_eq!(decide(&[], &[young], &[]), []);
    assert_eq!(decide(&[], &[folder(1)], &[session(1)]), []);
    assert_eq!(
        decide(&[], &[folder(1)], &[]),
        [(Deed::Bury(folder(1), None), Reason::Orphan)]
    );
    // Files that stayed when a worktree was put away for good.
    let archived = place(1, Standing::Archived, HOUR);
    assert_eq!(
        decide(std::slice::from_ref(&archived), &[folder(1)], &[]),
        [(Deed::Bury(folder(1), Some(archived)), Reason::Orphan)]
    );
}

#[test]
fn a_tombstone_goes_only_where_a_row_says_that_its_files_are_kept() {
    let grave = thing(1, ThingKind::Tombstone, 9 * HOUR);
    assert_eq!(decide(&[], std::slice::from_ref(&grave), &[]), []);
    for standing in [Standing::InUse, Standing::Open, Standing::Closed] {
        let found = decide(
            &[place(1, standing, Duration::ZERO)],
            std::slice::from_ref(&grave),
            &[],
        );
        assert!(
            found
                .iter()
                .all(|(deed, _)| !matches!(deed, Deed::Clear(_)))
        );
    }
    for standing in [Standing::PutAway, Standing::Archived] {
        let found = decide(
            &[place(1, standing, Duration::ZERO)],
            std::slice::from_ref(&grave),
            &[],
        );
        assert_eq!(found, [(Deed::Clear(grave.clone()), Reason::HalfRemoved)]);
    }
}

#[test]
fn files_that_stayed_aside_are_not_noted_as_gone() {
    let grave = thing(1, ThingKind::Tombstone, 9 * HOUR);
    let open = [session(1)];
    let row = place(1, Standing::Open, 9 * HOUR);
    assert_eq!(decide(&[row], std::slice::from_ref(&grave), &open), []);
    let row = place(1, Standing::Closed, 9 * HOUR);
    assert_eq!(
        decide(std::slice::from_ref(&row), &[grave], &[]),
        [(Deed::Archive(row), Reason::SessionClosed)],
        "which tells why it cannot be"
    );
}

#[test]
fn the_entry_of_a_worktree_that_somebody_may_want_stays() {
    let entry = thing(1, ThingKind::Entry, 9 * HOUR);
    for standing in Standing::ALL {
        let row = place(1, *standing, Duration::ZERO);
        let found = decide(&[row], std::slice::from_ref(&entry), &[]);
        let cleared = found.contains(&(Deed::Clear(entry.clone()), Reason::FilesGone));
        assert_eq!(cleared, standing.is_over(), "{standing:?}");
    }
    assert_eq!(
        decide(&[], std::slice::from_ref(&entry), &[]),
        [(Deed::Clear(entry), Reason::FilesGone)]
    );
}

#[test]
fn an_archive_expires_and_one_that_may_come_back_does_not() {
    let old = 15 * 24 * HOUR;
    let gone = place(1, Standing::Archived, old);
    assert_eq!(
        decide(std::slice::from_ref(&gone), &[], &[]),
        [(Deed::Forget(gone), Reason::Expired)]
    );
    assert_eq!(decide(&[place(1, Standing::PutAway, old)], &[], &[]), []);
    assert_eq!(decide(&[place(1, Standing::Archived, HOUR)], &[], &[]), []);
}

/// Its files come back from their archive: what was left of them is looked at again.
#[test]
fn a_folder_of_what_was_put_away_goes_when_it_is_old() {
    let row = place(1, Standing::PutAway, HOUR);
    let folder = thing(1, ThingKind::Folder, 2 * HOUR);
    assert_eq!(
        decide(
            std::slice::from_ref(&row),
            std::slice::from_ref(&folder),
            &[session(1)]
        ),
        [(Deed::Bury(folder, Some(row.clone())), Reason::Orphan)]
    );
    let young = thing(1, ThingKind::Folder, HOUR / 2);
    assert_eq!(decide(&[row], &[young], &[session(1)]), []);
}

#[test]
fn a_row_without_files_is_noted_when_nobody_is_making_them() {
    let lost = place(1, Standing::Open, 2 * HOUR);
    assert_eq!(
        decide(std::slice::from_ref(&lost), &[], &[session(1)]),
        [(Deed::NoteGone(lost), Reason::FilesGone)]
    );
    let making = place(1, Standing::Open, Duration::ZERO);
    assert_eq!(decide(&[making], &[], &[session(1)]), []);
    assert_eq!(
        decide(&[place(1, Standing::InUse, 9 * HOUR)], &[], &[session(1)]),
        []
    );
}

fn standing() -> impl Strategy<Value = Standing> {
    prop::sample::select(Standing::ALL)
}

fn kind() -> impl Strategy<Value = ThingKind> {
    prop::sample::select(ThingKind::ALL)
}

fn hours() -> impl Strategy<Value = Duration> {
    prop::sample::select(vec![0_u32, 1, 2, 71, 72, 100, 335, 336, 400]).prop_map(|n| n * HOUR)
}

proptest! {
    /// Whatever is found: where something works nothing is touched, an open session
    /// loses nothing but what is idle for long, and folders go by a deed that looks
    /// at what they hold.
    #[test]
    fn nobody_loses_what_he_uses(
        rows in prop::collection::vec((0_u8..6, standing(), hours()), 0..8),
        disk in prop::collection::vec((0_u8..6, kind(), hours()), 0..12),
    ) {
        let places: Vec<Place> = rows.iter().map(|(n, s, idle)| place(*n, *s, *idle)).collect();
        let things: Vec<Thing> = disk.iter().map(|(n, k, age)| thing(*n, *k, *age)).collect();
        let open: BTreeSet<SessionId> = rows
            .iter()
            .filter(|(_, s, _)| matches!(s, Standing::Open | Standing::InUse | Standing::PutAway))
            .map(|(n, _, _)| session(*n))
            .collect();
        let keep = Keep::default();
        let found = deeds(&places, &things, &open, &keep);
        for (deed, reason) in &found {
            match deed {
                Deed::Archive(place) => {
                    prop_assert!(matches!(
                        place.standing,
                        Standing::Closed | Standing::ArenaOver | Standing::Open
                    ));
                    prop_assert!(place.standing != Standing::Open || place.idle >= keep.idle);
                }
                Deed::Bury(thing, row) => {
                    prop_assert_eq!(thing.kind, ThingKind::Folder);
                    prop_assert!(thing.age >= keep.orphan);
                    let is_left = |place: &Place| {
                        place.standing.is_over() || place.standing == Standing::PutAway
                    };
                    prop_assert!(row.as_ref().is_none_or(is_left));
                    let mut here = places.iter().filter(|place| place.worktree.path == thing.path);
                    prop_assert!(here.all(is_left));
                }
                Deed::Clear(thing) => {
                    prop_assert!(thing.kind != ThingKind::Folder);
                    if *reason != Reason::HalfRemoved {
                        prop_assert!(thing.age >= keep.orphan);
                    }
                    if thing.kind == ThingKind::Entry {
                        let wanted = places.iter().any(|place| {
                            place.worktree.path == thing.path && !place.standing.is_over()
                        });
                        prop_assert!(!wanted);
                    }
                }
                Deed::NoteGone(place) => {
                    let there = things.iter().any(|thing| {
                        thing.kind == ThingKind::Folder && thing.path == place.worktree.path
                    });
                    prop_assert!(!there && place.standing != Standing::InUse);
                }
                Deed::Forget(place) => {
                    prop_assert_eq!(place.standing, Standing::Archived);
                    prop_assert!(place.idle >= keep.archive);
                }
            }
        }
        // The same again: it depends on nothing else.
        prop_assert_eq!(found, deeds(&places, &things, &open, &keep));
    }
}
