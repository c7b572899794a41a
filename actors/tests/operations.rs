//! What people do with the files of a session, while turns come and things
//! break: the gate, the journal and the files agree.

use std::path::Path;
use std::time::Duration;

use hearth_actors::ids::{ChangeId, ChatId, OperationId, SessionId, SessionKey, TaskId};
use hearth_actors::operation::{Asked, Done, OperationState};
use hearth_actors::outcome::{Outcome, TaskState};
use hearth_actors::ports::OperationsError;
use hearth_actors::review::Order;
use hearth_actors::testing::backend::Step;
use hearth_actors::testing::harness::{Harness, Setup};

const PATIENCE: Duration = Duration::from_secs(600);

fn checkout() -> &'static Path {
    Path::new("/project")
}

fn all() -> Order {
    Order::Apply {
        changes: Vec::new(),
        secrets: false,
    }
}

async fn order(
    harness: &Harness,
    session: SessionId,
    order: Order,
) -> Result<Done, OperationsError> {
    let asked = Asked {
        id: OperationId::new(),
        session,
        order,
        caller: "test".into(),
    };
    let came = harness.tree.operate(asked, PATIENCE).await;
    came.expect("an end within its patience")
}

/// A session after one turn in which its agent wrote these files.
async fn worked(harness: &Harness, files: &[(&str, &str)]) -> (SessionId, SessionKey) {
    let (session, key) = harness.chat();
    work(harness, session, &key, files).await;
    (session, key)
}

async fn work(
    harness: &Harness,
    session: SessionId,
    key: &SessionKey,
    files: &[(&str, &str)],
) -> TaskId {
    harness
        .backend
        .next_turn(vec![Step::Say("x"), Step::Wait(Duration::from_secs(1))]);
    let task = harness.enqueue(session, key, "x");
    harness.state(key, "running").await;
    for (path, content) in files {
        harness
            .worktrees
            .put(&harness.worktree(session), path, content);
    }
    assert_eq!(harness.outcome(task).await, Outcome::Ok);
    task
}

fn change(harness: &Harness, session: SessionId, path: &str) -> ChangeId {
    harness.store.with(|rows| rows.pending(session)[path].0)
}

fn pending(harness: &Harness, session: SessionId) -> Vec<String> {
    let rows = harness.store.with(|rows| rows.pending(session));
    rows.into_keys().collect()
}

/// Every operation has ended once, and nobody holds a gate.
fn all_ended(harness: &Harness) -> bool {
    harness.store.with(|rows| {
        rows.gates.is_empty()
            && rows
                .operations
                .values()
                .all(|row| row.ends == 1 && row.settled)
    })
}

