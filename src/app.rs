//! Builds the parts, starts them in order, and stops them in order: the only
//! place that knows all rooms.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use async_trait::async_trait;
use chrono::Utc;
use hearth_actors::catalog::Catalog;
use hearth_actors::ids::{AgentName, ChatId, NodeId, SessionId, TaskId};
use hearth_actors::ports::{Agents as _, Ports};
use hearth_actors::tree::handle::TreeHandle;
use hearth_actors::tree::{Status, TreeSettings};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::access::Token;
use crate::backends::acp::quirks;
use crate::backends::probe::rounds::{Findings, Looks};
use crate::backends::probe::{Found, Prober};
use crate::backends::registry::{Means, Registry};
use crate::config::service_file::ServiceFile;
use crate::config::{ConfigErrors, Flags, Settings, home};
use crate::http::state::{
    Health, Limits, Origin, Parts, Peers, Readiness, Repositories, Repository, Shared,
};
use crate::http::{self, HostRules};
use crate::process::{self, CallerKind, Room, RoomConfig, ShimPath, SweepReport};
use crate::store::embedded::{self, EmbeddedConfig, EmbeddedPg};
use crate::store::rows::providers;
use crate::store::{self, FamilyLimits, Signal, Store, StoreOptions};
use crate::worktrees::{self, GitWorktrees, WorktreesConfig};

/// Signals of the database that may wait; they coalesce.
const SIGNALS: usize = 64;
/// Longest read of one frame to be published: other signals wait meanwhile.
const FRAME_READ: Duration = Duration::from_secs(2);
/// Between two looks for cancels whose notification was lost.
const CANCEL_LOOK: Duration = Duration::from_secs(1);
/// Between two looks for what was kept long enough.
const RETENTION_LOOK: Duration = Duration::from_secs(60 * 60);
/// Tellings of live sessions about their agents that may wait; more are lost.
const TELLINGS: usize = 64;
/// Longest wait for open requests when the service stops.
const HTTP_BOUND: Duration = Duration::from_secs(5);
/// Longest wait for statements that still run then.
const STORE_BOUND: Duration = Duration::from_secs(2);
/// Owners that a warning names.
const MAX_OWNERS: usize = 10;

/// The settings, checked against what the rooms know.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn settings(flags: &Flags, env: &BTreeMap<String, String>) -> Result<Settings, ConfigErrors> {
    Settings::load(flags, env, quirks::NAMES)
}

/// A running service.
pub struct App {
    /// Where it answers, such as `http://127.0.0.1:9502`.
    pub url: String,
    /// Opens its API.
    pub token: String,
    tree: TreeHandle,
    store: Store,
    health: Arc<watch::Sender<Health>>,
    closing: CancellationToken,
    http: JoinHandle<io::Result<()>>,
    tasks: Vec<JoinHandle<()>>,
    database: Option<EmbeddedPg>,
    grace: Duration,
    home: PathBuf,
    /// One Hearth a data directory; given back by the kernel in any case.
    _lock: File,
}

