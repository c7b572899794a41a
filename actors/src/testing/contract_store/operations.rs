//! Promises about the journal of operations.

use super::parts::{acquire, change, claim, claim_one, finish, finish_with, open, paths};
use super::{AGENT, StoreUnderTest};
use crate::event::FrameKind;
use crate::ids::{ChangeId, ChatId, OperationId, SessionId};
use crate::model::{Diff, FileChange};
use crate::operation::{Abandoned, Asked, Begun, LeftBehind, OperationState, Owner, Started};
use crate::outcome::Outcome;
use crate::ports::OperationsError;
use crate::review::{FileState, Order, Plan, Step};

/// The tree that a comparison after an operation reports.
const AFTER: &str = "tree after";

pub(super) fn asked(session: SessionId, order: Order) -> Asked {
    Asked {
        id: OperationId::new(),
        session,
        order,
        caller: "http".into(),
    }
}

fn apply(changes: &[ChangeId]) -> Order {
    Order::Apply {
        changes: changes.to_vec(),
        secrets: false,
    }
}

pub(super) async fn begin(store: &dyn StoreUnderTest, session: SessionId, order: Order) -> Started {
    match store.operations().begin(&asked(session, order)).await {
        Ok(Begun::Work(started)) => *started,
        other => panic!("not begun: {other:?}"),
    }
}

/// What a plan for the started work may be: everything goes to where it should.
pub(super) fn plan(started: &Started) -> Plan {
    let steps = |change: &crate::review::Recorded| {
        vec![Step {
            path: change.path.clone(),
            from: change.before.clone(),
            to: change.after.clone(),
        }]
    };
    let work = &started.work;
    Plan {
        id: work.id,
        root: work.project_path.clone(),
        worktree: work.worktree.clone(),
        steps: work.changes.iter().flat_map(steps).collect(),
        baseline: "b1".into(),
        accounts: work
            .changes
            .iter()
            .map(|change| (change.id, steps(change)))
            .collect(),
        notes: Vec::new(),
        undo: None,
        besides: None,
    }
}

pub(super) fn diff(changes: Vec<FileChange>) -> Diff {
    Diff {
        tree: AFTER.into(),
        changes,
        ..Diff::default()
    }
}

async fn carry_through(
    store: &dyn StoreUnderTest,
    session: SessionId,
    order: Order,
    left: Vec<FileChange>,
) -> (Owner, Vec<FrameKind>) {
    let started = begin(store, session, order).await;
    let plan = plan(&started);
    let operations = store.operations();
    operations
        .intend(&started.owner, &plan)
        .await
        .expect("ours");
    let frames = operations
        .complete(&started.owner, &plan, &diff(left))
        .await
        .expect("ours");
    let kinds = frames.iter().map(|frame| frame.kind).collect();
    (started.owner, kinds)
}

/// A session after a turn that left these files.
async fn worked(store: &dyn StoreUnderTest, files: &[(&str, &str)]) -> SessionId {
    acquire(store).await;
    let session = store.insert_session().await;
    store.insert_task(Some(session), None, AGENT).await;
    let turn = claim_one(store).await;
    open(store, &turn).await;
    finish_with(store, &turn, files).await;
    session
}

async fn ids(store: &dyn StoreUnderTest, session: SessionId) -> Vec<ChangeId> {
    let changes = store.changes(session).await;
    changes.iter().map(|change| change.id).collect()
}

pub(super) fn assert_code<T: std::fmt::Debug>(came: Result<T, OperationsError>, wanted: &str) {
    match came {
        Err(OperationsError::Wrong { code, .. }) => assert_eq!(code, wanted),
        other => panic!("not {wanted}: {other:?}"),
    }
}

/// Neither begins where the other works, and a gate that is given back lets the
/// next in.
pub async fn turns_and_operations_exclude_each_other(store: &dyn StoreUnderTest) {
    let session = worked(store, &[("a", "1")]).await;
    store.insert_task(Some(session), None, AGENT).await;
    let turn = claim_one(store).await;
    let order = asked(session, apply(&[]));
    let refused = store.operations().begin(&order).await;
    assert!(
        matches!(refused, Err(OperationsError::Busy(_))),
        "{refused:?}"
    );
    open(store, &turn).await;
    finish_with(store, &turn, &[("a", "1")]).await;

    let started = begin(store, session, apply(&[])).await;
    store.insert_task(Some(session), None, AGENT).await;
    assert!(
        claim(store, 1).await.assignments.is_empty(),
        "the gate is held"
    );
    let second = store.operations().begin(&asked(session, apply(&[]))).await;
    assert!(
        matches!(second, Err(OperationsError::Busy(_))),
        "{second:?}"
    );
    let why = Abandoned::default();
    let operations = store.operations();
    operations
        .abandon(&started.owner, &why)
        .await
        .expect("ours");
    operations
        .abandon(&started.owner, &why)
        .await
        .expect("a repeat");
    assert_eq!(claim(store, 1).await.assignments.len(), 1);
    assert_eq!(
        paths(&store.changes(session).await),
        ["a"],
        "it waits still"
    );
}

