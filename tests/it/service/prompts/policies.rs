//! What policies and deadlines decide.

use serde_json::{Value, json};

use super::*;

#[tokio::test]
async fn a_policy_asks_nobody() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let path = format!("/api/chats/{}/messages", chat.id);
    let body = json!({ "content": "ask may I?", "agent": "demo", "policy": "deny" });
    let (status, accepted) = service.post(&path, body).await;
    assert_eq!(status, 202, "{accepted}");
    let task = accepted["task_id"].as_str().unwrap();
    assert_eq!(service.outcome(task).await, "ok");
    assert!(service.answers(&chat).await[0].contains("Refused"));
    // What was decided is told, and needs nobody.
    let prompts = service.get("/api/prompts").await;
    assert_eq!(prompts["items"][0]["state"], "answered", "{prompts}");
    assert_eq!(prompts["items"][0]["answered_by"], "policy", "{prompts}");
    let chosen = &prompts["items"][0]["answer"]["id"];
    assert_eq!(chosen, "demo:reject_once", "{prompts}");
    assert_eq!(told(&service, task).await, ["permission_resolved answered"]);
    assert_eq!(inbox(&service).await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_deadline_refuses_what_nobody_answers() {
    let config = "[agents.demo.deadlines]\nprompt_ms = 300\n";
    let service = Service::with_config(Some(config)).await;
    let chat = service.chat().await;
    let (task, prompt) = ask(&service, &chat).await;
    assert!(prompt["expires_at"].is_string(), "{prompt}");
    assert_eq!(service.outcome(&task).await, "ok");
    assert!(service.answers(&chat).await[0].contains("Refused (reject_once)"));
    let (status, problem) = answer(&service, &prompt, json!({ "kind": "allow_once" })).await;
    assert_eq!(
        (status, problem["code"].as_str()),
        (410, Some("prompt_closed"))
    );
    assert!(
        problem["detail"].as_str().unwrap().contains("expired"),
        "{problem}"
    );
}

/// The agent's permission, the task's policy, and whether a person is asked, or
/// what is answered instead: for an edit and for a command.
#[tokio::test]
async fn a_policy_only_tightens() {
    let rows = [
        ("deny", None, "no", "no"),
        ("deny", Some("allow_all"), "no", "no"),
        ("ask", None, "asked", "asked"),
        ("ask", Some("deny"), "no", "no"),
        ("ask", Some("allow_edits"), "asked", "asked"),
        ("ask", Some("allow_all"), "asked", "asked"),
        ("allow_edits", None, "yes", "asked"),
        ("allow_edits", Some("ask"), "asked", "asked"),
        ("allow_edits", Some("allow_all"), "yes", "asked"),
        ("allow_all", None, "yes", "yes"),
        ("allow_all", Some("allow_edits"), "yes", "asked"),
        ("allow_all", Some("ask"), "asked", "asked"),
        ("allow_all", Some("deny"), "no", "no"),
    ];
    let mut config = String::new();
    for permission in ["deny", "ask", "allow_edits", "allow_all"] {
        config += &format!(
            "[agents.{permission}]\nprotocol = \"acp\"\ncommand = \"{}\"\nargs = [\"demo-agent\"]\n\
             permission = \"{permission}\"\n",
            env!("CARGO_BIN_EXE_hearth")
        );
    }
    let service = Service::with_config(Some(&config)).await;
    let chat = service.chat().await;
    for (agent, policy, edit, run) in rows {
        for (line, expected) in [("ask create x.txt with y", edit), ("ask run true", run)] {
            let what = format!("{agent} {policy:?} {line}");
            let path = format!("/api/chats/{}/messages", chat.id);
            let body = json!({ "content": line, "agent": agent, "policy": policy });
            let (status, accepted) = service.post(&path, body).await;
            if status == 422 {
                // Refused where it would loosen.
                assert_eq!(accepted["code"], "invalid_body", "{what}: {accepted}");
                continue;
            }
            assert_eq!(status, 202, "{what}: {accepted}");
            let task = accepted["task_id"].as_str().unwrap();
            if expected == "asked" {
                let prompt = open_prompt(&service, task).await;
                let yes = json!({ "kind": "allow_once" });
                assert_eq!(answer(&service, &prompt, yes).await.0, 200, "{what}");
            }
            assert_eq!(service.outcome(task).await, "ok", "{what}");
            let prompts = service.get(&format!("/api/prompts?task_id={task}")).await;
            let row = &prompts["items"][0];
            let (by, answer) = match expected {
                "asked" => ("http", "demo:allow_once"),
                "yes" => ("policy", "demo:allow_once"),
                _ => ("policy", "demo:reject_once"),
            };
            assert_eq!(row["answered_by"], by, "{what}: {prompts}");
            assert_eq!(row["answer"]["id"], answer, "{what}: {prompts}");
        }
    }
}
