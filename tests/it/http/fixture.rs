//! One service for one test.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::DateTime;
use hearth::access::Token;
use hearth::http::HostRules;
use hearth::http::state::{
    Health, Known, Limits, Looks, Origin, Parts, Peers, Readiness, Repositories, Repository,
    Shared, Stop, Tree,
};
use hearth::metrics::Metrics;
use hearth::store::{Store, StoreOptions, migrate};
use hearth::worktrees::{GitWorktrees, WorktreesConfig};
use hearth_actors::event::AskOption;
use hearth_actors::event::{Frame, FrameKind};
use hearth_actors::ids::{ChatId, NodeId, PromptId, SessionId, SessionKey, TaskId};
use hearth_actors::model::Policy;
use hearth_actors::operation::{Asked as Order, Done};
use hearth_actors::ports::{OperationsError, ReapError};
use hearth_actors::prompt::AnsweredBy;
use hearth_actors::reap::Report;
use hearth_actors::tree::board::Board;
use hearth_actors::tree::handle::Refusal;
use hearth_actors::tree::hub::Hub;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::super::support::pg::fresh_database;

pub(crate) const TOKEN: &str = "0123456789abcdef-test";

/// What the routes asked of the tree.
#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) wakeups: usize,
    pub(crate) arena_looks: usize,
    pub(crate) budget_looks: usize,
    pub(crate) cancels: Vec<TaskId>,
    pub(crate) keys: Vec<String>,
    pub(crate) orders: Vec<Order>,
    /// Orders find no end in time.
    pub(crate) is_slow: bool,
}

/// A tree that remembers.
#[derive(Default)]
pub(crate) struct StillTree {
    board: Board,
    hub: Hub,
    asked: Mutex<Asked>,
}

impl StillTree {
    pub(crate) fn asked<R>(&self, look: impl FnOnce(&mut Asked) -> R) -> R {
        look(&mut self.asked.lock().unwrap())
    }
}

#[async_trait]
impl Tree for StillTree {
    fn wakeup(&self) {
        self.asked(|asked| asked.wakeups += 1);
    }

    fn look_at_arenas(&self) {
        self.asked(|asked| asked.arena_looks += 1);
    }

    fn look_at_budgets(&self) {
        self.asked(|asked| asked.budget_looks += 1);
    }

    fn cancel(&self, task: TaskId) {
        self.asked(|asked| asked.cancels.push(task));
    }

    async fn answer(
        &self,
        _task: TaskId,
        _prompt: PromptId,
        _answer: AskOption,
        _by: AnsweredBy,
    ) -> Result<(), Refusal> {
        Err(Refusal::NoPrompt)
    }

    async fn evict(&self, key: SessionKey) -> Result<(), Refusal> {
        self.asked(|asked| asked.keys.push(format!("evict {}", key.agent)));
        match key.agent.as_str() {
            "demo" => Ok(()),
            "busy" => Err(Refusal::TurnRunning),
            _ => Err(Refusal::NotWarm(key)),
        }
    }

    async fn restart(&self, key: SessionKey) -> Result<(), Refusal> {
        self.asked(|asked| asked.keys.push(format!("restart {}", key.agent)));
        Ok(())
    }

    async fn operate(
        &self,
        asked: Order,
        _patience: Duration,
    ) -> Option<Result<Done, OperationsError>> {
        self.asked(|seen| {
            seen.orders.push(asked);
            (!seen.is_slow).then(|| Ok(Done::default()))
        })
    }

    fn close_chat(&self, chat: ChatId) {
        self.asked(|asked| asked.keys.push(format!("close chat {chat}")));
    }

    fn close_session(&self, session: SessionId) {
        self.asked(|asked| asked.keys.push(format!("close session {session}")));
    }

    async fn reap(&self, dry_run: bool) -> Result<Report, ReapError> {
        Ok(Report {
            dry_run,
            ..Report::default()
        })
    }

    fn board(&self) -> &Board {
        &self.board
    }

    fn hub(&self) -> &Hub {
        &self.hub
    }
}

/// Looks that are asked for and never done.
#[derive(Default)]
pub(crate) struct StillLooks(Mutex<Vec<String>>);

impl Looks for StillLooks {
    fn names(&self) -> Vec<String> {
        vec!["demo".into(), "goose-acp".into()]
    }

    fn ask(&self, names: &[String]) {
        self.0.lock().unwrap().extend_from_slice(names);
    }

