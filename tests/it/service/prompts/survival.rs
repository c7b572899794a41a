//! Questions that outlive Hearth: they stay open, and their answers let the
//! agent go on in its own session.

use std::time::{Duration, Instant};

use super::*;

/// How Hearth ends while a question is open.
#[derive(Clone, Copy, Debug)]
enum End {
    Killed,
    Terminated,
}

/// Ends the service in this way, and starts it again.
async fn over(mut service: Service, how: End) -> Service {
    match how {
        End::Killed => service.kill().await,
        End::Terminated => assert!(service.terminate().await.success(), "{}", service.log()),
    }
    service.again().await
}

async fn start() -> Service {
    Service::with_config(Some("shutdown_grace_ms = 200\n")).await
}

/// The task waits for its answer without a turn: no attempt of it is alive.
async fn waits(service: &Service, task: &str, attempts: u64) {
    let row = service.get(&format!("/api/tasks/{task}")).await;
    assert_eq!(row["state"], "blocked", "{row}");
    assert_eq!(row["attempts"], attempts, "{row}");
    assert_eq!(row["outcome"], "interrupted", "{row}");
    assert_eq!(row["not_before"], Value::Null, "{row}");
    let listed = item(service, &format!("task:{task}")).await;
    assert_eq!(listed.expect("the task")["state"], "blocked");
    let live: i64 = sqlx::query_scalar("select count(*) from hearth.turns where ended_at is null")
        .fetch_one(&service.pool().await)
        .await
        .unwrap();
    assert_eq!(live, 0, "a turn is alive");
}

