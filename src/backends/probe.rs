//! Looks at the configured agents: which are there, in which version, what they
//! offer, and what is wrong with the others.
//!
//! A look starts the agent as a session would, in the same hardened environment,
//! in an empty directory of its own, opens one session and stops it again.
//! Nothing is prompted, and no model is called.

pub mod fault;
pub mod rounds;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hearth_actors::catalog::Catalog;
use hearth_actors::ids::{AgentName, ChatId, Generation, SessionId, SessionKey};
use hearth_actors::model::{Deadlines, Policy};
use hearth_actors::ports::{AgentBackend, LinkSpec};
use tokio::io::AsyncReadExt as _;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::acp::{AcpBackend, Launch};
use super::claude::ClaudeBackend;
use super::opencode;
use super::registry::{self, Means};
use crate::config::agents::{Agents, Program, Protocol};
use crate::process::{Owner, ProcessSpec, Room};
use fault::Fault;

/// Longest wait for a program to tell its version: some are written in
/// languages that take seconds to start.
const VERSION_DEADLINE: Duration = Duration::from_secs(10);
/// Most bytes read of what it says.
const VERSION_BYTES: u64 = 4096;
/// Longest version that is kept, in characters.
const VERSION_CHARS: usize = 100;
/// Longest wait for a session, whatever the agent's own deadline is.
const SESSION_DEADLINE: Duration = Duration::from_secs(60);
/// How long commands are waited for, which agents tell some time after the
/// session began. Live sessions tell them too.
const COMMANDS_WAIT: Duration = Duration::from_secs(1);
/// Events nobody reads that may wait.
const EVENTS: usize = 64;

/// What a look brought.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The agent's configured name.
    pub name: String,
    /// The program's file, if there is one.
    pub install_path: Option<PathBuf>,
    /// The first line that it says about its version.
    pub version: Option<String>,
    /// What it offers; none when it opened no session.
    pub catalog: Option<Catalog>,
    /// It is run once for each prompt, at a terminal, and opened no session.
    pub at_terminal: bool,
    /// Whether its chats can share a server, where that is wanted, or why not.
    pub server: Option<Result<(), String>>,
    /// What is wrong, if something is.
    pub fault: Option<Fault>,
}

/// Knows how to look at each configured agent.
pub struct Prober {
    targets: BTreeMap<AgentName, Target>,
    room: Room,
    directory: PathBuf,
}

struct Target {
    launch: Launch,
    protocol: Protocol,
    deadlines: Deadlines,
    /// It keeps sessions, so that one can be opened to look at.
    has_sessions: bool,
    built_in: bool,
    is_server: bool,
}

impl Prober {
    /// Looks at the agents of the settings; `directory` holds the directories
    /// that they are started in.
    #[must_use]
    pub fn new(agents: &Agents, means: &Means, directory: PathBuf) -> Self {
        let targets = agents.defs.iter().map(|(name, def)| {
            let target = Target {
                launch: registry::launch(name, def, means),
                deadlines: def.deadlines,
                protocol: def.protocol,
                has_sessions: match def.protocol {
                    Protocol::Claude => means.warm_claude,
                    protocol => protocol != Protocol::Pty,
                },
                built_in: def.command == Program::Hearth,
                is_server: def.protocol == Protocol::Opencode,
            };
            (name.clone(), target)
        });
        Self {
            targets: targets.collect(),
            room: means.room.clone(),
            directory,
        }
    }

    /// The agents it knows, ordered.
    pub fn names(&self) -> impl Iterator<Item = &AgentName> {
        self.targets.keys()
    }

