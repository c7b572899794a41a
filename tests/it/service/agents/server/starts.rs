//! Servers that do not start, and chats that need none.

use std::process::Stdio;

use serde_json::{Value, json};

use super::super::stage::{Agent, Stage};
use super::AGENT;
use crate::real_agents::patience;
use crate::service::harness::command;

const PRETENDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/agents/pretender.cjs");

/// Each failure has words of its own, which say what to do; the service lives.
#[tokio::test]
async fn what_keeps_a_server_from_starting_is_told() {
    let stage = Stage::of(AGENT, |installed, model| {
        let (program, _, env) = AGENT.launch(installed, model);
        let mut env = env.clone();
        env.push(("PRETENDER_PROGRAM", program.display().to_string()));
        let mut tables = String::new();
        for mode in ["old", "silent", "taken", "late"] {
            let args = [PRETENDER, mode];
            tables += &AGENT.table_named(mode, &installed.node, &args, &env);
        }
        tables += &AGENT.table_named("missing", "/nowhere/opencode".as_ref(), &[], &env);
        format!("deadlines.spawn_ms = 12000\n{tables}{}", patience("late"))
    })
    .await;
    let late = stage.service.home.join("homes/late");
    AGENT.furnish(&late, stage.model.url());
    for (agent, wanted) in [
        ("missing", &["not installed", "/nowhere/opencode"][..]),
        ("old", &["0.9.0", "1.18", "protocol = \"acp\""]),
        ("silent", &["did not answer within 6 s"]),
        ("taken", &["3 ports taken"]),
    ] {
        let chat = stage.service.chat().await;
        let task = stage.service.say_to(agent, &chat, "hello").await;
        let task = stage.service.ended(&task).await;
        assert_eq!(task["outcome"], "no_start", "{agent}: {task:#}");
        let detail = task["outcome_detail"].as_str().unwrap();
        for words in wanted {
            assert!(detail.contains(words), "{agent}: {detail}");
        }
        let health = stage.service.get("/api/health").await;
        assert_eq!(health["status"], "ok", "{agent}: {health:#}");
    }
    // Two ports were taken; the third is free, and so it starts.
    let chat = stage.service.chat().await;
    let task = stage
        .service
        .say_to("late", &chat, "[[text:Here I am.]]")
        .await;
    let task = stage.service.ended(&task).await;
    assert_eq!(task["outcome"], "ok", "{task:#}\n{}", stage.service.log());
    stage.strike().await;
}

#[tokio::test]
async fn a_worktree_that_is_deleted_under_it_hurts_nobody_else() {
    let stage = Stage::set(AGENT).await;
    let project = stage.service.project().await;
    let (hit, other) = (
        stage.service.chat_of(&project).await,
        stage.service.chat_of(&project).await,
    );
    stage.turn(&hit, "[[text:one]] lynx").await;
    stage.turn(&other, "[[text:two]] heron").await;
    let live = stage.live(&hit).await;
    std::fs::remove_dir_all(stage.below(&hit, "").await).unwrap();

    // It is made again from its branch, and the chat goes on in it as it was.
    let file = stage.below(&hit, "poem.txt").await;
    let write = json!({"path": file, "content": "tides turn\n"});
    stage
        .turn(&hit, &format!("[[tool:write {write}]] otter"))
        .await;
    assert!(stage.asked("otter").await.knows("lynx"));
    assert_eq!(stage.live(&hit).await, live);
    let pending = [("poem.txt".to_owned(), "create".to_owned())];
    assert_eq!(stage.pending(&hit).await, pending);

    // Without its repository it cannot be.
    std::fs::remove_dir_all(stage.below(&hit, "").await).unwrap();
    let repository = stage.repository(&hit).await;
    let aside = repository.with_extension("aside");
    std::fs::rename(&repository, &aside).unwrap();
    let task = stage.say(&hit, "[[text:three]] vole").await;
    let task = stage.service.ended(&task).await;
    assert_eq!(task["outcome"], "no_start", "{task:#}");
    let detail = task["outcome_detail"].as_str().unwrap();
    let named = repository.to_str().unwrap();
    assert!(
        detail.contains(named) && detail.contains("does not exist"),
        "{detail}"
    );
    assert!(stage.model.asked_about("vole").is_empty(), "nobody asked");
    std::fs::rename(&aside, &repository).unwrap();
    stage.turn(&hit, "[[text:five]] bear").await;
    stage.turn(&other, "[[text:four]] stoat").await;
    assert_eq!(stage.live(&other).await.0, live.0, "the server stays");
    stage.strike().await;
}

