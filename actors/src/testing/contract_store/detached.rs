//! Turns that end while a human is asked: the prompts stay open, and the answers
//! let their task go on.

use super::parts::{acquire, assert_fenced, claim, claim_one, finish, open, turn_ref};
use super::prompts::{ask, kinds, prompt, running};
use super::{AGENT, StoreUnderTest};
use crate::event::{Frame, FrameKind};
use crate::ids::PromptId;
use crate::model::{Assignment, Continuity, LinkFacts, Resume};
use crate::outcome::{Outcome, TaskState};
use crate::ports::{LinkNote, LinkStatus};
use crate::prompt::{AnsweredBy, Given, NewPrompt, PromptState, Settled};
use crate::rules::going_on;

/// The turn is over, its task holds no slot, and what comes behind it in the same
/// chat waits for the answer; another chat of the session goes on.
pub async fn a_detached_turn_leaves_its_prompts_open(store: &dyn StoreUnderTest) {
    let (turn, asked) = asking(store).await;
    let chat = store.insert_chat(turn.session).await;
    let chats = [turn.key.chat, chat];
    for chat in chats {
        store
            .insert_task(Some(turn.session), Some(chat), AGENT)
            .await;
    }
    let frames = detach(store, &turn).await;
    assert_eq!(
        kinds(&frames),
        [
            FrameKind::MessageComplete,
            FrameKind::TaskUpdated,
            FrameKind::AgentStatusUpdated
        ]
    );
    assert_eq!(frames[1].data["state"], "blocked");
    assert_eq!(frames[2].data["status"], "blocked");
    assert_eq!(store.prompt(asked.id).await, Some(PromptState::Open));
    assert_eq!(store.task_state(turn.fence.task).await, TaskState::Blocked);
    let message = store.message(turn.assistant_message).await;
    assert_eq!(message.expect("the answer").0, "interrupted");
    let yes = Settled::answered(asked.options[0].clone(), AnsweredBy::Http);
    let (journal, reference) = (store.journal(), turn_ref(&turn));
    assert_fenced(journal.settle(&reference, asked.id, &yes).await);
    assert_eq!(detach(store, &turn).await, [], "once");
    let other = claim_one(store).await;
    assert_eq!(other.key.chat, chat);
    finish(store, &other, Outcome::Ok).await;
    assert!(claim(store, 1).await.assignments.is_empty());
}

/// A new life does the same for what the last one left.
pub async fn take_over_detaches_what_waits_for_a_human(store: &dyn StoreUnderTest) {
    let (turn, asked) = asking(store).await;
    let twin = store.twin().await;
    let found = twin.lease().acquire().await.unwrap();
    assert_eq!((found.interrupted, found.detached), (1, 1));
    assert_eq!(kinds(&found.frames)[0], FrameKind::MessageComplete);
    assert_eq!(store.prompt(asked.id).await, Some(PromptState::Open));
    assert_eq!(store.task_state(turn.fence.task).await, TaskState::Blocked);
    let again = twin.lease().acquire().await.unwrap();
    assert_eq!((again.interrupted, again.requeued), (0, 0));
    assert_eq!(store.task_state(turn.fence.task).await, TaskState::Blocked);
}

