//! Requests to people, from the agent's question to its answer.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::harness::{Chat, Service, command, id_of, repository_at};

/// Asks in `chat`; returns the task and the prompt that is open.
async fn ask(service: &Service, chat: &Chat) -> (String, Value) {
    let task = service.say(chat, "ask may I?").await;
    let prompt = open_prompt(service, &task).await;
    (task, prompt)
}

async fn open_prompt(service: &Service, task: &str) -> Value {
    let path = format!("/api/prompts?state=open&task_id={task}");
    service
        .until("an open prompt", async || {
            let page = service.get(&path).await;
            match page["items"].as_array().and_then(|items| items.first()) {
                Some(prompt) => Ok(prompt.clone()),
                None => Err(page),
            }
        })
        .await
}

async fn answer(service: &Service, prompt: &Value, body: Value) -> (u16, Value) {
    let path = format!("/api/prompts/{}/answer", id_of(prompt));
    service.post(&path, body).await
}

async fn inbox(service: &Service) -> Vec<Value> {
    let page = service.get("/api/inbox").await;
    let items = page["items"].as_array();
    items.unwrap_or_else(|| panic!("{page}")).clone()
}

async fn item(service: &Service, id: &str) -> Option<Value> {
    inbox(service)
        .await
        .into_iter()
        .find(|item| item["id"] == id)
}

/// Frames of the task that tell of prompts, as `kind state`.
async fn told(service: &Service, task: &str) -> Vec<String> {
    let pool = service.pool().await;
    sqlx::query_scalar(
        "select concat_ws(' ', kind, data ->> 'state') from hearth.frames
         where task_id = $1::uuid and kind like 'permission%' order by seq",
    )
    .bind(task)
    .fetch_all(&pool)
    .await
    .unwrap()
}

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
    for _ in 0..5 {
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
    assert_eq!(service.get("/api/prompts").await["items"], json!([]));
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

#[tokio::test]
async fn a_cancel_withdraws_the_question() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let (task, prompt) = ask(&service, &chat).await;
    let (status, _) = service
        .post(&format!("/api/tasks/{task}/cancel"), json!({}))
        .await;
    assert_eq!(status, 202);
    assert_eq!(service.outcome(&task).await, "cancelled");
    let (status, problem) = answer(&service, &prompt, json!({ "kind": "allow_once" })).await;
    assert_eq!(status, 410, "{problem}");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("the task was cancelled"),
        "{problem}"
    );
    assert_eq!(
        told(&service, &task).await,
        ["permission_requested", "permission_resolved cancelled"]
    );
    assert_eq!(inbox(&service).await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_killed_agent_takes_its_question_along() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let (task, prompt) = ask(&service, &chat).await;
    let pid = service.agent_pid(&chat).await;
    super::harness::signal(pid, nix::sys::signal::Signal::SIGKILL);
    assert_eq!(service.outcome(&task).await, "agent_crashed");
    let (status, problem) = answer(&service, &prompt, json!({ "kind": "allow_once" })).await;
    assert_eq!(status, 410, "{problem}");
    let items = inbox(&service).await;
    assert_eq!(items.len(), 1, "{items:?}");
    assert_eq!(items[0]["id"], format!("task:{task}"));
    assert_eq!(items[0]["state"], "failed");
    assert_eq!(items[0]["reason"], "agent_crashed");
}

