//! What every store promises the tree: one suite for the real one and the fake.
//!
//! [`store_contract!`](crate::store_contract) makes a test of each promise. A
//! promise gets an empty store whose node holds no lease yet.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;

use crate::event::{Batch, Frame, FrameDraft, FrameKind, PartKind, PartWrite, TurnRef};
use crate::ids::{AgentName, ChatId, CheckpointId, PromptId, SessionId, TaskId, WorktreeId};
use crate::model::{
    Assignment, BlobRef, Checkpoint, Continuity, Diff, FileChange, LinkFacts, Operation,
    PendingChange, Resume, TurnEnd, Usage, Worktree,
};
use crate::outcome::{Outcome, TaskState};
use crate::ports::{
    Claim, Journal, JournalError, LinkNote, LinkStatus, NodeLease, OpenTurn, QueueError, TaskQueue,
};
use crate::prompt::PromptState;

pub use super::contract_prompts::{
    a_notice_said_again_is_one, a_prompt_blocks_its_task, a_prompt_is_settled_once,
    a_task_is_blocked_until_its_last_prompt_is_settled, take_over_withdraws_the_prompts,
    the_end_of_a_turn_closes_its_prompts,
};

/// The agent of every task here, unless it says otherwise.
pub const AGENT: &str = "demo";

/// Longest wait for anything that takes time. The promises wait on the clock of
/// tokio, so a fake under paused time passes at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// A store with what a test needs to see besides the ports.
#[async_trait]
pub trait StoreUnderTest: Send + Sync {
    /// Where tasks wait.
    fn queue(&self) -> &dyn TaskQueue;
    /// The node's lease.
    fn lease(&self) -> &dyn NodeLease;
    /// Where turns are written down.
    fn journal(&self) -> &dyn Journal;

    /// A second process on the same data directory: same database, same node,
    /// no life of its own yet.
    async fn twin(&self) -> Box<dyn StoreUnderTest>;
    /// A session of a project.
    async fn insert_session(&self) -> SessionId;
    /// A tab of it.
    async fn insert_chat(&self, session: SessionId) -> ChatId;
    /// A pending task, as any program inserts it; the store finds session and
    /// chat where none is given.
    async fn insert_task(
        &self,
        session: Option<SessionId>,
        chat: Option<ChatId>,
        agent: &str,
    ) -> TaskId;
    /// Asks for the end of a task.
    async fn request_cancel(&self, task: TaskId);
    /// `tasks.state`.
    async fn task_state(&self, task: TaskId) -> TaskState;
    /// Outcome of the task's latest ended turn.
    async fn outcome(&self, task: TaskId) -> Option<Outcome>;
    /// Everything in the session's stream, by seq.
    async fn frames(&self, session: SessionId) -> Vec<Frame>;
    /// Pending changes of the session, by path.
    async fn changes(&self, session: SessionId) -> Vec<PendingChange>;
    /// The commit of the checkpoint that the turn's row names.
    async fn checkpoint(&self, turn: &Assignment) -> Option<String>;
    /// How a prompt stands, if it exists.
    async fn prompt(&self, prompt: PromptId) -> Option<PromptState>;
    /// Notices that are open.
    async fn open_notices(&self) -> usize;
    /// Status and content of a message, if it exists.
    async fn message(&self, message: crate::ids::MessageId) -> Option<(String, String)>;
}

