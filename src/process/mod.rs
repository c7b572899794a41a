//! The process room: every child of Hearth is started, watched and killed here.
//!
//! What it promises, whoever dies and however:
//! * no descendant of an agent outlives the agent, its shim or Hearth by more
//!   than a second, detached and double-forked ones included;
//! * no process is signalled on the strength of its number alone;
//! * an agent's end is known within 100 ms, with its true exit code or signal.
//!
//! Three lines of defence: the [shim](shim_main) around each agent, which kills
//! the tree when the socket to Hearth closes; the parent-death signal, in case
//! the shim is killed; and the marker in the environment of every process,
//! found again in `/proc` when both are gone.

mod callers;
mod cgroup;
pub mod env;
mod error;
mod ledger;
mod memory;
mod owned;
mod port;
mod procfs;
mod shim;
mod spawner;
mod spec;
mod start;
mod sweep;
mod sys;
mod tail;
mod terminal;
mod trees;
mod watch;
mod wire;

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

pub use callers::CallerKind;
pub use error::ProcessError;
pub use memory::machine_memory;
pub use owned::OwnedProcess;
pub use procfs::Identity;
pub use shim::{SHIM_COMMAND, shim_main};
pub use spec::{Guard, Ladder, Limits, Owner, ProcessSpec, Streams};
pub use sweep::SweepReport;
pub use tail::Tail;
pub use terminal::Terminal;
pub use wire::Signal;

use crate::config::Cgroups;
use cgroup::{Groups, System};
use ledger::Ledger;
use spawner::Spawner;
use trees::Trees;

/// The variable in the environment of each process that belongs to a Hearth:
/// `<node>:<tree>`.
pub const MARKER: &str = "HEARTH_OWNER";

/// Makes this process unreadable for other processes of its own user: no core
/// dumps, no ptrace, no `/proc/<pid>/environ`. For the service; a shim does it
/// by itself.
///
/// # Errors
/// What the kernel said.
pub fn harden() -> io::Result<()> {
    sys::set_undumpable()
}

/// How a room is set up.
#[derive(Clone, Debug)]
pub struct RoomConfig {
    /// Holds one small file for each live process tree; created if missing.
    pub ledger_dir: PathBuf,
    /// The program that becomes the shim.
    pub shim: ShimPath,
    /// Tells this data directory's processes from those of another Hearth on
    /// the same machine: unique to the node, the same in all its lives, and
    /// without `:` and `/`.
    pub node: String,
    /// Whether agents get control groups of their own.
    pub cgroups: Cgroups,
}

/// What the kernel would hold agents to here, in few words. Touches nothing.
///
/// # Errors
/// Why it would hold them to nothing.
pub fn would_enforce(cgroups: Cgroups) -> Result<String, String> {
    cgroup::would_enforce(cgroups)
}

/// The program that becomes the shim when it is started with
/// [`SHIM_COMMAND`] as its first argument.
#[derive(Clone, Debug)]
pub enum ShimPath {
    /// This very program.
    SelfExe,
    /// Another program, for tests.
    Path(PathBuf),
}

/// The process room. Clones share it.
#[derive(Clone, Debug)]
pub struct Room(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    node: String,
    shim: Shim,
    ledger: Ledger,
    trees: Trees,
    /// Why there are none.
    groups: Result<Groups, String>,
    /// Kept by every watcher too: the thread must outlive the children.
    spawner: Spawner,
}

/// The shim's program by descriptor: what was opened is what runs, even after
/// an upgrade replaced the file.
#[derive(Debug)]
struct Shim(OwnedFd);

impl Room {
    /// Opens the room; starts nothing but a thread. Where control groups are to be
    /// used and this process's is ours to divide, it moves into a part of it.
    ///
    /// # Errors
    /// [`ProcessError::Ledger`] when the directory cannot be made,
    /// [`ProcessError::Invalid`] for a bad node name,
    /// [`ProcessError::Unavailable`] when the machine lacks something.
    pub fn open(config: RoomConfig) -> Result<Self, ProcessError> {
        if config.node.is_empty() || config.node.contains([':', '/', '\0']) {
            return Err(ProcessError::Invalid(format!(
                "the node name {:?} is empty or contains `:` or `/`",
                config.node
            )));
        }
        let shim = Shim::open(config.shim)?;
        let ledger = Ledger::open(config.ledger_dir)?;
        let groups = Groups::open(System::real(), config.cgroups, &config.node);
        Ok(Self(Arc::new(Inner {
            shim,
            ledger,
            trees: Trees::new(),
            groups,
            spawner: Spawner::start()?,
            node: config.node,
        })))
    }

    /// Starts a process and returns once it runs its program. Dropping the
    /// future kills what was started.
    ///
    /// # Errors
    /// See [`ProcessError`]: a missing program or directory is told from a
    /// machine that cannot start one now.
    pub async fn spawn(&self, spec: ProcessSpec) -> Result<OwnedProcess, ProcessError> {
        start::start(Arc::clone(&self.0), spec).await
    }

    /// Kills what an earlier life of this node left, and forgets its entries.
    /// Leaves the trees of this life alone. Takes a few milliseconds when
    /// there is nothing, at most [`SweepReport::LIMIT`].
    pub async fn sweep(&self) -> SweepReport {
        let inner = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || sweep::earlier_lives(&inner))
            .await
            .unwrap_or_default()
    }

    /// `pid` is one of our processes or descends from one. For refusing what
    /// agents and their tools may not do.
    #[must_use]
    pub fn owns_pid(&self, pid: i32) -> bool {
        let roots = self.0.trees.roots();
        procfs::ancestry(pid).any(|ancestor| roots.contains(&ancestor))
            || procfs::marker_of(pid, MARKER).is_some_and(|m| m.starts_with(&self.0.prefix()))
    }
}

impl Room {
    /// What the kernel holds agents to, in few words.
    ///
    /// # Errors
    /// Why to nothing.
    pub fn enforced(&self) -> Result<String, String> {
        let groups = self.0.groups.as_ref();
        groups.map(Groups::words).map_err(Clone::clone)
    }

    /// Gives this process's control group back as it was found, as far as nothing
    /// lives in the parts of it. For the end of the service.
    pub fn leave_groups(&self) {
        if let Ok(groups) = &self.0.groups {
            groups.close();
        }
    }

    /// Resident bytes of one process tree, without its shim; none when it is gone.
    #[must_use]
    pub fn rss_of(&self, process: &OwnedProcess) -> Option<u64> {
        let tree = match process.shim_pid() {
            Some(shim) => procfs::descendants(shim),
            None => vec![process.identity()],
        };
        (!tree.is_empty()).then(|| procfs::resident_bytes(tree))
    }
}

impl Inner {
    /// What the markers of all this node's processes start with.
    fn prefix(&self) -> String {
        format!("{}:", self.node)
    }

    fn marker(&self, tree: &str) -> String {
        format!("{}:{tree}", self.node)
    }
}

impl Shim {
    fn open(path: ShimPath) -> Result<Self, ProcessError> {
        let path = match path {
            ShimPath::SelfExe => PathBuf::from("/proc/self/exe"),
            ShimPath::Path(path) => path,
        };
        // Without O_PATH it would have to be readable, not only executable.
        File::options()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(path)
            .map(|file| Self(file.into()))
            .map_err(|source| ProcessError::Unavailable {
                what: "opening the program of the process guard",
                source,
            })
    }

    /// A path that only a freshly forked child of ours can execute.
    fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}