/// The built-in agent, with nothing said about how it is run.
#[tokio::test]
async fn chats_of_the_built_in_agent_share_a_server_and_one_shots_do_not() {
    let stage = Stage::of(Agent::Opencode, |installed, model| {
        let (program, _, env) = AGENT.launch(installed, model);
        let table = AGENT.table_named("opencode", program, &["--pure"], &env);
        table.replace("protocol = \"opencode\"\n", "") + &patience("opencode")
    })
    .await;
    let chat = stage.service.chat().await;
    stage
        .turn(&chat, "[[text:The word is tamarind.]] lynx")
        .await;
    let neighbour = stage.neighbour(&chat).await;
    stage.turn(&neighbour, "[[text:mine]] heron").await;
    let (one, two) = (stage.live(&chat).await, stage.live(&neighbour).await);
    assert!(one.0 == two.0 && one.1 != two.1, "{one:?} {two:?}");
    let path = format!("/api/sessions/{}/agent-sessions", chat.session);
    let listed = stage.service.get(&path).await;
    for row in listed["items"].as_array().unwrap() {
        assert_eq!(row["backend"], "opencode_server", "{listed:#}");
    }

    let project = stage.service.project().await;
    let body = json!({"project_id": project, "input": "[[text:alone]] otter", "agent": "opencode"});
    let (status, accepted) = stage.service.post("/api/tasks", body).await;
    assert_eq!(status, 202, "{accepted}");
    let task = stage
        .service
        .ended(accepted["task_id"].as_str().unwrap())
        .await;
    assert_eq!(task["outcome"], "ok", "{task:#}\n{}", stage.service.log());
    let session = accepted["session_id"].as_str().unwrap();
    let listed = stage
        .service
        .get(&format!("/api/sessions/{session}/agent-sessions"))
        .await;
    let backends: Vec<_> = listed["items"].as_array().unwrap().iter().collect();
    let alone = backends.iter().all(|row| row["backend"] == "acp");
    assert!(alone, "{listed:#}");
    let server = stage.server("idle", |server| server["turns"] == 0).await;
    assert_eq!(server["tenants"], 2, "{server:#}");
    assert_eq!(server["version"], "1.18.33", "{server:#}");
    assert_eq!(server["pid"], one.0, "{server:#}");

    let tree = stage.service.get("/api/debug/tree").await;
    let node = node(&tree, "server").unwrap_or_else(|| panic!("no server: {tree:#}"));
    assert_eq!(node["pid"], one.0, "{node:#}");
    assert!(node["rss_bytes"].as_u64().is_some_and(|bytes| bytes > 0));
    assert_eq!(node["detail"]["tenants"], 2, "{node:#}");
    assert_eq!(node["detail"]["version"], "1.18.33", "{node:#}");

    let mut doctor = command(&stage.service.home, &stage.service.database());
    doctor.args(["doctor", "--json"]).stdout(Stdio::piped());
    let told = doctor.output().await.unwrap();
    let report: Value = serde_json::from_slice(&told.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap().iter();
    let told: Vec<&str> = findings
        .filter(|found| found["level"] == "ok")
        .filter_map(|found| found["what"].as_str())
        .collect();
    let pid = format!("opencode: up, 1.18.33, pid {}, ", one.0);
    for words in [
        "opencode: 1.18.33, opens sessions; its chats share a server",
        &pid,
    ] {
        let is_told = told.iter().any(|line| line.starts_with(words));
        assert!(is_told, "{words:?} is not in {told:#?}");
    }
    stage.strike().await;
}

/// The node of this kind, wherever it hangs.
fn node<'a>(tree: &'a Value, kind: &str) -> Option<&'a Value> {
    if tree["kind"] == kind {
        return Some(tree);
    }
    let children = tree["children"].as_array()?;
    children.iter().find_map(|child| node(child, kind))
}