    /// Looks at one agent; none if it is not configured. Takes at most some
    /// 90 s: the deadlines of version, session and stop.
    pub async fn look(&self, name: &AgentName) -> Option<Found> {
        let target = self.targets.get(name)?;
        let mut found = Found {
            name: name.to_string(),
            ..Found::default()
        };
        let place = match Place::new(&self.directory) {
            Ok(place) => place,
            Err(error) => {
                found.fault = Some(Fault::no_place(&self.directory, &error));
                return Some(found);
            }
        };
        let owner = Owner::Named(format!("look at {name}"));
        let mut process = match target.launch.command(owner.clone(), &place.0) {
            Ok(process) => process,
            Err(error) => {
                found.fault = Some(Fault::start(name, &error));
                return Some(found);
            }
        };
        match process.resolve_command() {
            Ok(path) => found.install_path = Some(path),
            Err(error) => {
                found.fault = Some(Fault::missing(name, &error));
                return Some(found);
            }
        }
        if target.built_in {
            found.version = Some(env!("CARGO_PKG_VERSION").to_owned());
        } else if target.protocol != Protocol::Pty {
            // Nobody knows what any other program makes of that.
            process.args = vec![OsString::from("--version")];
            found.version = self.version(process).await;
        }
        if !target.has_sessions {
            // Whatever is asked of it, the turn itself will tell.
            found.catalog = Some(Catalog::default());
            found.at_terminal = true;
            return Some(found);
        }
        if target.is_server {
            found.server = found.version.as_deref().map(opencode::known);
        }
        let (catalog, fault) = self.ask(name, target, owner, &place.0).await;
        found.catalog = catalog;
        found.fault = fault;
        Some(found)
    }

    /// What the program says to `--version`, if it says something.
    async fn version(&self, process: ProcessSpec) -> Option<String> {
        let mut process = self.room.spawn(process).await.ok()?;
        drop(process.take_stdin());
        let mut bytes = Vec::new();
        let stdout = process.take_stdout()?;
        let read = async {
            // What was read before it broke is still worth a look.
            let _ = stdout.take(VERSION_BYTES).read_to_end(&mut bytes).await;
        };
        if timeout(VERSION_DEADLINE, read).await.is_err() {
            tracing::debug!("a program did not tell its version in time");
        }
        process.kill();
        let text = String::from_utf8_lossy(&bytes);
        let line = text.lines().find(|line| !line.trim().is_empty())?;
        let shown = line.trim().chars().filter(|c| !c.is_control());
        Some(shown.take(VERSION_CHARS).collect())
    }

    /// Opens one session and stops it again.
    async fn ask(
        &self,
        name: &AgentName,
        target: &Target,
        owner: Owner,
        place: &Path,
    ) -> (Option<Catalog>, Option<Fault>) {
        let (seen, mut told) = watch::channel(None::<Catalog>);
        let learn =
            Arc::new(move |catalog: &Catalog| drop(seen.send_replace(Some(catalog.clone()))));
        let (launch, room) = (target.launch.clone(), self.room.clone());
        let backend: Box<dyn AgentBackend> = match target.protocol {
            Protocol::Claude => {
                let backend = ClaudeBackend::new(launch, room, None);
                Box::new(backend.telling(learn).owned_by(owner))
            }
            _ => Box::new(AcpBackend::new(launch, room).telling(learn).owned_by(owner)),
        };
        let (events, mut unread) = mpsc::channel(EVENTS);
        tokio::spawn(async move { while unread.recv().await.is_some() {} });
        let limit = target.deadlines.spawn.min(SESSION_DEADLINE);
        let spec = LinkSpec {
            key: SessionKey {
                chat: ChatId::new(),
                agent: name.clone(),
            },
            session: SessionId::new(),
            generation: Generation::default(),
            cwd: place.to_owned(),
            env: BTreeMap::new(),
            resume: None,
            forgotten: None,
            model: None,
            mode: None,
            thinking: None,
            features: BTreeMap::new(),
            policy: Policy::Ask,
            deadlines: target.deadlines,
        };
        let fault = match timeout(limit, backend.start(spec, events)).await {
            Ok(Ok(link)) => {
                let commands = told
                    .wait_for(|seen| seen.as_ref().is_some_and(|seen| !seen.commands.is_empty()));
                // An agent without commands has none to tell.
                drop(timeout(COMMANDS_WAIT, commands).await);
                link.stop(false).await;
                None
            }
            Ok(Err(error)) => Some(Fault::start(name, &error)),
            Err(_) => Some(Fault::timed_out(name, limit)),
        };
        let catalog = told.borrow().clone();
        (catalog, fault)
    }
}

/// An empty directory, removed in the end with what an agent left there.
struct Place(PathBuf);

impl Place {
    fn new(parent: &Path) -> io::Result<Self> {
        let path = parent.join(uuid::Uuid::new_v4().simple().to_string());
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::debug!(%error, path = %self.0.display(), "a directory stays behind");
        }
    }
}
