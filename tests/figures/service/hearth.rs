//! The measured service.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::agent;
use crate::stream::{Socket, Stream};

const BOUND: Duration = Duration::from_secs(60);
/// What all agents' processes may take.
pub(crate) const MEMORY_MB: u32 = 2000;

pub(crate) struct Hearth {
    dir: TempDir,
    child: Option<Child>,
    url: String,
    token: String,
    http: reqwest::Client,
    /// Warm agents at a time, from the next start on.
    pub(crate) places: usize,
}

pub(crate) struct Chat {
    pub(crate) id: String,
    pub(crate) session: String,
    pub(crate) project: String,
}

impl Hearth {
    pub(crate) async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().expect("a directory");
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(dir.path(), open).expect("an open directory");
        std::fs::create_dir(dir.path().join("notes")).expect("a place for notes");
        std::fs::write(dir.path().join("hearth.toml"), crate::config()).expect("settings");
        let http = reqwest::Client::builder().no_proxy().timeout(BOUND).build();
        Self {
            dir,
            child: None,
            url: String::new(),
            token: String::new(),
            http: http.expect("a client"),
            places: 40,
        }
    }

    /// `kill -9` of the service, and nothing else.
    pub(crate) async fn kill(&mut self) {
        let mut child = self.child.take().expect("a service");
        child.start_kill().expect("to kill");
        child.wait().await.expect("its end");
    }

    /// `kill -9` of its PostgreSQL.
    pub(crate) fn kill_postgres(&self) {
        let file = self.dir.path().join("home/pg/data/postmaster.pid");
        let text = std::fs::read_to_string(file).expect("a running server");
        let pid = text
            .lines()
            .next()
            .and_then(|line| line.trim().parse().ok());
        let pid = nix::unistd::Pid::from_raw(pid.expect("a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("to kill");
    }

    /// As [`Self::say`], as often as it takes until it is accepted.
    pub(crate) async fn say_at_last(&self, chat: &Chat, agent: &str, content: &str) {
        let started = Instant::now();
        let url = format!("{}/api/chats/{}/messages", self.url, chat.id);
        loop {
            let request = self.http.post(&url).bearer_auth(&self.token);
            let body = json!({ "content": content, "agent": agent });
            let answer = request.json(&body).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            assert!(started.elapsed() < BOUND, "nothing is accepted");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Starts the service; returns how long it took to become ready.
    pub(crate) async fn start(&mut self) -> Duration {
        let started = Instant::now();
        let home = self.home();
        let child = self.command(&home).spawn().expect("the binary");
        self.url = ready(&self.http, &home, child.id()).await;
        let took = started.elapsed();
        self.child = Some(child);
        let token = std::fs::read_to_string(home.join("token")).expect("a token");
        self.token = token.trim().to_owned();
        took
    }

    /// Another service with a home and a database of its own on the running server.
    pub(crate) async fn second_on_a_running_database(&self) -> Duration {
        let name = format!("other_{}", uuid::Uuid::now_v7().simple());
        let pool = self.pool().await;
        let create = sqlx::AssertSqlSafe(format!("create database {name}"));
        sqlx::query(create)
            .execute(&pool)
            .await
            .expect("a database");
        let password = std::fs::read_to_string(self.dir.path().join("home/pg-password"));
        let (directory, port) = self.socket();
        let url = format!(
            "postgres://hearth:{}@localhost:{port}/{name}?host={directory}",
            password.expect("a password").trim()
        );
        let home = self.dir.path().join(&name);
        let mut fresh = self
            .command(&home)
            .env("DATABASE_URL", &url)
            .spawn()
            .expect("the binary");
        ready(&self.http, &home, fresh.id()).await;
        end(&mut fresh).await;
        // The schema is there now: this is the start that happens every day.
        let started = Instant::now();
        let mut child = self
            .command(&home)
            .env("DATABASE_URL", &url)
            .spawn()
            .expect("the binary");
        ready(&self.http, &home, child.id()).await;
        let took = started.elapsed();
        end(&mut child).await;
        took
    }

    /// The service's own directory.
    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    pub(crate) async fn stop(&mut self) {
        if let Some(child) = &mut self.child {
            end(child).await;
        }
        self.child = None;
    }

    pub(crate) async fn pool(&self) -> PgPool {
        let password = std::fs::read_to_string(self.dir.path().join("home/pg-password"));
        let (directory, port) = self.socket();
        let options = PgConnectOptions::new_without_pgpass()
            .socket(directory)
            .port(port)
            .username("hearth")
            .password(password.expect("a password").trim())
            .database("postgres")
            .options([("search_path", "public")]);
        let pool = PgPoolOptions::new()
            .max_connections(3)
            .connect_with(options);
        pool.await.expect("a connection")
    }

    pub(crate) async fn chat(&self) -> Chat {
        let repository = self
            .dir
            .path()
            .join(format!("repo-{}", uuid::Uuid::now_v7()));
        repository_at(&repository);
        let project = self
            .post("/api/projects", json!({ "path": repository }))
            .await;
        let project = id(&project, "id");
        let body = json!({ "project_id": project, "name": "figures" });
        let session = id(&self.post("/api/sessions", body).await, "id");
        let path = format!("/api/sessions/{session}/chats");
        let chat = self.post(&path, json!({ "name": "main" })).await;
        Chat {
            id: id(&chat, "id"),
            session,
            project,
        }
    }

    /// Another chat of the same session.
    pub(crate) async fn next_chat(&self, chat: &Chat) -> Chat {
        let path = format!("/api/sessions/{}/chats", chat.session);
        let next = self.post(&path, json!({ "name": "next" })).await;
        Chat {
            id: id(&next, "id"),
            session: chat.session.clone(),
            project: chat.project.clone(),
        }
    }

    /// Stops the chat's agent, as an idle time that is over does; waits until
    /// nothing is left of it in the tree.
    pub(crate) async fn evict(&self, chat: &Chat, agent: &str) {
        let started = Instant::now();
        let path = format!("/api/debug/sessions/{}/{agent}/evict", chat.id);
        loop {
            let answer = self
                .http
                .post(format!("{}{path}", self.url))
                .bearer_auth(&self.token)
                .send()
                .await;
            // Until the turn is over it refuses; once it is gone there is none.
            if answer.expect("an answer").status() == reqwest::StatusCode::NOT_FOUND {
                return;
            }
            assert!(started.elapsed() < BOUND, "the agent does not go");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) async fn say(&self, chat: &Chat, agent: &str, content: &str) {
        let path = format!("/api/chats/{}/messages", chat.id);
        self.post(&path, json!({ "content": content, "agent": agent }))
            .await;
    }

    pub(crate) async fn stream(&self, session: &str) -> Stream {
        let url = format!("{}/api/sessions/{session}/stream", self.url);
        let client = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client");
        let response = client.get(url).bearer_auth(&self.token).send().await;
        Stream::new(response.expect("a stream"))
    }

    pub(crate) async fn web_socket(&self, session: &str) -> Socket {
        let url = format!("{}/api/ws/sessions/{session}", self.url);
        Socket::open(&url.replace("http://", "ws://"), &self.token).await
    }

    /// What the agent noted last.
    pub(crate) fn stamp(&self, what: &str) -> u64 {
        let started = Instant::now();
        loop {
            let note = std::fs::read_to_string(self.dir.path().join("notes").join(what));
            if let Some(value) = note.ok().and_then(|text| text.parse().ok()) {
                return value;
            }
            assert!(started.elapsed() < BOUND, "no note of {what}");
        }
    }

    pub(crate) fn rss_mb(&self) -> f64 {
        resident_mb(self.child.as_ref().and_then(Child::id).expect("a service"))
    }

    /// Of the pool: agents that are warm, and MB of memory that all their processes take.
    pub(crate) async fn in_pool(&self) -> (u64, f64) {
        let url = format!("{}/api/debug/tree", self.url);
        let answer = self.http.get(url).bearer_auth(&self.token).send().await;
        let tree: Value = answer.expect("an answer").json().await.expect("a tree");
        let mut nodes = tree["children"].as_array().into_iter().flatten();
        let pool = nodes.find(|node| node["kind"] == "pool").expect("a pool");
        let number = |name: &str| pool["detail"][name].as_u64().expect("a number");
        (number("live"), number("memory_bytes") as f64 / 1e6)
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let request = self
            .http
            .post(format!("{}{path}", self.url))
            .bearer_auth(&self.token);
        let response = request.json(&body).send().await.expect("an answer");
        let status = response.status();
        let body: Value = response.json().await.unwrap_or_default();
        assert!(status.is_success(), "{path}: {status} {body}");
        body
    }

    fn command(&self, home: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hearth"));
        command
            .arg("serve")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("HEARTH_HOME", home)
            .env("HEARTH_LISTEN", "127.0.0.1:0")
            .env("HEARTH_CONFIG", self.dir.path().join("hearth.toml"))
            .env("HEARTH_LOG", "error")
            .env("AGENT_POOL_MAX_LIVE", self.places.to_string())
            .env("AGENT_POOL_MEMORY_MB", MEMORY_MB.to_string())
            .env(agent::NOTES, self.dir.path().join("notes"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    fn socket(&self) -> (String, u16) {
        let file = self.dir.path().join("home/pg/data/postmaster.pid");
        let text = std::fs::read_to_string(file).expect("a running server");
        let lines: Vec<_> = text.lines().collect();
        (
            lines[4].trim().to_owned(),
            lines[3].trim().parse().expect("a port"),
        )
    }
}

/// Resident memory of one process.
pub(crate) fn resident_mb(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("a size");
    let kib: f64 = line
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number");
    kib / 1024.0
}

async fn ready(http: &reqwest::Client, home: &Path, pid: Option<u32>) -> String {
    let started = Instant::now();
    loop {
        let file = std::fs::read(home.join("service.json")).unwrap_or_default();
        let file: Value = serde_json::from_slice(&file).unwrap_or_default();
        if let (Some(url), true) = (file["url"].as_str(), file["pid"] == json!(pid)) {
            let health = http.get(format!("{url}/api/health/ready")).send().await;
            if health.is_ok_and(|health| health.status().is_success()) {
                return url.to_owned();
            }
        }
        assert!(started.elapsed() < BOUND, "the service does not start");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn end(child: &mut Child) {
    let pid = child
        .id()
        .and_then(|pid| i32::try_from(pid).ok())
        .expect("a process");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGTERM,
    )
    .expect("to stop it");
    tokio::time::timeout(BOUND, child.wait())
        .await
        .expect("it stops")
        .expect("its end");
}

fn repository_at(path: &PathBuf) {
    std::fs::create_dir_all(path).expect("a directory");
    std::fs::write(path.join("readme.md"), "hello\n").expect("a file");
    for arguments in [
        &["init", "-q"][..],
        &["add", "."],
        &[
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.org",
            "commit",
            "-qm",
            "one",
        ],
    ] {
        let git = std::process::Command::new("git")
            .arg("-C")
            .arg(path)
            .args(arguments)
            .output();
        assert!(git.expect("git").status.success());
    }
}

fn id(row: &Value, field: &str) -> String {
    row[field]
        .as_str()
        .unwrap_or_else(|| panic!("no {field} in {row}"))
        .to_owned()
}
