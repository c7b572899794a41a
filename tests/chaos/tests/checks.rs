//! Every count can be other than 0: each check is given a history that was forged in
//! one place, and one that was not.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{TimeDelta, TimeZone as _, Utc};
use uuid::Uuid;

use crate::chaos::asked::{Asked, SHARED, content_of, file_of, shared_at_first};
use crate::chaos::checks::{self, Count};
use crate::chaos::history::{
    Answer, Change, Checkout, History, Moment, Operation, Session, Struck, Task, Turn, Witnessed,
};
use crate::chaos::plan::{Fault, Way, Words};
use crate::chaos::replay::blob_of;

/// Files by their paths.
type Contents = BTreeMap<String, Vec<u8>>;

fn at(second: i64) -> Moment {
    Utc.timestamp_opt(1_000_000 + second, 0).unwrap()
}

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// One message of the demo agent in session 0 that made a file and marked a line, and
/// one of a model in session 2; all is well.
fn honest() -> History {
    let mut history = History {
        sessions: vec![Session::default(); 8],
        checkouts: vec![Checkout::default(); 6],
        ..History::default()
    };
    for (number, chat, words) in [(0, 0, Words::Mark), (1, 2, Words::Create)] {
        let mut asked = Asked::new(
            number,
            chat,
            Way::Http,
            words,
            Path::new("/w"),
            Path::new("/t"),
        );
        let task = id(100 + number as u128);
        asked.task = Some(task);
        history.tasks.push(Task {
            id: task,
            nonce: asked.nonce.clone(),
            session: chat,
            state: "completed".into(),
            retry_of: None,
            ends_told: 1,
            tools: String::new(),
            created_at: at(0),
        });
        history.turns.push(turn(task, chat, 1, "ok"));
        history.witnessed.push(Witnessed {
            nonce: asked.nonce.clone(),
            at: (chat == 2).then(|| at(6)),
        });
        history.asked.push(asked);
    }
    for (number, session) in history.sessions.iter_mut().enumerate() {
        session.stored = (1..=3).collect();
        session.read = vec![(1, 11), (2, 12), (3, 13)];
        session.heard = vec![session.read.clone(), session.read.clone()];
        let mut files = BTreeMap::from([(SHARED.to_owned(), shared_at_first().into_bytes())]);
        let made = match number {
            0 => Some("n000000n"),
            2 => Some("n000001n"),
            _ => None,
        };
        if let Some(nonce) = made {
            let path = file_of(nonce, false);
            files.insert(path.clone(), content_of(&path).unwrap());
        }
        if number == 0 {
            files.insert(SHARED.to_owned(), marked("n000000n"));
        }
        session.files = Some(files);
    }
    let path = file_of("n000000n", false);
    let content = content_of(&path).unwrap();
    history.changes = vec![
        change(1, &path, Some(blob_of(&content))),
        change(2, SHARED, None),
    ];
    history.operations.push(operation("apply", &[1, 2], 20));
    for (number, checkout) in history.checkouts.iter_mut().enumerate() {
        let mut shared = shared_at_first().into_bytes();
        if number == 0 {
            checkout.files.insert(path.clone(), content.clone());
            shared = marked("n000000n");
        }
        shared.extend(format!("mine {number}\n").bytes());
        checkout.files.insert(SHARED.to_owned(), shared);
        checkout.files.insert("own/1.txt".into(), b"own".to_vec());
        checkout.own.insert("own/1.txt".into(), b"own".to_vec());
        checkout.lines.push(format!("mine {number}"));
    }
    history.answers.push(Answer {
        prompt: id(9),
        given: "allow_once".into(),
        stored: Some("allow_once".into()),
    });
    history
}

fn turn(task: Uuid, session: usize, attempt: i32, outcome: &str) -> Turn {
    let begin = i64::from(attempt) * 5;
    Turn {
        task,
        session,
        attempt,
        outcome: Some(outcome.into()),
        claimed_at: at(begin),
        prompted_at: Some(at(begin + 1)),
        ended_at: Some(at(begin + 4)),
        checkpoint: Some(Uuid::from_u64_pair(task.as_u64_pair().1, begin as u64)),
        asks_on: false,
    }
}

fn change(number: u128, path: &str, after_blob: Option<String>) -> Change {
    Change {
        id: id(number),
        session: 0,
        path: path.into(),
        old_path: None,
        status: "applied".into(),
        before_blob: None,
        after_blob,
    }
}

fn operation(kind: &str, changes: &[u128], ended: i64) -> Operation {
    Operation {
        id: id(ended as u128 + 500),
        session: 0,
        kind: kind.into(),
        done: true,
        checkpoint: None,
        changes: changes.iter().map(|number| id(*number)).collect(),
        ended_at: at(ended),
    }
}

fn marked(line: &str) -> Vec<u8> {
    let text = shared_at_first();
    let heading = "== session 0 ==\n";
    text.replace(heading, &format!("{heading}{line}\n"))
        .into_bytes()
}

