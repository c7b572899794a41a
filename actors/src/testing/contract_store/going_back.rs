//! Promises about orders that bring a session back to what it was.

use super::detached::{asking, detach, note};
use super::operations::{asked, assert_code, begin, diff, plan};
use super::parts::{acquire, claim, claim_one, finish, finish_with, open_turn, turn_ref};
use super::prompts::{ask, prompt};
use super::{AGENT, StoreUnderTest};
use crate::event::FrameKind;
use crate::ids::{ChatId, SessionId};
use crate::model::Assignment;
use crate::operation::Abandoned;
use crate::outcome::{Outcome, TaskState};
use crate::ports::OperationsError;
use crate::prompt::{AnsweredBy, PromptState, Settled};
use crate::review::{Order, Plan};

/// It shares the chat with [`AGENT`].
const OTHER_AGENT: &str = "other";

/// An order that nothing stands in the way of.
async fn carry_out(store: &dyn StoreUnderTest, session: SessionId, order: Order) {
    let started = begin(store, session, order).await;
    let (operations, plan) = (store.operations(), plan(&started));
    let intended = operations.intend(&started.owner, &plan).await;
    intended.expect("ours");
    let none = diff(Vec::new());
    let completed = operations.complete(&started.owner, &plan, &none).await;
    completed.expect("ours");
}

struct Talk {
    session: SessionId,
    turns: Vec<Assignment>,
    chats: [ChatId; 2],
}

/// Two turns of one chat, then one of another.
async fn talked(store: &dyn StoreUnderTest) -> Talk {
    acquire(store).await;
    let session = store.insert_session().await;
    let chats = [
        store.insert_chat(session).await,
        store.insert_chat(session).await,
    ];
    let mut turns = Vec::new();
    for chat in [chats[0], chats[0], chats[1]] {
        store.insert_task(Some(session), Some(chat), AGENT).await;
        let turn = claim_one(store).await;
        open_with_checkpoint(store, &turn).await;
        finish_with(store, &turn, &[("a", "1")]).await;
        turns.push(turn);
    }
    Talk {
        session,
        turns,
        chats,
    }
}

async fn open_with_checkpoint(store: &dyn StoreUnderTest, turn: &Assignment) {
    let opening = open_turn(turn);
    let opened = store.journal().open(&turn_ref(turn), &opening).await;
    opened.expect("ours");
}

/// A restore trims its chat from the checkpoint's turn on and marks the others,
/// whose work must not go unasked.
pub async fn a_restore_trims_its_chat_and_marks_the_others(store: &dyn StoreUnderTest) {
    let talk = talked(store).await;
    let checkpoint = store
        .checkpoint_id(&talk.turns[1])
        .await
        .expect("a checkpoint");
    let order = |consent| Order::Restore {
        checkpoint,
        chat: talk.chats[0],
        consent,
        retries: None,
    };
    let refused = store
        .operations()
        .begin(&asked(talk.session, order(false)))
        .await;
    match refused {
        Err(OperationsError::NeedsConsent(chats)) => assert_eq!(chats, [talk.chats[1]]),
        other => panic!("{other:?}"),
    }
    let started = begin(store, talk.session, order(true)).await;
    let target = started.work.checkpoint.as_ref().expect("a checkpoint");
    assert_eq!((target.id, target.commit.as_str()), (checkpoint, "c0"));
    let plan = plan(&started);
    let operations = store.operations();
    operations
        .intend(&started.owner, &plan)
        .await
        .expect("ours");
    let frames = operations
        .complete(&started.owner, &plan, &diff(Vec::new()))
        .await
        .expect("ours");
    let kinds: Vec<_> = frames
        .iter()
        .map(|frame| (frame.kind, frame.chat_id))
        .collect();
    assert_eq!(
        kinds,
        [
            (FrameKind::MessagesTrimmed, Some(talk.chats[0])),
            (FrameKind::MessageComplete, Some(talk.chats[1])),
            (FrameKind::PendingChangesUpdated, None),
        ]
    );
    let kept = [true, false, true];
    for (turn, kept) in talk.turns.iter().zip(kept) {
        for message in [turn.user_message, turn.assistant_message] {
            let there = store.message(message).await.is_some();
            assert_eq!(there, kept, "message {message}");
        }
    }
    assert!(store.changes(talk.session).await.is_empty());
}

