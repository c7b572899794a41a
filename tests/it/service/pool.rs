//! The warm pool on real processes: who makes room, who stays, and what a stop, a
//! reload and a scrape see of it.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::harness::{Chat, SOON, Service, command, signal};

/// Chats of [`many_chats_share_few_places`], and places.
const CHATS: usize = 60;
const PLACES: usize = 5;

/// The metric's value of these labels, as they are written.
fn value(text: &str, series: &str) -> Option<f64> {
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    line.parse().ok()
}

async fn metrics(service: &Service) -> String {
    let answer = service.stream("/metrics").await;
    let kind = answer.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    answer.text().await.unwrap()
}

async fn evict(service: &Service, chat: &Chat) -> (u16, Value) {
    let path = format!("/api/debug/sessions/{}/demo/evict", chat.id);
    service.post(&path, Value::Null).await
}

/// The binary, once, beside the service.
async fn run_cli(service: &Service, arguments: &[&str]) -> (bool, String) {
    let mut cli = command(&service.home, &service.database());
    cli.args(arguments).stdout(Stdio::piped());
    let ran = tokio::time::timeout(SOON, cli.output()).await;
    let ran = ran.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    (ran.status.success(), said)
}

#[tokio::test]
async fn many_chats_share_few_places_and_none_loses_what_it_knew() {
    let config = format!("[pool]\nmax_live = {PLACES}\nmemory_mb = 2000\n");
    let mut service = Service::with_config(Some(&config)).await;
    service.patience = Duration::from_secs(300);
    let project = service.project().await;
    let mut chats = Vec::new();
    for _ in 0..CHATS {
        chats.push(service.chat_of(&project).await);
    }
    let mut tasks = Vec::new();
    for (n, chat) in chats.iter().enumerate() {
        let say = format!("say the word is tamarind-{n}");
        tasks.push(service.say(chat, &say).await);
    }
    for chat in &chats {
        tasks.push(service.say(chat, "recall").await);
    }
    let mut most = 0;
    for task in &tasks {
        let ended = service.ended(task).await;
        assert_eq!(ended["outcome"], "ok", "{ended}");
        let tree = service.get("/api/debug/tree").await;
        let nodes = tree["children"].as_array().unwrap();
        let pool = nodes.iter().find(|node| node["kind"] == "pool").unwrap();
        let live = pool["detail"]["live"].as_u64().unwrap();
        most = most.max(usize::try_from(live).unwrap());
        let (memory, cap) = (
            &pool["detail"]["memory_bytes"],
            &pool["detail"]["memory_cap"],
        );
        assert!(memory.as_u64() <= cap.as_u64(), "{memory} of {cap}");
    }
    assert!(most <= PLACES, "{most} lived at once");
    for (n, chat) in chats.iter().enumerate() {
        let answers = service.answers(chat).await;
        let word = format!("tamarind-{n}");
        assert!(answers[1].contains(&word), "{answers:?}");
    }
    let text = metrics(&service).await;
    let evicted = value(&text, r#"hearth_evictions_total{reason="lru"}"#).unwrap();
    assert!(evicted >= (CHATS - PLACES) as f64, "{evicted}");
    let ended = value(&text, r#"hearth_turns_total{agent="demo",outcome="ok"}"#);
    assert_eq!(ended, Some(2.0 * CHATS as f64));
    assert_eq!(value(&text, "hearth_leases_lost_total"), Some(0.0));
    let crashed = r#"hearth_session_restarts_total{agent="demo",rest="back_off"}"#;
    assert_eq!(value(&text, crashed), None, "{text}");
    let attempts: i64 =
        sqlx::query_scalar("select count(*) from hearth.turns where outcome is not null")
            .fetch_one(&service.pool().await)
            .await
            .unwrap();
    assert_eq!(attempts, 2 * CHATS as i64, "each was prompted once");
}

#[tokio::test]
async fn work_that_an_agent_left_running_keeps_it_and_a_restart_ends_both() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let task = service
        .say(&chat, "run setsid -f sleep 600 >/dev/null 2>&1")
        .await;
    assert_eq!(service.outcome(&task).await, "ok");
    service.state(&chat, "idle").await;
    let (status, body) = evict(&service, &chat).await;
    assert_eq!(
        (status, &body["code"]),
        (409, &json!("background_work")),
        "{body}"
    );
    assert!(service.node(&chat).await.is_some(), "it stays");
    let text = metrics(&service).await;
    let refused = r#"hearth_eviction_refusals_total{reason="background_work"}"#;
    assert_eq!(value(&text, refused), Some(1.0));
    let restart = format!("/api/debug/sessions/{}/demo/restart", chat.id);
    assert_eq!(service.post(&restart, Value::Null).await.0, 204);
    service
        .until("nothing is left of it", async || {
            let left = service.processes();
            if left.is_empty() { Ok(()) } else { Err(left) }
        })
        .await;
    // One that leaves nothing goes, and comes back with the next message.
    let task = service.say(&chat, "run true").await;
    assert_eq!(service.outcome(&task).await, "ok");
    service.state(&chat, "idle").await;
    assert_eq!(evict(&service, &chat).await.0, 204);
    let task = service.say(&chat, "say again").await;
    assert_eq!(service.outcome(&task).await, "ok");
}

#[tokio::test]
async fn an_agent_that_cannot_continue_is_not_stopped_for_being_unused() {
    let config = "[pool]\nidle_ttl_ms = 500\n[agents.demo]\nenv = { HEARTH_DEMO_WITHOUT = \"load,resume\" }\n";
    let service = Service::with_config(Some(config)).await;
    let chat = service.chat().await;
    let task = service.say(&chat, "say the word is tamarind").await;
    assert_eq!(service.outcome(&task).await, "ok");
    service.state(&chat, "idle").await;
    let (status, body) = evict(&service, &chat).await;
    assert_eq!(
        (status, &body["code"]),
        (409, &json!("not_resumable")),
        "{body}"
    );
}

#[tokio::test]
async fn the_memory_of_each_tree_is_shown_and_summed_up() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let task = service.say(&chat, "say x").await;
    assert_eq!(service.outcome(&task).await, "ok");
    let bytes = service
        .until("its memory", async || {
            let node = service.node(&chat).await.unwrap_or_default();
            node["detail"]["memory_bytes"].as_u64().ok_or(node)
        })
        .await;
    assert!((1 << 18..1 << 30).contains(&bytes), "{bytes}");
    let text = metrics(&service).await;
    let summed = value(&text, r#"hearth_tree_memory_bytes{agent="demo"}"#);
    assert!(summed.is_some_and(|bytes| bytes > 262_144.0), "{text}");
    assert_eq!(value(&text, "hearth_ready"), Some(1.0));
    let warm = r#"hearth_warm_sessions{agent="demo",state="idle"}"#;
    assert_eq!(value(&text, warm), Some(1.0));
    for series in [
        r#"hearth_starts_total{agent="demo",how="new"}"#,
        r#"hearth_turns_total{agent="demo",outcome="ok"}"#,
        "hearth_tasks_claimed_total",
    ] {
        assert_eq!(value(&text, series), Some(1.0), "{series}");
    }
    assert!(value(&text, r#"hearth_first_token_seconds_count{agent="demo"}"#) == Some(1.0));
    assert!(value(&text, "hearth_frames_stored_total") > Some(0.0));
}

#[tokio::test]
async fn a_drain_lets_a_turn_finish_and_leaves_nothing_behind() {
    let mut service = Service::start().await;
    let (works, waits) = (service.chat().await, service.chat().await);
    let task = service.say(&works, "wait 3s\nsay done").await;
    service.state(&works, "running").await;
    let pool = service.pool().await;
    let drain = async { run_cli(&service, &["drain", "--grace", "20"]).await };
    let late = async {
        service
            .until("it drains", async || {
                let health = service.get("/api/health").await;
                if health["status"] == "stopping" {
                    Ok(())
                } else {
                    Err(health)
                }
            })
            .await;
        // Accepted, and nobody begins it any more.
        service.say(&waits, "say later").await
    };
    let ((drained, said), later) = tokio::join!(drain, late);
    assert!(drained, "{said}");
    assert!(
        said.contains("1 turn holds it") && said.contains("drained in"),
        "{said}"
    );
    service.exited().await;
    let state = async |task: &str| -> (String, Option<String>) {
        sqlx::query_as(
            "select t.state, (select outcome from hearth.turns where task_id = t.id) from tasks t where id = $1::uuid",
        )
        .bind(task.to_owned())
        .fetch_one(&pool)
        .await
        .unwrap()
    };
    assert_eq!(state(&task).await, ("completed".into(), Some("ok".into())));
    assert_eq!(state(&later).await, ("pending".into(), None));
    let leased: Option<bool> =
        sqlx::query_scalar("select bool_or(lease_until > clock_timestamp()) from hearth.nodes")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_ne!(leased, Some(true), "the lease is given back");
    assert!(service.processes().is_empty());
    let service = service.again().await;
    assert_eq!(service.outcome(&later).await, "ok");
}

#[tokio::test]
async fn a_second_signal_hurries_and_the_turn_says_that_hearth_stopped() {
    let config = "shutdown_grace_ms = 600000\n";
    let mut service = Service::with_config(Some(config)).await;
    let chat = service.chat().await;
    let task = service.say(&chat, "wait 300s").await;
    service.state(&chat, "running").await;
    signal(service.pid(), Signal::SIGTERM);
    service
        .until("it drains", async || {
            let health = service.get("/api/health").await;
            if health["status"] == "stopping" {
                Ok(())
            } else {
                Err(health)
            }
        })
        .await;
    let began = Instant::now();
    signal(service.pid(), Signal::SIGTERM);
    service.exited().await;
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    let pool = service.pool().await;
    let (outcome, detail): (String, String) =
        sqlx::query_as("select outcome, outcome_detail from hearth.turns where task_id = $1::uuid")
            .bind(&task)
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(outcome, "interrupted");
    assert!(detail.contains("Hearth stopped"), "{detail}");
    assert!(service.processes().is_empty());
}

#[tokio::test]
async fn a_drain_gives_the_grace_that_was_read_anew_and_a_second_one_none() {
    let mut service = Service::with_config(Some("shutdown_grace_ms = 1000\n")).await;
    let chat = service.chat().await;
    let task = service.say(&chat, "wait 300s").await;
    service.state(&chat, "running").await;
    let file = service.home.parent().unwrap().join("hearth.toml");
    std::fs::write(&file, "shutdown_grace_ms = 600000\n").unwrap();
    signal(service.pid(), Signal::SIGHUP);
    service
        .until("the settings are read", async || {
            let log = service.log();
            let read = log.contains("the settings were read anew");
            if read { Ok(()) } else { Err(log.len()) }
        })
        .await;
    let (status, body) = service.post("/api/drain", json!({})).await;
    assert_eq!(
        (status, &body["grace_ms"]),
        (202, &json!(600_000)),
        "{body}"
    );
    assert_eq!(body["turns"], 1, "{body}");
    let began = Instant::now();
    let (status, body) = service.post("/api/drain", json!({})).await;
    assert_eq!((status, &body["grace_ms"]), (202, &json!(0)), "{body}");
    service.exited().await;
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    let pool = service.pool().await;
    let outcome: String =
        sqlx::query_scalar("select outcome from hearth.turns where task_id = $1::uuid")
            .bind(&task)
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(outcome, "interrupted");
}

#[tokio::test]
async fn a_hangup_reads_agents_and_limits_anew_or_keeps_all_of_the_old() {
    let config = "[pool]\nmax_live = 1\n";
    let service = Service::with_config(Some(config)).await;
    let file = service.home.parent().unwrap().join("hearth.toml");
    let (first, second) = (service.chat().await, service.chat().await);
    let held = service.say(&first, "wait 300s").await;
    service.state(&first, "running").await;
    let waits = service.say(&second, "say x").await;
    std::fs::write(&file, "[pool]\nmax_live = 0\n[agents.demo]\nwrong = 1\n").unwrap();
    signal(service.pid(), Signal::SIGHUP);
    service
        .until("the log says what is wrong", async || {
            let log = service.log();
            let told = log.contains("everything stays as it was set") && log.contains("wrong");
            if told { Ok(()) } else { Err(log.len()) }
        })
        .await;
    let body = json!({ "content": "say x", "agent": "second" });
    let path = format!("/api/chats/{}/messages", second.id);
    assert_eq!(service.post(&path, body.clone()).await.0, 422);
    let program = env!("CARGO_BIN_EXE_hearth");
    let new = format!(
        "[pool]\nmax_live = 3\n[agents.second]\nprotocol = \"acp\"\ncommand = \"{program}\"\nargs = [\"demo-agent\"]\npermission = \"allow_all\"\n"
    );
    std::fs::write(&file, new).unwrap();
    signal(service.pid(), Signal::SIGHUP);
    assert_eq!(
        service.outcome(&waits).await,
        "ok",
        "there is another place"
    );
    let accepted = service
        .until("the new agent is known", async || {
            let (status, body) = service.post(&path, body.clone()).await;
            if status == 202 { Ok(body) } else { Err(body) }
        })
        .await;
    let task = accepted["task_id"].as_str().unwrap().to_owned();
    assert_eq!(service.outcome(&task).await, "ok");
    let running = service.get(&format!("/api/tasks/{held}")).await;
    assert_eq!(running["state"], "running", "what ran goes on");
    let health = service.get("/api/health").await;
    let agents: BTreeMap<_, _> = health["agents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|agent| (agent["name"].as_str().unwrap(), &agent["circuit"]))
        .collect();
    assert_eq!(agents["second"], "closed");
}

/// A command that ends at once fails in chat after chat: all rest, and people see it.
#[tokio::test]
async fn an_agent_that_fails_everywhere_rests_and_says_so() {
    let config = "[agents.broken]\nprotocol = \"acp\"\ncommand = \"/bin/false\"\n";
    let service = Service::with_config(Some(config)).await;
    let project = service.project().await;
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let chat = service.chat_of(&project).await;
        for _ in 0..2 {
            tasks.push(service.say_to("broken", &chat, "x").await);
        }
    }
    for task in &tasks {
        assert_eq!(service.outcome(task).await, "no_start");
    }
    let item = service
        .until("a notice", async || {
            let inbox = service.get("/api/inbox").await;
            let items = inbox["items"].as_array().cloned().unwrap_or_default();
            let told = items.iter().find(|item| {
                let title = item["title"].as_str().unwrap_or_default();
                title.contains("failed in several chats")
            });
            told.cloned().ok_or(inbox)
        })
        .await;
    assert!(
        item["id"].as_str().unwrap().starts_with("notice:"),
        "{item}"
    );
    let health = service.get("/api/health").await;
    let agents = health["agents"].as_array().unwrap();
    let broken = agents
        .iter()
        .find(|agent| agent["name"] == "broken")
        .unwrap();
    assert_eq!(broken["circuit"], "open", "{broken}");
    assert!(broken["rests_ms"].as_u64() <= Some(30_000), "{broken}");
    let text = metrics(&service).await;
    assert_eq!(
        value(&text, r#"hearth_circuit_open{agent="broken"}"#),
        Some(1.0)
    );
    assert_eq!(
        value(&text, r#"hearth_circuit_open{agent="demo"}"#),
        Some(0.0)
    );
    // Another agent's chats do not care.
    let chat = service.chat_of(&project).await;
    let task = service.say(&chat, "say x").await;
    assert_eq!(service.outcome(&task).await, "ok");
}

/// The shell of the demo agent's tool holds 200 MB and sleeps.
#[tokio::test]
async fn an_agent_whose_processes_outgrow_their_limit_ends_out_of_memory() {
    let config = "[agents.demo]\nmemory_mb = 120\n";
    let service = Service::with_config(Some(config)).await;
    let chat = service.chat().await;
    let task = service.say(&chat, "say small").await;
    assert_eq!(service.outcome(&task).await, "ok");
    let hog = r"run x=$(head -c 200000000 /dev/zero | tr '\0' a); sleep 600; echo $x";
    let task = service.say(&chat, hog).await;
    let ended = service.ended(&task).await;
    assert_eq!(ended["outcome"], "out_of_memory", "{ended}");
    let task = service.say(&chat, "say again").await;
    assert_eq!(service.outcome(&task).await, "ok");
}
