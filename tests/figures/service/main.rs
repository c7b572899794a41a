//! The figures of the whole service, seen from outside: the release binary, a
//! durable PostgreSQL, a real agent process that notes when it was prompted.
//!
//! `cargo bench --bench figures_service`; with `-- pool` only what deaths and few
//! places cost.
//!
//! A figure that has a raw limit takes it in the same run and prints the ratio;
//! absolute times move with the machine, ratios hold.

mod agent;
mod clock;
mod hearth;
mod pool;
mod stream;

use std::time::{Duration, Instant};

use hearth_actors::tree::board::{Board, Snapshot};
use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::PgListener;

use clock::{Sample, now_ns};
use hearth::Hearth;

const ROUNDS: usize = 300;
const CHUNKS: usize = 100_000;
const DORMANT: usize = 200;

fn main() {
    if std::env::args().nth(1).as_deref() == Some(agent::COMMAND) {
        return agent::main();
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(figures());
}

async fn figures() {
    let mut hearth = Hearth::new().await;
    println!("start to ready");
    starts(&mut hearth).await;
    if std::env::args().any(|argument| argument == "pool") {
        return deaths_and_places(&mut hearth).await;
    }
    println!("idle");
    println!(
        "  {:<44} {:>9.1} MB",
        "resident, without PostgreSQL",
        hearth.rss_mb()
    );

    dormant(&hearth).await;
    println!("debug tree");
    tree_of_many();
    let pool = hearth.pool().await;
    let limit = bare_claim(&pool).await;
    println!("dispatch to a warm agent ({ROUNDS} rounds, durable commits)");
    limit.print("limit: bare INSERT → NOTIFY → claim", None);
    let (prompted, completed) = dispatched(&hearth, &pool).await;
    prompted.print("INSERT committed → prompt at the agent", Some(&limit));
    completed.print("INSERT committed → completed at the client", Some(&limit));
    stages(&pool).await;
    println!("warm turn by HTTP");
    first_delta(&hearth)
        .await
        .print("agent's first word → SSE client", None);
    println!("stream");
    flood(&hearth).await;
    deaths_and_places(&mut hearth).await;
}

async fn deaths_and_places(hearth: &mut Hearth) {
    println!("death of an agent in mid-turn");
    deaths(hearth).await;
    println!("death of Hearth, and of PostgreSQL");
    pool::recoveries(hearth).await;
    println!("{} chats, {} warm at a time", pool::CHATS, pool::PLACES);
    pool::few_places(hearth).await;
    hearth.stop().await;
}

/// What a chat costs whose agent was stopped. The first ones pay for memory that
/// all of them share.
async fn dormant(hearth: &Hearth) {
    rest(hearth, DORMANT / 4).await;
    let before = hearth.rss_mb();
    rest(hearth, DORMANT).await;
    let each = (hearth.rss_mb() - before) * 1024.0 / DORMANT as f64;
    println!(
        "  {:<44} {each:>9.1} KB",
        format!("each of {DORMANT} dormant chats")
    );
}

/// New chats, ten a session, each with one turn behind it and no agent.
async fn rest(hearth: &Hearth, chats: usize) {
    for _ in 0..chats / 10 {
        let first = hearth.chat().await;
        let mut stream = hearth.stream(&first.session).await;
        let mut of_session = vec![first];
        while of_session.len() < 10 {
            let next = hearth.next_chat(&of_session[0]).await;
            of_session.push(next);
        }
        for chat in &of_session {
            hearth.say(chat, "clock", "x").await;
            stream
                .until(|frame| frame["type"] == "task_updated" && frame["state"] == "completed")
                .await;
            hearth.evict(chat, "clock").await;
        }
    }
}

/// In this process: what the debug endpoint does with a board of 10 000 nodes.
fn tree_of_many() {
    const NODES: usize = 10_000;
    let board = Board::new();
    board.put(&["root"], Snapshot::default());
    board.put(&["root", "pool"], Snapshot::default());
    let detail = json!({ "session_id": "s", "worktree": "/a/worktree", "asks": [], "commands": 3 });
    for node in 0..(NODES - 2) / 2 {
        let name = format!("{node}/agent");
        let snapshot = Snapshot {
            kind: "session".into(),
            name: name.clone(),
            state: "idle".into(),
            detail: detail.clone(),
            ..Snapshot::default()
        };
        board.put(&["root", "pool", &name], snapshot.clone());
        board.put(&["root", "pool", &name, "agent"], snapshot);
    }
    let mut sample = Sample::default();
    for _ in 0..20 {
        let began = Instant::now();
        let tree = board.tree().expect("a root");
        let json = serde_json::to_vec(&tree).expect("json");
        sample.push(began.elapsed());
        assert!(json.len() > NODES * 100, "all of it");
    }
    sample.print("10 000 nodes, as JSON", None);
}

async fn starts(hearth: &mut Hearth) {
    let first = hearth.start().await;
    println!(
        "  {:<44} {:>9.1} ms",
        "first start, PostgreSQL created",
        ms(first)
    );
    let mut later = Sample::default();
    for _ in 0..5 {
        hearth.stop().await;
        later.push(hearth.start().await);
    }
    later.print("later start, PostgreSQL started too", None);
    let mut running = Sample::default();
    for _ in 0..5 {
        running.push(hearth.second_on_a_running_database().await);
    }
    running.print("start on a running database", None);
}

/// What PostgreSQL needs at least: a row, a notification, a claim committed.
async fn bare_claim(pool: &PgPool) -> Sample {
    for sql in [
        "create schema bare",
        "create table bare.inbox (id bigserial primary key, state text not null default 'queued')",
        "create index on bare.inbox (id) where state = 'queued'",
        "create function bare.told() returns trigger language plpgsql as
            $$ begin perform pg_notify('bare', ''); return null; end $$",
        "create trigger told after insert on bare.inbox for each row execute function bare.told()",
    ] {
        sqlx::query(sql).execute(pool).await.expect("a bare queue");
    }
    let mut listener = PgListener::connect_with(pool).await.expect("a listener");
    listener.listen("bare").await.expect("to listen");
    let mut sample = Sample::default();
    for _ in 0..ROUNDS {
        sqlx::query("insert into bare.inbox default values")
            .execute(pool)
            .await
            .expect("a row");
        let inserted = Instant::now();
        listener.recv().await.expect("a notification");
        sqlx::query(
            "with head as (select id from bare.inbox where state = 'queued'
                order by id limit 1 for update skip locked)
             update bare.inbox i set state = 'claimed' from head where i.id = head.id",
        )
        .execute(pool)
        .await
        .expect("a claim");
        sample.push(inserted.elapsed());
    }
    sample
}