/// A turn that Hearth interrupted and whose task is to be tried again.
async fn interrupted(store: &dyn StoreUnderTest) -> (Assignment, Order) {
    acquire(store).await;
    let session = store.insert_session().await;
    let chat = store.insert_chat(session).await;
    let task = store.insert_task(Some(session), Some(chat), AGENT).await;
    store.wants_retry(task).await;
    let turn = claim_one(store).await;
    open_with_checkpoint(store, &turn).await;
    finish(store, &turn, Outcome::Interrupted).await;
    let order = Order::Retry {
        checkpoint: store.checkpoint_id(&turn).await.expect("a checkpoint"),
        chat,
        task,
    };
    (turn, order)
}

async fn retry(store: &dyn StoreUnderTest, turn: &Assignment, order: &Order) -> Assignment {
    let started = begin(store, turn.session, order.clone()).await;
    let plan = plan(&started);
    let operations = store.operations();
    let intended = operations.intend(&started.owner, &plan).await;
    intended.expect("ours");
    assert!(
        claim(store, 5).await.assignments.is_empty(),
        "nothing is queued before the files are back"
    );
    let none = diff(Vec::new());
    for _ in 0..2 {
        let completed = operations.complete(&started.owner, &plan, &none).await;
        completed.expect("ours");
    }
    let mut queued = claim(store, 5).await.assignments;
    assert_eq!(queued.len(), 1, "one, however often it is completed");
    queued.remove(0)
}

/// The files, and with them the new task: both or neither.
pub async fn a_retry_goes_back_and_queues_its_task_once(store: &dyn StoreUnderTest) {
    let (turn, order) = interrupted(store).await;
    let left = begin(store, turn.session, order.clone()).await;
    let abandoned = store
        .operations()
        .abandon(&left.owner, &Abandoned::default())
        .await;
    abandoned.expect("ours");
    assert!(
        claim(store, 5).await.assignments.is_empty(),
        "what was not carried out queues nothing"
    );
    let again = retry(store, &turn, &order).await;
    assert_ne!(again.fence.task, turn.fence.task);
    assert_eq!(
        (again.session, &again.key, &again.input),
        (turn.session, &turn.key, &turn.input)
    );
    let trimmed = store.message(turn.assistant_message).await;
    assert_eq!(trimmed, None, "the chat went back too");
    finish(store, &again, Outcome::Ok).await;
    let refused = store.operations().begin(&asked(turn.session, order)).await;
    assert_code(refused, "not_retryable");
    assert_eq!(store.task_state(turn.fence.task).await, TaskState::Failed);
}

/// Looking at what it left makes it no later.
pub async fn a_retry_may_come_behind_a_comparison(store: &dyn StoreUnderTest) {
    let (turn, order) = interrupted(store).await;
    let left = store.operations().interrupted().await.unwrap();
    let orders: Vec<Order> = left.into_iter().map(|asked| asked.order).collect();
    let compare = Order::Compare {
        task: turn.fence.task,
    };
    assert_eq!(orders, [order.clone(), compare.clone()]);
    let started = begin(store, turn.session, compare).await;
    let operations = store.operations();
    let plan = Plan::nothing(started.work.id, started.work.worktree.clone());
    operations.intend(&started.owner, &plan).await.unwrap();
    let none = diff(Vec::new());
    operations
        .complete(&started.owner, &plan, &none)
        .await
        .unwrap();
    retry(store, &turn, &order).await;
}

