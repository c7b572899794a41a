//! The list of what needs a person.

use serde_json::json;

use super::*;

#[tokio::test]
async fn the_inbox_is_paged_and_what_is_dismissed_is_gone() {
    let service = Service::start().await;
    let project = service.project().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let chat = service.chat_of(&project).await;
        let task = service.say(&chat, "fail boom").await;
        assert_eq!(service.outcome(&task).await, "agent_error");
        ids.push(format!("task:{task}"));
    }
    let chat = service.chat_of(&project).await;
    let (task, prompt) = ask(&service, &chat).await;
    let prompt = format!("prompt:{}", id_of(&prompt));
    let mut seen: Vec<String> = Vec::new();
    let mut path = "/api/inbox?limit=1".to_owned();
    loop {
        let page = service.get(&path).await;
        let items = page["items"].as_array().unwrap_or_else(|| panic!("{page}"));
        seen.extend(items.iter().map(id_of));
        match page["next_cursor"].as_str() {
            Some(next) => path = format!("/api/inbox?limit=1&cursor={next}"),
            None => break,
        }
    }
    let newest_first: Vec<String> = ids.iter().rev().cloned().collect();
    assert_eq!(seen.len(), 5, "{seen:?}");
    assert_eq!(seen[2..], newest_first);
    assert!(seen[..2].contains(&prompt) && seen[..2].contains(&format!("task:{task}")));
    let of_session = format!("/api/inbox?session_id={}", chat.session);
    let of_session = service.get(&of_session).await;
    assert_eq!(of_session["items"].as_array().map(Vec::len), Some(2));

    let dismiss = async |id: &str| {
        let path = format!("/api/inbox/{id}/dismiss");
        let (status, body) = service.post(&path, json!({})).await;
        (status, body["code"].as_str().map(str::to_owned))
    };
    for _ in 0..2 {
        assert_eq!(dismiss(&ids[0]).await, (204, None));
    }
    assert_eq!(item(&service, &ids[0]).await, None);
    let refused = |code: &str| (409, Some(code.to_owned()));
    assert_eq!(dismiss(&prompt).await, refused("not_dismissable"));
    assert_eq!(
        dismiss(&format!("task:{task}")).await,
        refused("not_dismissable")
    );
    assert_eq!(dismiss("task:x").await.0, 400);
    let nobody = uuid::Uuid::now_v7();
    assert_eq!(dismiss(&format!("notice:{nobody}")).await.0, 404);
    let retry = async |id: &str| {
        service
            .post(&format!("/api/inbox/{id}/retry"), json!({}))
            .await
    };
    assert_eq!(
        retry(&format!("task:{task}")).await.1["code"],
        "not_retryable"
    );
    assert_eq!(retry(&prompt).await.1["code"], "not_retryable");
    assert_eq!(retry(&format!("task:{nobody}")).await.0, 404);
}

#[tokio::test]
async fn an_agent_that_crashes_too_often_is_a_notice() {
    let config = "[agents.bad]\nprotocol = \"acp\"\ncommand = \"false\"\n";
    let service = Service::with_config(Some(config)).await;
    let chat = service.chat().await;
    for _ in 0..4 {
        let task = service.say_to("bad", &chat, "hello").await;
        assert_eq!(service.outcome(&task).await, "no_start");
    }
    let notice = service
        .until("a notice", async || {
            let items = inbox(&service).await;
            let notice = items.iter().find(|item| item["reason"] == "open_circuit");
            notice.cloned().ok_or(items)
        })
        .await;
    assert_eq!(notice["agent"], "bad");
    assert_eq!(notice["session_id"], chat.session.as_str());
    // Its next task waits for more than seconds, and says so.
    let parked = service.say_to("bad", &chat, "hello").await;
    let parked = format!("task:{parked}");
    let listed = service
        .until("a parked task", async || {
            let listed = item(&service, &parked).await;
            listed.ok_or("not listed")
        })
        .await;
    assert_eq!(listed["state"], "parked");
    assert!(listed["until"].is_string(), "{listed}");
    let path = format!("/api/inbox/{}/dismiss", id_of(&notice));
    assert_eq!(service.post(&path, json!({})).await.0, 204);
    assert_eq!(item(&service, &id_of(&notice)).await, None);
}

/// What is in a file of the chat's worktree, if it is there.
async fn content(service: &Service, chat: &Chat, file: &str) -> Option<String> {
    let session = service
        .get(&format!("/api/sessions/{}", chat.session))
        .await;
    let worktree = session["worktree_path"].as_str()?;
    std::fs::read_to_string(std::path::Path::new(worktree).join(file)).ok()
}

