//! What an agent is, once its table is read.

use std::collections::BTreeMap;
use std::time::Duration;

use hearth_actors::ids::AgentName;
use hearth_actors::model::{Deadlines, Policy};
use hearth_actors::rules::health::Limits;
use thiserror::Error;

/// One thing wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{path}: {problem}; {cure}")]
pub struct ConfigError {
    /// Where, such as `agents.gemini.protocol`.
    pub path: String,
    /// What is wrong.
    pub problem: String,
    /// What to write instead.
    pub cure: String,
}

/// How Hearth talks with an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The Agent Client Protocol over stdio, one child per chat.
    Acp,
    /// One `opencode serve` for all chats.
    Opencode,
    /// Claude Code's streaming JSON.
    Claude,
    /// A program at a terminal, one run for each prompt.
    Pty,
}

impl Protocol {
    pub(super) const WORDS: &[(&str, Self)] = &[
        ("acp", Self::Acp),
        ("opencode", Self::Opencode),
        ("claude", Self::Claude),
        ("pty", Self::Pty),
    ];

    /// As the settings say it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Acp => "acp",
            Self::Opencode => "opencode",
            Self::Claude => "claude",
            Self::Pty => "pty",
        }
    }
}

/// What is executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// Hearth itself, wherever its file is now.
    Hearth,
    /// An absolute path, or a name to look up in the agent's `PATH`.
    Named(String),
}

/// Which home directory an agent lives in: its login and its sessions are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// The user's own.
    User,
    /// One of its own, kept by Hearth.
    Private,
}

/// One agent, ready to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentDef {
    /// How Hearth talks with it.
    pub protocol: Protocol,
    /// What is executed.
    pub command: Program,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment set for it.
    pub env: BTreeMap<String, String>,
    /// Names (with `*` as wildcard) that it inherits beyond the base allow-list.
    pub pass_env: Vec<String>,
    /// The mode set after each new, loaded or resumed session, where it has modes.
    pub mode: Option<String>,
    /// What it may do where a task says nothing.
    pub permission: Policy,
    /// Unused this long, its process is stopped.
    pub idle_ttl: Duration,
    /// Most bytes that its process tree may take; none does not limit.
    pub memory: Option<u64>,
    /// Most processes and threads of it at a time, where the kernel can be asked to
    /// see to it; none does not limit.
    pub pids: Option<u32>,
    /// Where it lives.
    pub home: Home,
    /// Names of oddities, beyond those known for the name it reports.
    pub quirks: Vec<String>,
    /// The clocks of its turns.
    pub deadlines: Deadlines,
    /// When its server counts as deaf or too large, where it has one.
    pub server: Limits,
}

/// What applies to every agent that says nothing of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// Unused this long, its process is stopped.
    pub idle_ttl: Duration,
    /// The clocks of its turns.
    pub deadlines: Deadlines,
}

/// Processes and threads of an agent, its tools included: a build takes hundreds, one
/// that forks without end is to be stopped before the machine's are used up.
const PIDS: u32 = 1024;

impl AgentDef {
    /// What an agent is when its table says nothing: ACP, asking, in the user's home.
    pub(super) fn plain(defaults: &Defaults) -> Self {
        Self {
            protocol: Protocol::Acp,
            command: Program::Named(String::new()),
            args: Vec::new(),
            env: BTreeMap::new(),
            pass_env: Vec::new(),
            mode: None,
            permission: Policy::Ask,
            idle_ttl: defaults.idle_ttl,
            memory: None,
            pids: Some(PIDS),
            home: Home::User,
            quirks: Vec::new(),
            deadlines: defaults.deadlines,
            server: Limits::default(),
        }
    }
}

/// All agents of the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agents {
    /// By name.
    pub defs: BTreeMap<AgentName, AgentDef>,
    /// Other names for them.
    pub aliases: BTreeMap<AgentName, AgentName>,
}
