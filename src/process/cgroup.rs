//! Control groups (cgroup v2): one for each agent's processes, so that the kernel
//! itself holds them to their limits and ends all of them at once.
//!
//! ```text
//! own group, delegated ─┬─ hearth          this process, its shims, the private PostgreSQL
//!                       └─ agents-<node> ─┬─ <tree>   the processes of one agent
//!                                         └─ …
//! ```
//!
//! Where the own group is not delegated nothing is touched, and why is kept as text.
//! A process of our user can leave its group: this bounds accidents, not attackers.

mod leaf;
mod probe;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

pub(super) use leaf::Leaf;
use probe::Own;

use super::{Limits, sys};
use crate::config::Cgroups;

/// Where this process and all that is no agent lives: processes may only be in
/// groups without groups below them.
const HEARTH: &str = "hearth";
/// The kernel's files.
const PROCS: &str = "cgroup.procs";
const KILL: &str = "cgroup.kill";
const SUBTREE: &str = "cgroup.subtree_control";
const CONTROLLERS: &str = "cgroup.controllers";
/// What is asked for, as far as it is there.
const WANTED: [&str; 3] = ["memory", "pids", "cpu"];
/// Share of the processor of all agents together, against Hearth's 100, where both
/// want it. Agents have equal shares of it, however many processes each has.
const AGENTS_WEIGHT: u32 = 50;
/// Longest wait for what an earlier life left to be gone.
const CLEAR_LIMIT: Duration = Duration::from_secs(2);
/// Between two looks meanwhile.
const CLEAR_ROUND: Duration = Duration::from_millis(5);
/// Groups within groups that are removed; an agent that is root can make such.
const DEPTH: usize = 8;

/// Where the kernel is found. Another one than [`System::real`] is a test's.
#[derive(Clone, Debug)]
pub(super) struct System {
    pub(super) membership: PathBuf,
    pub(super) mounts: PathBuf,
    pub(super) delegated: fn(&Path) -> bool,
    pub(super) make: fn(&Path) -> io::Result<()>,
    pub(super) remove: fn(&Path) -> io::Result<()>,
}

impl System {
    /// This machine.
    pub(super) fn real() -> Self {
        Self {
            membership: "/proc/self/cgroup".into(),
            mounts: "/proc/self/mountinfo".into(),
            // systemd's marks of `Delegate=yes`; only root can read the first.
            delegated: |group| {
                [c"trusted.delegate", c"user.delegate"]
                    .into_iter()
                    .any(|mark| sys::attribute(group, mark).is_some_and(|value| value == b"1"))
            },
            make: |group| fs::create_dir(group),
            remove: |group| fs::remove_dir(group),
        }
    }
}

/// What would be done here, touching nothing.
///
/// # Errors
/// Why nothing would be.
pub(super) fn would_enforce(wish: Cgroups) -> Result<String, String> {
    probe::own(&System::real(), wish).map(|own| enforced(&own.controllers))
}

/// The groups of this node.
#[derive(Debug)]
pub(super) struct Groups {
    own: PathBuf,
    agents: PathBuf,
    /// Of [`WANTED`], what is there.
    controllers: Vec<&'static str>,
    /// Of these, what was not given to groups below the own one before.
    added: Vec<&'static str>,
    system: System,
}

impl Groups {
    /// Moves this process to a group of its own and makes the agents' one, empty.
    ///
    /// # Errors
    /// Why there are none; then all is as it was, as far as the kernel allows.
    pub(super) fn open(system: System, wish: Cgroups, node: &str) -> Result<Self, String> {
        let Own { path, controllers } = probe::own(&system, wish)?;
        let given = words_of(&path.join(SUBTREE)).unwrap_or_default();
        let added = controllers.iter().copied();
        let groups = Self {
            agents: path.join(format!("agents-{node}")),
            added: added.filter(|name| !given.contains(*name)).collect(),
            own: path,
            controllers,
            system,
        };
        groups
            .establish()
            .inspect_err(|_| groups.close())
            .map(|()| groups)
    }

    fn establish(&self) -> Result<(), String> {
        let hearth = self.own.join(HEARTH);
        self.make(&hearth)?;
        put(&hearth.join(PROCS), "0")?;
        self.enable(&self.own, &self.added)?;
        self.make(&self.agents)?;
        self.clear();
        self.enable(&self.agents, &self.controllers)?;
        if self.has("cpu") {
            put(&self.agents.join("cpu.weight"), &AGENTS_WEIGHT.to_string())?;
        }
        Ok(())
    }