/// An abandon of what never began frees nothing and is no error.
pub async fn an_unknown_operation_is_abandoned_in_peace(store: &dyn StoreUnderTest) {
    let session = worked(store, &[("a", "1")]).await;
    let started = begin(store, session, apply(&[])).await;
    let stranger = Owner {
        id: OperationId::new(),
        ..started.owner
    };
    let operations = store.operations();
    operations
        .abandon(&stranger, &Abandoned::default())
        .await
        .expect("nothing");
    let refused = operations.begin(&asked(session, apply(&[]))).await;
    assert!(
        matches!(refused, Err(OperationsError::Busy(_))),
        "{refused:?}"
    );
}

/// Planning knows the worktree with its baseline, the checkout, both sides.
pub async fn a_beginning_brings_what_planning_needs(store: &dyn StoreUnderTest) {
    let session = worked(store, &[("a", "1"), ("b", "2")]).await;
    let ids = ids(store, session).await;
    let started = begin(store, session, apply(&ids[1..])).await;
    let work = &started.work;
    assert_eq!(work.worktree.baseline, "b0");
    assert_eq!(work.session, session);
    assert!(work.project_path.is_absolute());
    assert_eq!(work.order, apply(&ids[1..]));
    let [change] = &work.changes[..] else {
        panic!("{:?}", work.changes);
    };
    assert_eq!((change.id, change.path.as_str()), (ids[1], "b"));
    assert_eq!(change.before, None);
    let side = FileState {
        blob: "2".into(),
        mode: 0o100_644,
    };
    assert_eq!(change.after, Some(side));
    assert!(change.applied.is_empty() && !change.secret);
}

/// What is applied is off the list, and the next turn compares with the new
/// baseline.
pub async fn an_apply_moves_the_baseline(store: &dyn StoreUnderTest) {
    let session = worked(store, &[("a", "1"), ("b", "2")]).await;
    let before = store.changes(session).await;
    let order = apply(&[before[0].id]);
    let (_, kinds) = carry_through(store, session, order.clone(), vec![change("b", "2")]).await;
    assert_eq!(kinds, [FrameKind::PendingChangesUpdated]);
    let after = store.changes(session).await;
    assert_eq!(after, before[1..], "the other keeps its row");
    assert_eq!(store.status(before[0].id).await.as_deref(), Some("applied"));
    store.insert_task(Some(session), None, AGENT).await;
    let next = claim_one(store).await;
    assert_eq!(next.last_tree.as_deref(), Some(AFTER));
    let worktree = next.worktree.existing.as_ref().expect("a worktree");
    assert_eq!(worktree.baseline, "b1");
    open(store, &next).await;
    finish_with(store, &next, &[("b", "2")]).await;

    let again = store.operations().begin(&asked(session, order)).await;
    match again {
        Ok(Begun::Nothing { already, .. }) => assert_eq!(already, [before[0].id]),
        other => panic!("{other:?}"),
    }
}

/// What is rewound knows what its apply did, and is pending again, by whoever
/// had made it.
pub async fn a_rewind_makes_the_file_pending_again(store: &dyn StoreUnderTest) {
    let session = worked(store, &[("a", "1")]).await;
    let id = ids(store, session).await[0];
    carry_through(store, session, apply(&[id]), Vec::new()).await;
    assert!(store.changes(session).await.is_empty());
    let order = Order::Rewind { changes: vec![id] };
    let started = begin(store, session, order).await;
    let applied = &started.work.changes[0].applied;
    assert_eq!((applied.len(), applied[0].path.as_str()), (1, "a"));
    let plan = plan(&started);
    let operations = store.operations();
    operations
        .intend(&started.owner, &plan)
        .await
        .expect("ours");
    let found = diff(vec![change("a", "1")]);
    operations
        .complete(&started.owner, &plan, &found)
        .await
        .expect("ours");
    assert_eq!(store.status(id).await.as_deref(), Some("reverted"));
    let again = store.changes(session).await;
    assert_eq!(paths(&again), ["a"]);
    assert_ne!(again[0].id, id);
}