/// Makes a test of each promise. The argument is an expression, awaited in each
/// test, that gives a fresh `impl StoreUnderTest`; `paused` before it stops the
/// clock for a store that has no other.
#[macro_export]
macro_rules! store_contract {
    (@promises $test:tt $store:expr) => {
        $crate::store_contract! { @tests $test $store;
            without_a_lease_nothing_is_claimed,
            a_second_claim_never_returns_a_leased_task,
            one_task_a_session_in_order,
            sessions_run_side_by_side_oldest_first,
            credit_bounds_a_claim_and_more_says_so,
            a_claim_tells_whether_anything_was_left,
            unknown_agents_are_left_alone,
            a_task_gets_session_and_chat,
            a_released_task_is_claimed_again_after_its_delay,
            a_parked_task_holds_back_its_own_chat_only,
            the_old_fence_of_a_released_task_fails,
            open_writes_what_exists_before_the_prompt,
            a_checkpoint_is_replaced_after_the_opening_only,
            append_numbers_frames_without_holes,
            nul_characters_are_stored,
            an_old_attempt_is_fenced,
            finish_happens_once,
            each_outcome_leaves_its_state,
            a_turn_may_end_unprompted,
            a_finished_session_takes_its_next_task,
            take_over_requeues_the_unprompted_with_a_higher_attempt,
            take_over_interrupts_the_prompted,
            take_over_ends_the_cancelled,
            a_cancelled_turn_is_not_opened,
            an_old_life_cannot_renew_or_claim,
            a_released_lease_claims_nothing,
            the_next_turn_knows_the_agents_session,
            the_next_turn_knows_worktree_and_tree,
            a_change_with_the_same_content_keeps_its_row,
            an_unread_worktree_leaves_the_changes,
            a_prompt_blocks_its_task,
            a_prompt_is_settled_once,
            a_task_is_blocked_until_its_last_prompt_is_settled,
            the_end_of_a_turn_closes_its_prompts,
            take_over_withdraws_the_prompts,
            a_notice_said_again_is_one,
        }
    };
    (@tests $test:tt $store:expr; $($promise:ident),+ $(,)?) => {
        $($crate::store_contract! { @test $test $promise $store })+
    };
    (@test ($($test:tt)*) $promise:ident $store:expr) => {
        #[$($test)*]
        async fn $promise() {
            let store = $store.await;
            $crate::testing::contract_store::$promise(&store).await;
        }
    };
    (paused $store:expr) => {
        $crate::store_contract! { @promises (tokio::test(start_paused = true)) $store }
    };
    ($store:expr) => {
        $crate::store_contract! { @promises (tokio::test) $store }
    };
}

// --- the queue ---------------------------------------------------------------

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
        .release(&first.fence, Duration::from_millis(300))
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
        .release(&head.fence, Duration::from_secs(3600))
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
    store
        .queue()
        .release(&old.fence, Duration::ZERO)
        .await
        .unwrap();
    let new = claim_one(store).await;
    assert_fenced(
        store
            .journal()
            .open(&turn_ref(&old), &open_turn(&old))
            .await,
    );
    store
        .queue()
        .release(&old.fence, Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(store.task_state(new.fence.task).await, TaskState::Running);
    open(store, &new).await;
}

// --- the journal -------------------------------------------------------------

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

// --- the lease ---------------------------------------------------------------

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
    };
    store.journal().finish(&turn, &end).await.unwrap();
    assert_eq!(store.task_state(task).await, TaskState::Cancelled);
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

// --- what the next turn needs ------------------------------------------------

/// A returning agent finds its own session, in the chat it was used in.
pub async fn the_next_turn_knows_the_agents_session(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let session = store.insert_session().await;
    let chats = [
        store.insert_chat(session).await,
        store.insert_chat(session).await,
    ];
    for chat in [chats[0], chats[0], chats[1]] {
        store.insert_task(Some(session), Some(chat), AGENT).await;
    }
    let resume = Resume {
        agent_session_id: "s-1".into(),
        home_id: "home".into(),
        config_hash: "hash".into(),
    };
    let first = claim_one(store).await;
    assert_eq!(first.resume, None);
    let facts = LinkFacts {
        pid: Some(1),
        resume: resume.clone(),
        backend: "acp_warm".into(),
        continuity: Continuity::New,
    };
    for (status, facts) in [
        (LinkStatus::Active, Some(facts)),
        (LinkStatus::Idle, None),
        (LinkStatus::Closed, None),
    ] {
        let note = LinkNote {
            key: first.key.clone(),
            session,
            status,
            facts,
        };
        store.journal().note_link(&note).await.unwrap();
    }
    finish(store, &first, Outcome::Ok).await;
    let second = claim_one(store).await;
    assert_eq!(second.resume, Some(resume));
    finish(store, &second, Outcome::Ok).await;
    assert_eq!(
        claim_one(store).await.resume,
        None,
        "another chat is another context"
    );
}

