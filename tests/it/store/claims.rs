//! Claims beyond the contract: many at once, plain SQL, a long queue.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use hearth_actors::outcome::{Outcome, TaskState};
use hearth_actors::ports::{QueueError, TaskQueue};
use hearth_actors::testing::contract_store::{
    AGENT, StoreUnderTest, acquire, agents, claim, claim_one, finish,
};
use uuid::Uuid;

use super::contract::RealStore;

#[tokio::test]
async fn four_claimers_never_share_a_task_or_a_session() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    const SESSIONS: usize = 20;
    const TASKS: usize = 10;
    for _ in 0..SESSIONS {
        let session = store.insert_session().await;
        for _ in 0..TASKS {
            store.insert_task(Some(session), None, AGENT).await;
        }
    }
    let mut claimers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store = RealStore {
            store: store.store.clone(),
            connect: store.connect.clone(),
        };
        claimers.spawn(async move {
            let mut order = Vec::new();
            let deadline = Instant::now() + Duration::from_secs(60);
            loop {
                let turns = claim(&store, 3).await.assignments;
                for turn in &turns {
                    order.push((turn.session, turn.fence.task));
                    finish(&store, turn, Outcome::Ok).await;
                }
                if turns.is_empty() && waiting(&store).await == 0 {
                    return order;
                }
                assert!(Instant::now() < deadline, "tasks are left over");
            }
        });
    }
    let claimed: Vec<_> = claimers.join_all().await.into_iter().flatten().collect();
    let distinct: BTreeSet<_> = claimed.iter().map(|(_, task)| task).collect();
    assert_eq!(
        (claimed.len(), distinct.len()),
        (SESSIONS * TASKS, SESSIONS * TASKS)
    );
    let out_of_order: i64 = sqlx::query_scalar(
        "select count(*) from hearth.turns a join hearth.queue qa on qa.task_id = a.task_id
            join hearth.turns b on b.session_id = a.session_id
            join hearth.queue qb on qb.task_id = b.task_id
         where qa.queue_seq < qb.queue_seq and a.ended_at > b.claimed_at",
    )
    .fetch_one(store.store.pool())
    .await
    .unwrap();
    assert_eq!(
        out_of_order, 0,
        "within a session a turn ends before the next begins"
    );
}

#[tokio::test]
async fn plain_sql_gets_home_default_agent_and_place_in_the_queue() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let project = store.insert_project().await;
    for input in ["first", "second"] {
        sqlx::query("insert into tasks (project_id, input) values ($1, $2)")
            .bind(project)
            .bind(input)
            .execute(store.store.pool())
            .await
            .unwrap();
    }
    let claim = claim(&store, 5).await;
    let inputs: Vec<&str> = claim
        .assignments
        .iter()
        .map(|turn| turn.input.as_str())
        .collect();
    assert_eq!(inputs, ["first", "second"]);
    for turn in &claim.assignments {
        assert_eq!(turn.key.agent.as_str(), AGENT, "the default agent");
        let hidden: bool =
            sqlx::query_scalar("select hidden from hearth.gates where session_id = $1")
                .bind(turn.session.0)
                .fetch_one(store.store.pool())
                .await
                .unwrap();
        assert!(hidden);
    }
}

#[tokio::test]
async fn without_a_default_agent_a_task_that_names_none_waits() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let project = store.insert_project().await;
    sqlx::query("insert into tasks (project_id, input) values ($1, 'x')")
        .bind(project)
        .execute(store.store.pool())
        .await
        .unwrap();
    let unknown = store.store.claim(5, &["other".into()]).await.unwrap();
    assert!(
        unknown.assignments.is_empty(),
        "the default agent is not among the known ones"
    );
}

#[tokio::test]
async fn a_task_by_sql_reopens_its_closed_chat_and_session() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let session = store.insert_session().await;
    let chat = store.insert_chat(session).await;
    store.insert_task(Some(session), Some(chat), AGENT).await;
    sqlx::query("update hearth.gates set closed_at = now() where session_id = $1")
        .bind(session.0)
        .execute(store.store.pool())
        .await
        .unwrap();
    assert!(
        claim(&store, 1).await.assignments.is_empty(),
        "closed is closed"
    );
    let task = store.insert_task(Some(session), Some(chat), AGENT).await;
    let turn = claim_one(&store).await;
    finish(&store, &turn, Outcome::Ok).await;
    assert_eq!(claim_one(&store).await.fence.task, task);
}

#[tokio::test]
async fn sessions_that_are_busy_elsewhere_do_not_block_others() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let other_node = Uuid::now_v7();
    sqlx::query("insert into hearth.nodes (id, name, version) values ($1, 'n', 'v')")
        .bind(other_node)
        .execute(store.store.pool())
        .await
        .unwrap();
    for (column, value) in [
        ("node", format!("'{other_node}'")),
        ("operation", "gen_random_uuid()".to_owned()),
        ("arena", "gen_random_uuid()".to_owned()),
        ("deleted_at", "now()".to_owned()),
    ] {
        let session = store.insert_session().await;
        for _ in 0..20 {
            store.insert_task(Some(session), None, AGENT).await;
        }
        let sql = format!("update hearth.gates set {column} = {value} where session_id = $1");
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(session.0)
            .execute(store.store.pool())
            .await
            .unwrap();
    }
    let free = store.insert_task(None, None, AGENT).await;
    assert_eq!(claim_one(&store).await.fence.task, free);
    assert!(claim(&store, 10).await.assignments.is_empty());
}

