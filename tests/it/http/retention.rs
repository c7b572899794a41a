//! Frames are kept for a time, and a snapshot stands for those that are gone.

use std::time::Duration;

use hearth::http::state::Tree as _;
use hearth_actors::event::FrameKind;
use hearth_actors::ids::SessionId;
use serde_json::{Value, json};

use super::fixture::{Service, service};
use super::sse::Reader;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Makes the session's frames up to `seq` look two days old.
async fn age(service: &Service, session: SessionId, seq: i64) {
    sqlx::query(
        "update hearth.frames set at = at - interval '2 days' where session_id = $1 and seq <= $2",
    )
    .bind(session.0)
    .bind(seq)
    .execute(service.store.pool())
    .await
    .unwrap();
}

fn deltas(count: usize) -> Vec<(FrameKind, Value)> {
    vec![(FrameKind::Delta, json!({ "text": "x" })); count]
}

#[tokio::test]
async fn only_what_is_too_old_is_deleted_and_the_rest_has_no_holes() {
    let service = service().await;
    let old = SessionId(service.session().await);
    let young = SessionId(service.session().await);
    service.store_frames(old, None, &deltas(12_000)).await;
    service.store_frames(young, None, &deltas(10)).await;
    age(&service, old, 11_500).await;
    assert_eq!(service.store.prune_frames(3 * DAY).await.unwrap(), 0);
    assert_eq!(service.store.prune_frames(DAY).await.unwrap(), 11_500);
    assert_eq!(service.store.prune_frames(DAY).await.unwrap(), 0);
    let left = service.store.read_frames(old, 0, 1000).await.unwrap();
    let seqs: Vec<i64> = left.iter().map(|frame| frame.seq).collect();
    assert_eq!(seqs, (11_501..=12_000).collect::<Vec<_>>());
    let extent = service.store.extent(old).await.unwrap().unwrap();
    assert_eq!((extent.last_seq, extent.pruned_to), (12_000, 11_500));
    let extent = service.store.extent(young).await.unwrap().unwrap();
    assert_eq!((extent.last_seq, extent.pruned_to), (10, 0));
}

#[tokio::test]
async fn a_clock_that_was_set_back_makes_no_hole() {
    let service = service().await;
    let session = SessionId(service.session().await);
    service.store_frames(session, None, &deltas(10)).await;
    age(&service, session, 3).await;
    let aged =
        "update hearth.frames set at = at - interval '2 days' where session_id = $1 and seq = 7";
    sqlx::query(aged)
        .bind(session.0)
        .execute(service.store.pool())
        .await
        .unwrap();
    assert_eq!(service.store.prune_frames(DAY).await.unwrap(), 3);
    let left = service.store.read_frames(session, 0, 100).await.unwrap();
    assert_eq!(left.len(), 7);
}

#[tokio::test]
async fn a_cursor_older_than_what_is_kept_gets_the_present_state_and_then_what_comes() {
    let service = service().await;
    let (session, task) = service.task().await;
    let last = service.store_frames(session, None, &deltas(5)).await[4].seq;
    age(&service, session, last - 2).await;
    service.store.prune_frames(DAY).await.unwrap();
    let path = format!("/api/sessions/{session}/stream");
    let mut reader = Reader::open(&service, &path).await;
    let snapshot = reader.next().await.unwrap();
    assert_eq!(
        (snapshot.kind.as_str(), snapshot.id),
        ("snapshot", Some(last)),
        "it stands for every frame so far"
    );
    assert_eq!(snapshot.data["messages"][0]["content"], "hello");
    assert_eq!(snapshot.data["tasks"][0]["id"], json!(task));
    assert_eq!(snapshot.data["tasks"][0]["state"], "pending");
    assert_eq!(snapshot.data["permissions"], json!([]));
    assert_eq!(snapshot.data["older"], false);
    let live = service.store_frames(session, None, &deltas(1)).await;
    service.tree.hub().publish(live);
    assert_eq!(reader.seqs(1).await, [last + 1]);
    let mut kept = Reader::open_after(&service, &path, Some(last - 2)).await;
    let next = kept.next().await.unwrap();
    assert_eq!((next.kind.as_str(), next.id), ("delta", Some(last - 1)));
    age(&service, session, last + 1).await;
    service.store.prune_frames(DAY).await.unwrap();
    let mut reader = Reader::open_after(&service, &path, Some(last)).await;
    let snapshot = reader.next().await.unwrap();
    assert_eq!(snapshot.id, Some(last + 1), "nothing is kept any more");
    let mut at_the_end = Reader::open_after(&service, &path, Some(last + 1)).await;
    let live = service.store_frames(session, None, &deltas(1)).await;
    service.tree.hub().publish(live);
    assert_eq!(at_the_end.seqs(1).await, [last + 2]);
}

#[tokio::test]
async fn a_task_stream_has_a_snapshot_of_its_own_and_a_younger_task_none() {
    let service = service().await;
    let (session, task) = service.task().await;
    service.store_frames(session, Some(task), &deltas(4)).await;
    let aside = "update tasks set created_at = created_at - interval '2 days' where id = $1";
    sqlx::query(aside)
        .bind(task.0)
        .execute(service.store.pool())
        .await
        .unwrap();
    let last = service.store.last_seq(session).await.unwrap().unwrap();
    age(&service, session, last - 1).await;
    service.store.prune_frames(DAY).await.unwrap();
    let path = format!("/api/tasks/{task}/stream");
    let mut reader = Reader::open(&service, &path).await;
    let snapshot = reader.next().await.unwrap();
    assert_eq!(
        (snapshot.kind.as_str(), snapshot.id),
        ("snapshot", Some(last))
    );
    assert_eq!(snapshot.data["task_id"], json!(task));
    assert_eq!(snapshot.data["messages"][0]["content"], "hello");
    let (status, _) = service
        .post(&format!("/api/tasks/{task}/cancel"), &json!({}))
        .await;
    assert_eq!(status, 200);
    let mut over = Reader::open(&service, &path).await;
    let snapshot = over.next().await.unwrap();
    assert_eq!(snapshot.kind, "snapshot");
    assert_eq!(snapshot.data["tasks"][0]["state"], "cancelled");
    assert_eq!(over.next().await, None, "a task that is over has no more");

    let (other, young) = service.task().await;
    service.store_frames(other, Some(young), &deltas(1)).await;
    let mut reader = Reader::open(&service, &format!("/api/tasks/{young}/stream")).await;
    assert_ne!(reader.next().await.unwrap().kind, "snapshot");
}

#[tokio::test]
async fn a_stream_ends_when_its_session_is_gone() {
    let service = service().await;
    let session = SessionId(service.session().await);
    let mut reader = Reader::open(&service, &format!("/api/sessions/{session}/stream")).await;
    sqlx::query("delete from sessions where id = $1")
        .bind(session.0)
        .execute(service.store.pool())
        .await
        .unwrap();
    let stray = hearth_actors::event::Frame {
        seq: 9,
        kind: FrameKind::Delta,
        session_id: session,
        chat_id: None,
        task_id: None,
        message_id: None,
        at: chrono::Utc::now(),
        data: json!({}),
    };
    // What nobody can read from storage any more is no gap to wait for.
    service.tree.hub().publish(vec![stray]);
    assert_eq!(reader.next().await, None);
}
