//! A plan carried out, or taken back, file by file. Both can be begun again
//! after a kill at any moment: no step needs another one but those that write
//! files need those that remove some.
//!
//! What planning stored is on the disk before the first file is written. Of few
//! files, each is on the disk before its name is; of many, the file system is
//! told to write all before the plan counts as carried out, because a wait for
//! each would take minutes. A power cut between can then leave a file of its new
//! name empty: it is told as one that is neither, and its content is in the
//! repository.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

use hearth_actors::ports::WorktreeError;
use hearth_actors::review::{Conflict, Plan, Step};

use super::beneath::Way;
use super::ground::{Found, Ground, Keep, State};
use super::place::Place;
use super::swap::{Names, Swap, Swapped};
use super::{crew, durable};

/// A plan's step, parsed, on its way from `start` to `goal`.
struct Leg {
    number: usize,
    place: Place,
    start: Option<State>,
    goal: Option<State>,
}

/// Where a file is on its way.
enum At {
    Start,
    Goal,
    /// Neither; why, for a person.
    Elsewhere(String),
}

/// Brings each file to its `to`; stops at one that is neither.
pub(super) fn carry_out(
    ground: &Ground,
    plan: &Plan,
    sync: bool,
) -> Result<Vec<Conflict>, WorktreeError> {
    let legs = match legs(plan, false) {
        Ok(legs) => legs,
        Err(conflict) => return Ok(vec![conflict]),
    };
    let way = Journey::new(plan, &legs, false, sync);
    way.recover(ground)?;
    let found = crew::share(ground, &legs, |ground, leg| {
        let at = way.locate(ground, leg)?;
        if let At::Goal = at {
            way.tidy(ground, leg)?;
        }
        Ok::<_, WorktreeError>(at)
    })?;
    let mut conflicts = Vec::new();
    let mut left = Vec::new();
    for (leg, at) in legs.iter().zip(found) {
        match at {
            At::Start => left.push(leg),
            At::Goal => {}
            At::Elsewhere(why) => conflicts.push(conflict(leg, why)),
        }
    }
    if !conflicts.is_empty() {
        return Ok(conflicts);
    }
    ground.root.forget_ways();
    // What goes makes room for what comes.
    let (gone, come): (Vec<&Leg>, Vec<&Leg>) = left.into_iter().partition(|leg| leg.goal.is_none());
    for legs in [gone, come] {
        let travelled = crew::share(ground, &legs, |ground, leg| {
            match way.travel(ground, leg)? {
                Some(why) => Err(Stop::Conflict(conflict(leg, why))),
                None => Ok(()),
            }
        });
        match travelled {
            Ok(_) => {}
            Err(Stop::Conflict(conflict)) => return Ok(vec![conflict]),
            Err(Stop::Failed(error)) => return Err(error),
        }
    }
    way.arrive(ground)?;
    Ok(Vec::new())
}

/// Brings each file back to its `from`, the last one first.
pub(super) fn take_back(
    ground: &Ground,
    plan: &Plan,
    sync: bool,
) -> Result<Vec<Conflict>, WorktreeError> {
    let legs = match legs(plan, true) {
        Ok(legs) => legs,
        Err(conflict) => return Ok(vec![conflict]),
    };
    let way = Journey::new(plan, &legs, true, sync);
    way.recover(ground)?;
    let mut conflicts = Vec::new();
    for leg in &legs {
        let why = match way.locate(ground, leg)? {
            At::Start => way.travel(ground, leg)?,
            At::Goal => {
                way.tidy(ground, leg)?;
                None
            }
            At::Elsewhere(why) => Some(why),
        };
        conflicts.extend(why.map(|why| conflict(leg, why)));
    }
    way.arrive(ground)?;
    Ok(conflicts)
}

/// Why no more files are brought to their goals.
enum Stop {
    Conflict(Conflict),
    Failed(WorktreeError),
}

impl From<WorktreeError> for Stop {
    fn from(error: WorktreeError) -> Self {
        Self::Failed(error)
    }
}

struct Journey<'a> {
    plan: &'a Plan,
    /// The places of all steps: they are in nobody's way for long.
    places: BTreeSet<&'a Place>,
    back: bool,
    legs: &'a [Leg],
    sync: bool,
}

impl<'a> Journey<'a> {
    fn new(plan: &'a Plan, legs: &'a [Leg], back: bool, sync: bool) -> Self {
        Self {
            plan,
            back,
            places: legs.iter().map(|leg| &leg.place).collect(),
            legs,
            sync,
        }
    }

