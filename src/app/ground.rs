//! What a service stands on: its data directory, its identity, its database, and
//! what earlier lives left.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use hearth_actors::ids::NodeId;

use crate::config::{Settings, home};
use crate::process::{self, Room, SweepReport};
use crate::store::embedded::{self, EmbeddedConfig, EmbeddedPg};

/// Owners that a warning names.
const MAX_OWNERS: usize = 10;

pub(super) async fn lock(home: &Path) -> anyhow::Result<File> {
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
pub(super) fn node_id(home: &Path) -> anyhow::Result<NodeId> {
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

pub(super) async fn database(
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

/// What all agents' process trees may take, in bytes: half of the memory that there is,
/// for the machine or in its container, unless it is set; none does not limit.
pub(super) fn memory_cap(settings: &Settings) -> Option<u64> {
    match settings.pool_memory {
        Some(0) => None,
        Some(bytes) => Some(bytes),
        None => process::machine_memory().map(|bytes| bytes / 2),
    }
}

/// What the kernel holds agents to, or why to nothing: in a line for people.
pub(super) fn told(enforced: Result<String, String>) -> String {
    match enforced {
        Ok(what) => format!("enforced: {what}"),
        Err(why) => format!("not enforced: {why}"),
    }
}

/// What a service with these settings would tell, started from here. Touches nothing.
#[must_use]
pub fn would_enforce(settings: &Settings) -> String {
    told(process::would_enforce(settings.cgroups))
}

/// What the boot could not clear away.
pub(super) fn unswept(swept: &SweepReport) -> Option<String> {
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
