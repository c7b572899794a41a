//! Refused prompts, parked tasks and budgets, as people meet them.

use serde_json::{Value, json};

use super::harness::{Chat, Service, command};

/// Waits until the task is parked.
async fn parked(service: &Service, task: &str) -> Value {
    service
        .until("a parked task", async || {
            let task = service.get(&format!("/api/tasks/{task}")).await;
            let parked = task["state"] == "pending" && task["parked_reason"].is_string();
            if parked { Ok(task) } else { Err(task) }
        })
        .await
}

async fn put(service: &Service, path: &str, body: Value) -> (u16, Value) {
    let request = reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .put(format!("{}{path}", service.url()))
        .bearer_auth(service.token())
        .json(&body);
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn hearth(service: &Service, arguments: &[&str]) -> String {
    let mut typed = command(&service.home, &service.database());
    typed.args(arguments).stdout(std::process::Stdio::piped());
    let output = typed.output().await.unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

async fn say_with(service: &Service, chat: &Chat, content: &str, budget: Value) -> (u16, Value) {
    let path = format!("/api/chats/{}/messages", chat.id);
    let body = json!({"content": content, "agent": "demo", "budget": budget});
    service.post(&path, body).await
}

/// The kinds of the task's frames that tell where it stands.
async fn told(service: &Service, task: &str) -> Vec<Value> {
    sqlx::query_scalar(
        "select data from hearth.frames where task_id = $1::uuid and kind = 'task_updated' order by seq",
    )
    .bind(task)
    .fetch_all(&service.pool().await)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_refused_prompt_waits_says_so_everywhere_and_survives_a_kill() {
    let mut service = Service::start().await;
    let chat = service.chat().await;
    let words = "fail 429 rate limit exceeded, try again in 2h 5m";
    let task = service.say(&chat, words).await;
    let row = parked(&service, &task).await;
    assert_eq!(row["parked_reason"], "overload", "{row:#}");
    let detail = row["parked_detail"].as_str().unwrap();
    assert!(detail.contains("429 rate limit exceeded"), "{detail}");
    assert_eq!(row["turns"][0]["outcome"], "overload");
    let until: chrono::DateTime<chrono::Utc> =
        row["parked_until"].as_str().unwrap().parse().unwrap();
    let wait = (until - chrono::Utc::now()).num_minutes();
    assert!((120..=132).contains(&wait), "{wait} min");

    let frames = told(&service, &task).await;
    let last = frames.last().unwrap();
    assert_eq!(last["parked"]["reason"], "overload", "{last}");
    assert_eq!(last["state"], "pending");
    let inbox = service.get("/api/inbox").await;
    assert_eq!(inbox["items"][0]["state"], "parked", "{inbox}");
    assert_eq!(inbox["items"][0]["reason"], "overload");
    assert_eq!(inbox["items"][0]["until"], row["parked_until"]);
    let listed = hearth(&service, &["ls"]).await;
    let line = format!("! task {task} is parked for 2h0");
    assert!(listed.contains(&line), "{listed}");
    let shown = hearth(&service, &["inbox"]).await;
    assert!(
        shown.contains("overload: ") && shown.contains("429"),
        "{shown}"
    );
    let tasks = service.get("/api/tasks?state=pending").await;
    assert_eq!(tasks["items"][0]["parked_reason"], "overload");

    // It holds no slot: the agent is free, also for what follows elsewhere.
    let other = service.chat().await;
    let next = service.say(&other, "say free").await;
    assert_eq!(service.outcome(&next).await, "ok");

    service.kill().await;
    let service = service.again().await;
    assert_eq!(
        parked(&service, &task).await["parked_until"],
        row["parked_until"]
    );
    let (status, body) = service
        .post(&format!("/api/tasks/{task}/cancel"), json!({}))
        .await;
    assert_eq!((status, &body["status"]), (200, &json!("cancelled")));
    assert_eq!(service.outcome(&task).await, "overload");
}

#[tokio::test]
async fn refusals_are_tried_so_often_and_no_more() {
    let service = Service::with_config(Some("[retry]\nattempts = 2\n")).await;
    let chat = service.chat().await;
    let task = service.say(&chat, "fail 503 overloaded").await;
    let row = service.ended(&task).await;
    assert_eq!(row["outcome"], "overload", "{row:#}");
    let detail = row["outcome_detail"].as_str().unwrap();
    assert!(detail.contains("refused 2 times"), "{detail}");
    assert_eq!(row["turns"].as_array().unwrap().len(), 2);
    for (words, outcome) in [
        ("fail your quota is used up", "quota"),
        ("fail 401 from the provider", "auth"),
        ("fail 400 bad request", "agent_error"),
        ("say something\nfail 429 too many requests", "overload"),
        ("create x.txt with y\nfail 503 overloaded", "overload"),
    ] {
        let task = service.say(&chat, words).await;
        let row = service.ended(&task).await;
        assert_eq!(row["outcome"], outcome, "{words}: {row:#}");
        assert_eq!(row["turns"].as_array().unwrap().len(), 1, "{words}");
    }
}

#[tokio::test]
async fn a_sessions_budget_warns_stops_and_can_be_raised() {
    let service = Service::with_config(Some("[budget.session]\ntokens = 1000\n")).await;
    let chat = service.chat().await;
    let budget = format!("/api/sessions/{}/budget", chat.session);
    for (body, says) in [
        (
            json!({"tokens": 1001}),
            "is looser than the settings allow a session: at most 1000 tokens",
        ),
        (json!({"tokens": 0}), "is not a whole number from 1"),
        (json!({"cost": -1.0}), "is not an amount above 0"),
        (json!({"turns": 3}), "unknown field"),
    ] {
        let (status, problem) = put(&service, &budget, body.clone()).await;
        assert_eq!(status, 422, "{body}: {problem}");
        assert!(problem.to_string().contains(says), "{body}: {problem}");
    }
    let (status, uses) = put(&service, &budget, json!({"tokens": 20})).await;
    assert_eq!(status, 200, "{uses}");
    let of = |uses: &Value| {
        let item = &uses["items"][0];
        (
            item["used"].as_f64(),
            item["limit"].as_f64(),
            item["level"].as_str().map(str::to_owned),
        )
    };
    let level = |level: &str| Some(level.to_owned());
    assert_eq!(of(&uses), (Some(0.0), Some(20.0), level("ok")));

    // A word is a token of the demo agent: nine in, eight out.
    let task = service
        .say(&chat, "say one two three four five six seven eight")
        .await;
    assert_eq!(service.outcome(&task).await, "ok");
    let uses = service
        .get(&format!("/api/stats/budgets?session_id={}", chat.session))
        .await;
    assert_eq!(of(&uses), (Some(17.0), Some(20.0), level("warning")));
    let warned = service
        .until("a warning", async || {
            let inbox = service.get("/api/inbox").await;
            let items = inbox["items"].as_array().cloned().unwrap_or_default();
            let notice = items.into_iter().find(|item| item["reason"] == "budget");
            notice.ok_or(inbox)
        })
        .await;
    let detail = warned["detail"].as_str().unwrap();
    assert_eq!(detail, "the session's budget: 17 of 20 tokens are used");

    let task = service.say(&chat, "say nine ten eleven").await;
    assert_eq!(
        service.outcome(&task).await,
        "ok",
        "it began below the limit"
    );
    let waiting = service.say(&chat, "say never").await;
    let row = parked(&service, &waiting).await;
    assert_eq!(row["parked_reason"], "budget", "{row:#}");
    assert_eq!(row["parked_until"], Value::Null, "only a person raises it");
    let cure = format!("hearth budgets {} --tokens N", chat.session);
    assert!(
        row["parked_detail"].as_str().unwrap().contains(&cure),
        "{row:#}"
    );
    assert_eq!(row["turns"], json!([]), "it was not prompted");
    let frames = told(&service, &waiting).await;
    assert_eq!(frames.last().unwrap()["parked"]["reason"], "budget");
    let shown = hearth(&service, &["budgets"]).await;
    assert!(
        shown.contains("24 of 20 tokens") && shown.contains("exhausted"),
        "{shown}"
    );
    let inbox = service.get("/api/inbox").await;
    let items = inbox["items"].as_array().unwrap();
    let notices = items
        .iter()
        .filter(|item| item["id"].as_str().unwrap().starts_with("notice:"));
    assert_eq!(notices.count(), 1, "warned once: {inbox:#}");
    assert!(
        items
            .iter()
            .any(|item| item["state"] == "parked" && item["reason"] == "budget")
    );

    let (status, _) = put(&service, &budget, json!({"tokens": 900})).await;
    assert_eq!(status, 200);
    assert_eq!(service.outcome(&waiting).await, "ok");
    let inbox = service.get("/api/inbox").await;
    assert_eq!(inbox["items"], json!([]), "what was said is over");
}

#[tokio::test]
async fn a_task_stays_within_its_time_and_its_children_within_its_tokens() {
    let service = Service::with_config(Some("[budget.task]\nturns = 4\ntokens = 500\n")).await;
    let chat = service.chat().await;
    let (status, problem) = say_with(&service, &chat, "say x", json!({"tokens": 501})).await;
    assert_eq!(status, 422, "{problem}");
    assert_eq!(problem["errors"][0]["pointer"], "#/budget", "{problem}");
    let (status, problem) = say_with(&service, &chat, "say x", json!({"wall_ms": 0})).await;
    assert_eq!(status, 422, "{problem}");
    assert_eq!(problem["errors"][0]["pointer"], "#/budget/wall_ms");

    let (status, accepted) = say_with(&service, &chat, "wait 60s", json!({"wall_ms": 1500})).await;
    assert_eq!(status, 202, "{accepted}");
    let task = service.ended(accepted["task_id"].as_str().unwrap()).await;
    assert_eq!(task["outcome"], "budget", "{task:#}");
    let detail = task["outcome_detail"].as_str().unwrap();
    assert!(
        detail.contains("the task's budget: 1.5 of 1.5 seconds"),
        "{detail}"
    );

    let (_, accepted) = say_with(&service, &chat, "wait 60s", json!({"tokens": 6})).await;
    let parent = accepted["task_id"].as_str().unwrap().to_owned();
    service.state(&chat, "running").await;
    let project = service.get(&format!("/api/tasks/{parent}")).await["project_id"].clone();
    let child = |words: &str| json!({"project_id": project, "input": words, "agent": "demo", "parent_task_id": parent});
    let (status, first) = service.post("/api/tasks", child("say a b c d e f")).await;
    assert_eq!(status, 202, "{first}");
    let first = first["task_id"].as_str().unwrap().to_owned();
    assert_eq!(service.outcome(&first).await, "ok");
    let (_, second) = service.post("/api/tasks", child("say more")).await;
    let second = service.ended(second["task_id"].as_str().unwrap()).await;
    assert_eq!(second["outcome"], "budget", "{second:#}");
    let detail = second["outcome_detail"].as_str().unwrap();
    assert!(
        detail.contains("13 of 6 tokens") && detail.contains("not started"),
        "{detail}"
    );
    service
        .post(&format!("/api/tasks/{parent}/cancel"), json!({}))
        .await;
    assert_eq!(service.outcome(&parent).await, "cancelled");
}

#[tokio::test]
async fn a_days_budget_holds_back_every_chat_until_the_day_ends() {
    let service = Service::with_config(Some("[budget.day]\ntokens = 5\n")).await;
    let chat = service.chat().await;
    let task = service.say(&chat, "say one two three").await;
    assert_eq!(service.outcome(&task).await, "ok");
    let other = service.chat().await;
    let waiting = service.say(&other, "say never").await;
    let row = parked(&service, &waiting).await;
    assert_eq!(row["parked_reason"], "budget");
    let until: chrono::DateTime<chrono::Utc> =
        row["parked_until"].as_str().unwrap().parse().unwrap();
    let uses = service.get("/api/stats/budgets").await;
    assert_eq!(uses["items"][0]["scope"], "day", "{uses}");
    let resets: chrono::DateTime<chrono::Utc> = uses["items"][0]["resets_at"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(
        (until - resets).num_seconds().abs() < 60,
        "{until} {resets}"
    );
    let midnight = resets.naive_utc().time();
    let off = midnight
        .signed_duration_since(chrono::NaiveTime::MIN)
        .num_seconds();
    assert!(!(60..86_340).contains(&off), "{resets}");
}

/// One chat found out for all; it survives a kill.
#[tokio::test]
async fn a_quota_holds_back_the_other_chats_of_its_agent() {
    let mut service = Service::start().await;
    let chat = service.chat().await;
    let task = service
        .say(&chat, "fail your quota is used up, try again in 2h")
        .await;
    let row = parked(&service, &task).await;
    assert_eq!(row["parked_reason"], "quota", "{row:#}");
    service.kill().await;
    let service = service.again().await;
    let other = service.chat().await;
    let waits = service.say(&other, "say hello").await;
    let row = parked(&service, &waits).await;
    assert_eq!(row["parked_reason"], "quota", "{row:#}");
    let detail = row["parked_detail"].as_str().unwrap();
    assert!(detail.contains("your quota is used up"), "{detail}");
    let until: chrono::DateTime<chrono::Utc> =
        row["parked_until"].as_str().unwrap().parse().unwrap();
    let wait = (until - chrono::Utc::now()).num_minutes();
    assert!((110..=125).contains(&wait), "{wait} min");
    assert_eq!(row["turns"].as_array().unwrap().len(), 0, "never prompted");
    // It is over, in one way or another: whoever comes first finds it out.
    sqlx::query(
        "with over as (update hearth.agent_rests set until = now())
         update hearth.queue set not_before = now() where task_id = $1::uuid",
    )
    .bind(&waits)
    .execute(&service.pool().await)
    .await
    .unwrap();
    assert_eq!(service.outcome(&waits).await, "ok");
}

/// By whatever program sets it.
#[tokio::test]
async fn a_new_budget_ends_a_turn_that_runs_without_one() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let spends = service.say(&chat, "say some words").await;
    assert_eq!(service.outcome(&spends).await, "ok");
    for by_sql in [false, true] {
        let task = service.say(&chat, "say more\nwait 300s").await;
        service.state(&chat, "running").await;
        let set = json!({ "tokens": 3 });
        if by_sql {
            sqlx::query("update hearth.gates set budget = $2 where session_id = $1::uuid")
                .bind(&chat.session)
                .bind(set)
                .execute(&service.pool().await)
                .await
                .unwrap();
        } else {
            let path = format!("/api/sessions/{}/budget", chat.session);
            let (status, uses) = put(&service, &path, set).await;
            assert_eq!(status, 200, "{uses}");
        }
        assert_eq!(service.outcome(&task).await, "budget");
        sqlx::query("update hearth.gates set budget = null where session_id = $1::uuid")
            .bind(&chat.session)
            .execute(&service.pool().await)
            .await
            .unwrap();
    }
}
