//! Agents as data: `[agents.NAME]` tables become [`Agents`].
//!
//! Parsing is pure. It reads every table to its end and returns all errors at
//! once, each with the place, the problem and the cure. The built-in agents are
//! definitions like any other: a table of the same name changes the keys it
//! names and leaves the rest.

mod builtin;
mod def;
mod fields;

use std::collections::BTreeMap;

use hearth_actors::ids::AgentName;
use hearth_actors::model::{Deadlines, Policy};
use toml::Table;

pub use def::{AgentDef, Agents, ConfigError, Defaults, Home, Program, Protocol};
use fields::Fields;

/// Keys of an agent's table, in the order people write them.
const KEYS: &[&str] = &[
    "alias",
    "protocol",
    "command",
    "args",
    "env",
    "pass_env",
    "mode",
    "permission",
    "idle_ttl_ms",
    "memory_mb",
    "pids_max",
    "home",
    "quirks",
    "deadlines",
    "server",
];

/// Keys of an agent's `server` table.
const SERVER_KEYS: &[&str] = &[
    "probe_ms",
    "probe_timeout_ms",
    "failures",
    "busy_grace_ms",
    "memory_mb",
];

/// Most of what `failures` and either `memory_mb` may say: a thousand probes, 1 TiB.
const MOST_FAILURES: u32 = 1000;
const MOST_MEGABYTES: u32 = 1024 * 1024;
/// As many as the kernel has numbers for.
const MOST_PIDS: u32 = 4 * 1024 * 1024;

/// Keys of an agent's `deadlines` table.
const DEADLINE_KEYS: &[&str] = &[
    "spawn_ms",
    "first_byte_ms",
    "stall_ms",
    "wall_ms",
    "cancel_ms",
    "term_ms",
    "prompt_ms",
];

/// Reads the `agents` table over the built-in agents. `defaults` apply where
/// an agent says nothing; `quirks` are the names that its `quirks` may hold.
///
/// # Errors
/// Every problem found, ordered by agent.
pub fn parse(
    table: Option<&Table>,
    defaults: &Defaults,
    quirks: &[&str],
) -> Result<Agents, Vec<ConfigError>> {
    let mut errors = Vec::new();
    let mut agents = Agents {
        defs: builtin::defs(defaults),
        aliases: BTreeMap::new(),
    };
    for (name, value) in table.into_iter().flatten() {
        let path = format!("agents.{name}");
        let Some(table) = value.as_table() else {
            errors.push(error(
                &path,
                "is not a table",
                format!("write [agents.{name}]"),
            ));
            continue;
        };
        if !is_name(name) {
            errors.push(error(
                &path,
                "is not a usable agent name",
                "use 1 to 64 letters, digits, '-', '_' or '.'",
            ));
            continue;
        }
        read_agent(
            name,
            &mut Fields::new(&path, table, &mut errors),
            defaults,
            quirks,
            &mut agents,
        );
    }
    check_aliases(&agents, &mut errors);
    if errors.is_empty() {
        Ok(agents)
    } else {
        Err(errors)
    }
}