async fn attempts(service: &Service, task: &str) -> Vec<Option<String>> {
    sqlx::query_scalar("select outcome from hearth.turns where task_id = $1::uuid order by attempt")
        .bind(task)
        .fetch_all(&service.pool().await)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_question_outlives_hearth_and_its_answer_goes_on() {
    for how in [End::Killed, End::Terminated] {
        let service = start().await;
        let chat = service.chat().await;
        let task = service
            .say(
                &chat,
                "create one.txt with 1\nask create two.txt with 2\nsay done",
            )
            .await;
        let prompt = open_prompt(&service, &task).await;
        assert_eq!(prompt["detached_at"], Value::Null);
        let behind = service.say(&chat, "say behind").await;
        let service = over(service, how).await;

        let still = open_prompt(&service, &task).await;
        assert_eq!(id_of(&still), id_of(&prompt), "{how:?}");
        assert!(still["detached_at"].is_string(), "{still}");
        waits(&service, &task, 1).await;
        let listed = item(&service, &format!("prompt:{}", id_of(&prompt))).await;
        assert_eq!(listed.expect("the prompt")["actions"], json!(["answer"]));
        let row = service.get(&format!("/api/tasks/{behind}")).await;
        assert_eq!(row["state"], "pending", "{row}");

        let (status, settled) = answer(&service, &prompt, json!({ "kind": "allow_once" })).await;
        assert_eq!(status, 200, "{settled}");
        assert_eq!(settled["state"], "answered");
        let again = answer(&service, &prompt, json!({ "kind": "allow_once" })).await;
        assert_eq!(again, (200, settled));
        let (status, _) = answer(&service, &prompt, json!({ "kind": "reject_once" })).await;
        assert_eq!(status, 409);

        assert_eq!(service.outcome(&task).await, "ok", "{how:?}");
        let outcomes = attempts(&service, &task).await;
        let expected = ["interrupted", "ok"].map(|word| Some(word.to_owned()));
        assert_eq!(outcomes, expected);
        // The same request was asked again, and nobody had to answer twice.
        let prompts = service.get(&format!("/api/prompts?task_id={task}")).await;
        let by: Vec<_> = prompts["items"].as_array().unwrap().iter().collect();
        assert_eq!(by.len(), 2, "{prompts}");
        assert_eq!(by[0]["answered_by"], "earlier", "{prompts}");
        assert_eq!(by[1]["answered_by"], "http", "{prompts}");
        let pending = service
            .get(&format!("/api/sessions/{}/pending", chat.session))
            .await;
        let files: Vec<_> = pending["items"].as_array().unwrap().iter().collect();
        let files: Vec<_> = files.iter().map(|file| &file["file_path"]).collect();
        assert_eq!(files, ["one.txt", "two.txt"], "{pending}");
        let messages = service
            .get(&format!("/api/chats/{}/messages", chat.id))
            .await;
        let declared = messages["items"].as_array().unwrap().iter();
        let declared: Vec<_> = declared.filter(|row| row["role"] == "system").collect();
        assert_eq!(declared.len(), 1, "{messages}");
        let text = declared[0]["content"].as_str().unwrap();
        assert!(
            text.contains("Consent to \"create two.txt\": allowed (Allow)"),
            "{text}"
        );
        assert_eq!(service.outcome(&behind).await, "ok");
        assert_eq!(inbox(&service).await, Vec::<Value>::new());
        let links = service
            .get(&format!("/api/sessions/{}/agent-sessions", chat.session))
            .await;
        assert!(
            links.to_string().contains("resumed") || links.to_string().contains("loaded"),
            "{links}"
        );
    }
}

#[tokio::test]
async fn a_refusal_after_a_restart_is_told() {
    let service = start().await;
    let chat = service.chat().await;
    let task = service.say(&chat, "ask create x.txt with y\nsay end").await;
    let prompt = open_prompt(&service, &task).await;
    let service = over(service, End::Killed).await;
    let id = id_of(&prompt);
    let said = hearth(&service, &["answer", &id[id.len() - 8..], "deny"]).await;
    assert_eq!(said, "create x.txt: Reject\n");
    assert_eq!(service.outcome(&task).await, "ok");
    let answers = service.answers(&chat).await.join("\n");
    assert!(answers.contains("You said no"), "{answers}");
    let pending = service
        .get(&format!("/api/sessions/{}/pending", chat.session))
        .await;
    assert_eq!(pending["items"], json!([]));
}

#[tokio::test]
async fn words_after_a_restart_are_told() {
    let service = start().await;
    let chat = service.chat().await;
    let task = service.say(&chat, "question which colour?").await;
    let prompt = open_prompt(&service, &task).await;
    let service = over(service, End::Terminated).await;
    let (status, _) = answer(&service, &prompt, json!({ "text": "deep blue" })).await;
    assert_eq!(status, 200);
    assert_eq!(service.outcome(&task).await, "ok");
    let answers = service.answers(&chat).await.join("\n");
    assert!(answers.contains("which colour? deep blue"), "{answers}");
}

#[tokio::test]
async fn a_second_restart_in_the_next_question_waits_again() {
    let service = start().await;
    let chat = service.chat().await;
    let task = service.say(&chat, "ask one?\nask two?\nsay end").await;
    let first = open_prompt(&service, &task).await;
    let service = over(service, End::Killed).await;
    // Restarts alone change nothing.
    let service = over(service, End::Killed).await;
    waits(&service, &task, 1).await;
    let (status, _) = answer(&service, &first, json!({ "kind": "allow_once" })).await;
    assert_eq!(status, 200);
    let second = open_prompt(&service, &task).await;
    assert_eq!(second["request"]["tool"]["title"], "two?");
    let service = over(service, End::Terminated).await;
    waits(&service, &task, 2).await;
    let (status, _) = answer(&service, &second, json!({ "kind": "allow_once" })).await;
    assert_eq!(status, 200);
    assert_eq!(service.outcome(&task).await, "ok");
    let answers = service.answers(&chat).await.join("\n");
    assert!(answers.contains("Allowed (allow_once): two?"), "{answers}");
    assert_eq!(attempts(&service, &task).await.len(), 3);
}

#[tokio::test]
async fn an_agent_that_cannot_resume_says_so_and_can_be_tried_again() {
    let config = "[agents.demo]\nenv = { HEARTH_DEMO_WITHOUT = \"load,resume\" }\n";
    let service = Service::with_config(Some(config)).await;
    let chat = service.chat().await;
    let (task, prompt) = ask(&service, &chat).await;
    let service = over(service, End::Killed).await;
    let (status, _) = answer(&service, &prompt, json!({ "kind": "allow_once" })).await;
    assert_eq!(status, 200);
    let row = service.ended(&task).await;
    assert_eq!(row["outcome"], "interrupted");
    let detail = row["outcome_detail"].as_str().unwrap();
    assert!(
        detail.contains("the agent can neither resume nor load a session"),
        "{detail}"
    );
    let id = format!("task:{task}");
    let listed = item(&service, &id).await.expect("the task");
    assert_eq!(listed["actions"], json!(["retry", "dismiss"]));
    assert_eq!(listed["detail"], detail);
    let (status, made) = service
        .post(&format!("/api/inbox/{id}/retry"), json!({}))
        .await;
    assert_eq!(status, 202, "{made}");
    let again = made["task_id"].as_str().unwrap();
    let prompt = open_prompt(&service, again).await;
    assert_eq!(prompt["request"]["tool"]["title"], "may I?");
    let (status, _) = answer(&service, &prompt, json!({ "kind": "allow_once" })).await;
    assert_eq!(status, 200);
    assert_eq!(service.outcome(again).await, "ok");
}

#[tokio::test]
async fn a_task_that_waits_can_be_cancelled_in_every_way() {
    for way in ["route", "interrupt", "sql", "chat"] {
        let service = start().await;
        let chat = service.chat().await;
        let (task, prompt) = ask(&service, &chat).await;
        let service = over(service, End::Killed).await;
        match way {
            "route" => {
                let path = format!("/api/tasks/{task}/cancel");
                let (status, body) = service.post(&path, json!({})).await;
                assert!(status < 300, "{status} {body}");
            }
            "interrupt" => {
                let path = format!("/api/chats/{}/messages", chat.id);
                let body = json!({ "content": "say x", "agent": "demo", "when_busy": "interrupt" });
                let (status, accepted) = service.post(&path, body).await;
                assert_eq!(status, 202, "{accepted}");
                let next = accepted["task_id"].as_str().unwrap();
                assert_eq!(service.outcome(next).await, "ok");
            }
            sql => {
                let statement = match sql {
                    "sql" => format!("update tasks set state = 'cancelled' where id = '{task}'"),
                    _ => format!("delete from chats where id = '{}'", chat.id),
                };
                let pool = service.pool().await;
                sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
                    .execute(&pool)
                    .await
                    .unwrap();
            }
        }
        let row = service.get(&format!("/api/tasks/{task}")).await;
        assert_eq!(row["state"], "cancelled", "{way}: {row}");
        let late = answer(&service, &prompt, json!({ "kind": "allow_once" })).await;
        assert_eq!(
            (late.0, late.1["code"].as_str()),
            (410, Some("prompt_closed")),
            "{way}: {late:?}"
        );
        assert_eq!(inbox(&service).await, Vec::<Value>::new(), "{way}");
        let told = told(&service, &task).await;
        let both = ["permission_requested", "permission_resolved cancelled"];
        if ["route", "interrupt"].contains(&way) {
            assert_eq!(told, both, "{way}");
        }
    }
}

#[tokio::test]
async fn a_deadline_holds_beyond_a_restart() {
    let config = "[agents.demo.deadlines]\nprompt_ms = 1500\n";
    let service = Service::with_config(Some(config)).await;
    let chat = service.chat().await;
    let task = service.say(&chat, "ask create x.txt with y\nsay end").await;
    let prompt = open_prompt(&service, &task).await;
    let service = over(service, End::Killed).await;
    assert_eq!(service.outcome(&task).await, "ok");
    let row = service
        .get(&format!("/api/prompts/{}", id_of(&prompt)))
        .await;
    assert_eq!(row["state"], "expired", "{row}");
    assert_eq!(row["answered_by"], "policy", "{row}");
    let (status, problem) = answer(&service, &prompt, json!({ "kind": "allow_once" })).await;
    assert_eq!(status, 410, "{problem}");
    let answers = service.answers(&chat).await.join("\n");
    assert!(answers.contains("You said no"), "{answers}");
}

#[tokio::test]
async fn a_stop_waits_for_no_human() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let (task, prompt) = ask(&service, &chat).await;
    let mut service = service;
    let began = Instant::now();
    assert!(service.terminate().await.success(), "{}", service.log());
    let took = began.elapsed();
    assert!(took < Duration::from_secs(3), "it stopped after {took:?}");
    assert_eq!(service.processes(), Vec::<i32>::new());
    let service = service.again().await;
    waits(&service, &task, 1).await;
    let (status, settled) = answer(&service, &prompt, json!({ "kind": "allow_once" })).await;
    assert_eq!(status, 200, "{settled}");
    assert_eq!(service.outcome(&task).await, "ok");
}

