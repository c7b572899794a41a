//! Claude's sessions, kept in the database.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::stage::{Agent, Stage};
use crate::service::hand_over::told;

/// Everything that claude keeps itself is gone, after a stop and after a kill in the
/// middle of a turn: its sessions go on from the database.
pub(super) async fn bereft(agent: Agent) {
    let mut stage = Stage::with(agent, "shutdown_grace_ms = 200").await;
    let chat = stage.service.chat().await;
    stage.turn(&chat, "[[text:The word is tamarind.]]").await;
    let inner = r#"\u005b\u005btext:The subagent saw a heron.\u005d\u005d look"#;
    let prompt = format!(
        r#"[[tool:Agent {{"description":"looker","subagent_type":"general-purpose","prompt":"{inner}"}}]] send one"#
    );
    stage.turn(&chat, &prompt).await;
    let (_, session) = stage.live(&chat).await;
    for how in ["stop", "kill"] {
        if how == "stop" {
            assert!(stage.service.terminate().await.success());
        } else {
            let task = stage.say(&chat, "[[slow:600x50]] half a lynx").await;
            stage.answering("half a lynx").await;
            kept(&stage, "half a lynx").await;
            stage.service.kill().await;
            println!("killed in the middle of {task}");
        }
        let home = stage.service.home.join("homes/claude");
        std::fs::remove_dir_all(&home).unwrap();
        std::fs::create_dir(&home).unwrap();
        stage.service = stage.service.again().await;
        stage
            .turn(&chat, &format!("[[text:Back again.]] after a {how}"))
            .await;
        assert_eq!(stage.live(&chat).await.1, session, "{how}: its own session");
        let seen = stage.asked(&format!("after a {how}")).await;
        for words in ["tamarind", "saw a heron"] {
            assert!(
                seen.knows(words),
                "{how}: no {words} in {:#}",
                seen.body["messages"]
            );
        }
    }
    assert!(
        stage.asked("after a kill").await.knows("half a lynx"),
        "the prompt was stored"
    );
    let files = walk(&stage.service.home.join("homes/claude/.claude/projects"));
    let beside: Vec<_> = files
        .iter()
        .filter(|file| file.contains("/subagents/"))
        .collect();
    assert!(
        beside.len() >= 2,
        "its transcript and what is known of it: {files:?}"
    );
    stage.strike().await;
}

/// Waits until an entry with these words is in the store: the mirror runs beside the
/// turn, and what a `kill -9` finds unwritten is gone.
async fn kept(stage: &Stage, words: &str) {
    let pool = stage.service.pool().await;
    stage
        .service
        .until(&format!("{words} in the store"), async || {
            let query = "select count(*) from claude_session_entries \
                where entry->>'type' = 'user' and strpos(entry::text, $1) > 0";
            let count: i64 = sqlx::query_scalar(query)
                .bind(words)
                .fetch_one(&pool)
                .await
                .unwrap();
            (count > 0).then_some(()).ok_or(count)
        })
        .await;
}

fn walk(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.push(path.display().to_string());
        }
    }
    files
}

/// Twenty turns with a stop and a kill of Hearth between them: what they are said to
/// have spent is what the model counted.
pub(super) async fn totals(agent: Agent) {
    let mut stage = Stage::set(agent).await;
    let chat = stage.service.chat().await;
    let (mut tokens, mut cost) = (0, 0.0);
    for round in 0..20 {
        if round == 7 {
            assert!(stage.service.terminate().await.success());
            stage.service = stage.service.again().await;
        }
        if round == 14 {
            stage.service.kill().await;
            stage.service = stage.service.again().await;
        }
        let tool = match round % 5 {
            0 => r#"[[tool:shell {"command":"true"}]]"#,
            _ => "",
        };
        let task = stage
            .turn(
                &chat,
                &format!("{tool}[[usage:{},{}]] {round}", 1000 + round, 10 + round),
            )
            .await;
        tokens += task["cost_tokens"].as_i64().unwrap();
        cost += task["turns"][0]["cost"].as_f64().unwrap();
    }
    let calls = stage.model.asked();
    let (input, output) = calls
        .iter()
        .filter_map(|call| call.usage)
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert_eq!(tokens, input + output, "{} calls", calls.len());
    // The list price of claude-sonnet-4-5: 3 and 15 dollars for a million.
    let price = (input as f64 * 3.0 + output as f64 * 15.0) / 1e6;
    assert!((cost - price).abs() < 1e-9, "{cost} is not {price}");
    let path = format!("/api/sessions/{}/agent-sessions", chat.session);
    let row = &stage.service.get(&path).await["items"][0];
    assert_eq!(
        row["input_tokens"].as_i64().unwrap() + row["output_tokens"].as_i64().unwrap(),
        tokens
    );
    stage.strike().await;
}

