//! Somebody with the program, a repository and nothing else.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;

use super::harness::{git, repository_at};
use crate::support::{role::NOBODY, wait};

/// Longest run of a command: the first start makes a database.
const LIMIT: Duration = Duration::from_secs(60);

pub(super) struct Newcomer {
    dir: TempDir,
    program: PathBuf,
    user: Option<u32>,
}

/// What a command left.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

impl Newcomer {
    pub(super) fn new() -> Self {
        Self {
            dir: directory(),
            program: env!("CARGO_BIN_EXE_hearth").into(),
            user: None,
        }
    }

    /// As the user `nobody`, with a copy of the program where it can be read.
    pub(super) fn ordinary() -> Self {
        let dir = directory();
        let program = dir.path().join("hearth");
        std::fs::copy(env!("CARGO_BIN_EXE_hearth"), &program).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        chown(dir.path(), Some(NOBODY), Some(NOBODY)).expect("the tests run as root");
        Self {
            dir,
            program,
            user: Some(NOBODY),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Not there before the first start.
    pub(super) fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// A repository of theirs with one commit.
    pub(super) fn repository(&self) -> PathBuf {
        let path = self.dir.path().join("repo");
        repository_at(&path);
        if let Some(user) = self.user {
            let done = std::process::Command::new("chown")
                .args(["-R", &format!("{user}:{user}")])
                .arg(&path)
                .status();
            assert!(done.unwrap().success());
        }
        path
    }

    /// The program, started in `directory`.
    pub(super) fn hearth(&self, directory: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("HEARTH_HOME", self.home())
            .env("HEARTH_LISTEN", "127.0.0.1:0")
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    pub(super) async fn run(&self, directory: &Path, args: &[&str]) -> Ended {
        ended(self.hearth(directory, args)).await
    }

    /// Asks the demo agent.
    pub(super) async fn ask(&self, directory: &Path, prompt: &str) -> Ended {
        self.run(directory, &["run", "--agent", "demo", prompt])
            .await
    }

    /// Waits until no process is left that lives in, or was started for,
    /// anything of theirs.
    pub(super) async fn nothing_runs(&self, within: Duration) {
        let place = self.dir.path().to_str().unwrap();
        let left = || processes_of(place);
        wait::until("no process left", within, left, Vec::is_empty).await;
    }
}

/// Runs it to its end.
pub(super) async fn ended(mut command: Command) -> Ended {
    end_of(command.spawn().unwrap()).await
}

pub(super) async fn end_of(child: tokio::process::Child) -> Ended {
    let output = tokio::time::timeout(LIMIT, child.wait_with_output())
        .await
        .expect("the command ends in time")
        .unwrap();
    Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Ended {
    /// It ended so, and said all this.
    #[track_caller]
    pub(super) fn is(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        for word in words {
            let said = self.err.contains(word) || self.out.contains(word);
            assert!(said, "{word:?} is not in {self:#?}");
        }
    }

    /// The rest of the first line of progress with these words.
    #[track_caller]
    pub(super) fn after(&self, words: &str) -> &str {
        let found = self.err.lines().find_map(|line| line.split_once(words));
        found
            .unwrap_or_else(|| panic!("{words:?} is not in {self:#?}"))
            .1
    }
}

/// What git says about the checkout and its branch.
pub(super) fn state_of(repository: &Path) -> (String, String) {
    // The tests' user may be another one than the repository's.
    let safe = format!("safe.directory={}", repository.display());
    let ask = |arguments: &[&str]| {
        git(
            repository,
            &[&["-c", safe.as_str()][..], arguments].concat(),
        )
    };
    (
        ask(&["status", "--porcelain", "--branch"]),
        ask(&["rev-parse", "HEAD"]),
    )
}

/// Where PostgreSQL's user may pass.
fn directory() -> TempDir {
    tempfile::Builder::new()
        .permissions(PermissionsExt::from_mode(0o755))
        .tempdir()
        .unwrap()
}

fn processes_of(place: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let read = |name| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let directory = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        let theirs = arguments.contains(place)
            || directory.starts_with(place)
            || String::from_utf8_lossy(&read("environ")).contains(place);
        theirs.then(|| format!("{pid} {arguments}"))
    })
    .collect()
}
