//! The settings: one typed value from flags, environment and `hearth.toml`, in
//! that order, complete and checked before anything opens.

pub mod agents;
mod cgroups;
pub mod home;
mod limits;
pub mod problem;
pub mod service_file;
mod source;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use hearth_actors::ids::AgentName;
use hearth_actors::limits::BudgetSettings;
use hearth_actors::model::Deadlines;
use hearth_actors::rules::retry;

use crate::access::Token;
use agents::Agents;
pub use cgroups::Cgroups;
pub use problem::{ConfigErrors, Problem};
use source::Sources;

/// The port of the service that Hearth replaces, so that its callers need no change.
const DEFAULT_PORT: u16 = 9502;

/// Flags given on the command line, by the key they set, and the config file.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// Key (as in `hearth.toml`) to value.
    pub values: BTreeMap<&'static str, String>,
}

/// Everything that can be set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where HTTP listens (`listen`, `HEARTH_LISTEN`; 127.0.0.1:9502).
    pub listen: SocketAddr,
    /// The data directory (`home`, `HEARTH_HOME`), absolute.
    pub home: PathBuf,
    /// A database of the user's (`database_url`, `DATABASE_URL`); none means
    /// a private one in the home.
    pub database_url: Option<String>,
    /// A token of the user's (`token`, `HEARTH_TOKEN`); none means the minted one.
    pub token: Option<Token>,
    /// Unused this long, an agent is stopped (`pool.idle_ttl_ms`, 30 min).
    pub pool_idle_ttl: Duration,
    /// Warm agents at a time (`pool.max_live`, 10).
    pub pool_max_live: usize,
    /// Most memory of all agents' process trees, in bytes (`pool.memory_mb`; half of
    /// the machine's, 0: no limit); none means the default.
    pub pool_memory: Option<u64>,
    /// Whether agents get control groups of their own (`pool.cgroups`, auto).
    pub cgroups: Cgroups,
    /// How long frames are kept (`retention.frames_ms`, 30 days).
    pub keep_frames: Duration,
    /// Between two sweeps of the reaper (`lifecycle_sweep_ms`, 60 s).
    pub lifecycle_sweep: Duration,
    /// Bytes that must be free for a new worktree (`worktrees.min_free_mb`, 512 MiB).
    pub worktrees_min_free: u64,
    /// Agents with `protocol = "claude"` are run warm (`claude_sdk_backend`, on).
    pub claude_sdk_backend: bool,
    /// Who runs tasks that name no agent (`default_agent`); none leaves them unclaimed.
    pub default_agent: Option<String>,
    /// Host names that requests may carry beyond loopback's (`allowed_hosts`), lower case.
    pub allowed_hosts: Vec<String>,
    /// Projects must lie below one of these (`project_roots`,
    /// `HEARTH_PROJECT_ROOTS`); empty means anywhere.
    pub project_roots: Vec<PathBuf>,
    /// The clocks of a turn (`deadlines.*_ms`).
    pub deadlines: Deadlines,
    /// Generations of tasks below the first one (`tasks.max_depth`, 3).
    pub tasks_max_depth: u32,
    /// Tasks that one task may ask for (`tasks.max_children`, 8).
    pub tasks_max_children: u32,
    /// What may be spent (`budget.{day,session,task}.*`); nothing is bounded by default.
    pub budgets: BudgetSettings,
    /// How often refused prompts are tried again (`retry.attempts`, 5; `retry.per_hour`, 60).
    pub retry: retry::Limits,
    /// How long a stop waits for running turns (`shutdown_grace_ms`, 30 s).
    pub shutdown_grace: Duration,
    /// Between two looks at all agents (`probe_every_ms`, 6 h); zero: only
    /// when somebody asks.
    pub probe_every: Duration,
    /// The built-in agents and those of `[agents.*]`.
    pub agents: Agents,
    /// The file that was read, if there was one.
    pub config_file: Option<PathBuf>,
}

impl Settings {
    /// Reads the three places. `quirks` are the names that the `quirks` of an
    /// agent may hold.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(
        flags: &Flags,
        env: &BTreeMap<String, String>,
        quirks: &[&str],
    ) -> Result<Self, ConfigErrors> {
        let (config_file, missing) = config_file(flags, env);
        let mut sources = Sources::new(&flags.values, env, config_file.as_deref());
        sources.problems.extend(missing);
        let settings = read(&mut sources, config_file, quirks);
        sources.refuse_unknown();
        match settings {
            Some(settings) if sources.problems.is_empty() => Ok(settings),
            _ => Err(ConfigErrors(sources.problems)),
        }
    }

    /// Whether nobody beyond this host can reach the service.
    #[must_use]
    pub fn listens_on_loopback(&self) -> bool {
        self.listen.ip().is_loopback()
    }
}

