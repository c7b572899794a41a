//! Stop, and at once something new.

use std::time::Duration;

use super::super::stage::Stage;
use super::AGENT;

const ROUNDS: usize = 50;

/// At random moments of the turn: as it begins, waits for the model, speaks, or is
/// over. Each turn ends once, in time, and says its own words only.
#[tokio::test]
async fn fifty_stops_with_a_message_behind_each_mix_nothing_up() {
    let seed = std::env::var("SEED").map_or_else(|_| fastrand::u64(..), |it| it.parse().unwrap());
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let stage = Stage::set(AGENT).await;
    let chat = stage.service.chat().await;
    stage.turn(&chat, "[[text:ready]]").await;
    let (pid, session) = stage.live(&chat).await;
    let all: String = (1..=40).map(|tick| format!("tick{tick} ")).collect();
    let mut tasks = Vec::new();
    for round in 0..ROUNDS {
        let slow = stage
            .say(&chat, &format!("[[slow:40x10]] slow-{round}-"))
            .await;
        tokio::time::sleep(Duration::from_millis(random.u64(0..700))).await;
        let path = format!("/api/tasks/{slow}/cancel");
        let (status, body) = stage.service.post(&path, serde_json::json!({})).await;
        // It may be over already.
        assert!(status < 300 || status == 409, "{status} {body}");
        let next = stage
            .say(&chat, &format!("[[text:Answer {round}.]] next-{round}-"))
            .await;
        let slow = stage.service.ended(&slow).await;
        let outcome = slow["outcome"].as_str().unwrap_or_default().to_owned();
        assert!(
            matches!(&*outcome, "cancelled" | "ok"),
            "round {round}: {slow:#}"
        );
        let next = stage.service.ended(&next).await;
        assert_eq!(
            next["outcome"],
            "ok",
            "round {round}: {next:#}\n{}",
            stage.service.log()
        );
        let id = next["id"].as_str().unwrap().to_owned();
        let said = stage.streamed(&id, "delta").await;
        assert_eq!(said, format!("Answer {round}."), "round {round}");
        let id_of_slow = slow["id"].as_str().unwrap().to_owned();
        let said = stage.streamed(&id_of_slow, "delta").await;
        assert!(all.starts_with(&said), "round {round}: {said}");
        let whole = said.trim() == all.trim();
        assert!(whole || outcome == "cancelled", "round {round}: {said}");
        tasks.extend([(id_of_slow, outcome), (id, "ok".into())]);
    }
    for (task, outcome) in &tasks {
        let over = ["completed", "failed", "cancelled"];
        let ends = stage.frames(task).await.into_iter().filter(|(kind, data)| {
            kind == "task_updated" && over.iter().any(|state| data["state"] == *state)
        });
        assert_eq!(ends.count(), 1, "{task} ended {outcome}");
    }
    let cancelled = tasks.iter().filter(|(_, outcome)| outcome == "cancelled");
    let cancelled = cancelled.count();
    println!("{cancelled} of {ROUNDS} were stopped in time");
    assert!(cancelled >= ROUNDS / 5, "only {cancelled} of {ROUNDS}");
    let server = stage.server("idle", |server| server["turns"] == 0).await;
    assert_eq!(server["crashes"], 0, "{server:#}");
    assert_eq!(server["pid"], pid, "{server:#}");
    assert_eq!(
        stage.live(&chat).await,
        (pid, session),
        "its own session still"
    );
    stage.strike().await;
}
