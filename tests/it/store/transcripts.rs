//! Transcripts on a real PostgreSQL.

use std::time::Duration;

use async_trait::async_trait;
use hearth::store::Store;
use hearth_actors::ids::NodeId;
use hearth_actors::ports::{NodeLease, Transcripts};
use hearth_actors::testing::contract_transcripts::{
    TranscriptsUnderTest, beside, check, entry, fresh_key,
};
use hearth_actors::transcript::{Subpath, TranscriptKey};
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use uuid::Uuid;

use super::lost_answers::behind_a_proxy;
use super::pg;

struct Real {
    store: Store,
    connect: PgConnectOptions,
}

impl Real {
    async fn on(connect: PgConnectOptions) -> Self {
        let store = pg::store_on(connect.clone(), NodeId::new()).await;
        store.acquire().await.expect("a life");
        Self { store, connect }
    }
}

#[async_trait]
impl TranscriptsUnderTest for Real {
    fn port(&self) -> &dyn Transcripts {
        &self.store
    }

    async fn twin(&self) -> Box<dyn TranscriptsUnderTest> {
        Box::new(Self::on(self.connect.clone()).await)
    }

    async fn end_life(&self) {
        self.store.release().await.expect("released");
    }

    async fn insert(&self, key: &TranscriptKey, entries: &[Value]) {
        for entry in entries {
            sqlx::query("insert into claude_session_entries (project_key, session_id, subpath, entry) values ($1, $2, $3, $4)")
                .bind(key.project_key.as_str())
                .bind(key.session_id.as_str())
                .bind(key.subpath.as_ref().map_or("", Subpath::as_str))
                .bind(entry)
                .execute(self.store.pool())
                .await
                .expect("inserted");
        }
    }

    async fn rows(&self, key: &TranscriptKey) -> Vec<Value> {
        sqlx::query_scalar("select entry from claude_session_entries where project_key = $1 and session_id = $2 and subpath = $3 order by id")
            .bind(key.project_key.as_str())
            .bind(key.session_id.as_str())
            .bind(key.subpath.as_ref().map_or("", Subpath::as_str))
            .fetch_all(self.store.pool())
            .await
            .expect("read")
    }
}

