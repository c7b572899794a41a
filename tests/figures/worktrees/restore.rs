//! What it costs to bring a worktree back to a checkpoint: by the git program
//! (`git restore` and `git clean`), by plain libgit2, by Hearth.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use git2::Repository;
use git2::build::CheckoutBuilder;
use hearth::worktrees::{GitWorktrees, WorktreesConfig};
use hearth_actors::ids::{ChatId, CheckpointId, OperationId, SessionId};
use hearth_actors::model::{Checkpoint, Worktree};
use hearth_actors::ports::{Review, Worktrees};
use hearth_actors::review::{Order, Planned, Work};

use super::{Bench, PAUSE, git, middle, path_of, print, put, timed};

/// In turns, so that what one way leaves the disk to write slows all alike; a
/// restore of everything writes each file of the worktree.
const ROUNDS: usize = 5;

/// A name, and what it does with the mark it is given.
type Named<'a> = (&'a str, &'a dyn Fn(&str));

impl Bench {
    /// Restores of 100 edits, and of all `files` files.
    pub(super) fn restores(&self, files: usize) {
        let worktree = self.ensured();
        let at = worktree.path.clone();
        let taken = self.port.checkpoint(&worktree, CheckpointId::new(), None);
        let checkpoint = self.runtime.block_on(taken).expect("a checkpoint");
        // Nobody waits for the disk but Hearth where it says so.
        let mut config = WorktreesConfig::new(self.dir.path().join("home"));
        config.sync = false;
        let unsynced = GitWorktrees::new(config);
        let few = |mark: &str| self.edit(&at, mark);
        let all = |mark: &str| self.rewrite(&at, files, mark);
        let orders: [Named<'_>; 2] = [("100 edits", &few), ("everything", &all)];
        for (what, change) in orders {
            let ways: [&dyn Fn() -> Duration; 4] = [
                &|| timed(|| cli_restore(&at, &checkpoint)),
                &|| timed(|| libgit2_restore(&at, &checkpoint)),
                &|| self.restore(&unsynced, &worktree, &checkpoint),
                &|| self.restore(&self.port, &worktree, &checkpoint),
            ];
            let mut took: [Vec<Duration>; 4] = Default::default();
            for round in 0..ROUNDS {
                for (number, (way, took)) in ways.iter().zip(&mut took).enumerate() {
                    change(&format!("{what} {round} {number}"));
                    took.push(way());
                    self.expect_restored(&worktree, &checkpoint);
                }
            }
            let [cli, plain, ours, synced] = took.map(middle);
            print(&format!("restore, {what}: git"), cli, cli);
            print("  libgit2", plain, cli);
            print("  Hearth, without a wait for the disk", ours, cli);
            print("  Hearth", synced, cli);
        }
    }

    fn restore(&self, port: &GitWorktrees, worktree: &Worktree, to: &Checkpoint) -> Duration {
        let work = Work {
            id: OperationId::new(),
            order: Order::Restore {
                checkpoint: to.id,
                chat: ChatId::new(),
                consent: true,
            },
            session: SessionId::new(),
            worktree: worktree.clone(),
            project_path: self.project.clone(),
            changes: Vec::new(),
            checkpoint: Some(to.clone()),
        };
        timed(|| {
            self.runtime.block_on(async {
                let planned = port.plan(&work).await.expect("an answer");
                let Planned::Ready(plan) = planned else {
                    panic!("{planned:?}");
                };
                let conflicts = port.carry_out(&plan).await.expect("carried out");
                assert_eq!(conflicts, []);
                port.settle(&plan, true).await.expect("settled");
            });
        })
    }

    /// Every file anew, and some new ones.
    fn rewrite(&self, at: &Path, files: usize, mark: &str) {
        for file in 0..files {
            let path = path_of(file % self.folders, file / self.folders);
            put(at, &path, &format!("{mark} {file}\n"));
        }
        for folder in 0..self.folders {
            put(at, &format!("src/d{folder}/more.rs"), mark);
        }
        sleep(PAUSE);
    }

    fn expect_restored(&self, worktree: &Worktree, to: &Checkpoint) {
        let taken = self.port.checkpoint(worktree, CheckpointId::new(), None);
        let now = self.runtime.block_on(taken).expect("a checkpoint");
        assert_eq!(now.tree, to.tree, "not restored");
        sleep(PAUSE);
    }
}

fn cli_restore(at: &Path, to: &Checkpoint) {
    let source = format!("--source={}", to.commit);
    git(at, &["restore", &source, "--worktree", ":/"]);
    git(at, &["clean", "-fdq"]);
}

fn libgit2_restore(at: &Path, to: &Checkpoint) {
    let run = || -> Result<(), git2::Error> {
        let repo = Repository::open(at)?;
        let tree = repo.revparse_single(&to.tree)?;
        let mut options = CheckoutBuilder::new();
        options.force().remove_untracked(true).update_index(false);
        repo.checkout_tree(&tree, Some(&mut options))
    };
    run().expect("a checkout");
    assert!(fs::exists(at.join(".git")).expect("looked"));
}
