//! Answers, and what they meet.

use serde_json::{Value, json};

use super::*;

#[tokio::test]
async fn a_question_is_answered_over_http_once() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let (task, prompt) = ask(&service, &chat).await;
    assert_eq!(prompt["agent"], "demo");
    assert_eq!(prompt["request"]["tool"]["title"], "may I?");
    assert_eq!(prompt["options"].as_array().map(Vec::len), Some(4));
    assert_eq!(
        service.get(&format!("/api/tasks/{task}")).await["state"],
        "blocked"
    );
    // What is asked is in the inbox as soon as it is anywhere.
    let listed = item(&service, &format!("prompt:{}", id_of(&prompt))).await;
    let listed = listed.expect("the prompt");
    assert_eq!(listed["title"], "may I?");
    assert_eq!(listed["actions"], json!(["answer"]));
    assert_eq!(
        item(&service, &format!("task:{task}"))
            .await
            .expect("the task")["state"],
        "blocked"
    );

    for (body, code) in [
        (json!({ "option_id": "perhaps" }), "unknown_option"),
        (json!({ "kind": "maybe" }), "invalid_body"),
        (json!({}), "invalid_body"),
        (
            json!({ "kind": "allow_once", "option_id": "x" }),
            "invalid_body",
        ),
    ] {
        let (status, problem) = answer(&service, &prompt, body).await;
        assert_eq!(
            (status, problem["code"].as_str()),
            (422, Some(code)),
            "{problem}"
        );
    }
    let (status, settled) = answer(&service, &prompt, json!({ "kind": "allow_once" })).await;
    assert_eq!(status, 200, "{settled}");
    assert_eq!(settled["state"], "answered");
    assert_eq!(settled["answered_by"], "http");
    assert_eq!(settled["answer"]["id"], "demo:allow_once");
    assert_eq!(service.outcome(&task).await, "ok");
    let answers = service.answers(&chat).await;
    assert!(
        answers[0].contains("Allowed (allow_once): may I?"),
        "{answers:?}"
    );

    let again = answer(&service, &prompt, json!({ "option_id": "demo:allow_once" })).await;
    assert_eq!(again, (200, settled));
    let (status, problem) = answer(&service, &prompt, json!({ "kind": "reject_once" })).await;
    assert_eq!(
        (status, problem["code"].as_str()),
        (409, Some("prompt_answered"))
    );
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("demo:allow_once"),
        "{problem}"
    );
    let (status, problem) = service
        .post(
            &format!("/api/prompts/{}/answer", uuid::Uuid::now_v7()),
            json!({ "kind": "allow_once" }),
        )
        .await;
    assert_eq!(status, 404, "{problem}");
    assert_eq!(
        told(&service, &task).await,
        ["permission_requested", "permission_resolved answered"]
    );
    assert_eq!(inbox(&service).await, Vec::<Value>::new());
}

#[tokio::test]
async fn of_two_answers_at_once_exactly_one_wins() {
    let service = Service::start().await;
    let chat = service.chat().await;
    for _ in 0..50 {
        let (task, prompt) = ask(&service, &chat).await;
        let (yes, no) = tokio::join!(
            answer(&service, &prompt, json!({ "kind": "allow_once" })),
            answer(&service, &prompt, json!({ "kind": "reject_once" }))
        );
        let mut codes = [yes.0, no.0];
        codes.sort_unstable();
        assert_eq!(codes, [200, 409], "{yes:?} {no:?}");
        assert_eq!(service.outcome(&task).await, "ok");
        let row = service
            .get(&format!("/api/prompts/{}", id_of(&prompt)))
            .await;
        let word = if yes.0 == 200 { "Allowed" } else { "Refused" };
        let won = if yes.0 == 200 {
            "demo:allow_once"
        } else {
            "demo:reject_once"
        };
        assert_eq!(row["answer"]["id"], won);
        let answers = service.answers(&chat).await;
        let last = answers.iter().max_by_key(|text| text.len());
        assert!(answers.iter().any(|text| text.contains(word)), "{last:?}");
    }
}

#[tokio::test]
async fn two_sessions_ask_at_once_and_each_gets_its_own_answer() {
    let service = Service::start().await;
    let (one, two) = (service.chat().await, service.chat().await);
    let (first, asked_first) = ask(&service, &one).await;
    let (second, asked_second) = ask(&service, &two).await;
    let open = service.get("/api/prompts?state=open").await;
    assert_eq!(open["items"].as_array().map(Vec::len), Some(2), "{open}");
    let path = format!("/api/prompts?session_id={}&limit=1", one.session);
    let of_one = service.get(&path).await;
    assert_eq!(id_of(&of_one["items"][0]), id_of(&asked_first));
    let (status, _) = answer(&service, &asked_second, json!({ "kind": "reject_once" })).await;
    assert_eq!(status, 200);
    let (status, _) = answer(&service, &asked_first, json!({ "kind": "allow_once" })).await;
    assert_eq!(status, 200);
    for task in [&first, &second] {
        assert_eq!(service.outcome(task).await, "ok");
    }
    assert!(service.answers(&one).await[0].contains("Allowed"));
    assert!(service.answers(&two).await[0].contains("Refused"));
}
