//! A connection that breaks between the server's commit and its answer.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hearth_actors::ids::NodeId;
use hearth_actors::ports::Journal;
use hearth_actors::testing::contract_store::{
    AGENT, StoreUnderTest, acquire, append, batch, claim_one, open, turn_ref,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{UnixListener, UnixStream};

use super::contract::RealStore;
use super::pg;

#[tokio::test]
async fn a_group_commit_whose_answer_was_lost_is_written_once() {
    let (store, proxy) = behind_a_proxy().await;
    acquire(&store).await;
    store.insert_task(None, None, AGENT).await;
    let turn = claim_one(&store).await;
    let mut published = open(&store, &turn).await;
    published.extend(append(&store, &turn, &["before"]).await);

    proxy.swallow_next_answer();
    let lost = store
        .store
        .append(&turn_ref(&turn), &batch(&["once", "only"], 1))
        .await;
    assert!(proxy.swallowed(), "the answer was lost");
    published.extend(lost.expect("the store found out"));

    published.extend(append(&store, &turn, &["after"]).await);
    assert_eq!(store.frames(turn.session).await, published);
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_made_again() {
    let (store, proxy) = behind_a_proxy().await;
    acquire(&store).await;
    store.insert_task(None, None, AGENT).await;
    claim_one(&store).await;
    let task = store.insert_task(None, None, AGENT).await;

    proxy.swallow_next_answer();
    let names = hearth_actors::testing::contract_store::agents();
    store
        .queue()
        .claim(1, &names)
        .await
        .expect_err("the answer was lost");
    assert!(proxy.swallowed());
    let turn = claim_one(&store).await;
    assert_eq!((turn.fence.task, turn.fence.attempt), (task, 2));
}

async fn behind_a_proxy() -> (RealStore, Proxy) {
    let connect = pg::database().await;
    let server = PathBuf::from(connect.get_host()).join(".s.PGSQL.5432");
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
    let connect = connect.host(&folder.path().to_string_lossy());
    let swallow = Arc::new(AtomicBool::new(false));
    tokio::spawn(relay(listener, server, swallow.clone()));
    let store = pg::store_on(connect.clone(), NodeId::new()).await;
    (
        RealStore { store, connect },
        Proxy {
            swallow,
            _folder: folder,
        },
    )
}

struct Proxy {
    swallow: Arc<AtomicBool>,
    _folder: tempfile::TempDir,
}

impl Proxy {
    fn swallow_next_answer(&self) {
        self.swallow.store(true, Ordering::SeqCst);
    }

    fn swallowed(&self) -> bool {
        !self.swallow.load(Ordering::SeqCst)
    }
}

async fn relay(listener: UnixListener, server: PathBuf, swallow: Arc<AtomicBool>) {
    while let Ok((client, _)) = listener.accept().await {
        let server = UnixStream::connect(&server).await.unwrap();
        tokio::spawn(relay_one(client, server, swallow.clone()));
    }
}

/// The server's word for the end of a statement that returned one row. Small
/// answers come in one piece, after the commit.
const ANSWER: &[u8] = b"SELECT 1\0";

async fn relay_one(client: UnixStream, server: UnixStream, swallow: Arc<AtomicBool>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = copy(&mut from_client, &mut to_server);
    let answers = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from_server.read(&mut buffer).await.unwrap_or(0);
            let answer = buffer[..read]
                .windows(ANSWER.len())
                .any(|bytes| bytes == ANSWER);
            if read == 0 || (answer && swallow.swap(false, Ordering::SeqCst)) {
                return;
            }
            if to_client.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = requests => {}
        () = answers => {}
    }
}