/// The environment as text; what is not UTF-8 is no setting of ours.
#[must_use]
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// A file that was named must exist; the default one need not.
fn config_file(
    flags: &Flags,
    env: &BTreeMap<String, String>,
) -> (Option<PathBuf>, Option<Problem>) {
    let var = |name: &str| env.get(name).filter(|value| !value.is_empty());
    let named = match (&flags.config, var("HEARTH_CONFIG")) {
        (Some(path), _) => Some(("--config", path.clone())),
        (None, Some(path)) => Some(("HEARTH_CONFIG", PathBuf::from(path))),
        (None, None) => None,
    };
    if let Some((place, path)) = named {
        if path.is_file() {
            return (Some(path), None);
        }
        let what = format!("there is no file {}", path.display());
        return (
            None,
            Some(Problem::new(
                place,
                what,
                "create it, or name one that exists",
            )),
        );
    }
    let default = home::config_dir(env).map(|dir| dir.join("hearth.toml"));
    (default.filter(|path| path.is_file()), None)
}

fn count(from: &mut Sources<'_>, key: &'static str, var: &'static str, default: u32) -> u32 {
    from.get(key, var, source::number(0, 1000))
        .and_then(|number| u32::try_from(number).ok())
        .unwrap_or(default)
}

fn read(from: &mut Sources<'_>, config_file: Option<PathBuf>, quirks: &[&str]) -> Option<Settings> {
    let defaults = Deadlines::default();
    let pool_idle_ttl = from
        .get(
            "pool.idle_ttl_ms",
            "AGENT_POOL_IDLE_TTL_MS",
            source::millis(1),
        )
        .unwrap_or(Duration::from_secs(30 * 60));
    let deadlines = Deadlines {
        spawn: deadline(from, "deadlines.spawn_ms", defaults.spawn),
        first_byte: deadline(from, "deadlines.first_byte_ms", defaults.first_byte),
        stall: deadline(from, "deadlines.stall_ms", defaults.stall),
        wall: deadline(from, "deadlines.wall_ms", defaults.wall),
        cancel: deadline(from, "deadlines.cancel_ms", defaults.cancel),
        term: deadline(from, "deadlines.term_ms", defaults.term),
        prompt: from.get(
            "deadlines.prompt_ms",
            "HEARTH_DEADLINES_PROMPT_MS",
            source::millis(1),
        ),
    };
    let agents = read_agents(
        from,
        &agents::Defaults {
            idle_ttl: pool_idle_ttl,
            deadlines,
        },
        quirks,
    );
    let settings = Settings {
        listen: from
            .get("listen", "HEARTH_LISTEN", listen_address)
            .unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT))),
        home: read_home(from)?,
        database_url: from.get("database_url", "DATABASE_URL", database_url),
        token: from.get("token", "HEARTH_TOKEN", |value| {
            source::text(value).and_then(|text| Token::parse(&text).map_err(str::to_owned))
        }),
        pool_idle_ttl,
        pool_max_live: from
            .get(
                "pool.max_live",
                "AGENT_POOL_MAX_LIVE",
                source::number(1, 10_000),
            )
            .and_then(|number| usize::try_from(number).ok())
            .unwrap_or(10),
        pool_memory: from
            .get(
                "pool.memory_mb",
                "AGENT_POOL_MEMORY_MB",
                source::number(0, 64 * 1024 * 1024),
            )
            .map(|megabytes| megabytes * 1024 * 1024),
        cgroups: from
            .get("pool.cgroups", "AGENT_POOL_CGROUPS", cgroups::read)
            .unwrap_or_default(),
        keep_frames: from
            .get(
                "retention.frames_ms",
                "HEARTH_RETENTION_FRAMES_MS",
                source::millis(1000),
            )
            .unwrap_or(Duration::from_secs(30 * 24 * 60 * 60)),
        lifecycle_sweep: from
            .get(
                "lifecycle_sweep_ms",
                "LIFECYCLE_SWEEP_MS",
                source::millis(1000),
            )
            .unwrap_or(Duration::from_secs(60)),
        worktrees_min_free: from
            .get(
                "worktrees.min_free_mb",
                "HEARTH_WORKTREES_MIN_FREE_MB",
                source::number(0, 1 << 30),
            )
            .unwrap_or(512)
            << 20,
        claude_sdk_backend: from
            .get("claude_sdk_backend", "CLAUDE_SDK_BACKEND", source::flag)
            .unwrap_or(true),
        default_agent: read_default_agent(from, &agents),
        allowed_hosts: from
            .get("allowed_hosts", "HEARTH_ALLOWED_HOSTS", host_list)
            .unwrap_or_default(),
        project_roots: from
            .get("project_roots", "HEARTH_PROJECT_ROOTS", path_list)
            .unwrap_or_default(),
        deadlines,
        tasks_max_depth: count(from, "tasks.max_depth", "HEARTH_TASKS_MAX_DEPTH", 3),
        tasks_max_children: count(from, "tasks.max_children", "HEARTH_TASKS_MAX_CHILDREN", 8),
        budgets: limits::budgets(from),
        retry: limits::retry(from),
        shutdown_grace: from
            .get(
                "shutdown_grace_ms",
                "HEARTH_SHUTDOWN_GRACE_MS",
                source::millis(0),
            )
            .unwrap_or(Duration::from_secs(30)),
        probe_every: from
            .get("probe_every_ms", "HEARTH_PROBE_EVERY_MS", source::millis(0))
            .unwrap_or(Duration::from_secs(6 * 60 * 60)),
        agents,
        config_file,
    };
    Some(settings)
}