#[tokio::test(start_paused = true)]
async fn what_is_applied_is_in_the_checkout_and_what_is_rewound_is_pending_again() {
    let harness = Harness::start(Setup::default()).await;
    let (session, _) = worked(&harness, &[("a", "1"), ("b", "2")]).await;
    let a = change(&harness, session, "a");
    let one = Order::Apply {
        changes: vec![a],
        secrets: false,
    };
    let done = order(&harness, session, one.clone())
        .await
        .expect("applied");
    assert_eq!((done.changes, done.files.len()), (vec![a], 1));
    assert_eq!(harness.worktrees.files_at(checkout())["a"], "1");
    assert_eq!(pending(&harness, session), ["b"]);
    let again = order(&harness, session, one).await.expect("no error");
    assert_eq!((again.id, again.already), (None, vec![a]), "it says so");
    let rewind = Order::Rewind { changes: vec![a] };
    order(&harness, session, rewind).await.expect("rewound");
    assert!(harness.worktrees.files_at(checkout()).is_empty());
    assert_eq!(pending(&harness, session), ["a", "b"]);
    assert_ne!(
        change(&harness, session, "a"),
        a,
        "a new row: the old one is history"
    );
    let reject = Order::Reject {
        changes: Vec::new(),
    };
    order(&harness, session, reject).await.expect("rejected");
    assert!(pending(&harness, session).is_empty());
    let worktree = harness.worktree(session);
    assert!(harness.worktrees.files_at(&worktree.path).is_empty());
    assert!(all_ended(&harness));
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_warm_agent_compares_with_the_baseline_that_an_apply_made() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = worked(&harness, &[("a", "1")]).await;
    order(&harness, session, all()).await.expect("applied");
    work(&harness, session, &key, &[("b", "2")]).await;
    assert_eq!(pending(&harness, session), ["b"], "a is no news any more");
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_turn_and_an_operation_exclude_each_other() {
    let harness = Harness::start(Setup::default()).await;
    let (session, _) = worked(&harness, &[("a", "1")]).await;
    let other = harness.key();
    harness
        .backend
        .next_turn(vec![Step::Say("x"), Step::Wait(Duration::from_secs(30))]);
    let task = harness.enqueue(session, &other, "x");
    harness.state(&other, "running").await;
    let refused = order(&harness, session, all()).await;
    assert!(
        matches!(refused, Err(OperationsError::Busy(_))),
        "{refused:?}"
    );
    harness.outcome(task).await;

    harness.worktrees.slow(Duration::from_secs(20));
    let (tree, asked) = (
        harness.tree.clone(),
        Asked {
            id: OperationId::new(),
            session,
            order: all(),
            caller: "test".into(),
        },
    );
    let applying = tokio::spawn(async move { tree.operate(asked, PATIENCE).await });
    harness
        .until("the gate is held", |harness| {
            harness
                .store
                .with(|rows| rows.gates.contains_key(&session).then_some(()))
        })
        .await;
    let second = order(&harness, session, all()).await;
    assert!(
        matches!(second, Err(OperationsError::Busy(_))),
        "{second:?}"
    );
    let waits = harness.enqueue(session, &other, "x");
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(
        harness.task(waits).state,
        TaskState::Pending,
        "the gate is held"
    );
    applying
        .await
        .expect("no panic")
        .expect("in time")
        .expect("applied");
    harness.worktrees.slow(Duration::ZERO);
    assert_eq!(harness.outcome(waits).await, Outcome::Ok);
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn files_that_somebody_moves_meanwhile_are_taken_back_around() {
    let harness = Harness::start(Setup::default()).await;
    let (session, _) = worked(&harness, &[("a", "1"), ("b", "2"), ("c", "3")]).await;
    harness.worktrees.slow(Duration::from_secs(10));
    let mover = harness.worktrees.clone();
    // Behind the plan (10 s) and the first file (20 s), before the second.
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(25)).await;
        mover.put_at(checkout(), "b", "mine");
    });
    let refused = order(&harness, session, all()).await;
    let Err(OperationsError::Conflicts(conflicts)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(conflicts[0].path, "b");
    let files = harness.worktrees.files_at(checkout());
    assert_eq!(
        files.into_iter().collect::<Vec<_>>(),
        [("b".into(), "mine".into())]
    );
    assert_eq!(
        pending(&harness, session),
        ["a", "b", "c"],
        "all of it waits still"
    );
    assert!(all_ended(&harness));
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn whatever_breaks_once_an_operation_ends_once() {
    // Begin, intend, complete or abandon, settled, recalls: more than there are.
    for step in 0..8 {
        for lost in [true, false] {
            let harness = Harness::start(Setup::default()).await;
            let (session, _) = worked(&harness, &[("a", "1"), ("b", "2")]).await;
            harness.store.break_operations_after(step, lost);
            let came = order(&harness, session, all()).await;
            let files = harness.worktrees.files_at(checkout());
            let state = harness.store.with(|rows| {
                let row = rows.operations.values().next().expect("a row");
                (row.state, row.ends)
            });
            match &came {
                Ok(_) => assert_eq!(
                    (files.len(), state),
                    (2, (OperationState::Done, 1)),
                    "{step}"
                ),
                Err(_) => {
                    assert_eq!(
                        (files.len(), state),
                        (0, (OperationState::Abandoned, 1)),
                        "{step}"
                    );
                }
            }
            assert!(all_ended(&harness), "{step} {lost}");
            harness.shutdown().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_files_is_found_in_the_journal_and_rolled_forward() {
    for panics in 1..4 {
        let harness = Harness::start(Setup::default()).await;
        let (session, _) = worked(&harness, &[("a", "1"), ("b", "2")]).await;
        harness.worktrees.slow(Duration::from_secs(1));
        let breaker = harness.worktrees.clone();
        // Behind the plan.
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            breaker.panic_review(panics);
        });
        let came = order(&harness, session, all()).await;
        let written = harness.worktrees.files_at(checkout()).len();
        // Three tries at the files, then they go back.
        assert_eq!(came.is_ok(), panics < 3, "{panics}: {came:?}");
        assert_eq!(written, if panics < 3 { 2 } else { 0 });
        assert!(all_ended(&harness));
        harness.shutdown().await;
    }
}

/// What waits in the session would make it too late: its files go back first.
#[tokio::test(start_paused = true)]
async fn a_new_life_brings_the_files_of_a_retry_back_before_it_claims() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = worked(&harness, &[("a", "1")]).await;
    harness
        .backend
        .next_turn(vec![Step::Say("x"), Step::Wait(Duration::from_secs(60))]);
    let task = harness.enqueue(session, &key, "again");
    harness.store.with(|rows| rows.to_retry.insert(task));
    harness.state(&key, "running").await;
    let worktree = harness.worktree(session);
    harness.worktrees.put(&worktree, "a", "half");
    let other = harness.key();
    let waits = harness.enqueue(session, &other, "other");
    harness.store.steal_lease();
    assert_eq!(harness.outcome(waits).await, Outcome::Ok);
    let retried = harness.store.with(|rows| rows.retried.contains(&task));
    assert!(retried, "what waited did not come first");
    let (_, done) = harness.store.with(|rows| {
        let mut done = rows.operations.values();
        let restored = done.find(|row| matches!(row.order, Order::Retry { .. }));
        let row = restored.expect("an order");
        (row.state, row.behind)
    });
    let first = harness.store.with(|rows| {
        let mut turns = rows.turns.values();
        let turn = turns.find(|turn| turn.reference.fence.task == waits);
        turn.expect("a turn").order
    });
    assert!(done <= first, "the files were back before it was claimed");
    assert_eq!(harness.worktrees.files_at(&worktree.path)["a"], "1");
    let again = harness.store.with(|rows| {
        let mut tasks = rows.tasks.iter();
        let again = tasks.find(|(id, row)| row.input == "again" && **id != task);
        *again.expect("a task").0
    });
    assert_eq!(harness.outcome(again).await, Outcome::Ok);
    harness.shutdown().await;
}

/// What a turn that died with its life left is its own, whatever waits in the session.
#[tokio::test(start_paused = true)]
async fn a_new_life_looks_at_what_a_dead_turn_left_before_it_claims() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = worked(&harness, &[("a", "1")]).await;
    harness
        .backend
        .next_turn(vec![Step::Say("x"), Step::Wait(Duration::from_secs(60))]);
    let task = harness.enqueue(session, &key, "again");
    harness.state(&key, "running").await;
    harness
        .worktrees
        .put(&harness.worktree(session), "b", "half");
    let waits = harness.enqueue(session, &harness.key(), "other");
    harness.store.steal_lease();
    assert_eq!(harness.outcome(waits).await, Outcome::Ok);
    assert_eq!(harness.outcome(task).await, Outcome::Interrupted);
    let of = |path: &str| {
        let id = change(&harness, session, path);
        harness.store.with(|rows| rows.changes[&id].task)
    };
    assert_eq!(of("b"), Some(task));
    assert_ne!(of("a"), Some(task));
    let compared = harness.store.with(|rows| {
        let mut rows = rows.operations.values();
        rows.any(|row| row.order == Order::Compare { task } && row.state == OperationState::Done)
    });
    assert!(compared, "by an operation");
    assert!(all_ended(&harness));
    harness.shutdown().await;
}