async fn dispatched(hearth: &Hearth, pool: &PgPool) -> (Sample, Sample) {
    let chat = hearth.chat().await;
    let mut stream = hearth.stream(&chat.session).await;
    let (mut prompted, mut completed) = (Sample::default(), Sample::default());
    for round in 0..ROUNDS + 10 {
        sqlx::query(
            "insert into tasks(project_id, session_id, chat_id, agent, input)
             values ($1::uuid, $2::uuid, $3::uuid, 'clock', 'x')",
        )
        .bind(&chat.project)
        .bind(&chat.session)
        .bind(&chat.id)
        .execute(pool)
        .await
        .expect("a task");
        let inserted = now_ns();
        let task =
            stream.until(|frame| frame["type"] == "task_updated" && frame["state"] == "completed");
        task.await;
        if round >= 10 {
            completed.push(since(inserted, now_ns()));
            prompted.push(since(inserted, hearth.stamp("prompted")));
        }
    }
    (prompted, completed)
}

/// Where the time goes, by the database's clock. Rows are stamped before the
/// commit that stores them.
async fn stages(pool: &PgPool) {
    let medians: Vec<(String, f64)> = sqlx::query_as(
        "select s.stage, percentile_cont(0.5) within group (order by s.ms)::float8
         from hearth.turns t join tasks k on k.id = t.task_id, lateral (values
            (1, 'inserting → claiming', t.claimed_at - k.created_at),
            (2, 'claiming → opening', t.prompted_at - t.claimed_at),
            (3, 'opening → storing the first word', t.first_token_at - t.prompted_at),
            (4, 'first word → ending', t.ended_at - t.first_token_at)) v(n, stage, span),
            lateral (select v.n, v.stage, extract(epoch from v.span) * 1000 as ms) s
         where k.agent = 'clock' and t.outcome = 'ok'
         group by s.n, s.stage order by s.n",
    )
    .fetch_all(pool)
    .await
    .expect("the turns");
    for (stage, ms) in medians {
        println!("    {stage:<42} p50 {ms:>7.2} ms");
    }
}