/// Starts the service.
///
/// # Errors
/// What could not be started, and the cure. An [`io::ErrorKind::WouldBlock`] in
/// the chain means that another Hearth holds the data directory.
pub async fn start(settings: Settings) -> anyhow::Result<App> {
    home::prepare(&settings.home)?;
    let lock = lock(&settings.home).await?;
    // What an earlier life left must lead nobody to whoever has its port now.
    ServiceFile::clear(&settings.home);
    let listener = TcpListener::bind(settings.listen).await.with_context(|| {
        format!(
            "{} cannot be listened on\n  cure: end what uses it, or set HEARTH_LISTEN to another address",
            settings.listen
        )
    })?;
    process::harden().context("the process cannot be hidden from other processes of its user")?;
    let token = match &settings.token {
        Some(token) => token.clone(),
        None => Token::read_or_mint(&settings.home)?,
    };
    let node = node_id(&settings.home)?;
    let room = Room::open(RoomConfig {
        ledger_dir: settings.home.join("run/processes"),
        shim: ShimPath::SelfExe,
        node: node.0.simple().to_string(),
    })?;
    let swept = room.sweep().await;
    tracing::debug!(?swept, "processes of earlier lives");
    let unswept = unswept(&swept);
    if let Some(warning) = &unswept {
        tracing::warn!("{warning}");
    }

    let (connect, database) = database(&settings, &room).await?;
    let mut options = StoreOptions::new(connect, node);
    options.family = FamilyLimits {
        depth: settings.tasks_max_depth,
        children: settings.tasks_max_children,
    };
    options.default_agent = settings.default_agent.as_deref().map(AgentName::from);
    let place = match &database {
        Some(_) => "the private PostgreSQL".to_owned(),
        None => format!(
            "the database at {}:{}",
            options.connect.get_host(),
            options.connect.get_port()
        ),
    };
    let store = Store::connect(options)
        .await
        // Its words hold their cause.
        .map_err(|error| anyhow!("{place} cannot be used: {error}"))?;
    store::migrate(store.pool()).await?;
    store::refuse_other_consumer(store.pool()).await?;

    let (learned, tellings) = mpsc::channel(TELLINGS);
    let means = Means {
        learned: Some(learned),
        ..means(&settings.home, room.clone())?
    };
    let registry = Registry::new(&settings.agents, &means);
    let prober = Prober::new(&settings.agents, &means, settings.home.join("probe"));
    let looks = Looking {
        names: prober.names().map(ToString::to_string).collect(),
        looks: Looks::default(),
    };
    let policies = registry
        .names()
        .into_iter()
        .filter_map(|name| {
            let policy = registry.get(&name)?.policy;
            Some((name.to_string(), policy))
        })
        .collect();
    let warnings = registry
        .unusable()
        .iter()
        .map(|(name, why)| format!("agent {name}: {why}"))
        .chain(unswept)
        .collect();
    let worktrees = GitWorktrees::new(WorktreesConfig::new(settings.home.join("worktrees")));
    let memory = Arc::new(store.clone());
    let ports = Ports {
        queue: memory.clone(),
        lease: memory.clone(),
        journal: memory,
        agents: Arc::new(registry),
        worktrees: Arc::new(worktrees),
        processes: Arc::new(room.clone()),
    };
    let tree_settings = TreeSettings {
        max_live: settings.pool_max_live,
        sweep_every: settings.lifecycle_sweep,
        ..TreeSettings::default()
    };
    let tree = TreeHandle::start(ports, tree_settings)
        .await
        .map_err(|error| anyhow!("the supervision tree does not start: {error}"))?;
    let health = Arc::new(watch::Sender::new(Health {
        readiness: Readiness::Starting,
        started_at: Utc::now(),
        last_restart: None,
        warnings,
    }));
    let (signals, inbox) = mpsc::channel(SIGNALS);
    let tasks = vec![
        tokio::spawn(store.listener().run(signals)),
        tokio::spawn(heed(inbox, tree.clone(), store.clone())),
        tokio::spawn(look_for_cancels(store.clone(), tree.clone())),
        tokio::spawn(report_health(tree.status(), health.clone())),
        tokio::spawn(keep_for_a_time(store.clone(), settings.keep_frames)),
        tokio::spawn(keep(tellings, store.clone())),
        tokio::spawn(looks.looks.clone().run(
            prober,
            Arc::new(Kept(store.clone())),
            settings.probe_every,
        )),
    ];

    let closing = CancellationToken::new();
    let address = listener.local_addr()?;
    let state = Shared::new(Parts {
        store: store.clone(),
        tree: Arc::new(tree.clone()),
        token: token.clone(),
        hosts: HostRules::new(settings.listen, &settings.allowed_hosts),
        agents: policies,
        aliases: settings
            .agents
            .aliases
            .iter()
            .map(|(alias, name)| (alias.to_string(), name.to_string()))
            .collect(),
        looks: Arc::new(looks),
        default_agent: settings.default_agent.clone(),
        repositories: Arc::new(Git),
        project_roots: settings.project_roots.clone(),
        health: health.subscribe(),
        closing: closing.clone(),
        peers: Arc::new(Callers(room)),
        limits: Limits::default(),
    });
    let http = tokio::spawn(http::serve(listener, state));
    let url = format!("http://{address}");
    ServiceFile {
        url: url.clone(),
        pid: std::process::id(),
        started_at: Utc::now(),
    }
    .write(&settings.home)?;
    tracing::info!(%url, home = %settings.home.display(), "listening");
    Ok(App {
        url,
        token: token.expose().to_owned(),
        tree,
        store,
        health,
        closing,
        http,
        tasks,
        database,
        grace: settings.shutdown_grace,
        home: settings.home,
        _lock: lock,
    })
}

