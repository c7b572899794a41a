//! Answers that race with whatever else settles a prompt: one wins, everybody is told
//! which, and the agent hears no other.

use std::time::Duration;

use super::*;

const ROUNDS: usize = 50;

/// What is true of a prompt whose race is over.
struct Race {
    /// Status of the answer's response.
    status: u16,
    row: Value,
    outcome: String,
    told: Vec<String>,
}

impl Race {
    async fn of(service: &Service, task: &str, prompt: &Value, status: u16) -> Self {
        let outcome = service.outcome(task).await;
        let path = format!("/api/prompts/{}", id_of(prompt));
        let race = Self {
            status,
            row: service.get(&path).await,
            outcome,
            told: told(service, task).await,
        };
        // One frame asks, one tells how it was settled, as the row does.
        let state = race.row["state"].as_str().unwrap();
        let resolved = format!("permission_resolved {state}");
        assert_eq!(
            race.told,
            ["permission_requested", &resolved],
            "{}",
            race.row
        );
        assert_eq!(
            race.status == 200,
            state == "answered",
            "{}: {}",
            race.status,
            race.row
        );
        race
    }
}

fn some_time(round: usize, most: Duration) -> Duration {
    most * u32::try_from(round).unwrap() / u32::try_from(ROUNDS).unwrap()
}

#[tokio::test]
async fn an_answer_races_a_cancel() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let (mut answered, mut cancelled) = (0, 0);
    for round in 0..ROUNDS {
        let (task, prompt) = ask(&service, &chat).await;
        let cancel = async {
            tokio::time::sleep(some_time(round, Duration::from_millis(8))).await;
            let path = format!("/api/tasks/{task}/cancel");
            service.post(&path, json!({})).await.0
        };
        let reply = async {
            // Some come late for certain, on a busy machine too.
            let late = if round % 5 == 0 { 150 } else { 3 };
            tokio::time::sleep(Duration::from_millis(late)).await;
            answer(&service, &prompt, json!({ "kind": "reject_once" }))
                .await
                .0
        };
        let (_, status) = tokio::join!(cancel, reply);
        let race = Race::of(&service, &task, &prompt, status).await;
        assert!(matches!(status, 200 | 410), "{status}");
        match (race.outcome.as_str(), status) {
            ("ok" | "cancelled", 200) => answered += 1,
            ("cancelled", 410) => cancelled += 1,
            other => panic!("{other:?}: {}", race.row),
        }
    }
    assert!(
        answered > 0 && cancelled > 0,
        "{answered} and {cancelled}: no race"
    );
}

#[tokio::test]
async fn an_answer_races_a_deadline() {
    let config = "[agents.demo.deadlines]\nprompt_ms = 60\n";
    let service = Service::with_config(Some(config)).await;
    let chat = service.chat().await;
    let (mut answered, mut expired) = (0, 0);
    for round in 0..ROUNDS {
        let task = service.say(&chat, "ask may I?").await;
        let path = format!("/api/prompts?task_id={task}");
        let prompt = service
            .until("a prompt", async || {
                let page = service.get(&path).await;
                page["items"].get(0).cloned().ok_or(page)
            })
            .await;
        tokio::time::sleep(some_time(round, Duration::from_millis(80))).await;
        let (status, _) = answer(&service, &prompt, json!({ "kind": "allow_once" })).await;
        let race = Race::of(&service, &task, &prompt, status).await;
        assert_eq!(race.outcome, "ok", "{}", race.row);
        assert!(matches!(status, 200 | 410), "{status}");
        if status == 200 {
            answered += 1;
        } else {
            expired += 1;
            assert_eq!(race.row["state"], "expired", "{}", race.row);
        }
    }
    assert!(
        answered > 0 && expired > 0,
        "{answered} and {expired}: no race"
    );
    // The agent heard what the rows say, turn by turn.
    let words = service.answers(&chat).await.join("\n");
    let count = |word: &str| words.matches(word).count();
    assert_eq!((count("Allowed"), count("Refused")), (answered, expired));
}

#[tokio::test]
async fn an_answer_races_the_end_of_its_agent() {
    let service = Service::start().await;
    let chat = service.chat().await;
    // Every crash is followed by a turn that works, else the key cools down.
    for round in 0..10 {
        let (task, prompt) = ask(&service, &chat).await;
        let pid = service.agent_pid(&chat).await;
        let kill = async {
            tokio::time::sleep(some_time(round * 5, Duration::from_millis(8))).await;
            super::super::harness::signal(pid, nix::sys::signal::Signal::SIGKILL);
        };
        let reply = async {
            tokio::time::sleep(Duration::from_millis(3)).await;
            answer(&service, &prompt, json!({ "kind": "reject_once" }))
                .await
                .0
        };
        let ((), status) = tokio::join!(kill, reply);
        let race = Race::of(&service, &task, &prompt, status).await;
        assert!(matches!(status, 200 | 410), "{status}");
        assert!(
            matches!(race.outcome.as_str(), "ok" | "agent_crashed"),
            "{}: {}",
            race.outcome,
            race.row
        );
        // The turn is over: nobody can answer it any more.
        let late = answer(&service, &prompt, json!({ "kind": "allow_once" })).await;
        let code = late.1["code"].as_str().unwrap_or_default();
        let expected = if status == 200 {
            (409, "prompt_answered")
        } else {
            (410, "prompt_closed")
        };
        assert_eq!((late.0, code), expected, "{late:?}");
        let path = format!("/api/debug/sessions/{}/demo/restart", chat.id);
        service.post(&path, json!({})).await;
        let next = service.say(&chat, "say fine").await;
        assert_eq!(service.outcome(&next).await, "ok");
    }
}

#[tokio::test]
async fn answers_to_a_question_of_a_gone_agent_race_each_other_and_a_cancel() {
    let mut service = Service::start().await;
    let project = service.project().await;
    let mut asked = Vec::new();
    for _ in 0..12 {
        let chat = service.chat_of(&project).await;
        asked.push(ask(&service, &chat).await);
    }
    assert!(service.terminate().await.success(), "{}", service.log());
    let service = service.again().await;
    for (round, (task, prompt)) in asked.iter().enumerate() {
        let cancel = async {
            if round % 2 == 0 {
                return;
            }
            tokio::time::sleep(some_time(round * 4, Duration::from_millis(6))).await;
            let path = format!("/api/tasks/{task}/cancel");
            service.post(&path, json!({})).await;
        };
        let (yes, no, ()) = tokio::join!(
            answer(&service, prompt, json!({ "kind": "allow_once" })),
            answer(&service, prompt, json!({ "kind": "reject_once" })),
            cancel
        );
        let mut codes = [yes.0, no.0];
        codes.sort_unstable();
        let row = service
            .get(&format!("/api/prompts/{}", id_of(prompt)))
            .await;
        if row["state"] == "answered" {
            assert_eq!(codes, [200, 409], "{row}");
            let won = if yes.0 == 200 {
                "allow_once"
            } else {
                "reject_once"
            };
            assert_eq!(row["answer"]["kind"], won, "{row}");
        } else {
            assert_eq!(row["state"], "cancelled", "{row}");
            assert_eq!(codes, [410, 410], "{row}");
        }
        let outcome = service.ended(task).await["state"].clone();
        let expected: &[&str] = match (row["state"].as_str(), round % 2) {
            (Some("cancelled"), _) => &["cancelled"],
            (_, 0) => &["completed"],
            _ => &["completed", "cancelled"],
        };
        assert!(
            expected.iter().any(|word| outcome == *word),
            "{outcome} {row}"
        );
    }
}
