//! What holds tasks back, and what is counted of their spending.

use std::time::Duration;

use super::parts::{
    acquire, assert_fenced, backs_off, batch, claim, claim_one, end, finish, open, turn_ref,
    wait_for_claim,
};
use super::{AGENT, StoreUnderTest};
use crate::event::{Batch, FrameKind};
use crate::limits::{Budget, Gauge, Measure, ParkReason, Parked, Scope};
use crate::model::{Assignment, TurnEnd, Usage};
use crate::outcome::{Outcome, TaskState};
use crate::ports::JournalError;

async fn spend(store: &dyn StoreUnderTest, turn: &Assignment, input: i64, output: i64, cost: f64) {
    let spent = Batch {
        usage: Some(Usage {
            input_tokens: input,
            output_tokens: output,
            cost,
        }),
        ..batch(&[], 0)
    };
    let stored = store.journal().append(&turn_ref(turn), &spent).await;
    stored.expect("the turn is ours");
}

fn gauge(gauges: &[Gauge], scope: Scope, measure: Measure) -> &Gauge {
    let mut found = gauges.iter();
    let found = found.find(|gauge| gauge.scope == scope && gauge.measure == measure);
    found.unwrap_or_else(|| panic!("no {measure} of a {scope} in {gauges:?}"))
}

/// The reason is in the stream, until when too; the same again a moment later is
/// not told twice.
pub async fn a_parked_task_says_why(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let task = store.insert_task(None, None, AGENT).await;
    let first = claim_one(store).await;
    let parked = backs_off(Duration::from_millis(50)).because("it crashed");
    let frames = store.queue().release(&first.fence, Some(&parked)).await;
    let frames = frames.unwrap();
    assert_eq!(frames.len(), 1, "{frames:?}");
    assert_eq!(frames[0].kind, FrameKind::TaskUpdated);
    assert_eq!(frames[0].task_id, Some(task));
    assert_eq!(frames[0].data["state"], "pending");
    let told = &frames[0].data["parked"];
    assert_eq!(told["reason"], "back_off");
    assert_eq!(told["detail"], "it crashed");
    assert!(told["until"].is_string(), "{told}");
    assert!(store.frames(first.session).await.ends_with(&frames));

    let second = wait_for_claim(store).await;
    let frames = store.queue().release(&second.fence, Some(&parked)).await;
    assert_eq!(frames.unwrap(), [], "it was told");
    let third = wait_for_claim(store).await;
    let waits = Parked {
        open_ended: true,
        ..Parked::until(ParkReason::Budget, Duration::from_secs(3600))
    };
    let frames = store.queue().release(&third.fence, Some(&waits)).await;
    let frames = frames.unwrap();
    assert_eq!(frames[0].data["parked"]["reason"], "budget");
    assert!(frames[0].data["parked"]["until"].is_null(), "{frames:?}");
    assert!(claim(store, 1).await.assignments.is_empty());
}

/// The turn has its outcome, its task waits at its place in the chat.
pub async fn a_refused_turn_waits_and_is_counted(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let session = store.insert_session().await;
    let chat = store.insert_chat(session).await;
    let task = store.insert_task(Some(session), Some(chat), AGENT).await;
    store.insert_task(Some(session), Some(chat), AGENT).await;
    let first = claim_one(store).await;
    open(store, &first).await;
    let turn = turn_ref(&first);
    let before = store.limits().refusals(&turn).await.unwrap();
    assert_eq!((before.of_task, before.in_last_hour), (0, 0));
    let parked = Parked::until(ParkReason::Overload, Duration::from_millis(100));
    let limits = store.limits();
    let frames = limits.park(&turn, &end(Outcome::Overload), &parked).await;
    let frames = frames.unwrap();
    let told = frames
        .iter()
        .find(|frame| frame.kind == FrameKind::TaskUpdated);
    let told = &told.expect("it is told").data;
    assert_eq!(told["state"], "pending");
    assert_eq!(told["parked"]["reason"], "overload");
    assert!(told["outcome"].is_null(), "the task goes on: {told}");
    assert!(store.frames(session).await.ends_with(&frames));
    assert_eq!(store.task_state(task).await, TaskState::Pending);
    let (status, _) = store.message(first.assistant_message).await.unwrap();
    assert_eq!(status, "failed");
    assert!(claim(store, 5).await.assignments.is_empty(), "in order");
    assert_fenced(limits.park(&turn, &end(Outcome::Overload), &parked).await);

    let second = wait_for_claim(store).await;
    assert_eq!((second.fence.task, second.fence.attempt), (task, 2));
    open(store, &second).await;
    let before = store.limits().refusals(&turn_ref(&second)).await.unwrap();
    assert_eq!((before.of_task, before.in_last_hour), (1, 1));
    finish(store, &second, Outcome::Ok).await;
    assert_eq!(store.task_state(task).await, TaskState::Completed);
    let other = claim_one(store).await;
    let before = store.limits().refusals(&turn_ref(&other)).await.unwrap();
    assert_eq!((before.of_task, before.in_last_hour), (0, 1));
}

