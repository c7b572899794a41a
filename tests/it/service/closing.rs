//! Sessions that are closed, deleted and reaped, over HTTP and at the command line.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::harness::{Chat, Service, command, git};
use super::review::{checkout, delete, turn, worktree};

async fn close(service: &Service, chat: &Chat) -> Value {
    let path = format!("/api/sessions/{}/close", chat.session);
    let (status, closed) = service.post(&path, json!({})).await;
    assert_eq!(status, 200, "{closed}");
    closed
}

fn commit(at: &Path, message: &str) {
    git(at, &["add", "-A"]);
    git(
        at,
        &[
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@t",
            "commit",
            "-qm",
            message,
        ],
    );
}

#[tokio::test]
async fn a_closed_session_ends_and_a_message_opens_it_again_at_the_same_path() {
    let service = Service::start().await;
    let chat = service.chat().await;
    turn(&service, &chat, "create a.txt with one").await;
    let path = worktree(&service, &chat).await;
    let running = service.say(&chat, "wait 60s").await;
    service.state(&chat, "running").await;
    let waiting = service.say(&chat, "say later").await;
    let closed = close(&service, &chat).await;
    assert_eq!(
        (&closed["cancelled"], &closed["interrupted"]),
        (&json!(1), &json!(1)),
        "{closed}"
    );
    assert_eq!(closed["worktree"], "kept", "{closed}");
    assert_eq!(
        closed["risk"]["untracked"]["names"],
        json!(["a.txt"]),
        "{closed}"
    );
    for task in [&running, &waiting] {
        assert_eq!(service.ended(task).await["state"], "cancelled");
    }
    let again = close(&service, &chat).await;
    assert_eq!(again["cancelled"], 0, "{again}");

    // Merged and committed where it belongs, nothing would be lost.
    let project = checkout(&service, &chat).await;
    std::fs::copy(path.join("a.txt"), project.join("a.txt")).unwrap();
    commit(&project, "a");
    let closed = close(&service, &chat).await;
    assert_eq!(closed["worktree"], "archived", "{closed}");
    assert!(!path.exists());
    let shown = service
        .get(&format!("/api/sessions/{}", chat.session))
        .await;
    assert!(shown["closed_at"].is_string(), "{shown}");

    turn(&service, &chat, "append a.txt with two").await;
    assert_eq!(worktree(&service, &chat).await, path);
    let text = std::fs::read_to_string(path.join("a.txt")).unwrap();
    assert!(text.contains("one") && text.contains("two"), "{text}");
    let shown = service
        .get(&format!("/api/sessions/{}", chat.session))
        .await;
    assert!(shown["closed_at"].is_null(), "{shown}");
}

#[tokio::test]
async fn a_closed_chat_withdraws_what_it_asks_and_leaves_the_others() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let other = Chat {
        id: super::harness::id_of(
            &service
                .post(&format!("/api/sessions/{}/chats", chat.session), json!({}))
                .await
                .1,
        ),
        session: chat.session.clone(),
    };
    let task = service.say(&chat, "ask may I?").await;
    service
        .until("an open prompt", async || {
            let prompts = service.get("/api/prompts?state=open").await;
            match prompts["items"].as_array().map(Vec::len) {
                Some(1) => Ok(()),
                _ => Err(prompts),
            }
        })
        .await;
    for _ in 0..2 {
        let path = format!("/api/chats/{}/close", chat.id);
        let (status, closed) = service.post(&path, json!({})).await;
        assert_eq!(status, 200, "{closed}");
    }
    assert_eq!(service.ended(&task).await["state"], "cancelled");
    let prompts = service.get(&format!("/api/prompts?task_id={task}")).await;
    assert_eq!(prompts["items"][0]["state"], "cancelled", "{prompts}");
    turn(&service, &other, "say hello").await;
    let (status, problem) = service
        .post(
            &format!("/api/chats/{}/close", uuid::Uuid::now_v7()),
            json!({}),
        )
        .await;
    assert_eq!(
        (status, &problem["code"]),
        (404, &json!("not_found")),
        "{problem}"
    );
}