fn read_agent(
    name: &str,
    fields: &mut Fields<'_>,
    defaults: &Defaults,
    quirks: &[&str],
    agents: &mut Agents,
) {
    fields.refuse_unknown(KEYS);
    let name = AgentName::from(name);
    if let Some(alias) = fields.text("alias") {
        fields.refuse_others("alias", KEYS);
        agents.defs.remove(&name);
        agents.aliases.insert(name, AgentName::from(alias));
        return;
    }
    let known = agents.defs.remove(&name);
    let is_new = known.is_none();
    let mut def = known.unwrap_or_else(|| AgentDef::plain(defaults));
    if let Some(protocol) = fields.word("protocol", Protocol::WORDS) {
        // The subcommand, which a server does not need.
        if def.protocol == Protocol::Opencode && protocol == Protocol::Acp {
            def.args.insert(0, "acp".to_owned());
        }
        def.protocol = protocol;
    }
    match fields.text("command") {
        Some(command) => def.command = Program::Named(command),
        None if is_new && !fields.has("command") => fields.problem(
            "command",
            "is missing",
            "name the program to run, such as command = \"gemini\"",
        ),
        None => {}
    }
    if let Some(args) = fields.texts("args") {
        // So it was written for opencode before it had a server.
        if args.first().is_some_and(|first| first == "acp") && !fields.has("protocol") {
            def.protocol = Protocol::Acp;
        }
        def.args = args;
    }
    if let Some(env) = fields.text_map("env") {
        def.env.extend(env);
    }
    if let Some(pass_env) = fields.texts("pass_env") {
        def.pass_env = pass_env;
    }
    if let Some(mode) = fields.text("mode") {
        def.mode = Some(mode);
    }
    let policies: Vec<_> = Policy::ALL.iter().map(|it| (it.as_str(), *it)).collect();
    if let Some(policy) = fields.word("permission", &policies) {
        def.permission = policy;
    }
    if let Some(ttl) = fields.millis("idle_ttl_ms") {
        def.idle_ttl = ttl;
    }
    if let Some(megabytes) = fields.count("memory_mb", 0, MOST_MEGABYTES) {
        def.memory = (megabytes > 0).then(|| u64::from(megabytes) * 1024 * 1024);
    }
    if let Some(pids) = fields.count("pids_max", 0, MOST_PIDS) {
        def.pids = (pids > 0).then_some(pids);
    }
    if let Some(home) = fields.word("home", HOMES) {
        def.home = home;
    }
    if let Some(quirks) = fields.known_texts("quirks", quirks) {
        def.quirks = quirks;
    }
    if let Some(mut clocks) = fields.table("deadlines") {
        read_deadlines(&mut clocks, &mut def.deadlines);
    }
    read_server(fields, &mut def);
    if def.protocol == Protocol::Opencode
        && def
            .args
            .first()
            .is_some_and(|first| ["acp", "serve"].contains(&first.as_str()))
    {
        fields.problem(
            "args",
            "begins with a subcommand, which protocol = \"opencode\" brings itself",
            "leave it out, or write protocol = \"acp\"",
        );
    }
    if def.protocol == Protocol::Claude
        && def.permission != Policy::AllowAll
        && def.args.iter().any(|arg| skips_questions(arg))
    {
        fields.problem(
            "args",
            "let claude skip its questions, which only permission = \"allow_all\" may",
            "leave that out: Hearth answers them by `permission`",
        );
    }
    if def.protocol == Protocol::Claude
        && def.permission < Policy::AllowEdits
        && def.mode.as_deref() == Some("acceptEdits")
    {
        fields.problem(
            "mode",
            "lets claude edit files unasked, which `permission` does not allow",
            "leave it out, or write permission = \"allow_edits\"",
        );
    }
    if def.protocol == Protocol::Pty && def.permission != Policy::AllowAll {
        fields.problem(
            "permission",
            "cannot hold a program that asks nobody",
            "write permission = \"allow_all\": what it may do is up to its own arguments",
        );
    }
    agents.defs.insert(name, def);
}

/// `--permission-mode bypassPermissions` in two words is found by the second.
fn skips_questions(arg: &str) -> bool {
    arg.contains("dangerously-skip-permissions") || arg.ends_with("bypassPermissions")
}

fn read_server(fields: &mut Fields<'_>, def: &mut AgentDef) {
    if fields.has("server") && def.protocol != Protocol::Opencode {
        fields.problem(
            "server",
            "is for agents that are run as a server",
            "leave it out, or write protocol = \"opencode\"",
        );
    }
    let Some(mut server) = fields.table("server") else {
        return;
    };
    server.refuse_unknown(SERVER_KEYS);
    let limits = &mut def.server;
    for (key, slot) in [
        ("probe_ms", &mut limits.period),
        ("probe_timeout_ms", &mut limits.timeout),
        ("busy_grace_ms", &mut limits.busy_grace),
    ] {
        if let Some(duration) = server.millis(key) {
            *slot = duration;
        }
    }
    if let Some(failures) = server.count("failures", 1, MOST_FAILURES) {
        limits.failures = failures;
    }
    if let Some(megabytes) = server.count("memory_mb", 0, MOST_MEGABYTES) {
        limits.memory = (megabytes > 0).then(|| u64::from(megabytes) * 1024 * 1024);
    }
}

fn read_deadlines(fields: &mut Fields<'_>, deadlines: &mut Deadlines) {
    fields.refuse_unknown(DEADLINE_KEYS);
    for (key, slot) in [
        ("spawn_ms", &mut deadlines.spawn),
        ("first_byte_ms", &mut deadlines.first_byte),
        ("stall_ms", &mut deadlines.stall),
        ("wall_ms", &mut deadlines.wall),
        ("cancel_ms", &mut deadlines.cancel),
        ("term_ms", &mut deadlines.term),
    ] {
        if let Some(duration) = fields.millis(key) {
            *slot = duration;
        }
    }
    if let Some(duration) = fields.millis("prompt_ms") {
        deadlines.prompt = Some(duration);
    }
}

/// An alias names an agent, not another alias: one step, no circles.
fn check_aliases(agents: &Agents, errors: &mut Vec<ConfigError>) {
    for (name, target) in &agents.aliases {
        if agents.defs.contains_key(target) {
            continue;
        }
        let names: Vec<_> = agents.defs.keys().map(AgentName::as_str).collect();
        errors.push(error(
            &format!("agents.{name}.alias"),
            format!("\"{target}\" is not a configured agent"),
            format!("name one of {}", names.join(", ")),
        ));
    }
}

const HOMES: &[(&str, Home)] = &[("user", Home::User), ("private", Home::Private)];

/// Names become parts of paths and of process markers.
fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn error(path: &str, problem: impl Into<String>, cure: impl Into<String>) -> ConfigError {
    ConfigError {
        path: path.into(),
        problem: problem.into(),
        cure: cure.into(),
    }
}
