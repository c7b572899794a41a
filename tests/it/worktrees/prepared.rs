//! Checkpoints of turns that have not come yet.

use std::time::Duration;

use hearth::worktrees::{GitWorktrees, WorktreesConfig};
use hearth_actors::ids::CheckpointId;
use hearth_actors::model::{Checkpoint, Worktree};
use hearth_actors::ports::Worktrees;

use super::scratch::{Lab, git, reference_tree, try_git, write};

/// A tick of the file system's clock behind the last write: stat data are
/// believed only then.
async fn prepare(port: &GitWorktrees, worktree: &Worktree) -> Checkpoint {
    tokio::time::sleep(Duration::from_millis(50)).await;
    let prepared = port.prepare(worktree, CheckpointId::new()).await;
    prepared.expect("a checkpoint")
}

async fn stands(port: &GitWorktrees, worktree: &Worktree, prepared: &Checkpoint) -> bool {
    let stands = port.confirm(worktree, prepared).await;
    stands.expect("an answer")
}

fn refs(worktree: &Worktree, below: &str) -> Vec<String> {
    let pattern = format!("refs/hearth/{below}");
    let listed = git(
        &worktree.path,
        ["for-each-ref", "--format=%(refname)", &pattern],
    );
    listed.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_confirmed_one_is_a_checkpoint_like_all_others() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    write(&worktree.path, "new.txt", "new\n");
    let prepared = prepare(&lab.port, &worktree).await;
    assert_eq!(prepared.tree, reference_tree(&worktree.path));
    assert_eq!(refs(&worktree, "checkpoints"), Vec::<String>::new());
    assert!(stands(&lab.port, &worktree, &prepared).await);
    let name = format!("refs/hearth/checkpoints/{}", prepared.id);
    assert_eq!(refs(&worktree, "checkpoints"), [name.as_str()]);
    assert_eq!(git(&worktree.path, ["rev-parse", &name]), prepared.commit);
    let head = git(&worktree.path, ["rev-parse", "HEAD"]);
    let parent = format!("{}^", prepared.commit);
    assert_eq!(git(&worktree.path, ["rev-parse", &parent]), head);
}

#[tokio::test]
async fn those_that_nobody_used_leave_nothing_behind() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let first = prepare(&lab.port, &worktree).await;
    write(&worktree.path, "more.txt", "more\n");
    let second = prepare(&lab.port, &worktree).await;
    assert!(!stands(&lab.port, &worktree, &first).await);
    assert_eq!(refs(&worktree, "checkpoints"), Vec::<String>::new());
    assert_eq!(refs(&worktree, "prepared").len(), 1);
    let at = &worktree.path;
    git(at, ["reflog", "expire", "--expire=now", "--all"]);
    git(at, ["gc", "-q", "--prune=now"]);
    let there = |commit: &str| try_git(at, ["cat-file", "-e", commit]).status.success();
    assert!(!there(&first.commit) && there(&second.commit));
}

/// The agent committed, or somebody for it: the files are the same, the commit
/// that they follow is not.
#[tokio::test]
async fn a_head_that_moved_is_noticed() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let prepared = prepare(&lab.port, &worktree).await;
    git(
        &worktree.path,
        ["commit", "-q", "--allow-empty", "-m", "moved"],
    );
    assert!(!stands(&lab.port, &worktree, &prepared).await);
}

#[tokio::test]
async fn an_edit_within_the_files_is_noticed() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    for path in ["src/lib.rs", ".gitignore", "src/below/new.rs"] {
        let prepared = prepare(&lab.port, &worktree).await;
        assert!(stands(&lab.port, &worktree, &prepared).await);
        write(&worktree.path, path, "edited\n");
        assert!(!stands(&lab.port, &worktree, &prepared).await, "{path}");
    }
    let prepared = prepare(&lab.port, &worktree).await;
    std::fs::remove_file(worktree.path.join("src/lib.rs")).expect("removed");
    assert!(!stands(&lab.port, &worktree, &prepared).await);
}

/// Killed between the opening of a turn and its prompt: a row may name what was
/// only prepared.
#[tokio::test]
async fn what_a_killed_hearth_had_prepared_is_kept() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let prepared = prepare(&lab.port, &worktree).await;
    let home = lab.dir.path().join("home");
    let next_life = GitWorktrees::new(WorktreesConfig::new(home));
    assert!(!stands(&next_life, &worktree, &prepared).await);
    prepare(&next_life, &worktree).await;
    let name = format!("refs/hearth/checkpoints/{}", prepared.id);
    assert_eq!(refs(&worktree, "checkpoints"), [name]);
}