    /// Puts right what a kill left, of any step: it is in the others' way.
    fn recover(&self, ground: &Ground) -> Result<(), WorktreeError> {
        let begin = Names::begin(self.plan.id);
        let root = &ground.root;
        // Most folders hold nothing of ours, and one look tells it of them all.
        let mut held = BTreeMap::new();
        for leg in self.legs {
            let folder = leg.place.folder();
            let holds = match held.get(folder) {
                Some(known) => *known,
                None => root.may_hold(&leg.place, begin.as_bytes())?,
            };
            held.insert(folder, holds);
            if !holds {
                continue;
            }
            if let Way::Open(folder) = root.way(&leg.place)? {
                let swap = self.swap(ground, leg, &folder, self.back);
                swap.recover(leg.start, leg.goal)?;
                let swap = self.swap(ground, leg, &folder, !self.back);
                swap.recover(leg.goal, leg.start)?;
            }
        }
        Ok(())
    }

    /// Tells where the file is.
    fn locate(&self, ground: &Ground, leg: &Leg) -> Result<At, WorktreeError> {
        let now = match ground.find(&leg.place, Keep::Name)? {
            Found::Nothing => None,
            Found::File(state) => Some(state),
            Found::Barred(bar) if self.places.contains(&bar.at) => None,
            Found::Folder(Some(files)) if files.iter().all(|file| self.places.contains(file)) => {
                None
            }
            Found::Folder(_) => return Ok(At::Elsewhere("is a folder with other files".into())),
            Found::Odd(what) => return Ok(At::Elsewhere(what.into())),
            Found::Barred(bar) => {
                let why = format!("cannot be reached: {} {}", bar.at.shown(), bar.what);
                return Ok(At::Elsewhere(why));
            }
        };
        Ok(if now == leg.start {
            At::Start
        } else if now == leg.goal {
            At::Goal
        } else {
            At::Elsewhere("has changed meanwhile".into())
        })
    }

    /// Brings the file to its goal, or says why not.
    fn travel(&self, ground: &Ground, leg: &Leg) -> Result<Option<String>, WorktreeError> {
        let root = &ground.root;
        let way = match leg.goal {
            Some(_) => root.make_way(&leg.place)?,
            None => root.way(&leg.place)?,
        };
        let folder = match way {
            Way::Open(folder) => folder,
            Way::Missing => return Ok(Some("has changed meanwhile".into())),
            Way::Barred(bar) => {
                let why = format!("cannot be reached: {} {}", bar.at.shown(), bar.what);
                return Ok(Some(why));
            }
        };
        let swapped = self
            .swap(ground, leg, &folder, self.back)
            .bring(leg.start, leg.goal)?;
        drop(folder);
        if leg.goal.is_none() || swapped == Swapped::Other {
            root.prune(&leg.place)?;
        }
        Ok(match swapped {
            Swapped::Done => None,
            Swapped::Other => Some("has changed meanwhile".into()),
        })
    }

    /// A kill may have come between the file and its folders.
    fn tidy(&self, ground: &Ground, leg: &Leg) -> Result<(), WorktreeError> {
        match leg.goal {
            None => ground.root.prune(&leg.place),
            Some(_) => Ok(()),
        }
    }

    /// Waits until the disk has it all.
    fn arrive(&self, ground: &Ground) -> Result<(), WorktreeError> {
        if self.sync {
            let places = self.legs.iter().map(|leg| &leg.place);
            durable::names(&ground.root, places)?;
        }
        Ok(())
    }

    fn swap<'b>(
        &'b self,
        ground: &'b Ground,
        leg: &'b Leg,
        folder: &'b OwnedFd,
        back: bool,
    ) -> Swap<'b> {
        Swap {
            ground,
            place: &leg.place,
            folder,
            names: Names::of(self.plan.id, leg.number, back),
            sync: self.sync && self.legs.len() <= durable::FEW,
        }
    }
}

fn legs(plan: &Plan, back: bool) -> Result<Vec<Leg>, Conflict> {
    let parse = |(number, step): (usize, &Step)| {
        let told = |why: &str| Conflict {
            change: None,
            path: step.path.clone(),
            reason: format!("the plan cannot be read: {why}"),
            hunks: Vec::new(),
        };
        let state = |state: &Option<_>| match state {
            None => Ok(None),
            Some(state) => State::parse(state)
                .map(Some)
                .ok_or_else(|| told("a state is none of a file")),
        };
        let (from, to) = (state(&step.from)?, state(&step.to)?);
        let (start, goal) = if back { (to, from) } else { (from, to) };
        Ok(Leg {
            number,
            place: Place::of(&step.path).map_err(told)?,
            start,
            goal,
        })
    };
    let mut legs: Vec<Leg> = plan
        .steps
        .iter()
        .enumerate()
        .map(parse)
        .collect::<Result<_, _>>()?;
    if back {
        legs.reverse();
    }
    Ok(legs)
}

fn conflict(leg: &Leg, why: String) -> Conflict {
    Conflict {
        change: None,
        path: leg.place.shown(),
        reason: format!("{} {why}: look at it, and order again", leg.place.shown()),
        hunks: Vec::new(),
    }
}