/// What is counted once this was forged.
#[track_caller]
fn counts(forge: impl FnOnce(&mut History)) -> Vec<Count> {
    let mut history = honest();
    forge(&mut history);
    let mut counts: Vec<_> = checks::all(&history)
        .iter()
        .map(|offence| offence.count)
        .collect();
    counts.dedup();
    counts
}

#[test]
fn what_is_honest_offends_nobody() {
    let offences = checks::all(&honest());
    assert!(offences.is_empty(), "{offences:#?}");
}

#[test]
fn lost_tasks_are_seen() {
    let lost = [Count::TasksLost];
    let no_row = counts(|history| history.tasks.clear());
    assert_eq!(no_row[0], Count::TasksLost);
    assert_eq!(counts(|history| history.asked[0].task = Some(id(7))), lost);
    assert_eq!(counts(|history| drop(history.witnessed.remove(0))), lost);
    let refused = |history: &mut History| {
        history.asked[0].task = None;
        history.asked[0].refused = Some("409".into());
    };
    assert_eq!(counts(refused), lost);
}

#[test]
fn second_runs_are_seen_and_declared_ones_are_not() {
    let twice = [Count::RunTwice];
    let again = |history: &mut History| history.witnessed.push(history.witnessed[0].clone());
    assert_eq!(counts(again), twice, "the demo agent ran it twice");
    let stray = |history: &mut History| history.witnessed[1].at = Some(at(60));
    assert_eq!(counts(stray), twice, "the model was asked when no turn ran");
    let two_tasks = |history: &mut History| {
        let task = Task {
            id: id(300),
            ..history.tasks[0].clone()
        };
        history.turns.push(turn(task.id, 0, 1, "ok"));
        history.tasks.push(task);
    };
    assert_eq!(counts(two_tasks), twice, "one key, two tasks");
    let attempts = |outcome: &'static str| {
        move |history: &mut History| {
            history.turns[1].outcome = Some(outcome.into());
            history.turns.push(turn(id(101), 2, 2, "ok"));
        }
    };
    assert_eq!(counts(attempts("agent_crashed")), twice);
    assert_eq!(counts(attempts("overload")), []);
    let answered = |history: &mut History| {
        history.turns[0].outcome = Some("interrupted".into());
        history.turns[0].asks_on = true;
        history.turns.push(turn(id(100), 0, 2, "ok"));
    };
    assert_eq!(counts(answered), []);
}

#[test]
fn outcomes_that_are_none_or_several_are_seen() {
    let outcome = [Count::WithoutOneOutcome];
    assert_eq!(
        counts(|history| history.tasks[0].state = "running".into()),
        outcome
    );
    assert_eq!(
        counts(|history| history.tasks[0].state = "failed".into()),
        outcome
    );
    assert_eq!(
        counts(|history| history.tasks[0].state = "cancelled".into()),
        outcome
    );
    assert_eq!(counts(|history| history.tasks[0].ends_told = 2), outcome);
    assert_eq!(counts(|history| history.tasks[0].ends_told = 0), outcome);
    let open = |history: &mut History| {
        history.turns.insert(0, turn(id(100), 0, 0, "ok"));
        history.turns[0].outcome = None;
        history.turns[0].prompted_at = None;
    };
    assert_eq!(counts(open), outcome);
}

#[test]
fn gaps_repeats_and_other_content_are_seen_in_a_stream() {
    let heard = |heard: &'static [(i64, u64)]| {
        counts(|history| history.sessions[3].heard[1] = heard.to_vec())
    };
    assert_eq!(heard(&[(1, 11), (3, 13)]), [Count::StreamGaps]);
    assert_eq!(
        heard(&[(1, 11), (2, 12)]),
        [Count::StreamGaps],
        "the end is missing"
    );
    assert_eq!(heard(&[(1, 11), (2, 99), (3, 13)]), [Count::StreamGaps]);
    assert_eq!(
        heard(&[(1, 11), (2, 12), (2, 12), (3, 13)]),
        [Count::StreamRepeats]
    );
    let hole = |history: &mut History| {
        history.sessions[3] = Session {
            stored: [1, 3].into(),
            read: vec![(1, 11), (3, 13)],
            heard: vec![],
            files: history.sessions[3].files.clone(),
        };
    };
    assert_eq!(counts(hole), [Count::StreamGaps]);
}

