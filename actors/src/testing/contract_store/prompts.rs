//! Prompts and notices: what is asked, how it is settled, what it blocks.

use std::time::Duration;

use serde_json::json;

use super::parts::{acquire, assert_fenced, claim_one, finish, open, turn_ref};
use super::{AGENT, StoreUnderTest};
use crate::event::{AskKind, AskOption, Frame, FrameKind};
use crate::ids::PromptId;
use crate::model::Assignment;
use crate::outcome::{Outcome, TaskState};
use crate::prompt::{AnsweredBy, NewPrompt, Notice, PromptState, Settled};

/// The prompt's row, its frame and the task's state come together; a repeat
/// brings the same frames.
pub async fn a_prompt_blocks_its_task(store: &dyn StoreUnderTest) {
    let turn = running(store).await;
    let prompt = prompt();
    let frames = ask(store, &turn, &prompt).await;
    assert_eq!(
        kinds(&frames),
        [
            FrameKind::PermissionRequested,
            FrameKind::AgentStatusUpdated
        ]
    );
    assert_eq!(frames[0].data["id"], json!(prompt.id));
    assert_eq!(frames[0].data["request"]["tool"]["id"], "t");
    assert_eq!(frames[0].data["request"]["options"][1]["id"], "no");
    assert_eq!(frames[0].task_id, Some(turn.fence.task));
    assert_eq!(frames[0].message_id, Some(turn.assistant_message));
    assert_eq!(frames[1].data["status"], "blocked");
    assert_eq!(ask(store, &turn, &prompt).await, frames);
    let stored = store.frames(turn.session).await;
    assert_eq!(stored[stored.len() - 2..], frames);
    assert_eq!(store.task_state(turn.fence.task).await, TaskState::Blocked);
    assert_eq!(store.prompt(prompt.id).await, Some(PromptState::Open));
}

/// The first settlement stands; a repeat brings its frames, another is refused.
pub async fn a_prompt_is_settled_once(store: &dyn StoreUnderTest) {
    let turn = running(store).await;
    let asked = prompt();
    ask(store, &turn, &asked).await;
    let yes = Settled::answered(asked.options[0].clone(), AnsweredBy::Http);
    let frames = settle(store, &turn, asked.id, &yes).await;
    assert_eq!(
        kinds(&frames),
        [FrameKind::PermissionResolved, FrameKind::AgentStatusUpdated]
    );
    assert_eq!(frames[0].data["id"], json!(asked.id));
    assert_eq!(frames[0].data["state"], "answered");
    assert_eq!(frames[0].data["answer"]["id"], "yes");
    assert_eq!(frames[0].data["answered_by"], "http");
    assert_eq!(frames[1].data["status"], "working");
    assert_eq!(store.task_state(turn.fence.task).await, TaskState::Running);
    assert_eq!(settle(store, &turn, asked.id, &yes).await, frames);
    for other in [
        Settled::answered(asked.options[1].clone(), AnsweredBy::Http),
        Settled::cancelled("too late"),
    ] {
        let journal = store.journal();
        assert_fenced(journal.settle(&turn_ref(&turn), asked.id, &other).await);
    }
    let nothing = store.journal().withdraw(&turn_ref(&turn), "x").await;
    assert_eq!(nothing.unwrap(), []);
    assert_eq!(store.prompt(asked.id).await, Some(PromptState::Answered));
    let (journal, unknown) = (store.journal(), PromptId::new());
    assert_fenced(journal.settle(&turn_ref(&turn), unknown, &yes).await);
}

/// The task runs again when nothing of it is open any more.
pub async fn a_task_is_blocked_until_its_last_prompt_is_settled(store: &dyn StoreUnderTest) {
    let turn = running(store).await;
    let prompts = [prompt(), prompt(), prompt()];
    for prompt in &prompts {
        ask(store, &turn, prompt).await;
    }
    let no = Settled::answered(prompts[1].options[1].clone(), AnsweredBy::Cli);
    let frames = settle(store, &turn, prompts[1].id, &no).await;
    assert_eq!(frames[1].data["status"], "blocked");
    assert_eq!(store.task_state(turn.fence.task).await, TaskState::Blocked);
    let journal = store.journal();
    let frames = journal.withdraw(&turn_ref(&turn), "why").await.unwrap();
    assert_eq!(frames.len(), 3, "{frames:?}");
    for (frame, prompt) in frames.iter().zip([&prompts[0], &prompts[2]]) {
        assert_eq!(frame.data["id"], json!(prompt.id));
        assert_eq!(frame.data["state"], "cancelled");
        assert_eq!(frame.data["reason"], "why");
    }
    assert_eq!(frames[2].data["status"], "working");
    assert_eq!(store.task_state(turn.fence.task).await, TaskState::Running);
    let stored = store.frames(turn.session).await;
    for (frame, seq) in stored.iter().zip(1..) {
        assert_eq!(frame.seq, seq);
    }
}

/// No prompt is open whose turn is over, and a dead owner asks and answers nothing.
pub async fn the_end_of_a_turn_closes_its_prompts(store: &dyn StoreUnderTest) {
    let turn = running(store).await;
    let asked = prompt();
    ask(store, &turn, &asked).await;
    finish(store, &turn, Outcome::AgentCrashed).await;
    assert_eq!(store.prompt(asked.id).await, Some(PromptState::Cancelled));
    let journal = store.journal();
    let yes = Settled::answered(asked.options[0].clone(), AnsweredBy::Http);
    assert_fenced(journal.settle(&turn_ref(&turn), asked.id, &yes).await);
    let late = prompt();
    assert_fenced(journal.ask(&turn_ref(&turn), &late).await);
    assert_eq!(store.prompt(late.id).await, None);
    assert_eq!(store.task_state(turn.fence.task).await, TaskState::Failed);
}

