//! An operation's course, in a world that breaks: the journal and the files
//! agree in the end, whatever happened on the way.

use std::time::Duration;

use hearth_actors::operation::OperationState;
use hearth_actors::rules::operation::{Act, Came, Course, FILE_TRIES, LONGEST_WAIT, Next};
use proptest::prelude::*;

/// What goes wrong with one act.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    /// Nothing was done.
    Before,
    /// It was done, and the answer was lost.
    After,
    /// Nothing was done, and the worker panicked.
    Panic,
    /// It was done, and the worker panicked.
    PanicAfter,
    /// For good.
    Refused,
    /// Somebody moves one of the files.
    Moved,
    /// Somebody deletes the folder, for good.
    Gone,
    /// The whole process dies after it.
    Killed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Files {
    Before,
    /// Some are written.
    Between,
    After,
}

/// The world of one operation.
#[derive(Debug)]
struct World {
    journal: Option<OperationState>,
    gate: bool,
    files: Files,
    /// A file is neither as before nor as planned: a person's.
    moved: bool,
    /// The folder is not there any more.
    gone: bool,
    planned: bool,
    compared: bool,
    quiet: bool,
    ends: usize,
    frames: usize,
}

impl World {
    fn act(&mut self, act: Act, fault: Fault) -> Came {
        let undone = matches!(fault, Fault::Before | Fault::Panic);
        if matches!(fault, Fault::Refused)
            && !matches!(act, Act::TakeBack | Act::Abandon | Act::Recall)
        {
            return Came::Refused;
        }
        if matches!(fault, Fault::Moved) {
            self.moved = true;
        }
        if matches!(fault, Fault::Gone) {
            self.gone = true;
        }
        if self.gone && matches!(act, Act::CarryOut | Act::Compare | Act::TakeBack) {
            return match act {
                Act::TakeBack if !undone => Came::Stuck,
                _ => Came::Failed,
            };
        }
        let mut came = Came::Did;
        if !undone {
            came = self.really(act);
        } else if act == Act::CarryOut && !self.moved {
            self.files = Files::Between;
        }
        match fault {
            Fault::Before | Fault::After => Came::Failed,
            Fault::Panic | Fault::PanicAfter => Came::Lost,
            _ => came,
        }
    }

