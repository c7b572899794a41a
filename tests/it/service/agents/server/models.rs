//! Models that refuse. opencode would ask them again for ever.

use super::super::stage::Stage;
use super::AGENT;

#[tokio::test]
async fn a_refused_prompt_waits_where_people_see_it() {
    const QUOTA: &str =
        "[[refusal:usage_limit_reached,The usage limit has been reached. Try again in 2h 5m.]]";
    let stage = Stage::set(AGENT).await;
    let overloaded = stage.service.chat().await;
    let overloaded = stage
        .say(&overloaded, "[[error:429,4]][[text:At last.]] lynx")
        .await;
    let quota = stage.service.chat().await;
    let quota = stage
        .say(&quota, &format!("[[error:429]]{QUOTA} heron"))
        .await;

    let path = format!("/api/tasks/{quota}");
    let parked = stage
        .service
        .until("a parked task", async || {
            let task = stage.service.get(&path).await;
            (task["parked_reason"] == "quota")
                .then(|| task.clone())
                .ok_or(task)
        })
        .await;
    let until: chrono::DateTime<chrono::Utc> =
        parked["parked_until"].as_str().unwrap().parse().unwrap();
    let wait = (until - chrono::Utc::now()).num_minutes();
    assert!((120..=127).contains(&wait), "{wait} min: {parked:#}");
    assert_eq!(stage.model.asked_about("heron").len(), 1, "once is enough");

    let task = stage.service.ended(&overloaded).await;
    assert_eq!(task["outcome"], "ok", "{task:#}");
    let turns = task["turns"].as_array().unwrap().iter();
    let outcomes: Vec<_> = turns.map(|turn| turn["outcome"].clone()).collect();
    assert_eq!(outcomes, ["overload", "ok"], "{task:#}");
    assert_eq!(stage.streamed(&overloaded, "delta").await, "At last.");
    assert_eq!(stage.model.asked_about("lynx").len(), 5);
    stage.cancel(&quota).await;
    stage.strike().await;
}
