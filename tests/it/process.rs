//! The process room with real children.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use hearth::process::{
    Guard, Identity, Ladder, MARKER, OwnedProcess, Owner, ProcessError, ProcessSpec, Room,
};
use hearth_actors::ids::{AgentName, ChatId, SessionKey};
use hearth_actors::ports::ProcessLedger;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::ChildStdout;

use crate::support::{role, wait};

mod checks;
mod exits;
mod killed;
mod ladder;
mod service;
mod terminal;

/// The promise for every death: nobody is left after this.
const GONE_WITHIN: Duration = Duration::from_secs(1);

/// Prints its own pid and those of a grandchild that ignores TERM, of one in a
/// session of its own, and of one that was double-forked out of it. All of
/// them sleep for ever.
const TREE: &str = r#"
echo $$
(trap '' TERM; exec sleep 1000) & echo $!
setsid sleep 1001 & echo $!
(setsid sh -c 'sleep 1002 >/dev/null 2>&1 & echo $!') 
wait
"#;

struct Fixture {
    room: Room,
    home: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let room = open_room(home.path());
        Self { room, home }
    }

    /// `sh -c script`, owned by a session of its own.
    fn shell(&self, script: &str) -> (SessionKey, ProcessSpec) {
        let key = key();
        let mut spec = shell(script, self.home.path());
        spec.owner = Owner::Session(key.clone());
        (key, spec)
    }

    fn ledger_entries(&self) -> usize {
        std::fs::read_dir(self.home.path().join("ledger"))
            .unwrap()
            .count()
    }
}

fn open_room(home: &Path) -> Room {
    role::room(home, Path::new(env!("CARGO_BIN_EXE_hearth")))
}

fn key() -> SessionKey {
    SessionKey {
        chat: ChatId::new(),
        agent: AgentName::from("test"),
    }
}

fn shell(script: &str, cwd: &Path) -> ProcessSpec {
    let mut spec = ProcessSpec::new(Owner::Named("test".into()), "sh", cwd);
    spec.args = vec!["-c".into(), script.into()];
    spec.env = BTreeMap::from([(OsString::from("PATH"), OsString::from("/usr/bin:/bin"))]);
    spec
}

fn lines(process: &mut OwnedProcess) -> Lines<BufReader<ChildStdout>> {
    BufReader::new(process.take_stdout().unwrap()).lines()
}

/// The processes of [`TREE`], all seen alive.
async fn tree_of(process: &mut OwnedProcess) -> Vec<Identity> {
    let mut lines = lines(process);
    let mut tree = Vec::new();
    for _ in 0..4 {
        let line = tokio::time::timeout(Duration::from_secs(10), lines.next_line());
        let pid = line.await.unwrap().unwrap().unwrap().parse().unwrap();
        tree.push(Identity::of(pid).expect("it just reported its pid"));
    }
    assert_eq!(
        tree[0].pid,
        process.pid(),
        "the agent's pid, not the shim's"
    );
    tree
}

fn alive(processes: &[Identity]) -> Vec<Identity> {
    processes.iter().copied().filter(|p| p.is_alive()).collect()
}

async fn all_gone(what: &str, processes: &[Identity]) -> Duration {
    wait::until(what, GONE_WITHIN, || alive(processes), Vec::is_empty).await
}

async fn ended(process: &OwnedProcess) -> hearth_actors::event::ExitInfo {
    let mut exit = process.exited();
    let info = tokio::time::timeout(Duration::from_secs(10), exit.wait_for(Option::is_some))
        .await
        .expect("it ends")
        .unwrap();
    info.clone().unwrap()
}

fn kill_9(pid: i32) {
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
}
