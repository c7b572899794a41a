//! MCP, spoken by the client that its makers publish on npm.

mod client;

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use super::harness::{SOON, Service};
use client::{Mcp, Way};

/// The round of a person's program: work, watch, review. Both transports.
async fn round(way: Way) {
    let service = Service::start().await;
    let project = service.project().await;
    let mut mcp = Mcp::open(&service, way).await;
    let tools = mcp.tools().await;
    let page = include_str!("../../../README.md");
    for tool in &tools {
        let row = format!("`{}`", tool["name"].as_str().unwrap());
        assert!(page.contains(&row), "{row} is in the README");
    }
    for (name, reads, destroys) in [
        ("task_follow", true, false),
        ("task_create", false, false),
        ("changes_apply", false, true),
        ("checkpoint_restore", false, true),
    ] {
        let tool = tools.iter().find(|tool| tool["name"] == name).unwrap();
        let marks = &tool["annotations"];
        assert_eq!(marks["readOnlyHint"], reads, "{tool}");
        assert_eq!(marks["destructiveHint"], destroys, "{tool}");
    }
    let projects = mcp.call("projects_list", json!({})).await;
    assert_eq!(projects["items"][0]["id"], project.as_str());
    let checkout = projects["items"][0]["path"].as_str().unwrap().to_owned();
    let session = json!({ "project_id": project, "name": "by mcp" });
    let session = mcp.call("sessions_create", session).await["id"].clone();

    let task = json!({ "session_id": session, "agent": "demo",
        "input": "say working\ncreate a.txt with one\nwait 2s\nsay finished" });
    let task = mcp.call("task_create", task).await["task_id"].clone();
    let (mut text, mut steps, mut cursor) = (String::new(), Vec::new(), json!(0));
    let told = loop {
        let next = json!({ "task_id": task, "after": cursor, "wait_seconds": 1 });
        let told = mcp.call_with_progress("task_follow", next).await;
        text += told["text"].as_str().unwrap();
        steps.extend(told["steps"].as_array().unwrap().clone());
        assert!(told["cursor"].as_i64() >= cursor.as_i64(), "{told}");
        cursor = told["cursor"].clone();
        if told["done"] == true {
            break told;
        }
    };
    assert_eq!(
        (&told["state"], &told["outcome"]),
        (&json!("completed"), &json!("ok"))
    );
    assert!(
        text.contains("working") && text.contains("finished"),
        "{text}"
    );
    assert!(
        steps.iter().any(|step| step["status"] == "completed"),
        "{steps:?}"
    );
    assert!(mcp.progress > 0, "it was told of progress");
    let at_once = mcp
        .call("task_follow", json!({ "task_id": task, "after": cursor }))
        .await;
    assert_eq!(
        (&at_once["done"], &at_once["text"]),
        (&json!(true), &json!(""))
    );

    let tasks = mcp
        .call("task_list", json!({ "session_id": session }))
        .await;
    assert_eq!(tasks["items"][0]["id"], task);
    let worktrees = mcp.call("worktrees_list", json!({})).await;
    let path = worktrees["items"][0]["path"].as_str().unwrap();
    assert_eq!(
        std::fs::read_to_string(format!("{path}/a.txt"))
            .unwrap()
            .trim(),
        "one"
    );
    let changes = mcp
        .call("changes_list", json!({ "session_id": session }))
        .await;
    assert_eq!(changes["items"][0]["file_path"], "a.txt", "{changes}");
    assert_eq!(changes["items"][0].get("diff"), None, "{changes}");
    review(&mut mcp, &session, &checkout, path).await;
    assert_eq!(
        mcp.end().await,
        Vec::<Value>::new(),
        "nothing but the protocol"
    );
}

