//! Builds the parts, starts them in order, and stops them in order: the only
//! place that knows all rooms.

mod background;
mod doors;
mod ground;
mod looks;
mod reload;
mod retries;

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use chrono::Utc;
use hearth_actors::ids::AgentName;
use hearth_actors::ports::{Agents as _, Ports};
use hearth_actors::tree::handle::TreeHandle;
use hearth_actors::tree::{Limits as TreeLimits, Status, TreeSettings};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::access::Token;
use crate::backends::acp::quirks;
use crate::backends::probe::Prober;
use crate::backends::probe::rounds::Looks;
use crate::backends::registry::{LiveRegistry, Means, Registry, clear_temporary};
use crate::checks::Runner;
use crate::config::service_file::ServiceFile;
use crate::config::{Cgroups, ConfigErrors, Flags, Settings, home};
use crate::http::state::{Health, Known, Limits, Parts, Readiness, Shared, Stop};
use crate::http::{self, HostRules};
use crate::metrics::Metrics;
use crate::process::{self, Room, RoomConfig, ShimPath};
use crate::store::embedded::EmbeddedPg;
use crate::store::{self, FamilyLimits, Store, StoreOptions};
use crate::worktrees::{GitWorktrees, WorktreesConfig};
use background::{
    heed, keep_for_a_time, look_for_cancels, look_for_expired, report_health, watch_queue,
};
use doors::{Callers, Git};
pub use ground::would_enforce;
use ground::{database, lock, memory_cap, node_id, told, unswept};
pub use looks::{Found, look_at_agents};
use looks::{Kept, Looking, homes, keep, means};
use retries::retry_interrupted;

/// Signals of the database that may wait; they coalesce.
const SIGNALS: usize = 64;
/// Wishes to stop that may wait: the first, and one that is in a hurry.
const STOPS: usize = 2;
/// Tellings of live sessions about their agents that may wait; more are lost.
const TELLINGS: usize = 64;
/// Longest wait for open requests when the service stops.
const HTTP_BOUND: Duration = Duration::from_secs(5);
/// Longest wait for statements that still run then.
const STORE_BOUND: Duration = Duration::from_secs(2);

/// What the doors know of the settings.
fn known(registry: &Registry, settings: &Settings) -> Known {
    let policy = |name: AgentName| {
        let policy = registry.get(&name)?.policy;
        Some((name.to_string(), policy))
    };
    let aliases = settings.agents.aliases.iter();
    Known {
        agents: registry.names().into_iter().filter_map(policy).collect(),
        aliases: aliases
            .map(|(alias, name)| (alias.to_string(), name.to_string()))
            .collect(),
        grace: settings.shutdown_grace,
    }
}

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
    /// As they hold now.
    settings: Settings,
    means: Means,
    agents: Arc<LiveRegistry>,
    known: watch::Sender<Arc<Known>>,
    looks: Looks,
    probed: watch::Sender<Vec<String>>,
    probing: JoinHandle<()>,
    stops: mpsc::Receiver<Stop>,
    closing: CancellationToken,
    http: JoinHandle<()>,
    tasks: Vec<JoinHandle<()>>,
    database: Option<EmbeddedPg>,
    /// One Hearth a data directory; given back by the kernel in any case.
    _lock: File,
}

