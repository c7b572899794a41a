//! What is wrong is said, with its cure; nothing changes and the service lives.

use std::path::Path;

use serde_json::{Value, json};

use super::harness::{Database, Service, command, git, repository_at};
use crate::support::pg;

/// The body says what code, and its words contain each of these.
fn problem(answer: &(u16, Value), status: u16, words: &[&str]) {
    assert_eq!(answer.0, status, "{}", answer.1);
    let text = answer.1.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
}

#[tokio::test]
async fn directories_that_are_no_project_are_refused_with_the_cure() {
    let service = Service::start().await;
    let dir = service.home.parent().unwrap().to_owned();
    let register = async |path: &Path| service.post("/api/projects", json!({ "path": path })).await;

    let plain = dir.join("plain");
    std::fs::create_dir(&plain).unwrap();
    problem(&register(&plain).await, 422, &["git init"]);
    problem(&register(&dir.join("missing")).await, 422, &["missing"]);
    let bare = dir.join("bare");
    std::fs::create_dir(&bare).unwrap();
    git(&bare, &["init", "-q", "--bare"]);
    problem(&register(&bare).await, 422, &["bare", "clone"]);
    let unborn = dir.join("unborn");
    std::fs::create_dir(&unborn).unwrap();
    git(&unborn, &["init", "-q"]);
    problem(&register(&unborn).await, 422, &["commit"]);
    let foreign = dir.join("foreign");
    repository_at(&foreign);
    let chown = std::process::Command::new("chown")
        .args(["-R", "nobody"])
        .arg(&foreign)
        .status();
    assert!(chown.unwrap().success());
    problem(&register(&foreign).await, 422, &["chown"]);
    assert_eq!(service.get("/api/projects").await["items"], json!([]));
}

#[tokio::test]
async fn messages_that_cannot_be_meant_are_refused() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let path = format!("/api/chats/{}/messages", chat.id);
    let say = async |body: Value| service.post(&path, body).await;
    problem(
        &say(json!({ "content": "x", "agent": "nobody" })).await,
        422,
        &["nobody", "demo"],
    );
    let long = "ä".repeat(64_001);
    problem(
        &say(json!({ "content": long, "agent": "demo" })).await,
        422,
        &["64"],
    );
    problem(
        &say(json!({ "content": "", "agent": "demo" })).await,
        422,
        &["content"],
    );
    problem(
        &say(json!({ "content": "x", "agent": "demo", "contents": 1 })).await,
        422,
        &["contents"],
    );
    let path = "/api/chats/not-an-id/messages";
    let answer = service
        .post(path, json!({ "content": "x", "agent": "demo" }))
        .await;
    problem(&answer, 400, &["not-an-id"]);
    let unknown = format!("/api/chats/{}/messages", uuid::Uuid::now_v7());
    let answer = service
        .post(&unknown, json!({ "content": "x", "agent": "demo" }))
        .await;
    problem(&answer, 404, &[]);
    let task = service.say(&chat, &"ä".repeat(64_000)).await;
    assert_eq!(service.outcome(&task).await, "ok");
}

#[tokio::test]
async fn an_agent_that_is_not_installed_is_an_outcome_with_its_cure() {
    let config = "[agents.ghost]\nprotocol = \"acp\"\ncommand = \"no-such-agent\"\n";
    let service = Service::with_config(Some(config)).await;
    let chat = service.chat().await;
    let task = service.say_to("ghost", &chat, "hello").await;
    let ended = service.ended(&task).await;
    assert_eq!(ended["outcome"], "no_start");
    let detail = ended["outcome_detail"].as_str().unwrap();
    assert!(detail.contains("no-such-agent"), "{detail}");
    let task = service.say(&chat, "say hi").await;
    assert_eq!(service.outcome(&task).await, "ok");
}

#[tokio::test]
async fn all_errors_of_the_settings_are_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let config =
        "listen = \"nowhere\"\nlisten_on = 1\n[agents.x]\nprotocol = \"telepathy\"\ncommand = 3\n";
    std::fs::write(dir.path().join("hearth.toml"), config).unwrap();
    let text = refused(&home, &Database::Embedded, None).await;
    for word in [
        "listen_on",
        "agents.x.protocol",
        "telepathy",
        "agents.x.command",
    ] {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
    assert!(!home.join("pg").exists(), "something was opened");
}

#[tokio::test]
async fn a_port_in_use_and_a_database_that_is_away_stop_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let db = pg::fresh_database().await;
    let shared = Database::Shared(db.url.clone(), Box::new(db.options.clone()));
    let text = refused(&home, &shared, Some(&address)).await;
    assert!(
        text.contains(&address) && text.contains("HEARTH_LISTEN"),
        "{text}"
    );

    let nowhere = "postgres://nobody@127.0.0.1:1/none".to_owned();
    let text = refused(
        &home,
        &Database::Shared(nowhere, Box::new(db.options)),
        None,
    )
    .await;
    assert!(text.contains("database"), "{text}");
}

#[tokio::test]
async fn a_second_hearth_on_the_same_home_is_refused() {
    let service = Service::start().await;
    let db = pg::fresh_database().await;
    let other = Database::Shared(db.url, Box::new(db.options));
    let text = refused(&service.home, &other, None).await;
    assert!(text.contains("another Hearth"), "{text}");
    let chat = service.chat().await;
    let task = service.say(&chat, "say still here").await;
    assert_eq!(service.outcome(&task).await, "ok");
}

#[tokio::test]
async fn a_full_disk_is_an_outcome_with_its_cure_and_passes() {
    // Nobody looks how much is free before: it is met on the way.
    let service = Service::with_config(Some("[worktrees]\nmin_free_mb = 0\n")).await;
    let chat = service.chat().await;
    let worktrees = service.home.join("worktrees");
    let Some(_mount) = small_disk(&worktrees) else {
        panic!("a tmpfs cannot be mounted here: run the tests as root");
    };
    let task = service.say(&chat, "say hi").await;
    let ended = service.ended(&task).await;
    assert_eq!(ended["outcome"], "no_start", "{ended}");
    assert!(
        ended["outcome_detail"].as_str().unwrap().contains("space"),
        "{ended}"
    );
    drop(_mount);
    let task = service.say(&chat, "say hi").await;
    let ended = service.ended(&task).await;
    assert_eq!(ended["outcome"], "ok", "{ended}");
}

/// A file system of a few pages, until it is dropped.
struct Mount(std::path::PathBuf);

fn small_disk(path: &Path) -> Option<Mount> {
    std::fs::create_dir_all(path).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=16k", "tmpfs"])
        .arg(path)
        .status();
    mounted.ok()?.success().then(|| Mount(path.to_owned()))
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .args(["-l"])
            .arg(&self.0)
            .status();
    }
}

/// Starts the service, which must not start; returns its words.
async fn refused(home: &Path, database: &Database, listen: Option<&str>) -> String {
    let mut command = command(home, database);
    if let Some(listen) = listen {
        command.env("HEARTH_LISTEN", listen);
    }
    let run = command
        .arg("serve")
        .stderr(std::process::Stdio::piped())
        .output();
    let output = tokio::time::timeout(super::harness::SOON, run)
        .await
        .expect("it ends")
        .unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}