#[test]
fn wrong_bytes_are_seen_in_worktrees_and_checkouts() {
    let wrong = [Count::WrongBytes];
    let path = file_of("n000000n", false);
    let path = path.as_str();
    let worktree = |forge: &dyn Fn(&mut Contents)| {
        counts(|history| forge(history.sessions[0].files.as_mut().unwrap()))
    };
    assert_eq!(worktree(&|files| drop(files.remove(path))), wrong);
    assert_eq!(
        worktree(&|files| files.get_mut(path).unwrap().truncate(5)),
        wrong
    );
    let stranger = file_of("n000005n", false);
    assert_eq!(
        worktree(&|files| drop(files.insert(stranger.clone(), vec![]))),
        wrong
    );
    assert_eq!(
        worktree(&|files| drop(files.insert(SHARED.into(), marked("other")))),
        wrong
    );
    let checkout =
        |forge: &dyn Fn(&mut Checkout)| counts(|history| forge(&mut history.checkouts[0]));
    assert_eq!(
        checkout(&|checkout| drop(checkout.files.remove(path))),
        wrong
    );
    assert_eq!(
        checkout(&|checkout| checkout.files.get_mut(path).unwrap().push(1)),
        wrong
    );
    assert_eq!(
        checkout(&|checkout| drop(checkout.files.remove("own/1.txt"))),
        wrong
    );
    assert_eq!(
        checkout(&|checkout| checkout.lines.push("lost".into())),
        wrong
    );
    let unsaid = |history: &mut History| history.changes[0].status = "rejected".into();
    assert_eq!(counts(unsaid), wrong, "applied, and no row says so");
}

/// A restore takes away what came after its checkpoint; a turn that ended badly, or in
/// trouble, may have done any part of it.
#[test]
fn files_are_expected_as_far_as_their_turns_came() {
    let path = file_of("n000001n", false);
    let without = |history: &mut History| {
        history.sessions[2].files.as_mut().unwrap().remove(&path);
    };
    assert_eq!(counts(without), [Count::WrongBytes]);
    let restored = |history: &mut History| {
        let mut back = operation("restore", &[], 30);
        back.session = 2;
        back.checkpoint = history.turns[1].checkpoint;
        history.operations.push(back);
    };
    assert_eq!(counts(restored), [Count::WrongBytes], "it should be gone");
    assert_eq!(
        counts(|history| {
            restored(history);
            without(history)
        }),
        []
    );
    let crashed = |history: &mut History| {
        history.turns[1].outcome = Some("agent_crashed".into());
        history.tasks[1].state = "failed".into();
    };
    assert_eq!(counts(crashed), []);
    assert_eq!(
        counts(|history| {
            crashed(history);
            without(history)
        }),
        []
    );
    let begun = |content: &'static [u8]| {
        let path = path.clone();
        move |history: &mut History| {
            crashed(history);
            history.sessions[2]
                .files
                .as_mut()
                .unwrap()
                .insert(path, content.to_vec());
        }
    };
    assert_eq!(counts(begun(b"this is what n0")), []);
    assert_eq!(counts(begun(b"something else")), [Count::WrongBytes]);
    let full = |history: &mut History| {
        history.faults.push(Struck {
            at: at(7),
            until: at(7) + TimeDelta::seconds(1),
            fault: Fault::FillDisk(std::time::Duration::from_secs(1)),
            about: "full".into(),
        });
        without(history);
    };
    assert_eq!(counts(full), []);
}

#[test]
fn a_rejected_deletion_leaves_the_file_as_it_was() {
    let path = file_of("n000000n", false);
    let rejected = |history: &mut History| {
        history.changes.push(Change {
            status: "rejected".into(),
            before_blob: content_of(&path).map(|content| blob_of(&content)),
            ..change(3, &path, None)
        });
        history.operations.push(operation("reject", &[3], 30));
    };
    assert_eq!(counts(rejected), []);
    let gone = |history: &mut History| {
        rejected(history);
        history.sessions[0].files.as_mut().unwrap().remove(&path);
    };
    assert_eq!(counts(gone), [Count::WrongBytes]);
}

/// A file that git takes for renamed may have its row before the other one had.
#[test]
fn what_was_applied_last_counts_however_old_its_row_is() {
    let (old, new) = (file_of("n000000n", false), file_of("n000007n", false));
    let renamed = |history: &mut History| {
        let content = content_of(&new).unwrap();
        let row = Change {
            old_path: Some(old.clone()),
            ..change(3, &new, Some(blob_of(&content)))
        };
        history.changes.insert(0, row);
        history.operations.push(operation("apply", &[3], 40));
        let files = &mut history.checkouts[0].files;
        files.remove(&old);
        files.insert(new.clone(), content);
    };
    assert_eq!(counts(renamed), []);
    let stays = |history: &mut History| {
        renamed(history);
        let files = &mut history.checkouts[0].files;
        files.insert(old.clone(), content_of(&old).unwrap());
    };
    assert_eq!(counts(stays), [Count::WrongBytes]);
}

#[test]
fn the_other_counts_are_what_was_found() {
    let told = || vec!["found".to_owned()];
    assert_eq!(counts(|history| history.orphans = told()), [Count::Orphans]);
    assert_eq!(
        counts(|history| history.leaked = told()),
        [Count::LeakedWorktrees]
    );
    assert_eq!(
        counts(|history| history.unsettled = told()),
        [Count::Unsettled]
    );
    assert_eq!(
        counts(|history| history.answers[0].stored = None),
        [Count::AnswersLost]
    );
}
