//! The agents of the settings as the tree sees them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use hearth_actors::catalog::Catalog;
use hearth_actors::ids::AgentName;
use hearth_actors::ports::{AgentBackend, AgentEntry, Agents, ServerBackend, Transcripts};
use tokio::sync::mpsc;

use super::acp::{AcpBackend, Launch, Learn};
use super::claude::{Alone, ClaudeBackend};
use super::opencode::OpencodeBackend;
use super::pty::{Plain, PtyBackend};
use crate::config::agents::{self, AgentDef, Home, Program, Protocol};
use crate::process::{Limits, Room};

/// Ends the name of a folder for temporary files of processes that run once.
const ONCE: &str = "-once";

/// What all backends share.
#[derive(Clone)]
pub struct Means {
    /// Where children are started.
    pub room: Room,
    /// Hearth's own file, for agents that are built into it.
    pub hearth: PathBuf,
    /// Holds one home for each agent that wants its own.
    pub homes: PathBuf,
    /// Hearth's environment, of which agents inherit a part.
    pub environment: Vec<(OsString, OsString)>,
    /// Takes what live sessions tell about their agents. What finds it full is
    /// lost, and told again by the next session.
    pub learned: Option<mpsc::Sender<(AgentName, Catalog)>>,
    /// Where claude's transcripts are kept.
    pub transcripts: Option<Arc<dyn Transcripts>>,
    /// Claude is run warm (`CLAUDE_SDK_BACKEND`).
    pub warm_claude: bool,
}

/// The configured agents, by name and alias.
pub struct Registry {
    entries: BTreeMap<AgentName, AgentEntry>,
}

impl Registry {
    /// Builds a backend for each definition.
    #[must_use]
    pub fn new(agents: &agents::Agents, means: &Means) -> Self {
        let mut registry = Self {
            entries: BTreeMap::new(),
        };
        for (name, def) in &agents.defs {
            let entry = AgentEntry {
                backend: backend(name, def, means),
                server: server(name, def, means),
                alone: alone(name, def, means),
                policy: def.permission,
                idle_ttl: def.idle_ttl,
                deadlines: def.deadlines,
                memory: def.memory,
                definition: definition(def),
            };
            registry.insert(name, entry);
        }
        for (alias, target) in &agents.aliases {
            if let Some(entry) = registry.entries.get(target).cloned() {
                registry.insert(alias, entry);
            }
        }
        registry
    }

    /// Adds or replaces one agent, such as one with a backend of its own.
    pub fn insert(&mut self, name: &AgentName, entry: AgentEntry) {
        self.entries.insert(name.clone(), entry);
    }
}

/// The agents as they are set at this moment.
pub struct LiveRegistry(RwLock<Arc<Registry>>);

impl LiveRegistry {
    /// These, until others are set.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        Self(RwLock::new(Arc::new(registry)))
    }

    /// From now on these, all at once. What runs goes on as it was started.
    pub fn set(&self, registry: Registry) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(registry);
    }

    fn now(&self) -> Arc<Registry> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Agents for LiveRegistry {
    fn get(&self, name: &AgentName) -> Option<AgentEntry> {
        self.now().get(name)
    }

    fn names(&self) -> Vec<AgentName> {
        self.now().names()
    }
}

impl Agents for Registry {
    fn get(&self, name: &AgentName) -> Option<AgentEntry> {
        self.entries.get(name).cloned()
    }

    fn names(&self) -> Vec<AgentName> {
        self.entries.keys().cloned().collect()
    }
}

/// How an agent is launched, wherever its definition came from.
#[must_use]
pub fn launch(name: &AgentName, def: &AgentDef, means: &Means) -> Launch {
    Launch {
        name: name.to_string(),
        program: match &def.command {
            Program::Hearth => means.hearth.clone(),
            Program::Named(command) => command.into(),
        },
        args: arguments(def),
        env: def.env.clone(),
        pass_env: def.pass_env.clone(),
        private_home: (def.home == Home::Private).then(|| means.homes.join(name.as_str())),
        temporary: leaves_files(def).then(|| means.homes.join(format!(".{name}{ONCE}"))),
        mode: def.mode.clone(),
        quirks: def.quirks.clone(),
        limits: Limits {
            memory: def.memory,
            pids: def.pids,
        },
        parent_env: means.environment.clone(),
    }
}

