//! Worktrees that need something first: room on the disk, trust, a script.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::harness::{Service, command};
use super::review::{changes, checkout, delete, turn, worktree};

const FILE: &str = ".hearth/worktree.toml";

async fn parked(service: &Service, task: &str, reason: &str) -> Value {
    service
        .until("a parked task in the inbox", async || {
            let row = service.get(&format!("/api/tasks/{task}")).await;
            let inbox = service.get("/api/inbox").await;
            let items = inbox["items"].as_array().cloned().unwrap_or_default();
            let item = items.into_iter().find(|item| item["reason"] == reason);
            match item {
                Some(item) if row["state"] == "pending" && row["parked_reason"] == reason => {
                    Ok(item)
                }
                _ => Err(row),
            }
        })
        .await
}

fn write(project: &Path, text: &str) {
    std::fs::create_dir_all(project.join(".hearth")).unwrap();
    std::fs::write(project.join(FILE), text).unwrap();
}

async fn setup(service: &Service, project: &Path, words: &[&str]) -> (i32, String) {
    let done = command(&service.home, &service.database())
        .arg("setup")
        .args(words)
        .arg("--project")
        .arg(project)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .await
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = done.status.code().unwrap_or(-1);
    (code, text(&done.stdout) + &text(&done.stderr))
}

/// A small disk for the worktrees of a service, gone with the value.
struct SmallDisk(PathBuf);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[tokio::test]
async fn a_task_waits_for_room_on_the_disk_and_runs_when_there_is_some() {
    let service = Service::with_config(Some("[worktrees]\nmin_free_mb = 16\n")).await;
    let home = service.home.join("worktrees");
    std::fs::create_dir_all(&home).unwrap();
    let args = ["-t", "tmpfs", "-o", "size=32m", "tmpfs"];
    let mounted = Command::new("mount").args(args).arg(&home).status();
    assert!(
        mounted.is_ok_and(|status| status.success()),
        "this test wants root"
    );
    let _disk = SmallDisk(home.clone());
    let warm = service.chat().await;
    turn(&service, &warm, "say hello").await;
    std::fs::write(home.join("ballast"), vec![1; 24 << 20]).unwrap();
    let project = checkout(&service, &warm).await;
    let projects = service.get("/api/projects").await;
    let id = projects["items"][0]["id"].as_str().unwrap().to_owned();
    let cold = service.chat_of(&id).await;
    let task = service.say(&cold, "say later").await;
    let item = parked(&service, &task, "disk_low").await;
    let detail = item["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("HEARTH_WORKTREES_MIN_FREE_MB"), "{item}");
    assert!(detail.contains(home.to_str().unwrap()), "{item}");
    turn(&service, &warm, "say still here").await;
    let branches = super::harness::git(&project, &["branch", "--list", "session-*"]);
    assert_eq!(
        branches.lines().count(),
        1,
        "nothing of it was begun: {branches}"
    );
    std::fs::remove_file(home.join("ballast")).unwrap();
    let id = item["id"].as_str().unwrap();
    let (status, tried) = service
        .post(&format!("/api/inbox/{id}/retry"), json!({}))
        .await;
    assert_eq!(status, 200, "{tried}");
    assert_eq!(service.outcome(&task).await, "ok");
}

#[tokio::test]
async fn a_set_up_runs_when_it_is_trusted_and_before_the_prompt() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let project = checkout(&service, &chat).await;
    let (code, told) = setup(&service, &project, &[]).await;
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("not set up"), "{told}");
    std::fs::write(project.join(".env"), "KEY=1\n").unwrap();
    write(
        &project,
        "copy = [\".env\"]\nsetup = \"\"\"\nsleep 1\necho $HEARTH_PORT $HEARTH_PROJECT > made.txt\n\"\"\"\nteardown = \"cp made.txt $HEARTH_WORKTREE/../torn.txt\"\n",
    );
    let task = service
        .say(&chat, "run cat made.txt .env; echo port=$HEARTH_PORT")
        .await;
    let item = parked(&service, &task, "set_up").await;
    assert!(
        item["detail"].as_str().unwrap().contains("hearth setup"),
        "{item}"
    );
    let (code, told) = setup(&service, &project, &["--trust"]).await;
    assert_eq!(code, 0, "{told}");
    assert!(
        told.contains("is trusted") && told.contains("1 task"),
        "{told}"
    );
    let ended = service.ended(&task).await;
    assert_eq!(ended["outcome"], "ok", "{ended}");
    let made = worktree(&service, &chat).await;
    let text = std::fs::read_to_string(made.join("made.txt")).expect("made by the script");
    let port = text.split(' ').next().unwrap().to_owned();
    assert_eq!(text.trim(), format!("{port} {}", project.display()));
    assert!(
        (20_000..32_000).contains(&port.parse::<u16>().expect("a port")),
        "{text}"
    );
    // The agent saw all of it, and has the same block.
    let frames = service.stored_frames(&chat.session, "tool_result").await;
    let told = format!("{frames:?}{:?}", service.answers(&chat).await);
    assert!(
        told.contains("KEY=1") && told.contains(&format!("port={port}")),
        "{told}"
    );
    let pending = changes(&service, &chat, "all").await;
    assert!(pending.is_empty(), "a set-up is no work: {pending:?}");

    // Its leftovers are untracked: deleting is asked for twice, and the teardown runs.
    let (status, problem) = delete(&service, &chat, "force=false").await;
    assert_eq!(
        (status, &problem["code"]),
        (409, &json!("worktree_at_risk")),
        "{problem}"
    );
    assert!(
        !made.with_file_name("torn.txt").exists(),
        "not before it goes"
    );
    let (status, deleted) = delete(&service, &chat, "force=true").await;
    assert_eq!(status, 200, "{deleted}");
    let torn = std::fs::read_to_string(made.with_file_name("torn.txt"));
    assert_eq!(torn.expect("the teardown ran"), text);
}