impl App {
    /// Waits until tasks are being claimed.
    ///
    /// # Errors
    /// The tree stopped or failed instead.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let mut status = self.tree.status();
        let seen = status
            .wait_for(|status| *status != Status::Starting)
            .await?;
        match &*seen {
            Status::Failed(why) => Err(anyhow!("the supervision tree failed: {why}")),
            _ => Ok(()),
        }
    }

    /// Waits until the tree gave up; returns why.
    pub async fn failed(&self) -> String {
        let mut status = self.tree.status();
        match status
            .wait_for(|status| matches!(status, Status::Failed(_)))
            .await
            .as_deref()
        {
            Ok(Status::Failed(why)) => why.clone(),
            _ => "its root actor is gone".into(),
        }
    }

    /// Lets turns finish for the grace period, then stops everything: the tree
    /// first, HTTP next, so that people can watch it stop, the database last.
    pub async fn stop(self) {
        self.health
            .send_modify(|health| health.readiness = Readiness::Stopping);
        self.tree.shutdown(self.grace).await;
        self.closing.cancel();
        if tokio::time::timeout(HTTP_BOUND, self.http).await.is_err() {
            tracing::warn!("open requests were cut after {HTTP_BOUND:?}");
        }
        for task in &self.tasks {
            task.abort();
        }
        ServiceFile::remove(&self.home, std::process::id());
        // Else every connection complains when the private server ends.
        if tokio::time::timeout(STORE_BOUND, self.store.close())
            .await
            .is_err()
        {
            tracing::warn!("open statements were cut after {STORE_BOUND:?}");
        }
        if let Some(database) = self.database {
            database.stop().await;
        }
    }
}

/// Turns signals of the database into words for the tree.
async fn heed(mut signals: mpsc::Receiver<Signal>, tree: TreeHandle, store: Store) {
    while let Some(signal) = signals.recv().await {
        match signal {
            Signal::Scan => tree.wakeup(),
            Signal::Control(verb) => match verb.split_once(' ') {
                Some(("cancel", id)) => with_id(id, |id| tree.cancel(TaskId(id))),
                Some(("chat_deleted", id)) => with_id(id, |id| tree.close_chat(ChatId(id))),
                Some(("frame", place)) => show_frame(place, &tree, &store).await,
                _ => tracing::warn!(%verb, "an unknown control verb"),
            },
        }
    }
}

/// Publishes the frame at `<session> <seq>`, which a trigger wrote, to those who
/// follow the session. One that is not found in time comes with their next read
/// of storage.
async fn show_frame(place: &str, tree: &TreeHandle, store: &Store) {
    let parsed = place.split_once(' ').and_then(|(session, seq)| {
        let session = SessionId(session.parse().ok()?);
        Some((session, seq.parse::<i64>().ok()?))
    });
    let Some((session, seq)) = parsed else {
        tracing::warn!(%place, "a control verb with a bad place of a frame");
        return;
    };
    if !tree.hub().is_followed(session) {
        return;
    }
    let read = store.read_frames(session, seq - 1, 1);
    match tokio::time::timeout(FRAME_READ, read).await {
        Ok(Ok(frames)) => tree.hub().publish(frames),
        Ok(Err(error)) => tracing::debug!(%session, seq, %error, "a frame comes late"),
        Err(_) => tracing::debug!(%session, seq, "a frame comes late: not read in {FRAME_READ:?}"),
    }
}

/// The net under `hearth_control`: a cancel is a row first.
async fn look_for_cancels(store: Store, tree: TreeHandle) {
    loop {
        tokio::time::sleep(CANCEL_LOOK).await;
        match store.wanted_cancels().await {
            Ok(tasks) => tasks.into_iter().for_each(|task| tree.cancel(task)),
            Err(error) => tracing::debug!(%error, "cancels could not be looked for"),
        }
    }
}

