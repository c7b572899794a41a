//! Long streams, and what inserts leave behind.

use hearth::store::BYTES_PER_READ;
use hearth::store::rows::tasks::stream_place;
use hearth_actors::ids::{SessionId, TaskId};
use hearth_actors::testing::contract_store::{AGENT, StoreUnderTest};
use uuid::Uuid;

use super::contract::RealStore;

/// Puts frames of nobody's at the end of a stream.
async fn fill(store: &RealStore, session: SessionId, count: i64, bytes: i32) {
    sqlx::query(
        "with stream as (
            update hearth.streams set last_seq = last_seq + $2 where session_id = $1
            returning last_seq - $2 as first)
         insert into hearth.frames (session_id, seq, kind, data)
         select $1, stream.first + n, 'delta',
            jsonb_build_object('text', repeat(md5(n::text), $3 / 32))
         from stream, generate_series(1, $2) n",
    )
    .bind(session.0)
    .bind(count)
    .bind(bytes)
    .execute(store.store.pool())
    .await
    .unwrap();
}

async fn session_of(store: &RealStore, task: TaskId) -> SessionId {
    let session: Uuid = sqlx::query_scalar("select session_id from tasks where id = $1")
        .bind(task.0)
        .fetch_one(store.store.pool())
        .await
        .unwrap();
    SessionId(session)
}

#[tokio::test]
async fn a_read_is_bounded_by_what_it_holds_and_the_next_goes_on() {
    let store = RealStore::fresh().await;
    let task = store.insert_task(None, None, AGENT).await;
    let session = session_of(&store, task).await;
    let before = store.store.last_seq(session).await.unwrap().unwrap();
    fill(&store, session, 150, 100_000).await;
    let (mut seen, mut reads) = (before, 0);
    loop {
        let page = store.store.read_page(session, seen, 500).await.unwrap();
        if page.frames.is_empty() {
            break;
        }
        assert!(page.bytes < BYTES_PER_READ + 128 * 1024, "{}", page.bytes);
        for frame in page.frames {
            assert_eq!(frame.seq, seen + 1);
            seen = frame.seq;
        }
        reads += 1;
    }
    assert_eq!((seen, reads), (before + 150, 4));
}

#[tokio::test]
async fn where_a_tasks_frames_begin_is_known_and_not_searched_for() {
    let store = RealStore::fresh().await;
    let first = store.insert_task(None, None, AGENT).await;
    let session = session_of(&store, first).await;
    fill(&store, session, 1000, 32).await;
    let end = store.store.last_seq(session).await.unwrap().unwrap();
    let late: Uuid = sqlx::query_scalar(
        "insert into tasks (project_id, session_id, input, agent)
         select project_id, session_id, 'late', agent from tasks where id = $1 returning id",
    )
    .bind(first.0)
    .fetch_one(store.store.pool())
    .await
    .unwrap();
    let place = async || {
        stream_place(store.store.pool(), late)
            .await
            .unwrap()
            .unwrap()
    };
    assert_eq!(place().await.first, end);
    // A task of an earlier version is looked for, and one that moved begins anew.
    fill(&store, session, 1, 32).await;
    sqlx::query("update hearth.frames set task_id = $1 where session_id = $2 and seq = $3")
        .bind(late)
        .bind(session.0)
        .bind(end + 1)
        .execute(store.store.pool())
        .await
        .unwrap();
    sqlx::query("update hearth.queue set stream_from = null where task_id = $1")
        .bind(late)
        .execute(store.store.pool())
        .await
        .unwrap();
    assert_eq!(place().await.first, end);
    let other = store.insert_task(None, None, AGENT).await;
    let other = session_of(&store, other).await;
    let from = async |session: SessionId| -> Option<i64> {
        sqlx::query_scalar(
            "update hearth.queue set session_id = $2, stream_from = coalesce(stream_from, 7)
             where task_id = $1 returning stream_from",
        )
        .bind(late)
        .bind(session.0)
        .fetch_one(store.store.pool())
        .await
        .unwrap()
    };
    assert_eq!(from(session).await, Some(7), "it did not move");
    assert_eq!(from(other).await, None);
}

#[tokio::test]
async fn an_insert_that_did_nothing_leaves_nothing() {
    let store = RealStore::fresh().await;
    let task = store.insert_task(None, None, AGENT).await;
    let again = "insert into tasks (id, project_id, input) select id, project_id, 'again'
        from tasks where id = $1 on conflict do nothing";
    sqlx::query(again)
        .bind(task.0)
        .execute(store.store.pool())
        .await
        .unwrap();
    assert_eq!(store.store.forget_homed().await.unwrap(), 1);
    assert_eq!(store.store.forget_homed().await.unwrap(), 0);
}
