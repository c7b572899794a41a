//! Requests to people, from the agent's question to its answer.

mod answers;
mod command_line;
mod ends;
mod inbox;
mod places;
mod policies;
mod questions;
mod races;
mod survival;

use std::process::Stdio;

use serde_json::{Value, json};

use super::harness::{Chat, Service, command, id_of};

/// Asks in `chat`; returns the task and the prompt that is open.
async fn ask(service: &Service, chat: &Chat) -> (String, Value) {
    let task = service.say(chat, "ask may I?").await;
    let prompt = open_prompt(service, &task).await;
    (task, prompt)
}

async fn open_prompt(service: &Service, task: &str) -> Value {
    let path = format!("/api/prompts?state=open&task_id={task}");
    service
        .until("an open prompt", async || {
            let page = service.get(&path).await;
            match page["items"].as_array().and_then(|items| items.first()) {
                Some(prompt) => Ok(prompt.clone()),
                None => Err(page),
            }
        })
        .await
}

async fn answer(service: &Service, prompt: &Value, body: Value) -> (u16, Value) {
    let path = format!("/api/prompts/{}/answer", id_of(prompt));
    service.post(&path, body).await
}

async fn inbox(service: &Service) -> Vec<Value> {
    let page = service.get("/api/inbox").await;
    let items = page["items"].as_array();
    items.unwrap_or_else(|| panic!("{page}")).clone()
}

async fn item(service: &Service, id: &str) -> Option<Value> {
    inbox(service)
        .await
        .into_iter()
        .find(|item| item["id"] == id)
}

/// Frames of the task that tell of prompts, as `kind state`.
async fn told(service: &Service, task: &str) -> Vec<String> {
    let pool = service.pool().await;
    sqlx::query_scalar(
        "select concat_ws(' ', kind, data ->> 'state') from hearth.frames
         where task_id = $1::uuid and kind like 'permission%' order by seq",
    )
    .bind(task)
    .fetch_all(&pool)
    .await
    .unwrap()
}

/// What a command printed; it must have succeeded.
async fn hearth(service: &Service, arguments: &[&str]) -> String {
    let mut command = command(&service.home, &service.database());
    command
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let done = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let error = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{arguments:?}: {said} {error}");
    said
}
