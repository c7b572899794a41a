//! Wake-ups on a real connection, also when it breaks.

use std::time::Duration;

use hearth::store::Signal;
use hearth_actors::ids::OperationId;
use hearth_actors::operation::{Abandoned, Asked, Begun};
use hearth_actors::review::Order;
use hearth_actors::testing::contract_store::{
    AGENT, StoreUnderTest, acquire, claim_one, finish_with, open,
};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::contract::RealStore;

/// Far below the silence after which a scan comes by itself.
const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_task_a_release_and_a_cancel_wake_the_listener() {
    let (store, mut signals) = listening(64).await;
    acquire(&store).await;
    let task = store.insert_task(None, None, AGENT).await;
    assert_eq!(next(&mut signals).await, Signal::Scan);
    let turn = claim_one(&store).await;
    store.queue().release(&turn.fence, None).await.unwrap();
    assert_eq!(next(&mut signals).await, Signal::Scan);
    claim_one(&store).await;
    store.request_cancel(task).await;
    assert_eq!(
        next(&mut signals).await,
        Signal::Control(format!("cancel {task}"))
    );
}

#[tokio::test]
async fn a_gate_that_is_given_back_wakes_the_listener_for_what_waits() {
    let (store, mut signals) = listening(64).await;
    acquire(&store).await;
    let session = store.insert_session().await;
    store.insert_task(Some(session), None, AGENT).await;
    let turn = claim_one(&store).await;
    open(&store, &turn).await;
    finish_with(&store, &turn, &[("a", "1")]).await;
    let order = Order::Reject {
        changes: Vec::new(),
    };
    let begin = async || {
        let asked = Asked {
            id: OperationId::new(),
            session,
            order: order.clone(),
            caller: "test".into(),
        };
        match store.operations().begin(&asked).await {
            Ok(Begun::Work(started)) => started.owner,
            other => panic!("{other:?}"),
        }
    };
    let why = Abandoned::default();
    drain_until_quiet(&mut signals).await;
    let owner = begin().await;
    store.operations().abandon(&owner, &why).await.unwrap();
    let owner = begin().await;
    assert!(signals.try_recv().is_err(), "nothing waits: nobody is told");
    store.insert_task(Some(session), None, AGENT).await;
    assert_eq!(next(&mut signals).await, Signal::Scan, "the task itself");
    drain_until_quiet(&mut signals).await;
    store.operations().abandon(&owner, &why).await.unwrap();
    assert_eq!(next(&mut signals).await, Signal::Scan, "the gate");
}

#[tokio::test]
async fn a_cut_connection_listens_again_and_scans() {
    let (store, mut signals) = listening(64).await;
    // Notifications of the moment without a connection are lost: the scan that
    // follows it is what finds the task.
    cut(&store).await;
    store.insert_task(None, None, AGENT).await;
    assert_eq!(next(&mut signals).await, Signal::Scan);
    // And it listens again.
    drain_until_quiet(&mut signals).await;
    store.insert_task(None, None, AGENT).await;
    assert_eq!(next(&mut signals).await, Signal::Scan);
}

#[tokio::test]
async fn a_burst_is_few_scans_and_no_verb_is_lost() {
    let (store, mut signals) = listening(1).await;
    for _ in 0..200 {
        store.insert_task(None, None, AGENT).await;
    }
    for n in 0..20 {
        sqlx::query("select pg_notify('hearth_control', $1)")
            .bind(format!("verb {n}"))
            .execute(store.store.pool())
            .await
            .unwrap();
    }
    let (mut scans, mut verbs) = (0, Vec::new());
    while verbs.len() < 20 {
        match next(&mut signals).await {
            Signal::Scan => scans += 1,
            Signal::Control(verb) => verbs.push(verb),
        }
    }
    assert!((1..=3).contains(&scans), "{scans} scans");
    let sent: Vec<String> = (0..20).map(|n| format!("verb {n}")).collect();
    assert_eq!(verbs, sent);
}

#[tokio::test]
async fn the_listener_leaves_with_its_receiver() {
    let store = RealStore::fresh().await;
    let (sender, mut receiver) = mpsc::channel(1);
    let running = tokio::spawn(store.store.listener().run(sender));
    assert_eq!(next(&mut receiver).await, Signal::Scan);
    drop(receiver);
    timeout(SOON, running).await.expect("it ends").unwrap();
}

async fn listening(capacity: usize) -> (RealStore, mpsc::Receiver<Signal>) {
    let store = RealStore::fresh().await;
    let (sender, mut receiver) = mpsc::channel(capacity);
    tokio::spawn(store.store.listener().run(sender));
    assert_eq!(
        next(&mut receiver).await,
        Signal::Scan,
        "it listens, so it looks"
    );
    (store, receiver)
}

async fn next(signals: &mut mpsc::Receiver<Signal>) -> Signal {
    timeout(SOON, signals.recv())
        .await
        .expect("a signal in time")
        .expect("it listens")
}

async fn cut(store: &RealStore) {
    let cut: i64 = sqlx::query_scalar(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity
         where datname = current_database() and query ~* '^listen'",
    )
    .fetch_one(store.store.pool())
    .await
    .unwrap();
    assert_eq!(cut, 1);
}

/// The cut and the insert may each bring a scan.
async fn drain_until_quiet(signals: &mut mpsc::Receiver<Signal>) {
    while timeout(Duration::from_millis(300), signals.recv())
        .await
        .is_ok()
    {}
}
