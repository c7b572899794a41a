//! What opencode asks people.

use std::path::Path;

use serde_json::{Value, json};

use super::super::permission::ask;
use super::super::stage::Stage;
use super::AGENT;
use super::inside::Inside;
use crate::service::harness::{Chat, id_of};

fn question(word: &str) -> String {
    let one = json!({"question": format!("Which colour for {word}?"), "header": "Colour", "options": [
        {"label": "red", "description": "warm"}, {"label": "blue", "description": "cool"}]});
    format!("[[tool:question {}]] {word}", json!({"questions": [one]}))
}

async fn open(stage: &Stage, chat: &Chat, word: &str) -> (String, Value) {
    let task = stage.say_under("ask", chat, &question(word)).await;
    let path = format!("/api/prompts?state=open&task_id={task}");
    let prompt = stage
        .service
        .until("an open question", async || {
            let page = stage.service.get(&path).await;
            page["items"].get(0).cloned().ok_or(page)
        })
        .await;
    (task, prompt)
}

#[tokio::test]
async fn a_question_is_answered_in_its_choices_or_in_own_words() {
    let stage = Stage::set(AGENT).await;
    let chat = stage.service.chat().await;
    for (word, answer, told) in [
        ("lynx", json!({"option_id": "choice-1"}), "blue"),
        ("heron", json!({"text": "deep green"}), "deep green"),
    ] {
        let (task, prompt) = open(&stage, &chat, word).await;
        assert_eq!(
            prompt["request"]["question"],
            format!("Which colour for {word}?"),
            "{prompt:#}"
        );
        let path = format!("/api/prompts/{}/answer", id_of(&prompt));
        let (status, settled) = stage.service.post(&path, answer).await;
        assert_eq!(status, 200, "{settled:#}");
        assert_eq!(stage.service.outcome(&task).await, "ok");
        let asked = stage.model.asked_about(word).pop().unwrap();
        let results = asked.body["messages"].as_array().unwrap().clone();
        let result = results.last().unwrap().to_string();
        assert!(result.contains(told), "{result}");
    }

    // Nobody is asked under `deny`, and the turn ends all the same.
    let task = stage.say_under("deny", &chat, &question("otter")).await;
    let ended = stage.service.ended(&task).await;
    assert_eq!(ended["state"], "completed", "{ended:#}");
    let frames = stage.frames(&task).await;
    let asked = frames
        .iter()
        .any(|(kind, _)| kind == "permission_requested");
    assert!(!asked, "{frames:#?}");

    // A stop withdraws it.
    let (task, prompt) = open(&stage, &chat, "stoat").await;
    stage.cancel(&task).await;
    assert_eq!(stage.service.outcome(&task).await, "cancelled");
    let path = format!("/api/prompts/{}", id_of(&prompt));
    assert_eq!(stage.service.get(&path).await["state"], "cancelled");
    stage.turn(&chat, "[[text:Still here.]] vole").await;
    stage.strike().await;
}

/// opencode keeps the request of an aborted turn open, and would still run its tool.
#[tokio::test]
async fn consent_that_comes_too_late_is_refused_and_does_nothing() {
    let stage = Stage::set(AGENT).await;
    let chat = stage.service.chat().await;
    let (task, path, prompt) = ask(&stage, &chat, "late.txt").await;
    stage.cancel(&task).await;
    assert_eq!(stage.service.outcome(&task).await, "cancelled");
    let answer = format!("/api/prompts/{}/answer", id_of(&prompt));
    let body = json!({"kind": "allow_once"});
    let (status, refused) = stage.service.post(&answer, body).await;
    assert_eq!(status, 410, "{refused:#}");
    // The next turn proves that the server is past it.
    stage.turn(&chat, "[[text:Still here.]] vole").await;
    assert!(!Path::new(&path).exists(), "nobody allowed it in time");

    // A stop leaves nothing in the server that waits for anybody.
    let (task, _, _) = ask(&stage, &chat, "next.txt").await;
    let inside = Inside::of(stage.live(&chat).await.0);
    let directory = stage.below(&chat, "").await;
    let directory = directory.trim_end_matches('/');
    let waits = inside.requests(directory).await;
    assert_eq!(
        waits.as_array().unwrap().len(),
        1,
        "only its own: {waits:#}"
    );
    stage.cancel(&task).await;
    assert_eq!(stage.service.outcome(&task).await, "cancelled");
    stage
        .service
        .until("nothing waits in the server", async || {
            let waits = inside.requests(directory).await;
            waits
                .as_array()
                .unwrap()
                .is_empty()
                .then_some(())
                .ok_or(waits)
        })
        .await;
    stage.strike().await;
}