/// Deletes what was kept long enough, in small steps.
async fn keep_for_a_time(store: Store, frames: Duration) {
    loop {
        match store.prune_frames(frames).await {
            Ok(0) => {}
            Ok(deleted) => tracing::info!(deleted, "frames older than their retention"),
            Err(error) => tracing::warn!(%error, "old frames stay for now"),
        }
        tokio::time::sleep(RETENTION_LOOK.min(frames)).await;
    }
}

fn with_id(id: &str, act: impl FnOnce(uuid::Uuid)) {
    match id.parse() {
        Ok(id) => act(id),
        Err(error) => tracing::warn!(%id, %error, "a control verb with a bad id"),
    }
}

async fn report_health(mut status: watch::Receiver<Status>, health: Arc<watch::Sender<Health>>) {
    loop {
        let now = status.borrow_and_update().clone();
        health.send_modify(|health| match now {
            Status::Ready => health.readiness = Readiness::Ready,
            Status::Stopped | Status::Failed(_) => health.readiness = Readiness::Stopping,
            Status::Starting if health.readiness == Readiness::Ready => {
                health.readiness = Readiness::Starting;
                health.last_restart = Some("the tree began a new life".into());
            }
            Status::Starting => {}
        });
        if status.changed().await.is_err() {
            return;
        }
    }
}

async fn database(
    settings: &Settings,
    room: &Room,
) -> anyhow::Result<(sqlx::postgres::PgConnectOptions, Option<EmbeddedPg>)> {
    if let Some(url) = &settings.database_url {
        return Ok((embedded::parse_database_url(url)?, None));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut config = EmbeddedConfig::at_home(&settings.home, path);
    config.bin = std::env::var_os("HEARTH_PG_BIN").map(PathBuf::from);
    config.user = std::env::var("HEARTH_PG_USER").ok();
    let database = embedded::open(config, room.clone()).await?;
    Ok((database.connect_options(), Some(database)))
}

fn means(home: &Path, room: Room) -> anyhow::Result<Means> {
    Ok(Means {
        room,
        hearth: std::env::current_exe().context("Hearth's own file cannot be found")?,
        homes: home.join("homes"),
        environment: std::env::vars_os().collect(),
        learned: None,
    })
}

/// Looks at all agents of the settings without a service, one after the other.
///
/// # Errors
/// No process can be started from here.
pub async fn look_at_agents(settings: &Settings) -> anyhow::Result<Vec<Found>> {
    let place = std::env::temp_dir().join(format!("hearth-{}", uuid::Uuid::new_v4().simple()));
    let room = Room::open(RoomConfig {
        ledger_dir: place.join("processes"),
        shim: ShimPath::SelfExe,
        node: uuid::Uuid::new_v4().simple().to_string(),
    })?;
    let means = means(&settings.home, room)?;
    let prober = Prober::new(&settings.agents, &means, place.join("probe"));
    let mut found = Vec::new();
    for name in prober.names() {
        found.extend(prober.look(name).await);
    }
    if let Err(error) = std::fs::remove_dir_all(&place) {
        tracing::debug!(%error, "a directory of looks stays behind");
    }
    Ok(found)
}

/// The routes' way to looks at agents.
struct Looking {
    names: Vec<String>,
    looks: Looks,
}

impl http::state::Looks for Looking {
    fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    fn ask(&self, names: &[String]) {
        self.looks
            .ask(names.iter().map(|name| AgentName::from(name.as_str())));
    }

    fn pending(&self) -> Vec<String> {
        let pending = self.looks.pending();
        pending.iter().map(ToString::to_string).collect()
    }
}

/// Findings are rows.
struct Kept(Store);

#[async_trait]
impl Findings for Kept {
    async fn found(&self, found: Found) {
        let login = match &found.fault {
            Some(fault) if fault.kind == "not_logged_in" => Some("needed"),
            None => Some("ready"),
            Some(_) => None,
        };
        let look = providers::Look {
            name: found.name,
            install_path: found
                .install_path
                .map(|path| path.to_string_lossy().into_owned()),
            version: found.version,
            // One that opened no session tells less than what is known.
            catalog: found.catalog.filter(|_| found.fault.is_none()),
            login,
            fault: found
                .fault
                .map(|fault| (fault.kind, fault.detail, fault.cure)),
        };
        if let Err(error) = providers::looked(self.0.pool(), &look).await {
            tracing::warn!(%error, agent = %look.name, "what a look at an agent brought is lost");
        }
    }
}

/// Writes down what live sessions tell about their agents, where it is new.
async fn keep(mut tellings: mpsc::Receiver<(AgentName, Catalog)>, store: Store) {
    let mut last: BTreeMap<AgentName, Catalog> = BTreeMap::new();
    while let Some((name, catalog)) = tellings.recv().await {
        if last.get(&name) == Some(&catalog) {
            continue;
        }
        match providers::learned(store.pool(), name.as_str(), catalog.clone()).await {
            Ok(()) => drop(last.insert(name, catalog)),
            Err(error) => tracing::debug!(%error, agent = %name, "what a session told is lost"),
        }
    }
}

/// What the boot could not clear away.
fn unswept(swept: &SweepReport) -> Option<String> {
    if swept.left == 0 {
        return None;
    }
    let owners: Vec<&str> = swept.owners.iter().map(String::as_str).collect();
    let named = &owners[..owners.len().min(MAX_OWNERS)];
    let more = match owners.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "{} processes of an earlier life could not be killed and may still write to worktrees; found alive: {}{more}. Cure: find them by {} in /proc/*/environ, end them, and start again",
        swept.left,
        if named.is_empty() {
            "nobody the ledger knows".into()
        } else {
            named.join(", ")
        },
        process::MARKER,
    ))
}

