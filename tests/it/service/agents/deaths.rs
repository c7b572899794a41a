//! Agents that die in the middle of their work.

use nix::sys::signal::Signal;

use super::stage::{Agent, Stage};
use crate::service::harness::signal;

pub(super) async fn killed(agent: Agent) {
    let stage = Stage::set(agent).await;
    let chat = stage.service.chat().await;
    stage.turn(&chat, "[[text:The word is tamarind.]]").await;
    let (pid, session) = stage.live(&chat).await;
    let task = stage.say(&chat, "[[slow:600x50]] lynx").await;
    stage.answering("lynx").await;
    signal(pid, Signal::SIGKILL);
    let task = stage.service.ended(&task).await;
    assert_eq!(task["outcome"], "agent_crashed", "{task:#}");
    let detail = task["outcome_detail"].as_str().unwrap();
    assert!(detail.contains("signal 9"), "{detail}");

    let task = stage.turn(&chat, "[[text:Back again.]] heron").await;
    let (next, resumed) = stage.live(&chat).await;
    assert!(
        next != pid && resumed == session,
        "{resumed} is not {session}"
    );
    let asked = stage.asked("heron").await;
    assert!(asked.knows("tamarind"), "{:#}", asked.body);
    // The past is not told again, nor counted.
    let (input, output) = asked.usage.unwrap();
    assert_eq!(task["cost_tokens"], input + output);
    let text = stage.streamed(task["id"].as_str().unwrap(), "delta").await;
    assert_eq!(text, "Back again.");
    stage.strike().await;
}