/// The store of transcripts does not answer for a while, in the middle of turns: they go
/// on, and nothing is missing from it when it is back.
pub(super) async fn store_away(agent: Agent) {
    let mut stage = Stage::set(agent).await;
    let chat = stage.service.chat().await;
    stage.turn(&chat, "[[text:The word is tamarind.]]").await;
    let (_, session) = stage.live(&chat).await;
    let pool = stage.service.pool().await;
    let mut lock = pool.begin().await.unwrap();
    sqlx::query("lock table claude_session_entries in access exclusive mode")
        .execute(&mut *lock)
        .await
        .unwrap();
    for word in ["lynx", "heron"] {
        let started = Instant::now();
        let task = stage
            .turn(&chat, &format!("[[text:It is {word}.]] {word}"))
            .await;
        let took = started.elapsed();
        println!("a turn without the store: {took:?}");
        assert!(took < Duration::from_secs(15), "{took:?}");
        let frames = stage.frames(task["id"].as_str().unwrap()).await;
        let waits = |data: &Value| data["kind"] == "transcript_waits";
        assert!(frames.iter().any(|(_, data)| waits(data)), "{frames:#?}");
    }
    lock.rollback().await.unwrap();
    stage.turn(&chat, "[[text:It is otter.]] otter").await;
    stage
        .service
        .until("a store that knows what the file does", async || {
            let (stored, local) = (stored(&stage, &session).await, local(&stage, &session));
            let counts = (stored.len(), local.len());
            (stored == local && !local.is_empty())
                .then_some(())
                .ok_or(counts)
        })
        .await;
    stage.service.kill().await;
    let home = stage.service.home.join("homes/claude");
    std::fs::remove_dir_all(&home).unwrap();
    std::fs::create_dir(&home).unwrap();
    stage.service = stage.service.again().await;
    stage.turn(&chat, "[[text:back]] vole").await;
    assert_eq!(stage.live(&chat).await.1, session, "its own session");
    let seen = stage.asked("vole").await;
    let messages = seen.body["messages"].to_string();
    for words in [
        "is tamarind.",
        "It is lynx.",
        "It is heron.",
        "It is otter.",
    ] {
        // Once as what was asked for, once as what was said.
        assert_eq!(messages.matches(words).count(), 2, "{words}: {messages}");
    }
    stage.strike().await;
}

/// The entries of the session's main transcript in the database.
async fn stored(stage: &Stage, session: &str) -> Vec<Value> {
    let query = "select entry from claude_session_entries
        where session_id = $1 and subpath = '' order by id";
    let entries = sqlx::query_scalar(query).bind(session);
    entries
        .fetch_all(&stage.service.pool().await)
        .await
        .unwrap()
}

/// Those of claude's own file, without what it tells nobody of.
fn local(stage: &Stage, session: &str) -> Vec<Value> {
    let files = walk(&stage.service.home.join("homes/claude/.claude/projects"));
    let name = format!("/{session}.jsonl");
    let file = files.iter().find(|file| file.ends_with(&name)).unwrap();
    let text = std::fs::read_to_string(file).unwrap();
    let entries = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    entries
        .filter(|entry: &Value| {
            let kind = entry["type"].as_str().unwrap_or_default();
            !kind.starts_with("api-request")
        })
        .collect()
}

/// A session that claude does not know is not a silent loss.
pub(super) async fn unknown(agent: Agent) {
    let mut stage = Stage::set(agent).await;
    let chat = stage.service.chat().await;
    stage.turn(&chat, "[[text:The word is tamarind.]]").await;
    let (_, former) = stage.live(&chat).await;
    assert!(stage.service.terminate().await.success());
    let query = "update agent_sessions set agent_session_id = gen_random_uuid()::text where agent_session_id = $1";
    let pool = stage.service.pool().await;
    let changed = sqlx::query(query)
        .bind(&former)
        .execute(&pool)
        .await
        .unwrap();
    assert_eq!(changed.rows_affected(), 1);
    stage.service = stage.service.again().await;
    let task = stage.turn(&chat, "[[text:fine]] heron").await;
    let why = told(&task).to_string();
    assert!(why.contains("does not know the former session"), "{why}");
    assert!(
        stage.asked("heron").await.knows("tamarind"),
        "told what was said"
    );
    assert_ne!(stage.live(&chat).await.1, former);
    stage.strike().await;
}
