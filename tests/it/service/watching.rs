//! The supervision tree, watched while it lives.

use futures::StreamExt as _;
use serde_json::Value;

use super::harness::{Chat, SOON, Service};

#[tokio::test]
async fn a_session_is_seen_to_appear_to_work_and_to_rest() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let mut tree = Pictures::open(&service).await;
    assert_eq!(
        state_in(&tree.next().await, &chat),
        None,
        "at once, and without it"
    );
    let task = service.say(&chat, "wait 1s\nsay done").await;
    tree.until(&chat, "running").await;
    let pid = service.agent_pid(&chat).await.to_string();
    tree.find("its process", |tree| {
        session_in(tree, &chat).is_some_and(|node| node["children"].to_string().contains(&pid))
    })
    .await;
    tree.until(&chat, "idle").await;
    assert_eq!(service.outcome(&task).await, "ok");
    let evict = format!("/api/debug/sessions/{}/demo/evict", chat.id);
    assert_eq!(service.post(&evict, Value::Null).await.0, 204);
    tree.until_gone(&chat).await;
}

/// The pictures of `/api/debug/tree/stream`.
struct Pictures {
    body: std::pin::Pin<Box<dyn futures::Stream<Item = Vec<u8>> + Send>>,
    read: String,
}

impl Pictures {
    async fn open(service: &Service) -> Self {
        let answer = service.stream("/api/debug/tree/stream").await;
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let body = answer.bytes_stream();
        let body = body.map(|chunk| chunk.expect("the stream goes on").to_vec());
        Self {
            body: Box::pin(body),
            read: String::new(),
        }
    }

    async fn next(&mut self) -> Value {
        loop {
            if let Some((event, rest)) = self.read.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.read = rest;
                if let Some(data) = event.strip_prefix("event: tree\ndata: ") {
                    return serde_json::from_str(data).unwrap();
                }
                continue;
            }
            let chunk = tokio::time::timeout(SOON, self.body.next()).await;
            let chunk = chunk.expect("a picture in time").expect("more of them");
            self.read.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    async fn until(&mut self, chat: &Chat, state: &str) -> Value {
        self.find(state, |tree| state_in(tree, chat) == Some(state))
            .await
    }

    async fn until_gone(&mut self, chat: &Chat) {
        self.find("gone", |tree| session_in(tree, chat).is_none())
            .await;
    }

    async fn find(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = async {
            loop {
                last = self.next().await;
                if wanted(&last) {
                    return last.clone();
                }
            }
        };
        let found = tokio::time::timeout(SOON, found).await.ok();
        found.unwrap_or_else(|| panic!("{what} was not seen; last {last:#}"))
    }
}

fn session_in<'a>(tree: &'a Value, chat: &Chat) -> Option<&'a Value> {
    let children = |node: &'a Value| node["children"].as_array().map_or(&[][..], Vec::as_slice);
    let pool = children(tree).iter().find(|node| node["kind"] == "pool")?;
    let name = format!("{}/demo", chat.id);
    children(pool)
        .iter()
        .find(|node| node["name"] == name.as_str())
}

fn state_in<'a>(tree: &'a Value, chat: &Chat) -> Option<&'a str> {
    session_in(tree, chat)?["state"].as_str()
}
