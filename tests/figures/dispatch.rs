//! How far dispatch and journal are from what PostgreSQL can do at best. Each
//! figure is taken beside its raw limit in the same run; only the ratio means
//! something elsewhere.
//!
//! `HEARTH_IT_FSYNC=1 cargo bench --bench figures_dispatch`: durable commits

#[path = "server.rs"]
mod pg;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hearth::store::{Signal, Store};
use hearth_actors::event::{Batch, FrameDraft, FrameKind, TurnRef};
use hearth_actors::ids::{AgentName, NodeId};
use hearth_actors::model::Assignment;
use hearth_actors::ports::{Journal, NodeLease, TaskQueue};
use hearth_actors::testing::contract_store::{open_turn, turn_ref};
use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgListener};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use uuid::Uuid;

const ROUNDS: usize = 500;
const WAITING: i32 = 100_000;
/// Turns at a time while the queue is drained.
const ROOM: usize = 128;
const FRAMES_PER_BATCH: usize = 2_000;
const BATCHES: usize = 20;

#[tokio::main]
async fn main() {
    println!("INSERT committed → NOTIFY → … committed ({ROUNDS} rounds)");
    let raw = raw_dispatch().await;
    raw.print("raw limit: claim, bare table", None);
    let (claimed, opened) = ours_dispatch().await;
    claimed.print("hearth: claim", Some(&raw));
    opened.print("hearth: claim, open", Some(&raw));

    println!("one claim on a just-filled, unanalysed queue of {WAITING}");
    for sessions in [1, 10, 10_000] {
        let label = format!("in {sessions} sessions");
        claims_of_a_full_queue(sessions).await.print(&label, None);
    }
    drain().await;

    println!("frames/s, {FRAMES_PER_BATCH} a batch");
    let raw = raw_frames().await;
    let ours = our_frames().await;
    println!("  {:<28} {raw:>10.0}", "raw limit: unnest");
    println!(
        "  {:<28} {ours:>10.0}  ({:.2}× of the limit)",
        "hearth: append",
        ours / raw
    );
}

// --- dispatch ----------------------------------------------------------------

async fn raw_dispatch() -> Sample {
    let pool = PgPool::connect_with(pg::empty_database().await)
        .await
        .expect("connect");
    for sql in [
        "create table inbox (id bigserial primary key, state text not null default 'queued')",
        "create index on inbox (id) where state = 'queued'",
        "create function told() returns trigger language plpgsql as
            $$ begin perform pg_notify('inbox', new.id::text); return null; end $$",
        "create trigger told after insert on inbox for each row execute function told()",
    ] {
        sqlx::query(sql).execute(&pool).await.expect("set up");
    }
    let mut listener = PgListener::connect_with(&pool).await.expect("listen");
    listener.listen("inbox").await.expect("listen");
    let mut sample = Sample::default();
    for _ in 0..ROUNDS {
        sqlx::query("insert into inbox default values")
            .execute(&pool)
            .await
            .expect("insert");
        let start = Instant::now();
        listener.recv().await.expect("a notification");
        sqlx::query(
            "with c as (select id from inbox where state = 'queued' order by id limit 1 for update skip locked)
             update inbox i set state = 'claimed' from c where i.id = c.id returning i.id",
        )
        .fetch_one(&pool)
        .await
        .expect("claim");
        sample.add(start);
    }
    sample
}

/// To the committed claim, and to the `open` that the prompt waits for.
async fn ours_dispatch() -> (Sample, Sample) {
    let connect = pg::database().await;
    let store = store(&connect).await;
    let session = session(store.pool()).await;
    let (signals, mut inbox) = mpsc::channel(1);
    tokio::spawn(store.listener().run(signals));
    assert_eq!(inbox.recv().await, Some(Signal::Scan), "listening");
    let (mut claimed, mut opened) = (Sample::default(), Sample::default());
    for _ in 0..ROUNDS {
        insert_task(store.pool(), session).await;
        let start = Instant::now();
        let turn = loop {
            inbox.recv().await.expect("a signal");
            if let Some(turn) = claim(&store, 1).await.pop() {
                break turn;
            }
        };
        claimed.add(start);
        store.journal_open(&turn).await;
        opened.add(start);
        finish(&store, &turn).await;
    }
    (claimed, opened)
}

async fn claims_of_a_full_queue(sessions: i32) -> Sample {
    let store = store(&pg::database().await).await;
    fill(store.pool(), sessions).await;
    let mut sample = Sample::default();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let turn = claim(&store, 1).await.pop().expect("a task waits");
        sample.add(start);
        finish(&store, &turn).await;
    }
    sample
}

/// A null agent: as the dispatcher does, one claim at a time for what there is
/// room for, while what it brought ends, each by itself.
async fn drain() {
    let store = store(&pg::database().await).await;
    fill(store.pool(), 10_000).await;
    let room = Arc::new(Semaphore::new(ROOM));
    let start = Instant::now();
    let mut ends = JoinSet::new();
    while start.elapsed() < Duration::from_secs(3) {
        let mut credit = room.clone().acquire_owned().await.expect("open");
        let rest = u32::try_from(room.available_permits()).expect("a few");
        if let Ok(more) = room.clone().try_acquire_many_owned(rest) {
            credit.merge(more);
        }
        for turn in claim(&store, credit.num_permits()).await {
            let slot = credit.split(1).expect("no more than the credit");
            let store = store.clone();
            ends.spawn(async move {
                finish(&store, &turn).await;
                drop(slot);
            });
        }
    }
    let done = ends.len();
    while let Some(end) = ends.join_next().await {
        end.expect("an end");
    }
    let rate = done as f64 / start.elapsed().as_secs_f64();
    println!("  drained by a null agent: {rate:.0} tasks/s");
}

