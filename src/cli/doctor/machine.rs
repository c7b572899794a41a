//! The machine: data directory, token, port, git, kernel.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::sys::statvfs::statvfs;
use nix::unistd::AccessFlags;

use super::report::Finding;
use crate::access::{self, Token, TokenError};
use crate::app;
use crate::cli::client::Client;
use crate::config::{Cgroups, Settings};
use crate::http::render::size;

/// Below this much free disk the first checkpoint may already fail.
const DISK_LOW: u64 = 1 << 30;
/// Below this much nothing works.
const DISK_OUT: u64 = 100 << 20;

pub(super) fn settings(settings: &Settings) -> Finding {
    let from = settings.config_file.as_ref().map_or_else(
        || "no hearth.toml; the defaults hold".to_owned(),
        |path| path.display().to_string(),
    );
    let claude = match settings.claude_sdk_backend {
        true => "",
        false => "; CLAUDE_SDK_BACKEND is off: each turn of claude is a process of its own",
    };
    Finding::ok("settings", format!("{from}{claude}"))
}

pub(super) fn home(home: &Path) -> Vec<Finding> {
    let us = nix::unistd::geteuid().as_raw();
    let shown = home.display();
    let state = match fs::metadata(home) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match unwritable(home) {
            None => Finding::ok("home", format!("{shown} will be made at the first start")),
            Some(why) => Finding::fail(
                "home",
                format!("{shown} cannot be made: {why}"),
                "set HEARTH_HOME to a directory that you may write",
            ),
        },
        Err(error) => Finding::fail(
            "home",
            format!("{shown}: {error}"),
            "set HEARTH_HOME to a directory of your own",
        ),
        Ok(found) if !found.is_dir() => Finding::fail(
            "home",
            format!("{shown} is no directory"),
            "set HEARTH_HOME to a directory of your own",
        ),
        Ok(found) if found.uid() != us => Finding::fail(
            "home",
            format!("{shown} belongs to user {}, not to us ({us})", found.uid()),
            "run as its owner, or set HEARTH_HOME",
        ),
        Ok(found) if found.mode() & 0o067 != 0 => Finding::warn(
            "home",
            format!(
                "{shown} is open to others (mode {:o})",
                found.mode() & 0o777
            ),
            format!("chmod 700 {shown}; the next start does it too"),
        ),
        Ok(_) => match unwritable(home) {
            None => Finding::ok("home", shown.to_string()),
            Some(why) => Finding::fail(
                "home",
                why,
                format!("chmod u+rwx {shown}, or set HEARTH_HOME to another directory"),
            ),
        },
    };
    let mut findings = vec![state];
    findings.extend(disk(home));
    findings
}

/// Why nothing can be made in the nearest directory that exists.
fn unwritable(home: &Path) -> Option<String> {
    let existing = home.ancestors().find(|path| path.exists())?;
    let wanted = AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK;
    let why = nix::unistd::access(existing, wanted).err()?;
    Some(format!(
        "{} cannot be written ({})",
        existing.display(),
        why.desc()
    ))
}

/// Of the nearest directory that exists.
fn disk(home: &Path) -> Option<Finding> {
    let existing = home.ancestors().find(|path| path.is_dir())?;
    let facts = statvfs(existing).ok()?;
    let free = facts
        .blocks_available()
        .saturating_mul(facts.fragment_size());
    let what = format!("{} free at {}", size(free), existing.display());
    let cure = "free some disk, or set HEARTH_HOME to a larger one";
    Some(match free {
        0..DISK_OUT => Finding::fail("disk", what, cure),
        DISK_OUT..DISK_LOW => Finding::warn("disk", what, cure),
        _ => Finding::ok("disk", what),
    })
}

pub(super) fn token(settings: &Settings) -> Finding {
    if settings.token.is_some() {
        return Finding::ok("token", "set by HEARTH_TOKEN or hearth.toml");
    }
    let file = access::file(&settings.home);
    match Token::read(&settings.home) {
        Ok(_) => Finding::ok("token", file.display().to_string()),
        Err(TokenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Finding::ok("token", "will be minted at the first start")
        }
        Err(error) => {
            let text = error.to_string();
            let (what, cure) = text
                .split_once("\n  cure: ")
                .unwrap_or((&text, "delete it"));
            Finding::fail("token", what, cure)
        }
    }
}

pub(super) async fn port(settings: &Settings, service: Option<&str>) -> Finding {
    if let Some(url) = service {
        return Finding::ok("service", format!("runs at {url}"));
    }
    let address = settings.listen;
    match tokio::net::TcpListener::bind(address).await {
        Ok(_) => Finding::ok("service", format!("not running; {address} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let hearth = Client::alive(&format!("http://{address}")).await;
            let who = if hearth {
                "another Hearth"
            } else {
                "something else"
            };
            Finding::fail(
                "service",
                format!("{who} listens on {address}"),
                "stop it, or set HEARTH_LISTEN to another address",
            )
        }
        Err(error) => Finding::fail(
            "service",
            format!("{address} cannot be listened on: {error}"),
            "set HEARTH_LISTEN to an address of this host, with a port above 1023",
        ),
    }
}

pub(super) async fn git(env: &BTreeMap<String, String>) -> Finding {
    match super::agents::version("git", &["--version"], env).await {
        Ok(version) => Finding::ok("git", version),
        Err(why) => Finding::fail("git", why, "install git (apt-get install git)"),
    }
}

/// What the shim needs to find every descendant.
pub(super) fn kernel() -> Vec<Finding> {
    let children = Path::new("/proc/thread-self/children");
    let mut findings = vec![if fs::read(children).is_ok() {
        Finding::ok("kernel", "descendants of a process can be listed")
    } else {
        Finding::fail(
            "kernel",
            format!("{} cannot be read", children.display()),
            "use a kernel with CONFIG_PROC_CHILDREN, and mount /proc",
        )
    }];
    findings.push(match nix::sys::prctl::get_child_subreaper() {
        Ok(_) => Finding::ok("kernel", "orphans can be adopted (subreaper)"),
        Err(error) => Finding::fail(
            "kernel",
            format!("orphans cannot be adopted: {error}"),
            "use Linux 5.3 or newer",
        ),
    });
    let rollup = Path::new("/proc/self/smaps_rollup");
    findings.push(if fs::read(rollup).is_ok() {
        Finding::ok("memory", "agents' memory is weighed every 2 s")
    } else {
        Finding::warn(
            "memory",
            format!(
                "{} cannot be read: pages that agents share count for each",
                rollup.display()
            ),
            "use a kernel with CONFIG_PROC_PAGE_MONITOR",
        )
    });
    findings
}

/// What the kernel holds agents to: as the running service says it, else as one would
/// that is started as this command was.
pub(super) fn limits(told: Option<String>, settings: &Settings) -> Finding {
    let (who, what) = match told {
        Some(told) => ("the service", told),
        None => ("a service started from here", app::would_enforce(settings)),
    };
    let what = format!("limits of agents in {who}: {what}");
    if settings.cgroups == Cgroups::On && what.contains(": not enforced: ") {
        let cure = "give Hearth a control group of its own that it may write (Delegate=yes of systemd), or set pool.cgroups = \"auto\"";
        return Finding::warn("limits", what, cure);
    }
    Finding::ok("limits", what)
}