#[tokio::test]
async fn a_session_with_work_is_deleted_by_force_alone_and_its_bytes_come_back() {
    let service = Service::start().await;
    let chat = service.chat().await;
    turn(&service, &chat, "create a.txt with one").await;
    let path = worktree(&service, &chat).await;
    std::fs::write(path.join("b.bin"), [0, 1, 2, 255]).unwrap();
    let risk = service
        .get(&format!("/api/sessions/{}/worktree-risk", chat.session))
        .await;
    assert_eq!(risk["at_risk"], true, "{risk}");
    let (status, problem) = delete(&service, &chat, "").await;
    assert_eq!(
        (status, &problem["code"]),
        (409, &json!("worktree_at_risk")),
        "{problem}"
    );
    assert_eq!(problem["risk"]["untracked"]["total"], 2, "{problem}");
    assert!(path.join("b.bin").exists());
    let shown = service
        .get(&format!("/api/sessions/{}", chat.session))
        .await;
    assert!(
        shown["closed_at"].is_null(),
        "a refusal changes nothing: {shown}"
    );

    let failed = service.say(&chat, "crash").await;
    assert_eq!(service.outcome(&failed).await, "agent_crashed");
    let inbox = async || service.get("/api/inbox").await["items"].to_string();
    assert!(inbox().await.contains(&failed));

    // A turn is no obstacle to who insists.
    service.say(&chat, "wait 60s").await;
    service.state(&chat, "running").await;
    let (status, problem) = delete(&service, &chat, "").await;
    assert_eq!(
        (status, &problem["code"]),
        (409, &json!("worktree_busy")),
        "{problem}"
    );
    let (status, deleted) = delete(&service, &chat, "force=true").await;
    assert_eq!(status, 200, "{deleted}");
    assert!(!path.exists());
    assert!(!inbox().await.contains(&failed), "nobody can try it again");
    let kept = deleted["kept_as"].as_str().unwrap();
    let projects = service.get("/api/projects").await;
    let project = PathBuf::from(projects["items"][0]["path"].as_str().unwrap());
    assert_eq!(
        git(&project, &["show", &format!("{kept}:a.txt")]).trim(),
        "one"
    );
    let bytes = std::process::Command::new("git")
        .arg("-C")
        .arg(&project)
        .args(["show", &format!("{kept}:b.bin")])
        .output()
        .unwrap();
    assert_eq!(bytes.stdout, [0, 1, 2, 255]);

    assert_eq!(
        service
            .get(&format!("/api/sessions/{}", chat.session))
            .await["status"],
        404
    );
    let body = json!({ "content": "say x", "agent": "demo" });
    let (status, problem) = service
        .post(&format!("/api/chats/{}/messages", chat.id), body)
        .await;
    assert!((400..500).contains(&status), "{status} {problem}");
    assert_eq!(delete(&service, &chat, "").await.0, 404);
    // By plain SQL neither.
    let refused = sqlx::query("insert into tasks (project_id, session_id, input) select project_id, id, 'x' from sessions where id = $1::uuid")
        .bind(&chat.session)
        .execute(&service.pool().await)
        .await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn a_stash_is_the_way_out_and_the_command_line_knows_it() {
    let service = Service::start().await;
    let chat = service.chat().await;
    turn(&service, &chat, "create a.txt with one").await;
    let path = worktree(&service, &chat).await;
    let run = async |words: &[&str]| {
        let mut command = command(&service.home, &service.database());
        let done = command
            .args(words)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .output()
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        let error = String::from_utf8_lossy(&done.stderr).into_owned();
        (done.status.code().unwrap_or(-1), text + &error)
    };
    let (code, told) = run(&["rm", &chat.session]).await;
    assert_eq!(code, 6, "{told}");
    assert!(told.contains("--force"), "{told}");
    let (code, told) = run(&["rm", &chat.session, "--dry-run"]).await;
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("1 untracked: a.txt"), "{told}");
    let (code, told) = run(&["stash", &chat.session]).await;
    assert_eq!(code, 0, "{told}");
    assert!(told.starts_with("stashed 1 file;"), "{told}");
    assert!(!path.join("a.txt").exists());
    let project = checkout(&service, &chat).await;
    let (code, told) = run(&["stash", &chat.session]).await;
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("nothing to stash"), "{told}");
    assert_eq!(git(&project, &["stash", "list"]).lines().count(), 1);
    let pending = service
        .get(&format!("/api/sessions/{}/pending", chat.session))
        .await;
    assert_eq!(pending["items"], json!([]), "{pending}");
    let (code, told) = run(&["close", &chat.session]).await;
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("archived"), "{told}");
    let (code, told) = run(&["reap", "--dry-run"]).await;
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("nothing to do"), "{told}");
    // The conversation goes on, too.
    let (code, told) = run(&["send", &chat.session, "--agent", "demo", "recall"]).await;
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("1 earlier"), "{told}");
    let (code, told) = run(&["rm", &chat.session]).await;
    assert_eq!(code, 0, "{told}");
}

