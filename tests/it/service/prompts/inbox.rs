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