    fn really(&mut self, act: Act) -> Came {
        use OperationState::{Abandoned, Done, Intended, Planning};
        match act {
            Act::Begin => {
                self.journal.get_or_insert(Planning);
                self.gate = true;
            }
            Act::Quiet => self.quiet = true,
            Act::Plan => {
                assert!(self.quiet, "agents are gone before the plan");
                self.planned = true;
            }
            Act::Intend => {
                assert!(self.planned, "what is intended was planned");
                assert_eq!(self.files, Files::Before, "nothing was written before");
                assert!(matches!(self.journal, Some(Planning | Intended)));
                self.journal = Some(Intended);
            }
            Act::CarryOut => {
                assert_eq!(self.journal, Some(Intended), "files follow the intent");
                if self.moved {
                    if self.files == Files::Before {
                        self.files = Files::Between;
                    }
                    return Came::InTheWay;
                }
                self.files = Files::After;
            }
            Act::Compare => {
                assert_eq!(self.files, Files::After, "what is compared was written");
                self.compared = true;
            }
            Act::Complete => {
                assert!(self.compared);
                match self.journal {
                    Some(Done) => {}
                    Some(Intended) => {
                        self.journal = Some(Done);
                        self.gate = false;
                        self.ends += 1;
                        self.frames += 1;
                    }
                    other => panic!("completed as {other:?}"),
                }
            }
            Act::TakeBack => {
                assert_eq!(self.journal, Some(Intended), "only an intent is taken back");
                self.files = Files::Before;
                if self.moved {
                    return Came::InTheWay;
                }
            }
            Act::Abandon => {
                let as_before = self.files == Files::Before || self.gone;
                assert!(as_before, "what is abandoned is as before");
                match self.journal {
                    None | Some(Abandoned) => {}
                    Some(Planning | Intended) => {
                        self.journal = Some(Abandoned);
                        self.gate = false;
                        self.ends += 1;
                    }
                    Some(Done) => panic!("done and abandoned"),
                }
            }
            Act::Settle { done } => {
                let said = if done { Done } else { Abandoned };
                assert_eq!(self.journal, Some(said), "refs follow the journal");
            }
            Act::Recall => return Came::Found(self.journal),
        }
        Came::Did
    }
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        6 => Just(Fault::None),
        2 => Just(Fault::Before),
        2 => Just(Fault::After),
        1 => Just(Fault::Panic),
        1 => Just(Fault::PanicAfter),
        1 => Just(Fault::Refused),
        1 => Just(Fault::Moved),
        1 => Just(Fault::Gone),
        2 => Just(Fault::Killed),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    #[test]
    fn every_operation_ends_once_and_never_in_between(
        quiets in any::<bool>(),
        faults in prop::collection::vec(fault(), 0..40),
    ) {
        let mut world = World {
            journal: None, gate: false, files: Files::Before, moved: false, gone: false, planned: false,
            compared: false, quiet: !quiets, ends: 0, frames: 0,
        };
        let mut course = Course::begin(quiets);
        let mut faults = faults.into_iter();
        for step in 0.. {
            prop_assert!(step < 400, "it never ends: {course:?} {world:?}");
            let fault = faults.next().unwrap_or(Fault::None);
            let came = world.act(course.act(), fault);
            if matches!(fault, Fault::Killed) {
                // Nobody is left but the journal.
                if world.journal.is_none() {
                    break;
                }
                course = Course::resume();
                world.quiet = true;
                continue;
            }
            match course.came(came) {
                Next::Over => break,
                Next::Do(act, wait) => {
                    prop_assert_eq!(act, course.act());
                    prop_assert!(wait <= LONGEST_WAIT);
                }
            }
        }
        prop_assert!(!world.gate, "the gate is free: {world:?}");
        prop_assert!(world.ends <= 1 && world.frames <= 1);
        match world.journal {
            None => prop_assert_eq!(world.files, Files::Before),
            Some(OperationState::Done) => prop_assert_eq!(world.files, Files::After),
            Some(OperationState::Abandoned) => {
                prop_assert!(world.gone || world.files == Files::Before);
            }
            Some(state) => prop_assert!(false, "left {state}"),
        }
    }
}

fn walk(course: &mut Course, words: &[Came]) -> Vec<Act> {
    let mut acts = vec![course.act()];
    for came in words {
        if let Next::Do(act, _) = course.came(*came) {
            acts.push(act);
        }
    }
    acts
}

#[test]
fn the_usual_way() {
    let mut course = Course::begin(true);
    let acts = walk(&mut course, &[Came::Did; 8]);
    let settle = Act::Settle { done: true };
    assert_eq!(
        acts,
        [
            Act::Begin,
            Act::Quiet,
            Act::Plan,
            Act::Intend,
            Act::CarryOut,
            Act::Compare,
            Act::Complete,
            settle
        ]
    );
    assert_eq!(course.came(Came::Did), Next::Over);
}

/// One that an earlier life left intended.
fn intended() -> Course {
    let mut course = Course::resume();
    let found = course.came(Came::Found(Some(OperationState::Intended)));
    assert_eq!(found, Next::Do(Act::CarryOut, Duration::ZERO));
    course
}

/// Its take-over is asked for until an answer comes: one that was lost, or whose
/// worker panicked, lost nothing.
#[test]
fn what_was_left_is_taken_over_until_that_is_known() {
    let mut course = Course::resume();
    for came in [Came::Failed, Came::Lost].repeat(50) {
        assert!(matches!(course.came(came), Next::Do(Act::Recall, _)));
    }
    let found = Came::Found(Some(OperationState::Planning));
    assert_eq!(course.came(found), Next::Do(Act::Abandon, Duration::ZERO));
}