// --- frames ------------------------------------------------------------------

async fn raw_frames() -> f64 {
    let pool = PgPool::connect_with(pg::empty_database().await)
        .await
        .expect("connect");
    sqlx::query(
        "create table frames (session uuid, seq bigint, kind text, data jsonb, primary key (session, seq))",
    )
    .execute(&pool)
    .await
    .expect("set up");
    let (session, data) = (Uuid::now_v7(), vec![delta().to_string(); FRAMES_PER_BATCH]);
    let start = Instant::now();
    for batch in 0..BATCHES {
        let first = (batch * FRAMES_PER_BATCH) as i64;
        sqlx::query(
            "insert into frames select $1, $2 + n, 'delta', d::jsonb
             from unnest($3::text[]) with ordinality u(d, n)",
        )
        .bind(session)
        .bind(first)
        .bind(&data)
        .execute(&pool)
        .await
        .expect("insert");
    }
    (BATCHES * FRAMES_PER_BATCH) as f64 / start.elapsed().as_secs_f64()
}

async fn our_frames() -> f64 {
    let store = store(&pg::database().await).await;
    let session = session(store.pool()).await;
    insert_task(store.pool(), session).await;
    let turn = claim(&store, 1).await.pop().expect("a task waits");
    let turn_ref: TurnRef = turn_ref(&turn);
    store.journal_open(&turn).await;
    let draft = FrameDraft {
        kind: FrameKind::Delta,
        data: delta(),
    };
    let batch = Batch {
        frames: vec![draft; FRAMES_PER_BATCH],
        ..Batch::default()
    };
    let start = Instant::now();
    for _ in 0..BATCHES {
        store.append(&turn_ref, &batch).await.expect("append");
    }
    (BATCHES * FRAMES_PER_BATCH) as f64 / start.elapsed().as_secs_f64()
}

fn delta() -> serde_json::Value {
    json!({ "text": "the quick brown fox jumps over the lazy dog" })
}

// --- helpers -----------------------------------------------------------------

trait Opens {
    async fn journal_open(&self, turn: &Assignment);
}

impl Opens for Store {
    async fn journal_open(&self, turn: &Assignment) {
        self.open(&turn_ref(turn), &open_turn(turn))
            .await
            .expect("open");
    }
}

async fn store(connect: &PgConnectOptions) -> Store {
    let store = pg::store_on(connect.clone(), NodeId::new()).await;
    store.acquire().await.expect("a lease");
    store
}

async fn session(pool: &PgPool) -> Uuid {
    sqlx::query_scalar(
        "with p as (insert into projects (name, path) values ('p', '/p') returning id)
         insert into sessions (project_id, name) select id, 's' from p returning id",
    )
    .fetch_one(pool)
    .await
    .expect("insert")
}

async fn insert_task(pool: &PgPool, session: Uuid) {
    sqlx::query(
        "insert into tasks (project_id, session_id, agent, input)
         select project_id, id, 'demo', 'x' from sessions where id = $1",
    )
    .bind(session)
    .execute(pool)
    .await
    .expect("insert");
}

/// Session by session, so that the oldest entries are all of one session.
async fn fill(pool: &PgPool, sessions: i32) {
    let mut tx = pool.begin().await.expect("begin");
    sqlx::query("set local statement_timeout = 0")
        .execute(&mut *tx)
        .await
        .expect("set");
    sqlx::query("insert into projects (name, path) values ('p', '/p')")
        .execute(&mut *tx)
        .await
        .expect("insert");
    sqlx::query("insert into sessions (project_id, name) select p.id, 's' || n from projects p, generate_series(1, $1) n")
        .bind(sessions)
        .execute(&mut *tx)
        .await
        .expect("insert");
    sqlx::query(
        "insert into tasks (project_id, session_id, agent, input)
         select s.project_id, s.id, 'demo', 'x' from sessions s, generate_series(1, $1) n order by s.name, n",
    )
    .bind(WAITING / sessions)
    .execute(&mut *tx)
    .await
    .expect("insert");
    tx.commit().await.expect("commit");
}

async fn claim(store: &Store, credit: usize) -> Vec<Assignment> {
    let agents: [AgentName; 1] = ["demo".into()];
    store
        .claim(credit, &agents)
        .await
        .expect("claim")
        .assignments
}

async fn finish(store: &Store, turn: &Assignment) {
    let end = hearth_actors::model::TurnEnd {
        outcome: hearth_actors::outcome::Outcome::Ok,
        detail: None,
        diff: None,
        usage: hearth_actors::model::Usage::default(),
        taken: None,
    };
    store.finish(&turn_ref(turn), &end).await.expect("finish");
}

#[derive(Default)]
struct Sample(Vec<Duration>);

impl Sample {
    fn add(&mut self, start: Instant) {
        self.0.push(start.elapsed());
    }

    fn at(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort();
        let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        sorted.get(index).copied().unwrap_or_default().as_secs_f64() * 1e3
    }

    fn print(&self, label: &str, limit: Option<&Sample>) {
        let (half, most) = (self.at(50), self.at(99));
        let ratio = limit.map_or_else(String::new, |limit| {
            format!("  ({:.2}× of the limit)", half / limit.at(50))
        });
        println!("  {label:<28} p50 {half:.2} ms  p99 {most:.2} ms{ratio}");
    }
}
