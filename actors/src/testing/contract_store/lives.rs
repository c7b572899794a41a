//! What a node's lease is worth: what a new life finds, what an old one may do.

use std::collections::BTreeSet;

use super::parts::{
    acquire, agents, append, assert_fenced, batch, claim, claim_one, open, open_turn, turn_ref,
};
use super::{AGENT, StoreUnderTest};
use crate::event::FrameKind;
use crate::outcome::{Outcome, TaskState};
use crate::ports::QueueError;

/// Nothing was said to the agent, so nothing is lost.
pub async fn take_over_requeues_the_unprompted_with_a_higher_attempt(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let task = store.insert_task(None, None, AGENT).await;
    let old = claim_one(store).await;
    let twin = store.twin().await;
    let found = twin.lease().acquire().await.unwrap();
    assert_eq!((found.requeued, found.interrupted), (1, 0));
    let new = claim_one(&*twin).await;
    assert_eq!((new.fence.task, new.fence.attempt), (task, 2));
    assert!(new.fence.incarnation > old.fence.incarnation);
    assert_fenced(
        store
            .journal()
            .open(&turn_ref(&old), &open_turn(&old))
            .await,
    );
}

/// The agent may have done anything, so a human decides.
pub async fn take_over_interrupts_the_prompted(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let task = store.insert_task(None, None, AGENT).await;
    let turn = claim_one(store).await;
    open(store, &turn).await;
    append(store, &turn, &["half an ans"]).await;
    let twin = store.twin().await;
    let found = twin.lease().acquire().await.unwrap();
    assert_eq!((found.requeued, found.interrupted), (0, 1));
    let kinds: BTreeSet<&str> = found
        .frames
        .iter()
        .map(|frame| frame.kind.as_str())
        .collect();
    for kind in [
        FrameKind::TaskUpdated,
        FrameKind::MessageComplete,
        FrameKind::AgentStatusUpdated,
    ] {
        assert!(kinds.contains(kind.as_str()), "{kinds:?}");
    }
    assert!(store.frames(turn.session).await.ends_with(&found.frames));
    assert_eq!(store.task_state(task).await, TaskState::Failed);
    assert_eq!(store.outcome(task).await, Some(Outcome::Interrupted));
    let message = store.message(turn.assistant_message).await;
    assert_eq!(message, Some(("interrupted".into(), "half an ans".into())));
    assert_fenced(
        store
            .journal()
            .append(&turn_ref(&turn), &batch(&["wer"], 1))
            .await,
    );
    assert!(claim(&*twin, 5).await.assignments.is_empty());
}

/// A cancel outlives the process it was meant for.
pub async fn take_over_ends_the_cancelled(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let (prompted, unprompted) = (
        store.insert_task(None, None, AGENT).await,
        store.insert_task(None, None, AGENT).await,
    );
    let claim = claim(store, 2).await;
    open(store, &claim.assignments[0]).await;
    store.request_cancel(prompted).await;
    store.request_cancel(unprompted).await;
    let twin = store.twin().await;
    let found = twin.lease().acquire().await.unwrap();
    assert_eq!((found.requeued, found.interrupted), (0, 0));
    for task in [prompted, unprompted] {
        assert_eq!(store.task_state(task).await, TaskState::Cancelled);
        assert_eq!(store.outcome(task).await, Some(Outcome::Cancelled));
    }
}

/// A process that lost its life to another notices at its next word.
pub async fn an_old_life_cannot_renew_or_claim(store: &dyn StoreUnderTest) {
    acquire(store).await;
    store.lease().renew().await.unwrap();
    let twin = store.twin().await;
    acquire(&*twin).await;
    store.insert_task(None, None, AGENT).await;
    assert!(matches!(
        store.lease().renew().await,
        Err(QueueError::LeaseLost)
    ));
    assert!(matches!(
        store.queue().claim(1, &agents()).await,
        Err(QueueError::LeaseLost)
    ));
    // nor may it end the new one's
    let _ = store.lease().release().await;
    claim_one(&*twin).await;
}

/// A clean stop ends the right to claim, and a new life has it again.
pub async fn a_released_lease_claims_nothing(store: &dyn StoreUnderTest) {
    acquire(store).await;
    store.insert_task(None, None, AGENT).await;
    store.lease().release().await.unwrap();
    assert!(matches!(
        store.queue().claim(1, &agents()).await,
        Err(QueueError::LeaseLost)
    ));
    acquire(store).await;
    claim_one(store).await;
}
