//! The processes of one Hearth, found by descent and by the mark in their environment.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What a process is to Hearth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Agent,
    /// The shim around an agent.
    Shim,
    /// opencode's, shared by its chats.
    Server,
    /// Of the private PostgreSQL: the first of its processes.
    Postmaster,
    /// One that serves a connection of Hearth.
    Backend,
}

/// One process at the time of a look.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) parent: i32,
    /// Of its command line.
    pub(crate) words: Vec<String>,
}

/// All processes at one moment.
pub(crate) struct Look(pub(crate) BTreeMap<i32, Seen>);

impl Look {
    pub(crate) fn now() -> Self {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        Self(pids.filter_map(|pid| Some((pid, see(pid)?))).collect())
    }

    /// A process of this kind below Hearth; none if there is none now.
    pub(crate) fn pick(&self, hearth: i32, kind: Kind, random: &mut Rng) -> Option<i32> {
        let family = self.family(hearth);
        let mut fitting: Vec<i32> = family
            .into_iter()
            .filter(|pid| self.is(*pid, kind))
            .collect();
        fitting.sort_unstable();
        random.choice(&fitting).copied()
    }

    /// All descendants.
    fn family(&self, head: i32) -> BTreeSet<i32> {
        let mut family = BTreeSet::from([head]);
        loop {
            let size = family.len();
            let children = self
                .0
                .iter()
                .filter(|(_, seen)| family.contains(&seen.parent));
            let children: Vec<i32> = children.map(|(pid, _)| *pid).collect();
            family.extend(children);
            if family.len() == size {
                family.remove(&head);
                return family;
            }
        }
    }

    fn is(&self, pid: i32, kind: Kind) -> bool {
        let Some(seen) = self.0.get(&pid) else {
            return false;
        };
        let parent = self.0.get(&seen.parent);
        let below_shim = parent.is_some_and(Seen::is_shim);
        match kind {
            Kind::Shim => seen.is_shim() && !seen.says("postgres") && !seen.is_server(),
            Kind::Server => below_shim && seen.is_server(),
            // Hearth starts it without a shim.
            Kind::Postmaster => {
                parent.is_some()
                    && seen.says("postgres")
                    && seen.words.iter().any(|word| word == "-D")
            }
            // Its cluster, and then its user.
            Kind::Backend => (seen.words.first())
                .is_some_and(|title| title.starts_with("postgres: hearth: hearth ")),
            Kind::Agent => {
                below_shim && !seen.is_shim() && !seen.says("postgres") && !seen.is_server()
            }
        }
    }

    /// Those that carry this mark, or work in that directory: process and command line.
    /// `head` and what descends from it are left out.
    pub(crate) fn orphans(&self, mark: &str, place: &str, head: Option<i32>) -> Vec<(i32, String)> {
        let known = head.map(|head| self.family(head)).unwrap_or_default();
        let strangers = self.0.iter().filter(|(pid, _)| !known.contains(pid));
        strangers
            .filter(|(pid, _)| Some(**pid) != head)
            .filter(|(pid, seen)| is_marked(**pid, mark) || seen.names(place))
            .map(|(pid, seen)| (*pid, seen.words.join(" ")))
            .collect()
    }
}

impl Seen {
    fn is_shim(&self) -> bool {
        self.words.get(1).is_some_and(|word| word == "shim")
    }

    fn is_server(&self) -> bool {
        self.says("opencode") && self.words.iter().any(|word| word == "serve")
    }

    fn names(&self, place: &str) -> bool {
        self.words.iter().any(|word| word.contains(place))
    }

    /// The program, or what a shim runs, has this name.
    fn says(&self, program: &str) -> bool {
        self.words.iter().take(8).any(|word| {
            let name = word.rsplit('/').next().unwrap_or(word);
            name == program
        })
    }
}

/// Sends a signal; false when the process is gone.
pub(crate) fn signal(pid: i32, signal: Signal) -> bool {
    kill(Pid::from_raw(pid), signal).is_ok()
}

/// None for those that are gone, or dead and not yet buried.
fn see(pid: i32) -> Option<Seen> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = line
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty());
    let words = words.map(|word| String::from_utf8_lossy(word).into_owned());
    Some(Seen {
        parent,
        words: words.collect(),
    })
}

fn is_marked(pid: i32, mark: &str) -> bool {
    let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let mut entries = environ.split(|byte| *byte == 0);
    entries.any(|entry| entry.starts_with(mark.as_bytes()))
}