#[tokio::test]
async fn the_reaper_tells_what_it_would_do_and_does_that() {
    let service = Service::start().await;
    let (idle, dirty) = (service.chat().await, service.chat().await);
    turn(&service, &idle, "say x").await;
    turn(&service, &dirty, "create a.txt with one").await;
    let (clean_at, dirty_at) = (
        worktree(&service, &idle).await,
        worktree(&service, &dirty).await,
    );
    let pool = service.pool().await;
    // Four days pass.
    for statement in [
        "update worktrees set created_at = created_at - interval '4 days'",
        "update hearth.worktrees set updated_at = updated_at - interval '4 days'",
        "update hearth.turns set claimed_at = claimed_at - interval '4 days', ended_at = ended_at - interval '4 days'",
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    let (status, dry) = service.post("/api/reap?dry_run=true", json!({})).await;
    assert_eq!(status, 200, "{dry}");
    assert!(clean_at.exists() && dirty_at.exists());
    let (status, report) = service.post("/api/reap", json!({})).await;
    assert_eq!(status, 200, "{report}");
    let fates = |report: &Value| {
        let mut fates: Vec<(String, String)> = report["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| {
                (
                    item["path"].as_str().unwrap().to_owned(),
                    item["fate"].as_str().unwrap().to_owned(),
                )
            })
            .collect();
        fates.sort();
        fates
    };
    let mut wanted = vec![
        (clean_at.display().to_string(), "done".to_owned()),
        (dirty_at.display().to_string(), "kept".to_owned()),
    ];
    wanted.sort();
    assert_eq!(fates(&dry), wanted, "{dry}");
    assert_eq!(fates(&report), wanted, "{report}");
    assert!(!clean_at.exists() && dirty_at.join("a.txt").exists());
    let inbox = service.get("/api/inbox").await;
    let notice = inbox["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item["reason"] == "kept_worktree")
        .unwrap_or_else(|| panic!("{inbox}"));
    assert!(
        notice["detail"].as_str().unwrap().contains("a.txt"),
        "{notice}"
    );
    turn(&service, &idle, "say again").await;
    assert!(clean_at.exists(), "made again at its path");
}

/// Hearth dies while worktrees go: each is whole, or gone with all it held kept.
#[tokio::test]
async fn a_deletion_that_was_cut_off_is_ended_by_the_next_start() {
    let mut service = Service::start().await;
    let chat = service.chat().await;
    turn(&service, &chat, "create a.txt with one").await;
    let path = worktree(&service, &chat).await;
    for n in 0..800 {
        std::fs::write(path.join(format!("f{n}")), vec![b'x'; 2000]).unwrap();
    }
    let url = format!("{}/api/sessions/{}?force=true", service.url(), chat.session);
    let token = service.token().to_owned();
    let asked = tokio::spawn(async move {
        let client = reqwest::Client::new();
        let _ = client.delete(url).bearer_auth(token).send().await;
    });
    let pool = service.pool().await;
    service
        .until("an intent", async || {
            let state: Option<String> =
                sqlx::query_scalar("select state from hearth.operations where kind = 'archive'")
                    .fetch_optional(&pool)
                    .await
                    .unwrap();
            match state.as_deref() {
                Some("intended" | "done") => Ok(()),
                other => Err(other.map(str::to_owned)),
            }
        })
        .await;
    service.kill().await;
    asked.abort();
    let service = service.again().await;
    service
        .until("the end of it", async || {
            let open: i64 = sqlx::query_scalar(
                "select count(*) from hearth.operations where not settled or ended_at is null",
            )
            .fetch_one(&pool)
            .await
            .unwrap();
            (open == 0).then_some(()).ok_or(open)
        })
        .await;
    let gone = service
        .get(&format!("/api/sessions/{}", chat.session))
        .await;
    let projects = service.get("/api/projects").await;
    let project = PathBuf::from(projects["items"][0]["path"].as_str().unwrap());
    let id: uuid::Uuid = sqlx::query_scalar("select id from worktrees")
        .fetch_one(&pool)
        .await
        .unwrap();
    if gone["status"] == 404 {
        assert!(!path.exists());
        let kept = format!("refs/hearth/deleted/{id}");
        let names = git(&project, &["ls-tree", "-r", "--name-only", &kept]);
        assert_eq!(
            names.lines().filter(|name| name.starts_with('f')).count(),
            800
        );
    } else {
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 803);
    }
    let beside = std::fs::read_dir(path.parent().unwrap()).unwrap().flatten();
    let left: Vec<_> = beside
        .filter(|entry| entry.file_name().to_string_lossy().starts_with('.'))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
