//! Slash commands.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::super::stage::Stage;
use super::AGENT;
use crate::real_agents::patience;

/// With commands of the definition's own beside those that are built in.
async fn stage() -> Stage {
    Stage::of(AGENT, |installed, model| {
        let (program, args, mut env) = AGENT.launch(installed, model);
        let command = |template: &str| json!({"template": template, "description": "a test's"});
        let commands = json!({
            "hello": command("[[text:Hello to $ARGUMENTS.]] heron"),
            "slow": command("[[slow:600x50]] otter"),
            "shell": command("[[text:shell]] !`touch unasked`"),
            "apart": {"template": "[[text:apart]]", "subtask": true},
        });
        let config = json!({ "command": commands });
        env.push(("OPENCODE_CONFIG_CONTENT", config.to_string()));
        AGENT.table_named(AGENT.name(), program, &args, &env) + &patience(AGENT.name())
    })
    .await
}

#[tokio::test]
async fn a_command_runs_as_a_turn_like_any_other() {
    let stage = stage().await;
    let chat = stage.service.chat().await;
    let task = stage.turn(&chat, "/hello the moon").await;
    let id = task["id"].as_str().unwrap();
    assert_eq!(stage.streamed(id, "delta").await, "Hello to the moon.");
    let live = stage.live(&chat).await;

    let frames = stage.frames(id).await;
    let shown = frames.iter().find(|(kind, _)| kind == "agent_commands");
    let (_, shown) = shown.unwrap_or_else(|| panic!("no commands: {frames:#?}"));
    let names: Vec<&str> = shown["commands"]
        .as_array()
        .unwrap()
        .iter()
        .map(|command| command["name"].as_str().unwrap())
        .collect();
    for (name, is_offered) in [
        ("init", true),
        ("hello", true),
        ("slow", true),
        ("review", false),
        ("shell", false),
        ("apart", false),
    ] {
        assert_eq!(names.contains(&name), is_offered, "{name} of {names:?}");
    }

    // It is part of the chat's context, and what is no command goes as it is.
    stage.turn(&chat, "/nothing [[text:Words.]] vole").await;
    let asked = stage.asked("vole").await;
    assert!(asked.knows("/nothing") && asked.knows("Hello to the moon."));
    assert_eq!(stage.live(&chat).await, live);

    // Neither its own template nor what it is told runs a shell that nobody was asked for.
    stage.turn(&chat, "/shell [[text:Words.]] stoat").await;
    let task = stage.say(&chat, "/hello !`touch unasked`").await;
    let task = stage.service.ended(&task).await;
    assert_eq!(task["outcome"], "agent_error", "{task:#}");
    let detail = task["outcome_detail"].as_str().unwrap();
    assert!(
        detail.contains("/hello") && detail.contains("shell"),
        "{detail}"
    );
    let unasked = stage.below(&chat, "unasked").await;
    assert!(!Path::new(&unasked).exists(), "nobody was asked");
    stage.turn(&chat, "/hello the sun").await;
    assert_eq!(stage.live(&chat).await, live, "one session all along");
    stage.strike().await;
}

/// The request is answered at the end of its turn only: a stop does not wait for it,
/// nor is its answer taken for the end of the next turn.
#[tokio::test]
async fn a_command_that_is_stopped_ends_once_and_the_next_is_itself() {
    let stage = stage().await;
    let chat = stage.service.chat().await;
    stage.turn(&chat, "/hello you").await;
    let live = stage.live(&chat).await;
    let mut stopped = 0;
    for (round, wait) in [0, 100, 300, 600, 1200].into_iter().enumerate() {
        let slow = stage.say(&chat, "/slow").await;
        if wait == 1200 {
            stage.answering("otter").await;
        }
        tokio::time::sleep(Duration::from_millis(wait)).await;
        stage.cancel(&slow).await;
        let next = stage.say(&chat, &format!("/hello number {round}")).await;
        let slow = stage.service.ended(&slow).await;
        assert_eq!(slow["outcome"], "cancelled", "{round}: {slow:#}");
        let next = stage.service.ended(&next).await;
        assert_eq!(next["outcome"], "ok", "{round}: {next:#}");
        let said = stage.streamed(next["id"].as_str().unwrap(), "delta").await;
        assert_eq!(said, format!("Hello to number {round}."));
        let said = stage.streamed(slow["id"].as_str().unwrap(), "delta").await;
        stopped += usize::from(said.contains("tick"));
    }
    assert!(stopped > 0, "none was stopped as it spoke");
    assert_eq!(stage.live(&chat).await, live, "one session all along");
    let server = stage.server("idle", |server| server["turns"] == 0).await;
    assert_eq!(server["crashes"], 0, "{server:#}");
    stage.strike().await;
}
