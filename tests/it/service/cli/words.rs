//! What is said to people, and how commands end.

use std::path::Path;

use serde_json::json;

use super::super::harness::id_of;
use super::*;

/// Words of programs.
const JARGON: [&str; 7] = [
    "task_id",
    "needs_consent",
    "worktree_busy",
    "task_ended",
    "\"consent\"",
    "/api/",
    "change_ids",
];

#[tokio::test]
async fn each_way_to_end_has_its_code_and_no_words_of_programs() {
    let service = Service::start().await;
    let one = service.chat().await;
    let path = format!("/api/sessions/{}/chats", one.session);
    let (_, chat) = service.post(&path, json!({ "name": "other" })).await;
    let other = Chat {
        id: id_of(&chat),
        session: one.session.clone(),
    };
    let away = Path::new("/");
    for (chat, prompt) in [
        (&one, "create a.txt with 1"),
        (&other, "create b.txt with 2"),
    ] {
        let task = service.say(chat, prompt).await;
        assert_eq!(service.outcome(&task).await, "ok");
    }
    let points = service
        .get(&format!("/api/sessions/{}/checkpoints", one.session))
        .await;
    let point = id_of(points["items"].as_array().unwrap().last().unwrap());
    let refused = hearth(&service, away, &["restore", &point]).await;
    let told = format!("say --consent if chat {} may", short(&other.id));
    refused.is(6, &["another chat", &told]).lacks(&JARGON);
    let root = checkout(&service, &one).await;
    std::fs::write(root.join("a.txt"), "mine\n").unwrap();
    let all = ["apply", &one.session, "--all"];
    let refused = hearth(&service, away, &all).await;
    refused
        .is(4, &["1 file stands in the way", "a.txt"])
        .lacks(&JARGON);

    let running = service.say(&other, "wait 60s").await;
    let waiting = service.say(&other, "say later").await;
    service.state(&other, "running").await;
    let refused = hearth(&service, away, &all).await;
    refused
        .is(5, &["`hearth ls` shows what runs"])
        .lacks(&JARGON);
    let listed = hearth(&service, away, &["ls"]).await;
    listed.is(
        0,
        &[
            &format!("task {}  running  demo  wait 60s", short(&running)),
            &format!("task {}  pending  demo  say later", short(&waiting)),
        ],
    );
    for task in [&waiting, &running] {
        hearth(&service, away, &["cancel", &short(task)])
            .await
            .is(0, &[]);
        assert_ne!(service.outcome(task).await, "ok");
    }
    let over = hearth(&service, away, &["cancel", &running]).await;
    over.is(2, &["has ended", "hearth attach"]).lacks(&JARGON);
    hearth(&service, away, &["restore", &point, "--consent"])
        .await
        .is(0, &["restored"]);

    for command in ["apply", "restore", "run", "cancel", "retry"] {
        let help = hearth(&service, away, &[command, "--help"]).await;
        help.is(
            0,
            &[
                "4    files stand in the way",
                "5    a turn",
                "6    other chats",
            ],
        );
    }
    hearth(&service, away, &["--help"]).await.is(
        0,
        &["6    other chats", "start a service inside the command"],
    );
}

#[tokio::test]
async fn what_was_tried_again_is_said_so() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let away = Path::new("/");
    let failed = service.say(&chat, "fail on purpose").await;
    service.ended(&failed).await;
    let again = hearth(&service, away, &["retry", &short(&failed)]).await;
    again.is(0, &["queued again as task "]);
    let task = again.out.trim().rsplit(' ').next().unwrap().to_owned();
    service.ended(&task).await;
    let twice = hearth(&service, away, &["retry", &short(&failed)]).await;
    let told = format!("it was tried again before: task {task} (agent_error)");
    twice.is(0, &[&told]);
    let unknown = hearth(&service, away, &["retry", "deadbeef"]).await;
    unknown.is(2, &["there is no task `deadbeef`"]);
}

#[tokio::test]
async fn an_answer_is_one_that_is_on_offer() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let away = Path::new("/");
    let open = async || {
        let prompt = service
            .until("an open prompt", async || {
                let page = service.get("/api/prompts?state=open").await;
                let first = page["items"].as_array().and_then(|items| items.first());
                first.cloned().ok_or(page)
            })
            .await;
        short(&id_of(&prompt))
    };
    let task = service.say(&chat, "question which colour?").await;
    let id = open().await;
    let how = format!("hearth answer {id} deny|--text \"…\"");
    for arguments in [&["prompts"][..], &["inbox"]] {
        hearth(&service, away, arguments).await.is(0, &[&how]);
    }
    let wrong = hearth(&service, away, &["answer", &id, "allow"]).await;
    wrong.is(2, &["`allow` is no answer to: which colour?", &how]);
    let said = hearth(&service, away, &["answer", &id, "--text", "deep blue"]).await;
    said.is(0, &["which colour?: deep blue"]);
    assert_eq!(service.outcome(&task).await, "ok");
    assert!(service.answers(&chat).await[0].contains("deep blue"));

    let task = service.say(&chat, "choose which: red | deep blue").await;
    let id = open().await;
    let how = format!("hearth answer {id} red|'deep blue'|deny");
    for wrong in [&["answer", &id, "green"][..], &["answer", &id, "-t", "red"]] {
        hearth(&service, away, wrong).await.is(2, &[&how]);
    }
    let said = hearth(&service, away, &["answer", &id, "deep blue"]).await;
    said.is(0, &["which: deep blue"]);
    assert_eq!(service.outcome(&task).await, "ok");
    // A question is no tool: none fails.
    let shown = hearth(&service, away, &["attach", &task]).await;
    shown.is(0, &["answer: deep blue"]).lacks(&["✗"]);
}

#[tokio::test]
async fn always_holds_for_one_kind_of_tool_of_the_demo_agent() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let away = Path::new("/");
    let prompt = "ask run true\nask run true\nask create a.txt with one\nask may I?\nsay over";
    let task = service.say(&chat, prompt).await;
    let mut asked = Vec::new();
    loop {
        let open = service
            .until("a question or the end", async || {
                let page = service.get("/api/prompts?state=open").await;
                let row = service.get(&format!("/api/tasks/{task}")).await;
                match page["items"].as_array().and_then(|items| items.first()) {
                    Some(prompt) => Ok(Some(prompt.clone())),
                    None if row["outcome"].is_string() => Ok(None),
                    None => Err(row),
                }
            })
            .await;
        let Some(open) = open else { break };
        let title = open["request"]["tool"]["title"]
            .as_str()
            .unwrap()
            .to_owned();
        asked.push(title);
        hearth(&service, away, &["answer", &id_of(&open), "always"])
            .await
            .is(0, &[]);
    }
    assert_eq!(asked, ["run true", "create a.txt", "may I?"]);
}
