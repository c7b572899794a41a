//! The port's contract, on real git.

use std::fs;
use std::sync::Arc;

use hearth::worktrees::{GitWorktrees, WorktreesConfig};
use hearth_actors::ids::SessionId;
use hearth_actors::model::{Worktree, WorktreeSpec};
// What the included suite finds above itself, as in its own crate.
use hearth_actors::{ids, model, ports};

use super::scratch::{Lab, write};

#[expect(unreachable_pub, reason = "the suite is public in its own crate")]
#[path = "."]
mod testing {
    #[path = "../../../actors/src/testing/contract_worktrees.rs"]
    pub(super) mod contract_worktrees;
}
use testing::contract_worktrees::{Scratch, check};

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
