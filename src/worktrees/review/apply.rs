//! Apply: what an agent changed, merged into the project's checkout file by
//! file. Base is the file before, theirs the file after, ours the file that is
//! in the checkout now; they are compared as a scan stores them.

use hearth_actors::ids::ChangeId;
use hearth_actors::ports::WorktreeError;
use hearth_actors::review::{Conflict, Recorded};

use super::super::errors::Context;
use super::super::stat::{FILE, PROGRAM};
use super::change::{Change, checked};
use super::draft::{Draft, Move, Undo};
use super::ground::{Found, State};
use super::merge::{Merged, merge};
use super::place::Place;

/// Drafts the application of all changes, or finds every conflict.
pub(super) fn apply(
    draft: &mut Draft<'_>,
    changes: &[Recorded],
    secrets: bool,
) -> Result<(), WorktreeError> {
    let mut parted = Vec::new();
    for change in changes {
        if change.secret && !secrets {
            let reason =
                "its name is one of files that hold secrets: apply it by name and with `secrets`";
            draft.refuse(Some(change.id), change.path.clone(), reason.to_owned());
            continue;
        }
        let Some(change) = checked(draft, change) else {
            continue;
        };
        // What goes, goes first, so that it is in nothing's way.
        if let Some(source) = take_away(draft, &change)? {
            parted.push((change, source));
        }
    }
    for (change, source) in &parted {
        if let Some(after) = change.after {
            arrive(draft, change, after, *source)?;
        }
        let gone = change.old.iter().map(|old| (old.clone(), None));
        draft.baseline.extend(gone);
        draft.baseline.insert(change.place.clone(), change.after);
    }
    Ok(())
}

/// What became of the file that a rename took away.
#[derive(Clone, Copy)]
enum Source {
    /// The change is no rename.
    Stays,
    /// It was as recorded.
    AsRecorded,
    /// It has edits of the checkout's own; its bytes.
    Edited(State),
    /// It was not there.
    Gone,
}

/// Drafts the removal of a deleted or renamed file. None after a conflict.
fn take_away(draft: &mut Draft<'_>, change: &Change) -> Result<Option<Source>, WorktreeError> {
    let (place, is_rename) = match (&change.old, change.after) {
        (Some(old), _) => (old, true),
        (None, None) => (&change.place, false),
        (None, Some(_)) => return Ok(Some(Source::Stays)),
    };
    let raw = match draft.find(place)? {
        Found::File(raw) => raw,
        Found::Odd(what) => return in_the_way(draft, change.id, place, what),
        Found::Nothing | Found::Folder(_) | Found::Barred(_) => return Ok(Some(Source::Gone)),
    };
    let as_recorded = Some(draft.stored(place, raw)?) == change.before;
    if !as_recorded && !is_rename {
        return conflict(
            draft,
            change.id,
            place,
            "the checkout has edits of its own in this file, which the change deletes: undo or commit them elsewhere, or delete the file",
        );
    }
    write(draft, change.id, place, Some(raw), None)?;
    Ok(Some(match as_recorded {
        true => Source::AsRecorded,
        false => Source::Edited(raw),
    }))
}

/// Drafts the writing of the file as it is after the change.
fn arrive(
    draft: &mut Draft<'_>,
    change: &Change,
    after: State,
    source: Source,
) -> Result<(), WorktreeError> {
    let Change { id, place, .. } = change;
    let ours = match draft.find(place)? {
        Found::File(raw) => Some(raw),
        Found::Nothing => None,
        Found::Folder(_) => {
            return done(in_the_way(
                draft,
                *id,
                place,
                "is a folder with other files",
            )?);
        }
        Found::Odd(what) => return done(in_the_way(draft, *id, place, what)?),
        Found::Barred(bar) => return done(in_the_way(draft, *id, &bar.at, bar.what)?),
    };
    let stored = ours.map(|raw| draft.stored(place, raw)).transpose()?;
    let to = match (source, change.before, ours, stored) {
        // The same is there already.
        (Source::Stays | Source::AsRecorded | Source::Gone, _, _, Some(stored))
            if stored == after =>
        {
            return Ok(());
        }
        (Source::Stays, None, None, _) | (Source::AsRecorded, _, None, _) => {
            draft.raw(place, after)?
        }
        (Source::Stays, Some(before), Some(raw), Some(stored)) => {
            match three_way(draft, change, before, (raw, stored), after)? {
                Some(to) => to,
                None => return Ok(()),
            }
        }
        (Source::Edited(raw), Some(before), None, _) => {
            let stored = draft.stored(change.old.as_ref().unwrap_or(place), raw)?;
            match three_way(draft, change, before, (raw, stored), after)? {
                Some(to) => to,
                None => return Ok(()),
            }
        }
        (Source::Stays, Some(_), None, _) => {
            return done(conflict(
                draft,
                *id,
                place,
                "the checkout has deleted this file, which the change edits: bring it back (git restore), or reject the change",
            )?);
        }
        (Source::Gone, _, None, _) => {
            let old = change.old.as_ref().unwrap_or(place).shown();
            return done(conflict(
                draft,
                *id,
                place,
                &format!(
                    "the checkout has no {old} any more, which the change renames: bring it back (git restore), or reject the change"
                ),
            )?);
        }
        _ => {
            return done(conflict(
                draft,
                *id,
                place,
                "the checkout has another file of this name, perhaps an ignored one: move it away",
            )?);
        }
    };
    write(draft, *id, place, ours, Some(to))
}

