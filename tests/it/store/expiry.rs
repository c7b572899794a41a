//! Prompts whose time is over and whose agent is gone.

use hearth_actors::model::Assignment;
use hearth_actors::testing::contract_store::{AGENT, StoreUnderTest, acquire, claim_one, open};

use super::contract::RealStore;

/// A task that waits, without a turn, for an answer that is due since so many
/// seconds.
async fn due(store: &RealStore, since: f64, options: &str) -> Assignment {
    store.insert_task(None, None, AGENT).await;
    let turn = claim_one(store).await;
    open(store, &turn).await;
    for sql in [
        "update tasks set state = 'blocked' where id = (select task_id from hearth.turns where id = $1)",
        "update hearth.turns set ended_at = clock_timestamp(), outcome = 'interrupted' where id = $1",
        "update hearth.gates set turn_id = null where turn_id = $1",
    ] {
        sqlx::query(sql)
            .bind(turn.fence.turn.0)
            .execute(store.store.pool())
            .await
            .unwrap();
    }
    sqlx::query(
        "insert into hearth.prompts (id, turn_id, task_id, session_id, chat_id, agent, request,
            options, asked_seq, created_at, detached_at, expires_at)
         select gen_random_uuid(), t.id, t.task_id, t.session_id, k.chat_id, t.agent, '{}',
            $2::jsonb, 1, clock_timestamp(), clock_timestamp(), clock_timestamp() - $3 * interval '1 second'
         from hearth.turns t join tasks k on k.id = t.task_id where t.id = $1",
    )
    .bind(turn.fence.turn.0)
    .bind(options)
    .bind(since)
    .execute(store.store.pool())
    .await
    .unwrap();
    turn
}

async fn state(store: &RealStore, turn: &Assignment) -> String {
    sqlx::query_scalar("select state from hearth.prompts where turn_id = $1")
        .bind(turn.fence.turn.0)
        .fetch_one(store.store.pool())
        .await
        .unwrap()
}

/// Anybody may have written a row; the others do not wait for it.
#[tokio::test]
async fn one_that_cannot_be_settled_holds_no_other_back() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let bad = due(&store, 20.0, r#"{"not": "a list"}"#).await;
    let good = due(&store, 10.0, "[]").await;
    let frames = store.store.expire_detached().await.unwrap();
    assert!(!frames.is_empty());
    assert!(frames.iter().all(|frame| frame.session_id == good.session));
    assert_eq!(state(&store, &good).await, "expired");
    assert_eq!(state(&store, &bad).await, "open");
}
