//! The git program, for the one thing it does faster than libgit2: writing out
//! a big tree with several workers. It is given an explicit git directory and
//! work tree and may run no program that a repository names.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use git2::Repository;
use hearth_actors::ports::WorktreeError;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::errors::{Context, failed};

/// All that is passed on of our own environment: git must be found, and find
/// the same user settings that libgit2 reads.
const ENVIRONMENT: [&str; 5] = ["HOME", "PATH", "TMPDIR", "USER", "XDG_CONFIG_HOME"];

/// Settings that outrank the repository's: nothing it names is run, and the
/// index stays one that libgit2 can read. System and user files still count,
/// since both gits must agree on line endings and excludes.
const PINNED: [(&str, &str); 13] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.sshCommand", "false"),
    ("core.splitIndex", "false"),
    ("core.sparseCheckout", "false"),
    ("checkout.workers", "0"),
    ("feature.manyFiles", "false"),
    ("gc.auto", "0"),
    ("index.skipHash", "false"),
    ("index.sparse", "false"),
    ("maintenance.auto", "false"),
    ("protocol.allow", "never"),
    ("submodule.recurse", "false"),
];

/// How much of git's complaint is kept, in bytes.
const COMPLAINT: u64 = 1024;

/// Where to run, and how long at most.
pub(super) struct Git {
    /// The program's name or path.
    pub(super) program: PathBuf,
    /// Longer than this, it is killed.
    pub(super) deadline: Duration,
}

/// What came of trying to write the files with the git program.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// All files are there.
    Done,
    /// Not all are, and why: there is no git program, or it failed. libgit2
    /// can take over, and tells a full disk better than git does.
    NotAll(String),
}

impl Git {
    /// Writes all files of HEAD into `files` and an index into `git_dir`.
    /// `filters` are the drivers to switch off, see [`filter_drivers`].
    pub(super) async fn write_files(
        &self,
        filters: &[OsString],
        git_dir: &Path,
        files: &Path,
    ) -> Result<Written, WorktreeError> {
        let reset = ["reset", "--hard", "--quiet", "--no-recurse-submodules"];
        let command = self.command(&reset, filters, git_dir, files);
        self.run(command, files).await
    }

    /// Brings `files`, which hold those of the index in `git_dir`, to what the
    /// commit holds; the index stays as it is.
    pub(super) async fn bring_files(
        &self,
        filters: &[OsString],
        git_dir: &Path,
        files: &Path,
        commit: &str,
    ) -> Result<Written, WorktreeError> {
        let source = format!("--source={commit}");
        let restore = [
            "restore",
            &source,
            "--worktree",
            "--no-overlay",
            "--quiet",
            "--no-recurse-submodules",
            "--",
            ":/",
        ];
        let command = self.command(&restore, filters, git_dir, files);
        self.run(command, files).await
    }

    fn command(
        &self,
        arguments: &[&str],
        filters: &[OsString],
        git_dir: &Path,
        files: &Path,
    ) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env_clear()
            .envs(ENVIRONMENT.iter().filter_map(passed))
            .envs(pins(filters))
            .env("GIT_DIR", git_dir)
            .env("GIT_WORK_TREE", files)
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("LC_ALL", "C")
            .current_dir(files)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }

    async fn run(&self, mut command: Command, files: &Path) -> Result<Written, WorktreeError> {
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return Ok(Written::NotAll(format!("git does not start: {error}"))),
        };
        let group = child.id();
        let mut complaint = Vec::new();
        let stderr = child.stderr.take();
        let ended = timeout(self.deadline, async {
            if let Some(stderr) = stderr {
                // A failed read only shortens the message.
                let _ = stderr.take(COMPLAINT).read_to_end(&mut complaint).await;
            }
            child.wait().await
        })
        .await;
        let Ok(status) = ended else {
            if let Some(group) = group.and_then(|id| i32::try_from(id).ok()) {
                // Its checkout workers are in its group; gone already is fine.
                let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
            }
            let late = format!("git took longer than {:?} and was killed", self.deadline);
            return Err(failed("write the files", files, late));
        };
        Ok(match status.cannot("wait for git", files)?.success() {
            true => Written::Done,
            false => Written::NotAll(String::from_utf8_lossy(&complaint).into_owned()),
        })
    }
}

/// The names of all filter drivers that are configured for `repo`: each is
/// switched off by name, for there is no switch for all.
pub(super) fn filter_drivers(repo: &Repository) -> Result<Vec<OsString>, git2::Error> {
    let config = repo.config()?.snapshot()?;
    let mut names = BTreeSet::new();
    let mut entries = config.entries(Some("^filter\\."))?;
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.name_bytes();
        if let Some(end) = name.iter().rposition(|byte| *byte == b'.') {
            names.insert(OsStr::from_bytes(&name[..end]).to_owned());
        }
    }
    Ok(names.into_iter().collect())
}

/// The pinned settings as the environment carries them, which unlike `-c`
/// takes any name.
fn pins(filters: &[OsString]) -> Vec<(OsString, OsString)> {
    let fixed = PINNED.map(|(key, value)| (OsString::from(key), value));
    let off = filters.iter().flat_map(|driver| {
        [
            (".clean", ""),
            (".smudge", ""),
            (".process", ""),
            (".required", "false"),
        ]
        .map(|(key, value)| {
            let mut name = driver.clone();
            name.push(key);
            (name, value)
        })
    });
    let mut variables: Vec<(OsString, OsString)> = Vec::new();
    let mut count = 0;
    for (key, value) in fixed.into_iter().chain(off) {
        variables.push((format!("GIT_CONFIG_KEY_{count}").into(), key));
        variables.push((format!("GIT_CONFIG_VALUE_{count}").into(), value.into()));
        count += 1;
    }
    variables.push(("GIT_CONFIG_COUNT".into(), count.to_string().into()));
    variables
}

fn passed(name: &&'static str) -> Option<(&'static str, OsString)> {
    std::env::var_os(name).map(|value| (*name, value))
}