/// Merges `ours`, its bytes and what a scan stores of them; what is to be
/// written. None after a conflict.
fn three_way(
    draft: &mut Draft<'_>,
    change: &Change,
    before: State,
    (raw, stored): (State, State),
    after: State,
) -> Result<Option<State>, WorktreeError> {
    let place = &change.place;
    if stored == before {
        return draft.raw(place, after).map(Some);
    }
    let is_file = |state: State| matches!(state.mode, FILE | PROGRAM);
    if ![before, stored, after].into_iter().all(is_file) {
        return conflict(
            draft,
            change.id,
            place,
            "both the checkout and the change have changed this link or what kind of file it is: undo one of them",
        );
    }
    let mode = if after.mode == before.mode {
        stored.mode
    } else {
        after.mode
    };
    if after.id == before.id || after.id == stored.id {
        return Ok(Some(State::new(raw.id, mode)));
    }
    if stored.id == before.id {
        let to = draft.raw(place, after)?;
        return Ok(Some(State { mode, ..to }));
    }
    let from = change.old.as_ref().unwrap_or(place);
    if !draft.store(from, raw)? {
        return conflict(draft, change.id, from, MOVING);
    }
    let ground = draft.ground;
    let merged = match may_merge(draft, place) {
        true => merge(
            &ground.content(before.id)?,
            &ground.content(stored.id)?,
            &ground.content(after.id)?,
        )
        .cannot("merge", &ground.root.full(place))?,
        false => Merged::Unmergeable,
    };
    match merged {
        Merged::Clean(text) => {
            let id = ground.keep(&text)?;
            draft.raw(place, State::new(id, mode)).map(Some)
        }
        Merged::Conflict(hunks) => {
            draft.conflicts.push(Conflict {
                change: Some(change.id),
                path: from.shown(),
                reason: "the checkout and the change have changed the same lines: undo or commit elsewhere one of them".into(),
                hunks,
            });
            Ok(None)
        }
        Merged::Unmergeable => conflict(
            draft,
            change.id,
            from,
            "the checkout has edits of its own in this file, which cannot be merged (binary, very long, a filter's, or marked so): undo one side",
        ),
    }
}

/// Whether the repository allows a merge of its text: not where attributes say
/// `-merge` or `merge=binary`, nor where a filter made it what it is.
fn may_merge(draft: &Draft<'_>, place: &Place) -> bool {
    let says = |name| draft.convert.attribute(draft.ground, place, name);
    let merge = says("merge");
    !matches!(merge.as_deref(), Some("false" | "binary")) && says("filter").is_none()
}

const MOVING: &str = "the file changes while it is looked at: try again when it rests";

fn write(
    draft: &mut Draft<'_>,
    change: ChangeId,
    place: &Place,
    from: Option<State>,
    to: Option<State>,
) -> Result<(), WorktreeError> {
    let step = Move {
        place: place.clone(),
        from,
        to,
    };
    if draft.put(Some(change), step, &mut Undo::default())? {
        return Ok(());
    }
    done(conflict(draft, change, place, MOVING)?)
}

fn in_the_way(
    draft: &mut Draft<'_>,
    change: ChangeId,
    place: &Place,
    what: &str,
) -> Result<Option<Source>, WorktreeError> {
    let reason = format!("{} {what}: move it away", place.shown());
    draft.refuse(Some(change), place.shown(), reason);
    Ok(None)
}

fn conflict<T>(
    draft: &mut Draft<'_>,
    change: ChangeId,
    place: &Place,
    reason: &str,
) -> Result<Option<T>, WorktreeError> {
    draft.refuse(Some(change), place.shown(), reason.to_owned());
    Ok(None)
}

fn done(_told: Option<Source>) -> Result<(), WorktreeError> {
    Ok(())
}
