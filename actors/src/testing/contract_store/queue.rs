//! What a claim gives, and what it leaves.

use std::time::Duration;

use super::parts::{
    acquire, agents, assert_fenced, backs_off, claim, claim_one, finish, open, open_turn, tasks,
    turn_ref, wait_for_claim,
};
use super::{AGENT, StoreUnderTest};
use crate::ids::SessionKey;
use crate::outcome::{Outcome, TaskState};
use crate::ports::QueueError;

/// Claiming needs a life.
pub async fn without_a_lease_nothing_is_claimed(store: &dyn StoreUnderTest) {
    let task = store.insert_task(None, None, AGENT).await;
    let refused = store.queue().claim(1, &agents()).await;
    assert!(matches!(refused, Err(QueueError::LeaseLost)), "{refused:?}");
    assert_eq!(store.task_state(task).await, TaskState::Pending);
}

/// A claimed task is running and belongs to one.
pub async fn a_second_claim_never_returns_a_leased_task(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let task = store.insert_task(None, None, AGENT).await;
    let claim = claim(store, 5).await;
    assert_eq!(tasks(&claim), [task]);
    assert_eq!(claim.assignments[0].fence.attempt, 1);
    assert_eq!(store.task_state(task).await, TaskState::Running);
    assert!(self::claim(store, 5).await.assignments.is_empty());
}

/// One turn a session, in the order of insertion.
pub async fn one_task_a_session_in_order(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let session = store.insert_session().await;
    let chats = [
        store.insert_chat(session).await,
        store.insert_chat(session).await,
    ];
    let mut inserted = Vec::new();
    for n in 0..4 {
        inserted.push(
            store
                .insert_task(Some(session), Some(chats[n % 2]), AGENT)
                .await,
        );
    }
    for task in inserted {
        let claim = claim(store, 5).await;
        assert_eq!(tasks(&claim), [task]);
        finish(store, &claim.assignments[0], Outcome::Ok).await;
    }
}

/// Different sessions do not wait for each other; the oldest heads go first.
pub async fn sessions_run_side_by_side_oldest_first(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let mut inserted = Vec::new();
    for _ in 0..6 {
        inserted.push(store.insert_task(None, None, AGENT).await);
    }
    assert_eq!(tasks(&claim(store, 2).await), inserted[..2]);
    assert_eq!(tasks(&claim(store, 9).await), inserted[2..]);
}

/// No more than asked for, and the rest is told.
pub async fn credit_bounds_a_claim_and_more_says_so(store: &dyn StoreUnderTest) {
    acquire(store).await;
    for _ in 0..3 {
        store.insert_task(None, None, AGENT).await;
    }
    let first = claim(store, 2).await;
    assert_eq!((first.assignments.len(), first.more), (2, true));
    let second = claim(store, 2).await;
    assert_eq!((second.assignments.len(), second.more), (1, false));
}

/// Entries of busy sessions count, so that their end is a reason to look.
pub async fn a_claim_tells_whether_anything_was_left(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let session = store.insert_session().await;
    store.insert_task(Some(session), None, AGENT).await;
    store.insert_task(Some(session), None, AGENT).await;
    let first = claim(store, 5).await;
    assert!(first.left && !first.more, "the second waits for the first");
    assert!(claim(store, 5).await.left, "it still does");
    finish(store, &first.assignments[0], Outcome::Ok).await;
    let second = claim(store, 5).await;
    assert_eq!(second.assignments.len(), 1);
    assert!(!second.left, "nothing waits");
    assert!(!claim(store, 5).await.left);
}

/// A task for an agent nobody knows waits, and keeps nobody from working.
pub async fn unknown_agents_are_left_alone(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let session = store.insert_session().await;
    let unknown = store.insert_task(Some(session), None, "nobody").await;
    let known = store.insert_task(Some(session), None, AGENT).await;
    assert_eq!(tasks(&claim(store, 5).await), [known]);
    assert_eq!(store.task_state(unknown).await, TaskState::Pending);
}

/// Whoever inserts a task, it has a stream and a key.
pub async fn a_task_gets_session_and_chat(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let session = store.insert_session().await;
    let chat = store.insert_chat(session).await;
    store.insert_task(None, Some(chat), AGENT).await;
    store.insert_task(None, None, AGENT).await;
    let claim = claim(store, 5).await;
    let [with_chat, without] = &claim.assignments[..] else {
        panic!("two sessions, two claims: {claim:?}");
    };
    assert_eq!((with_chat.session, with_chat.key.chat), (session, chat));
    assert_ne!(without.session, session);
    assert_ne!(without.key.chat, chat);
    assert_eq!(without.key.agent.as_str(), AGENT);
}