/// Each process of opencode leaves 5.6 MB where temporary files are (1.18.33).
fn leaves_files(def: &AgentDef) -> bool {
    def.protocol == Protocol::Opencode && !def.env.contains_key("TMPDIR")
}

/// Removes what processes of a killed life left of their temporary files below `homes`.
/// What cannot be removed stays for the next start.
pub fn clear_temporary(homes: &Path) {
    for entry in std::fs::read_dir(homes).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with('.') && name.to_string_lossy().ends_with(ONCE) {
            let removed = std::fs::remove_dir_all(entry.path());
            tracing::debug!(folder = ?entry.path(), ?removed, "temporary files of an earlier life");
        }
    }
}

fn arguments(def: &AgentDef) -> Vec<String> {
    let command = (def.protocol == Protocol::Opencode).then(|| "acp".to_owned());
    command
        .into_iter()
        .chain(def.args.iter().cloned())
        .collect()
}

/// How many times the memory from which it is renewed a server may take before the
/// kernel ends it with all its turns: renewal waits for them.
const SERVER_ROOM: u64 = 2;

/// How many times the processes of one agent a server may have: it runs the tools of
/// many chats, of which few build something at the same moment.
const SERVER_CHATS: u32 = 8;

fn server(name: &AgentName, def: &AgentDef, means: &Means) -> Option<Arc<dyn ServerBackend>> {
    if def.protocol != Protocol::Opencode {
        return None;
    }
    let launch = Launch {
        args: def.args.clone(),
        limits: Limits {
            memory: def.server.memory.map(|bytes| bytes * SERVER_ROOM),
            pids: def.pids.map(|pids| pids.saturating_mul(SERVER_CHATS)),
        },
        ..launch(name, def, means)
    };
    let temporary = means.homes.join(format!(".{name}-server"));
    Some(Arc::new(OpencodeBackend::new(
        launch,
        means.room.clone(),
        def.deadlines,
        def.server,
        temporary,
    )))
}

fn backend(name: &AgentName, def: &AgentDef, means: &Means) -> Arc<dyn AgentBackend> {
    let (launch, room) = (launch(name, def, means), means.room.clone());
    match def.protocol {
        Protocol::Acp | Protocol::Opencode => {
            let backend = AcpBackend::new(launch, room);
            match learn(name, means) {
                Some(learn) => Arc::new(backend.telling(learn)),
                None => Arc::new(backend),
            }
        }
        Protocol::Claude if means.warm_claude => {
            let backend = ClaudeBackend::new(launch, room, means.transcripts.clone());
            match learn(name, means) {
                Some(learn) => Arc::new(backend.telling(learn)),
                None => Arc::new(backend),
            }
        }
        Protocol::Claude => Arc::new(claude_alone(launch, room)),
        Protocol::Pty => {
            let style = Plain::new(name.as_str(), &launch.args);
            Arc::new(PtyBackend::new(launch, room, style))
        }
    }
}

/// What runs a turn where the agent does not start to be kept warm.
fn alone(name: &AgentName, def: &AgentDef, means: &Means) -> Option<Arc<dyn AgentBackend>> {
    let kept = def.protocol == Protocol::Claude && means.warm_claude;
    kept.then(|| {
        let launch = launch(name, def, means);
        Arc::new(claude_alone(launch, means.room.clone())) as Arc<dyn AgentBackend>
    })
}

fn claude_alone(launch: Launch, room: Room) -> PtyBackend {
    let style = Alone::new(&launch);
    PtyBackend::new(launch, room, style)
}

/// Passes on what sessions of this agent tell.
fn learn(name: &AgentName, means: &Means) -> Option<Learn> {
    let (learned, name) = (means.learned.clone()?, name.clone());
    Some(Arc::new(move |catalog: &Catalog| {
        if learned.try_send((name.clone(), catalog.clone())).is_err() {
            tracing::debug!(agent = %name, "what a session told was not taken");
        }
    }))
}

/// A hash of the definition's own words: nothing depends on it but that it changes
/// with them.
fn definition(def: &AgentDef) -> u64 {
    let mut hash = DefaultHasher::new();
    format!("{def:?}").hash(&mut hash);
    hash.finish()
}