#[tokio::test]
async fn a_killed_service_leaves_an_interrupted_task_that_can_be_tried_again() {
    let mut service = Service::start().await;
    let chat = service.chat().await;
    let (task, prompt) = ask(&service, &chat).await;
    service.kill().await;
    let service = service.again().await;
    assert_eq!(service.outcome(&task).await, "interrupted");
    let row = service
        .get(&format!("/api/prompts/{}", id_of(&prompt)))
        .await;
    assert_eq!(row["state"], "cancelled", "{row}");
    let (status, problem) = answer(&service, &prompt, json!({ "kind": "allow_once" })).await;
    assert_eq!(status, 410, "{problem}");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("Hearth stopped"),
        "{problem}"
    );
    assert_eq!(
        told(&service, &task).await,
        ["permission_requested", "permission_resolved cancelled"]
    );

    let id = format!("task:{task}");
    let listed = item(&service, &id).await.expect("the task");
    assert_eq!(listed["state"], "interrupted");
    assert_eq!(listed["actions"], json!(["retry", "dismiss"]));
    let retry = async || {
        service
            .post(&format!("/api/inbox/{id}/retry"), json!({}))
            .await
    };
    let (one, two) = tokio::join!(retry(), retry());
    let mut codes = [one.0, two.0];
    codes.sort_unstable();
    assert_eq!(codes, [200, 202], "{one:?} {two:?}");
    assert_eq!(one.1, two.1);
    let new = one.1["task_id"].as_str().unwrap();
    assert_eq!(retry().await, (200, one.1.clone()));
    assert_eq!(item(&service, &id).await, None);
    let prompt = open_prompt(&service, new).await;
    assert_eq!(prompt["session_id"], chat.session.as_str());
    assert_eq!(prompt["chat_id"], chat.id.as_str());
    let (status, _) = answer(&service, &prompt, json!({ "kind": "allow_once" })).await;
    assert_eq!(status, 200);
    assert_eq!(service.outcome(new).await, "ok");
    let row = service.get(&format!("/api/tasks/{new}")).await;
    assert_eq!(row["retry_of"], task.as_str());
}

#[tokio::test]
async fn a_stop_withdraws_the_question() {
    let config = "shutdown_grace_ms = 200\n";
    let mut service = Service::with_config(Some(config)).await;
    let chat = service.chat().await;
    let (task, prompt) = ask(&service, &chat).await;
    assert!(service.terminate().await.success(), "{}", service.log());
    let service = service.again().await;
    assert_eq!(service.outcome(&task).await, "interrupted");
    let row = service
        .get(&format!("/api/prompts/{}", id_of(&prompt)))
        .await;
    assert_eq!(row["state"], "cancelled");
    assert_eq!(row["reason"], "its session was stopped");
}

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

/// What a command printed; it must have succeeded.
async fn hearth(service: &Service, arguments: &[&str]) -> String {
    let mut command = command(&service.home, &service.database());
    command
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let done = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let error = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{arguments:?}: {said} {error}");
    said
}

#[tokio::test]
async fn a_person_sees_and_answers_at_the_command_line() {
    let service = Service::start().await;
    let chat = service.chat().await;
    assert_eq!(hearth(&service, &["inbox"]).await, "nothing needs you\n");
    let (task, prompt) = ask(&service, &chat).await;
    let id = id_of(&prompt);
    let short = &id[id.len() - 8..];
    let listed = hearth(&service, &["prompts"]).await;
    assert!(
        listed.contains(short) && listed.contains("may I?"),
        "{listed}"
    );
    let listed = hearth(&service, &["inbox"]).await;
    assert!(
        listed.contains(&format!("hearth answer {short} allow|deny")),
        "{listed}"
    );
    assert!(!listed.contains("blocked"), "told twice: {listed}");
    let said = hearth(&service, &["answer", short, "deny"]).await;
    assert_eq!(said, "may I?: Reject\n");
    assert_eq!(service.outcome(&task).await, "ok");
    assert!(service.answers(&chat).await[0].contains("Refused (reject_once)"));
    let row = service.get(&format!("/api/prompts/{id}")).await;
    assert_eq!(row["answered_by"], "cli");

    let failed = service.say(&chat, "fail boom").await;
    assert_eq!(service.outcome(&failed).await, "agent_error");
    let json: Value = serde_json::from_str(&hearth(&service, &["inbox", "--json"]).await).unwrap();
    assert_eq!(json[0]["id"], format!("task:{failed}"));
    let said = hearth(&service, &["retry", &failed[failed.len() - 8..]]).await;
    let again = said.trim().rsplit(' ').next().unwrap();
    assert_eq!(service.outcome(again).await, "agent_error");
    hearth(&service, &["dismiss", &format!("task:{again}")]).await;
    assert_eq!(hearth(&service, &["inbox"]).await, "nothing needs you\n");
}