/// Starts the service.
///
/// # Errors
/// What could not be started, and the cure. An [`std::io::ErrorKind::WouldBlock`] in
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
        cgroups: settings.cgroups,
    })?;
    if settings.cgroups == Cgroups::On
        && let Err(why) = room.enforced()
    {
        tracing::warn!(%why, "no control groups, although `pool.cgroups` is \"on\"");
    }
    let kernel_limits = told(room.enforced());
    let swept = room.sweep().await;
    tracing::debug!(?swept, "processes of earlier lives");
    clear_temporary(&homes(&settings));
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
    options.budgets = settings.budgets;
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
        transcripts: Some(Arc::new(store.clone())),
        ..means(&settings, room.clone())?
    };
    let registry = Registry::new(&settings.agents, &means);
    let prober = Prober::new(&settings.agents, &means, settings.home.join("probe"));
    let looks = Looks::default();
    let (probed, names) = watch::channel(prober.names().map(ToString::to_string).collect());
    let (known, who) = watch::channel(Arc::new(known(&registry, &settings)));
    let warnings = unswept.into_iter().collect();
    let agents = Arc::new(LiveRegistry::new(registry));
    let metrics = Metrics::new();
    let worktrees = Arc::new(GitWorktrees::new(WorktreesConfig {
        min_free: settings.worktrees_min_free,
        ..WorktreesConfig::new(settings.home.join("worktrees"))
    }));
    let memory = Arc::new(store.clone());
    let ports = Ports {
        queue: memory.clone(),
        lease: memory.clone(),
        journal: memory.clone(),
        arenas: memory.clone(),
        checks: Arc::new(Runner::new(room.clone())),
        reap_rows: memory.clone(),
        reap_files: worktrees.clone(),
        set_up_rows: memory.clone(),
        set_up_files: worktrees.clone(),
        limits: memory.clone(),
        agents: agents.clone(),
        meter: Arc::new(metrics.clone()),
        review: worktrees.clone(),
        worktrees: worktrees.clone(),
        operations: memory,
        processes: Arc::new(room.clone()),
    };
    let tree_settings = TreeSettings {
        limits: TreeLimits {
            max_live: settings.pool_max_live,
            memory: memory_cap(&settings),
        },
        sweep_every: settings.lifecycle_sweep,
        retry: settings.retry,
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
        kernel_limits,
    }));
    let (signals, inbox) = mpsc::channel(SIGNALS);
    let tasks = vec![
        tokio::spawn(store.listener().run(signals)),
        tokio::spawn(heed(inbox, tree.clone(), store.clone())),
        tokio::spawn(look_for_cancels(store.clone(), tree.clone())),
        tokio::spawn(look_for_expired(store.clone(), tree.clone())),
        tokio::spawn(retry_interrupted(
            tree.status(),
            store.clone(),
            tree.clone(),
        )),
        tokio::spawn(report_health(tree.status(), health.clone())),
        tokio::spawn(keep_for_a_time(
            store.clone(),
            worktrees.as_ref().clone(),
            settings.keep_frames,
        )),
        tokio::spawn(keep(tellings, store.clone())),
        tokio::spawn(watch_queue(store.clone(), metrics.clone())),
    ];
    let probing = tokio::spawn(looks.clone().run(
        prober,
        Arc::new(Kept(store.clone())),
        settings.probe_every,
    ));
    let (stop, stops) = mpsc::channel(STOPS);

    let closing = CancellationToken::new();
    let address = listener.local_addr()?;
    let state = Shared::new(Parts {
        store: store.clone(),
        tree: Arc::new(tree.clone()),
        token: token.clone(),
        hosts: HostRules::new(settings.listen, &settings.allowed_hosts),
        known: who,
        metrics,
        stop,
        looks: Arc::new(Looking {
            names,
            looks: looks.clone(),
        }),
        default_agent: settings.default_agent.clone(),
        repositories: Arc::new(Git),
        files: worktrees.clone(),
        set_ups: worktrees.clone(),
        history: worktrees,
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
        settings,
        means,
        agents,
        known,
        looks,
        probed,
        probing,
        stops,
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

    /// Who asks over HTTP that it stops; once.
    pub fn stops(&mut self) -> mpsc::Receiver<Stop> {
        std::mem::replace(&mut self.stops, mpsc::channel(1).1)
    }

    /// The supervision tree.
    #[must_use]
    pub fn tree(&self) -> TreeHandle {
        self.tree.clone()
    }

    /// How long a stop lets turns finish.
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.settings.shutdown_grace
    }

    /// Lets turns finish for the grace period, then stops everything.
    pub async fn stop(self) {
        let grace = self.grace();
        self.stop_within(grace).await;
    }

    /// The same with another grace: the tree first, HTTP next, so that people can
    /// watch it stop, the database last.
    pub async fn stop_within(self, grace: Duration) {
        self.health
            .send_modify(|health| health.readiness = Readiness::Stopping);
        self.tree.shutdown(grace).await;
        self.closing.cancel();
        if tokio::time::timeout(HTTP_BOUND, self.http).await.is_err() {
            tracing::warn!("open requests were cut after {HTTP_BOUND:?}");
        }
        for task in self.tasks.iter().chain([&self.probing]) {
            task.abort();
        }
        ServiceFile::remove(&self.settings.home, std::process::id());
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
        self.means.room.leave_groups();
    }
}
