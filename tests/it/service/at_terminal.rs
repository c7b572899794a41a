//! A plain program as an agent: run at a terminal, once for each message.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::hand_over::told;
use super::harness::{Chat, Service};

/// Does what the last line of its input says, and shows it as programs at terminals do.
const PROGRAM: &str = r#"
in=$(cat)
last=$(printf '%s\n' "$in" | tail -n 1)
case $last in
recall) printf '%s\n' "$in" | grep -c tamarind ;;
write) echo text > made.txt; printf '10%%\r50%%\r\033[32mmade\033[0m it\n' ;;
fail) echo half; echo "no luck" >&2; exit 3 ;;
login) echo "HTTP 401 Unauthorized" >&2; exit 1 ;;
crash) printf 'half'; kill -9 $$ ;;
leave) trap '' HUP; setsid sleep 1003 & printf 'gone ahead\n' ;;
hang) trap '' HUP TERM; setsid sleep 1004 & printf 'waiting'; while :; do sleep 1005; done ;;
*) test -t 1 && printf 'I heard %s\n' "$last" ;;
esac
"#;

async fn service() -> Service {
    let table = format!(
        "[agents.mine]\nprotocol = \"pty\"\ncommand = \"sh\"\nargs = [\"-c\", {}]\npermission = \"allow_all\"\n\
         [agents.told]\nprotocol = \"pty\"\ncommand = \"printf\"\nargs = [\"<%s>\", \"{{prompt}}\"]\npermission = \"allow_all\"\n",
        json!(PROGRAM)
    );
    Service::with_config(Some(&table)).await
}

async fn turn(service: &Service, chat: &Chat, content: &str) -> Value {
    let task = service.say_to("mine", chat, content).await;
    service.ended(&task).await
}

#[tokio::test]
async fn a_plain_program_answers_a_chat_that_it_is_told() {
    let service = service().await;
    let chat = service.chat().await;
    let task = turn(&service, &chat, "the word is tamarind").await;
    assert_eq!(task["outcome"], "ok", "{task:#}\n{}", service.log());
    assert_eq!(task["execution_path"], "pty");
    let task = turn(&service, &chat, "recall").await;
    assert_eq!(told(&task)["reason"], "alone", "{task:#}");
    turn(&service, &chat, "write").await;
    let answers = service.answers(&chat).await;
    assert_eq!(
        answers,
        ["I heard the word is tamarind\n", "2\n", "made it\n"]
    );
    let path = format!("/api/sessions/{}/pending", chat.session);
    let pending = service.get(&path).await;
    assert_eq!(pending["items"][0]["file_path"], "made.txt", "{pending:#}");

    // By an argument, and in a chat with another.
    let task = service.say_to("told", &chat, "--version").await;
    assert_eq!(service.outcome(&task).await, "ok");
    let answer = service.answers(&chat).await.pop().unwrap();
    assert!(
        answer.starts_with("<<hearth-handover>") && answer.ends_with("--version>"),
        "{answer}"
    );
    let alone = service.chat().await;
    let task = service.say_to("told", &alone, "--version").await;
    assert_eq!(service.outcome(&task).await, "ok");
    assert_eq!(service.answers(&alone).await, ["< --version>"]);
}

#[tokio::test]
async fn how_it_ends_has_a_name() {
    let service = service().await;
    let chat = service.chat().await;
    for (prompt, outcome, detail) in [
        (
            "fail",
            "agent_error",
            "mine ended with exit code 3: no luck",
        ),
        (
            "login",
            "auth",
            "mine ended with exit code 1: HTTP 401 Unauthorized",
        ),
        ("crash", "agent_crashed", "signal 9"),
        ("leave", "ok", ""),
    ] {
        let task = turn(&service, &chat, prompt).await;
        assert_eq!(task["outcome"], outcome, "{prompt}: {task:#}");
        let told = task["outcome_detail"].as_str().unwrap_or_default();
        assert!(told.contains(detail), "{prompt}: {told}");
        let left = service.processes();
        assert!(left.is_empty(), "{prompt} left {left:?}");
    }
    let path = format!("/api/chats/{}/messages", chat.id);
    let body = json!({"content": "hello", "agent": "mine", "model": "large"});
    let (status, accepted) = service.post(&path, body).await;
    assert_eq!(status, 202, "{accepted}");
    let task = service.ended(accepted["task_id"].as_str().unwrap()).await;
    assert_eq!(task["outcome"], "agent_error", "{task:#}");
    let detail = task["outcome_detail"].as_str().unwrap();
    assert!(detail.contains("leave them out"), "{detail}");
    assert_eq!(turn(&service, &chat, "hello").await["outcome"], "ok");
}

/// It ignores the signals of the ladder, and has a child in a session of its own.
#[tokio::test]
async fn a_cancel_and_a_killed_hearth_leave_nothing_of_it() {
    let mut service = service().await;
    let chat = service.chat().await;
    for how in ["cancel", "kill"] {
        let task = service.say_to("mine", &chat, "hang").await;
        service
            .until("it waits", async || {
                let frames = service.stored_frames(&chat.session, "delta").await;
                let said = frames.iter().any(|frame| frame["text"] == "waiting");
                (said && service.processes().len() >= 3)
                    .then_some(())
                    .ok_or(frames)
            })
            .await;
        let started = Instant::now();
        let outcome = if how == "cancel" {
            let path = format!("/api/tasks/{task}/cancel");
            service.post(&path, json!({})).await;
            service.outcome(&task).await
        } else {
            service.kill().await;
            let gone = async || {
                let left = service.processes();
                left.is_empty().then_some(()).ok_or(left)
            };
            service.until("nothing is left", gone).await;
            service = service.again().await;
            service.outcome(&task).await
        };
        assert!(started.elapsed() < Duration::from_secs(10));
        let named = if how == "cancel" {
            "cancelled"
        } else {
            "interrupted"
        };
        assert_eq!(outcome, named);
        assert_eq!(service.processes(), Vec::<i32>::new());
    }
}

#[tokio::test]
async fn doctor_looks_for_it_and_does_not_start_it() {
    let service = service().await;
    let (status, told) = service
        .post("/api/providers/probe", json!({"agents": ["mine"]}))
        .await;
    assert!(status < 300, "{told:#}");
    let mine = service
        .until("it was looked at", async || {
            let providers = service.get("/api/providers").await;
            let mine = providers["items"]
                .as_array()
                .and_then(|items| items.iter().find(|item| item["name"] == "mine").cloned());
            mine.filter(|mine| mine["install_path"].is_string())
                .ok_or(providers)
        })
        .await;
    let path = mine["install_path"].as_str().unwrap();
    assert!(Path::new(path).ends_with("sh"), "{mine:#}");
    assert_eq!(mine["fault"], Value::Null, "{mine:#}");
    let query = "select transport, supports_acp from available_agents where name = 'mine'";
    let row: (String, bool) = sqlx::query_as(query)
        .fetch_one(&service.pool().await)
        .await
        .unwrap();
    assert_eq!(row, ("pty".into(), false));
}