/// Parked is waiting: nobody gets it early, the delay is told, the attempt grows.
pub async fn a_released_task_is_claimed_again_after_its_delay(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let task = store.insert_task(None, None, AGENT).await;
    let first = claim_one(store).await;
    store
        .queue()
        .release(&first.fence, Some(&backs_off(Duration::from_millis(300))))
        .await
        .unwrap();
    assert_eq!(store.task_state(task).await, TaskState::Pending);
    let parked = claim(store, 1).await;
    assert!(parked.assignments.is_empty());
    let due = parked.next_due.expect("the delay of a parked task is told");
    assert!(due <= Duration::from_millis(300), "{due:?}");
    let second = wait_for_claim(store).await;
    assert_eq!((second.fence.task, second.fence.attempt), (task, 2));
    assert_ne!(second.fence.turn, first.fence.turn);
}

/// A queue that never runs empty keeps no parked task waiting beyond its time.
pub async fn a_parked_task_that_is_due_goes_before_what_came_later(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let parked = store.insert_task(None, None, AGENT).await;
    let first = claim_one(store).await;
    let wait = Duration::from_millis(50);
    store
        .queue()
        .release(&first.fence, Some(&backs_off(wait)))
        .await
        .unwrap();
    for _ in 0..3 {
        store.insert_task(None, None, AGENT).await;
    }
    tokio::time::sleep(wait * 2).await;
    let mut claimed = Vec::new();
    for _ in 0..2 {
        let claim = claim(store, 1).await;
        assert!(claim.left, "others wait");
        claimed.extend(tasks(&claim));
        finish(store, &claim.assignments[0], Outcome::Ok).await;
    }
    assert!(
        claimed.contains(&parked),
        "one claim sees that it is due, the next one brings it: {claimed:?}"
    );
}

/// What follows a parked task for the same chat and agent keeps its place
/// behind it; other chats of the session go on.
pub async fn a_parked_task_holds_back_its_own_chat_only(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let session = store.insert_session().await;
    let (parked, other) = (
        store.insert_chat(session).await,
        store.insert_chat(session).await,
    );
    store.insert_task(Some(session), Some(parked), AGENT).await;
    store.insert_task(Some(session), Some(parked), AGENT).await;
    let free = store.insert_task(Some(session), Some(other), AGENT).await;
    let head = claim_one(store).await;
    store
        .queue()
        .release(&head.fence, Some(&backs_off(Duration::from_secs(3600))))
        .await
        .unwrap();
    let next = claim_one(store).await;
    assert_eq!(next.fence.task, free);
    finish(store, &next, Outcome::Ok).await;
    assert!(claim(store, 5).await.assignments.is_empty());
}

/// Who gave a task back can write nothing more, even when it is claimed again.
pub async fn the_old_fence_of_a_released_task_fails(store: &dyn StoreUnderTest) {
    acquire(store).await;
    store.insert_task(None, None, AGENT).await;
    let old = claim_one(store).await;
    store.queue().release(&old.fence, None).await.unwrap();
    let new = claim_one(store).await;
    assert_fenced(
        store
            .journal()
            .open(&turn_ref(&old), &open_turn(&old))
            .await,
    );
    store.queue().release(&old.fence, None).await.unwrap();
    assert_eq!(store.task_state(new.fence.task).await, TaskState::Running);
    open(store, &new).await;
}

/// A task that waits keeps its session's agent; one that is parked, runs, or is for
/// another agent does not.
pub async fn a_task_that_waits_is_seen_and_no_other(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let session = store.insert_session().await;
    let chat = store.insert_chat(session).await;
    let key = |agent: &str| SessionKey {
        chat,
        agent: agent.into(),
    };
    let waits = async |agent: &str| store.queue().waits(&key(agent)).await.expect("an answer");
    assert!(!waits(AGENT).await);
    store.insert_task(Some(session), Some(chat), AGENT).await;
    assert!(waits(AGENT).await);
    assert!(!waits("other").await);
    let turn = claim_one(store).await;
    assert!(!waits(AGENT).await, "it runs");
    store.insert_task(Some(session), Some(chat), AGENT).await;
    assert!(waits(AGENT).await, "behind the one that runs");
    let parked = backs_off(Duration::from_secs(600));
    store
        .queue()
        .release(&turn.fence, Some(&parked))
        .await
        .expect("given back");
    let next = store.queue().claim(5, &agents()).await.expect("a claim");
    assert!(next.assignments.is_empty(), "what follows waits too");
    let other = SessionKey {
        chat: store.insert_chat(session).await,
        agent: AGENT.into(),
    };
    assert!(!store.queue().waits(&other).await.expect("an answer"));
    let unnamed = store.insert_chat(session).await;
    store.insert_task(Some(session), Some(unnamed), "").await;
    for (agent, seen) in [(AGENT, true), ("other", false)] {
        let key = SessionKey {
            chat: unnamed,
            agent: agent.into(),
        };
        let waits = store.queue().waits(&key).await.expect("an answer");
        assert_eq!(waits, seen, "what names no agent is the default agent's");
    }
}
