//! Servers that die, stand still or grow.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::super::stage::Stage;
use super::{AGENT, chats, go_on};
use crate::service::harness::signal;

/// One chat works, with a command of its own; two rest.
#[tokio::test]
async fn a_killed_server_ends_its_turn_and_every_chat_goes_on() {
    let stage = Stage::set(AGENT).await;
    let chats = chats(&stage, 3).await;
    let mut sessions = Vec::new();
    for chat in &chats {
        sessions.push(stage.live(chat).await.1);
    }
    let (pid, _) = stage.live(&chats[0]).await;
    let mark = stage.below(&chats[0], "started").await;
    let prompt = format!(r#"[[tool:shell {{"command":"touch {mark}; tail -f /dev/null"}}]] go"#);
    let task = stage.say(&chats[0], &prompt).await;
    stage
        .service
        .until("the command", async || {
            let runs = std::path::Path::new(&mark).exists() && !tails(&stage).is_empty();
            runs.then_some(()).ok_or("it does not run")
        })
        .await;

    signal(pid, Signal::SIGKILL);
    let killed = Instant::now();
    let task = stage.service.ended(&task).await;
    println!("killed server to outcome: {:?}", killed.elapsed());
    assert_eq!(task["outcome"], "agent_crashed", "{task:#}");
    let detail = task["outcome_detail"].as_str().unwrap();
    assert!(detail.contains("signal 9"), "{detail}");
    stage
        .service
        .until("no command is left", async || {
            let left = tails(&stage);
            left.is_empty().then_some(()).ok_or(left)
        })
        .await;

    go_on(&stage, &chats, &sessions).await;
    let server = stage.server("up", |server| server["state"] == "up").await;
    assert_ne!(server["pid"], pid);
    assert_eq!(server["crashes"], 1, "{server:#}");
    let why = server["last_restart"].as_str().unwrap();
    assert!(why.contains("signal 9"), "{why}");
    stage.strike().await;
}

fn tails(stage: &Stage) -> Vec<i32> {
    let line = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/cmdline"));
    let is_tail = |pid: &i32| line(pid).is_ok_and(|line| line.starts_with("tail\0"));
    stage
        .service
        .processes()
        .into_iter()
        .filter(is_tail)
        .collect()
}

/// Probes every second that may take three, deaf after three of them: 12 s at most,
/// and with a turn 25 s from the last sign of life. The rest is for its end by KILL
/// and for a busy machine.
#[tokio::test]
async fn a_server_that_stands_still_is_replaced_in_time() {
    const LIMITS: &str = "[agents.opencode-server.server]\n\
        probe_ms = 1000\nprobe_timeout_ms = 3000\nbusy_grace_ms = 25000\n";
    const REST: Duration = Duration::from_secs(8);
    let stage = Stage::with(AGENT, LIMITS).await;
    let chats = chats(&stage, 2).await;
    let mut sessions = Vec::new();
    for chat in &chats {
        sessions.push(stage.live(chat).await.1);
    }

    let (pid, _) = stage.live(&chats[0]).await;
    signal(pid, Signal::SIGSTOP);
    let stopped = Instant::now();
    let server = stage
        .server("down", |server| server["state"] == "down")
        .await;
    println!("stopped idle server to its end: {:?}", stopped.elapsed());
    assert!(
        stopped.elapsed() < Duration::from_secs(12) + REST,
        "{server:#}"
    );
    assert_eq!(server["last_restart"], "it did not answer", "{server:#}");
    go_on(&stage, &chats, &sessions).await;

    let task = stage.say(&chats[0], "[[slow:600x50]] otter").await;
    stage.answering("otter").await;
    let (pid, _) = stage.live(&chats[0]).await;
    signal(pid, Signal::SIGSTOP);
    let stopped = Instant::now();
    let task = stage.service.ended(&task).await;
    println!("stopped busy server to outcome: {:?}", stopped.elapsed());
    assert!(
        stopped.elapsed() < Duration::from_secs(25) + REST,
        "{task:#}"
    );
    assert!(stopped.elapsed() > Duration::from_secs(20), "it has time");
    assert_eq!(task["outcome"], "agent_crashed", "{task:#}");
    stage.turn(&chats[1], "[[text:Still here.]] stoat").await;
    assert_eq!(stage.live(&chats[1]).await.1, sessions[1]);
    stage.strike().await;
}

/// It is over its limit from the start: ended behind each turn, never in one, and
/// nobody notices.
#[tokio::test]
async fn a_server_that_is_too_large_is_renewed_between_turns() {
    const LIMITS: &str = "[agents.opencode-server.server]\nprobe_ms = 300\nmemory_mb = 50\n";
    let stage = Stage::with(AGENT, LIMITS).await;
    let chat = stage.service.chat().await;
    let full = |server: &serde_json::Value| {
        let why = server["last_restart"].as_str().unwrap_or_default();
        server["state"] == "down" && why.contains("too much memory")
    };
    let first = "[[slow:60x50]] lynx";
    stage.turn(&chat, first).await;
    stage.server("ended", full).await;
    stage.turn(&chat, "[[text:Yes.]] heron").await;
    assert!(stage.asked("heron").await.knows("tick60"));
    let server = stage.server("ended again", full).await;
    assert_eq!(server["crashes"], 0, "{server:#}");
    stage.strike().await;
}

/// The second is claimed as soon as the first is over, which is when the server is to go.
#[tokio::test]
async fn messages_that_wait_behind_each_other_do_not_meet_a_server_that_goes() {
    const LIMITS: &str =
        "[agents.opencode-server.server]\nprobe_ms = 300\nfailures = 100\nmemory_mb = 50\n";
    let stage = Stage::with(AGENT, LIMITS).await;
    let chat = stage.service.chat().await;
    let mut tasks = Vec::new();
    for word in ["lynx", "heron", "otter"] {
        tasks.push(stage.say(&chat, &format!("[[slow:20x50]] {word}")).await);
    }
    for task in tasks {
        let task = stage.service.ended(&task).await;
        assert_eq!(task["outcome"], "ok", "{task:#}\n{}", stage.service.log());
        assert_eq!(task["turns"].as_array().unwrap().len(), 1, "{task:#}");
    }
    let server = stage
        .server("ended", |server| server["state"] == "down")
        .await;
    assert_eq!(server["crashes"], 0, "{server:#}");
    stage.strike().await;
}
