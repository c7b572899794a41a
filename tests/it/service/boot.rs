//! What a start finds of a life that was killed in the middle of everything, and
//! does about it before anything is claimed.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use nix::sys::signal::Signal;
use serde_json::Value;
use sqlx::PgPool;

use super::harness::{Chat, SOON, Service, git, signal};

/// Somebody who follows a session, from its beginning or behind a seq.
struct Follower {
    body: std::pin::Pin<Box<dyn futures::Stream<Item = reqwest::Result<Vec<u8>>> + Send>>,
    read: String,
    seq: i64,
}

impl Follower {
    async fn behind(service: &Service, chat: &Chat, seq: i64) -> Self {
        let path = format!("/api/sessions/{}/stream?after={seq}", chat.session);
        let body = service.stream(&path).await.bytes_stream();
        Self {
            body: Box::pin(body.map(|chunk| chunk.map(|bytes| bytes.to_vec()))),
            read: String::new(),
            seq,
        }
    }

    /// Reads up to the first frame that fits; gives it.
    async fn until(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let found = async {
            loop {
                while let Some((event, rest)) = self.read.split_once("\n\n") {
                    let data = event.lines().find_map(|line| line.strip_prefix("data: "));
                    let frame: Value = data
                        .and_then(|data| serde_json::from_str(data).ok())
                        .unwrap_or_default();
                    self.read = rest.to_owned();
                    if let Some(seq) = frame["seq"].as_i64() {
                        assert_eq!(seq, self.seq + 1, "a gap or a repeat: {frame}");
                        self.seq = seq;
                    }
                    if fits(&frame) {
                        return frame;
                    }
                }
                let chunk = self.body.next().await.expect("the stream goes on");
                let chunk = chunk.expect("the stream goes on");
                self.read.push_str(std::str::from_utf8(&chunk).unwrap());
            }
        };
        let found = tokio::time::timeout(SOON, found).await;
        found.unwrap_or_else(|_| panic!("{what}: not seen up to {}", self.seq))
    }

    async fn interrupted(&mut self) -> Value {
        self.until("the interrupted turn", |frame| {
            frame["type"] == "task_updated" && frame["outcome"] == "interrupted"
        })
        .await
    }
}

/// Of the chat's row: what is said of the agent, and of its process.
async fn link(pool: &PgPool, chat: &Chat) -> (String, Option<i32>) {
    sqlx::query_as(
        "select a.status, l.pid from agent_sessions a
         join hearth.agent_links l on l.chat_id = a.chat_id and l.agent = a.agent
         where a.chat_id = $1::uuid and a.agent = 'demo'",
    )
    .bind(&chat.id)
    .fetch_one(pool)
    .await
    .unwrap()
}

/// The node's life, and when its lease ends.
async fn lease(pool: &PgPool) -> (i64, DateTime<Utc>) {
    sqlx::query_as("select incarnation, lease_until from hearth.nodes")
        .fetch_one(pool)
        .await
        .unwrap()
}

/// The attempts that the task's rows tell of, and their outcomes.
async fn attempts(pool: &PgPool, task: &str) -> Vec<(i32, Option<String>)> {
    let sql = "select attempt, outcome from hearth.turns where task_id = $1::uuid order by attempt";
    sqlx::query_as(sql)
        .bind(task)
        .fetch_all(pool)
        .await
        .unwrap()
}

fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().unwrap_or_default();
    !matches!(state.split_whitespace().next(), None | Some("Z" | "X"))
}

async fn told(service: &Service, chat: &Chat, word: &str) {
    let task = service.say(chat, &format!("say the word is {word}")).await;
    assert_eq!(service.outcome(&task).await, "ok");
    service.state(chat, "idle").await;
}

async fn recalls(service: &Service, chat: &Chat, word: &str) {
    let task = service.say(chat, "recall").await;
    let ended = service.ended(&task).await;
    assert_eq!(ended["outcome"], "ok", "{ended}");
    let answers = service.answers(chat).await;
    assert!(answers.last().unwrap().contains(word), "{answers:?}");
    let path = format!("/api/sessions/{}/agent-sessions", chat.session);
    let listed = service.get(&path).await;
    let how = &listed["items"][0]["continuity"];
    assert!(how == "resumed" || how == "loaded", "{listed}");
}

/// What `git worktree add` had done when it was killed: an entry of the repository
/// under its lock, and files beside the place where they belong.
fn half_make(repository: &Path, worktrees: &Path, project: &str, session: &str) -> PathBuf {
    let place = worktrees.join(project).join(session);
    let aside = place.with_file_name(format!(".making-{session}"));
    std::fs::create_dir_all(&aside).unwrap();
    std::fs::write(aside.join("readme.md"), "hel").unwrap();
    git(repository, &["branch", &format!("session-{session}")]);
    let entry = repository.join(".git/worktrees").join(session);
    std::fs::create_dir_all(&entry).unwrap();
    let gitdir = format!("{}\n", place.join(".git").display());
    for (name, text) in [
        ("gitdir", gitdir.as_str()),
        ("commondir", "../..\n"),
        ("locked", "hearth: being made\n"),
        ("index.lock", ""),
    ] {
        std::fs::write(entry.join(name), text).unwrap();
    }
    aside
}