/// Same worktree for the session's whole life, and the tree it was left with.
pub async fn the_next_turn_knows_worktree_and_tree(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let session = store.insert_session().await;
    for _ in 0..3 {
        store.insert_task(Some(session), None, AGENT).await;
    }
    let first = claim_one(store).await;
    assert_eq!((&first.worktree.existing, &first.last_tree), (&None, &None));
    let opening = open_turn(&first);
    store
        .journal()
        .open(&turn_ref(&first), &opening)
        .await
        .unwrap();
    finish_with(store, &first, &[]).await;
    let second = claim_one(store).await;
    assert_eq!(second.worktree.existing.as_ref(), Some(&opening.worktree));
    assert_eq!(second.last_tree.as_deref(), Some(TREE));
    finish(store, &second, Outcome::Stalled).await;
    assert_eq!(
        claim_one(store).await.last_tree,
        None,
        "an unread worktree is unknown"
    );
}

/// A row changes only when its file does: same content, same id.
pub async fn a_change_with_the_same_content_keeps_its_row(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let session = store.insert_session().await;
    for _ in 0..3 {
        store.insert_task(Some(session), None, AGENT).await;
    }
    let told = |frames: &[Frame]| {
        frames
            .iter()
            .any(|frame| frame.kind == FrameKind::PendingChangesUpdated)
    };
    let turn = claim_one(store).await;
    open(store, &turn).await;
    let frames = finish_with(store, &turn, &[("a", "1"), ("b", "1"), ("c", "1")]).await;
    assert!(told(&frames));
    let before = store.changes(session).await;
    assert_eq!(paths(&before), ["a", "b", "c"]);

    let turn = claim_one(store).await;
    open(store, &turn).await;
    let frames = finish_with(store, &turn, &[("a", "1"), ("b", "2"), ("d", "1")]).await;
    assert!(told(&frames));
    let after = store.changes(session).await;
    assert_eq!(paths(&after), ["a", "b", "d"]);
    assert_eq!(after[0].id, before[0].id);
    assert_ne!(after[1].id, before[1].id);

    let turn = claim_one(store).await;
    open(store, &turn).await;
    let frames = finish_with(store, &turn, &[("a", "1"), ("b", "2"), ("d", "1")]).await;
    assert!(!told(&frames), "nothing changed, nothing is told");
    assert_eq!(store.changes(session).await, after);
}

/// No diff is no news.
pub async fn an_unread_worktree_leaves_the_changes(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let session = store.insert_session().await;
    for _ in 0..2 {
        store.insert_task(Some(session), None, AGENT).await;
    }
    let turn = claim_one(store).await;
    open(store, &turn).await;
    finish_with(store, &turn, &[("a", "1")]).await;
    let before = store.changes(session).await;
    let turn = claim_one(store).await;
    open(store, &turn).await;
    finish(store, &turn, Outcome::AgentCrashed).await;
    assert_eq!(store.changes(session).await, before);
}

// --- helpers -----------------------------------------------------------------

/// The tree that [`finish_with`] reports.
const TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

/// The agents that claims here know.
#[must_use]
pub fn agents() -> Vec<AgentName> {
    vec![AGENT.into(), "other".into()]
}

/// Starts a life that finds nothing to settle.
pub async fn acquire(store: &dyn StoreUnderTest) {
    let found = store.lease().acquire().await.expect("the lease is free");
    assert_eq!(
        (found.requeued, found.interrupted),
        (0, 0),
        "nothing was left behind"
    );
}

/// One claim for the known agents.
pub async fn claim(store: &dyn StoreUnderTest, credit: usize) -> Claim {
    store
        .queue()
        .claim(credit, &agents())
        .await
        .expect("the lease is held")
}

/// The one head that must be there.
pub async fn claim_one(store: &dyn StoreUnderTest) -> Assignment {
    let mut claim = claim(store, 1).await;
    claim.assignments.pop().expect("a task waits")
}

