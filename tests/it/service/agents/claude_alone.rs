//! Claude for a single turn, at a terminal: where it is not kept warm, and where it
//! cannot be.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::stage::{Agent, Stage};
use crate::service::hand_over::told;
use crate::service::harness::Chat;

const OFF: &str = "claude_sdk_backend = false";

impl Stage {
    async fn alone_in(&self, task: &Value) -> bool {
        task["execution_path"] == "pty"
    }

    async fn kept_entries(&self) -> i64 {
        let count = sqlx::query_scalar("select count(*) from claude_session_entries");
        count.fetch_one(&self.service.pool().await).await.unwrap()
    }
}

/// Each turn is a process of its own that is told the chat; what it does, says, spends
/// and fails by is known as of the warm one.
pub(super) async fn each_turn(agent: Agent) {
    let stage = Stage::with(agent, OFF).await;
    let chat = stage.service.chat().await;
    let first = stage
        .turn(
            &chat,
            "[[usage:1000,10]][[text:The word is tamarind.]] lynx",
        )
        .await;
    assert!(stage.alone_in(&first).await, "{first:#}");
    assert_eq!(told(&first), Value::Null, "there was nothing to tell");
    let path = stage.below(&chat, "made.txt").await;
    let prompt =
        format!(r#"[[tool:write {{"path":"{path}","content":"x\n"}}]][[usage:2000,20]] heron"#);
    let second = stage.turn(&chat, &prompt).await;
    assert_eq!(told(&second)["reason"], "alone");
    assert!(stage.asked("heron").await.knows("The word is tamarind."));
    let id = second["id"].as_str().unwrap();
    assert_eq!(stage.streamed(id, "delta").await, "The tool is done.");
    assert_eq!(
        stage.pending(&chat).await,
        [("made.txt".to_owned(), "create".to_owned())]
    );
    let counted: i64 = stage
        .model
        .asked()
        .iter()
        .filter_map(|call| call.usage)
        .map(|(input, output)| input + output)
        .sum();
    let tokens = |task: &Value| task["cost_tokens"].as_i64().unwrap();
    assert_eq!(tokens(&first) + tokens(&second), counted);
    assert!(second["turns"][0]["cost"].as_f64().unwrap() > 0.0);
    let answers = stage.service.answers(&chat).await;
    assert_eq!(answers, ["The word is tamarind.", "The tool is done."]);

    // Nobody hears a question: what is not allowed is refused.
    let path = stage.below(&chat, "refused.txt").await;
    let prompt = format!(r#"[[tool:write {{"path":"{path}","content":"x\n"}}]] otter"#);
    let task = stage.say_under("ask", &chat, &prompt).await;
    assert_eq!(stage.service.outcome(&task).await, "ok");
    assert!(!Path::new(&path).exists());
    let task = stage.say(&chat, "[[error:401]] vole").await;
    let task = stage.service.ended(&task).await;
    assert_eq!(task["outcome"], "auth", "{task:#}");
    assert_eq!(stage.kept_entries().await, 0, "there is no session to keep");
    stage.strike().await;
}

/// A cancel ends it and the command that it runs; so does the end of Hearth, by
/// `kill -9`.
pub(super) async fn ended(agent: Agent) {
    let mut stage = Stage::with(agent, OFF).await;
    let chat = stage.service.chat().await;
    for how in ["cancel", "kill"] {
        let mark = stage.below(&chat, how).await;
        let command = format!("touch {mark}; tail -f /dev/null");
        let prompt = format!(r#"[[tool:shell {{"command":"{command}"}}]] {how}"#);
        let task = stage.say(&chat, &prompt).await;
        stage
            .service
            .until("the command runs", async || {
                Path::new(&mark).exists().then_some(()).ok_or(())
            })
            .await;
        assert!(!stage.service.processes().is_empty());
        let outcome = if how == "cancel" {
            let started = Instant::now();
            stage.cancel(&task).await;
            let outcome = stage.service.outcome(&task).await;
            assert!(started.elapsed() < Duration::from_secs(10));
            outcome
        } else {
            stage.service.kill().await;
            gone(&stage).await;
            stage.service = stage.service.again().await;
            stage.service.outcome(&task).await
        };
        let named = if how == "cancel" {
            "cancelled"
        } else {
            "interrupted"
        };
        assert_eq!(outcome, named);
        gone(&stage).await;
    }
    stage.turn(&chat, "[[text:fine]] heron").await;
    stage.strike().await;
}

async fn gone(stage: &Stage) {
    stage
        .service
        .until("no process is left", async || {
            let left = stage.service.processes();
            left.is_empty().then_some(()).ok_or(left)
        })
        .await;
}

/// A claude that cannot be kept warm still answers, told the chat so far; the next turn
/// that can is warm again, in its own session, and is told what it missed.
pub(super) async fn instead(agent: Agent) {
    let place = tempfile::tempdir().unwrap();
    let (program, broken) = (place.path().join("claude"), place.path().join("broken"));
    let mut stage = Stage::of(agent, |installed, model| {
        let script = format!(
            "#!/bin/sh\nif test -e {broken}; then case \"$*\" in *--input-format*)\n\
             echo \"error: unknown option '--input-format'\" >&2; exit 1;; esac; fi\nexec {real} \"$@\"\n",
            broken = broken.display(),
            real = installed.claude.display()
        );
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let table = agent.table(installed, model);
        table.replace(
            &installed.claude.display().to_string(),
            &program.display().to_string(),
        )
    })
    .await;
    let chat = stage.service.chat().await;
    let first = stage.turn(&chat, "[[text:The word is tamarind.]]").await;
    assert!(!stage.alone_in(&first).await);
    let (_, session) = stage.live(&chat).await;

    std::fs::write(&broken, "").unwrap();
    assert!(stage.service.terminate().await.success());
    let entries = stage.kept_entries().await;
    assert!(entries > 0);
    stage.service = stage.service.again().await;
    for word in ["lynx", "heron"] {
        let task = stage
            .turn(&chat, &format!("[[text:It is {word}.]] {word}"))
            .await;
        assert!(stage.alone_in(&task).await, "{task:#}");
        assert_eq!(told(&task)["reason"], "fresh");
        let why = told(&task)["why"].to_string();
        assert!(why.contains("unknown option"), "{why}");
        assert!(stage.asked(word).await.knows("The word is tamarind."));
    }
    assert!(stage.asked("heron").await.knows("It is lynx."));
    assert_eq!(stage.kept_entries().await, entries, "its session is left");

    std::fs::remove_file(&broken).unwrap();
    let task = stage.turn(&chat, "[[text:back]] otter").await;
    assert!(!stage.alone_in(&task).await, "{task:#}");
    assert_eq!(told(&task)["reason"], "missed", "{task:#}");
    assert_eq!(told(&task)["messages"], 4);
    let seen = stage.asked("otter").await;
    for words in ["The word is tamarind.", "It is lynx.", "It is heron."] {
        assert!(seen.knows(words), "{words}: {:#}", seen.body["messages"]);
    }
    assert_eq!(stage.live(&chat).await.1, session, "its own session");
    said_once(&stage, &chat).await;
    stage.strike().await;
}

async fn said_once(stage: &Stage, chat: &Chat) {
    let answers = stage.service.answers(chat).await;
    let expected = [
        "The word is tamarind.",
        "It is lynx.",
        "It is heron.",
        "back",
    ];
    assert_eq!(answers, expected);
}