#[tokio::test]
async fn a_retry_from_the_checkpoint_begins_on_the_files_before() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let first = service.say(&chat, "create kept.txt with 1").await;
    assert_eq!(service.outcome(&first).await, "ok");
    let failed = service
        .say(&chat, "append notes.txt with once\nfail boom")
        .await;
    assert_eq!(service.outcome(&failed).await, "agent_error");
    let path = format!("/api/inbox/task:{failed}/retry");
    let (status, problem) = service.post(&path, json!({ "consent": true })).await;
    assert_eq!(
        (status, problem["code"].as_str()),
        (422, Some("invalid_body"))
    );

    // Another chat works in the same files: its turn must not lose them unasked.
    let other = service
        .post(
            &format!("/api/sessions/{}/chats", chat.session),
            json!({ "name": "other" }),
        )
        .await
        .1;
    let other = Chat {
        id: id_of(&other),
        session: chat.session.clone(),
    };
    let busy = service
        .say(&other, "create other.txt with 2\nask go on?")
        .await;
    let prompt = open_prompt(&service, &busy).await;
    let (status, problem) = service.post(&path, json!({ "restore": true })).await;
    assert_eq!(
        (status, problem["code"].as_str()),
        (409, Some("worktree_busy")),
        "{problem}"
    );
    let (status, _) = answer(&service, &prompt, json!({ "kind": "allow_once" })).await;
    assert_eq!(status, 200);
    assert_eq!(service.outcome(&busy).await, "ok");
    let (status, problem) = service.post(&path, json!({ "restore": true })).await;
    assert_eq!(
        (status, problem["code"].as_str()),
        (409, Some("needs_consent")),
        "{problem}"
    );
    assert_eq!(
        content(&service, &chat, "notes.txt").await.as_deref(),
        Some("once\n"),
        "nothing was done"
    );

    let short = &failed[failed.len() - 8..];
    let said = hearth(&service, &["retry", short, "--restore", "--consent"]).await;
    let again = said.trim().rsplit(' ').next().unwrap();
    assert_eq!(service.outcome(again).await, "agent_error");
    assert_eq!(
        content(&service, &chat, "notes.txt").await.as_deref(),
        Some("once\n"),
        "it began on the files before"
    );
    assert!(content(&service, &chat, "kept.txt").await.is_some());
    assert_eq!(content(&service, &chat, "other.txt").await, None);
    // A repeat finds the same task and restores nothing.
    let body = json!({ "restore": true, "consent": true });
    let (status, made) = service.post(&path, body).await;
    assert_eq!((status, made["task_id"].as_str()), (200, Some(again)));
}

#[tokio::test]
async fn an_interrupted_task_is_tried_again_once_where_its_creator_wants() {
    let mut service = Service::start().await;
    let chat = service.chat().await;
    let path = format!("/api/chats/{}/messages", chat.id);
    let body = json!({
        "content": "append notes.txt with once\nhang", "agent": "demo", "on_interrupt": "retry"
    });
    let (status, accepted) = service.post(&path, body).await;
    assert_eq!(status, 202, "{accepted}");
    let task = accepted["task_id"].as_str().unwrap().to_owned();
    written(&service, &chat).await;
    service.kill().await;
    let mut service = service.again().await;
    assert_eq!(service.outcome(&task).await, "interrupted");
    let again = service
        .until("the task that tries it again", async || {
            let page = service
                .get(&format!("/api/tasks?session_id={}", chat.session))
                .await;
            let items = page["items"].as_array().cloned().unwrap_or_default();
            let again = items
                .into_iter()
                .find(|row| row["retry_of"] == task.as_str());
            again.ok_or(page)
        })
        .await;
    let again = id_of(&again);
    written(&service, &chat).await;
    // Never a loop: what was tried again by itself waits for a person.
    service.kill().await;
    let service = service.again().await;
    assert_eq!(service.outcome(&again).await, "interrupted");
    let items = inbox(&service).await;
    assert_eq!(items.len(), 1, "{items:?}");
    assert_eq!(items[0]["id"], format!("task:{again}"));
}

/// Waits until the agent wrote its line, once.
async fn written(service: &Service, chat: &Chat) {
    service
        .until("the agent's line", async || {
            let content = content(service, chat, "notes.txt").await;
            (content.as_deref() == Some("once\n"))
                .then_some(())
                .ok_or(content)
        })
        .await;
    service.state(chat, "running").await;
}
