//! The configured agents: is each one there, and which version is it?

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures::future::join_all;

use super::report::Finding;
use crate::config::Settings;
use crate::config::agents::Program;

/// Longest wait for a program to tell its version: some are written in
/// languages that take seconds to start.
const VERSION_DEADLINE: Duration = Duration::from_secs(10);

pub(super) async fn check(settings: &Settings, env: &BTreeMap<String, String>) -> Vec<Finding> {
    let checks = settings.agents.defs.iter().map(|(name, agent)| async move {
        match &agent.command {
            Program::Hearth => Finding::ok("agent", format!("{name}: built in")),
            Program::Named(program) => match version(program, &["--version"], env).await {
                Ok(version) => Finding::ok("agent", format!("{name}: {version}")),
                Err(why) => Finding::warn(
                    "agent",
                    format!("{name}: {why}"),
                    format!("install it, or set `command` in [agents.{name}] to where it is"),
                ),
            },
        }
    });
    let mut findings: Vec<Finding> = join_all(checks).await;
    if let Some(default) = &settings.default_agent {
        let known = settings
            .agents
            .defs
            .keys()
            .chain(settings.agents.aliases.keys());
        let names: Vec<&str> = known.map(|name| name.as_str()).collect();
        if !names.contains(&default.as_str()) {
            findings.push(Finding::fail(
                "agent",
                format!("default_agent `{default}` is not configured"),
                format!("use one of: {}", names.join(", ")),
            ));
        }
    }
    findings
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