#[test]
fn files_in_the_way_are_no_reason_to_try_again() {
    let mut course = intended();
    let acts = walk(&mut course, &[Came::InTheWay, Came::InTheWay, Came::Did]);
    let settle = Act::Settle { done: false };
    assert_eq!(acts, [Act::CarryOut, Act::TakeBack, Act::Abandon, settle]);
}

#[test]
fn a_disk_that_refuses_gets_a_few_tries_and_then_the_files_go_back() {
    let mut course = intended();
    let mut tries = 1;
    while let Next::Do(Act::CarryOut, wait) = course.came(Came::Failed) {
        assert!(wait > Duration::ZERO);
        tries += 1;
    }
    assert_eq!(tries, FILE_TRIES);
    assert_eq!(course.act(), Act::TakeBack);
    for _ in 0..100 {
        assert!(matches!(
            course.came(Came::Failed),
            Next::Do(Act::TakeBack, _)
        ));
    }
}

/// Nothing that a service can do brings a folder back: its session must not wait for
/// it for ever.
#[test]
fn a_folder_that_is_gone_gets_a_few_tries_and_then_the_gate_is_given_back() {
    let mut course = intended();
    course.came(Came::InTheWay);
    let mut tries = 1;
    while let Next::Do(Act::TakeBack, wait) = course.came(Came::Stuck) {
        assert!(wait > Duration::ZERO);
        tries += 1;
    }
    assert_eq!((tries, course.act()), (FILE_TRIES, Act::Abandon));
    let acts = walk(&mut course, &[Came::Did]);
    assert_eq!(acts, [Act::Abandon, Act::Settle { done: false }]);
}

/// A database that is away is waited for; an end that never fits into a statement is
/// none: the files go back, unless an earlier try was written.
#[test]
fn an_end_that_takes_too_long_gets_a_few_tries() {
    let mut course = intended();
    walk(&mut course, &[Came::Did, Came::Did]);
    for _ in 1..FILE_TRIES {
        let next = course.came(Came::Stuck);
        assert!(matches!(next, Next::Do(Act::Complete, wait) if wait > Duration::ZERO));
    }
    let found = Came::Found(Some(OperationState::Intended));
    let acts = walk(&mut course, &[Came::Stuck, found, Came::Did, Came::Did]);
    let settle = Act::Settle { done: false };
    let all = [
        Act::Complete,
        Act::Recall,
        Act::TakeBack,
        Act::Abandon,
        settle,
    ];
    assert_eq!(acts, all);
    let mut course = intended();
    walk(&mut course, &[Came::Did, Came::Did]);
    for _ in 0..100 {
        let next = course.came(Came::Failed);
        assert!(matches!(next, Next::Do(Act::Complete, _)));
    }
}

#[test]
fn an_order_that_does_not_fit_leaves_nothing() {
    assert_eq!(Course::begin(false).came(Came::Refused), Next::Over);
    let mut course = Course::begin(false);
    let acts = walk(&mut course, &[Came::Did, Came::Refused, Came::Did]);
    let settle = Act::Settle { done: false };
    assert_eq!(acts, [Act::Begin, Act::Plan, Act::Abandon, settle]);
}

#[test]
fn a_newer_life_takes_the_rest() {
    assert_eq!(Course::resume().came(Came::Fenced), Next::Over);
    assert_eq!(intended().came(Came::Fenced), Next::Over);
}

#[test]
fn refs_are_put_right_for_a_while_and_then_at_the_next_start() {
    let mut course = Course::resume();
    let mut next = course.came(Came::Found(Some(OperationState::Done)));
    let mut waited = Duration::ZERO;
    while let Next::Do(act, wait) = next {
        assert_eq!(act, Act::Settle { done: true });
        waited += wait;
        next = course.came(Came::Failed);
    }
    assert_eq!(waited, Duration::from_millis(6350));
}
