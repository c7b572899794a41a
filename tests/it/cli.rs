//! The program as it is typed, against the real routes. The test plays the
//! supervision tree: it writes what an agent would have said.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use hearth::http::state::Tree as _;
use hearth_actors::event::FrameKind;
use hearth_actors::ids::{SessionId, TaskId};
use hearth_actors::tree::board::Snapshot;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use uuid::Uuid;

use super::http::fixture::{Service, TOKEN, service};
use super::support::wait::until;

/// Longest run of a command.
const LIMIT: Duration = Duration::from_secs(20);

struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

fn hearth(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearth"));
    command
        .args(args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("HEARTH_HOME", home)
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

fn client(service: &Service, home: &Path, args: &[&str]) -> Command {
    let mut command = hearth(home, args);
    command
        .env("HEARTH_URL", format!("http://{}", service.address))
        .env("HEARTH_TOKEN", TOKEN);
    command
}

fn start(mut command: Command) -> Child {
    command.spawn().unwrap()
}

async fn ended(child: Child) -> Ended {
    let output = tokio::time::timeout(LIMIT, child.wait_with_output())
        .await
        .expect("the command ends in time")
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

async fn run(command: Command) -> Ended {
    ended(start(command)).await
}

fn committed_repository(path: &Path) {
    let repository = git2::Repository::init(path).unwrap();
    let author = git2::Signature::now("t", "t@example.org").unwrap();
    let tree = repository.index().unwrap().write_tree().unwrap();
    let tree = repository.find_tree(tree).unwrap();
    repository
        .commit(Some("HEAD"), &author, &author, "start", &tree, &[])
        .unwrap();
}

/// Waits for the task that a command posts.
async fn posted(service: &Service) -> (SessionId, TaskId) {
    let begun = std::time::Instant::now();
    loop {
        let row: Option<(Uuid, Uuid)> = sqlx::query_as("select session_id, id from tasks")
            .fetch_optional(service.store.pool())
            .await
            .unwrap();
        if let Some((session, task)) = row {
            return (SessionId(session), TaskId(task));
        }
        assert!(begun.elapsed() < LIMIT, "no task was posted");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn say(service: &Service, session: SessionId, task: TaskId, kind: FrameKind, data: Value) {
    let stored = service
        .store_frames(session, Some(task), &[(kind, data)])
        .await;
    service.tree.hub().publish(stored);
}

#[tokio::test]
async fn a_turn_is_shown_and_its_outcome_is_the_exit_code() {
    for (state, outcome, code) in [("completed", "ok", 0), ("failed", "agent_crashed", 1)] {
        let service = service().await;
        let repository = service.root.join("app");
        committed_repository(&repository);
        let mut command = client(&service, &service.root, &["run", "-a", "demo", "say hi"]);
        command.current_dir(&repository);
        let child = start(command);
        let (session, task) = posted(&service).await;
        let frames = [
            (FrameKind::TaskUpdated, json!({ "state": "running" })),
            (FrameKind::Delta, json!({ "text": "hi " })),
            (FrameKind::Delta, json!({ "text": "there" })),
            (
                FrameKind::ToolCall,
                json!({ "id": "1", "title": "write a.txt" }),
            ),
            (
                FrameKind::ToolResult,
                json!({ "id": "1", "status": "completed" }),
            ),
            (
                FrameKind::TaskUpdated,
                json!({ "state": state, "outcome": outcome }),
            ),
        ];
        sqlx::query(
            "insert into pending_changes(session_id, task_id, file_path, operation, diff)
             values ($1, $2, 'a.txt', 'create', E'@@ -0,0 +1 @@\n+a\n')",
        )
        .bind(session.0)
        .bind(task.0)
        .execute(service.store.pool())
        .await
        .unwrap();
        sqlx::query(
            "insert into worktrees(session_id, path, branch) values ($1, '/srv/tree', 'session-1')",
        )
        .bind(session.0)
        .execute(service.store.pool())
        .await
        .unwrap();
        for (kind, data) in frames {
            say(&service, session, task, kind, data).await;
        }
        let ended = ended(child).await;
        assert_eq!(ended.code, Some(code), "{}", ended.err);
        assert_eq!(ended.out, "hi there\n");
        for told in [
            "✓ write a.txt",
            "1 file changed in /srv/tree",
            "create a.txt  +1 -0",
            "hearth run --session",
        ] {
            assert!(ended.err.contains(told), "{told}: {}", ended.err);
        }
        assert!(!ended.err.contains('\x1b'), "plain where nobody looks");
        let (_, session) = service.get(&format!("/api/sessions/{session}")).await;
        assert_eq!(session["name"], "say hi");
    }
}

#[tokio::test]
async fn frames_come_as_json_lines_with_the_result_last() {
    let service = service().await;
    let repository = service.root.join("app");
    committed_repository(&repository);
    let mut command = client(
        &service,
        &service.root,
        &["run", "-a", "demo", "--json", "-"],
    );
    command.current_dir(&repository).stdin(Stdio::piped());
    let mut child = start(command);
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"from a pipe").await.unwrap();
    drop(input);
    let (session, task) = posted(&service).await;
    say(
        &service,
        session,
        task,
        FrameKind::Delta,
        json!({ "text": "hi" }),
    )
    .await;
    let over = json!({ "state": "completed", "outcome": "ok" });
    say(&service, session, task, FrameKind::TaskUpdated, over).await;
    let ended = ended(child).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let lines: Vec<Value> = ended
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<&str> = lines
        .iter()
        .map(|line| line["type"].as_str().unwrap())
        .collect();
    assert!(
        kinds.ends_with(&["delta", "task_updated", "result"]),
        "{kinds:?}"
    );
    assert_eq!(lines.last().unwrap()["outcome"], "ok");
    let warned = ended.err.lines().all(|line| line.starts_with("! "));
    assert!(warned, "no progress is shown: {}", ended.err);
    let (_, task) = service.get(&format!("/api/tasks/{task}")).await;
    assert_eq!(task["input"], "from a pipe");
}

#[tokio::test]
async fn ctrl_c_cancels_the_turn_and_a_second_one_leaves() {
    let service = service().await;
    let repository = service.root.join("app");
    committed_repository(&repository);
    let mut command = client(&service, &service.root, &["run", "-a", "demo", "wait"]);
    command.current_dir(&repository);
    let child = start(command);
    let (session, task) = posted(&service).await;
    // The turn runs, so that cancelling it takes the tree.
    lease(&service, session, task).await;
    say(
        &service,
        session,
        task,
        FrameKind::TaskUpdated,
        json!({ "state": "running" }),
    )
    .await;
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    let cancels = || service.tree.asked(|asked| asked.cancels.clone());
    until("the tree is asked to cancel", LIMIT, cancels, |cancels| {
        *cancels == [task]
    })
    .await;
    kill(pid, Signal::SIGINT).unwrap();
    let ended = ended(child).await;
    assert_eq!(ended.code, Some(130), "{}", ended.err);
    assert!(ended.err.contains("cancelling"), "{}", ended.err);
}

/// What a claim would have written.
async fn lease(service: &Service, session: SessionId, task: TaskId) {
    let node = Uuid::now_v7();
    sqlx::query("insert into hearth.nodes(id, name, version) values ($1, 'n', '0')")
        .bind(node)
        .execute(service.store.pool())
        .await
        .unwrap();
    sqlx::query(
        "insert into hearth.turns(id, task_id, session_id, attempt, node, incarnation, agent,
            user_message_id, assistant_message_id, claim_id)
         values ($1, $2, $3, 1, $4, 1, 'demo', $1, $1, $1)",
    )
    .bind(Uuid::now_v7())
    .bind(task.0)
    .bind(session.0)
    .bind(node)
    .execute(service.store.pool())
    .await
    .unwrap();
    sqlx::query("update tasks set state = 'running' where id = $1")
        .bind(task.0)
        .execute(service.store.pool())
        .await
        .unwrap();
}

#[tokio::test]
async fn what_is_wrong_is_said_with_its_cure_and_a_code() {
    let service = service().await;
    let home = tempfile::tempdir().unwrap();
    let unborn = home.path().join("unborn");
    git2::Repository::init(&unborn).unwrap();
    let mut in_unborn = client(&service, home.path(), &["run", "x"]);
    in_unborn.current_dir(&unborn);
    let repository = service.root.join("app");
    committed_repository(&repository);
    let in_repository = |args: &[&str]| {
        let mut command = client(&service, home.path(), args);
        command.current_dir(&repository);
        command
    };
    let mut gone = hearth(home.path(), &["ls"]);
    gone.env("HEARTH_URL", "http://127.0.0.1:1");
    let mut wrong_token = in_repository(&["ls"]);
    wrong_token.env("HEARTH_TOKEN", "wrong-wrong-wrong-wrong");
    let mut bad_settings = hearth(home.path(), &["serve", "--listen", "nowhere"]);
    bad_settings.env("AGENT_POOL_MAX_LIVE", "many");
    for (name, command, code, said) in [
        (
            "outside a repository",
            client(&service, home.path(), &["run", "x"]),
            2,
            "cure: go to one, or make one: git init",
        ),
        ("no commit", in_unborn, 2, "has no commit yet"),
        (
            "no agent",
            in_repository(&["run", "x"]),
            2,
            "which agent? known: demo, goose",
        ),
        (
            "unknown agent",
            in_repository(&["run", "-a", "hal", "x"]),
            2,
            "`hal` is not configured",
        ),
        (
            "empty prompt",
            in_repository(&["run", "-a", "demo", ""]),
            2,
            "the prompt is empty",
        ),
        (
            "unknown session",
            in_repository(&["run", "-a", "demo", "-s", &Uuid::nil().to_string(), "x"]),
            2,
            "there is no session",
        ),
        (
            "no such flag",
            hearth(home.path(), &["run", "--colour", "x"]),
            2,
            "--colour",
        ),
        (
            "no service",
            hearth(home.path(), &["ls"]),
            3,
            "cure: start one with `hearth serve`",
        ),
        ("no service there", gone, 3, "correct HEARTH_URL"),
        ("wrong token", wrong_token, 3, "the token is not ours"),
        (
            "bad settings",
            bad_settings,
            2,
            "AGENT_POOL_MAX_LIVE: `many` is not a whole number",
        ),
    ] {
        let ended = run(command).await;
        assert_eq!(ended.code, Some(code), "{name}: {}", ended.err);
        assert!(ended.err.contains(said), "{name}: {}", ended.err);
        assert_eq!(ended.out, "", "{name}");
    }
}

/// A data directory whose service answers at `url`.
fn home_of(url: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let file = json!({ "url": url, "pid": 1, "started_at": "2026-01-01T00:00:00Z" });
    std::fs::write(home.path().join("service.json"), file.to_string()).unwrap();
    let token = home.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    home
}

#[tokio::test]
async fn what_a_dead_service_left_gives_the_token_to_nobody() {
    // It answers whatever it is asked, like somebody who took the port over.
    let stranger = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", stranger.local_addr().unwrap());
    let asked = tokio::spawn(async move {
        loop {
            let (mut stream, _) = stranger.accept().await.unwrap();
            let mut head = vec![0; 4096];
            let read = tokio::io::AsyncReadExt::read(&mut stream, &mut head)
                .await
                .unwrap();
            let head = String::from_utf8_lossy(&head[..read]).to_ascii_lowercase();
            if head.contains("authorization") {
                return head;
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
            stream.write_all(answer).await.unwrap();
        }
    });
    let home = home_of(&url);
    // The lock's file outlives its holder.
    std::fs::write(home.path().join("lock"), "").unwrap();
    let ended = run(hearth(home.path(), &["ls"])).await;
    assert_eq!(ended.code, Some(3), "{}{}", ended.out, ended.err);
    assert!(ended.err.contains("no service runs"), "{}", ended.err);
    assert!(
        !asked.is_finished(),
        "the token was sent: {:?}",
        asked.await
    );
}

#[tokio::test]
async fn a_run_waits_for_another_one_that_takes_long_to_start() {
    let service = service().await;
    let repository = service.root.join("app");
    committed_repository(&repository);
    let home = home_of(&format!("http://{}", service.address));
    let ready = home.path().join("service.json");
    let early = home.path().join("service.later");
    std::fs::rename(&ready, &early).unwrap();
    let lock = std::fs::File::create(home.path().join("lock")).unwrap();
    lock.lock().unwrap();
    let mut command = hearth(home.path(), &["run", "-a", "demo", "hi"]);
    command.current_dir(&repository);
    let mut child = start(command);
    // Longer than a port takes to open, shorter than a database to be made.
    let waited = tokio::time::timeout(Duration::from_secs(6), child.wait()).await;
    assert!(waited.is_err(), "it gave up: {waited:?}");
    std::fs::rename(&early, &ready).unwrap();
    let (session, task) = posted(&service).await;
    let over = json!({ "state": "completed", "outcome": "ok" });
    say(&service, session, task, FrameKind::TaskUpdated, over).await;
    let ended = ended(child).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
}

#[tokio::test]
async fn the_tree_and_the_sessions_are_printed() {
    let service = service().await;
    let snapshot = Snapshot {
        kind: "root".into(),
        name: "root".into(),
        state: "up".into(),
        ..Snapshot::default()
    };
    service.tree.board().put(&["root"], snapshot);
    let (session, task) = service.task().await;
    sqlx::query("update tasks set agent = 'hal' where id = $1")
        .bind(task.0)
        .execute(service.store.pool())
        .await
        .unwrap();
    let home = tempfile::tempdir().unwrap();
    let tree = run(client(&service, home.path(), &["tree"])).await;
    assert!(
        tree.out.starts_with("root  up "),
        "{}{}",
        tree.out,
        tree.err
    );
    let json = run(client(&service, home.path(), &["tree", "--json"])).await;
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["state"], "up");
    let list = run(client(&service, home.path(), &["ls"])).await;
    assert!(
        list.out.contains(&format!("{session}  queued")),
        "{}{}",
        list.out,
        list.err
    );
    assert!(
        list.out
            .contains("waits for an agent that is not configured: hal"),
        "{}",
        list.out
    );
    let json = run(client(&service, home.path(), &["ls", "--json"])).await;
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["sessions"][0]["state"], "queued");
    assert_eq!(json["stuck"][0]["agent"], "hal");
}

#[tokio::test]
async fn a_watched_tree_follows_changes_until_it_is_told_to_stop() {
    let service = service().await;
    let home = tempfile::tempdir().unwrap();
    let mut child = start(client(
        &service,
        home.path(),
        &["tree", "--watch", "--json"],
    ));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut line = async || {
        let line = tokio::time::timeout(LIMIT, lines.next_line()).await;
        line.expect("a line in time").unwrap().expect("more lines")
    };
    assert_eq!(line().await, "null");
    for state in ["up", "down"] {
        let snapshot = Snapshot {
            state: state.into(),
            ..Snapshot::default()
        };
        service.tree.board().put(&["root"], snapshot);
        let seen: Value = serde_json::from_str(&line().await).unwrap();
        assert_eq!(seen["state"], state);
    }
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    assert_eq!(ended(child).await.code, Some(0));
}

#[tokio::test]
async fn the_doctor_names_what_is_wrong_and_its_cure() {
    let home = tempfile::tempdir().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let token = home.path().join("token");
    std::fs::write(&token, "0123456789abcdef").unwrap();
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let mut command = hearth(home.path(), &["doctor", "--json"]);
    command.env("HEARTH_LISTEN", address.to_string());
    let ended = run(command).await;
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    let failures: Vec<&str> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|found| found["level"] == "failure")
        .map(|found| found["check"].as_str().unwrap())
        .collect();
    assert_eq!(failures, ["token", "service"], "{report}");
    for found in report["findings"].as_array().unwrap() {
        let cured = found["level"] == "ok" || found["cure"].is_string();
        assert!(cured, "{found}");
    }
    drop(listener);
    std::fs::remove_file(&token).unwrap();
    let mut command = hearth(home.path(), &["doctor"]);
    command.env("HEARTH_LISTEN", address.to_string());
    let ended = run(command).await;
    assert_eq!(ended.code, Some(0), "{}", ended.out);
    assert!(ended.out.contains("✓ git"), "{}", ended.out);
}