fn read_home(from: &mut Sources<'_>) -> Option<PathBuf> {
    let given = from.find("home", "HEARTH_HOME").is_some();
    let home = from.get("home", "HEARTH_HOME", source::absolute_path);
    match (given, home) {
        (true, home) => home.or_else(|| Some(PathBuf::from("/"))),
        (false, _) => match home::default_home(from.env) {
            Some(home) => Some(home),
            None => {
                from.problems.push(Problem::new(
                    "HEARTH_HOME",
                    "no home: neither XDG_DATA_HOME nor HOME is set",
                    "set HEARTH_HOME to a directory of your own",
                ));
                None
            }
        },
    }
}

fn read_agents(from: &mut Sources<'_>, defaults: &agents::Defaults, quirks: &[&str]) -> Agents {
    let table = from.take_table("agents");
    agents::parse(Some(&table), defaults, quirks).unwrap_or_else(|errors| {
        for error in errors {
            let place = format!("{}: {}", from.file_name(), error.path);
            from.problems
                .push(Problem::new(place, error.problem, error.cure));
        }
        Agents::default()
    })
}

fn read_default_agent(from: &mut Sources<'_>, agents: &Agents) -> Option<String> {
    let place = from.find("default_agent", "HEARTH_DEFAULT_AGENT")?.place;
    let name = from.get("default_agent", "HEARTH_DEFAULT_AGENT", source::text)?;
    let known = || {
        agents
            .defs
            .keys()
            .chain(agents.aliases.keys())
            .map(AgentName::as_str)
    };
    // None are known where their own settings are wrong, which is told.
    if agents.defs.is_empty() || known().any(|known| known == name) {
        return Some(name);
    }
    let cure = match problem::nearest(&name, known()) {
        Some(meant) => format!("did you mean {meant}?"),
        None => format!("use one of: {}", known().collect::<Vec<_>>().join(", ")),
    };
    let what = format!("`{name}` is not configured");
    from.problems.push(Problem::new(place, what, cure));
    None
}

fn deadline(from: &mut Sources<'_>, key: &'static str, default: Duration) -> Duration {
    let variable = format!("HEARTH_{}", key.replace('.', "_").to_uppercase());
    from.get(key, &variable, source::millis(1))
        .unwrap_or(default)
}

fn listen_address(value: &toml::Value) -> Result<SocketAddr, String> {
    source::text(value)
        .ok()
        .map(|text| text.replace("localhost:", "127.0.0.1:"))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| "an address with a port, such as 127.0.0.1:9502".into())
}

fn database_url(value: &toml::Value) -> Result<String, String> {
    source::text(value)
        .ok()
        .filter(|url| url.starts_with("postgres://") || url.starts_with("postgresql://"))
        .ok_or_else(|| "a postgres:// address".into())
}

/// Names without a port, such as `hearth.example.org`.
fn host_list(value: &toml::Value) -> Result<Vec<String>, String> {
    let hosts = source::list(',')(value)?;
    if hosts.iter().any(|host| host.contains(['/', ':', '*', ' '])) {
        return Err("a list of host names without scheme, port or wildcard".into());
    }
    Ok(hosts.iter().map(|host| host.to_ascii_lowercase()).collect())
}

fn path_list(value: &toml::Value) -> Result<Vec<PathBuf>, String> {
    let paths: Vec<PathBuf> = source::list(':')(value)?
        .into_iter()
        .map(PathBuf::from)
        .collect();
    if paths.iter().any(|path| !path.is_absolute()) {
        return Err("a list of absolute paths (in a variable: separated by `:`)".into());
    }
    Ok(paths)
}

#[cfg(test)]
mod tests;
