//! What is written while a turn runs, and who may write it.

use super::parts::{
    acquire, append, assert_fenced, batch, claim_one, end, finish, open, open_turn, turn_ref,
};
use super::{AGENT, StoreUnderTest};
use crate::event::{FrameKind, TurnRef};
use crate::ids::CheckpointId;
use crate::model::{Checkpoint, TurnEnd, Usage};
use crate::outcome::{Outcome, TaskState};
use crate::ports::JournalError;

/// Both messages and three frames exist before the agent hears anything.
pub async fn open_writes_what_exists_before_the_prompt(store: &dyn StoreUnderTest) {
    acquire(store).await;
    store.insert_task(None, None, AGENT).await;
    let turn = claim_one(store).await;
    let frames = open(store, &turn).await;
    let kinds: Vec<FrameKind> = frames.iter().map(|frame| frame.kind).collect();
    use FrameKind::{AgentStatusUpdated, MessageStarted, TaskUpdated};
    assert_eq!(kinds, [MessageStarted, TaskUpdated, AgentStatusUpdated]);
    assert_eq!(frames[1].data["state"], "running");
    assert_eq!(frames[2].data["status"], "working");
    assert!(
        frames
            .iter()
            .all(|frame| frame.task_id == Some(turn.fence.task)
                && frame.message_id == Some(turn.assistant_message)
                && frame.chat_id == Some(turn.key.chat))
    );
    assert_eq!(store.frames(turn.session).await, frames);
    let user = store.message(turn.user_message).await;
    assert_eq!(user, Some(("complete".into(), turn.input.clone())));
    let assistant = store.message(turn.assistant_message).await;
    assert_eq!(assistant, Some(("streaming".into(), String::new())));
}

/// A cancel that came between claim and prompt wins, and the turn ends with it.
pub async fn a_cancelled_turn_is_not_opened(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let task = store.insert_task(None, None, AGENT).await;
    let assignment = claim_one(store).await;
    store.request_cancel(task).await;
    let turn = turn_ref(&assignment);
    let opened = store.journal().open(&turn, &open_turn(&assignment)).await;
    assert!(matches!(opened, Err(JournalError::Cancelled)), "{opened:?}");
    let end = TurnEnd {
        outcome: Outcome::Cancelled,
        detail: None,
        diff: None,
        usage: Usage::default(),
        taken: None,
    };
    store.journal().finish(&turn, &end).await.unwrap();
    assert_eq!(store.task_state(task).await, TaskState::Cancelled);
}

/// The id stays, the commit changes, as often as it is said; an old fence and a
/// checkpoint that the opening did not name change nothing.
pub async fn a_checkpoint_is_replaced_after_the_opening_only(store: &dyn StoreUnderTest) {
    acquire(store).await;
    store.insert_task(None, None, AGENT).await;
    let turn = claim_one(store).await;
    let opened = open_turn(&turn);
    let named = opened.checkpoint.clone().expect("a checkpoint");
    let taken = Checkpoint {
        commit: "taken again".into(),
        ..named.clone()
    };
    let early = store.journal().recheckpoint(&turn_ref(&turn), &taken).await;
    assert!(matches!(early, Err(JournalError::Fenced)), "{early:?}");
    store
        .journal()
        .open(&turn_ref(&turn), &opened)
        .await
        .expect("open");
    for _ in 0..2 {
        let again = store.journal().recheckpoint(&turn_ref(&turn), &taken).await;
        again.expect("replaced");
    }
    assert_eq!(store.checkpoint(&turn).await, Some("taken again".into()));
    let other = Checkpoint {
        id: CheckpointId::new(),
        ..taken.clone()
    };
    let other = store.journal().recheckpoint(&turn_ref(&turn), &other).await;
    assert!(matches!(other, Err(JournalError::Fenced)), "{other:?}");
    finish(store, &turn, Outcome::Ok).await;
    let late = store.journal().recheckpoint(&turn_ref(&turn), &named).await;
    assert!(matches!(late, Err(JournalError::Fenced)), "{late:?}");
    assert_eq!(store.checkpoint(&turn).await, Some("taken again".into()));
}

/// seq counts from 1, over all turns of a session.
pub async fn append_numbers_frames_without_holes(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let session = store.insert_session().await;
    for _ in 0..2 {
        store.insert_task(Some(session), None, AGENT).await;
    }
    for _ in 0..2 {
        let turn = claim_one(store).await;
        let mut published = open(store, &turn).await;
        published.extend(append(store, &turn, &["a", "b"]).await);
        published.extend(append(store, &turn, &[]).await);
        published.extend(append(store, &turn, &["c"]).await);
        published.extend(finish(store, &turn, Outcome::Ok).await);
        let stored = store.frames(session).await;
        assert!(
            stored.ends_with(&published),
            "what is returned is what is stored"
        );
    }
    let stored = store.frames(session).await;
    let seqs: Vec<i64> = stored.iter().map(|frame| frame.seq).collect();
    assert_eq!(seqs, (1..).take(stored.len()).collect::<Vec<i64>>());
}

/// An agent may say anything.
pub async fn nul_characters_are_stored(store: &dyn StoreUnderTest) {
    acquire(store).await;
    store.insert_task(None, None, AGENT).await;
    let turn = claim_one(store).await;
    open(store, &turn).await;
    let frames = append(store, &turn, &["a\0b"]).await;
    assert_eq!(frames.len(), 1);
    let stored = store.frames(turn.session).await;
    assert_eq!(
        stored.last(),
        frames.last(),
        "the subscriber sees what is stored"
    );
    let end = TurnEnd {
        detail: Some("x\0y".into()),
        ..end(Outcome::AgentError)
    };
    store
        .journal()
        .finish(&turn_ref(&turn), &end)
        .await
        .unwrap();
}

/// A fence that shows another attempt or life writes nothing.
pub async fn an_old_attempt_is_fenced(store: &dyn StoreUnderTest) {
    acquire(store).await;
    store.insert_task(None, None, AGENT).await;
    let turn = claim_one(store).await;
    open(store, &turn).await;
    let before = store.frames(turn.session).await;
    for change in [
        |r: &mut TurnRef| r.fence.attempt -= 1,
        |r: &mut TurnRef| r.fence.incarnation += 1,
    ] {
        let mut stale = turn_ref(&turn);
        change(&mut stale);
        assert_fenced(store.journal().open(&stale, &open_turn(&turn)).await);
        assert_fenced(store.journal().append(&stale, &batch(&["late"], 0)).await);
        assert_fenced(store.journal().finish(&stale, &end(Outcome::Ok)).await);
    }
    assert_eq!(store.frames(turn.session).await, before);
    assert_eq!(store.task_state(turn.fence.task).await, TaskState::Running);
}
