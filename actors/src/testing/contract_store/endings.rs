//! How a turn ends, once, and what it opens for the next.

use super::parts::{
    acquire, append, assert_fenced, batch, claim, claim_one, end, finish, open, turn_ref,
};
use super::{AGENT, StoreUnderTest};
use crate::event::FrameKind;
use crate::outcome::{Outcome, TaskState};

/// The second terminal event of a turn finds it ended.
pub async fn finish_happens_once(store: &dyn StoreUnderTest) {
    acquire(store).await;
    store.insert_task(None, None, AGENT).await;
    let turn = claim_one(store).await;
    open(store, &turn).await;
    append(store, &turn, &["all ", "done"]).await;
    let frames = finish(store, &turn, Outcome::Ok).await;
    assert!(
        frames
            .iter()
            .any(|frame| frame.kind == FrameKind::MessageComplete)
    );
    let after = store.frames(turn.session).await;
    assert_fenced(
        store
            .journal()
            .finish(&turn_ref(&turn), &end(Outcome::Stalled))
            .await,
    );
    assert_fenced(
        store
            .journal()
            .append(&turn_ref(&turn), &batch(&["late"], 2))
            .await,
    );
    assert_eq!(store.frames(turn.session).await, after);
    assert_eq!(store.outcome(turn.fence.task).await, Some(Outcome::Ok));
    let message = store.message(turn.assistant_message).await;
    assert_eq!(message, Some(("complete".into(), "all done".into())));
}

/// Task, outcome and message agree, and the stream says so.
pub async fn each_outcome_leaves_its_state(store: &dyn StoreUnderTest) {
    acquire(store).await;
    for &outcome in Outcome::ALL {
        let task = store.insert_task(None, None, AGENT).await;
        let turn = claim_one(store).await;
        open(store, &turn).await;
        let frames = finish(store, &turn, outcome).await;
        assert_eq!(store.task_state(task).await, outcome.task_state());
        assert_eq!(store.outcome(task).await, Some(outcome));
        let told = frames
            .iter()
            .find(|frame| frame.kind == FrameKind::TaskUpdated);
        assert_eq!(
            told.expect("the end is told").data["outcome"],
            outcome.as_str()
        );
        let (status, _) = store
            .message(turn.assistant_message)
            .await
            .expect("it was opened");
        assert_eq!(status, outcome.message_status());
    }
}

/// What could not start ends like everything else, with both messages.
pub async fn a_turn_may_end_unprompted(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let task = store.insert_task(None, None, AGENT).await;
    let turn = claim_one(store).await;
    finish(store, &turn, Outcome::NoStart).await;
    assert_eq!(store.task_state(task).await, TaskState::Failed);
    assert!(store.message(turn.user_message).await.is_some());
    let (status, _) = store
        .message(turn.assistant_message)
        .await
        .expect("it exists");
    assert_eq!(status, "failed");
}

/// The gate opens with the end of the turn.
pub async fn a_finished_session_takes_its_next_task(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let session = store.insert_session().await;
    store.insert_task(Some(session), None, AGENT).await;
    let next = store.insert_task(Some(session), None, AGENT).await;
    let turn = claim_one(store).await;
    assert!(claim(store, 1).await.assignments.is_empty());
    finish(store, &turn, Outcome::AgentCrashed).await;
    assert_eq!(claim_one(store).await.fence.task, next);
}