/// A turn that works is waited for; when it asks meanwhile, it is not.
#[tokio::test]
async fn a_stop_waits_for_work_until_it_asks() {
    let mut service = Service::start().await;
    let (works, asks) = (service.chat().await, service.chat().await);
    let working = service.say(&works, "wait 2s\nsay done").await;
    let asking = service.say(&asks, "wait 1s\nask may I?").await;
    service.state(&works, "running").await;
    service.state(&asks, "running").await;
    assert!(service.terminate().await.success(), "{}", service.log());
    let service = service.again().await;
    assert_eq!(service.outcome(&working).await, "ok");
    waits(&service, &asking, 1).await;
    let prompt = open_prompt(&service, &asking).await;
    let (status, _) = answer(&service, &prompt, json!({ "kind": "allow_once" })).await;
    assert_eq!(status, 200);
    assert_eq!(service.outcome(&asking).await, "ok");
}

/// Whoever answers while Hearth stops is told at once; what was taken is acted on, by
/// the agent that lives or by its next process.
#[tokio::test]
async fn an_answer_that_races_a_stop_is_never_lost() {
    for delay in [-40_i64, -10, -3, 0, 0, 2, 5, 10, 20, 40, 80, 200] {
        let mut service = Service::start().await;
        let chat = service.chat().await;
        let (task, prompt) = ask(&service, &chat).await;
        let pid = service.pid();
        let path = format!("/api/prompts/{}/answer", id_of(&prompt));
        let (url, token) = (service.url().to_owned(), service.token().to_owned());
        let after = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or_default());
        let stop = async {
            tokio::time::sleep(after(-delay)).await;
            super::super::harness::signal(pid, nix::sys::signal::Signal::SIGTERM);
        };
        let request = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = request.post(format!("{url}{path}")).bearer_auth(token);
        let post = async {
            tokio::time::sleep(after(delay)).await;
            let began = Instant::now();
            let post = request.json(&json!({ "kind": "allow_once" }));
            (post.send().await, began.elapsed())
        };
        let (_, (answered, took)) = tokio::join!(stop, post);
        assert!(took < Duration::from_secs(3), "{delay}: {took:?}");
        // Refused connections are answers, too: the service is gone.
        let status = answered.map(|answer| answer.status().as_u16());
        service.exited().await;
        let service = service.again().await;
        let row = service
            .get(&format!("/api/prompts/{}", id_of(&prompt)))
            .await;
        match status {
            Ok(200) => assert_eq!(row["state"], "answered", "{delay}: {row}"),
            Ok(503) | Err(_) => {}
            Ok(other) => panic!("{delay}: {other}"),
        }
        if row["state"] == "open" {
            let (status, body) = answer(&service, &prompt, json!({ "kind": "allow_once" })).await;
            assert_eq!(status, 200, "{body}");
        }
        let ended = service.ended(&task).await;
        assert_eq!(ended["outcome"], "ok", "{delay}: {ended}");
        let answers = service.answers(&chat).await.join("\n");
        assert!(answers.contains("Allowed"), "{delay}: {answers}");
    }
}

