//! Which interrupted tasks are tried again by themselves.

use std::collections::BTreeSet;

use hearth::store::Interrupted;
use hearth_actors::ids::TaskId;
use hearth_actors::outcome::Outcome;
use hearth_actors::testing::contract_store::{
    AGENT, StoreUnderTest, acquire, claim_one, finish, open,
};
use uuid::Uuid;

use super::contract::RealStore;

/// In a session of its own, interrupted in mid-turn.
async fn interrupted(store: &RealStore) -> TaskId {
    let task = store.insert_task(None, None, AGENT).await;
    store.wants_retry(task).await;
    let turn = claim_one(store).await;
    open(store, &turn).await;
    finish(store, &turn, Outcome::Interrupted).await;
    task
}

async fn wanted(store: &RealStore) -> Vec<Interrupted> {
    store.store.wanted_retries(None, 100).await.unwrap()
}

#[tokio::test]
async fn all_are_found_page_by_page() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let mut all = BTreeSet::new();
    for _ in 0..7 {
        all.insert(interrupted(&store).await.0);
    }
    let (mut seen, mut pages, mut last) = (BTreeSet::new(), 0, None);
    loop {
        let page = store.store.wanted_retries(last.as_ref(), 3).await.unwrap();
        assert!(page.iter().all(|one| seen.insert(one.task_id)), "twice");
        assert!(page.iter().all(|one| one.checkpoint_id.is_some()));
        pages += 1;
        match page.into_iter().last() {
            Some(end) => last = Some(end),
            None => break,
        }
    }
    assert_eq!((seen, pages), (all, 4));
}

/// A node that lives sees to its own.
#[tokio::test]
async fn turns_of_another_node_count_when_it_is_dead() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let task = interrupted(&store).await;
    let other = Uuid::now_v7();
    sqlx::query("update hearth.turns set node = $1")
        .bind(other)
        .execute(store.store.pool())
        .await
        .unwrap();
    for (lease, found) in [("1 minute", 0), ("-1 minute", 1)] {
        sqlx::query(
            "insert into hearth.nodes (id, name, version, lease_until)
             values ($1, 'n', 'v', clock_timestamp() + $2::interval)
             on conflict (id) do update set lease_until = excluded.lease_until",
        )
        .bind(other)
        .bind(lease)
        .execute(store.store.pool())
        .await
        .unwrap();
        assert_eq!(wanted(&store).await.len(), found, "{lease}");
    }
    assert_eq!(wanted(&store).await[0].task_id, task.0);
}

#[tokio::test]
async fn what_was_seen_to_is_not_wanted() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let dismissed = interrupted(&store).await;
    let retried = interrupted(&store).await;
    let unwanted = interrupted(&store).await;
    assert_eq!(wanted(&store).await.len(), 3);
    sqlx::query("update hearth.queue set on_interrupt = 'inbox' where task_id = $1")
        .bind(unwanted.0)
        .execute(store.store.pool())
        .await
        .unwrap();
    hearth::store::rows::inbox::dismiss_task(store.store.pool(), dismissed.0)
        .await
        .unwrap();
    store.store.retry(retried).await.unwrap();
    assert_eq!(wanted(&store).await, []);
}
