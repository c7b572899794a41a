//! The configured agents: is each one there, does it open a session, and what
//! cures it if not?

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;

use super::report::Finding;
use crate::app::{self, Found};
use crate::cli::client::Client;
use crate::config::Settings;

/// Longest wait for a program to tell its version.
const VERSION_DEADLINE: Duration = Duration::from_secs(10);

/// Starts each agent once, as a session would, beside whatever service runs.
pub(super) async fn check(settings: &Settings) -> Vec<Finding> {
    match app::look_at_agents(settings).await {
        Ok(found) => found.into_iter().map(finding).collect(),
        Err(error) => vec![Finding::fail(
            "agent",
            format!("no agent can be started: {error:#}"),
            "free some disk or processes, or point TMPDIR to a directory of your own",
        )],
    }
}

fn finding(found: Found) -> Finding {
    let name = found.name;
    if let Some(fault) = found.fault {
        let first = fault.detail.lines().next().unwrap_or_default();
        let told = if first.contains(&name) {
            first.to_owned()
        } else {
            format!("{name}: {first}")
        };
        return Finding::warn("agent", told, fault.cure);
    }
    let version = found.version.unwrap_or_else(|| "version unknown".into());
    let told = format!("{name}: {version}, opens sessions");
    match found.server {
        None => Finding::ok("agent", told),
        Some(Ok(())) => Finding::ok("agent", format!("{told}; its chats share a server")),
        Some(Err(why)) => Finding::warn(
            "agent",
            format!("{told}; its chats get processes of their own: it {why}"),
            format!("install such a version, or write protocol = \"acp\" in [agents.{name}]"),
        ),
    }
}

/// What the running service says about its servers.
#[derive(Default, Deserialize)]
struct Known {
    #[serde(default)]
    servers: Vec<Server>,
    #[serde(default)]
    kernel_limits: Option<String>,
}

#[derive(Deserialize)]
struct Server {
    name: String,
    state: String,
    health: Option<String>,
    version: Option<String>,
    pid: Option<i32>,
    rss_bytes: Option<u64>,
    tenants: u64,
    turns: u64,
    crashes: u64,
    last_restart: Option<String>,
    last_restart_at: Option<String>,
    stderr: Option<String>,
}

/// The servers that chats share in the running service, and what that says of the
/// kernel's limits.
pub(super) async fn servers(client: &Client) -> (Vec<Finding>, Option<String>) {
    let known: Known = client.get("/api/health").await.unwrap_or_default();
    let servers = known.servers.into_iter().map(Server::finding);
    (servers.collect(), known.kernel_limits)
}

impl Server {
    fn finding(self) -> Finding {
        let mut told = format!("{}: {}", self.name, self.state);
        let mut also = |text: String| {
            told.push_str(", ");
            told.push_str(&text);
        };
        if let Some(version) = &self.version {
            also(version.clone());
        }
        if let Some(pid) = self.pid {
            also(format!("pid {pid}"));
        }
        if let Some(bytes) = self.rss_bytes {
            also(format!("{} MB", bytes / (1024 * 1024)));
        }
        also(format!("{} chats, {} turns", self.tenants, self.turns));
        if let Some(why) = &self.last_restart {
            let at = self.last_restart_at.as_deref().unwrap_or("some time ago");
            also(format!("{} crashes, last ended {at}: {why}", self.crashes));
        }
        let is_well = self.health.as_deref().is_none_or(|health| health == "well");
        if is_well && self.state != "backing_off" {
            return Finding::ok("server", told);
        }
        if let Some(health) = &self.health {
            told = format!("{told}; {health}");
        }
        if let Some(last) = self.stderr.as_deref().and_then(|text| text.lines().last()) {
            told = format!("{told}; its last words: {last}");
        }
        Finding::warn(
            "server",
            told,
            "wait: Hearth starts it again, and its chats have processes of their own meanwhile",
        )
    }
}

/// The first line that `program` says about its version.
pub(super) async fn version(
    program: &str,
    args: &[&str],
    env: &BTreeMap<String, String>,
) -> Result<String, String> {
    let path = find(program, env).ok_or_else(|| format!("`{program}` is not in PATH"))?;
    let asked = tokio::process::Command::new(&path)
        .args(args)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let shown = path.display();
    let told = tokio::time::timeout(VERSION_DEADLINE, asked)
        .await
        .map_err(|_| format!("{shown} does not tell its version within 10 s"))?
        .map_err(|error| format!("{shown} cannot be run: {error}"))?;
    let text = String::from_utf8_lossy(&told.stdout);
    let line = text.lines().find(|line| !line.trim().is_empty());
    match line {
        Some(line) if told.status.success() => Ok(line.trim().chars().take(100).collect()),
        _ => Err(format!(
            "{shown} {} failed ({})",
            args.join(" "),
            told.status
        )),
    }
}

/// As a shell would find it.
pub(super) fn find(program: &str, env: &BTreeMap<String, String>) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| is_executable(path));
    }
    std::env::split_paths(env.get("PATH")?)
        .map(|dir| dir.join(program))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok()
}
