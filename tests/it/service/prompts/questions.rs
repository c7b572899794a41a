//! Questions that want words or a choice, not consent.

use super::super::harness::{SOON, repository_at};
use super::*;

async fn asked(service: &Service, chat: &Chat, line: &str) -> (String, Value) {
    let task = service.say(chat, line).await;
    let prompt = open_prompt(service, &task).await;
    assert_eq!(prompt["kind"], "question");
    (task, prompt)
}

fn code(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["code"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn a_question_takes_words() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let (task, prompt) = asked(&service, &chat, "question which colour?").await;
    assert_eq!(prompt["request"]["question"], "which colour?");
    let listed = item(&service, &format!("prompt:{}", id_of(&prompt))).await;
    let listed = listed.expect("the question");
    assert_eq!(listed["title"], "which colour?");
    assert_eq!(listed["reason"], "question");
    for (body, expected) in [
        (json!({ "text": " " }), "invalid_body"),
        (json!({ "text": "x".repeat(4001) }), "invalid_body"),
        (json!({ "text": "x", "kind": "allow_once" }), "invalid_body"),
        (json!({ "kind": "text" }), "invalid_body"),
        (json!({ "kind": "allow_once" }), "unknown_option"),
        (json!({ "option_id": "text" }), "unknown_option"),
    ] {
        let refused = answer(&service, &prompt, body).await;
        assert_eq!(code(&refused), (422, expected), "{refused:?}");
    }
    let words = json!({ "text": "deep blue, \"not\" green" });
    let (status, settled) = answer(&service, &prompt, words.clone()).await;
    assert_eq!(status, 200, "{settled}");
    assert_eq!(settled["answer"]["kind"], "text");
    assert_eq!(settled["answer"]["label"], "deep blue, \"not\" green");
    assert_eq!(service.outcome(&task).await, "ok");
    let answers = service.answers(&chat).await;
    let said = "Answered: which colour? deep blue, \"not\" green";
    assert!(answers[0].contains(said), "{answers:?}");
    assert_eq!(answer(&service, &prompt, words).await, (200, settled));
    let other = answer(&service, &prompt, json!({ "text": "red" })).await;
    assert_eq!(code(&other), (409, "prompt_answered"), "{other:?}");
}

#[tokio::test]
async fn a_question_with_choices_takes_one_of_them() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let line = "choose which colour: red | blue";
    let (task, prompt) = asked(&service, &chat, line).await;
    let words = answer(&service, &prompt, json!({ "text": "green" })).await;
    assert_eq!(code(&words), (422, "unknown_option"), "{words:?}");
    let (status, settled) = answer(&service, &prompt, json!({ "option_id": "blue" })).await;
    assert_eq!(status, 200, "{settled}");
    assert_eq!(service.outcome(&task).await, "ok");
    let answers = service.answers(&chat).await;
    assert!(
        answers[0].contains("Answered: which colour blue"),
        "{answers:?}"
    );

    let (task, prompt) = asked(&service, &chat, line).await;
    let (status, _) = answer(&service, &prompt, json!({ "kind": "reject_once" })).await;
    assert_eq!(status, 200);
    assert_eq!(service.outcome(&task).await, "ok");
    let answers = service.answers(&chat).await;
    let declined = "Not answered (decline): which colour";
    assert!(
        answers.iter().any(|text| text.contains(declined)),
        "{answers:?}"
    );
}

#[tokio::test]
async fn no_policy_knows_the_words() {
    let config = "[agents.demo]\npermission = \"allow_all\"\n";
    let service = Service::with_config(Some(config)).await;
    let chat = service.chat().await;
    let (task, prompt) = asked(&service, &chat, "question which colour?").await;
    let (status, _) = answer(&service, &prompt, json!({ "text": "blue" })).await;
    assert_eq!(status, 200);
    assert_eq!(service.outcome(&task).await, "ok");
    // Where nobody is to be asked, the agent is told so.
    let path = format!("/api/chats/{}/messages", chat.id);
    let body = json!({ "content": "question why?", "agent": "demo", "policy": "deny" });
    let (status, accepted) = service.post(&path, body).await;
    assert_eq!(status, 202, "{accepted}");
    let task = accepted["task_id"].as_str().unwrap();
    assert_eq!(service.outcome(task).await, "ok");
    let answers = service.answers(&chat).await;
    let declined = "Not answered (decline): why?";
    assert!(
        answers.iter().any(|text| text.contains(declined)),
        "{answers:?}"
    );
}

#[tokio::test]
async fn a_question_is_answered_at_the_command_line() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let (task, prompt) = asked(&service, &chat, "question which colour?").await;
    let id = id_of(&prompt);
    let short = &id[id.len() - 8..];
    let listed = hearth(&service, &["prompts"]).await;
    let how = format!("hearth answer {short} deny|--text \"…\"");
    assert!(
        listed.contains("which colour?") && listed.contains(&how),
        "{listed}"
    );
    let listed = hearth(&service, &["inbox"]).await;
    assert!(listed.contains(&how), "{listed}");
    let said = hearth(&service, &["answer", short, "--text", "deep blue"]).await;
    assert_eq!(said, "which colour?: deep blue\n");
    assert_eq!(service.outcome(&task).await, "ok");
    let (task, prompt) = asked(&service, &chat, "choose which: red | blue").await;
    let id = id_of(&prompt);
    let said = hearth(&service, &["answer", &id[id.len() - 8..], "Red"]).await;
    assert_eq!(said, "which: red\n");
    assert_eq!(service.outcome(&task).await, "ok");
}

#[tokio::test]
async fn a_run_on_a_terminal_asks_for_words() {
    let service = Service::start().await;
    let repository = service.home.parent().unwrap().join("typed");
    repository_at(&repository);
    let line = "question which colour?";
    let screen = super::command_line::typed(&service, &repository, line, "your answer: ", "sky");
    let screen = tokio::time::timeout(SOON, screen).await.expect("an end");
    assert!(screen.contains("Answered: which colour? sky"), "{screen}");
    let prompts = service.get("/api/prompts").await;
    assert_eq!(prompts["items"][0]["answered_by"], "cli", "{prompts}");
}
