//! What must be nothing: pure, from the history of a run.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use uuid::Uuid;

use super::cast::Player;
use super::cast::player;
use super::history::{History, Moment, Session, Turn};
use super::replay;

/// What is counted, and must be 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Count {
    TasksLost,
    RunTwice,
    WithoutOneOutcome,
    Orphans,
    LeakedWorktrees,
    StreamGaps,
    StreamRepeats,
    WrongBytes,
    AnswersLost,
    Unsettled,
}

impl Count {
    pub(crate) const ALL: [Self; 10] = [
        Self::TasksLost,
        Self::RunTwice,
        Self::WithoutOneOutcome,
        Self::Orphans,
        Self::LeakedWorktrees,
        Self::StreamGaps,
        Self::StreamRepeats,
        Self::WrongBytes,
        Self::AnswersLost,
        Self::Unsettled,
    ];

    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TasksLost => "tasks lost",
            Self::RunTwice => "tasks run twice",
            Self::WithoutOneOutcome => "tasks without exactly one outcome",
            Self::Orphans => "orphan processes",
            Self::LeakedWorktrees => "leaked worktrees",
            Self::StreamGaps => "stream gaps",
            Self::StreamRepeats => "stream repeats",
            Self::WrongBytes => "files with wrong bytes",
            Self::AnswersLost => "answers lost",
            Self::Unsettled => "not settled in time",
        }
    }
}

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Offence {
    pub(crate) count: Count,
    /// In full, with ids.
    pub(crate) what: String,
    /// When it began, as far as that is known.
    pub(crate) at: Option<Moment>,
}

/// A prompt that an agent had already sent may arrive so much after its turn's end,
/// and clocks of one machine differ by as much as a row is stamped before its commit.
const LATE: TimeDelta = TimeDelta::seconds(10);

/// All checks.
pub(crate) fn all(history: &History) -> Vec<Offence> {
    let plain = |count, list: &[String]| -> Vec<Offence> {
        let offence = |what: &String| offence(count, what.clone(), None);
        list.iter().map(offence).collect()
    };
    [
        lost(history),
        run_twice(history),
        outcomes(history),
        plain(Count::Orphans, &history.orphans),
        plain(Count::LeakedWorktrees, &history.leaked),
        plain(Count::Unsettled, &history.unsettled),
        streams(history),
        replay::files(history),
        answers(history),
    ]
    .concat()
}

pub(crate) fn offence(count: Count, what: String, at: Option<Moment>) -> Offence {
    Offence { count, what, at }
}

/// What was taken is there, was not refused, and came to its agent if it ended well.
fn lost(history: &History) -> Vec<Offence> {
    let mut found = Vec::new();
    let witnessed: BTreeSet<&str> = history.witnessed.iter().map(|w| w.nonce.as_str()).collect();
    for asked in &history.asked {
        let tasks = history
            .tasks
            .iter()
            .filter(|task| task.nonce == asked.nonce);
        let tasks: Vec<_> = tasks.collect();
        let first = tasks.iter().find(|task| task.retry_of.is_none());
        let mut tell = |what: String| {
            let what = format!(
                "{what}: {} in chat {}, task {:?}",
                asked.nonce, asked.chat, asked.task
            );
            found.push(offence(
                Count::TasksLost,
                what,
                first.map(|task| task.created_at),
            ));
        };
        match (asked.task, first) {
            (Some(id), Some(first)) if first.id != id => {
                tell(format!("its task is another one, {}", first.id));
            }
            (Some(_), None) => tell("a message that was taken has no task".to_owned()),
            _ => {}
        }
        let well = tasks.iter().any(|task| task.state == "completed");
        if well && !witnessed.contains(asked.nonce.as_str()) {
            tell("it ended well, and never reached its agent".to_owned());
        }
        if let Some(code) = asked.refused.as_ref().filter(|_| !tasks.is_empty()) {
            tell(format!("it was refused ({code}), and has a task"));
        }
    }
    found
}

/// One message, one task; one task, one prompt that reached an agent.
fn run_twice(history: &History) -> Vec<Offence> {
    let mut found = Vec::new();
    let by_task = turns_by_task(history);
    for asked in &history.asked {
        let family: Vec<_> = history
            .tasks
            .iter()
            .filter(|task| task.nonce == asked.nonce)
            .collect();
        let firsts = family.iter().filter(|task| task.retry_of.is_none()).count();
        let at = family.first().map(|task| task.created_at);
        let mut tell = |what: String| {
            let ids: Vec<_> = family.iter().map(|task| task.id).collect();
            let what = format!(
                "{what}: {} in chat {}, tasks {ids:?}",
                asked.nonce, asked.chat
            );
            found.push(offence(Count::RunTwice, what, at));
        };
        if firsts > 1 {
            tell(format!("one message has {firsts} tasks"));
        }
        let turns: Vec<&Turn> = family
            .iter()
            .flat_map(|task| by_task.get(&task.id).into_iter().flatten().copied())
            .collect();
        for task in &family {
            let prompted = by_task.get(&task.id).into_iter().flatten();
            let prompted: Vec<_> = prompted.filter(|turn| turn.prompted_at.is_some()).collect();
            let undeclared = prompted
                .iter()
                .rev()
                .skip(1)
                .find(|turn| !is_declared(turn));
            if let Some(turn) = undeclared {
                tell(format!(
                    "attempt {} of task {} was prompted and ended {:?}, and it was prompted again",
                    turn.attempt, task.id, turn.outcome
                ));
            }
        }
        let arrivals: Vec<_> = history
            .witnessed
            .iter()
            .filter(|w| w.nonce == asked.nonce)
            .collect();
        if player(asked.chat) == Player::Demo {
            let prompted = turns.iter().filter(|turn| turn.prompted_at.is_some());
            let prompted: BTreeSet<Uuid> = prompted.map(|turn| turn.task).collect();
            if arrivals.len() > prompted.len() {
                let (times, tasks) = (arrivals.len(), prompted.len());
                tell(format!(
                    "the agent ran it {times} times for {tasks} prompted tasks"
                ));
            }
        } else {
            let stray = arrivals
                .iter()
                .filter_map(|arrival| arrival.at)
                .find(|at| !turns.iter().any(|turn| covers(turn, *at)));
            if let Some(stray) = stray {
                tell(format!(
                    "it reached the model at {stray}, outside of its turns"
                ));
            }
        }
    }
    found
}