/// A `run` that carries its own service leaves when its turn is over, though another
/// task waits for an answer, and one behind that for its turn.
#[tokio::test]
async fn a_run_does_not_stay_for_a_question() {
    let mut service = start().await;
    let chat = service.chat().await;
    let (task, prompt) = ask(&service, &chat).await;
    let behind = service.say(&chat, "say behind").await;
    service.kill().await;
    let repository = service.home.parent().unwrap().join("another");
    super::super::harness::repository_at(&repository);
    let mut run = command(&service.home, &service.database());
    run.args(["run", "--agent", "demo", "say hi"])
        .current_dir(&repository)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let run = tokio::time::timeout(super::super::harness::SOON, run.output()).await;
    let done = run.expect("it leaves").unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{said}");
    assert!(!said.contains("it stays for them"), "{said}");
    let service = service.again().await;
    waits(&service, &task, 1).await;
    let (status, _) = answer(&service, &prompt, json!({ "kind": "allow_once" })).await;
    assert_eq!(status, 200);
    for task in [&task, &behind] {
        assert_eq!(service.outcome(task).await, "ok");
    }
}

/// Files and transcript went back to before the question: nobody waits for its answer.
#[tokio::test]
async fn a_restore_ends_what_waits_for_an_answer() {
    let service = start().await;
    let chat = service.chat().await;
    let first = service.say(&chat, "create one.txt with 1").await;
    assert_eq!(service.outcome(&first).await, "ok");
    let task = service
        .say(&chat, "create two.txt with 2\nask may I?")
        .await;
    let prompt = open_prompt(&service, &task).await;
    let service = over(service, End::Terminated).await;
    waits(&service, &task, 1).await;
    let checkpoint: String =
        sqlx::query_scalar("select checkpoint_id::text from hearth.turns where task_id = $1::uuid")
            .bind(&task)
            .fetch_one(&service.pool().await)
            .await
            .unwrap();
    let path = format!(
        "/api/sessions/{}/checkpoints/{checkpoint}/restore",
        chat.session
    );
    let (status, done) = service.post(&path, json!({})).await;
    assert_eq!(status, 200, "{done}");
    let row = service.get(&format!("/api/tasks/{task}")).await;
    assert_eq!(row["state"], "cancelled", "{row}");
    let late = answer(&service, &prompt, json!({ "kind": "allow_once" })).await;
    assert_eq!(
        (late.0, late.1["code"].as_str()),
        (410, Some("prompt_closed")),
        "{late:?}"
    );
    let both = ["permission_requested", "permission_resolved cancelled"];
    assert_eq!(told(&service, &task).await, both);
    assert_eq!(inbox(&service).await, Vec::<Value>::new());
    let next = service.say(&chat, "say next").await;
    assert_eq!(service.outcome(&next).await, "ok");
}