/// A new life withdraws what the last one asked, and tells it.
pub async fn take_over_withdraws_the_prompts(store: &dyn StoreUnderTest) {
    let turn = running(store).await;
    let asked = prompt();
    ask(store, &turn, &asked).await;
    let twin = store.twin().await;
    let reconciled = twin.lease().acquire().await.unwrap();
    assert_eq!(reconciled.interrupted, 1);
    let told = kinds(&reconciled.frames);
    assert_eq!(told[0], FrameKind::PermissionResolved, "{told:?}");
    assert_eq!(reconciled.frames[0].data["state"], "cancelled");
    assert_eq!(store.prompt(asked.id).await, Some(PromptState::Cancelled));
    let yes = Settled::answered(asked.options[0].clone(), AnsweredBy::Http);
    let journal = store.journal();
    assert_fenced(journal.settle(&turn_ref(&turn), asked.id, &yes).await);
    assert_eq!(store.task_state(turn.fence.task).await, TaskState::Failed);
}

/// What was decided without asking is told once, and blocks nothing.
pub async fn a_decision_leaves_a_row(store: &dyn StoreUnderTest) {
    let turn = running(store).await;
    let asked = prompt();
    let yes = Settled::answered(asked.options[0].clone(), AnsweredBy::Policy);
    let (journal, reference) = (store.journal(), turn_ref(&turn));
    let frames = journal.decided(&reference, &asked, &yes).await.unwrap();
    assert_eq!(kinds(&frames), [FrameKind::PermissionResolved]);
    assert_eq!(frames[0].data["id"], json!(asked.id));
    assert_eq!(frames[0].data["answered_by"], "policy");
    assert_eq!(frames[0].data["request"]["tool"]["id"], "t");
    assert_eq!(frames[0].message_id, Some(turn.assistant_message));
    let again = journal.decided(&reference, &asked, &yes).await.unwrap();
    assert_eq!(again, frames);
    assert_eq!(store.prompt(asked.id).await, Some(PromptState::Answered));
    assert_eq!(store.task_state(turn.fence.task).await, TaskState::Running);
    finish(store, &turn, Outcome::Ok).await;
    let late = journal.decided(&reference, &prompt(), &yes).await;
    assert_fenced(late);
}

/// A notice said again is one, and is over when it is said to be.
pub async fn a_notice_said_again_is_one(store: &dyn StoreUnderTest) {
    let turn = running(store).await;
    let key = turn.key.clone();
    let open = Notice::CircuitOpen {
        chat: key.chat,
        key: key.clone(),
        why: "signal 9".into(),
        rest: Duration::from_secs(60),
    };
    for _ in 0..2 {
        store.journal().notice(&open).await.unwrap();
        assert_eq!(store.open_notices().await, 1);
    }
    for _ in 0..2 {
        let closed = Notice::CircuitClosed { key: key.clone() };
        store.journal().notice(&closed).await.unwrap();
        assert_eq!(store.open_notices().await, 0);
    }
    store.journal().notice(&open).await.unwrap();
    assert_eq!(store.open_notices().await, 1);
}

/// That an agent rests is another notice than that one of its chats does.
pub async fn an_agent_that_rests_is_told_of_beside_its_chats(store: &dyn StoreUnderTest) {
    let turn = running(store).await;
    let (key, agent) = (turn.key.clone(), turn.key.agent.clone());
    let rest = Duration::from_secs(60);
    let chat_rests = Notice::CircuitOpen {
        chat: key.chat,
        key: key.clone(),
        why: "signal 9".into(),
        rest,
    };
    let rests = Notice::AgentRests {
        agent: agent.clone(),
        why: "signal\0 9".into(),
        rest,
    };
    store.journal().notice(&chat_rests).await.unwrap();
    for _ in 0..2 {
        store.journal().notice(&rests).await.unwrap();
        assert_eq!(store.open_notices().await, 2);
    }
    store
        .journal()
        .notice(&Notice::CircuitClosed { key })
        .await
        .unwrap();
    assert_eq!(store.open_notices().await, 1);
    for _ in 0..2 {
        let answers = Notice::AgentAnswers {
            agent: agent.clone(),
        };
        store.journal().notice(&answers).await.unwrap();
        assert_eq!(store.open_notices().await, 0);
    }
}

pub(super) async fn running(store: &dyn StoreUnderTest) -> Assignment {
    acquire(store).await;
    store.insert_task(None, None, AGENT).await;
    let turn = claim_one(store).await;
    open(store, &turn).await;
    turn
}

pub(super) fn prompt() -> NewPrompt {
    let option = |id: &str, kind| AskOption {
        id: id.into(),
        label: id.into(),
        kind,
    };
    NewPrompt {
        id: PromptId::new(),
        request: json!({ "tool": { "id": "t", "title": "run\0 it" } }),
        options: vec![
            option("yes", AskKind::AllowOnce),
            option("no", AskKind::RejectOnce),
        ],
        expires_in: Some(Duration::from_secs(60)),
    }
}

pub(super) async fn ask(
    store: &dyn StoreUnderTest,
    turn: &Assignment,
    prompt: &NewPrompt,
) -> Vec<Frame> {
    store
        .journal()
        .ask(&turn_ref(turn), prompt)
        .await
        .expect("asked")
}

async fn settle(
    store: &dyn StoreUnderTest,
    turn: &Assignment,
    prompt: PromptId,
    settled: &Settled,
) -> Vec<Frame> {
    let (journal, turn) = (store.journal(), turn_ref(turn));
    journal
        .settle(&turn, prompt, settled)
        .await
        .expect("settled")
}

pub(super) fn kinds(frames: &[Frame]) -> Vec<FrameKind> {
    frames.iter().map(|frame| frame.kind).collect()
}
