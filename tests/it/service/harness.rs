//! A running `hearth serve` and what a test does with it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::support::pg;

/// Longest wait for anything that should happen at once.
pub(super) const SOON: Duration = Duration::from_secs(30);

/// The service and its data directory; both end with it.
pub(super) struct Service {
    pub(super) home: PathBuf,
    child: Child,
    url: String,
    token: String,
    http: reqwest::Client,
    database: Database,
    config: Option<String>,
    /// Longest wait for what it should do.
    pub(super) patience: Duration,
    _dir: Option<TempDir>,
}

/// Where the service keeps its rows.
#[derive(Clone)]
pub(super) enum Database {
    /// On the tests' shared server.
    Shared(String, Box<PgConnectOptions>),
    /// On a private one of its own.
    Embedded,
}

impl Service {
    /// Starts on a new home with a new database of the shared server.
    pub(super) async fn start() -> Self {
        Self::with_config(None).await
    }

    /// The same with a `hearth.toml`.
    pub(super) async fn with_config(config: Option<&str>) -> Self {
        let db = pg::fresh_database().await;
        Self::on(Database::Shared(db.url, Box::new(db.options)), config).await
    }

    /// Starts on a new home and such a database.
    pub(super) async fn on(database: Database, config: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // PostgreSQL runs as another user when the tests run as root.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let home = dir.path().join("home");
        std::fs::create_dir(&home).unwrap();
        if let Some(text) = config {
            std::fs::write(dir.path().join("hearth.toml"), text).unwrap();
        }
        let config = config.map(str::to_owned);
        let mut service = Self::launch(home, database, config).await;
        service._dir = Some(dir);
        service
    }

    /// Starts again on the same home and database.
    pub(super) async fn again(mut self) -> Self {
        let dir = self._dir.take();
        let (home, database, config) = (
            self.home.clone(),
            self.database.clone(),
            self.config.clone(),
        );
        let patience = self.patience;
        drop(self);
        let mut service = Self::launch(home, database, config).await;
        service._dir = dir;
        service.patience = patience;
        service
    }

