//! What a tool may do: by policy, and by a human.

use std::path::Path;

use serde_json::{Value, json};

use super::stage::{Agent, Stage};
use crate::service::harness::{Chat, id_of};

pub(super) async fn policies(agent: Agent) {
    let stage = Stage::set(agent).await;
    let chat = stage.service.chat().await;
    for (policy, file) in [("deny", "refused.txt"), ("allow_edits", "allowed.txt")] {
        let path = stage.below(&chat, file).await;
        let prompt = format!(r#"[[tool:write {{"path":"{path}","content":"x\n"}}]] {policy}"#);
        let task = stage.say_under(policy, &chat, &prompt).await;
        let task = stage.service.ended(&task).await;
        assert_eq!(task["outcome"], "ok", "{task:#}");
        let frames = stage.frames(task["id"].as_str().unwrap()).await;
        let statuses: Vec<_> = frames
            .iter()
            .filter(|(kind, _)| kind == "tool_result")
            .map(|(_, data)| data["status"].as_str().unwrap_or_default())
            .collect();
        let wanted = if policy == "deny" {
            "failed"
        } else {
            "completed"
        };
        assert_eq!(statuses, [wanted], "{policy}: {frames:#?}");
        let asked = frames
            .iter()
            .any(|(kind, _)| kind == "permission_requested");
        assert!(!asked, "{policy} asks nobody");
    }
    let pending = stage.pending(&chat).await;
    assert_eq!(pending, [("allowed.txt".to_owned(), "create".to_owned())]);
    stage.strike().await;
}

/// A human's word decides: what is allowed is done, what is refused is not, and
/// a cancel withdraws the question.
pub(super) async fn asking(agent: Agent) {
    let stage = Stage::set(agent).await;
    let chat = stage.service.chat().await;

    let (task, path, prompt) = ask(&stage, &chat, "granted.txt").await;
    answer(&stage, &prompt, "allow_once").await;
    assert_eq!(stage.service.outcome(&task).await, "ok");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "x\n");
    let pending = [("granted.txt".to_owned(), "create".to_owned())];
    assert_eq!(stage.pending(&chat).await, pending);
    assert_eq!(told(&stage, &task).await, ["", "answered"]);

    let (task, path, prompt) = ask(&stage, &chat, "denied.txt").await;
    answer(&stage, &prompt, "reject_once").await;
    // Some agents end the turn at a refusal, others tell the model: both are
    // turns that ended.
    let outcome = stage.service.outcome(&task).await;
    assert!(matches!(&*outcome, "ok" | "cancelled"), "{outcome}");
    assert!(!Path::new(&path).exists(), "it was refused");
    assert_eq!(stage.pending(&chat).await, pending);
    assert_eq!(told(&stage, &task).await, ["", "answered"]);

    let (task, path, _) = ask(&stage, &chat, "asked.txt").await;
    let before = stage.live(&chat).await;
    stage.cancel(&task).await;
    assert_eq!(stage.service.outcome(&task).await, "cancelled");
    assert!(!Path::new(&path).exists(), "nobody allowed it");
    assert_eq!(stage.pending(&chat).await, pending);
    assert_eq!(told(&stage, &task).await, ["", "cancelled"]);
    stage.turn(&chat, "[[text:still here]]").await;
    assert_eq!(stage.live(&chat).await, before);
    stage.strike().await;
}

/// A turn that waits for consent to write `file`: the task, the file's path and
/// the open prompt.
pub(super) async fn ask(stage: &Stage, chat: &Chat, file: &str) -> (String, String, Value) {
    let path = stage.below(chat, file).await;
    let words =
        format!(r#"[[tool:write {{"path":"{path}","content":"x\n"}}]] please write {file}"#);
    let task = stage.say_under("ask", chat, &words).await;
    let open = format!("/api/prompts?state=open&task_id={task}");
    let prompt = stage
        .service
        .until("an open prompt", async || {
            let page = stage.service.get(&open).await;
            let first = page["items"].get(0).cloned();
            first.ok_or(page)
        })
        .await;
    let options = prompt["options"].as_array().unwrap();
    for kind in ["allow_once", "reject_once"] {
        assert!(
            options.iter().any(|option| option["kind"] == kind),
            "{prompt:#}"
        );
    }
    let row = stage.service.get(&format!("/api/tasks/{task}")).await;
    assert_eq!(row["state"], "blocked", "{row:#}");
    assert!(!Path::new(&path).exists(), "it waits for the answer");
    (task, path, prompt)
}

pub(super) async fn answer(stage: &Stage, prompt: &Value, kind: &str) {
    let path = format!("/api/prompts/{}/answer", id_of(prompt));
    let (status, settled) = stage.service.post(&path, json!({ "kind": kind })).await;
    assert_eq!(status, 200, "{settled:#}");
    assert_eq!(settled["state"], "answered", "{settled:#}");
    assert_eq!(settled["answer"]["kind"], kind, "{settled:#}");
}

/// The states that the task's frames about prompts tell, in order; none with the
/// question.
async fn told(stage: &Stage, task: &str) -> Vec<String> {
    let frames = stage.frames(task).await;
    frames
        .iter()
        .filter(|(kind, _)| kind.starts_with("permission_"))
        .map(|(_, data)| data["state"].as_str().unwrap_or_default().to_owned())
        .collect()
}
