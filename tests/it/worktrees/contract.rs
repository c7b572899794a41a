//! The port's contract, on real git.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use hearth::worktrees::{GitWorktrees, WorktreesConfig};
use hearth_actors::ids::SessionId;
use hearth_actors::model::{Worktree, WorktreeSpec};
use hearth_actors::testing::contract_review::{self, Desk};
use hearth_actors::testing::contract_set_up;
use hearth_actors::testing::contract_worktrees::{Scratch, check};

use super::scratch::{Lab, write};

impl Scratch for Lab {
    fn spec(&self, session: SessionId) -> WorktreeSpec {
        Lab::spec(self, session)
    }

    fn put(&self, worktree: &Worktree, path: &str, content: &str) {
        write(&worktree.path, path, content);
    }

    fn remove(&self, worktree: &Worktree, path: &str) {
        fs::remove_file(worktree.path.join(path)).expect("the file is there");
    }
}

#[tokio::test]
async fn git_keeps_the_contract() {
    let lab = Lab::new();
    let home = lab.dir.path().join("contract");
    let port = Arc::new(GitWorktrees::new(WorktreesConfig::new(home)));
    check(port, &lab).await;
}

impl Desk for Lab {
    fn project(&self) -> PathBuf {
        self.project.clone()
    }

    fn put_here(&self, path: &str, content: &str) {
        write(&self.project, path, content);
    }

    fn remove_here(&self, path: &str) {
        fs::remove_file(self.project.join(path)).expect("the file is there");
    }

    fn here(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.project.join(path)).ok()
    }

    fn there(&self, worktree: &Worktree, path: &str) -> Option<String> {
        fs::read_to_string(worktree.path.join(path)).ok()
    }
}

#[tokio::test]
async fn git_keeps_the_contract_of_review() {
    let lab = Lab::new();
    contract_review::check(&lab.port, &lab).await;
}

#[tokio::test]
async fn git_keeps_the_contract_of_set_ups() {
    let lab = Lab::new();
    contract_set_up::check(&lab.port, &lab).await;
}
