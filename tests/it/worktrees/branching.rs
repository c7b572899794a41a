//! Sessions that begin with the files of a checkpoint.

use std::fs;

use hearth::worktrees::{GitWorktrees, WorktreesConfig, worktree_path};
use hearth_actors::ids::{SessionId, WorktreeId};
use hearth_actors::model::{Checkpoint, Worktree, WorktreeSpec};
use hearth_actors::ports::{WorktreeError, Worktrees};

use super::restoring::everything;
use super::scratch::{Lab, commit_all, git, reference_tree, write};

/// What a session that branches off is to have.
pub(super) fn branched(lab: &Lab, source: &Worktree, from: &Checkpoint) -> WorktreeSpec {
    let session = SessionId::new();
    let home = source.path.parent().and_then(|path| path.parent());
    WorktreeSpec {
        existing: Some(Worktree {
            id: WorktreeId::new(),
            path: worktree_path(home.expect("a home"), lab.id, session),
            branch: format!("session-{session}"),
            base_commit: source.base_commit.clone(),
            baseline: source.base_commit.clone(),
        }),
        begins_with: Some(from.commit.clone()),
        ..lab.spec(session)
    }
}

async fn work(lab: &Lab) -> (Worktree, Checkpoint) {
    let source = lab.worktree().await;
    let at = &source.path;
    write(at, "README.md", "# Changed\n");
    write(at, "new/deep/file.txt", "new\n");
    write(at, "trace.log", "ignored");
    fs::remove_file(at.join("src/lib.rs")).expect("removed");
    fs::remove_file(at.join("src/main.rs")).expect("removed");
    write(at, "src/main.rs/now/a/folder", "x");
    super::making::make_executable(&at.join("README.md"));
    std::os::unix::fs::symlink("README.md", at.join("link")).expect("a link");
    let checkpoint = lab.checkpoint(&source).await;
    (source, checkpoint)
}

async fn expect_begun(lab: &Lab, port: &GitWorktrees, spec: &WorktreeSpec, from: &Checkpoint) {
    let made = port.ensure(spec).await.expect("made");
    assert_eq!(Some(&made), spec.existing.as_ref());
    let at = &made.path;
    assert_eq!(git(at, ["rev-parse", "HEAD"]), made.base_commit);
    assert_eq!(git(at, ["branch", "--show-current"]), made.branch);
    git(at, ["diff", "--cached", "--quiet"]);
    assert_eq!(reference_tree(at), from.tree);
    let diff = port.diff(&made).await.expect("a diff");
    assert_eq!(diff.tree, from.tree);
    assert_eq!(git(&lab.project, ["worktree", "prune", "-v", "-n"]), "");
}

#[tokio::test]
async fn a_session_begins_where_another_was() {
    let lab = Lab::new();
    let (source, first) = work(&lab).await;
    let then = lab.diff(&source).await;
    write(&source.path, "README.md", "# Changed again\n");
    git(&source.path, ["add", "-A"]);
    git(&source.path, ["commit", "-qm", "Agent"]);
    let now = everything(&source.path);
    let spec = branched(&lab, &source, &first);
    expect_begun(&lab, &lab.port, &spec, &first).await;
    let made = spec.existing.clone().expect("a row");
    let diff = lab.diff(&made).await;
    assert_eq!(diff.changes, then.changes, "the earlier work is pending");
    assert!(!made.path.join("trace.log").exists());
    assert_eq!(everything(&source.path), now, "the source is not touched");
    expect_begun(&lab, &lab.port, &spec, &first).await;
}

#[tokio::test]
async fn one_that_vanished_begins_again_unless_it_was_worked_on() {
    let lab = Lab::new();
    let (source, first) = work(&lab).await;
    let spec = branched(&lab, &source, &first);
    let made = spec.existing.clone().expect("a row");
    expect_begun(&lab, &lab.port, &spec, &first).await;
    fs::remove_dir_all(&made.path).expect("removed");
    expect_begun(&lab, &lab.port, &spec, &first).await;
    write(&made.path, "worked.txt", "on");
    commit_all(&made.path, "Agent");
    let committed = everything(&made.path);
    fs::remove_dir_all(&made.path).expect("removed");
    lab.port.ensure(&spec).await.expect("made again");
    assert_eq!(everything(&made.path), committed);
}

#[tokio::test]
async fn a_try_that_was_cut_short_is_begun_anew() {
    let lab = Lab::new();
    let (source, first) = work(&lab).await;
    let spec = branched(&lab, &source, &first);
    let made = spec.existing.clone().expect("a row");
    // Killed while it wrote the files: branch, entry and a half-filled folder.
    let script = lab.dir.path().join("killed-git");
    write(lab.dir.path(), "killed-git", "#!/bin/sh\nexec sleep 1000\n");
    super::making::make_executable(&script);
    let home = lab.dir.path().join("home");
    let mut config = WorktreesConfig::new(home);
    config.git = script;
    config.deadline = std::time::Duration::from_millis(300);
    let hung = GitWorktrees::new(config).ensure(&spec).await;
    assert!(
        matches!(hung, Err(WorktreeError::Failed { .. })),
        "{hung:?}"
    );
    assert!(!made.path.exists());
    let aside = made
        .path
        .with_file_name(format!(".making-{}", spec.session));
    write(&aside, "half", "made");
    expect_begun(&lab, &lab.port, &spec, &first).await;
    assert!(!aside.exists());
}

#[tokio::test]
async fn without_a_git_program_libgit2_writes_the_files() {
    let lab = Lab::new();
    let (source, first) = work(&lab).await;
    let mut config = WorktreesConfig::new(lab.dir.path().join("home"));
    config.git = "/no/such/git".into();
    let port = GitWorktrees::new(config);
    expect_begun(&lab, &port, &branched(&lab, &source, &first), &first).await;
}

#[tokio::test]
async fn rules_without_end_are_no_obstacle() {
    let lab = Lab::new();
    write(&lab.project, ".gitignore", "\x0c\n*.log\n");
    commit_all(&lab.project, "Endless");
    let (source, first) = work(&lab).await;
    expect_begun(&lab, &lab.port, &branched(&lab, &source, &first), &first).await;
}

#[tokio::test]
async fn a_commit_that_is_gone_is_told_and_nothing_is_left() {
    let lab = Lab::new();
    let (source, mut first) = work(&lab).await;
    first.commit = "12".repeat(20);
    let spec = branched(&lab, &source, &first);
    let made = lab.port.ensure(&spec).await;
    let Err(WorktreeError::Unusable(text)) = made else {
        panic!("{made:?}");
    };
    assert!(text.contains(&first.commit), "{text}");
    assert!(!spec.existing.expect("a row").path.exists());
}
