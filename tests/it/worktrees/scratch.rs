//! A project in a temporary folder and a hand on it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hearth::worktrees::{GitWorktrees, WorktreesConfig};
use hearth_actors::ids::{CheckpointId, ProjectId, SessionId};
use hearth_actors::model::{Checkpoint, Diff, FileChange, Worktree, WorktreeSpec};
use hearth_actors::ports::Worktrees;
use tempfile::TempDir;

/// A project with a few committed files, and an empty home for worktrees.
pub(super) struct Lab {
    pub(super) dir: TempDir,
    pub(super) project: PathBuf,
    pub(super) port: GitWorktrees,
    pub(super) id: ProjectId,
}

impl Lab {
    pub(super) fn new() -> Self {
        Self::with(true)
    }

    /// One that does not wait for the disk, where much is written.
    pub(super) fn unsynced() -> Self {
        Self::with(false)
    }

    fn with(sync: bool) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let project = dir.path().join("project");
        init(&project);
        write(&project, "README.md", "# Project\n");
        write(&project, "src/main.rs", "fn main() {}\n");
        write(
            &project,
            "src/lib.rs",
            "//! Library.\npub fn one() -> i32 {\n    1\n}\n",
        );
        write(&project, ".gitignore", "target/\n*.log\n");
        commit_all(&project, "First");
        let mut config = WorktreesConfig::new(dir.path().join("home"));
        config.sync = sync;
        let port = GitWorktrees::new(config);
        Self {
            dir,
            project,
            port,
            id: ProjectId::new(),
        }
    }

    pub(super) fn spec(&self, session: SessionId) -> WorktreeSpec {
        WorktreeSpec {
            session,
            project: self.id,
            project_path: self.project.clone(),
            existing: None,
            start: None,
            begins_with: None,
        }
    }

    pub(super) async fn worktree(&self) -> Worktree {
        self.port
            .ensure(&self.spec(SessionId::new()))
            .await
            .expect("a worktree")
    }

    pub(super) async fn checkpoint(&self, worktree: &Worktree) -> Checkpoint {
        self.port
            .checkpoint(worktree, CheckpointId::new(), None)
            .await
            .expect("a checkpoint")
    }

    pub(super) async fn diff(&self, worktree: &Worktree) -> Diff {
        self.port.diff(worktree).await.expect("a diff")
    }

    /// The only change of the worktree.
    pub(super) async fn change(&self, worktree: &Worktree) -> FileChange {
        let mut diff = self.diff(worktree).await;
        assert_eq!(diff.changes.len(), 1, "{:#?}", diff.changes);
        diff.changes.remove(0)
    }

    /// The git directory of a worktree.
    pub(super) fn entry(&self, worktree: &Worktree) -> PathBuf {
        git(&worktree.path, ["rev-parse", "--absolute-git-dir"]).into()
    }
}

pub(super) fn init(at: &Path) {
    fs::create_dir_all(at).expect("a folder");
    git(at, ["init", "-q", "-b", "main"]);
    git(at, ["config", "user.name", "Test"]);
    git(at, ["config", "user.email", "test@localhost"]);
}

pub(super) fn commit_all(at: &Path, message: &str) {
    git(at, ["add", "-A"]);
    git(at, ["commit", "-qm", message]);
}

pub(super) fn write(at: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = at.join(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    fs::write(path, content).expect("a file");
}

/// Runs git with no settings but the repository's; its trimmed output.
pub(super) fn git<S: AsRef<OsStr>>(at: &Path, args: impl IntoIterator<Item = S>) -> String {
    let output = try_git(at, args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git failed: {stderr}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

pub(super) fn try_git<S: AsRef<OsStr>>(at: &Path, args: impl IntoIterator<Item = S>) -> Output {
    command(at).args(args).output().expect("git runs")
}

/// The tree that `git add -A` would stage, made beside the real index.
pub(super) fn reference_tree(at: &Path) -> String {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let index = scratch.path().join("index");
    let real = git(at, ["rev-parse", "--absolute-git-dir"]);
    let copied = Command::new("cp")
        .arg("-p")
        .arg(Path::new(&real).join("index"))
        .arg(&index)
        .output()
        .expect("cp runs");
    assert!(copied.status.success());
    let run = |args: &[&str]| {
        let output = command(at)
            .args(args)
            .env("GIT_INDEX_FILE", &index)
            .output()
            .expect("git runs");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "git {args:?} failed: {stderr}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    run(&["add", "-A"]);
    run(&["write-tree"])
}

fn command(at: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(at)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_OPTIONAL_LOCKS", "0");
    command
}