#[tokio::test]
async fn a_run_on_a_terminal_asks_at_once() {
    let service = Service::start().await;
    let repository = service.home.parent().unwrap().join("typed");
    repository_at(&repository);
    let typed = command(&service.home, &service.database());
    let program = typed.as_std().get_program().to_owned();
    // A terminal of its own, with our pipe as its keyboard.
    let mut terminal = tokio::process::Command::new("script");
    let line = format!(
        "{} run --agent demo 'ask may I?'",
        program.to_str().unwrap()
    );
    terminal
        .args(["-qec", &line, "/dev/null"])
        .env_clear()
        .envs(
            typed
                .as_std()
                .get_envs()
                .filter_map(|(key, value)| Some((key, value?))),
        )
        .env("SHELL", "/bin/sh")
        .current_dir(&repository)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut terminal = terminal.spawn().unwrap();
    let mut keyboard = terminal.stdin.take().unwrap();
    let mut screen = terminal.stdout.take().unwrap();
    let mut seen = Vec::new();
    let shown = async {
        let mut buffer = [0; 1024];
        let mut typed = 0;
        loop {
            let read = screen.read(&mut buffer).await.unwrap();
            if read == 0 {
                return;
            }
            seen.extend_from_slice(&buffer[..read]);
            let text = String::from_utf8_lossy(&seen);
            let questions = text.matches("[y]es, [n]o, [a]lways: ").count();
            // What is no answer is asked again.
            if questions > typed {
                let line: &[u8] = if typed == 0 { b"what\n" } else { b"y\n" };
                keyboard.write_all(line).await.unwrap();
                typed += 1;
            }
        }
    };
    let shown = tokio::time::timeout(super::harness::SOON, shown).await;
    let seen = String::from_utf8_lossy(&seen).into_owned();
    assert!(shown.is_ok(), "the terminal shows {seen}");
    assert!(terminal.wait().await.unwrap().success(), "{seen}");
    assert!(seen.contains("Allowed (allow_once): may I?"), "{seen}");
    let prompts = service.get("/api/prompts").await;
    assert_eq!(prompts["items"][0]["answered_by"], "cli", "{prompts}");
}

#[tokio::test]
async fn a_run_without_a_terminal_tells_how_to_answer() {
    // Where the agent's policy is `ask` nobody is asked; here a command is.
    let config = "[agents.demo]\npermission = \"allow_edits\"\n";
    let service = Service::with_config(Some(config)).await;
    let repository = service.home.parent().unwrap().join("piped");
    repository_at(&repository);
    let mut run = command(&service.home, &service.database());
    run.args(["run", "--agent", "demo", "ask may I?"])
        .current_dir(&repository)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let run = run.spawn().unwrap();
    let prompt = service
        .until("an open prompt", async || {
            let page = service.get("/api/prompts?state=open").await;
            let prompt = page["items"]
                .as_array()
                .and_then(|items| items.first().cloned());
            prompt.ok_or(page)
        })
        .await;
    let (status, _) = answer(&service, &prompt, json!({ "kind": "allow_once" })).await;
    assert_eq!(status, 200);
    let done = run.wait_with_output().await.unwrap();
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{told}");
    let id = id_of(&prompt);
    let how = format!(
        "answer with: hearth answer {} allow|deny",
        &id[id.len() - 8..]
    );
    assert!(told.contains(&how), "{told}");
    assert!(told.contains("answered: Allow"), "{told}");
}