/// Whoever wanted its end gets it.
pub async fn a_cancelled_turn_is_not_parked(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let task = store.insert_task(None, None, AGENT).await;
    let turn = claim_one(store).await;
    open(store, &turn).await;
    store.request_cancel(task).await;
    let parked = Parked::until(ParkReason::Overload, Duration::from_millis(1));
    let limits = store.limits();
    let refused = limits
        .park(&turn_ref(&turn), &end(Outcome::Overload), &parked)
        .await;
    assert!(
        matches!(refused, Err(JournalError::Cancelled)),
        "{refused:?}"
    );
    assert_eq!(store.task_state(task).await, TaskState::Running);
    finish(store, &turn, Outcome::Cancelled).await;
    assert_eq!(store.task_state(task).await, TaskState::Cancelled);
}

/// Also what the running turn has reported so far.
pub async fn gauges_count_what_was_reported(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let session = store.insert_session().await;
    store.insert_task(Some(session), None, AGENT).await;
    let free = claim_one(store).await;
    assert!(!free.budgeted, "nothing bounds it");
    open(store, &free).await;
    spend(store, &free, 60, 10, 0.5).await;
    finish(store, &free, Outcome::Ok).await;

    let of_session = Budget {
        tokens: Some(200),
        cost: Some(2.0),
        ..Budget::default()
    };
    store.set_budget(session, of_session).await;
    let task = store.insert_task(Some(session), None, AGENT).await;
    let of_task = Budget {
        tokens: Some(100),
        turns: Some(3),
        wall_ms: Some(3_600_000),
        ..Budget::default()
    };
    store.set_task_budget(task, of_task).await;
    let turn = claim_one(store).await;
    assert!(turn.budgeted);
    let before = store.limits().gauges(&turn_ref(&turn)).await.unwrap();
    assert_eq!(before.len(), 5, "{before:?}");
    assert_eq!(gauge(&before, Scope::Task, Measure::Turns).used, 0.0);
    assert_eq!(gauge(&before, Scope::Session, Measure::Tokens).used, 70.0);
    open(store, &turn).await;
    spend(store, &turn, 5, 20, 0.25).await;
    let gauges = store.limits().gauges(&turn_ref(&turn)).await.unwrap();
    let used = |scope, measure| gauge(&gauges, scope, measure).used;
    assert_eq!(used(Scope::Task, Measure::Tokens), 25.0);
    assert_eq!(used(Scope::Task, Measure::Turns), 1.0);
    assert_eq!(used(Scope::Session, Measure::Tokens), 95.0);
    assert!((used(Scope::Session, Measure::Cost) - 0.75).abs() < 1e-9);
    let wall = gauge(&gauges, Scope::Task, Measure::WallMs);
    assert!(
        wall.used < 60_000.0 && wall.limit == 3_600_000.0,
        "{wall:?}"
    );
    let tokens = gauge(&gauges, Scope::Session, Measure::Tokens);
    assert_eq!(tokens.subject, session.to_string());
    assert_eq!((tokens.limit, tokens.resets_in), (200.0, None));
}

/// A limit is warned of once; another one of the same session again.
pub async fn a_budget_is_warned_of_once(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let session = store.insert_session().await;
    store.insert_task(Some(session), None, AGENT).await;
    let turn = claim_one(store).await;
    open(store, &turn).await;
    let of = |limit| Gauge {
        scope: Scope::Session,
        subject: session.to_string(),
        measure: Measure::Tokens,
        used: 90.0,
        limit,
        resets_in: None,
    };
    let reference = turn_ref(&turn);
    let frames = store.limits().warn(&reference, &of(100.0)).await.unwrap();
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].kind, FrameKind::BudgetUpdated);
    assert_eq!(frames[0].data["level"], "warning");
    assert_eq!(frames[0].data["limit"], 100.0);
    let again = store.limits().warn(&reference, &of(100.0)).await.unwrap();
    assert_eq!(again, []);
    let raised = store.limits().warn(&reference, &of(110.0)).await.unwrap();
    assert_eq!(raised.len(), 1);
}

/// All chats of the agent are told, by their claims, until it answers again.
pub async fn an_agent_rests_until_its_quota_is_reset(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let first = store.insert_task(None, None, AGENT).await;
    let turn = claim_one(store).await;
    assert_eq!((turn.fence.task, &turn.rests), (first, &None));
    open(store, &turn).await;
    let ended = TurnEnd {
        detail: Some("the plan's limit".into()),
        ..end(Outcome::Quota)
    };
    let parked = Parked::until(ParkReason::Quota, Duration::from_secs(2));
    let frames = store.limits().park(&turn_ref(&turn), &ended, &parked).await;
    frames.expect("ours");
    store.insert_task(None, None, AGENT).await;
    let other = claim_one(store).await;
    let rest = other.rests.clone().expect("its agent rests");
    assert!(
        !rest.left.is_zero() && rest.left <= parked.after,
        "{rest:?}"
    );
    assert_eq!(rest.because.as_deref(), Some("the plan's limit"));
    let agent = &other.key.agent;
    store.limits().answers(agent).await.expect("written");
    store
        .queue()
        .release(&other.fence, None)
        .await
        .expect("ours");
    let other = claim_one(store).await;
    assert!(other.rests.is_some(), "it is no end before its time");
    store
        .queue()
        .release(&other.fence, None)
        .await
        .expect("ours");

    tokio::time::sleep(parked.after).await;
    let other = claim_one(store).await;
    let rest = other.rests.clone().expect("nobody has tried yet");
    assert_eq!(rest.left, Duration::ZERO);
    store.limits().answers(agent).await.expect("written");
    store
        .queue()
        .release(&other.fence, None)
        .await
        .expect("ours");
    assert_eq!(claim_one(store).await.rests, None);
}
