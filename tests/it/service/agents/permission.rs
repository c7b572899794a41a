//! What a tool may do: by policy, and by a human.

use super::stage::{Agent, Stage};

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

/// A cancel withdraws what waits for a human.
pub(super) async fn asking(agent: Agent) {
    let stage = Stage::set(agent).await;
    let chat = stage.service.chat().await;
    let path = stage.below(&chat, "asked.txt").await;
    let prompt = format!(r#"[[tool:write {{"path":"{path}","content":"x\n"}}]] please"#);
    let task = stage.say_under("ask", &chat, &prompt).await;
    stage
        .service
        .until("a blocked task", async || {
            let task = stage.service.get(&format!("/api/tasks/{task}")).await;
            (task["state"] == "blocked").then_some(()).ok_or(task)
        })
        .await;
    let frames = stage.frames(&task).await;
    let (_, asked) = frames
        .iter()
        .find(|(kind, _)| kind == "permission_requested")
        .unwrap_or_else(|| panic!("nobody is asked: {frames:#?}"));
    let options = asked["request"]["options"].as_array().unwrap();
    let kinds: Vec<_> = options
        .iter()
        .map(|option| option["kind"].as_str().unwrap())
        .collect();
    assert!(
        kinds.contains(&"allow_once") && kinds.contains(&"reject_once"),
        "{kinds:?}"
    );
    assert!(
        !std::path::Path::new(&path).exists(),
        "it waits for the answer"
    );
    let before = stage.live(&chat).await;

    stage.cancel(&task).await;
    assert_eq!(stage.service.outcome(&task).await, "cancelled");
    assert!(stage.pending(&chat).await.is_empty());
    stage.turn(&chat, "[[text:still here]]").await;
    assert_eq!(stage.live(&chat).await, before);
    stage.strike().await;
}