/// Each answer counts once; the last one makes the task wait for its next turn,
/// which is told all of them.
pub async fn the_last_answer_lets_a_detached_task_go_on(store: &dyn StoreUnderTest) {
    let (turn, first) = asking(store).await;
    let second = prompt();
    ask(store, &turn, &second).await;
    detach(store, &turn).await;
    let yes = Settled::answered(first.options[0].clone(), AnsweredBy::Http);
    let no = Settled::answered(second.options[1].clone(), AnsweredBy::Cli);
    let frames = store.answer_detached(first.id, &yes).await;
    assert_eq!(kinds(&frames), [FrameKind::PermissionResolved]);
    assert_eq!(frames[0].data["answered_by"], "http");
    assert_eq!(store.answer_detached(first.id, &no).await, []);
    assert_eq!(store.task_state(turn.fence.task).await, TaskState::Blocked);
    assert!(claim(store, 1).await.assignments.is_empty());
    let frames = store.answer_detached(second.id, &no).await;
    assert_eq!(
        kinds(&frames),
        [FrameKind::PermissionResolved, FrameKind::TaskUpdated]
    );
    assert_eq!(frames[1].data["state"], "pending");
    assert_eq!(store.prompt(second.id).await, Some(PromptState::Answered));

    let next = claim_one(store).await;
    assert_eq!(next.fence.task, turn.fence.task);
    assert_eq!(next.fence.attempt, turn.fence.attempt + 1);
    let given = next.goes_on.clone().expect("it goes on");
    assert_eq!(given.len(), 2);
    assert_eq!(given_answers(&given), ["yes", "no"]);
    assert_eq!(next.input, going_on::message(&turn.input, &given));
    assert_eq!(next.resume, Some(resume()));
    open(store, &next).await;
    finish(store, &next, Outcome::Ok).await;
    let state = store.task_state(turn.fence.task).await;
    assert_eq!(state, TaskState::Completed);
    let frames = store.frames(turn.session).await;
    for (frame, seq) in frames.iter().zip(1..) {
        assert_eq!(frame.seq, seq);
    }
}

/// The row was faster than the agent, which is gone: the answer goes to its next
/// process, without another word of anybody.
pub async fn an_answer_that_the_agent_did_not_hear_goes_on(store: &dyn StoreUnderTest) {
    let (turn, asked) = asking(store).await;
    settle(store, &turn, &asked, 0).await;
    assert_eq!(
        detach(store, &turn).await,
        [],
        "the agent may have heard it"
    );
    let frames = leave(store, &turn, &[asked.id]).await;
    assert_eq!(
        kinds(&frames),
        [
            FrameKind::MessageComplete,
            FrameKind::TaskUpdated,
            FrameKind::AgentStatusUpdated,
            FrameKind::TaskUpdated
        ]
    );
    assert_eq!(frames[1].data["state"], "blocked");
    assert_eq!(frames[3].data["state"], "pending");
    assert_eq!(leave(store, &turn, &[asked.id]).await, [], "once");
    let next = claim_one(store).await;
    assert_eq!(next.fence.task, turn.fence.task);
    let given = next.goes_on.clone().expect("it goes on");
    assert_eq!(given_answers(&given), ["yes"]);
    assert_eq!(next.input, going_on::message(&turn.input, &given));
    open(store, &next).await;
    finish(store, &next, Outcome::Ok).await;
    let frames = store.frames(turn.session).await;
    assert!(frames.iter().zip(1..).all(|(frame, seq)| frame.seq == seq));
}

/// Of several prompts some are open, one was answered unheard, and one heard: the
/// last open one decides when the task goes on, which is told what was not heard.
pub async fn what_was_heard_is_not_told_again(store: &dyn StoreUnderTest) {
    let (turn, heard) = asking(store).await;
    let (unheard, still_open) = (prompt(), prompt());
    ask(store, &turn, &unheard).await;
    ask(store, &turn, &still_open).await;
    settle(store, &turn, &heard, 0).await;
    settle(store, &turn, &unheard, 1).await;
    let frames = leave(store, &turn, &[unheard.id]).await;
    assert_eq!(frames.len(), 3, "{frames:?}");
    assert_eq!(store.task_state(turn.fence.task).await, TaskState::Blocked);
    assert!(claim(store, 1).await.assignments.is_empty());
    let yes = Settled::answered(still_open.options[0].clone(), AnsweredBy::Cli);
    assert_eq!(store.answer_detached(unheard.id, &yes).await, []);
    assert_eq!(store.answer_detached(still_open.id, &yes).await.len(), 2);
    let next = claim_one(store).await;
    let given = next.goes_on.clone().expect("it goes on");
    assert_eq!(given_answers(&given), ["no", "yes"]);
    open(store, &next).await;
    finish(store, &next, Outcome::Ok).await;
}