/// A person deletes the folder in the middle of it: people are told, its session can
/// work again, and a stop has nothing to wait for.
#[tokio::test(start_paused = true)]
async fn a_folder_that_is_gone_holds_no_gate() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = worked(&harness, &[("a", "1"), ("b", "2")]).await;
    harness.worktrees.slow(Duration::from_secs(1));
    let breaker = harness.worktrees.clone();
    // Behind the plan (1 s) and the first file (2 s).
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(2500)).await;
        breaker.fail_with(Some("the folder is gone"));
    });
    let refused = tokio::time::timeout(PATIENCE, order(&harness, session, all()));
    let refused = refused.await.expect("an end");
    assert!(
        matches!(refused, Err(OperationsError::Failed(_))),
        "{refused:?}"
    );
    assert!(harness.store.with(|rows| rows.gates.is_empty()));
    let told = harness.store.with(|rows| rows.told.clone());
    let told = told
        .iter()
        .filter(|what| what.contains("cannot be put back"));
    assert_eq!(told.count(), 1, "people are told once");
    harness.worktrees.fail_with(None);
    harness.worktrees.slow(Duration::ZERO);
    work(&harness, session, &key, &[("c", "3")]).await;
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_life_ends_what_the_last_one_left_before_it_claims() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = worked(&harness, &[("a", "1"), ("b", "2"), ("c", "3")]).await;
    harness.worktrees.slow(Duration::from_secs(60));
    let (tree, asked) = (
        harness.tree.clone(),
        Asked {
            id: OperationId::new(),
            session,
            order: all(),
            caller: "test".into(),
        },
    );
    let applying = tokio::spawn(async move { tree.operate(asked, PATIENCE).await });
    harness
        .until("the first file is written", |harness| {
            (harness.worktrees.files_at(checkout()).len() == 1).then_some(())
        })
        .await;
    let waits = harness.enqueue(session, &key, "x");
    harness.store.steal_lease();
    harness
        .until("another life", |harness| {
            let row = harness
                .store
                .with(|rows| rows.operations.values().next().cloned());
            row.filter(|row| row.ends == 1)
        })
        .await;
    harness.worktrees.slow(Duration::ZERO);
    assert_eq!(
        harness.worktrees.files_at(checkout()).len(),
        3,
        "rolled forward"
    );
    assert!(
        !matches!(applying.await, Ok(Some(Ok(_)))),
        "its own worker was cut off"
    );
    assert_eq!(harness.outcome(waits).await, Outcome::Ok);
    harness
        .until("all ended", |harness| all_ended(harness).then_some(()))
        .await;
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_what_is_under_way() {
    let harness = Harness::start(Setup::default()).await;
    let (session, _) = worked(&harness, &[("a", "1")]).await;
    harness.worktrees.slow(Duration::from_secs(3));
    let (tree, asked) = (
        harness.tree.clone(),
        Asked {
            id: OperationId::new(),
            session,
            order: all(),
            caller: "test".into(),
        },
    );
    let applying = tokio::spawn(async move { tree.operate(asked, PATIENCE).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    harness.tree.shutdown(Duration::ZERO).await;
    let came = applying.await.expect("no panic");
    assert!(matches!(came, Some(Ok(_))), "{came:?}");
    assert_eq!(harness.worktrees.files_at(checkout()).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn only_so_many_work_and_wait_at_a_time() {
    let mut setup = Setup::default();
    setup.tree.limits.max_live = 50;
    let harness = Harness::start(setup).await;
    let mut sessions = Vec::new();
    for _ in 0..40 {
        sessions.push(worked(&harness, &[("a", "1")]).await.0);
    }
    // Each of another project would be truer; here they all write the same.
    harness.worktrees.slow(Duration::from_secs(1));
    let mut orders = Vec::new();
    for session in sessions {
        let (tree, asked) = (
            harness.tree.clone(),
            Asked {
                id: OperationId::new(),
                session,
                order: Order::Reject {
                    changes: Vec::new(),
                },
                caller: "test".into(),
            },
        );
        orders.push(tokio::spawn(
            async move { tree.operate(asked, PATIENCE).await },
        ));
    }
    let mut most = 0;
    harness
        .until("all are over", |harness| {
            most = most.max(harness.store.with(|rows| rows.gates.len()));
            orders.iter().all(|order| order.is_finished()).then_some(())
        })
        .await;
    assert_eq!(most, 4);
    let mut refused = 0;
    for order in orders {
        let came = order.await.expect("no panic").expect("in time");
        refused += usize::from(matches!(came, Err(OperationsError::Unavailable(_))));
    }
    assert_eq!(refused, 4, "4 work, 32 wait, the rest is told");
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_restore_stops_the_agents_of_its_chat_and_takes_their_words() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    let first = work(&harness, session, &key, &[("a", "1")]).await;
    let second = work(&harness, session, &key, &[("a", "2"), ("b", "2")]).await;
    let starts = harness.backend.started().len();
    let restore = |consent| Order::Restore {
        checkpoint: harness.checkpoint(second).id,
        chat: key.chat,
        consent,
        retries: None,
    };
    let done = order(&harness, session, restore(false))
        .await
        .expect("restored");
    assert_eq!(done.files.len(), 2);
    let worktree = harness.worktree(session);
    let files = harness.worktrees.files_at(&worktree.path);
    assert_eq!(
        files.into_iter().collect::<Vec<_>>(),
        [("a".into(), "1".into())]
    );
    let has = |task: TaskId| {
        harness.store.with(|rows| {
            let turns = rows.turns.values();
            let turn = turns
                .into_iter()
                .find(|turn| turn.reference.fence.task == task);
            rows.messages
                .contains_key(&turn.expect("a turn").reference.message)
        })
    };
    assert!(has(first) && !has(second), "the transcript goes back too");
    assert_eq!(harness.backend.alive(), 0, "nobody holds the old context");
    assert!(harness.store.with(|rows| rows.links.is_empty()));
    assert_eq!(pending(&harness, session), ["a"]);
    work(&harness, session, &key, &[]).await;
    assert_eq!(harness.backend.started().len(), starts + 1, "a new agent");
    harness.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_restore_asks_before_others_lose_their_work() {
    let harness = Harness::start(Setup::default()).await;
    let (session, key) = harness.chat();
    let first = work(&harness, session, &key, &[("a", "1")]).await;
    let other = harness.key();
    work(&harness, session, &other, &[("b", "2")]).await;
    let restore = |consent| Order::Restore {
        checkpoint: harness.checkpoint(first).id,
        chat: key.chat,
        consent,
        retries: None,
    };
    let refused = order(&harness, session, restore(false)).await;
    let Err(OperationsError::NeedsConsent(chats)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(chats, [other.chat] as [ChatId; 1]);
    assert_eq!(pending(&harness, session), ["a", "b"], "nothing happened");
    order(&harness, session, restore(true))
        .await
        .expect("restored");
    assert!(pending(&harness, session).is_empty());
    harness.shutdown().await;
}

/// Four work at a time. Who gave up while an order waited for that was told that
/// nothing is done: then nothing is.
#[tokio::test(start_paused = true)]
async fn an_order_that_nobody_waits_for_any_more_is_not_begun() {
    let harness = Harness::start(Setup::default()).await;
    let mut sessions = Vec::new();
    for _ in 0..6 {
        sessions.push(worked(&harness, &[("a", "1")]).await.0);
    }
    harness.worktrees.slow(Duration::from_secs(60));
    let busy = sessions[..4].iter().map(|id| order(&harness, *id, all()));
    let busy = futures::future::join_all(busy);
    let given_up = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let asked = |session| Asked {
            id: OperationId::new(),
            session,
            order: Order::Reject {
                changes: Vec::new(),
            },
            caller: "test".into(),
        };
        let patience = Duration::from_secs(2);
        let gone = harness.tree.operate(asked(sessions[4]), patience).await;
        assert!(gone.is_none(), "{gone:?}");
        order(&harness, sessions[5], all()).await
    };
    let (done, last) = tokio::join!(busy, given_up);
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    assert!(last.is_ok(), "{last:?}");
    assert_eq!(pending(&harness, sessions[4]), ["a"], "nothing was done");
    let begun = harness.store.with(|rows| rows.operations.len());
    assert_eq!(begun, 5);
    harness.shutdown().await;
}