async fn first_delta(hearth: &Hearth) -> Sample {
    let chat = hearth.chat().await;
    let mut stream = hearth.stream(&chat.session).await;
    let mut sample = Sample::default();
    for round in 0..ROUNDS + 10 {
        hearth.say(&chat, "clock", "x").await;
        stream.until(|frame| frame["type"] == "delta").await;
        let arrived = now_ns();
        stream
            .until(|frame| frame["type"] == "task_updated" && frame["state"] == "completed")
            .await;
        if round >= 10 {
            sample.push(since(hearth.stamp("spoke"), arrived));
        }
    }
    sample
}

async fn flood(hearth: &Hearth) {
    let chat = hearth.chat().await;
    let mut stream = hearth.stream(&chat.session).await;
    // Takes nothing while the flood lasts.
    let mut asleep = hearth.stream(&chat.session).await;
    let before = hearth.rss_mb();
    let started = Instant::now();
    hearth
        .say(&chat, "demo", &format!("flood {CHUNKS} 1"))
        .await;
    let seen = chunks(async || stream.next().await).await;
    print_chunks("agent → stored → SSE client", started, seen);
    let started = Instant::now();
    let seen = chunks(async || asleep.next().await).await;
    print_chunks("… → one that took nothing meanwhile", started, seen);
    let mut socket = hearth.web_socket(&chat.session).await;
    let started = Instant::now();
    let seen = chunks(async || socket.next().await).await;
    print_chunks("stored → WebSocket client that comes later", started, seen);
    println!(
        "  {:<44} {:>+9.1} MB",
        "resident, more than before",
        hearth.rss_mb() - before
    );
}

/// How many chunks a reader sees until the turn is over.
async fn chunks(mut next: impl AsyncFnMut() -> serde_json::Value) -> usize {
    let mut text = String::new();
    loop {
        let frame = next().await;
        match frame["type"].as_str() {
            Some("delta") => text.push_str(frame["text"].as_str().unwrap_or_default()),
            Some("task_updated") if frame["state"] == "completed" => break,
            _ => {}
        }
    }
    text.split_whitespace()
        .filter(|word| word.parse::<u64>().is_ok())
        .count()
}

fn print_chunks(what: &str, started: Instant, seen: usize) {
    println!(
        "  {what:<44} {:>9.0} chunks/s ({seen} of {CHUNKS} seen)",
        CHUNKS as f64 / started.elapsed().as_secs_f64(),
    );
}

async fn deaths(hearth: &Hearth) {
    let (mut told, mut again) = (Sample::default(), Sample::default());
    for _ in 0..20 {
        // A new chat each time: one that crashes often is made to rest.
        let chat = hearth.chat().await;
        let mut stream = hearth.stream(&chat.session).await;
        hearth.say(&chat, "clock", "wait").await;
        stream.until(|frame| frame["type"] == "delta").await;
        let pid = hearth.stamp("pid");
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a pid")),
            nix::sys::signal::Signal::SIGKILL,
        )
        .expect("to kill");
        let killed = Instant::now();
        stream
            .until(|frame| frame["type"] == "task_updated" && frame["state"] == "failed")
            .await;
        told.push(killed.elapsed());
        hearth.say(&chat, "clock", "x").await;
        stream
            .until(|frame| frame["type"] == "task_updated" && frame["state"] == "completed")
            .await;
        again.push(killed.elapsed());
    }
    told.print("killed → outcome at the client", None);
    again.print("killed → next turn completed (back-off in it)", None);
}

fn since(earlier: u64, later: u64) -> Duration {
    Duration::from_nanos(later.saturating_sub(earlier))
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// The settings of the measured service: the agent is this very program.
fn config() -> String {
    let program = std::env::current_exe().expect("this program");
    let agent = json!({
        "protocol": "acp",
        "command": program,
        "args": [agent::COMMAND],
        "pass_env": ["FIGURES_*"],
    });
    let mut table = toml::Table::new();
    let agent = toml::Value::try_from(agent).expect("toml");
    table.insert("clock".into(), agent);
    let mut root = toml::Table::new();
    root.insert("agents".into(), table.into());
    toml::to_string(&root).expect("toml")
}
