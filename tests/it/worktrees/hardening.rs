//! Nothing a repository names is run, and what it names is told.

use std::fs;
use std::path::{Path, PathBuf};

use super::making::make_executable;
use super::scratch::{Lab, commit_all, git, try_git, write};

/// A project that would run a program at every turn of git: each would leave
/// its name in the canary folder.
pub(super) struct Trap {
    pub(super) lab: Lab,
    canary: PathBuf,
}

impl Trap {
    pub(super) fn new(files: usize) -> Self {
        let lab = Lab::new();
        let canary = lab.dir.path().join("canary");
        fs::create_dir(&canary).expect("a folder");
        write(
            &lab.project,
            ".gitattributes",
            "*.txt filter=trap diff=trap\n*.pin filter=pinned\n*.md diff=trap\n",
        );
        write(&lab.project, "filtered.txt", "raw bytes\r\n");
        write(&lab.project, "pinned.pin", "raw bytes\n");
        for file in 0..files {
            write(
                &lab.project,
                &format!("many/{}/{file}.txt", file % 40),
                "x\n",
            );
        }
        commit_all(&lab.project, "Before the trap");
        let trap = Self { lab, canary };
        trap.set();
        trap
    }

    fn set(&self) {
        let project = &self.lab.project;
        let touch = |name: &str| format!("touch {}", self.canary.join(name).display());
        for key in ["clean", "smudge"] {
            let run = format!("{}; cat", touch(key));
            git(project, ["config", &format!("filter.trap.{key}"), &run]);
        }
        git(
            project,
            ["config", "filter.pinned.process", &touch("process")],
        );
        git(project, ["config", "filter.pinned.required", "true"]);
        git(
            project,
            ["config", "diff.trap.textconv", &touch("textconv")],
        );
        git(project, ["config", "diff.trap.command", &touch("command")]);
        git(project, ["config", "diff.external", &touch("external")]);
        git(project, ["config", "core.fsmonitor", &touch("fsmonitor")]);
        for hook in [
            "post-checkout",
            "post-index-change",
            "reference-transaction",
        ] {
            let path = project.join(".git/hooks").join(hook);
            write(
                project,
                &format!(".git/hooks/{hook}"),
                format!("#!/bin/sh\n{}\n", touch(hook)),
            );
            make_executable(&path);
        }
    }

    pub(super) fn sprung(&self) -> Vec<String> {
        let listed = fs::read_dir(&self.canary).expect("the canary");
        let name = |entry: std::io::Result<fs::DirEntry>| {
            entry.expect("an entry").file_name().display().to_string()
        };
        listed.map(name).collect()
    }
}

async fn whole_life(files: usize) {
    let trap = Trap::new(files);
    let lab = &trap.lab;
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    assert!(lab.diff(&worktree).await.changes.is_empty());
    let raw = fs::read(at.join("filtered.txt")).expect("a file");
    assert_eq!(raw, b"raw bytes\r\n", "as committed, unfiltered");
    write(at, "filtered.txt", "new raw bytes\r\n");
    write(at, "new.txt", "new\n");
    write(at, "README.md", "# Edited\n");
    let tree = lab.checkpoint(&worktree).await.tree;
    let diff = lab.diff(&worktree).await;
    assert_eq!(diff.changes.len(), 3, "{:#?}", diff.changes);
    assert_eq!(trap.sprung(), Vec::<String>::new());
    let stored = git(at, ["rev-parse", &format!("{tree}:filtered.txt")]);
    let raw = git(at, ["hash-object", "--no-filters", "filtered.txt"]);
    assert_eq!(stored, raw, "the bytes on disk");
}

#[tokio::test]
async fn nothing_of_a_small_repository_runs() {
    whole_life(0).await;
}

#[tokio::test]
async fn nothing_of_a_big_repository_runs_although_git_writes_it() {
    whole_life(4_000).await;
}

#[test]
fn the_trap_works() {
    let trap = Trap::new(0);
    // Ordinary git, that is: else the tests above prove nothing.
    try_git(&trap.lab.project, ["worktree", "add", "-q", "../sprung"]);
    let sprung = trap.sprung();
    for expected in ["smudge", "process", "fsmonitor"] {
        assert!(sprung.contains(&expected.to_owned()), "{sprung:?}");
    }
}

#[tokio::test]
async fn a_changed_configuration_or_hook_is_told_once() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    assert_eq!(lab.diff(&worktree).await.warnings, Vec::<String>::new());

    git(&worktree.path, ["config", "core.pager", "evil"]);
    let told = lab.diff(&worktree).await.warnings;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains(".git/config"), "{told:?}");
    assert_eq!(lab.diff(&worktree).await.warnings, Vec::<String>::new());

    write(&lab.project, ".git/hooks/pre-commit", "#!/bin/sh\n");
    write(&lab.project, ".git/info/exclude", "hide-me\n");
    let told = lab.diff(&worktree).await.warnings.join("\n");
    assert!(told.contains("hooks") && told.contains("exclude"), "{told}");

    make_executable(&lab.project.join(".git/hooks/pre-commit"));
    let told = lab.diff(&worktree).await.warnings.join("\n");
    assert!(told.contains("hooks"), "{told}");
}

#[tokio::test]
async fn a_redirected_git_file_leads_nowhere_else() {
    let lab = Lab::new();
    let other = Lab::new();
    let worktree = lab.worktree().await;
    let before = lab.checkpoint(&worktree).await;
    let redirect = format!("gitdir: {}\n", other.project.join(".git").display());
    write(&worktree.path, ".git", redirect);
    let after = lab.checkpoint(&worktree).await;
    assert_eq!(after.tree, before.tree);
    let name = format!("refs/hearth/checkpoints/{}", after.id);
    assert_eq!(git(&lab.project, ["rev-parse", &name]), after.commit);
    assert_eq!(git(&other.project, ["for-each-ref", "refs/hearth"]), "");
}

#[tokio::test]
async fn links_out_of_the_worktree_are_not_followed() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let outside = lab.dir.path().join("outside");
    write(&outside, "secret.txt", "outside");
    fs::remove_dir_all(worktree.path.join("src")).expect("removed");
    std::os::unix::fs::symlink(&outside, worktree.path.join("src")).expect("a link");
    let tree = lab.checkpoint(&worktree).await.tree;
    let listed = git(&worktree.path, ["ls-tree", "-r", "--name-only", &tree]);
    assert!(listed.lines().any(|name| name == "src"), "{listed}");
    assert!(!listed.contains("secret.txt"), "{listed}");
    assert!(Path::new(&outside).join("secret.txt").exists());
}