    fn pending(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// Looks at real repositories.
struct Git;

#[async_trait]
impl Repositories for Git {
    async fn inspect(&self, path: &Path) -> Result<Repository, String> {
        let found = git2::Repository::open(path)
            .map_err(|_| format!("{} is no git repository: run git init", path.display()))?;
        let root = found.workdir().ok_or("it is bare: use a clone")?;
        Ok(Repository {
            root: root.canonicalize().map_err(|error| error.to_string())?,
            dirty: true,
            uncommitted: Vec::new(),
        })
    }
}

/// Everybody is who the test says.
#[derive(Default)]
pub(crate) struct Callers(Mutex<Option<Origin>>);

impl Callers {
    /// From now on.
    pub(crate) fn are(&self, origin: Origin) {
        *self.0.lock().unwrap() = Some(origin);
    }
}

#[async_trait]
impl Peers for Callers {
    async fn origin(&self, peer: SocketAddr, local: SocketAddr) -> Origin {
        assert_ne!(peer, local);
        self.0.lock().unwrap().clone().unwrap_or(Origin::Elsewhere)
    }
}

pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    pub(crate) callers: Arc<Callers>,
    pub(crate) store: Store,
    pub(crate) tree: Arc<StillTree>,
    pub(crate) health: watch::Sender<Health>,
    pub(crate) closing: CancellationToken,
    pub(crate) stops: mpsc::Receiver<Stop>,
    pub(crate) http: reqwest::Client,
    /// Repositories may be registered below it.
    pub(crate) root: PathBuf,
    _root: tempfile::TempDir,
}

pub(crate) async fn service() -> Service {
    service_with(Limits::default()).await
}

pub(crate) async fn service_with(limits: Limits) -> Service {
    drop(rustls::crypto::ring::default_provider().install_default());
    let db = fresh_database().await;
    // The role is named like our schema, which would come first otherwise.
    let options = db.options.options([("search_path", "public")]);
    let store = Store::connect(StoreOptions::new(options, NodeId::new()))
        .await
        .unwrap();
    migrate(store.pool()).await.unwrap();
    let tree = Arc::new(StillTree::default());
    let (health, told) = watch::channel(Health {
        readiness: Readiness::Ready,
        started_at: DateTime::UNIX_EPOCH,
        last_restart: None,
        warnings: vec!["goose is not installed".into()],
        kernel_limits: "not enforced: it is a test".into(),
    });
    let closing = CancellationToken::new();
    let callers = Arc::new(Callers::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let root = tempfile::tempdir().unwrap();
    let allowed = root.path().canonicalize().unwrap();
    let looks = Arc::new(StillLooks::default());
    let (stop, stops) = mpsc::channel(1);
    let state = Shared::new(Parts {
        store: store.clone(),
        tree: tree.clone(),
        token: Token::parse(TOKEN).unwrap(),
        hosts: HostRules::new(address, &["hearth.example.org".into()]),
        known: watch::channel(Arc::new(Known {
            agents: BTreeMap::from([
                ("demo".to_owned(), Policy::AllowEdits),
                ("goose".to_owned(), Policy::Ask),
            ]),
            aliases: BTreeMap::from([("goose".to_owned(), "goose-acp".to_owned())]),
            grace: Duration::from_secs(30),
        }))
        .1,
        metrics: Metrics::new(),
        stop,
        looks: looks.clone(),
        default_agent: None,
        repositories: Arc::new(Git),
        files: Arc::new(GitWorktrees::new(WorktreesConfig::new(
            allowed.join(".worktrees"),
        ))),
        set_ups: Arc::new(GitWorktrees::new(WorktreesConfig::new(
            allowed.join(".worktrees"),
        ))),
        history: Arc::new(GitWorktrees::new(WorktreesConfig::new(
            allowed.join(".worktrees"),
        ))),
        project_roots: vec![allowed.clone()],
        health: told,
        closing: closing.clone(),
        peers: callers.clone(),
        limits,
    });
    tokio::spawn(async move { hearth::http::serve(listener, state).await });
    Service {
        address,
        callers,
        store,
        tree,
        health,
        closing,
        stops,
        http: reqwest::Client::builder().no_proxy().build().unwrap(),
        root: allowed,
        _root: root,
    }
}

impl Service {
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.bare(method, path).bearer_auth(TOKEN)
    }

    /// Without the token.
    pub(crate) fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("http://{}{path}", self.address))
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        answer(self.request(Method::POST, path).json(body)).await
    }

    /// A repository to register.
    pub(crate) fn repository(&self, name: &str) -> PathBuf {
        let path = self.root.join(name);
        git2::Repository::init(&path).unwrap();
        path
    }

    pub(crate) async fn project(&self) -> Uuid {
        let path = self.repository(&format!("p{}", Uuid::now_v7().simple()));
        let (status, body) = self.post("/api/projects", &json!({ "path": path })).await;
        assert_eq!(status, 201, "{body}");
        id(&body)
    }

    pub(crate) async fn session(&self) -> Uuid {
        let project = self.project().await;
        let (status, body) = self
            .post("/api/sessions", &json!({ "project_id": project }))
            .await;
        assert_eq!(status, 201, "{body}");
        id(&body)
    }

    pub(crate) async fn chat(&self) -> (Uuid, Uuid) {
        let session = self.session().await;
        let (status, body) = self
            .post(&format!("/api/sessions/{session}/chats"), &json!({}))
            .await;
        assert_eq!(status, 201, "{body}");
        (session, id(&body))
    }

    /// A task that waits in a session of its own.
    pub(crate) async fn task(&self) -> (SessionId, TaskId) {
        let (session, chat) = self.chat().await;
        let (status, body) = self
            .post(
                &format!("/api/chats/{chat}/messages"),
                &json!({ "content": "hello", "agent": "demo" }),
            )
            .await;
        assert_eq!(status, 202, "{body}");
        let task = Uuid::try_parse(body["task_id"].as_str().unwrap()).unwrap();
        (SessionId(session), TaskId(task))
    }

    /// A task whose turn runs, as its rows say, and whose it is.
    pub(crate) async fn running_task(&self) -> (TaskId, SessionKey) {
        let (_, task) = self.task().await;
        let chat: Uuid = sqlx::query_scalar(
            "insert into hearth.turns (id, task_id, session_id, attempt, node, incarnation, claim_id,
                agent, user_message_id, assistant_message_id)
             select $2, q.task_id, q.session_id, 1, $2, 1, $2, q.agent, q.user_message_id, $2
             from hearth.queue q where q.task_id = $1
             returning (select chat_id from hearth.queue where task_id = $1)",
        )
        .bind(task.0)
        .bind(Uuid::now_v7())
        .fetch_one(self.store.pool())
        .await
        .unwrap();
        let key = SessionKey {
            chat: ChatId(chat),
            agent: "demo".into(),
        };
        (task, key)
    }

    /// Stores frames at the end of the session's stream, unpublished.
    pub(crate) async fn store_frames(
        &self,
        session: SessionId,
        task: Option<TaskId>,
        drafts: &[(FrameKind, Value)],
    ) -> Vec<Frame> {
        let count = i64::try_from(drafts.len()).unwrap();
        let last: i64 = sqlx::query_scalar(
            "update hearth.streams set last_seq = last_seq + $2 where session_id = $1
             returning last_seq",
        )
        .bind(session.0)
        .bind(count)
        .fetch_one(self.store.pool())
        .await
        .unwrap();
        let kinds: Vec<&str> = drafts.iter().map(|(kind, _)| kind.as_str()).collect();
        let data: Vec<Value> = drafts.iter().map(|(_, data)| data.clone()).collect();
        sqlx::query(
            "insert into hearth.frames(session_id, seq, kind, task_id, data)
             select $1, $2 + n, kind, $3, data
             from unnest($4::text[], $5::jsonb[]) with ordinality as f(kind, data, n)",
        )
        .bind(session.0)
        .bind(last - count)
        .bind(task.map(|task| task.0))
        .bind(kinds)
        .bind(data)
        .execute(self.store.pool())
        .await
        .unwrap();
        self.store
            .read_frames(session, last - count, count)
            .await
            .unwrap()
    }
}

pub(crate) async fn answer(request: RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (
        status,
        serde_json::from_str(&text).unwrap_or(Value::String(text)),
    )
}

pub(crate) fn id(body: &Value) -> Uuid {
    Uuid::try_parse(body["id"].as_str().unwrap()).unwrap()
}

/// Ids, times and paths differ from run to run.
pub(crate) fn settings() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_snapshot_path("../snapshots");
    settings.add_filter(
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "<id>",
    );
    settings.add_filter(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "<time>");
    settings.add_filter(r"/tmp/\.tmp\w+", "<root>");
    settings
}
