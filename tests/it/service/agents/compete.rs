//! Two makers' agents answer one prompt in an arena.

use std::path::Path;

use serde_json::json;

use super::stage::{Agent, Stage};

pub(super) async fn goose_and_qwen() {
    let stage = Stage::set(Agent::Goose).await;
    let service = &stage.service;
    let project = service.project().await;
    // The same words; what comes of them depends on who runs the command.
    let command = r#"{"command": "echo ${GOOSE_PROVIDER:-other} > who.txt"}"#;
    let (arena, _) = service
        .arena(
            &["goose", "qwen"],
            json!({
                "project_id": project, "input": format!("[[tool:shell {command}]]"),
                "check": { "command": ["grep", "-q", "openai", "who.txt"] },
            }),
        )
        .await;
    let shown = service.arena_is(&arena, "judged").await;
    for (name, said, verdict) in [
        ("goose", "openai\n", "passed"),
        ("qwen", "other\n", "failed"),
    ] {
        let rows = shown["contestants"].as_array().unwrap();
        let row = rows.iter().find(|row| row["agent"] == name).unwrap();
        assert_eq!(row["outcome"], "ok", "{row:#}\n{}", service.log());
        assert_eq!(row["check"], verdict, "{row:#}");
        assert_eq!((&row["files"], &row["additions"]), (&json!(1), &json!(1)));
        assert!(row["input_tokens"].as_i64().unwrap() > 0, "{row:#}");
        let worktree = Path::new(row["worktree_path"].as_str().unwrap());
        assert_eq!(
            std::fs::read_to_string(worktree.join("who.txt")).unwrap(),
            said
        );
    }
    let of = |name: &str| {
        let rows = shown["contestants"].as_array().unwrap();
        rows.iter()
            .find(|row| row["agent"] == name)
            .map_or(0, |row| row["input_tokens"].as_i64().unwrap())
    };
    assert_eq!(
        shown["input_tokens"],
        of("goose") + of("qwen"),
        "the sum of all"
    );
    let asked = stage.model.asked_about("who.txt");
    assert_eq!(asked.len(), 4, "each for the tool, and behind it");
    stage.strike().await;
}
