//! A database that is not ours: TLS, refusals, and the times it is away.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::harness::{Database, SOON, Service, command};
use super::remote_postgres::{PASSWORD, RemotePostgres};

/// How long a server is away that comes back soon.
const SHORT: Duration = Duration::from_secs(3);

#[tokio::test]
async fn tls_is_used_and_its_certificate_is_checked_when_asked_for() {
    let server = RemotePostgres::start().await;
    let right = format!(
        "sslmode=verify-full&sslrootcert={}",
        server.authority("right.pem")
    );
    for parameters in ["", "sslmode=require", &right] {
        let service = Service::on(server.database(parameters), None).await;
        let chat = service.chat().await;
        let task = service.say(&chat, "say hi").await;
        assert_eq!(service.outcome(&task).await, "ok", "{parameters}");
        let encrypted: Vec<bool> = sqlx::query_scalar(
            "select s.ssl from pg_stat_activity a join pg_stat_ssl s using (pid)
             where a.application_name = 'hearth'",
        )
        .fetch_all(&service.pool().await)
        .await
        .unwrap();
        assert!(
            !encrypted.is_empty() && encrypted.iter().all(|ssl| *ssl),
            "{encrypted:?}"
        );
    }
}

#[tokio::test]
async fn a_database_that_refuses_us_is_named_with_the_reason_and_the_cure() {
    let server = RemotePostgres::start().await;
    let wrong = format!(
        "sslmode=verify-full&sslrootcert={}",
        server.authority("wrong.pem")
    );
    let missing = format!(
        "sslmode=verify-full&sslrootcert={}",
        server.authority("none.pem")
    );
    for (url, words) in [
        (server.url(&wrong), ["certificate", "sslrootcert"]),
        (server.url(&missing), ["none.pem", "sslrootcert"]),
        (
            server.url("sslmode=disable"),
            ["no encryption", "sslmode=require"],
        ),
        (
            server.url_of("wrong-horse", "postgres", "sslmode=require"),
            ["password authentication failed", "DATABASE_URL"],
        ),
        (
            server.url_of(PASSWORD, "nowhere", "sslmode=require"),
            ["\"nowhere\" does not exist", "createdb"],
        ),
    ] {
        for arguments in ["serve", "doctor"] {
            let said = refused(&server, &url, arguments).await;
            for word in words {
                assert!(
                    said.contains(word),
                    "{arguments}: {word:?} is not in {said}"
                );
            }
            assert!(said.contains("cure:"), "{arguments}: {said}");
            assert!(
                !said.contains("horse"),
                "{arguments}: a password is in {said}"
            );
        }
    }
}

/// What the command says; it must fail.
async fn refused(server: &RemotePostgres, url: &str, argument: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let Database::Shared(_, options) = server.database("") else {
        unreachable!("it is a remote one");
    };
    let run = command(&home, &Database::Shared(url.to_owned(), options))
        .arg(argument)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output();
    let output = tokio::time::timeout(SOON, run)
        .await
        .expect("it ends")
        .unwrap();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap());
    let said = said.concat();
    assert_eq!(output.status.code(), Some(1), "{argument}: {said}");
    said
}

#[tokio::test]
async fn a_turn_outlives_a_database_that_comes_back_soon() {
    let mut server = RemotePostgres::start().await;
    let service = Service::on(server.database("sslmode=require"), None).await;
    let chat = service.chat().await;
    let task = service.say(&chat, "slow 300 20").await;
    service.state(&chat, "running").await;
    let away = Instant::now();
    server.crash().await;
    let health = unready(&service).await;
    assert_eq!(health["status"], "database_unavailable", "{health}");
    assert!(health["database"]["problem"].is_string(), "{health}");
    // Not a wait for something to happen: this is how long it is away.
    tokio::time::sleep(SHORT.saturating_sub(away.elapsed())).await;
    server.start_again().await;
    assert_eq!(service.outcome(&task).await, "ok", "{}", service.log());
    let answers = service.answers(&chat).await;
    assert_eq!(answers[0].matches("tick").count(), 300, "{answers:?}");
    assert_eq!(attempts(&service, &task).await, ["ok"]);
    let next = service.say(&chat, "say again").await;
    assert_eq!(service.outcome(&next).await, "ok");
    assert_eq!(service.get("/api/health").await["status"], "ok");
}

#[tokio::test]
async fn a_database_away_for_longer_than_the_lease_stops_the_agents() {
    let server = RemotePostgres::start().await;
    let service = Service::on(server.database("sslmode=require"), None).await;
    let chat = service.chat().await;
    let first = service.say(&chat, "say the word is tamarind").await;
    assert_eq!(service.outcome(&first).await, "ok");
    let task = service.say(&chat, "leak\nslow 100000 20").await;
    service.state(&chat, "running").await;
    assert!(!service.processes().is_empty());
    server.freeze();
    let frozen = Instant::now();
    // The node trusts itself for 22 s behind its last renewal; stopping takes 6.
    let stopped = async || {
        let alive = service.processes();
        alive.is_empty().then_some(()).ok_or(alive)
    };
    service.until("the agents' end", stopped).await;
    let health = unready(&service).await;
    assert_eq!(health["status"], "database_unavailable", "{health}");
    println!("agents gone after {:?}", frozen.elapsed());
    assert!(frozen.elapsed() > Duration::from_secs(10), "too early");
    server.thaw();
    assert_eq!(
        service.outcome(&task).await,
        "interrupted",
        "{}",
        service.log()
    );
    assert_eq!(attempts(&service, &task).await, ["interrupted"]);
    let next = service.say(&chat, "recall").await;
    let ended = service.ended(&next).await;
    assert_eq!(ended["outcome"], "ok", "{ended}");
    let answers = service.answers(&chat).await;
    assert!(answers.last().unwrap().contains("tamarind"), "{answers:?}");
    assert_eq!(attempts(&service, &task).await, ["interrupted"]);
}

/// Waits until the service says that it is not well; returns what it says.
async fn unready(service: &Service) -> Value {
    let look = async || {
        let health = service.get("/api/health").await;
        if health["status"] == "ok" {
            Err(health)
        } else {
            Ok(health)
        }
    };
    service.until("a service that is not ready", look).await
}

/// The outcomes of all attempts at a task.
async fn attempts(service: &Service, task: &str) -> Vec<String> {
    sqlx::query_scalar(
        "select coalesce(outcome, 'none') from hearth.turns where task_id = $1::uuid order by attempt",
    )
    .bind(task)
    .fetch_all(&service.pool().await)
    .await
    .unwrap()
}
