//! What orders mean, on plain sets of files.

use std::collections::{BTreeMap, BTreeSet};

use hearth_actors::ids::ChangeId;
use hearth_actors::review::Recorded;

use super::things::{Files, Thing, merged};

/// A change and what the model knows of it.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) recorded: Recorded,
    pub(super) before: Option<Thing>,
    pub(super) after: Option<Thing>,
    /// What an apply did to the checkout: path, from, to.
    pub(super) steps: Vec<Way>,
}

/// Path, from, to.
pub(super) type Way = (String, Option<Thing>, Option<Thing>);

/// What an order comes to: the files then, what is said of the baseline, and
/// what each change did; or those that conflict.
pub(super) type Meant = Result<Outcome, BTreeSet<ChangeId>>;

#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) files: Files,
    pub(super) baseline: Files,
    pub(super) steps: BTreeMap<ChangeId, Vec<Way>>,
}

impl Row {
    fn id(&self) -> ChangeId {
        self.recorded.id
    }

    fn old(&self) -> Option<&String> {
        self.recorded.old_path.as_ref()
    }

    /// The ways of its files from before to after.
    fn ways(&self) -> Vec<Way> {
        let path = self.recorded.path.clone();
        match self.old() {
            Some(old) => vec![
                (old.clone(), self.before.clone(), None),
                (path, None, self.after.clone()),
            ],
            None => vec![(path, self.before.clone(), self.after.clone())],
        }
    }
}

/// Whether a file can be at the path: no folder is there, and no file where its
/// folder should be.
pub(super) fn is_free(files: &Files, path: &str) -> bool {
    let inside = format!("{path}/");
    let above = |other: &str| path.starts_with(&format!("{other}/"));
    !files
        .keys()
        .any(|other| other.starts_with(&inside) || above(other))
}

fn set(files: &mut Files, path: &str, thing: &Option<Thing>) {
    match thing {
        Some(thing) => files.insert(path.to_owned(), thing.clone()),
        None => files.remove(path),
    };
}

/// The baseline with these files; what is in their way goes.
fn rebased(baseline: &Files, news: &BTreeMap<String, Option<Thing>>) -> Files {
    let mut files = baseline.clone();
    for path in news.iter().filter(|(_, thing)| thing.is_none()) {
        files.remove(path.0);
    }
    for (path, thing) in news.iter().filter(|(_, thing)| thing.is_some()) {
        let inside = format!("{path}/");
        files.retain(|other, _| {
            !other.starts_with(&inside) && !path.starts_with(&format!("{other}/"))
        });
        set(&mut files, path, thing);
    }
    files
}

pub(super) fn apply(checkout: &Files, baseline: &Files, rows: &[Row]) -> Meant {
    let mut files = checkout.clone();
    let mut steps: BTreeMap<ChangeId, Vec<Way>> = BTreeMap::new();
    let mut conflicts = BTreeSet::new();
    let mut sources = BTreeMap::new();
    for row in rows {
        let path = match (row.old(), &row.after) {
            (Some(old), _) => old,
            (None, None) => &row.recorded.path,
            (None, Some(_)) => continue,
        };
        let ours = files.get(path).cloned();
        if row.after.is_none() && ours.is_some() && ours != row.before {
            conflicts.insert(row.id());
            continue;
        }
        if ours.is_some() {
            files.remove(path);
            let way = (path.clone(), ours.clone(), None);
            steps.entry(row.id()).or_default().push(way);
        }
        sources.insert(row.id(), ours);
    }
    for row in rows {
        let Some(after) = &row.after else { continue };
        let path = &row.recorded.path;
        let ours = files.get(path).cloned();
        if !is_free(&files, path) {
            conflicts.insert(row.id());
            continue;
        }
        let to = match (sources.get(&row.id()), &row.before, &ours) {
            // No rename.
            (None, _, Some(ours)) if ours == after => continue,
            (None, None, None) => Some(after.clone()),
            (None, Some(before), Some(ours)) => merged(before, ours, after),
            (None, ..) => None,
            // A rename of what is as recorded, edited or gone.
            (Some(Some(was)), Some(before), None) => merged(before, was, after),
            (Some(was), before, Some(ours)) if ours == after => match was {
                Some(_) if was != before => None,
                _ => continue,
            },
            (Some(_), ..) => None,
        };
        match to {
            Some(to) => {
                files.insert(path.clone(), to.clone());
                let way = (path.clone(), ours, Some(to));
                steps.entry(row.id()).or_default().push(way);
            }
            None => {
                conflicts.insert(row.id());
            }
        }
    }
    if !conflicts.is_empty() {
        return Err(conflicts);
    }
    let news = rows.iter().flat_map(Row::ways);
    let news = news.map(|(path, _, to)| (path, to)).collect();
    Ok(Outcome {
        files,
        baseline: rebased(baseline, &news),
        steps,
    })
}

pub(super) fn reject(worktree: &Files, baseline: &Files, rows: &[Row]) -> Meant {
    back(worktree, baseline, rows, Row::ways, false)
}

pub(super) fn rewind(checkout: &Files, baseline: &Files, rows: &[Row]) -> Meant {
    back(checkout, baseline, rows, |row| row.steps.clone(), true)
}

fn back(
    files: &Files,
    baseline: &Files,
    rows: &[Row],
    ways: fn(&Row) -> Vec<Way>,
    rebase: bool,
) -> Meant {
    let mut files = files.clone();
    let mut news: BTreeMap<String, Option<Thing>> = BTreeMap::new();
    let mut left: Vec<&Row> = rows.iter().rev().collect();
    loop {
        let before = left.len();
        left.retain(|row| {
            let stands = |(path, _, after): &Way| {
                let now = news.get(path).cloned();
                now.unwrap_or_else(|| baseline.get(path).cloned()) == *after
            };
            if rebase && !row.ways().iter().all(stands) {
                return true;
            }
            match one_back(&files, &ways(row)) {
                Some(then) => {
                    files = then;
                    if rebase {
                        news.extend(row.ways().into_iter().map(|(path, was, _)| (path, was)));
                    }
                    false
                }
                None => true,
            }
        });
        if left.is_empty() {
            return Ok(Outcome {
                files,
                baseline: rebased(baseline, &news),
                steps: BTreeMap::new(),
            });
        }
        if left.len() == before {
            return Err(left.iter().map(|row| row.id()).collect());
        }
    }
}

fn one_back(files: &Files, ways: &[Way]) -> Option<Files> {
    let mut then = files.clone();
    let (gone, kept): (Vec<_>, Vec<_>) = ways.iter().partition(|(_, from, _)| from.is_none());
    for (path, from, to) in gone.into_iter().chain(kept) {
        if !is_free(&then, path) {
            return None;
        }
        let now = then.get(path).cloned();
        if now != *from {
            if now != *to {
                return None;
            }
            set(&mut then, path, from);
        }
    }
    Some(then)
}