/// Looks at the change, applies it, rejects another one, and goes back.
async fn review(mcp: &mut Mcp, session: &Value, checkout: &str, worktree: &str) {
    let in_session = json!({ "session_id": session });
    let changes = mcp.call("changes_list", in_session.clone()).await;
    let change = changes["items"][0]["id"].clone();
    let shown = mcp
        .call("change_show", json!({ "change_id": change }))
        .await;
    assert!(
        shown["diff"]
            .as_str()
            .is_some_and(|diff| diff.contains("+one")),
        "{shown}"
    );
    let applied = json!({ "session_id": session, "change_ids": [change] });
    let answer = mcp.call("changes_apply", applied.clone()).await;
    assert_eq!(answer["state"], "done", "{answer}");
    let there = std::fs::read_to_string(format!("{checkout}/a.txt")).unwrap();
    assert_eq!(there.trim(), "one");
    let operation = json!({ "operation_id": answer["operation"]["id"] });
    let operation = mcp.call("operation_show", operation).await;
    assert_eq!(operation["state"], "done", "{operation}");
    let again = mcp.call("changes_apply", applied).await;
    assert_eq!(again["state"], "nothing_to_do", "{again}");
    let all = json!({ "session_id": session, "status": "applied" });
    assert_eq!(
        mcp.call("changes_list", all).await["items"][0]["id"],
        change
    );

    let more = json!({ "session_id": session, "agent": "demo", "input": "create b.txt with two" });
    let task = mcp.call("task_create", more).await["task_id"].clone();
    let told = mcp.call("task_follow", json!({ "task_id": task })).await;
    assert_eq!(told["done"], true, "{told}");
    let rejected = mcp.call("changes_reject", in_session.clone()).await;
    assert_eq!(rejected["state"], "done", "{rejected}");
    assert!(!std::fs::exists(format!("{worktree}/b.txt")).unwrap());
    let left = mcp.call("changes_list", in_session.clone()).await;
    assert_eq!(left["items"], json!([]));

    let checkpoints = mcp.call("checkpoints_list", in_session).await;
    let first = checkpoints["items"].as_array().unwrap();
    let first = first
        .iter()
        .min_by_key(|point| point["created_at"].to_string())
        .unwrap();
    let back = json!({ "session_id": session, "checkpoint_id": first["id"], "consent": true });
    let restored = mcp.call("checkpoint_restore", back).await;
    assert_eq!(restored["state"], "done", "{restored}");
    assert!(
        !std::fs::exists(format!("{worktree}/a.txt")).unwrap(),
        "before the first turn"
    );
    let nobody = json!({ "session_id": session, "checkpoint_id": task });
    assert_eq!(
        mcp.fault("checkpoint_restore", nobody).await["code"],
        "not_found"
    );
}

#[tokio::test]
async fn a_program_does_the_whole_round_over_stdio() {
    round(Way::Stdio).await;
}

#[tokio::test]
async fn a_program_does_the_whole_round_over_http() {
    round(Way::Http).await;
}

#[tokio::test]
async fn a_person_is_asked_and_answers_by_mcp() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let mut mcp = Mcp::open(&service, Way::Http).await;
    let task = json!({ "chat_id": chat.id, "agent": "demo", "input": "ask run true\nsay went on", "policy": "ask" });
    let task = mcp.call("task_create", task).await["task_id"].clone();
    let told = mcp.call("task_follow", json!({ "task_id": task })).await;
    assert_eq!(
        (&told["state"], &told["done"]),
        (&json!("blocked"), &json!(false)),
        "{told}"
    );
    let inbox = mcp
        .call("inbox_list", json!({ "session_id": chat.session }))
        .await;
    assert!(
        inbox["items"]
            .as_array()
            .is_some_and(|items| items.len() > 1),
        "{inbox}"
    );
    let mut told = told;
    let mut answers = 0;
    while told["done"] != true {
        for prompt in told["open_prompts"].as_array().unwrap() {
            let answer = json!({ "prompt_id": prompt["id"], "kind": "reject_once" });
            let answered = mcp.call("prompt_answer", answer).await;
            assert_eq!(answered["state"], "answered", "{answered}");
            answers += 1;
        }
        let next = json!({ "task_id": task, "after": told["cursor"], "wait_seconds": 5 });
        told = mcp.call("task_follow", next).await;
    }
    assert!(answers > 0);
    assert_eq!(told["outcome"], "ok", "{told}");

    let long = json!({ "chat_id": chat.id, "agent": "demo", "input": "wait 60s" });
    let long = mcp.call("task_create", long).await["task_id"].clone();
    service.state(&chat, "running").await;
    mcp.call("task_cancel", json!({ "task_id": long })).await;
    let told = mcp.call("task_follow", json!({ "task_id": long })).await;
    assert_eq!(
        (&told["state"], &told["done"]),
        (&json!("cancelled"), &json!(true))
    );
    let failing = json!({ "chat_id": chat.id, "agent": "demo", "input": "fail on purpose" });
    let failing = mcp.call("task_create", failing).await["task_id"].clone();
    mcp.call("task_follow", json!({ "task_id": failing })).await;
    let id = format!("task:{}", failing.as_str().unwrap());
    let again = mcp.call("inbox_retry", json!({ "id": id })).await;
    assert_ne!(again["task_id"], failing);
}

