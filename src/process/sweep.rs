//! Finding and killing what has lost its guard: by the ledger's identities,
//! by the marker in the environment, and by descent from either.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::procfs::{self, Identity};
use super::{Inner, MARKER};

/// What a sweep found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Processes that were killed.
    pub killed: usize,
    /// Owners whose trees were still alive.
    pub owners: Vec<String>,
    /// Ledger entries whose processes were gone already.
    pub stale: usize,
    /// Processes that could not be killed.
    pub left: usize,
}

impl SweepReport {
    /// The longest that a sweep tries to kill.
    pub const LIMIT: Duration = Duration::from_secs(5);
}

/// Between two looks while killed processes vanish.
const ROUND: Duration = Duration::from_millis(5);

/// Kills what earlier lives of this node left. Blocking.
pub(super) fn earlier_lives(inner: &Inner) -> SweepReport {
    let boot = procfs::boot_id();
    let marked = marked_earlier(inner);
    let mut report = SweepReport::default();
    let mut roots = Vec::new();
    let mut ids = Vec::new();
    for (id, entry) in inner.ledger.read() {
        if inner.trees.contains(&id) {
            continue;
        }
        let known: Vec<Identity> = entry
            .iter()
            .filter(|entry| entry.boot == boot)
            .flat_map(|entry| [entry.agent, entry.shim])
            .filter(|process| process.is_alive())
            .collect();
        let is_alive = !known.is_empty() || marked.iter().any(|(_, tree)| *tree == id);
        match entry {
            Some(entry) if is_alive => report.owners.push(entry.owner),
            _ => report.stale += 1,
        }
        roots.extend(known);
        ids.push(id);
    }
    (report.killed, report.left) = kill(|| {
        let marked = marked_earlier(inner)
            .into_iter()
            .map(|(process, _)| process);
        roots.iter().copied().chain(marked).collect()
    });
    // What is left is for the next sweep.
    if report.left == 0 {
        for id in ids {
            inner.ledger.remove(&id);
        }
    }
    report
}

/// Foreign processes that are told.
const MAX_TOLD: usize = 20;

/// Kills our own processes that work below `folder`: those that carry this node's
/// marker, or descend from one that does. The others are told. Blocking.
pub(super) fn leave(inner: &Inner, folder: &Path) -> Vec<String> {
    let ours = |process: &Identity| {
        let marked = |pid| {
            procfs::marker_of(pid, MARKER).is_some_and(|marker| marker.starts_with(&inner.prefix()))
        };
        marked(process.pid) || procfs::ancestry(process.pid).any(|above| marked(above.pid))
    };
    kill(|| {
        let inside = procfs::working_in(folder).into_iter();
        inside.filter(|process| ours(process)).collect()
    });
    let others = procfs::working_in(folder).into_iter();
    others
        .filter(|process| !ours(process))
        .take(MAX_TOLD)
        .map(|process| format!("{} {}", process.pid, procfs::name_of(process.pid)))
        .collect()
}

/// Processes with this node's marker whose tree is none of this life's, with
/// the tree's id.
fn marked_earlier(inner: &Inner) -> Vec<(Identity, String)> {
    let prefix = inner.prefix();
    procfs::marked(MARKER, &prefix)
        .into_iter()
        .filter_map(|(process, marker)| {
            let tree = marker.strip_prefix(&prefix)?.to_owned();
            (!inner.trees.contains(&tree)).then_some((process, tree))
        })
        .collect()
}

/// Kills the processes that carry exactly this marker or descend from `agent`.
/// Returns how many are left. Blocking.
pub(super) fn one_tree(marker: &str, agent: Option<Identity>) -> usize {
    kill(|| {
        let marked = procfs::marked(MARKER, marker);
        let marked = marked.into_iter().map(|(process, _)| process);
        marked.chain(agent).collect()
    })
    .1
}

/// Kills what `find` finds and all its descendants until it finds nothing;
/// returns how many were killed and how many are left.
fn kill(find: impl Fn() -> Vec<Identity>) -> (usize, usize) {
    let deadline = Instant::now() + SweepReport::LIMIT;
    // Hearth itself may run below an agent of its own node.
    let spared: BTreeSet<Identity> = procfs::ancestry(std::process::id() as i32).collect();
    let mut killed = BTreeSet::new();
    loop {
        let mut targets = BTreeSet::new();
        for root in find().into_iter().filter(|root| root.is_alive()) {
            targets.extend(procfs::descendants(root.pid));
            targets.insert(root);
        }
        targets.retain(|target| !spared.contains(target));
        if targets.is_empty() || Instant::now() > deadline {
            return (killed.len(), targets.len());
        }
        killed.extend(
            targets
                .into_iter()
                .filter(|target| target.signal(libc::SIGKILL)),
        );
        thread::sleep(ROUND);
    }
}
