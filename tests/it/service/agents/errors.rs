//! Models that refuse, fail or say nothing.

use super::stage::{Agent, Stage};

pub(super) async fn refused(agent: Agent) {
    let stage = Stage::set(agent).await;
    let chat = stage.service.chat().await;
    let task = stage.say(&chat, "[[error:401]] lynx").await;
    let task = stage.service.ended(&task).await;
    assert_eq!(task["state"], "failed");
    assert_eq!(task["outcome"], "auth", "{task:#}");
    stage.turn(&chat, "[[text:fine]] heron").await;
    stage.strike().await;
}

/// Agents try again in silence, some for a minute and more: a deadline ends that
/// and names it. goose gives up after seven seconds and says so as ordinary text
/// of a turn that ended well, which is not believed. qwen takes up a broken
/// answer by itself and really ends well.
pub(super) async fn failing(agent: Agent) {
    const SILENCE: &str = "no word from the agent within 4 s of the prompt";
    const SUSPECTED: &str = "suspected failure: the agent ended the turn as done";
    let goose = agent == Agent::Goose;
    let first_byte = if goose { 25_000 } else { 4_000 };
    let settings = format!("[deadlines]\nfirst_byte_ms = {first_byte}\n");
    let stage = Stage::with(agent, &settings).await;
    let gave_up = if goose {
        ("agent_error", SUSPECTED)
    } else {
        ("stalled", SILENCE)
    };
    let broke = if goose {
        ("agent_error", SUSPECTED)
    } else {
        ("ok", "")
    };
    let mut tasks = Vec::new();
    for (prompt, expected) in [
        ("[[error:500]] lynx", gave_up),
        ("[[error:429]] heron", gave_up),
        (
            "[[deltas:8]][[text:The connection breaks here.]][[cut:3]] otter",
            broke,
        ),
    ] {
        // Each in a session of its own, so that they wait side by side.
        let chat = stage.service.chat().await;
        tasks.push((stage.say(&chat, prompt).await, prompt, expected));
    }
    for (task, prompt, (outcome, start)) in tasks {
        let task = stage.service.ended(&task).await;
        let detail = task["outcome_detail"].as_str().unwrap_or_default();
        assert_eq!(task["outcome"], outcome, "{prompt}: {task:#}");
        assert!(detail.starts_with(start), "{prompt}: {detail}");
    }
    stage.strike().await;
}

pub(super) async fn silent(agent: Agent) {
    let stage = Stage::with(agent, "[deadlines]\nfirst_byte_ms = 4000\n").await;
    let chat = stage.service.chat().await;
    let task = stage.say(&chat, "[[hang]] lynx").await;
    let task = stage.service.ended(&task).await;
    assert_eq!(task["outcome"], "stalled", "{task:#}");
    let detail = task["outcome_detail"].as_str().unwrap();
    assert_eq!(detail, "no word from the agent within 4 s of the prompt");
    stage.turn(&chat, "[[text:fine]] heron").await;
    stage.strike().await;
}
