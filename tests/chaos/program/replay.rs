//! The files as they must be: what was asked for, played again in the order in which
//! the gates of the sessions let it happen. Pure.

use std::collections::{BTreeMap, BTreeSet};

use sha1::{Digest as _, Sha1};
use uuid::Uuid;

use super::asked::{Effect, SHARED, content_of, nonce_in, shared_at_first};
use super::cast::{Player, SESSIONS, player, project_of};
use super::checks::{Count, Offence, offence};
use super::history::{Change, History, Moment, Operation, Turn};
use super::plan::Fault;

/// What may be in a worktree. What is in neither set of a kind is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Files {
    /// Whole, as their names say.
    certain: BTreeSet<String>,
    /// Missing, begun or whole: their turn did not end well.
    possible: BTreeSet<String>,
    lines: Lines,
}

/// Lines in the shared file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Lines {
    certain: BTreeSet<String>,
    possible: BTreeSet<String>,
}

/// One session's files after all that happened.
#[derive(Clone, Debug, Default)]
struct Replayed {
    now: Files,
    /// Lines of the shared file that the checkout has from this session.
    applied: Lines,
}

enum Event<'a> {
    Turn(&'a Turn),
    Operation(&'a Operation),
}

/// Compares worktrees and checkouts with what was asked for.
pub(crate) fn files(history: &History) -> Vec<Offence> {
    let replayed: Vec<Replayed> = (0..SESSIONS)
        .map(|session| replay(history, session))
        .collect();
    let mut found = Vec::new();
    let sessions = history.sessions.iter().zip(&replayed).enumerate();
    for (number, (session, replayed)) in sessions {
        if let Some(files) = &session.files {
            for what in in_worktree(&replayed.now, files) {
                found.push(wrong(
                    history,
                    format!("worktree of session {number}: {what}"),
                ));
            }
        }
    }
    for (number, checkout) in history.checkouts.iter().enumerate() {
        let of = |session: &usize| project_of(*session) == number;
        let changes: Vec<&Change> = history
            .changes
            .iter()
            .filter(|change| of(&change.session))
            .collect();
        let mut lines = Lines::default();
        for session in (0..SESSIONS).filter(of) {
            let applied = replayed.get(session).map(|session| session.applied.clone());
            let applied = applied.unwrap_or_default();
            lines.certain.extend(applied.certain);
            lines.possible.extend(applied.possible);
        }
        let mut tell =
            |what: String| found.push(wrong(history, format!("checkout {number}: {what}")));
        in_checkout(&changes, &history.operations, &checkout.files)
            .into_iter()
            .for_each(&mut tell);
        for (path, content) in &checkout.own {
            if checkout.files.get(path) != Some(content) {
                tell(format!(
                    "{path}, which people wrote, is not as they wrote it"
                ));
            }
        }
        let shared = checkout.files.get(SHARED);
        shared_file(shared, &lines, &checkout.lines)
            .into_iter()
            .for_each(&mut tell);
    }
    found
}

/// With who made it, and how those turns ended.
fn wrong(history: &History, what: String) -> Offence {
    let nonce = nonce_in(&what);
    let asked = history
        .asked
        .iter()
        .find(|asked| Some(asked.nonce.as_str()) == nonce);
    let Some(asked) = asked else {
        return offence(Count::WrongBytes, what, None);
    };
    let tasks = history
        .tasks
        .iter()
        .filter(|task| task.nonce == asked.nonce);
    let tasks: BTreeMap<Uuid, &str> = tasks.map(|task| (task.id, task.tools.as_str())).collect();
    let turns = history
        .turns
        .iter()
        .filter(|turn| tasks.contains_key(&turn.task));
    let turns: Vec<&Turn> = turns.collect();
    let ends: Vec<_> = turns
        .iter()
        .map(|turn| (turn.task, turn.ended_at, turn.outcome.as_deref()))
        .collect();
    let what = format!(
        "{what}; chat {} of {}, turns {ends:?}, tools {tasks:#?}",
        asked.chat,
        player(asked.chat).name()
    );
    offence(
        Count::WrongBytes,
        what,
        turns.first().map(|turn| turn.claimed_at),
    )
}

fn replay(history: &History, session: usize) -> Replayed {
    let turns = history.turns.iter().filter(|turn| turn.session == session);
    let turns = turns.filter_map(|turn| Some((turn.ended_at?, Event::Turn(turn))));
    let operations = history.operations.iter();
    let operations = operations.filter(|operation| operation.session == session && operation.done);
    let operations = operations.map(|operation| (operation.ended_at, Event::Operation(operation)));
    let mut events: Vec<(Moment, Event<'_>)> = turns.chain(operations).collect();
    events.sort_by_key(|(at, _)| *at);

    let mut replayed = Replayed::default();
    let mut checkpoints: BTreeMap<Uuid, Files> = BTreeMap::new();
    // What the checkout had before each applied change of the shared file.
    let mut before: BTreeMap<Uuid, Lines> = BTreeMap::new();
    for (_, event) in events {
        match event {
            Event::Turn(turn) => {
                if let Some(checkpoint) = turn.checkpoint {
                    checkpoints.insert(checkpoint, replayed.now.clone());
                }
                replayed.now.after(history, turn);
            }
            Event::Operation(operation) => {
                let known = |id: &Uuid| history.changes.iter().find(|change| change.id == *id);
                for change in operation.changes.iter().filter_map(known) {
                    match (operation.kind.as_str(), change.path.as_str()) {
                        ("apply", SHARED) => {
                            let had = replayed.applied.clone();
                            before.insert(change.id, had);
                            replayed.applied = replayed.now.lines.clone();
                        }
                        ("rewind", SHARED) => {
                            replayed.applied = before.remove(&change.id).unwrap_or_default();
                        }
                        ("reject", SHARED) => {
                            replayed.now.lines = replayed.applied.clone();
                        }
                        ("reject", _) => replayed.now.without(change),
                        _ => {}
                    }
                }
                if let Some(checkpoint) = operation.checkpoint {
                    // It is a checkpoint of what it took away, too.
                    let undo = replayed.now.clone();
                    if let Some(files) = checkpoints.get(&checkpoint) {
                        replayed.now = files.clone();
                    }
                    checkpoints.insert(operation.id, undo);
                }
            }
        }
    }
    replayed
}

impl Files {
    /// A rejected change: the file is as it was before, if it was there.
    fn without(&mut self, change: &Change) {
        self.certain.remove(&change.path);
        self.possible.remove(&change.path);
        let Some(blob) = &change.before_blob else {
            return;
        };
        let path = change.old_path.as_ref().unwrap_or(&change.path).clone();
        let whole = content_of(&path).is_some_and(|content| blob_of(&content) == *blob);
        match whole {
            true => self.certain.insert(path),
            false => self.possible.insert(path),
        };
    }

    /// What a turn did: all that was asked for if it ended well, else any part of it.
    fn after(&mut self, history: &History, turn: &Turn) {
        let Some(task) = history.task(turn.task) else {
            return;
        };
        let Some(asked) = history.asked.iter().find(|asked| asked.nonce == task.nonce) else {
            return;
        };
        if turn.prompted_at.is_none() {
            return;
        }
        let ended = turn.ended_at.unwrap_or(turn.claimed_at);
        let troubled =
            history
                .faults_within(turn.claimed_at, ended)
                .any(|struck| match struck.fault {
                    Fault::FillDisk(_) => true,
                    // An agent may take a broken answer of its model for the end of it.
                    Fault::CutModels => player(asked.chat) != Player::Demo,
                    _ => false,
                });
        // What goes on behind an answer did its first steps in an earlier turn.
        let whole = turn.outcome.as_deref() == Some("ok") && !troubled;
        for effect in &asked.effects {
            match effect {
                Effect::Made(path) if whole => {
                    self.possible.remove(path);
                    self.certain.insert(path.clone());
                }
                Effect::Made(path) | Effect::Allowed(path) => {
                    if !self.certain.contains(path) {
                        self.possible.insert(path.clone());
                    }
                }
                Effect::Marked(line) if whole => {
                    self.lines.possible.remove(line);
                    self.lines.certain.insert(line.clone());
                }
                Effect::Marked(line) => {
                    if !self.lines.certain.contains(line) {
                        self.lines.possible.insert(line.clone());
                    }
                }
            }
        }
    }
}

fn in_worktree(expected: &Files, found: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for path in &expected.certain {
        match found.get(path) {
            None => wrong.push(format!("{path} is missing")),
            Some(content) if Some(content) != content_of(path).as_ref() => {
                wrong.push(format!("{path} holds {} other bytes", content.len()));
            }
            Some(_) => {}
        }
    }
    for (path, content) in found {
        if !path.starts_with("made/") || expected.certain.contains(path) {
            continue;
        }
        let begun = content_of(path).is_some_and(|whole| whole.starts_with(content));
        if !expected.possible.contains(path) {
            wrong.push(format!("{path} should not be there"));
        } else if !begun {
            wrong.push(format!("{path} holds what nobody wrote"));
        }
    }
    wrong.extend(shared_file(found.get(SHARED), &expected.lines, &[]));
    wrong
}

/// The rows say what the checkout holds, to the byte, in the order in which they came
/// there: a row may be older than one that was applied before it.
fn in_checkout(
    changes: &[&Change],
    operations: &[Operation],
    found: &BTreeMap<String, Vec<u8>>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut came: BTreeMap<Uuid, Moment> = BTreeMap::new();
    for operation in operations.iter().filter(|op| op.done && op.kind == "apply") {
        for id in &operation.changes {
            let at = came.entry(*id).or_insert(operation.ended_at);
            *at = operation.ended_at.max(*at);
        }
    }
    let applied = changes.iter().filter(|change| change.status == "applied");
    let mut applied: Vec<&Change> = applied.copied().collect();
    applied.sort_by_key(|change| came.get(&change.id).copied());
    let mut last: BTreeMap<&str, &Change> = BTreeMap::new();
    for change in applied {
        // What was renamed away is not missing.
        if let Some(old) = &change.old_path {
            last.remove(old.as_str());
        }
        last.insert(change.path.as_str(), change);
    }
    let applied = last;
    for (path, change) in &applied {
        if !path.starts_with("made/") {
            continue;
        }
        match (found.get(*path), &change.after_blob) {
            (Some(content), Some(blob)) if blob_of(content) != *blob => {
                wrong.push(format!("{path} is not what change {} applied", change.id));
            }
            (None, Some(_)) => {
                wrong.push(format!(
                    "{path}, applied as change {}, is missing",
                    change.id
                ));
            }
            _ => {}
        }
    }
    let strangers = found.keys().filter(|path| path.starts_with("made/"));
    for path in strangers.filter(|path| !applied.contains_key(path.as_str())) {
        wrong.push(format!(
            "{path} is there, and no row says that it was applied"
        ));
    }
    wrong
}

/// Its own lines in their order, those of agents as expected, and those of people all.
fn shared_file(found: Option<&Vec<u8>>, expected: &Lines, people: &[String]) -> Vec<String> {
    let Some(found) = found else {
        return vec![format!("{SHARED} is missing")];
    };
    let text = String::from_utf8_lossy(found);
    let at_first = shared_at_first();
    let own: BTreeSet<&str> = at_first.lines().collect();
    let (kept, added): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| own.contains(line));
    let mut wrong = Vec::new();
    if kept != at_first.lines().collect::<Vec<_>>() {
        wrong.push(format!("{SHARED} lost lines that nobody touched: {kept:?}"));
    }
    let times = |wanted: &str| added.iter().filter(|line| **line == wanted).count();
    for line in expected.certain.iter().chain(people) {
        match times(line) {
            1 => {}
            times => wrong.push(format!("{SHARED} has the line {line} {times} times")),
        }
    }
    for line in &added {
        let known = expected.certain.contains(*line)
            || people.iter().any(|own| own == line)
            || (expected.possible.contains(*line) && times(line) == 1);
        if !known {
            wrong.push(format!(
                "{SHARED} has a line {line} that should not be there"
            ));
        }
    }
    wrong
}

/// The name that git gives these bytes.
pub(crate) fn blob_of(content: &[u8]) -> String {
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {}\0", content.len()));
    hasher.update(content);
    hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
