//! Sums over turns, and questions that make no sense.

use serde_json::{Value, json};

use super::fixture::{Service, service};

/// A turn as plain SQL has it: day of the claim, agent, tokens in and out, money.
async fn turn(service: &Service, at: &str, agent: &str, spent: (i64, i64, f64)) {
    let (_, task) = service.task().await;
    sqlx::query(
        "insert into hearth.turns (id, task_id, session_id, attempt, node, incarnation, claim_id,
            agent, user_message_id, assistant_message_id, claimed_at, ended_at, outcome,
            input_tokens, output_tokens, cost)
         select gen_random_uuid(), t.id, t.session_id, 1, gen_random_uuid(), 1, gen_random_uuid(),
            $2, gen_random_uuid(), gen_random_uuid(), $3::timestamptz, now(), 'ok', $4, $5, $6
         from tasks t where t.id = $1",
    )
    .bind(task.0)
    .bind(agent)
    .bind(at)
    .bind(spent.0)
    .bind(spent.1)
    .bind(spent.2)
    .execute(service.store.pool())
    .await
    .unwrap();
}

async fn sums(service: &Service, query: &str) -> Vec<(String, i64, i64, f64)> {
    let (status, body) = service.get(&format!("/api/stats/costs?{query}")).await;
    assert_eq!(status, 200, "{body}");
    let number = |value: &Value| value.as_i64().unwrap();
    let row = |item: &Value| {
        (
            item["key"].as_str().unwrap().to_owned(),
            number(&item["input_tokens"]),
            number(&item["output_tokens"]),
            item["cost"].as_f64().unwrap(),
        )
    };
    body["items"].as_array().unwrap().iter().map(row).collect()
}

#[tokio::test]
async fn sums_are_by_agent_day_and_project_within_the_time_asked_for() {
    let service = service().await;
    turn(&service, "2026-11-01T23:59:59Z", "goose", (10, 1, 0.5)).await;
    turn(&service, "2026-11-02T00:00:00Z", "goose", (20, 2, 0.25)).await;
    turn(&service, "2026-11-02T12:00:00Z", "demo", (40, 4, 0.0)).await;
    let row = |key: &str, input, output, cost| (key.to_owned(), input, output, cost);
    assert_eq!(
        sums(&service, "group_by=agent").await,
        [row("demo", 40, 4, 0.0), row("goose", 30, 3, 0.75)]
    );
    assert_eq!(
        sums(&service, "group_by=day").await,
        [
            row("2026-11-01", 10, 1, 0.5),
            row("2026-11-02", 60, 6, 0.25)
        ]
    );
    assert_eq!(
        sums(
            &service,
            "group_by=agent&from=2026-11-02&to=2026-11-02T12:00:00Z"
        )
        .await,
        [row("goose", 20, 2, 0.25)]
    );
    let projects = sums(&service, "group_by=project").await;
    assert_eq!(projects.len(), 3, "each task has a project of its own");
    assert_eq!(projects.iter().map(|row| row.1).sum::<i64>(), 70);

    let (_, page) = service.get("/api/stats/costs?group_by=agent&limit=1").await;
    assert_eq!(page["next_cursor"], "demo");
    assert_eq!(
        sums(&service, "group_by=agent&limit=1&cursor=demo").await,
        [row("goose", 30, 3, 0.75)]
    );
}

#[tokio::test]
async fn budgets_are_set_listed_and_refused() {
    let service = service().await;
    let project = service.project().await;
    let new = |budget: Value| json!({"project_id": project, "name": "s", "budget": budget});
    let (status, session) = service
        .post("/api/sessions", &new(json!({"tokens": 40, "cost": 1.5})))
        .await;
    assert_eq!(status, 201, "{session}");
    let id = session["id"].as_str().unwrap();
    let listed = async |query: &str| {
        let (status, body) = service.get(&format!("/api/stats/budgets{query}")).await;
        assert_eq!(status, 200, "{body}");
        body["items"].clone()
    };
    let of_session = listed(&format!("?session_id={id}")).await;
    let measures: Vec<_> = of_session
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            assert_eq!(
                (&item["scope"], &item["subject"]),
                (&json!("session"), &json!(id))
            );
            (
                item["measure"].clone(),
                item["limit"].clone(),
                item["level"].clone(),
            )
        })
        .collect();
    assert_eq!(
        measures,
        [
            (json!("tokens"), json!(40.0), json!("ok")),
            (json!("cost"), json!(1.5), json!("ok")),
        ]
    );
    assert_eq!(listed("").await, of_session);

    let task = json!({"project_id": project, "agent": "demo", "input": "x", "session_id": id,
        "budget": {"turns": 2}});
    let (status, task) = service.post("/api/tasks", &task).await;
    assert_eq!(status, 202, "{task}");
    let with_task = listed(&format!("?session_id={id}&limit=1")).await;
    assert_eq!(with_task.as_array().unwrap().len(), 3, "{with_task}");
    assert_eq!(with_task[2]["subject"], task["task_id"]);
    let (_, row) = service
        .get(&format!("/api/tasks/{}", task["task_id"].as_str().unwrap()))
        .await;
    assert_eq!(row["budget"], json!({"turns": 2}));

    for (path, body, pointer) in [
        (
            "/api/sessions",
            new(json!({"tokens": 0})),
            "#/budget/tokens",
        ),
        ("/api/sessions", new(json!({"turns": 1})), "#/budget"),
        (
            "/api/tasks",
            json!({"project_id": project, "agent": "demo", "input": "x",
            "budget": {"cost": 0}}),
            "#/budget/cost",
        ),
        (
            "/api/tasks",
            json!({"project_id": project, "agent": "demo", "input": "x",
            "budget": {"turns": 1_000_001}}),
            "#/budget/turns",
        ),
    ] {
        let (status, problem) = service.post(path, &body).await;
        assert_eq!(
            (status, &problem["code"]),
            (422, &json!("invalid_body")),
            "{problem}"
        );
        assert!(
            problem["errors"][0]["pointer"]
                .as_str()
                .unwrap()
                .starts_with(pointer),
            "{problem}"
        );
    }
    let path = format!("/api/sessions/{id}/budget");
    let raised = service.request(reqwest::Method::PUT, &path);
    let raised = raised.json(&json!({"tokens": 50})).send().await.unwrap();
    assert_eq!(raised.status(), 200);
    assert_eq!(
        service.tree.asked(|asked| asked.budget_looks),
        1,
        "what runs looks at it"
    );
    let (status, problem) = service.get("/api/stats/budgets?limit=0").await;
    assert_eq!((status, &problem["code"]), (400, &json!("invalid_query")));
}

#[tokio::test]
async fn a_question_that_makes_no_sense_is_refused() {
    let service = service().await;
    for query in [
        "",
        "group_by=moon",
        "group_by=day&from=yesterday",
        "group_by=day&from=2026-11-02&to=2026-11-02",
        "group_by=day&from=20000-01-01",
        "group_by=day&limit=0",
        "group_by=day&limit=1001",
        "group_by=day&cursor=%00",
        "group_by=day&colour=red",
    ] {
        let (status, body) = service.get(&format!("/api/stats/costs?{query}")).await;
        assert_eq!(
            (status, &body["code"]),
            (400, &json!("invalid_query")),
            "{query}: {body}"
        );
    }
}