async fn wait_for_claim(store: &dyn StoreUnderTest) -> Assignment {
    let wait = async {
        loop {
            if let Some(assignment) = claim(store, 1).await.assignments.pop() {
                return assignment;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("the parked task comes due")
}

fn tasks(claim: &Claim) -> Vec<TaskId> {
    claim
        .assignments
        .iter()
        .map(|assignment| assignment.fence.task)
        .collect()
}

fn paths(changes: &[PendingChange]) -> Vec<&str> {
    changes.iter().map(|change| change.path.as_str()).collect()
}

/// The turn of a claimed task.
#[must_use]
pub fn turn_ref(turn: &Assignment) -> TurnRef {
    TurnRef {
        fence: turn.fence,
        session: turn.session,
        chat: turn.key.chat,
        message: turn.assistant_message,
    }
}

/// A worktree at a path of its own, with a checkpoint; the session's worktree
/// if it has one.
#[must_use]
pub fn open_turn(turn: &Assignment) -> OpenTurn {
    let worktree = turn.worktree.existing.clone().unwrap_or_else(|| Worktree {
        id: WorktreeId::new(),
        path: PathBuf::from(format!("/worktrees/{}", turn.session)),
        branch: format!("session-{}", turn.session),
        base_commit: "b0".into(),
        baseline: "b0".into(),
    });
    OpenTurn {
        input: turn.input.clone(),
        user_message: turn.user_message,
        worktree,
        checkpoint: Some(Checkpoint {
            id: CheckpointId::new(),
            commit: "c0".into(),
            tree: TREE.into(),
        }),
    }
}

/// Opens the turn.
pub async fn open(store: &dyn StoreUnderTest, turn: &Assignment) -> Vec<Frame> {
    let opened = store
        .journal()
        .open(&turn_ref(turn), &open_turn(turn))
        .await;
    opened.expect("the turn is ours")
}

/// A delta frame each, and one text part (the first of the message) of all.
#[must_use]
pub fn batch(words: &[&str], sequence: i32) -> Batch {
    let part = PartWrite {
        sequence,
        kind: PartKind::Text,
        payload: json!({ "text": words.concat() }),
    };
    let delta = |text: &&str| FrameDraft {
        kind: FrameKind::Delta,
        data: json!({ "text": text }),
    };
    Batch {
        parts: if words.is_empty() {
            Vec::new()
        } else {
            vec![part]
        },
        frames: words.iter().map(delta).collect(),
        usage: None,
        first_token: !words.is_empty(),
        ..Batch::default()
    }
}

/// Appends a [`batch`].
pub async fn append(store: &dyn StoreUnderTest, turn: &Assignment, words: &[&str]) -> Vec<Frame> {
    let stored = store
        .journal()
        .append(&turn_ref(turn), &batch(words, 0))
        .await;
    stored.expect("the turn is ours")
}

fn end(outcome: Outcome) -> TurnEnd {
    TurnEnd {
        outcome,
        detail: None,
        diff: None,
        usage: Usage::default(),
    }
}

/// Ends the turn without a diff.
pub async fn finish(store: &dyn StoreUnderTest, turn: &Assignment, outcome: Outcome) -> Vec<Frame> {
    let frames = store.journal().finish(&turn_ref(turn), &end(outcome)).await;
    frames.expect("the turn is ours")
}

/// Ends the turn well, with files and their content.
pub async fn finish_with(
    store: &dyn StoreUnderTest,
    turn: &Assignment,
    files: &[(&str, &str)],
) -> Vec<Frame> {
    let changes = files
        .iter()
        .map(|(path, content)| change(path, content))
        .collect();
    let diff = Diff {
        tree: TREE.into(),
        changes,
        ..Diff::default()
    };
    let end = TurnEnd {
        diff: Some(diff),
        ..end(Outcome::Ok)
    };
    store
        .journal()
        .finish(&turn_ref(turn), &end)
        .await
        .expect("the turn is ours")
}

/// A new file.
#[must_use]
pub fn change(path: &str, content: &str) -> FileChange {
    FileChange {
        path: path.into(),
        old_path: None,
        operation: Operation::Create,
        before: None,
        after: Some(BlobRef {
            id: content.into(),
            mode: 0o100_644,
            size: 1,
        }),
        diff: format!("+{content}"),
        truncated: false,
        binary: false,
        secret: false,
    }
}

pub(super) fn assert_fenced<T: std::fmt::Debug>(result: Result<T, JournalError>) {
    assert!(matches!(result, Err(JournalError::Fenced)), "{result:?}");
}