/// Whoever asks has looked before something else worked: it is looked at again
/// when nothing can come in between any more.
pub async fn a_retry_comes_too_late_when_something_worked_since(store: &dyn StoreUnderTest) {
    let (turn, order) = interrupted(store).await;
    let unprompted = store.insert_task(Some(turn.session), None, AGENT).await;
    let later = claim_one(store).await;
    assert_eq!(later.fence.task, unprompted);
    let busy = store
        .operations()
        .begin(&asked(turn.session, order.clone()))
        .await;
    assert!(matches!(busy, Err(OperationsError::Busy(_))), "{busy:?}");
    open_with_checkpoint(store, &later).await;
    finish_with(store, &later, &[("a", "its work")]).await;
    let refused = store.operations().begin(&asked(turn.session, order)).await;
    assert_code(refused, "not_retryable");
    assert!(
        claim(store, 5).await.assignments.is_empty(),
        "nothing is queued"
    );
    let kept = store.message(turn.assistant_message).await;
    assert!(kept.is_some(), "nothing was trimmed");
}

/// A task that asked in its first attempt and was interrupted in its second one.
async fn interrupted_later(
    store: &dyn StoreUnderTest,
    between: impl AsyncFnOnce(&Assignment),
) -> (Assignment, Order) {
    acquire(store).await;
    let session = store.insert_session().await;
    let chat = store.insert_chat(session).await;
    store.insert_task(Some(session), Some(chat), AGENT).await;
    let before = claim_one(store).await;
    open_with_checkpoint(store, &before).await;
    finish_with(store, &before, &[("a", "1")]).await;
    let task = store.insert_task(Some(session), Some(chat), AGENT).await;
    store.wants_retry(task).await;
    let turn = claim_one(store).await;
    open_with_checkpoint(store, &turn).await;
    note(store, &turn).await;
    let asked = prompt();
    ask(store, &turn, &asked).await;
    assert_eq!(detach(store, &turn).await.len(), 3);
    between(&turn).await;
    let yes = Settled::answered(asked.options[0].clone(), AnsweredBy::Http);
    assert_eq!(store.answer_detached(asked.id, &yes).await.len(), 2);
    let again = claim_one(store).await;
    assert_eq!(again.fence.task, task);
    open_with_checkpoint(store, &again).await;
    finish(store, &again, Outcome::Interrupted).await;
    let order = Order::Retry {
        checkpoint: store.checkpoint_id(&turn).await.expect("a checkpoint"),
        chat,
        task,
    };
    (again, order)
}

/// The files would go back to before the first attempt: what worked between two of
/// them, in the same chat too, and what people did with the files, must not be lost.
pub async fn a_retry_comes_too_late_when_something_worked_between_two_attempts(
    store: &dyn StoreUnderTest,
) {
    let (turn, order) = interrupted_later(store, async |_| ()).await;
    let again = retry(store, &turn, &order).await;
    finish(store, &again, Outcome::Ok).await;
    let other_agent = async |turn: &Assignment| {
        let (session, chat) = (Some(turn.session), Some(turn.chat));
        store.insert_task(session, chat, OTHER_AGENT).await;
        let other = claim_one(store).await;
        assert_eq!(other.key.agent.as_str(), OTHER_AGENT);
        open_with_checkpoint(store, &other).await;
        finish_with(store, &other, &[("a", "its work")]).await;
    };
    let (turn, order) = interrupted_later(store, other_agent).await;
    let refused = store.operations().begin(&asked(turn.session, order)).await;
    assert_code(refused, "not_retryable");
    let applied = async |turn: &Assignment| {
        let all = Order::Apply {
            changes: Vec::new(),
            secrets: false,
        };
        carry_out(store, turn.session, all).await;
    };
    let (turn, order) = interrupted_later(store, applied).await;
    let refused = store.operations().begin(&asked(turn.session, order)).await;
    assert_code(refused, "not_retryable");
}

/// Who dismisses a task while its files go back wants no other turn of it.
pub async fn a_retry_that_is_dismissed_meanwhile_queues_nothing(store: &dyn StoreUnderTest) {
    let (turn, order) = interrupted(store).await;
    let started = begin(store, turn.session, order).await;
    let plan = plan(&started);
    let operations = store.operations();
    let intended = operations.intend(&started.owner, &plan).await;
    intended.expect("ours");
    store.dismiss(turn.fence.task).await;
    let completed = operations
        .complete(&started.owner, &plan, &diff(Vec::new()))
        .await;
    completed.expect("ours");
    assert!(claim(store, 5).await.assignments.is_empty());
}