/// The caller gave up waiting; the server did not.
#[tokio::test]
async fn a_claim_that_nobody_waited_for_is_given_back() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let task = store.insert_task(None, None, AGENT).await;
    let mut blocker = store.store.pool().begin().await.unwrap();
    sqlx::query("select 1 from hearth.nodes for update")
        .execute(&mut *blocker)
        .await
        .unwrap();
    let names = agents();
    let deadline = Instant::now() + Duration::from_secs(10);
    let waits = async {
        let locked = "select exists (select from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock')";
        while !sqlx::query_scalar::<_, bool>(locked)
            .fetch_one(store.store.pool())
            .await
            .unwrap()
        {
            assert!(Instant::now() < deadline, "the claim reaches the server");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = waits => {}
        claimed = store.store.claim(1, &names) => panic!("it waits for the node's row: {claimed:?}"),
    }
    blocker.rollback().await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while store.task_state(task).await != TaskState::Running {
        assert!(
            Instant::now() < deadline,
            "the server carries the claim out"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let turn = claim_one(&store).await;
    assert_eq!((turn.fence.task, turn.fence.attempt), (task, 2));
}

#[tokio::test]
async fn a_lease_that_ran_out_claims_nothing() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    store.insert_task(None, None, AGENT).await;
    sqlx::query("update hearth.nodes set lease_until = now() - interval '1 ms'")
        .execute(store.store.pool())
        .await
        .unwrap();
    let refused = store.store.claim(1, &agents()).await;
    assert!(matches!(refused, Err(QueueError::LeaseLost)), "{refused:?}");
    store.lease().renew().await.unwrap();
    claim_one(&store).await;
}

/// A queue that was just filled has no statistics; how fast it is claimed is a
/// figure of `figures_dispatch`.
#[tokio::test]
async fn a_long_queue_is_claimed_task_by_task() {
    for sessions in [10, 10_000] {
        let store = RealStore::fresh().await;
        acquire_for_long(&store).await;
        fill(&store, sessions, 100_000 / sessions).await;
        let mut claimed = BTreeSet::new();
        for _ in 0..20 {
            let turn = claim_one(&store).await;
            assert!(claimed.insert(turn.fence.task.0), "claimed twice");
            finish(&store, &turn, Outcome::Ok).await;
        }
    }
}

/// A queue full of what nobody here can run is passed over.
#[tokio::test]
async fn a_claim_finds_its_task_behind_those_of_unknown_agents() {
    let store = RealStore::fresh().await;
    acquire_for_long(&store).await;
    fill(&store, 10, 10_000).await;
    sqlx::query("update hearth.queue set agent = 'nobody'")
        .execute(store.store.pool())
        .await
        .unwrap();
    for _ in 0..20 {
        let task = store.insert_task(None, None, AGENT).await;
        let turn = claim_one(&store).await;
        assert_eq!(turn.fence.task, task);
        finish(&store, &turn, Outcome::Ok).await;
    }
}

/// More entries of a busy session stand in front than a claim looks at.
#[tokio::test]
async fn behind_a_busy_session_the_oldest_heads_go_first() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    let busy = store.insert_session().await;
    store.insert_task(Some(busy), None, AGENT).await;
    claim_one(&store).await;
    for _ in 0..100 {
        store.insert_task(Some(busy), None, AGENT).await;
    }
    let mut free = Vec::new();
    for _ in 0..20 {
        free.push(store.insert_task(None, None, AGENT).await);
    }
    let claimed = claim(&store, 5).await;
    let order: Vec<_> = claimed
        .assignments
        .iter()
        .map(|turn| turn.fence.task)
        .collect();
    assert_eq!(order, free[..5]);
    assert!(claimed.more);
}

/// A lease that needs no renewal, however long a busy machine takes.
async fn acquire_for_long(store: &RealStore) {
    acquire(store).await;
    sqlx::query("update hearth.nodes set lease_until = lease_until + interval '1 hour'")
        .execute(store.store.pool())
        .await
        .unwrap();
}

/// In one statement, so that no statistics exist.
async fn fill(store: &RealStore, sessions: i32, each: i32) {
    let project = store.insert_project().await;
    let mut tx = store.store.pool().begin().await.unwrap();
    sqlx::query("set local statement_timeout = 0")
        .execute(&mut *tx)
        .await
        .unwrap();
    sqlx::query(
        "insert into sessions (project_id, name) select $1, 's' || n from generate_series(1, $2) n",
    )
    .bind(project)
    .bind(sessions)
    .execute(&mut *tx)
    .await
    .unwrap();
    sqlx::query(
        "insert into tasks (project_id, session_id, agent, input)
         select project_id, id, 'demo', 'x' from sessions, generate_series(1, $1) n order by name, n",
    )
    .bind(each)
    .execute(&mut *tx)
    .await
    .unwrap();
    tx.commit().await.unwrap();
}

async fn waiting(store: &RealStore) -> i64 {
    sqlx::query_scalar("select count(*) from hearth.queue where waiting")
        .fetch_one(store.store.pool())
        .await
        .unwrap()
}