/// A cancel ends it at once, and lets the chat go on.
pub async fn a_detached_task_can_be_cancelled(store: &dyn StoreUnderTest) {
    let (turn, asked) = asking(store).await;
    let next = store
        .insert_task(Some(turn.session), Some(turn.key.chat), AGENT)
        .await;
    detach(store, &turn).await;
    store.request_cancel(turn.fence.task).await;
    let state = store.task_state(turn.fence.task).await;
    assert_eq!(state, TaskState::Cancelled);
    assert_eq!(store.prompt(asked.id).await, Some(PromptState::Cancelled));
    let yes = Settled::answered(asked.options[0].clone(), AnsweredBy::Http);
    assert_eq!(store.answer_detached(asked.id, &yes).await, []);
    assert_eq!(claim_one(store).await.fence.task, next);
}

/// Without a session of the agent's, without a question, or behind a cancel
/// nothing is kept.
pub async fn what_cannot_be_resumed_is_not_detached(store: &dyn StoreUnderTest) {
    let unknown = running(store).await;
    ask(store, &unknown, &prompt()).await;
    assert_eq!(detach(store, &unknown).await, [], "no session to resume");
    finish(store, &unknown, Outcome::Interrupted).await;

    let session = store.insert_session().await;
    let chat = store.insert_chat(session).await;
    store.insert_task(Some(session), Some(chat), AGENT).await;
    let quiet = claim_one(store).await;
    open(store, &quiet).await;
    note(store, &quiet).await;
    assert_eq!(detach(store, &quiet).await, [], "nothing is asked");
    ask(store, &quiet, &prompt()).await;
    store.request_cancel(quiet.fence.task).await;
    assert_eq!(detach(store, &quiet).await, [], "it is to be cancelled");
    finish(store, &quiet, Outcome::Cancelled).await;
}

/// A turn of an agent that can be resumed, with a prompt.
pub(super) async fn asking(store: &dyn StoreUnderTest) -> (Assignment, NewPrompt) {
    let turn = of_a_chat(store).await;
    note(store, &turn).await;
    let asked = prompt();
    ask(store, &turn, &asked).await;
    (turn, asked)
}

/// A running turn of a chat's own agent.
async fn of_a_chat(store: &dyn StoreUnderTest) -> Assignment {
    acquire(store).await;
    let session = store.insert_session().await;
    let chat = store.insert_chat(session).await;
    store.insert_task(Some(session), Some(chat), AGENT).await;
    let turn = claim_one(store).await;
    open(store, &turn).await;
    turn
}

pub(super) async fn detach(store: &dyn StoreUnderTest, turn: &Assignment) -> Vec<Frame> {
    leave(store, turn, &[]).await
}

/// The agent has not heard how these were settled.
async fn leave(store: &dyn StoreUnderTest, turn: &Assignment, unheard: &[PromptId]) -> Vec<Frame> {
    let (journal, turn) = (store.journal(), turn_ref(turn));
    let left = journal.detach(&turn, "stopped", unheard).await;
    left.expect("an answer")
}

/// Settles a prompt of the live turn, as its session does.
async fn settle(store: &dyn StoreUnderTest, turn: &Assignment, prompt: &NewPrompt, option: usize) {
    let answer = prompt.options[option].clone();
    let settled = Settled::answered(answer, AnsweredBy::Http);
    let (journal, turn) = (store.journal(), turn_ref(turn));
    let frames = journal.settle(&turn, prompt.id, &settled).await;
    assert_eq!(frames.expect("ours").len(), 2);
}

fn given_answers(given: &[Given]) -> Vec<&str> {
    let answers = given.iter().filter_map(|given| given.answer.as_ref());
    answers.map(|answer| answer.id.as_str()).collect()
}

pub(super) async fn note(store: &dyn StoreUnderTest, turn: &Assignment) {
    let facts = LinkFacts {
        pid: Some(1),
        resume: resume(),
        backend: "acp_warm".into(),
        continuity: Continuity::New,
    };
    let note = LinkNote {
        key: turn.key.clone(),
        session: turn.session,
        status: LinkStatus::Active,
        facts: Some(facts),
    };
    store.journal().note_link(&note).await.expect("noted");
}

fn resume() -> Resume {
    Resume {
        agent_session_id: "s-1".into(),
        home_id: "home".into(),
        config_hash: "hash".into(),
    }
}
