//! `postmaster.pid`, and who really lives in a data directory.

use std::fs;
use std::path::Path;

use crate::process::Identity;

/// What the server writes about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pidfile {
    pub(super) pid: i32,
    /// Line 8 says `ready` once it accepts connections.
    pub(super) ready: bool,
}

impl Pidfile {
    pub(super) fn read(data: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(data.join(NAME)).ok()?)
    }

    /// Lines: pid, data directory, start time, port, socket directory, listen
    /// address, shared memory key, status.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        Some(Self {
            pid: lines.next()?.trim().parse().ok()?,
            ready: lines.nth(6).is_some_and(|status| status.trim() == "ready"),
        })
    }

    /// Removes what a killed server left. Its number may belong to a stranger
    /// by now, and then the server would refuse to start.
    pub(super) fn remove(data: &Path) {
        let _ = fs::remove_file(data.join(NAME));
    }
}

/// The live server of this data directory, if it accepts connections.
pub(super) fn ready_server(data: &Path) -> Option<Identity> {
    let file = Pidfile::read(data).filter(|file| file.ready)?;
    lives_in(file.pid, data).then(|| Identity::of(file.pid))?
}

/// All live server processes of this data directory: server and backends have
/// it as their working directory, whatever number they have.
pub(super) fn occupants(data: &Path) -> Vec<Identity> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| lives_in(*pid, data))
        .filter_map(Identity::of)
        .collect()
}

const NAME: &str = "postmaster.pid";

/// A person's shell may be in there as well, so the program counts too.
fn lives_in(pid: i32, data: &Path) -> bool {
    let link = |name: &str| fs::read_link(format!("/proc/{pid}/{name}")).ok();
    link("cwd").is_some_and(|directory| directory == data)
        && link("exe").is_some_and(|program| {
            // After an upgrade it reads `postgres (deleted)`.
            let name = program.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("postgres")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: &str = "4711\n/data\n1700000000\n5432\n/run\n\n  1234 5\nready   \n";

    #[test]
    fn a_server_is_ready_when_line_8_says_so() {
        assert_eq!(
            Pidfile::parse(READY),
            Some(Pidfile {
                pid: 4711,
                ready: true
            })
        );
        for status in ["starting", "stopping", "standby"] {
            let text = READY.replace("ready", status);
            assert!(!Pidfile::parse(&text).unwrap().ready, "{status}");
        }
    }

    #[test]
    fn a_file_that_is_being_written_is_not_ready() {
        assert!(!Pidfile::parse("4711\n/data\n").unwrap().ready);
        assert_eq!(Pidfile::parse(""), None);
        assert_eq!(Pidfile::parse("garbage\n"), None);
    }

    #[test]
    fn a_visitor_in_the_directory_is_no_occupant() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(occupants(&here), []);
    }
}