    async fn launch(home: PathBuf, database: Database, config: Option<String>) -> Self {
        let mut child = command(&home, &database).arg("serve").spawn().unwrap();
        let pid = child.id().unwrap();
        let started = Instant::now();
        let file = loop {
            let file = std::fs::read(home.join("service.json")).unwrap_or_default();
            let file: Value = serde_json::from_slice(&file).unwrap_or_default();
            if file["pid"] == pid {
                break file;
            }
            let exit = child.try_wait().unwrap();
            assert!(
                exit.is_none() && started.elapsed() < SOON,
                "the service does not start ({exit:?}): {}",
                std::fs::read_to_string(home.join("log")).unwrap_or_default()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let service = Self {
            url: file["url"].as_str().unwrap().to_owned(),
            token: std::fs::read_to_string(home.join("token"))
                .unwrap()
                .trim()
                .to_owned(),
            home,
            child,
            http: http_client(),
            database,
            config,
            patience: SOON,
            _dir: None,
        };
        service
            .until("ready", async || {
                let ready = service.get("/api/health/ready").await;
                (ready["status"] == "ok").then_some(()).ok_or(ready)
            })
            .await;
        service
    }

    /// Where it answers, such as `http://127.0.0.1:9502`.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// A line of `/proc/<pid>/status` that tells a size (`VmRSS`, `VmHWM`), in bytes.
    pub(super) fn memory(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let size = status.lines().find_map(|text| text.strip_prefix(line));
        let kib = size.unwrap().trim_matches([':', ' ', '\t', 'k', 'B']);
        kib.parse::<u64>().unwrap() * 1024
    }

    /// Where its rows are.
    pub(super) fn database(&self) -> Database {
        self.database.clone()
    }

    pub(super) fn pid(&self) -> i32 {
        i32::try_from(self.child.id().unwrap()).unwrap()
    }

    /// `kill -9` of the service, and nothing else.
    pub(super) async fn kill(&mut self) {
        self.child.start_kill().unwrap();
        self.child.wait().await.unwrap();
    }

    /// SIGTERM, and the wait for its end.
    pub(super) async fn terminate(&mut self) -> std::process::ExitStatus {
        signal(self.pid(), nix::sys::signal::Signal::SIGTERM);
        tokio::time::timeout(SOON, self.child.wait())
            .await
            .expect("it stops")
            .unwrap()
    }

    /// Waits for its end, whoever asked for it.
    pub(super) async fn exited(&mut self) {
        let ended = tokio::time::timeout(SOON, self.child.wait()).await;
        ended.expect("it ends").unwrap();
    }

    pub(super) async fn get(&self, path: &str) -> Value {
        let request = self
            .http
            .get(format!("{}{path}", self.url))
            .bearer_auth(&self.token);
        match request.send().await {
            Ok(response) => response.json().await.unwrap_or_default(),
            Err(error) => json!({ "unreachable": error.to_string() }),
        }
    }

    /// An answer whose body is still to be read, and never ends by itself.
    pub(super) async fn stream(&self, path: &str) -> reqwest::Response {
        let request = self
            .http
            .get(format!("{}{path}", self.url))
            .bearer_auth(&self.token);
        request.send().await.unwrap().error_for_status().unwrap()
    }

    /// Status and body.
    pub(super) async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let request = self
            .http
            .post(format!("{}{path}", self.url))
            .bearer_auth(&self.token);
        let response = request.json(&body).send().await.unwrap();
        (
            response.status().as_u16(),
            response.json().await.unwrap_or_default(),
        )
    }

    /// The same under an `Idempotency-Key`.
    pub(super) async fn post_once(&self, path: &str, key: &str, body: Value) -> (u16, Value) {
        let request = self
            .http
            .post(format!("{}{path}", self.url))
            .bearer_auth(&self.token)
            .header("Idempotency-Key", key);
        let response = request.json(&body).send().await.unwrap();
        (
            response.status().as_u16(),
            response.json().await.unwrap_or_default(),
        )
    }

    /// What the stored frames of a kind say, in order.
    pub(super) async fn stored_frames(&self, session: &str, kind: &str) -> Vec<Value> {
        sqlx::query_scalar(
            "select data from hearth.frames where session_id = $1::uuid and kind = $2 order by seq",
        )
        .bind(session)
        .bind(kind)
        .fetch_all(&self.pool().await)
        .await
        .unwrap()
    }

    /// A chat in a new session of a new project.
    pub(super) async fn chat(&self) -> Chat {
        let project = self.project().await;
        self.chat_of(&project).await
    }

    /// A repository with one commit, registered.
    pub(super) async fn project(&self) -> String {
        let repository = self
            .home
            .parent()
            .unwrap()
            .join(format!("repo-{}", uuid::Uuid::now_v7()));
        repository_at(&repository);
        let (status, project) = self
            .post("/api/projects", json!({ "path": repository }))
            .await;
        assert_eq!(status, 201, "{project}");
        id_of(&project)
    }

    /// A chat in a new session of this project.
    pub(super) async fn chat_of(&self, project: &str) -> Chat {
        let (status, session) = self
            .post(
                "/api/sessions",
                json!({ "project_id": project, "name": "test" }),
            )
            .await;
        assert_eq!(status, 201, "{session}");
        let session = id_of(&session);
        let path = format!("/api/sessions/{session}/chats");
        let (status, chat) = self.post(&path, json!({ "name": "main" })).await;
        assert_eq!(status, 201, "{chat}");
        Chat {
            id: id_of(&chat),
            session,
        }
    }

    /// Says this to the demo agent; returns the task.
    pub(super) async fn say(&self, chat: &Chat, content: &str) -> String {
        self.say_to("demo", chat, content).await
    }

    pub(super) async fn say_to(&self, agent: &str, chat: &Chat, content: &str) -> String {
        let path = format!("/api/chats/{}/messages", chat.id);
        let body = json!({ "content": content, "agent": agent });
        let (status, accepted) = self.post(&path, body).await;
        assert_eq!(status, 202, "{accepted}");
        accepted["task_id"].as_str().unwrap().to_owned()
    }

    /// Waits for the task's outcome.
    pub(super) async fn outcome(&self, task: &str) -> String {
        self.ended(task).await["outcome"]
            .as_str()
            .unwrap_or("none")
            .to_owned()
    }

    /// Waits for the task's end; returns the task.
    pub(super) async fn ended(&self, task: &str) -> Value {
        self.until("the task's end", async || {
            let task = self.get(&format!("/api/tasks/{task}")).await;
            let over = ["completed", "failed", "cancelled"];
            if over.iter().any(|state| task["state"] == *state) {
                Ok(task)
            } else {
                Err(task)
            }
        })
        .await
    }

    /// What the assistant answered, all turns of the chat.
    pub(super) async fn answers(&self, chat: &Chat) -> Vec<String> {
        let messages = self
            .get(&format!("/api/chats/{}/messages?limit=200", chat.id))
            .await;
        let items = messages["items"].as_array().cloned().unwrap_or_default();
        items
            .iter()
            .filter(|message| message["role"] == "assistant")
            .map(|message| message["content"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// The warm session of the chat on the tree.
    pub(super) async fn node(&self, chat: &Chat) -> Option<Value> {
        self.node_of(chat, "demo").await
    }

    pub(super) async fn node_of(&self, chat: &Chat, agent: &str) -> Option<Value> {
        let tree = self.get("/api/debug/tree").await;
        let pool = tree["children"]
            .as_array()?
            .iter()
            .find(|node| node["kind"] == "pool")?
            .clone();
        let name = format!("{}/{agent}", chat.id);
        pool["children"]
            .as_array()?
            .iter()
            .find(|node| node["name"] == name.as_str())
            .cloned()
    }

    /// Waits until the chat's session shows this state.
    pub(super) async fn state(&self, chat: &Chat, state: &str) -> Value {
        self.until(&format!("state {state}"), async || {
            let node = self.node(chat).await.unwrap_or_default();
            if node["state"] == state {
                Ok(node)
            } else {
                Err(node)
            }
        })
        .await
    }

    /// The process of the chat's agent.
    pub(super) async fn agent_pid(&self, chat: &Chat) -> i32 {
        self.until("an agent with a pid", async || {
            let node = self.node(chat).await.unwrap_or_default();
            let pid = node["children"]
                .as_array()
                .and_then(|nodes| nodes.iter().find_map(|node| node["pid"].as_i64()));
            pid.map(|pid| i32::try_from(pid).unwrap()).ok_or(node)
        })
        .await
    }

    /// Tries until it is `Ok`; fails with the last error when patience is over.
    pub(super) async fn until<T, E: std::fmt::Debug>(
        &self,
        what: &str,
        mut look: impl AsyncFnMut() -> Result<T, E>,
    ) -> T {
        let (started, bound) = (Instant::now(), self.patience);
        loop {
            match look().await {
                Ok(found) => return found,
                Err(last) => assert!(
                    started.elapsed() < bound,
                    "{what}: not within {bound:?}; last seen {last:#?}; the log says:\n{}",
                    std::fs::read_to_string(self.home.join("log")).unwrap_or_default()
                ),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A connection like any other program's.
    pub(super) async fn pool(&self) -> PgPool {
        let options = match &self.database {
            Database::Shared(_, options) => (**options).clone(),
            Database::Embedded => {
                let password = std::fs::read_to_string(self.home.join("pg-password")).unwrap();
                let (directory, port) = socket(&self.home);
                PgConnectOptions::new_without_pgpass()
                    .socket(directory)
                    .port(port)
                    .username("hearth")
                    .password(password.trim())
                    .database("postgres")
            }
        };
        let pool = sqlx::postgres::PgPoolOptions::new().max_connections(4);
        pool.connect_with(options.options([("search_path", "public")]))
            .await
            .unwrap()
    }

    /// Live processes that this service started, shims included.
    pub(super) fn processes(&self) -> Vec<i32> {
        let node = std::fs::read_to_string(self.home.join("node")).unwrap();
        let node = node.trim().replace('-', "");
        marked(&format!("HEARTH_OWNER={node}:"))
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.home.join("log")).unwrap_or_default()
    }
}

/// A chat and where it is.
#[derive(Clone, Debug)]
pub(super) struct Chat {
    pub(super) id: String,
    pub(super) session: String,
}

/// The binary with an environment of its own.
pub(super) fn command(home: &Path, database: &Database) -> Command {
    let parent = home.parent().unwrap();
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(home.join("log"))
        .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearth"));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", parent)
        .env("HEARTH_HOME", home)
        .env("HEARTH_LISTEN", "127.0.0.1:0")
        .env("HEARTH_LOG", "info,hearth=debug,hearth_actors=debug")
        // No process that no test asked for.
        .env("HEARTH_PROBE_EVERY_MS", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true);
    if let Database::Shared(url, _) = database {
        command.env("DATABASE_URL", url);
    }
    let config = parent.join("hearth.toml");
    let settings = std::fs::read_to_string(&config).unwrap_or_default();
    if !settings.contains("max_live") {
        command.env("AGENT_POOL_MAX_LIVE", "20");
    }
    if config.exists() {
        command.env("HEARTH_CONFIG", config);
    }
    command
}

/// A repository with one commit.
pub(super) fn repository_at(path: &Path) {
    std::fs::create_dir_all(path).unwrap();
    std::fs::write(path.join("readme.md"), "hello\n").unwrap();
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
        git(path, arguments);
    }
}

/// Runs git there; returns what it said.
pub(super) fn git(path: &Path, arguments: &[&str]) -> String {
    let done = std::process::Command::new("git")
        .arg("-C")
        .arg(path)
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "git {arguments:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8(done.stdout).unwrap()
}

pub(super) fn id_of(row: &Value) -> String {
    row["id"]
        .as_str()
        .unwrap_or_else(|| panic!("no id in {row}"))
        .to_owned()
}

pub(super) fn signal(pid: i32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}

/// Processes whose environment holds this, zombies left out.
fn marked(marker: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ
                .split(|byte| *byte == 0)
                .any(|entry| entry.starts_with(marker.as_bytes()))
        })
        .collect()
}

fn socket(home: &Path) -> (PathBuf, u16) {
    let text = std::fs::read_to_string(home.join("pg/data/postmaster.pid")).unwrap();
    let lines: Vec<_> = text.lines().collect();
    (
        PathBuf::from(lines[4].trim()),
        lines[3].trim().parse().unwrap(),
    )
}

fn http_client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .timeout(SOON)
        .build()
        .unwrap()
}
