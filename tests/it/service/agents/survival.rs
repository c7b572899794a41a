//! Real agents that are asked something again after Hearth was away.

use serde_json::{Value, json};

use super::permission::{answer, ask};
use super::stage::{Agent, Stage};
use crate::service::harness::id_of;

/// Longest stop with a question open: the ladder of the agent's processes, TERM and 2 s
/// and KILL, on a busy machine.
const LADDER: std::time::Duration = std::time::Duration::from_secs(6);

/// What was asked when Hearth ended is answered when it is back: the agent goes on
/// in its own session, does what was allowed, and nobody is asked twice.
pub(super) async fn asked(agent: Agent) {
    // With the usual grace: a stop waits for no human.
    let mut stage = Stage::set(agent).await;
    let chat = stage.service.chat().await;
    stage.turn(&chat, "[[text:The word is tamarind.]]").await;
    for (how, file) in [("kill", "one.txt"), ("stop", "two.txt")] {
        let (task, path, prompt) = ask(&stage, &chat, file).await;
        let (_, session) = stage.live(&chat).await;
        if how == "kill" {
            stage.service.kill().await;
        } else {
            let began = std::time::Instant::now();
            assert!(stage.service.terminate().await.success());
            let took = began.elapsed();
            assert!(took < LADDER, "it stopped after {took:?}");
        }
        stage.service = stage.service.again().await;
        let open = format!("/api/prompts/{}", id_of(&prompt));
        let row = stage.service.get(&open).await;
        assert_eq!(row["state"], "open", "{how}: {row:#}");
        assert!(row["detached_at"].is_string(), "{how}: {row:#}");
        assert!(!std::path::Path::new(&path).exists(), "nobody allowed it");

        answer(&stage, &prompt, "allow_once").await;
        let ended = stage.service.ended(&task).await;
        assert_eq!(
            ended["outcome"],
            "ok",
            "{how}: {ended:#}\n{}",
            stage.service.log()
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "x\n", "{how}");
        assert_eq!(stage.live(&chat).await.1, session, "{how}: its own session");
        let seen = stage.asked("Your process ended").await;
        assert!(seen.knows("tamarind"), "{how}: {:#}", seen.body);
        let asked = format!("/api/prompts?task_id={task}");
        let asked = stage.service.get(&asked).await;
        let by = asked["items"].as_array().unwrap().iter();
        let by: Vec<&Value> = by.map(|prompt| &prompt["answered_by"]).collect();
        assert_eq!(by, ["earlier", "http"], "{how}: {asked:#}");
    }
    let files = ["one.txt", "two.txt"].map(|file| (file.to_owned(), "create".to_owned()));
    assert_eq!(stage.pending(&chat).await, files);
    let inbox = stage.service.get("/api/inbox").await;
    assert_eq!(inbox["items"], json!([]));
    stage.strike().await;
}