async fn lock(home: &Path) -> anyhow::Result<File> {
    let path = home::lock_file(home);
    let held = home::lock(home)
        .await
        .with_context(|| format!("{} cannot be locked", path.display()))?;
    held.ok_or_else(|| anyhow!(io::Error::from(io::ErrorKind::WouldBlock)))
        .with_context(|| {
            format!(
                "another Hearth runs on {}\n  cure: use it, stop it, or set HEARTH_HOME to another directory",
                home.display()
            )
        })
}

/// The identity of this data directory, made at its first start.
fn node_id(home: &Path) -> anyhow::Result<NodeId> {
    let path = home.join("node");
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let id = text.trim().parse().with_context(|| {
                format!(
                    "{} holds no UUID\n  cure: restore it, or remove it to become a new node",
                    path.display()
                )
            })?;
            Ok(NodeId(id))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = NodeId::new();
            let draft = home.join(".node.new");
            std::fs::write(&draft, id.to_string())
                .and_then(|()| std::fs::rename(&draft, &path))
                .with_context(|| format!("{} cannot be written", path.display()))?;
            Ok(id)
        }
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

/// Access asks the process room whose process calls.
struct Callers(Room);

#[async_trait]
impl Peers for Callers {
    async fn origin(&self, peer: SocketAddr, local: SocketAddr) -> Origin {
        let room = self.0.clone();
        let caller = tokio::task::spawn_blocking(move || room.caller(peer, local)).await;
        match caller {
            Ok(CallerKind::Ours) => Origin::Agent,
            Ok(CallerKind::Other) => Origin::Elsewhere,
            // Who cannot be told is not let in.
            Ok(CallerKind::Gone) | Err(_) => Origin::Gone,
        }
    }
}

/// Registration looks at repositories through the worktrees room.
struct Git;

#[async_trait]
impl Repositories for Git {
    async fn inspect(&self, path: &Path) -> Result<Repository, String> {
        let path = path.to_owned();
        let facts = tokio::task::spawn_blocking(move || worktrees::inspect_project(&path))
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        Ok(Repository {
            root: facts.root,
            dirty: facts.dirty,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_killed_is_told_with_its_owners() {
        let mut swept = SweepReport {
            killed: 3,
            owners: vec!["chat 1, goose".into()],
            ..SweepReport::default()
        };
        assert_eq!(unswept(&swept), None);
        swept.left = 2;
        let warning = unswept(&swept).expect("a warning");
        assert!(warning.starts_with("2 processes"), "{warning}");
        assert!(warning.contains("chat 1, goose."), "{warning}");
        swept.owners = (0..12).map(|n| format!("chat {n}")).collect();
        let warning = unswept(&swept).expect("a warning");
        assert!(warning.contains("chat 9 and 2 more."), "{warning}");
    }
}
