//! The stream of an arena, with and without a session, and what it may spend.

use serde_json::{Value, json};

use super::colours;
use crate::service::harness::Service;

/// Its events until it ends.
async fn told(service: &Service, path: &str) -> Vec<Value> {
    let stream = service.stream(path).await;
    let text = tokio::time::timeout(std::time::Duration::from_secs(60), stream.text())
        .await
        .expect("it ends")
        .unwrap();
    let events = text.split("\n\n");
    events
        .filter_map(|event| {
            let data = event.lines().find_map(|line| line.strip_prefix("data: "))?;
            assert!(event.starts_with("event: arena_updated\n"), "{event}");
            Some(serde_json::from_str(data).unwrap())
        })
        .collect()
}

fn states(told: &[Value]) -> Vec<&str> {
    let mut states: Vec<&str> = told
        .iter()
        .map(|frame| frame["state"].as_str().unwrap())
        .collect();
    states.dedup();
    states
}

#[tokio::test]
async fn an_arena_is_followed_from_its_beginning_to_its_end() {
    let service = colours().await;
    let project = service.project().await;
    let (arena, tasks) = service
        .arena(
            &["red", "blue"],
            json!({ "project_id": project, "input": "create a.txt with a" }),
        )
        .await;
    let path = format!("/api/arena/{arena}/stream");
    let chooses = async {
        service.arena_is(&arena, "judged").await;
        let select = format!("/api/arena/{arena}/select/{}", tasks[1]);
        let (status, said) = service.post(&select, json!({})).await;
        assert_eq!(status, 200, "{said}");
    };
    let (live, ()) = tokio::join!(told(&service, &path), chooses);
    assert_eq!(
        states(&live),
        ["preparing", "running", "judged", "selected"]
    );
    assert!(live.iter().all(|frame| frame["arena_id"] == arena.as_str()));
    assert_eq!(live.last().unwrap()["winner"], tasks[1].as_str());
    // Whoever comes later, or again, is told the same.
    assert_eq!(told(&service, &path).await, live);
    let seen = live[1]["seq"].as_i64().unwrap();
    let rest = told(&service, &format!("{path}?after={seen}")).await;
    assert_eq!(rest, live[2..]);
}

#[tokio::test]
async fn an_arena_of_a_session_has_a_stream_of_its_own_too() {
    let service = colours().await;
    let chat = service.chat_with("draft.txt", "mine").await;
    let (arena, _) = service
        .arena(
            &["red", "blue"],
            json!({ "session_id": chat.session, "input": "wait 100s" }),
        )
        .await;
    let path = format!("/api/arena/{arena}/stream");
    let ends = async {
        service.arena_is(&arena, "running").await;
        let cancel = format!("/api/arena/{arena}/cancel");
        let (status, said) = service.post(&cancel, json!({})).await;
        assert_eq!(status, 202, "{said}");
    };
    let (live, ()) = tokio::join!(told(&service, &path), ends);
    assert_eq!(states(&live), ["preparing", "running", "cancelled"]);
    let unknown = service
        .get("/api/arena/00000000-0000-7000-8000-000000000000/stream")
        .await;
    assert_eq!(unknown["code"], "not_found", "{unknown}");
}

/// Given when it is created, for each; and what all spend is the session's.
#[tokio::test]
async fn an_arena_spends_from_its_own_budget_and_from_its_sessions() {
    let service = colours().await;
    let chat = service.chat_with("draft.txt", "mine").await;
    let (status, problem) = service
        .post(
            "/api/arena",
            json!({ "session_id": chat.session, "input": "x", "budget": { "wall_ms": 0 },
                "contestants": [{ "agent": "red" }, { "agent": "blue" }] }),
        )
        .await;
    assert_eq!(status, 422, "{problem}");
    assert_eq!(
        problem["errors"][0]["pointer"], "#/budget/wall_ms",
        "{problem}"
    );
    let (arena, tasks) = service
        .arena(
            &["red", "blue"],
            json!({ "session_id": chat.session, "input": "run test $COLOUR = red || sleep 1000",
                "budget": { "wall_ms": 1500 } }),
        )
        .await;
    service.arena_is(&arena, "judged").await;
    assert_eq!(service.ended(&tasks[0]).await["outcome"], "ok");
    assert_eq!(service.ended(&tasks[1]).await["outcome"], "budget");
    let budgets = format!("/api/stats/budgets?session_id={}", chat.session);
    sqlx::query(
        "update hearth.gates set budget = '{\"tokens\": 100000}' where session_id = $1::uuid",
    )
    .bind(&chat.session)
    .execute(&service.pool().await)
    .await
    .unwrap();
    let used = service.get(&budgets).await["items"][0]["used"].clone();
    let own: i64 = sqlx::query_scalar(
        "select sum(input_tokens + output_tokens)::bigint from hearth.turns where session_id = $1::uuid",
    )
    .bind(&chat.session)
    .fetch_one(&service.pool().await)
    .await
    .unwrap();
    let all: i64 =
        sqlx::query_scalar("select sum(input_tokens + output_tokens)::bigint from hearth.turns")
            .fetch_one(&service.pool().await)
            .await
            .unwrap();
    assert!(all > own, "the contestants spent something");
    assert_eq!(used, json!(all as f64));
}
