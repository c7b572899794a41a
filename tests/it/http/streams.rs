//! Streams: storage first, then live, nothing lost and nothing twice.

use hearth::http::state::Tree as _;
use hearth_actors::event::FrameKind;
use hearth_actors::ids::SessionId;
use hearth_actors::tree::board::Snapshot;
use serde_json::{Value, json};

use super::fixture::service;
use super::sse::Reader;

fn deltas(count: usize) -> Vec<(FrameKind, Value)> {
    (0..count)
        .map(|number| (FrameKind::Delta, json!({ "text": number.to_string() })))
        .collect()
}

#[tokio::test]
async fn storage_comes_first_and_then_what_is_published() {
    let service = service().await;
    let session = SessionId(service.session().await);
    service.store_frames(session, None, &deltas(1200)).await;
    let path = format!("/api/sessions/{session}/stream");
    let mut reader = Reader::open(&service, &path).await;
    assert_eq!(reader.seqs(1200).await, (1..=1200).collect::<Vec<_>>());
    let live = service.store_frames(session, None, &deltas(3)).await;
    service.tree.hub().publish(live.clone());
    service.tree.hub().publish(live);
    let event = reader.next().await.unwrap();
    assert_eq!((event.kind.as_str(), event.id), ("delta", Some(1201)));
    assert_eq!(event.data["type"], "delta");
    assert_eq!(event.data["seq"], 1201);
    assert_eq!(event.data["text"], "0");
    assert_eq!(reader.seqs(2).await, [1202, 1203]);
    let more = service.store_frames(session, None, &deltas(1)).await;
    service.tree.hub().publish(more);
    assert_eq!(reader.seqs(1).await, [1204], "nothing came twice");
}

#[tokio::test]
async fn a_reader_goes_on_behind_its_last_seq() {
    let service = service().await;
    let session = SessionId(service.session().await);
    service.store_frames(session, None, &deltas(10)).await;
    let path = format!("/api/sessions/{session}/stream");
    let mut by_query = Reader::open(&service, &format!("{path}?after=7")).await;
    assert_eq!(by_query.seqs(3).await, [8, 9, 10]);
    let mut by_header = Reader::open_after(&service, &format!("{path}?after=2"), Some(8)).await;
    assert_eq!(by_header.seqs(2).await, [9, 10], "the header wins");
    let mut beyond = Reader::open(&service, &format!("{path}?after=99")).await;
    let live = service.store_frames(session, None, &deltas(1)).await;
    service.tree.hub().publish(live);
    assert_eq!(
        beyond.seqs(1).await,
        [11],
        "a cursor of another life means the end"
    );
}

#[tokio::test]
async fn a_gap_is_filled_from_storage() {
    let service = service().await;
    let session = SessionId(service.session().await);
    service.store_frames(session, None, &deltas(2)).await;
    let mut reader = Reader::open(&service, &format!("/api/sessions/{session}/stream")).await;
    assert_eq!(reader.seqs(2).await, [1, 2]);
    let mut live = service.store_frames(session, None, &deltas(5)).await;
    service.tree.hub().publish(live.split_off(4));
    assert_eq!(reader.seqs(5).await, [3, 4, 5, 6, 7]);
}

#[tokio::test]
async fn who_lags_is_told_and_catches_up() {
    let service = service().await;
    let session = SessionId(service.session().await);
    service.store_frames(session, None, &deltas(1)).await;
    let mut reader = Reader::open(&service, &format!("/api/sessions/{session}/stream")).await;
    assert_eq!(reader.seqs(1).await, [1]);
    let live = service.store_frames(session, None, &deltas(1)).await;
    service.tree.hub().publish(live);
    assert_eq!(reader.seqs(1).await, [2], "the reader is live");
    let live = service.store_frames(session, None, &deltas(3000)).await;
    // This thread also serves the stream: it sees none of these before all
    // are published, which is more than the hub keeps.
    service.tree.hub().publish(live);
    let told = reader.next().await.unwrap();
    assert_eq!((told.kind.as_str(), told.id), ("lagged", None));
    assert!(
        told.data["missed"]
            .as_u64()
            .is_some_and(|missed| missed > 1000)
    );
    assert_eq!(reader.seqs(3000).await, (3..=3002).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_task_stream_shows_its_own_frames_and_ends_with_the_outcome() {
    let service = service().await;
    let (session, task) = service.task().await;
    let path = format!("/api/tasks/{task}/stream");
    let mut reader = Reader::open(&service, &path).await;
    let frames = [
        (Some(task), FrameKind::Delta, json!({ "text": "mine" })),
        (None, FrameKind::Delta, json!({ "text": "another's" })),
        (
            Some(task),
            FrameKind::TaskUpdated,
            json!({ "state": "running" }),
        ),
        (
            Some(task),
            FrameKind::TaskUpdated,
            json!({ "state": "completed", "outcome": "ok" }),
        ),
        (
            Some(task),
            FrameKind::AgentStatusUpdated,
            json!({ "status": "idle" }),
        ),
    ];
    for (task, kind, data) in frames {
        let stored = service.store_frames(session, task, &[(kind, data)]).await;
        service.tree.hub().publish(stored);
    }
    let mut seen = Vec::new();
    while let Some(event) = reader.next().await {
        assert_eq!(event.data["task_id"], json!(task));
        seen.push(event);
    }
    let last = seen.last().unwrap();
    assert_eq!(last.data["outcome"], "ok");
    assert!(seen.iter().any(|event| event.data["text"] == "mine"));
    let mut again = Reader::open_after(&service, &path, last.id.map(|id| id - 1)).await;
    assert_eq!(again.next().await.as_ref(), Some(last));
    assert_eq!(again.next().await, None);
}

#[tokio::test]
async fn the_stream_of_a_task_that_is_over_ends() {
    let service = service().await;
    let (_, task) = service.task().await;
    let mut reader = Reader::open(&service, &format!("/api/tasks/{task}/stream")).await;
    let (status, _) = service
        .post(&format!("/api/tasks/{task}/cancel"), &json!({}))
        .await;
    assert_eq!(status, 200);
    let mut states = Vec::new();
    while let Some(event) = reader.next().await {
        states.extend(event.data["state"].as_str().map(str::to_owned));
    }
    assert_eq!(states.last().map(String::as_str), Some("cancelled"));
    let mut late =
        Reader::open_after(&service, &format!("/api/tasks/{task}/stream"), Some(999)).await;
    assert_eq!(late.next().await, None);
}

#[tokio::test]
async fn streams_end_when_the_service_stops() {
    let service = service().await;
    let session = service.session().await;
    let mut frames = Reader::open(&service, &format!("/api/sessions/{session}/stream")).await;
    let mut tree = Reader::open(&service, "/api/debug/tree/stream").await;
    assert_eq!(tree.next().await.map(|event| event.data), Some(Value::Null));
    service.closing.cancel();
    assert_eq!(frames.next().await, None);
    assert_eq!(tree.next().await, None);
}

#[tokio::test]
async fn the_tree_is_shown_whenever_it_changes() {
    let service = service().await;
    let mut reader = Reader::open(&service, "/api/debug/tree/stream").await;
    assert_eq!(
        reader.next().await.map(|event| event.data),
        Some(Value::Null)
    );
    for number in 0..1000 {
        let snapshot = Snapshot {
            state: number.to_string(),
            ..Snapshot::default()
        };
        service.tree.board().put(&["root"], snapshot);
    }
    let event = reader.next().await.unwrap();
    assert_eq!((event.kind.as_str(), event.id), ("tree", None));
    assert_eq!(event.data["state"], "999", "changes are put together");
}