/// What is rejected is off the list for good.
pub async fn a_reject_ends_the_change(store: &dyn StoreUnderTest) {
    let session = worked(store, &[("a", "1"), ("b", "2")]).await;
    let before = ids(store, session).await;
    let order = Order::Reject {
        changes: Vec::new(),
    };
    carry_through(store, session, order, Vec::new()).await;
    assert!(store.changes(session).await.is_empty());
    for id in before {
        assert_eq!(store.status(id).await.as_deref(), Some("rejected"));
    }
}

/// Orders that do not fit say so, and hold nothing.
pub async fn an_order_that_does_not_fit_is_refused(store: &dyn StoreUnderTest) {
    let session = worked(store, &[("a", "1")]).await;
    let id = ids(store, session).await[0];
    let operations = store.operations();
    let unknown = apply(&[ChangeId::new()]);
    assert_code(
        operations.begin(&asked(session, unknown)).await,
        "unknown_change",
    );
    let early = Order::Rewind { changes: vec![id] };
    assert_code(
        operations.begin(&asked(session, early)).await,
        "not_applied",
    );
    carry_through(
        store,
        session,
        Order::Reject { changes: vec![id] },
        Vec::new(),
    )
    .await;
    let late = operations.begin(&asked(session, apply(&[id]))).await;
    assert_code(late, "not_pending");
    let nothing = operations.begin(&asked(session, apply(&[]))).await;
    assert!(matches!(nothing, Ok(Begun::Nothing { .. })), "{nothing:?}");
    let fresh = store.insert_session().await;
    let idle = operations.begin(&asked(fresh, apply(&[]))).await;
    assert_code(idle, "no_worktree");
    let nowhere = Order::Restore {
        checkpoint: crate::ids::CheckpointId::new(),
        chat: ChatId::new(),
        consent: true,
        retries: None,
    };
    assert_code(
        operations.begin(&asked(session, nowhere)).await,
        "not_found",
    );
    store.insert_task(Some(session), None, AGENT).await;
    assert_eq!(
        claim(store, 1).await.assignments.len(),
        1,
        "the gate is free"
    );
}

/// A repeat whose first answer was lost brings what the first did.
pub async fn an_operation_is_completed_once(store: &dyn StoreUnderTest) {
    let session = worked(store, &[("a", "1")]).await;
    let started = begin(store, session, apply(&[])).await;
    let plan = plan(&started);
    let operations = store.operations();
    operations
        .intend(&started.owner, &plan)
        .await
        .expect("ours");
    operations
        .intend(&started.owner, &plan)
        .await
        .expect("a repeat");
    let none = diff(Vec::new());
    let first = operations.complete(&started.owner, &plan, &none).await;
    let again = operations.complete(&started.owner, &plan, &none).await;
    assert_eq!(first.expect("ours"), again.expect("a repeat"));
    assert!(
        operations
            .abandon(&started.owner, &Abandoned::default())
            .await
            .is_err()
    );
    let frames = store.frames(session).await;
    assert!(frames.iter().zip(1..).all(|(frame, seq)| frame.seq == seq));
}

/// Nothing is done before the plan is written down.
pub async fn what_was_not_intended_is_not_completed(store: &dyn StoreUnderTest) {
    let session = worked(store, &[("a", "1")]).await;
    let started = begin(store, session, apply(&[])).await;
    let operations = store.operations();
    let early = operations
        .complete(&started.owner, &plan(&started), &diff(Vec::new()))
        .await;
    assert!(matches!(early, Err(OperationsError::Fenced)), "{early:?}");
    assert_eq!(paths(&store.changes(session).await), ["a"]);
}

/// Takes over all that earlier lives left, as one whose answers are lost does: it
/// asks for everything twice.
async fn take_over(store: &dyn StoreUnderTest) -> Vec<LeftBehind> {
    let operations = store.operations();
    let found = operations.left_behind().await.expect("ours");
    let again = operations.left_behind().await.expect("ours");
    assert_eq!(found, again, "nothing is taken over by being looked for");
    let mut left = Vec::new();
    for (id, session) in found {
        let first = operations.take_over(id).await.expect("ours");
        let again = operations.take_over(id).await.expect("ours");
        assert_eq!(first, again);
        let taken = again.expect("it was left");
        assert_eq!((taken.owner.id, taken.owner.session), (id, session));
        left.push(taken);
    }
    let rest = operations.left_behind().await.expect("ours");
    assert!(rest.is_empty(), "{rest:?}");
    left
}