#[tokio::test]
async fn changed_content_is_not_trusted_and_a_decision_is_about_what_was_seen() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let project = checkout(&service, &chat).await;
    write(&project, "setup = \"true\"\n");
    let session = service
        .get(&format!("/api/sessions/{}", chat.session))
        .await;
    let path = format!(
        "/api/projects/{}/worktree-setup",
        session["project_id"].as_str().unwrap()
    );
    let seen = service.get(&path).await;
    assert_eq!(seen["state"], "undecided", "{seen}");
    write(&project, "setup = \"touch evil\"\n");
    let put = async |body: Value| {
        let client = reqwest::Client::new();
        let request = client.put(format!("{}{path}", service.url()));
        let answer = request
            .bearer_auth(service.token())
            .json(&body)
            .send()
            .await
            .unwrap();
        (
            answer.status().as_u16(),
            answer.json::<Value>().await.unwrap(),
        )
    };
    let (status, problem) = put(json!({ "hash": seen["hash"], "consent": "trusted" })).await;
    assert_eq!(
        (status, &problem["code"]),
        (409, &json!("setup_changed")),
        "{problem}"
    );
    let hash = seen["hash"].as_str().unwrap();
    let (code, told) = setup(&service, &project, &["--trust", &hash[..12]]).await;
    assert!(code != 0 && told.contains("look at it again"), "{told}");
    let task = service.say(&chat, "say hello").await;
    parked(&service, &task, "set_up").await;
    let (code, told) = setup(&service, &project, &["--refuse"]).await;
    assert_eq!(code, 0, "{told}");
    assert_eq!(service.outcome(&task).await, "ok");
    assert!(!worktree(&service, &chat).await.join("evil").exists());
    let (status, problem) = put(json!({ "hash": "x", "consent": "perhaps" })).await;
    assert!((400..500).contains(&status), "{problem}");
}

#[tokio::test]
async fn no_prompt_leaves_behind_a_failed_set_up_and_a_teardown_has_its_own_consent() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let project = checkout(&service, &chat).await;
    write(
        &project,
        "setup = \"echo before; echo the reason >&2; exit 3\"\n",
    );
    let (code, told) = setup(&service, &project, &["--trust"]).await;
    assert_eq!(code, 0, "{told}");
    let task = service.say(&chat, "create a.txt with one").await;
    let ended = service.ended(&task).await;
    assert_eq!(ended["outcome"], "no_start", "{ended}");
    let detail = ended["outcome_detail"].as_str().unwrap();
    assert!(
        detail.contains("code 3") && detail.contains("the reason"),
        "{detail}"
    );
    let inbox = service.get("/api/inbox").await;
    let item = &inbox["items"][0];
    assert_eq!(item["task_id"], json!(task), "{inbox}");
    let log = detail
        .split("its log: ")
        .nth(1)
        .and_then(|rest| rest.split(')').next());
    let log = std::fs::read_to_string(log.expect("a path")).expect("a log");
    assert!(
        log.contains("before") && log.contains("the reason"),
        "{log}"
    );

    write(&project, "setup = \"true\"\nteardown = \"exit 9\"\n");
    setup(&service, &project, &["--trust"]).await;
    let id = item["id"].as_str().unwrap();
    let (status, again) = service
        .post(&format!("/api/inbox/{id}/retry"), json!({}))
        .await;
    assert!((200..300).contains(&status), "{again}");
    let again = again["task_id"].as_str().unwrap().to_owned();
    assert_eq!(service.outcome(&again).await, "ok");
    let made = worktree(&service, &chat).await;
    assert!(made.join("a.txt").exists());

    let (status, problem) = delete(&service, &chat, "force=true").await;
    assert_eq!(
        (status, &problem["code"]),
        (409, &json!("teardown_failed")),
        "{problem}"
    );
    assert!(made.join("a.txt").exists());
    let (status, problem) = delete(&service, &chat, "skip_teardown=true").await;
    assert_eq!(
        (status, &problem["code"]),
        (409, &json!("worktree_at_risk")),
        "{problem}"
    );
    let (status, deleted) = delete(&service, &chat, "force=true&skip_teardown=true").await;
    assert_eq!(status, 200, "{deleted}");
    assert!(!made.exists());
}
