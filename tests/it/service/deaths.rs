//! `kill -9` of everything there is.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::harness::{Chat, Database, Service, id_of, signal};
use super::review::changes;

/// A turn whose tool left a process of its own session behind and runs on.
async fn busy(service: &Service) -> (Chat, String) {
    let chat = service.chat().await;
    let first = service.say(&chat, "say the word is tamarind").await;
    assert_eq!(service.outcome(&first).await, "ok");
    let task = service
        .say(
            &chat,
            "leak\ncreate half.txt with 1\nrun setsid sleep 600 & sleep 600",
        )
        .await;
    service.state(&chat, "running").await;
    service
        .until("the tool's processes", async || {
            let count = service.processes().len();
            if count >= 4 { Ok(()) } else { Err(count) }
        })
        .await;
    (chat, task)
}

async fn nothing_lives(service: &Service, within: Duration) {
    let killed = Instant::now();
    loop {
        let alive = service.processes();
        if alive.is_empty() {
            return;
        }
        assert!(
            killed.elapsed() < within,
            "still alive after {within:?}: {alive:?}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn the_chat_goes_on(service: &Service, chat: &Chat) {
    let next = service.say(chat, "recall").await;
    let ended = service.ended(&next).await;
    assert_eq!(ended["outcome"], "ok", "{ended}");
    let answers = service.answers(chat).await;
    assert!(answers.last().unwrap().contains("tamarind"), "{answers:?}");
}

#[tokio::test]
async fn hearth_killed_leaves_no_process_and_says_interrupted() {
    let mut service = Service::start().await;
    let (chat, task) = busy(&service).await;
    service.kill().await;
    nothing_lives(&service, Duration::from_secs(1)).await;
    let service = service.again().await;
    assert_eq!(service.outcome(&task).await, "interrupted");
    // The start looked at what it left: no turn has run since.
    let left = service
        .until("what it left is a change of its task", async || {
            let rows = changes(&service, &chat, "pending").await;
            let told = |row: &Value| json!([row["file_path"], row["task_id"], row["agent"]]);
            let rows: Vec<Value> = rows.iter().map(told).collect();
            if rows.is_empty() { Err(()) } else { Ok(rows) }
        })
        .await;
    assert_eq!(left, [json!(["half.txt", task, "demo"])]);
    the_chat_goes_on(&service, &chat).await;
}

/// Its processes stand in a directory that is gone, whatever is made at its path.
#[tokio::test]
async fn agents_whose_worktree_was_deleted_go_on_in_the_one_that_is_made_again() {
    let service = Service::start().await;
    let chat = service.chat().await;
    let path = format!("/api/sessions/{}/chats", chat.session);
    let (status, made) = service.post(&path, json!({"name": "second"})).await;
    assert_eq!(status, 201, "{made}");
    let second = Chat {
        id: id_of(&made),
        session: chat.session.clone(),
    };
    let mut pids = Vec::new();
    for chat in [&chat, &second] {
        let task = service.say(chat, "say the word is tamarind").await;
        assert_eq!(service.outcome(&task).await, "ok");
        pids.push(service.agent_pid(chat).await);
    }
    let session = service
        .get(&format!("/api/sessions/{}", chat.session))
        .await;
    let worktree = service
        .home
        .join("worktrees")
        .join(session["project_id"].as_str().unwrap())
        .join(&chat.session);
    std::fs::remove_dir_all(&worktree).unwrap();
    for (chat, pid) in [&chat, &second].into_iter().zip(pids) {
        let task = service
            .say(chat, "append here with one\nrun pwd -P >> stands")
            .await;
        let task = service.ended(&task).await;
        assert_eq!(task["outcome"], "ok", "{task:#}\n{}", service.log());
        let now = service.agent_pid(chat).await;
        assert_ne!(now, pid, "another process");
        let cwd = std::fs::read_link(format!("/proc/{now}/cwd")).unwrap();
        assert_eq!(cwd, worktree.canonicalize().unwrap());
        the_chat_goes_on(&service, chat).await;
    }
    let read = |file: &str| std::fs::read_to_string(worktree.join(file)).unwrap();
    assert_eq!(read("here"), "one\none\n");
    assert_eq!(read("stands").lines().count(), 2);
}

#[tokio::test]
async fn the_agent_killed_ends_the_turn_at_once() {
    let service = Service::start().await;
    let (chat, task) = busy(&service).await;
    signal(service.agent_pid(&chat).await, Signal::SIGKILL);
    let killed = Instant::now();
    assert_eq!(service.outcome(&task).await, "agent_crashed");
    assert!(
        killed.elapsed() < Duration::from_secs(1),
        "{:?}",
        killed.elapsed()
    );
    nothing_lives(&service, Duration::from_secs(1)).await;
    the_chat_goes_on(&service, &chat).await;
}

#[tokio::test]
async fn the_shim_killed_takes_the_agent_with_it() {
    let service = Service::start().await;
    let (chat, task) = busy(&service).await;
    let agent = service.agent_pid(&chat).await;
    signal(parent_of(agent), Signal::SIGKILL);
    assert_eq!(service.outcome(&task).await, "agent_crashed");
    nothing_lives(&service, Duration::from_secs(1)).await;
    the_chat_goes_on(&service, &chat).await;
}

#[tokio::test]
async fn postgres_killed_in_mid_turn_loses_nothing() {
    let service = Service::on(Database::Embedded, None).await;
    let chat = service.chat().await;
    let first = service.say(&chat, "say the word is tamarind").await;
    assert_eq!(service.outcome(&first).await, "ok");
    let task = service.say(&chat, "slow 300 10").await;
    service.state(&chat, "running").await;
    let pid = std::fs::read_to_string(service.home.join("pg/data/postmaster.pid")).unwrap();
    signal(
        pid.lines().next().unwrap().trim().parse().unwrap(),
        Signal::SIGKILL,
    );
    assert_eq!(service.outcome(&task).await, "ok", "{}", service.log());
    let answers = service.answers(&chat).await;
    assert_eq!(answers[1].matches("tick").count(), 300, "{answers:?}");
    the_chat_goes_on(&service, &chat).await;
}

fn parent_of(pid: i32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    after_name
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}