/// A new life finds what the last one left, and the last one is refused.
pub async fn a_new_life_takes_operations_over(store: &dyn StoreUnderTest) {
    let session = worked(store, &[("a", "1")]).await;
    let operations = store.operations();
    let started = begin(store, session, apply(&[])).await;
    let plan = plan(&started);
    assert!(
        operations.left_behind().await.expect("ours").is_empty(),
        "it lives"
    );

    let twin = store.twin().await;
    twin.lease().acquire().await.expect("the node's own");
    let refused = operations.intend(&started.owner, &plan).await;
    assert!(
        matches!(refused, Err(OperationsError::Fenced)),
        "{refused:?}"
    );
    let left = take_over(&*twin).await;
    assert_eq!((left.len(), left[0].state), (1, OperationState::Planning));
    let empty = left[0].plan.as_ref().expect("an empty plan");
    assert!(empty.steps.is_empty());
    twin.operations()
        .abandon(&left[0].owner, &Abandoned::default())
        .await
        .expect("ours");

    let started = begin(&*twin, session, apply(&[])).await;
    twin.operations()
        .intend(&started.owner, &plan)
        .await
        .expect("ours");
    let third = store.twin().await;
    third.lease().acquire().await.expect("the node's own");
    let left = take_over(&*third).await;
    // The first one's refs were never put right either.
    assert_eq!(left.len(), 2);
    let intended = left
        .iter()
        .find(|left| left.state == OperationState::Intended);
    let intended = intended.expect("the second");
    assert_eq!(intended.plan.as_ref(), Some(&plan));
    assert_eq!(intended.order, started.work.order);
    let done = third
        .operations()
        .complete(&intended.owner, &plan, &diff(Vec::new()))
        .await;
    assert_eq!(done.expect("ours").len(), 1);
    for left in &left {
        third
            .operations()
            .settled(left.owner.id)
            .await
            .expect("written");
    }
    let fourth = store.twin().await;
    fourth.lease().acquire().await.expect("the node's own");
    let left = take_over(&*fourth).await;
    assert!(left.is_empty(), "{left:?}");
}

/// Without a lease nothing begins.
pub async fn without_a_lease_no_operation_begins(store: &dyn StoreUnderTest) {
    let session = worked(store, &[("a", "1")]).await;
    store.lease().release().await.expect("ours");
    let refused = store.operations().begin(&asked(session, apply(&[]))).await;
    assert!(
        matches!(refused, Err(OperationsError::Fenced)),
        "{refused:?}"
    );
}

/// A turn that died with Hearth was not compared: the next life is told of its
/// worktree, and what is found there is of that turn's task.
pub async fn what_nobody_looked_at_is_to_be_compared(store: &dyn StoreUnderTest) {
    acquire(store).await;
    let before = store.insert_task(None, None, AGENT).await;
    let first = claim_one(store).await;
    open(store, &first).await;
    finish_with(store, &first, &[("kept", "1"), ("edited", "1")]).await;
    let (session, chat) = (first.session, first.key.chat);
    store.insert_task(Some(session), Some(chat), AGENT).await;
    let unprompted = claim_one(store).await;
    finish(store, &unprompted, Outcome::Cancelled).await;
    let nothing = store.operations().interrupted().await.unwrap();
    assert!(nothing.is_empty(), "all was looked at: {nothing:?}");
    let task = store.insert_task(Some(session), Some(chat), AGENT).await;
    let cut_off = claim_one(store).await;
    open(store, &cut_off).await;
    let nothing = store.operations().interrupted().await.unwrap();
    assert!(nothing.is_empty(), "it still runs: {nothing:?}");
    let twin = store.twin().await;
    twin.lease().acquire().await.unwrap();
    let left = twin.operations().interrupted().await.unwrap();
    let [asked] = &left[..] else {
        panic!("one worktree: {left:?}");
    };
    assert_eq!(asked.session, session);
    assert_eq!(asked.order, Order::Compare { task });
    let started = begin(&*twin, session, asked.order.clone()).await;
    let plan = Plan::nothing(started.work.id, started.work.worktree.clone());
    let operations = twin.operations();
    operations.intend(&started.owner, &plan).await.unwrap();
    let found = diff(vec![
        change("kept", "1"),
        change("edited", "2"),
        change("new", "1"),
    ]);
    operations
        .complete(&started.owner, &plan, &found)
        .await
        .unwrap();
    let rows = store.changes(session).await;
    let rows: Vec<_> = rows.iter().map(|row| (&row.path[..], row.task)).collect();
    assert_eq!(
        rows,
        [
            ("edited", Some(task)),
            ("kept", Some(before)),
            ("new", Some(task))
        ]
    );
    let nothing = operations.interrupted().await.unwrap();
    assert!(nothing.is_empty(), "it was looked at: {nothing:?}");
    let again = self::asked(session, asked.order.clone());
    let again = operations.begin(&again).await;
    assert!(matches!(again, Ok(Begun::Nothing { .. })), "{again:?}");
}