/// The task may be prompted again: the model refused, or a person's answer is brought.
fn is_declared(turn: &Turn) -> bool {
    turn.asks_on || matches!(turn.outcome.as_deref(), Some("overload" | "quota"))
}

fn covers(turn: &Turn, at: Moment) -> bool {
    let Some(prompted) = turn.prompted_at else {
        return false;
    };
    prompted - LATE <= at && turn.ended_at.is_none_or(|ended| at <= ended + LATE)
}

/// Every task is over, in one way, and told so once.
fn outcomes(history: &History) -> Vec<Offence> {
    let mut found = Vec::new();
    let by_task = turns_by_task(history);
    for task in &history.tasks {
        let turns = by_task.get(&task.id).map_or(&[][..], Vec::as_slice);
        let open = turns.iter().filter(|turn| turn.outcome.is_none()).count();
        let last = turns.last().and_then(|turn| turn.outcome.as_deref());
        let fits = match (task.state.as_str(), last) {
            ("completed", Some("ok")) => true,
            ("cancelled", _) => last != Some("ok"),
            ("failed", Some(outcome)) => !matches!(outcome, "ok" | "cancelled"),
            _ => false,
        };
        let wells = turns
            .iter()
            .filter(|turn| turn.outcome.as_deref() == Some("ok"))
            .count();
        if !fits || open > 0 || wells > 1 || task.ends_told != 1 {
            let outcomes: Vec<_> = turns.iter().map(|turn| turn.outcome.as_deref()).collect();
            found.push(offence(
                Count::WithoutOneOutcome,
                format!(
                    "task {} ({}, session {}) is {}; its turns ended {outcomes:?}; {} frames tell its end",
                    task.id, task.nonce, task.session, task.state, task.ends_told
                ),
                turns.last().map(|turn| turn.claimed_at).or(Some(task.created_at)),
            ));
        }
    }
    found
}

fn turns_by_task(history: &History) -> BTreeMap<Uuid, Vec<&Turn>> {
    let mut by_task: BTreeMap<Uuid, Vec<&Turn>> = BTreeMap::new();
    for turn in &history.turns {
        by_task.entry(turn.task).or_default().push(turn);
    }
    for turns in by_task.values_mut() {
        turns.sort_by_key(|turn| turn.attempt);
    }
    by_task
}

/// Each follower heard each stored frame once, in order, and as it is stored.
fn streams(history: &History) -> Vec<Offence> {
    let sessions = history.sessions.iter().enumerate();
    sessions
        .flat_map(|(number, session)| stream(number, session))
        .collect()
}

fn stream(number: usize, session: &Session) -> Vec<Offence> {
    let mut found = Vec::new();
    let read: BTreeMap<i64, u64> = session.read.iter().copied().collect();
    let last = session.stored.last().copied().unwrap_or(0);
    let holes = (1..=last)
        .filter(|seq| !session.stored.contains(seq))
        .count();
    let mut tell = |count, what: String| {
        found.push(offence(count, format!("session {number}: {what}"), None));
    };
    if holes > 0 {
        tell(
            Count::StreamGaps,
            format!("{holes} seqs below {last} are not stored"),
        );
    }
    let readers = session.heard.iter().chain([&session.read]).enumerate();
    for (reader, heard) in readers {
        let mut before = 0;
        for (seq, digest) in heard {
            if *seq <= before {
                tell(
                    Count::StreamRepeats,
                    format!("reader {reader} heard {seq} after {before}"),
                );
            } else if session.stored.range(before + 1..*seq).next().is_some() {
                tell(
                    Count::StreamGaps,
                    format!("reader {reader} heard {seq} after {before}"),
                );
            }
            if read.get(seq) != Some(digest) {
                tell(
                    Count::StreamGaps,
                    format!("reader {reader} heard another {seq} than is stored"),
                );
            }
            before = before.max(*seq);
        }
        if before != last {
            tell(
                Count::StreamGaps,
                format!("reader {reader} heard up to {before} of {last}"),
            );
        }
    }
    found
}

/// An answer that was taken is the one that is stored.
fn answers(history: &History) -> Vec<Offence> {
    let wrong = history
        .answers
        .iter()
        .filter(|answer| answer.stored.as_ref() != Some(&answer.given));
    wrong
        .map(|answer| {
            let what = format!(
                "prompt {}: {} was taken, {:?} is stored",
                answer.prompt, answer.given, answer.stored
            );
            offence(Count::AnswersLost, what, None)
        })
        .collect()
}
