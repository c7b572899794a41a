//! Budgets at the command line, and tasks that wait for them.

use std::path::Path;

use serde_json::json;

use super::*;

#[tokio::test]
async fn a_budget_is_raised_where_its_task_waits() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let away = Path::new("/");
    let type_in = async |arguments: &[&str]| hearth(&service, away, arguments).await;
    let of = short(&chat.session);
    let set = type_in(&["budget", &of, "--tokens", "5", "--cost", "1.5"]).await;
    set.is(0, &["of 5 tokens", "of 1.5000 $"]);
    let task = service.say(&chat, "say one two three four five six").await;
    service.ended(&task).await;
    let task = service.say(&chat, "say go on").await;
    service
        .until("a parked task", async || {
            let task = service.get(&format!("/api/tasks/{task}")).await;
            let parked = task["parked_reason"] == "budget";
            if parked { Ok(()) } else { Err(task) }
        })
        .await;
    let cure = format!("hearth budgets {} --tokens N", chat.session);
    let inbox = type_in(&["inbox"]).await;
    inbox.is(0, &["parked", &format!("hearth retry {}", short(&task))]);
    // On lines, and whole.
    let told: Vec<&str> = inbox.out.split_whitespace().collect();
    assert!(told.join(" ").contains(&cure), "{inbox:#?}");
    inbox.lacks(&["…", "/api/"]);
    type_in(&["retry", &task])
        .await
        .is(0, &[&format!("task {task} is tried now")]);
    service
        .until("a task that is parked again", async || {
            let task = service.get(&format!("/api/tasks/{task}")).await;
            let parked = task["parked_reason"] == "budget" && !task["not_before"].is_null();
            if parked { Ok(()) } else { Err(task) }
        })
        .await;
    let refused = type_in(&["retry", &task, "--restore"]).await;
    refused.is(2, &["is pending"]);

    // The dollars stay as they were.
    let raised = type_in(&["budgets", &of, "--tokens", "1000"]).await;
    raised.is(0, &["of 1000 tokens", "of 1.5000 $"]);
    assert_eq!(service.outcome(&task).await, "ok");
    let free = type_in(&["budgets", &of, "--tokens", "none", "--cost", "none"]).await;
    free.is(0, &["nothing is bounded"]);
    for (wrong, code, said) in [
        (&["budgets", &of, "--tokens", "many"][..], 2, "or `none`"),
        (&["budgets", &of, "--tokens", "0"], 2, "from 1 to"),
        (&["budgets", "--tokens", "5"], 2, "SESSION"),
        (&["budgets", "deadbeef", "--tokens", "5"], 2, "no session"),
    ] {
        type_in(wrong).await.is(code, &[said]);
    }
}

#[tokio::test]
async fn what_the_settings_bound_is_raised_there() {
    let service = Service::with_config(Some("[budget.session]\ntokens = 100\n")).await;
    let chat = service.chat().await;
    let away = Path::new("/");
    let loose = ["budgets", &chat.session, "--tokens", "200"];
    hearth(&service, away, &loose)
        .await
        .is(2, &["at most 100 tokens", "[budget.session]"]);
    let tight = ["budgets", &chat.session, "--tokens", "50", "--json"];
    let set = hearth(&service, away, &tight).await;
    let set: Value = serde_json::from_str(&set.out).unwrap();
    assert_eq!(set["items"][0]["limit"], json!(50.0), "{set}");
}