/// A person's retry is one order too: the files, and with them the new task, and
/// that once.
pub async fn a_restore_queues_the_task_that_it_retries(store: &dyn StoreUnderTest) {
    let (turn, order) = interrupted(store).await;
    let Order::Retry {
        checkpoint,
        chat,
        task,
    } = order
    else {
        panic!("{order:?}");
    };
    let order = Order::Restore {
        checkpoint,
        chat,
        consent: false,
        retries: Some(task),
    };
    store.dismiss(task).await;
    let again = retry(store, &turn, &order).await;
    assert_eq!((again.chat, &again.input), (chat, &turn.input));
    open_with_checkpoint(store, &again).await;
    finish_with(store, &again, &[("a", "its work")]).await;
    let refused = store
        .operations()
        .begin(&asked(turn.session, order.clone()))
        .await;
    assert_code(refused, "not_retryable");
    assert!(!store.changes(turn.session).await.is_empty(), "it stays");
    let of_another = Order::Restore {
        checkpoint,
        chat,
        consent: true,
        retries: Some(again.fence.task),
    };
    let refused = store
        .operations()
        .begin(&asked(turn.session, of_another))
        .await;
    assert_code(refused, "not_retryable");
}

/// An answer that no turn has taken up yet goes with the question: its task must
/// not go on behind what is gone.
pub async fn a_restore_ends_what_was_answered_and_waits(store: &dyn StoreUnderTest) {
    let (turn, question) = asking(store).await;
    assert_eq!(detach(store, &turn).await.len(), 3);
    let order = Order::Restore {
        checkpoint: store.checkpoint_id(&turn).await.expect("a checkpoint"),
        chat: turn.key.chat,
        consent: false,
        retries: None,
    };
    let started = begin(store, turn.session, order).await;
    let yes = Settled::answered(question.options[0].clone(), AnsweredBy::Http);
    assert_eq!(store.answer_detached(question.id, &yes).await.len(), 2);
    let state = store.task_state(turn.fence.task).await;
    assert_eq!(state, TaskState::Pending);
    let (operations, plan) = (store.operations(), plan(&started));
    let intended = operations.intend(&started.owner, &plan).await;
    intended.expect("ours");
    let frames = operations
        .complete(&started.owner, &plan, &diff(Vec::new()))
        .await;
    let frames = frames.expect("ours");
    assert!(frames.iter().zip(&frames[1..]).all(|(a, b)| a.seq < b.seq));
    let state = store.task_state(turn.fence.task).await;
    assert_eq!(state, TaskState::Cancelled);
    assert!(claim(store, 5).await.assignments.is_empty());
    let fresh = store
        .insert_task(Some(turn.session), Some(turn.key.chat), AGENT)
        .await;
    assert_eq!(claim_one(store).await.fence.task, fresh);
}

/// A restore to before a question ends the task that waits for its answer: nobody
/// could go on behind it.
pub async fn a_restore_ends_what_waits_for_an_answer(store: &dyn StoreUnderTest) {
    let (turn, question) = asking(store).await;
    assert_eq!(detach(store, &turn).await.len(), 3);
    let checkpoint = store.checkpoint_id(&turn).await.expect("a checkpoint");
    let order = Order::Restore {
        checkpoint,
        chat: turn.key.chat,
        consent: false,
        retries: None,
    };
    carry_out(store, turn.session, order).await;
    let state = store.task_state(turn.fence.task).await;
    assert_eq!(state, TaskState::Cancelled);
    let prompt = store.prompt(question.id).await;
    assert_eq!(prompt, Some(PromptState::Cancelled));
    let yes = Settled::answered(question.options[0].clone(), AnsweredBy::Http);
    assert_eq!(store.answer_detached(question.id, &yes).await, []);
}
