//! The port's contract, on real git.

use std::fs;
use std::sync::Arc;

use hearth::worktrees::{GitWorktrees, WorktreesConfig};
use hearth_actors::ids::SessionId;
use hearth_actors::model::{Worktree, WorktreeSpec};
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
