//! Tasks that tasks ask for, as those see it who follow the first one.

use std::pin::pin;

use futures::StreamExt as _;
use serde_json::json;

use super::harness::{SOON, Service};

/// Nothing came for so long that storage is read again, where a frame that
/// nobody published is found in any case.
const HEARTBEAT: &str = ": heartbeat";

#[tokio::test]
async fn the_end_of_a_child_reaches_who_follows_its_parent_at_once() {
    let service = Service::start().await;
    let project = service.project().await;
    let chat = service.chat_of(&project).await;
    // Only a task that is not over can ask for another.
    let parent = service.say(&chat, "wait 60s").await;
    service.state(&chat, "running").await;

    let path = format!("/api/sessions/{}/stream", chat.session);
    let mut body = service.stream(&path).await.bytes_stream();
    let mut read = String::new();
    let mut next = async || {
        let chunk = tokio::time::timeout(SOON, body.next()).await;
        let chunk = chunk.expect("a frame in time").expect("more").unwrap();
        String::from_utf8(chunk.to_vec()).unwrap()
    };
    while !read.contains(r#""state":"running""#) {
        read += &next().await;
    }

    let asked = json!({
        "project_id": project, "input": "say done", "agent": "demo", "parent_task_id": parent,
    });
    let (status, child) = service.post("/api/tasks", asked).await;
    assert!(status < 300, "{status} {child}");
    let child = child["task_id"].as_str().unwrap().to_owned();
    read.clear();
    {
        let mut ended = pin!(service.outcome(&child));
        loop {
            tokio::select! {
                biased;
                chunk = next() => read += &chunk,
                outcome = &mut ended => {
                    assert_eq!(outcome, "ok");
                    break;
                }
            }
        }
    }
    let before = read.len();
    while !read.contains(r#""child":"#) {
        read += &next().await;
    }
    assert!(
        !read[before..].contains(HEARTBEAT),
        "it came with a heartbeat only: {read}"
    );
    assert!(read.contains(&child), "{read}");
}