#[tokio::test]
async fn what_is_wrong_comes_with_its_code_and_cure() {
    let service = Service::start().await;
    let mut mcp = Mcp::open(&service, Way::Stdio).await;
    let nobody = "00000000-0000-0000-0000-000000000000";
    for (tool, arguments, code, says) in [
        (
            "task_status",
            json!({}),
            "invalid_arguments",
            "missing field `task_id`",
        ),
        (
            "task_status",
            json!({ "task_id": 5 }),
            "invalid_arguments",
            "`task_id`",
        ),
        (
            "task_status",
            json!({ "task_id": nobody }),
            "not_found",
            nobody,
        ),
        (
            "task_follow",
            json!({ "task_id": nobody }),
            "not_found",
            nobody,
        ),
        (
            "task_follow",
            json!({ "task_id": nobody, "wait_seconds": 0 }),
            "invalid_arguments",
            "1 to 300",
        ),
        (
            "task_create",
            json!({ "input": "x" }),
            "invalid_arguments",
            "say where",
        ),
        (
            "task_create",
            json!({ "input": "x", "project_id": nobody, "agent": "hal" }),
            "unknown_agent",
            "demo",
        ),
        (
            "task_list",
            json!({ "state": "lost" }),
            "invalid_query",
            "lost",
        ),
        (
            "inbox_retry",
            json!({ "id": "../tasks" }),
            "invalid_id",
            "not an id",
        ),
        (
            "prompt_answer",
            json!({ "prompt_id": nobody, "kind": "maybe" }),
            "invalid_arguments",
            "allow_once",
        ),
    ] {
        let fault = mcp.fault(tool, arguments.clone()).await;
        assert_eq!(fault["code"], code, "{tool} {arguments}: {fault}");
        let detail = fault["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(says), "{tool} {arguments}: {fault}");
    }
    let unknown = mcp
        .ask(json!({ "op": "call", "name": "tasks_delete", "arguments": {} }))
        .await;
    assert_eq!(unknown["error"]["code"], -32602, "{unknown}");
    // The service went away and came back elsewhere; the client stays.
    let service = service.again().await;
    let tasks = mcp.call("task_list", json!({})).await;
    assert_eq!(tasks["items"], json!([]));
    drop(service);
    let gone = mcp.fault("task_list", json!({})).await;
    assert_eq!(gone["code"], "service_unreachable", "{gone}");
    assert!(
        gone["detail"].as_str().unwrap().contains("hearth serve"),
        "{gone}"
    );
}

#[tokio::test]
async fn a_program_of_an_agent_creates_lists_and_looks_and_no_more() {
    let service = Service::start().await;
    let chat = service.chat().await;
    for way in [Way::Http, Way::Stdio] {
        let ops = [
            json!({ "op": "list" }),
            json!({ "op": "call", "name": "task_create", "arguments": { "input": "say child", "agent": "demo" } }),
            json!({ "op": "call", "name": "task_cancel", "arguments": { "task_id": "00000000-0000-0000-0000-000000000000" } }),
        ];
        let (task, lines) = client::by_an_agent(&service, &chat, way, &ops).await;
        let shown = lines[1]["result"]["tools"].as_array().unwrap();
        let names: Vec<&str> = shown
            .iter()
            .filter_map(|tool| tool["name"].as_str())
            .collect();
        assert_eq!(
            names,
            ["task_create", "task_list", "task_status"],
            "{way:?}"
        );
        let made = &lines[2]["result"]["structuredContent"]["task_id"];
        let child = service
            .get(&format!("/api/tasks/{}", made.as_str().unwrap()))
            .await;
        assert_eq!(child["parent_task_id"], task.as_str(), "{way:?}: {child}");
        let refused = &lines[3]["result"];
        assert_eq!(refused["isError"], true, "{refused}");
        assert_eq!(
            refused["structuredContent"]["code"], "agent_not_allowed",
            "{refused}"
        );
        assert_eq!(service.outcome(made.as_str().unwrap()).await, "ok");
    }
}

#[tokio::test]
async fn a_line_that_is_no_json_is_answered_and_the_next_one_is_read() {
    let service = Service::start().await;
    let mut program = super::harness::command(&service.home, &service.database());
    let mut mcp = program
        .arg("mcp")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = mcp.stdin.take().unwrap();
    let mut lines = BufReader::new(mcp.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = tokio::time::timeout(SOON, lines.next_line()).await;
        let line = line.expect("an answer in time").unwrap().expect("a line");
        serde_json::from_str::<Value>(&line).unwrap()
    };
    let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {},
        "clientInfo": { "name": "by hand", "version": "0" } } });
    input
        .write_all(format!("{{\"half\": \n{hello}\n").as_bytes())
        .await
        .unwrap();
    let refused = next().await;
    assert_eq!(refused["error"]["code"], -32700, "{refused}");
    assert_eq!(refused["id"], Value::Null);
    let answered = next().await;
    assert_eq!(answered["id"], 1, "{answered}");
    assert_eq!(answered["result"]["serverInfo"]["name"], "hearth");
    drop(input);
    let ended = tokio::time::timeout(SOON, mcp.wait()).await;
    assert!(ended.expect("it ends").unwrap().success());
}
