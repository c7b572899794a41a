//! Streams of many sessions, and streams that break.

use serde_json::json;

use super::super::stage::Stage;
use super::AGENT;
use crate::real_agents::patience;

const SESSIONS: usize = 20;

/// All at once, in worktrees of their own: one process, and nobody hears another.
#[tokio::test]
async fn twenty_sessions_share_one_server_and_do_not_mix() {
    // Twice what they are known to take: nothing here is about the limit.
    let stage = Stage::of(AGENT, |installed, model| {
        let table = AGENT.table(installed, model);
        format!("pool.max_live = 24\n{table}[agents.opencode-server.server]\nmemory_mb = 4096\n")
    })
    .await;
    let project = stage.service.project().await;
    let mut turns = Vec::new();
    let mut first = None;
    for number in 0..SESSIONS {
        let chat = stage.service.chat_of(&project).await;
        let words = words_of(number);
        // None is over before all of them have begun.
        let prompt = format!("[[slow:20x50]][[meet:{SESSIONS}]][[text:{words}]] lynx-{number}-");
        let task = stage.say(&chat, &prompt).await;
        if first.is_none() {
            let up = stage.server("a server", |server| server["rss_bytes"].is_u64());
            first = up.await["rss_bytes"].as_u64();
        }
        turns.push((chat, task));
    }
    let mut pids = Vec::new();
    let mut sessions = Vec::new();
    let mut spans = Vec::new();
    for (number, (chat, task)) in turns.iter().enumerate() {
        let task = stage.service.ended(task).await;
        assert_eq!(task["outcome"], "ok", "{task:#}\n{}", stage.service.log());
        let id = task["id"].as_str().unwrap();
        assert_eq!(stage.streamed(id, "delta").await, words_of(number));
        spans.push(span(&stage, id).await);
        let (pid, session) = stage.live(chat).await;
        pids.push(pid);
        sessions.push(session);
    }
    pids.dedup();
    assert_eq!(pids.len(), 1, "one process");
    let last_start = spans.iter().map(|(from, _)| from).max().unwrap();
    let first_end = spans.iter().map(|(_, to)| to).min().unwrap();
    assert!(last_start < first_end, "all stream at once: {spans:?}");
    sessions.sort();
    sessions.dedup();
    assert_eq!(sessions.len(), SESSIONS, "a session each");

    let server = stage
        .server("all tenants", |server| {
            server["tenants"] == SESSIONS && server["turns"] == 0
        })
        .await;
    assert_eq!(server["crashes"], 0, "{server:#}");
    assert_eq!(server["pid"], pids[0], "{server:#}");
    let last = server["rss_bytes"].as_u64().unwrap();
    let megabytes = |bytes: u64| bytes / (1024 * 1024);
    println!(
        "server of {SESSIONS} sessions: {} MB at its start, {} MB with all, {} MB each",
        megabytes(first.unwrap()),
        megabytes(last),
        megabytes(last.saturating_sub(first.unwrap())) / SESSIONS as u64
    );
    stage.strike().await;
}

fn words_of(number: usize) -> String {
    let word = |at: usize| format!("w{number}-{at}");
    (0..100).map(word).collect::<Vec<_>>().join(" ")
}

/// When the first and the last of its text was stored: milliseconds since 1970.
async fn span(stage: &Stage, task: &str) -> (i64, i64) {
    let query = "select (extract(epoch from min(at)) * 1000)::bigint, \
        (extract(epoch from max(at)) * 1000)::bigint \
        from hearth.frames where task_id = $1::uuid and kind = 'delta'";
    sqlx::query_as(query)
        .bind(task)
        .fetch_one(&stage.service.pool().await)
        .await
        .unwrap()
}

/// Behind a proxy that ends each stream of events after so long, and writes down what
/// becomes of each.
async fn behind_proxy(log: &tempfile::NamedTempFile, after_ms: u64) -> Stage {
    Stage::of(AGENT, |installed, model| {
        let (program, mut args, mut env) = AGENT.launch(installed, model);
        let proxy = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/agents/proxy.cjs");
        args.insert(0, proxy);
        env.push(("PROXY_PROGRAM", program.display().to_string()));
        env.push(("PROXY_LOG", log.path().display().to_string()));
        env.push(("PROXY_AFTER_MS", after_ms.to_string()));
        AGENT.table_named(AGENT.name(), &installed.node, &args, &env) + &patience(AGENT.name())
    })
    .await
}

