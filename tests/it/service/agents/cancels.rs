//! Turns that a human ends.

use std::time::{Duration, Instant};

use super::stage::{Agent, Stage};
use crate::service::harness::Chat;

/// From the cancel to the outcome, whatever the agent does; the rest is for a
/// busy machine.
const IN_TIME: Duration = Duration::from_secs(6 + 4);

pub(super) async fn mid_stream(agent: Agent) {
    let stage = Stage::set(agent).await;
    let chat = stage.service.chat().await;
    let task = stage.say(&chat, "[[slow:600x50]] lynx").await;
    stage
        .service
        .until("some of the answer", async || {
            let text = stage.streamed(&task, "delta").await;
            text.contains("tick3").then_some(()).ok_or(text)
        })
        .await;
    let before = stage.live(&chat).await;
    cancelled_in_time(&stage, &task).await;
    let answers = stage.service.answers(&chat).await;
    assert!(answers[0].starts_with("tick1 ") && !answers[0].contains("tick600"));
    goes_on(&stage, &chat).await;
    assert_eq!(stage.live(&chat).await, before, "the process stays");
    stage.strike().await;
}

/// Some agents cannot be interrupted before the model's first byte: those are
/// ended, and the next turn meets their history in a new process.
pub(super) async fn before_first_byte(agent: Agent) {
    let stage = Stage::set(agent).await;
    let chat = stage.service.chat().await;
    stage.turn(&chat, "[[text:The word is tamarind.]]").await;
    let before = stage.live(&chat).await;
    let task = stage.say(&chat, "[[hang]] lynx").await;
    stage.asked("lynx").await;
    cancelled_in_time(&stage, &task).await;
    let asked = goes_on(&stage, &chat).await;
    assert!(asked.knows("tamarind"), "{:#}", asked.body);
    let after = stage.live(&chat).await;
    assert_eq!(after.1, before.1, "the same session");
    match agent {
        Agent::Goose => assert_ne!(after.0, before.0, "goose does not cancel here"),
        _ => assert_eq!(after.0, before.0),
    }
    stage.strike().await;
}

/// The command's own process ends too.
pub(super) async fn in_tool(agent: Agent) {
    let stage = Stage::set(agent).await;
    let chat = stage.service.chat().await;
    let mark = stage.below(&chat, "started").await;
    let command = format!("touch {mark}; tail -f /dev/null");
    let prompt = format!(r#"[[tool:shell {{"command":"{command}"}}]] go"#);
    let task = stage.say(&chat, &prompt).await;
    stage
        .service
        .until("the command", async || {
            std::path::Path::new(&mark)
                .exists()
                .then_some(())
                .ok_or("it does not run")
        })
        .await;
    cancelled_in_time(&stage, &task).await;
    stage
        .service
        .until("the command's end", async || {
            let left: Vec<_> = stage
                .service
                .processes()
                .into_iter()
                .map(|pid| {
                    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()
                })
                .filter(|line| line.starts_with("tail\0"))
                .collect();
            left.is_empty().then_some(()).ok_or(left)
        })
        .await;
    goes_on(&stage, &chat).await;
    stage.strike().await;
}

async fn cancelled_in_time(stage: &Stage, task: &str) {
    let asked = Instant::now();
    stage.cancel(task).await;
    assert_eq!(stage.service.outcome(task).await, "cancelled");
    let took = asked.elapsed();
    assert!(took < IN_TIME, "{took:?}");
}

/// The next turn is a turn of its own; returns what the model was asked.
async fn goes_on(stage: &Stage, chat: &Chat) -> crate::models::openai::Seen {
    let task = stage.turn(chat, "[[text:Still here.]] heron").await;
    let text = stage.streamed(task["id"].as_str().unwrap(), "delta").await;
    assert_eq!(text, "Still here.");
    stage.asked("heron").await
}
