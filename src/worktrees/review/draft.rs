//! A plan in the making: the files as they will be, on top of those on disk.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use hearth_actors::ids::ChangeId;
use hearth_actors::ports::WorktreeError;
use hearth_actors::review::{Conflict, Step};

use super::convert::Convert;
use super::ground::{Found, Ground, Keep, State};
use super::place::Place;

/// A plan in the making.
pub(super) struct Draft<'a> {
    pub(super) ground: &'a Ground,
    pub(super) convert: Convert,
    touched: BTreeMap<Place, Touched>,
    accounts: BTreeMap<ChangeId, Vec<Step>>,
    pub(super) conflicts: Vec<Conflict>,
    /// Files of the baseline, in what a scan stores.
    pub(super) baseline: BTreeMap<Place, Option<State>>,
    /// What a person is told.
    pub(super) notes: Vec<String>,
}

#[derive(Clone, Copy)]
struct Touched {
    from: Option<State>,
    to: Option<State>,
}

/// What takes back a few moves of a draft.
#[derive(Default)]
pub(super) struct Undo(Vec<(Place, Option<Touched>)>);

/// One file's move, in bytes on disk.
pub(super) struct Move {
    pub(super) place: Place,
    pub(super) from: Option<State>,
    pub(super) to: Option<State>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(ground: &'a Ground, convert: Convert) -> Self {
        Self {
            ground,
            convert,
            touched: BTreeMap::new(),
            accounts: BTreeMap::new(),
            conflicts: Vec::new(),
            baseline: BTreeMap::new(),
            notes: Vec::new(),
        }
    }

    /// What is at the place once the draft has been carried out so far.
    pub(super) fn find(&self, place: &Place) -> Result<Found, WorktreeError> {
        let known = self.touched.get(place).map(|touched| touched.to);
        if let Some(Some(state)) = known {
            return Ok(Found::File(state));
        }
        if let Some(at) = place
            .above()
            .find(|above| self.will_be(above) == Some(true))
        {
            let what = "is a file, not a folder";
            return Ok(Found::Barred(super::beneath::Bar { at, what }));
        }
        if self.will_hold_files(place) {
            return Ok(Found::Folder(None));
        }
        if known.is_some() {
            return Ok(Found::Nothing);
        }
        Ok(match self.ground.find(place, Keep::Name)? {
            Found::Barred(bar) if self.will_be(&bar.at) == Some(false) => Found::Nothing,
            Found::Folder(Some(files))
                if files.iter().all(|file| self.will_be(file) == Some(false)) =>
            {
                Found::Nothing
            }
            found => found,
        })
    }

    /// Moves one file for a change; its `from` is what [`Self::find`] found. False
    /// when the file on disk is that no more.
    pub(super) fn put(
        &mut self,
        change: Option<ChangeId>,
        step: Move,
        undo: &mut Undo,
    ) -> Result<bool, WorktreeError> {
        if let (None, Some(from)) = (self.touched.get(&step.place), step.from)
            && !self.store(&step.place, from)?
        {
            return Ok(false);
        }
        self.put_stored(change, step, undo);
        Ok(true)
    }

    /// The same where the content of `from` is stored already.
    pub(super) fn put_stored(&mut self, change: Option<ChangeId>, step: Move, undo: &mut Undo) {
        let Move { place, from, to } = step;
        let touched = self.touched.get(&place).copied();
        if let Some(change) = change {
            self.accounts.entry(change).or_default().push(Step {
                path: place.shown(),
                from: from.map(State::told),
                to: to.map(State::told),
            });
        }
        let from = touched.map_or(from, |touched| touched.from);
        self.touched.insert(place.clone(), Touched { from, to });
        undo.0.push((place, touched));
    }

    /// Takes back what a change moved since `undo` was empty.
    pub(super) fn take_back(&mut self, change: ChangeId, undo: Undo) {
        for (place, touched) in undo.0.into_iter().rev() {
            match touched {
                Some(touched) => self.touched.insert(place, touched),
                None => self.touched.remove(&place),
            };
        }
        self.accounts.remove(&change);
    }

    /// Stores the bytes of a file on disk; false when they are others by now.
    pub(super) fn store(&self, place: &Place, state: State) -> Result<bool, WorktreeError> {
        let found = self.ground.find(place, Keep::Store)?;
        Ok(matches!(found, Found::File(now) if now == state))
    }

    /// What a scan would store of the file that [`Self::find`] found.
    pub(super) fn stored(&self, place: &Place, raw: State) -> Result<State, WorktreeError> {
        let convert = &self.convert;
        if !convert.is_plain(self.ground, place, raw) && self.ground.size(raw.id).is_none() {
            // A file that changed meanwhile is found out by `put`.
            self.store(place, raw)?;
        }
        convert.stored(self.ground, place, raw)
    }

    /// What a checkout holds of a file that is stored so.
    pub(super) fn raw(&self, place: &Place, stored: State) -> Result<State, WorktreeError> {
        self.convert.raw(self.ground, place, stored)
    }

    pub(super) fn refuse(&mut self, change: Option<ChangeId>, path: String, reason: String) {
        self.conflicts.push(Conflict {
            change,
            path,
            reason,
            hunks: Vec::new(),
        });
    }

    /// The files that move: first those that go, the deepest first, so that a
    /// folder can make room for a file; then the others.
    pub(super) fn steps(&self) -> Vec<Step> {
        let moved = self
            .touched
            .iter()
            .filter(|(_, moved)| moved.from != moved.to);
        let (mut gone, kept): (Vec<_>, Vec<_>) = moved.partition(|(_, moved)| moved.to.is_none());
        gone.sort_by_key(|(place, _)| std::cmp::Reverse(place.depth()));
        let step = |(place, moved): (&Place, &Touched)| Step {
            path: place.shown(),
            from: moved.from.map(State::told),
            to: moved.to.map(State::told),
        };
        gone.into_iter().chain(kept).map(step).collect()
    }

    /// What each change accounts for, in the order of `changes`.
    pub(super) fn accounts(&self, changes: &[ChangeId]) -> Vec<(ChangeId, Vec<Step>)> {
        let steps = |id| self.accounts.get(id).cloned().unwrap_or_default();
        changes.iter().map(|id| (*id, steps(id))).collect()
    }

    /// The files that come, and those that go.
    pub(super) fn moves(&self) -> impl Iterator<Item = (&Place, bool)> {
        let moved = self.touched.iter();
        let moved = moved.filter(|(_, moved)| moved.from.is_some() != moved.to.is_some());
        moved.map(|(place, moved)| (place, moved.to.is_some()))
    }

    /// All contents that the steps need.
    pub(super) fn contents(&self) -> impl Iterator<Item = State> {
        let moved = self.touched.values().filter(|moved| moved.from != moved.to);
        moved.flat_map(|moved| moved.from.into_iter().chain(moved.to))
    }

    /// Whether the draft leaves a file there; none when it has no say.
    fn will_be(&self, place: &Place) -> Option<bool> {
        self.touched.get(place).map(|touched| touched.to.is_some())
    }

    fn will_hold_files(&self, place: &Place) -> bool {
        let inside = [place.bytes(), b"/"].concat();
        let after = self.touched.range((Excluded(place), Unbounded));
        // Names that sort between `a` and `a/b`, such as `a.c`, come first.
        after
            .take_while(|(other, _)| other.bytes().starts_with(place.bytes()))
            .any(|(other, touched)| other.bytes().starts_with(&inside) && touched.to.is_some())
    }
}
