//! What must hold whatever happens, for every test of the tree.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{ChatId, MessageId, SessionKey, TaskId, TurnId};
use crate::outcome::{Outcome, TaskState};
use crate::rules::handover::quoted;
use crate::testing::backend::{FakeBackend, ToldContext};
use crate::testing::memory::{MemoryStore, Rows};

/// Checks everything at once.
///
/// # Panics
/// When a promise was broken.
pub fn check(store: &MemoryStore, backend: &FakeBackend) {
    assert!(
        backend.most_alive() <= 1,
        "two process trees of one key were alive at once"
    );
    store.with(|rows| {
        every_task_ends_at_most_once(rows);
        one_live_turn_per_session(rows);
        frames_have_no_holes(rows);
        no_prompt_outlives_its_turn(rows);
        gates_are_held_by_what_works(rows);
        let prompts = backend.prompts();
        let turns: Vec<_> = prompts.iter().map(|(_, turn, _)| *turn).collect();
        none_is_prompted_twice(rows, &turns);
        prompts_are_in_order(rows, &turns);
        contexts_know_their_chat_once(rows, &backend.told());
    });
}

/// How a task's input begins that names itself, so that it is known where it is quoted.
pub const INPUT: &str = "input-";

/// What each context was told and asked: all of its chat's prompts, each at most
/// once, none of another chat and none that was trimmed before.
fn contexts_know_their_chat_once(rows: &Rows, told: &[ToldContext]) {
    let tasks: BTreeMap<&str, (TaskId, ChatId)> = rows
        .tasks
        .iter()
        .filter(|(_, task)| task.input.starts_with(INPUT))
        .map(|(id, task)| (task.input.as_str(), (*id, task.key.chat)))
        .collect();
    let mut known: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut cut: BTreeSet<&str> = BTreeSet::new();
    let mut asked: BTreeMap<ChatId, Vec<&str>> = BTreeMap::new();
    let mut asked_in: BTreeSet<(&str, &str)> = BTreeSet::new();
    for prompt in told {
        let (context, chat) = (prompt.context.as_str(), prompt.key.chat);
        let section = prompt.handover.as_deref().unwrap_or_default();
        if section.contains("older entries are left out") {
            cut.insert(context);
        }
        let known = known.entry(context).or_default();
        for input in quoted(section).filter(|line| tasks.contains_key(line)) {
            let (task, of) = tasks[input];
            assert_eq!(of, chat, "{context} was told {input} of another chat");
            assert!(known.insert(input), "{context} was told {input} twice");
            let turn = rows.turns[&prompt.turn].order;
            let mut trimmed = rows.trimmed.get(&MessageId(task.0)).into_iter().flatten();
            assert!(
                !trimmed.any(|gone| gone.contains(&turn)),
                "{context} was told {input}, which was trimmed"
            );
        }
        for earlier in asked.entry(chat).or_default().iter() {
            let (task, _) = tasks[earlier];
            let trimmed = rows.trimmed.contains_key(&MessageId(task.0));
            assert!(
                trimmed
                    || cut.contains(context)
                    || known.contains(earlier)
                    || *earlier == prompt.text,
                "{context} does not know of {earlier}"
            );
        }
        // Words about an answer are no task's own, and name none.
        if prompt.text.starts_with(INPUT) {
            let again = !asked_in.insert((context, prompt.text.as_str()));
            assert!(
                known.insert(&prompt.text) || again,
                "{context} knew {} before it was asked",
                prompt.text
            );
            asked.entry(chat).or_default().push(&prompt.text);
        }
    }
}

fn every_task_ends_at_most_once(rows: &Rows) {
    for (id, task) in &rows.tasks {
        assert!(
            task.outcomes.len() <= 1,
            "task {id} ended {:?}",
            task.outcomes
        );
        let Some(outcome) = task.outcomes.first() else {
            continue;
        };
        assert_eq!(outcome.task_state(), task.state, "task {id}");
    }
}

fn one_live_turn_per_session(rows: &Rows) {
    let mut live = BTreeSet::new();
    for turn in rows.turns.values().filter(|turn| !turn.ended) {
        let session = turn.reference.session;
        assert!(live.insert(session), "two live turns in session {session}");
    }
}

/// A gate is held by the one operation of its session that has not ended, and
/// then no turn runs there; each operation ends at most once.
fn gates_are_held_by_what_works(rows: &Rows) {
    for (id, row) in &rows.operations {
        assert!(row.ends <= 1, "operation {id} ended {} times", row.ends);
        let holds = rows.gates.get(&row.session) == Some(id);
        assert_eq!(holds, row.ends == 0, "operation {id} is {}", row.state);
    }
    for (session, id) in &rows.gates {
        assert!(rows.operations.contains_key(id), "nobody holds {session}");
        let mut turns = rows.turns.values();
        let live = turns.any(|turn| !turn.ended && turn.reference.session == *session);
        assert!(!live, "a turn and operation {id} work in {session}");
    }
}

fn no_prompt_outlives_its_turn(rows: &Rows) {
    for (id, row) in &rows.prompts {
        let turn = &rows.turns[&row.turn.fence.turn];
        // Its task waits for it, without a turn.
        let waited_for = turn.detached && rows.tasks[&row.turn.fence.task].detached;
        assert!(
            !(turn.ended && row.settled.is_none()) || waited_for,
            "prompt {id} is open and its turn is over"
        );
    }
    for turn in rows.turns.values().filter(|turn| !turn.ended) {
        let fence = turn.reference.fence;
        let mut asked = rows.prompts.values();
        let open = asked.any(|row| row.turn.fence.turn == fence.turn && row.settled.is_none());
        let blocked = rows.tasks[&fence.task].state == TaskState::Blocked;
        assert_eq!(open, blocked, "task {}", fence.task);
    }
}

fn frames_have_no_holes(rows: &Rows) {
    for (session, frames) in &rows.frames {
        for (index, frame) in frames.iter().enumerate() {
            let expected = i64::try_from(index).expect("few frames") + 1;
            assert_eq!(frame.seq, expected, "session {session}");
        }
    }
}

fn none_is_prompted_twice(rows: &Rows, prompts: &[TurnId]) {
    let mut seen: BTreeMap<TaskId, TurnId> = BTreeMap::new();
    for turn in prompts {
        let row = &rows.turns[turn];
        assert!(
            row.prompted,
            "turn {turn} was prompted before that was committed"
        );
        let earlier = seen.insert(row.reference.fence.task, *turn);
        // What was refused before anything came of it may be tried again; and an
        // agent that goes on is told the answers, not the prompt.
        let may_follow = |turn: &TurnId| {
            let row = &rows.turns[turn];
            row.detached || matches!(row.outcome, Some(Outcome::Overload | Outcome::Quota))
        };
        if let Some(earlier) = earlier.filter(|earlier| !may_follow(earlier)) {
            panic!(
                "task {} was prompted in {earlier} and in {turn}",
                row.reference.fence.task
            );
        }
    }
}

/// A parked task holds back what follows it for its own key only.
fn prompts_are_in_order(rows: &Rows, prompts: &[TurnId]) {
    let mut last: BTreeMap<&SessionKey, i64> = BTreeMap::new();
    for turn in prompts {
        let task = &rows.tasks[&rows.turns[turn].reference.fence.task];
        if let Some(earlier) = last.insert(&task.key, task.seq) {
            assert!(
                earlier <= task.seq,
                "{}: {} was prompted after {earlier}",
                task.key,
                task.seq
            );
        }
    }
}