/// The server of a closed chat has no reader more than before it.
#[tokio::test]
async fn nobody_reads_on_for_a_chat_that_is_not_warm_any_more() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let stage = behind_proxy(&log, 600_000).await;
    let chat = stage.service.chat().await;
    stage.turn(&chat, "[[text:one]] lynx").await;
    let neighbour = stage.neighbour(&chat).await;
    stage.turn(&neighbour, "[[text:two]] heron").await;
    let count = |word: &str| {
        let log = std::fs::read_to_string(log.path()).unwrap();
        log.lines().filter(|line| *line == word).count()
    };
    assert_eq!((count("opened"), count("closed")), (2, 0));
    let path = format!(
        "/api/debug/sessions/{}/{}/evict",
        neighbour.id,
        AGENT.name()
    );
    let (status, body) = stage.service.post(&path, json!({})).await;
    assert!(status < 300, "{status} {body}");
    stage
        .service
        .until("its reader is gone", async || {
            let (opened, closed) = (count("opened"), count("closed"));
            (opened - closed == 1).then_some(()).ok_or((opened, closed))
        })
        .await;
    stage.turn(&chat, "[[text:three]] otter").await;
    assert_eq!((count("opened"), count("closed")), (2, 1), "no other");
    stage.strike().await;
}

/// A proxy cuts the stream of events every 300 ms of a turn of 4 s.
#[tokio::test]
async fn a_stream_that_is_cut_again_and_again_loses_and_repeats_nothing() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let stage = behind_proxy(&log, 300).await;
    let chat = stage.service.chat().await;
    let file = stage.below(&chat, "poem.txt").await;
    let write = json!({"path": file, "content": "tides turn\n"});
    for (number, prompt) in [
        "[[slow:80x50]] lynx".to_owned(),
        "[[reason:I ponder the zebra.]][[slow:40x50]] heron".to_owned(),
        format!("[[tool:write {write}]][[slow:40x50]] otter"),
    ]
    .into_iter()
    .enumerate()
    {
        let task = stage.say(&chat, &prompt).await;
        let task = stage.service.ended(&task).await;
        assert_eq!(task["outcome"], "ok", "{task:#}\n{}", stage.service.log());
        let id = task["id"].as_str().unwrap();
        let ticks = if number == 0 { 80 } else { 40 };
        let wanted: String = (1..=ticks).map(|tick| format!("tick{tick} ")).collect();
        assert_eq!(stage.streamed(id, "delta").await.trim(), wanted.trim());
        let reasoning = stage.streamed(id, "reasoning_delta").await;
        let pondered = if number == 1 {
            "I ponder the zebra."
        } else {
            ""
        };
        assert_eq!(reasoning, pondered);
        let frames = stage.frames(id).await;
        let results = frames.iter().filter(|(kind, _)| kind == "tool_result");
        assert_eq!(results.count(), usize::from(number == 2), "{frames:#?}");
    }
    let log = std::fs::read_to_string(log.path()).unwrap();
    let cuts = log.lines().filter(|line| *line == "cut").count();
    println!("{cuts} cuts");
    assert!(cuts >= 15, "{cuts} cuts");
    stage.strike().await;
}

/// opencode asks the model again, which begins anew: people read its answer once.
#[tokio::test]
async fn an_answer_that_broke_off_is_told_once() {
    let stage = Stage::set(AGENT).await;
    let chat = stage.service.chat().await;
    let prompt = "[[deltas:8]][[reason:Hm, zebras.]][[text:The river carries the moon to sea.]][[cut:6,2]] lynx";
    let task = stage.turn(&chat, prompt).await;
    let id = task["id"].as_str().unwrap();
    let streamed = stage.streamed(id, "delta").await;
    assert_eq!(streamed, "The river carries the moon to sea.");
    assert_eq!(stage.streamed(id, "reasoning_delta").await, "Hm, zebras.");
    assert_eq!(stage.service.answers(&chat).await, [streamed]);
    assert_eq!(stage.model.asked_about("lynx").len(), 3, "it broke twice");
    stage.strike().await;
}
