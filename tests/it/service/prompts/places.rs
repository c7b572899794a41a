//! A full pool of turns that wait for people.

use super::super::harness::SOON;
use super::*;

const ONE_PLACE: &str = "[pool]\nmax_live = 1\n";

#[tokio::test]
async fn a_question_makes_room_and_its_answer_goes_on() {
    let service = Service::with_config(Some(ONE_PLACE)).await;
    let (asks, other) = (service.chat().await, service.chat().await);
    let (task, prompt) = ask(&service, &asks).await;
    let next = service.say(&other, "say hi").await;
    // First the person in front of it is given some seconds, and the other says so.
    service
        .until("it waits for a place", async || {
            let row = service.get(&format!("/api/tasks/{next}")).await;
            (row["parked_reason"] == "pool_full")
                .then_some(())
                .ok_or(row)
        })
        .await;
    assert_eq!(service.outcome(&next).await, "ok");
    let path = format!("/api/prompts/{}", id_of(&prompt));
    let row = service.get(&path).await;
    assert_eq!(row["state"], "open", "{row}");
    assert!(row["detached_at"].is_string(), "{row}");
    let row = service.get(&format!("/api/tasks/{task}")).await;
    assert_eq!(row["state"], "blocked", "{row}");
    let why = row["outcome_detail"].as_str().unwrap_or_default();
    assert!(why.contains("made room"), "{row}");
    let listed = item(&service, &format!("prompt:{}", id_of(&prompt))).await;
    assert_eq!(listed.expect("the prompt")["actions"], json!(["answer"]));
    let (status, settled) = answer(&service, &prompt, json!({ "kind": "allow_once" })).await;
    assert_eq!(status, 200, "{settled}");
    assert_eq!(service.outcome(&task).await, "ok");
    let answers = service.answers(&asks).await.join("\n");
    assert!(answers.contains("Allowed"), "{answers}");
    let prompts = service.get(&format!("/api/prompts?task_id={task}")).await;
    assert_eq!(prompts["items"][0]["answered_by"], "earlier", "{prompts}");
    assert_eq!(inbox(&service).await, Vec::<Value>::new());
}

#[tokio::test]
async fn an_agent_that_cannot_resume_keeps_its_place_and_the_next_task_is_seen_waiting() {
    let config =
        // Behind its turn it would keep its context for its idle time.
        format!("{ONE_PLACE}[agents.demo]\nenv = {{ HEARTH_DEMO_WITHOUT = \"load,resume\" }}\nidle_ttl_ms = 1000\n");
    let service = Service::with_config(Some(&config)).await;
    let (asks, other) = (service.chat().await, service.chat().await);
    let (task, prompt) = ask(&service, &asks).await;
    let next = service.say(&other, "say hi").await;
    let id = format!("task:{next}");
    let listed = tokio::time::timeout(
        SOON,
        service.until("it is in the inbox", async || {
            let listed = item(&service, &id).await;
            listed.ok_or("not listed")
        }),
    );
    let listed = listed.await.expect("within seconds");
    assert_eq!(listed["state"], "parked", "{listed}");
    assert_eq!(listed["reason"], "pool_full", "{listed}");
    let detail = listed["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("wait for people"), "{listed}");
    // It is, however long no place is free to look whether one is.
    sqlx::query(
        "update hearth.queue set not_before = clock_timestamp() - interval '50 seconds'
         where task_id = $1::uuid",
    )
    .bind(&next)
    .execute(&service.pool().await)
    .await
    .unwrap();
    assert!(item(&service, &id).await.is_some());
    let row = service.get(&format!("/api/tasks/{next}")).await;
    assert_eq!(row["parked_reason"], "pool_full", "{row}");
    let tree = service.get("/api/debug/tree").await;
    let pool = tree["children"].as_array().unwrap().iter();
    let pool: Vec<_> = pool.filter(|node| node["kind"] == "pool").collect();
    assert_eq!(pool[0]["detail"]["asking"], 1, "{tree}");
    let shown = hearth(&service, &["ls"]).await;
    assert!(shown.contains("pool_full"), "{shown}");
    let row = service
        .get(&format!("/api/prompts/{}", id_of(&prompt)))
        .await;
    assert_eq!(row["detached_at"], Value::Null, "{row}");
    let (status, _) = answer(&service, &prompt, json!({ "kind": "allow_once" })).await;
    assert_eq!(status, 200);
    for task in [&task, &next] {
        assert_eq!(service.outcome(task).await, "ok");
    }
    assert_eq!(inbox(&service).await, Vec::<Value>::new());
}