    fn enable(&self, group: &Path, controllers: &[&str]) -> Result<(), String> {
        let names: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
        if names.is_empty() {
            return Ok(());
        }
        put(&group.join(SUBTREE), &names.join(" "))
    }

    fn make(&self, group: &Path) -> Result<(), String> {
        match (self.system.make)(group) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(format!("{} cannot be made ({error})", group.display()))
            }
            _ => Ok(()),
        }
    }

    /// Ends what an earlier life left. What stays has another name than all to come.
    fn clear(&self) {
        let deadline = Instant::now() + CLEAR_LIMIT;
        let left = children(&self.agents);
        for group in &left {
            let _ = kill(group);
        }
        for group in left {
            while !remove_all(&group, self.system.remove, DEPTH) {
                if Instant::now() > deadline {
                    tracing::warn!(group = %group.display(), "a control group of an earlier life stays");
                    break;
                }
                thread::sleep(CLEAR_ROUND);
            }
        }
    }

    /// An empty group for one agent's processes.
    ///
    /// # Errors
    /// What the kernel said.
    pub(super) fn leaf(&self, tree: &str, limits: Limits) -> io::Result<Leaf> {
        let path = self.agents.join(tree);
        (self.system.make)(&path)?;
        let memory = limits.memory.filter(|_| self.has("memory"));
        let leaf = Leaf::new(path, memory, self.system.remove);
        leaf.limit(memory, limits.pids.filter(|_| self.has("pids")))?;
        Ok(leaf)
    }

    /// Gives the own group back as it was found, as far as the kernel allows: what
    /// still lives in a group keeps it.
    pub(super) fn close(&self) {
        remove_all(&self.agents, self.system.remove, DEPTH);
        let names: Vec<String> = self.added.iter().map(|name| format!("-{name}")).collect();
        if !names.is_empty() {
            let _ = write(&self.own.join(SUBTREE), &names.join(" "));
        }
        let _ = write(&self.own.join(PROCS), "0");
        let _ = (self.system.remove)(&self.own.join(HEARTH));
    }

    /// What the kernel does, in few words.
    pub(super) fn words(&self) -> String {
        enforced(&self.controllers)
    }

    fn has(&self, controller: &str) -> bool {
        self.controllers.contains(&controller)
    }
}

/// `memory, pids, kill; not cpu, which the group lacks`.
fn enforced(controllers: &[&str]) -> String {
    let there = controllers.iter().copied().chain(["kill"]);
    let there: Vec<&str> = there.collect();
    let absent = WANTED
        .into_iter()
        .filter(|name| !controllers.contains(name));
    let absent: Vec<&str> = absent.collect();
    let there = there.join(", ");
    match &absent[..] {
        [] => there,
        absent => format!("{there}; not {}, which the group lacks", absent.join(", ")),
    }
}

/// Ends every process of a group and of those below it at once.
///
/// # Errors
/// The kernel is older than 5.14, or the group is gone.
pub(super) fn kill(group: &Path) -> io::Result<()> {
    write(&group.join(KILL), "1")
}

/// The file through which whoever writes `0` enters the group.
///
/// # Errors
/// What the kernel said.
pub(super) fn entrance(group: &OsStr) -> io::Result<File> {
    File::options()
        .write(true)
        .open(Path::new(group).join(PROCS))
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    let mut file = File::options().write(true).truncate(true).open(file)?;
    file.write_all(text.as_bytes())
}

fn put(file: &Path, text: &str) -> Result<(), String> {
    write(file, text)
        .map_err(|error| format!("{} does not take \"{text}\" ({error})", file.display()))
}

fn words_of(file: &Path) -> io::Result<BTreeSet<String>> {
    let text = fs::read_to_string(file)?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

fn children(group: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    let groups = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    groups.map(|entry| entry.path()).collect()
}

/// Removes an empty group and the empty ones below it; false when it is still there.
fn remove_all(group: &Path, remove: fn(&Path) -> io::Result<()>, depth: usize) -> bool {
    if depth > 0 {
        for below in children(group) {
            remove_all(&below, remove, depth - 1);
        }
    }
    match remove(group) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests;
