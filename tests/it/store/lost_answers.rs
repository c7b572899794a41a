//! A connection that breaks between the server's commit and its answer.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hearth_actors::ids::NodeId;
use hearth_actors::model::{Diff, TurnEnd, Usage};
use hearth_actors::outcome::Outcome;
use hearth_actors::ports::{Journal, JournalError};
use hearth_actors::testing::contract_store::{
    AGENT, StoreUnderTest, acquire, append, batch, change, claim_one, open, turn_ref,
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

#[tokio::test]
async fn an_end_whose_answer_was_lost_is_told_and_not_repeated() {
    let (store, proxy) = behind_a_proxy().await;
    acquire(&store).await;
    for diff in [None, Some(Diff::default()), Some(one_change())] {
        store.insert_task(None, None, AGENT).await;
        let turn = claim_one(&store).await;
        let mut published = open(&store, &turn).await;
        let end = TurnEnd {
            outcome: Outcome::Ok,
            detail: None,
            diff,
            usage: Usage::default(),
            taken: None,
        };
        proxy.swallow_next_answer();
        let ended = store.store.finish(&turn_ref(&turn), &end).await;
        assert!(proxy.swallowed(), "the answer was lost");
        published.extend(ended.expect("the store found out"));
        assert_eq!(store.frames(turn.session).await, published);
    }
}

/// The caller that stopped waiting asks again and is not taken for another.
#[tokio::test]
async fn an_end_that_nobody_waited_for_is_told_to_its_repeat() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    store.insert_task(None, None, AGENT).await;
    let turn = claim_one(&store).await;
    let mut published = open(&store, &turn).await;
    let end = TurnEnd {
        outcome: Outcome::Ok,
        detail: None,
        diff: None,
        usage: Usage::default(),
        taken: None,
    };
    let gate = hold_gate(&store, turn.session.0).await;
    let turn_ref = turn_ref(&turn);
    tokio::select! {
        biased;
        ended = store.store.finish(&turn_ref, &end) => panic!("the gate is held: {ended:?}"),
        () = somebody_waits_for_a_lock(&store) => {}
    }
    gate.commit().await.unwrap();
    published.extend(store.store.finish(&turn_ref, &end).await.expect("a repeat"));
    assert_eq!(store.frames(turn.session).await, published);
    let again = store.store.finish(&turn_ref, &end).await;
    assert!(matches!(again, Err(JournalError::Fenced)), "{again:?}");
}

#[tokio::test]
async fn a_repeated_open_writes_nothing_twice() {
    let store = RealStore::fresh().await;
    acquire(&store).await;
    store.insert_task(None, None, AGENT).await;
    let turn = claim_one(&store).await;
    let first = open(&store, &turn).await;
    assert_eq!(open(&store, &turn).await, first);
    assert_eq!(store.frames(turn.session).await, first);
}

fn one_change() -> Diff {
    Diff {
        tree: "t".into(),
        changes: vec![change("a", "1")],
        ..Diff::default()
    }
}

async fn hold_gate(
    store: &RealStore,
    session: uuid::Uuid,
) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut held = store.store.pool().begin().await.unwrap();
    sqlx::query("select 1 from hearth.gates where session_id = $1 for update")
        .bind(session)
        .execute(&mut *held)
        .await
        .unwrap();
    held
}

async fn somebody_waits_for_a_lock(store: &RealStore) {
    let waits = || async {
        sqlx::query_scalar::<_, bool>(
            "select exists (select 1 from pg_stat_activity
                where datname = current_database() and wait_event_type = 'Lock')",
        )
        .fetch_one(store.store.pool())
        .await
        .unwrap()
    };
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while !waits().await {
        assert!(tokio::time::Instant::now() < until, "nobody waits");
    }
}

pub(super) async fn behind_a_proxy() -> (RealStore, Proxy) {
    let connect = pg::database().await;
    let name = format!(".s.PGSQL.{}", connect.get_port());
    let server = connect.get_socket().expect("a socket").join(&name);
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join(&name)).unwrap();
    let connect = connect.socket(folder.path());
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

pub(super) struct Proxy {
    swallow: Arc<AtomicBool>,
    _folder: tempfile::TempDir,
}

impl Proxy {
    pub(super) fn swallow_next_answer(&self) {
        self.swallow.store(true, Ordering::SeqCst);
    }

    pub(super) fn swallowed(&self) -> bool {
        !self.swallow.load(Ordering::SeqCst)
    }
}

async fn relay(listener: UnixListener, server: PathBuf, swallow: Arc<AtomicBool>) {
    while let Ok((client, _)) = listener.accept().await {
        let server = UnixStream::connect(&server).await.unwrap();
        tokio::spawn(relay_one(client, server, swallow.clone()));
    }
}

/// The server's words for the end of a statement that returned one row, or that
/// wrote frames. Small answers come in one piece, after the commit.
const ANSWERS: [&[u8]; 2] = [b"SELECT 1\0", b"INSERT 0 "];

async fn relay_one(client: UnixStream, server: UnixStream, swallow: Arc<AtomicBool>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = copy(&mut from_client, &mut to_server);
    let answers = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from_server.read(&mut buffer).await.unwrap_or(0);
            let answer = ANSWERS.iter().any(|words| {
                buffer[..read]
                    .windows(words.len())
                    .any(|bytes| bytes == *words)
            });
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