#[tokio::test]
async fn a_start_settles_all_that_a_killed_life_left_before_it_claims() {
    let dir = tempfile::tempdir().unwrap();
    let flag = dir.path().join("started-once");
    // Its first start hangs, as one does on a slow disk; the second is the demo agent.
    let script = format!(
        "if [ -e {flag} ]; then exec {program} demo-agent; fi; touch {flag}; sleep 600",
        flag = flag.display(),
        program = env!("CARGO_BIN_EXE_hearth")
    );
    let config = format!(
        "[agents.slow]\nprotocol = \"acp\"\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"{script}\"]\npermission = \"allow_all\"\n"
    );
    let mut service = Service::with_config(Some(&config)).await;
    let pool = service.pool().await;
    let project = service.project().await;
    let mut chats = Vec::new();
    for _ in 0..4 {
        chats.push(service.chat_of(&project).await);
    }
    let [works, rests, starts, half] = &chats[..] else {
        unreachable!()
    };
    told(&service, rests, "quince").await;
    told(&service, works, "tamarind").await;
    let running = service
        .say(works, "leak\nrun setsid sleep 600 & sleep 600")
        .await;
    service.state(works, "running").await;
    let starting = service.say_to("slow", starts, "say up at last").await;
    service
        .until("a start that hangs, and the tool's processes", async || {
            let many = service.processes().len();
            if flag.exists() && many >= 9 {
                Ok(())
            } else {
                Err(many)
            }
        })
        .await;
    // Nobody is left to end them: Hearth cannot, and the shim is dead.
    let left = service.processes();
    signal(service.pid(), Signal::SIGSTOP);
    for pid in &left {
        let name = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if name.contains("shim") {
            signal(*pid, Signal::SIGKILL);
        }
    }
    let seq: i64 =
        sqlx::query_scalar("select last_seq from hearth.streams where session_id = $1::uuid")
            .bind(&works.session)
            .fetch_one(&pool)
            .await
            .unwrap();
    service.kill().await;
    let survivors: Vec<i32> = left.into_iter().filter(|pid| is_alive(*pid)).collect();
    assert!(!survivors.is_empty(), "nothing outlived it");
    let (incarnation, until) = lease(&pool).await;
    assert!(until > Utc::now() + chrono::Duration::seconds(5), "{until}");

    let repository: String = sqlx::query_scalar("select path from projects where id = $1::uuid")
        .bind(&project)
        .fetch_one(&pool)
        .await
        .unwrap();
    let worktrees = service.home.join("worktrees");
    let aside = half_make(Path::new(&repository), &worktrees, &project, &half.session);
    // Nobody heard of it.
    let unheard: String = sqlx::query_scalar(
        "insert into tasks (project_id, session_id, chat_id, agent, input)
         values ($1::uuid, $2::uuid, $3::uuid, 'demo', 'create new.txt with x') returning id::text",
    )
    .bind(&project)
    .bind(&half.session)
    .bind(&half.id)
    .fetch_one(&pool)
    .await
    .unwrap();

    let service = service.again().await;
    let (now, _) = lease(&pool).await;
    assert_eq!(now, incarnation + 1, "one new life");
    let alive: Vec<_> = survivors.iter().filter(|pid| is_alive(**pid)).collect();
    assert!(alive.is_empty(), "{alive:?} outlived the start");
    for chat in [works, rests] {
        assert_eq!(link(&pool, chat).await, ("crashed".into(), None));
    }
    let mut follower = Follower::behind(&service, works, seq).await;
    let frame = follower.interrupted().await;
    assert_eq!(frame["task_id"], running.as_str(), "{frame}");
    assert_eq!(service.outcome(&running).await, "interrupted");
    let once = (1, Some("interrupted".to_owned()));
    assert_eq!(attempts(&pool, &running).await, [once]);

    // Nothing had been said to it, so that nobody need know of the first try.
    assert_eq!(service.outcome(&starting).await, "ok");
    let second = (2, Some("ok".to_owned()));
    assert_eq!(attempts(&pool, &starting).await, [second]);
    assert_eq!(service.outcome(&unheard).await, "ok");
    assert!(!aside.exists(), "what was half made is gone");
    let place = worktrees.join(&project).join(&half.session);
    assert_eq!(git(&place, &["status", "--porcelain"]), "?? new.txt\n");
    let (settled, claimed): (DateTime<Utc>, DateTime<Utc>) = sqlx::query_as(
        "select max(ended_at) filter (where incarnation = $1),
            min(claimed_at) filter (where incarnation = $1 + 1) from hearth.turns",
    )
    .bind(incarnation)
    .fetch_one(&pool)
    .await
    .unwrap();
    assert!(settled <= claimed, "{settled}, and {claimed} before it");
    recalls(&service, works, "tamarind").await;
    recalls(&service, rests, "quince").await;
    assert_eq!(link(&pool, rests).await.0, "idle");
}

/// Nobody connects anew: the node itself loses its turns and begins another life.
#[tokio::test]
async fn who_follows_hears_that_another_life_took_the_turn() {
    let service = Service::start().await;
    let pool = service.pool().await;
    let chat = service.chat().await;
    told(&service, &chat, "tamarind").await;
    let mut follower = Follower::behind(&service, &chat, 0).await;
    let task = service.say(&chat, "wait 300s").await;
    service.state(&chat, "running").await;
    sqlx::query(
        "update hearth.nodes set incarnation = incarnation + 1, lease_until = clock_timestamp()",
    )
    .execute(&pool)
    .await
    .unwrap();
    let frame = follower.interrupted().await;
    assert_eq!(frame["task_id"], task.as_str(), "{frame}");
    service
        .until(
            "the agent of the last life is gone",
            async || match service.node(&chat).await {
                None => Ok(()),
                node => Err(node),
            },
        )
        .await;
    recalls(&service, &chat, "tamarind").await;
    let goes_on = follower
        .until("the next turn on the same stream", |frame| {
            frame["type"] == "task_updated" && frame["state"] == "completed"
        })
        .await;
    assert_ne!(goes_on["task_id"], task.as_str());
}