#[tokio::test]
async fn the_table_keeps_the_contract() {
    check(&Real::on(pg::database().await).await).await;
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_made_once() {
    let (real, proxy) = behind_a_proxy().await;
    let (store, key) = (&real.store, fresh_key());
    store.acquire().await.expect("a life");
    let mut owner = store.own(&key.session_id).await.expect("nobody has it");
    let note = json!({"type": "last-prompt"});
    for number in 0..2 {
        let (write, entries) = (owner.write(), [note.clone(), entry(&format!("u{number}"))]);
        proxy.swallow_next_answer();
        let lost = store.append(&write, &key, &entries).await;
        lost.expect_err("the answer was lost");
        assert!(proxy.swallowed());
        store
            .append(&write, &key, &entries)
            .await
            .expect("found out");
    }
    let stored = store.load(&key).await.expect("read");
    let expected = vec![note.clone(), entry("u0"), note, entry("u1")];
    assert_eq!(stored, Some(expected));
}

/// What was there before the migration, repeats and all, is adopted and goes with
/// its chat.
#[tokio::test]
async fn transcripts_go_with_their_chat() {
    let real = Real::on(pg::database().await).await;
    let pool = real.store.pool();
    let (chat, other) = (chat(pool).await, chat(pool).await);
    let (old, new, theirs) = (fresh_key(), fresh_key(), fresh_key());
    for (chat, key) in [(chat, &old), (chat, &new), (other, &theirs)] {
        real.insert(key, &[entry("a"), entry("a")]).await;
        real.insert(&beside(key, "1"), &[entry("a")]).await;
        resumes(pool, chat, key).await;
    }
    let mut owner = real
        .store
        .own(&new.session_id)
        .await
        .expect("nobody has it");
    let stray = fresh_key();
    real.insert(&stray, &[entry("a")]).await;

    sqlx::query("delete from chats where id = $1")
        .bind(chat)
        .execute(pool)
        .await
        .unwrap();
    for gone in [&old, &new, &beside(&old, "1"), &beside(&new, "1")] {
        assert_eq!(real.store.load(gone).await.expect("read"), None, "{gone}");
    }
    for kept in [&theirs, &beside(&theirs, "1"), &stray] {
        assert!(
            real.store.load(kept).await.expect("read").is_some(),
            "{kept}"
        );
    }
    // A process that runs on writes nothing any more.
    let late = real
        .store
        .append(&owner.write(), &new, &[entry("late")])
        .await;
    late.expect_err("the session is gone");
    assert_eq!(real.rows(&new).await, Vec::<Value>::new());

    sqlx::query("delete from sessions where id = (select session_id from chats where id = $1)")
        .bind(other)
        .execute(pool)
        .await
        .unwrap();
    assert_eq!(real.store.load(&theirs).await.expect("read"), None);
}

/// Work that no chat asked for leaves a session that nobody resumes.
#[tokio::test]
async fn sessions_of_no_chat_go_after_a_while() {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let real = Real::on(pg::database().await).await;
    let pool = real.store.pool();
    let (stray, held, young, resumed, theirs) = (
        fresh_key(),
        fresh_key(),
        fresh_key(),
        fresh_key(),
        fresh_key(),
    );
    for key in [&stray, &held, &young, &resumed] {
        let mut owner = real
            .store
            .own(&key.session_id)
            .await
            .expect("nobody has it");
        let stored = real.store.append(&owner.write(), key, &[entry("a")]).await;
        stored.expect("stored");
        if key != &held {
            real.store.disown(&owner).await.expect("given up");
        }
    }
    real.insert(&theirs, &[entry("a")]).await;
    resumes(pool, chat(pool).await, &resumed).await;
    sqlx::query("update hearth.transcripts set taken_at = taken_at - interval '2 days' where session_id <> $1")
        .bind(young.session_id.as_str())
        .execute(pool)
        .await
        .unwrap();
    assert_eq!(real.store.prune_transcripts(3 * DAY).await.unwrap(), 0);
    assert_eq!(real.store.prune_transcripts(DAY).await.unwrap(), 1);
    assert_eq!(real.rows(&stray).await, Vec::<Value>::new());
    for kept in [&held, &young, &resumed, &theirs] {
        assert_eq!(real.rows(kept).await, [entry("a")], "{kept}");
    }
}

/// However long the session and however wrong the statistics, an entry is looked
/// for by its uuid.
#[tokio::test]
async fn an_append_reads_no_more_of_a_long_session() {
    let real = Real::on(pg::database().await).await;
    let key = fresh_key();
    let mut owner = real
        .store
        .own(&key.session_id)
        .await
        .expect("nobody has it");
    let many: Vec<Value> = (0..500)
        .map(|number| entry(&format!("u{number}")))
        .collect();
    real.store
        .append(&owner.write(), &key, &many)
        .await
        .expect("stored");
    let read = || async {
        sqlx::query_scalar::<_, i64>(
            "select coalesce(sum(seq_tup_read), 0)::bigint from pg_stat_user_tables where relname = 'claude_session_entries'",
        )
        .fetch_one(real.store.pool())
        .await
        .unwrap()
    };
    let before = read().await;
    for batch in many.chunks(100) {
        real.store
            .append(&owner.write(), &key, batch)
            .await
            .expect("stored");
    }
    assert_eq!(read().await, before, "nothing was searched through");
    assert_eq!(real.rows(&key).await.len(), many.len());
}

async fn chat(pool: &PgPool) -> Uuid {
    sqlx::query_scalar(
        "with project as (insert into projects (name, path) values ('p', '/p/' || gen_random_uuid()) returning id),
            session as (insert into sessions (project_id, name) select id, 's' from project returning id)
         insert into chats (session_id, name) select id, 'c' from session returning id",
    )
    .fetch_one(pool)
    .await
    .unwrap()
}

/// As the journal notes that a chat goes on with a session.
async fn resumes(pool: &PgPool, chat: Uuid, key: &TranscriptKey) {
    sqlx::query(
        "insert into agent_sessions (chat_id, agent, backend, agent_session_id)
         values ($1, 'claude', 'claude_sdk', $2)
         on conflict (chat_id, agent) do update set agent_session_id = excluded.agent_session_id",
    )
    .bind(chat)
    .bind(key.session_id.as_str())
    .execute(pool)
    .await
    .unwrap();
}
