//! What it costs to bring a worktree back to a checkpoint: by the git program,
//! by plain libgit2, by Hearth.
//!
//! Alone, where what is there is stored already, as it is after a turn: git's
//! `read-tree -u` and `clean`, or its `restore` and `clean`, libgit2's checkout.
//! With the undo, where it must be stored first: before these a commit of all
//! files under a private ref, by `add -A` into a copy of the index and
//! `write-tree`, or by libgit2. Hearth's restore is the same call both times.

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

use super::{Bench, PAUSE, git, git_with, middle, path_of, put, run, timed};

/// In turns, so that what else the machine does slows all alike; a restore of
/// everything writes each file of the worktree.
const ROUNDS: usize = 5;

/// A name, and what it does with the mark it is given.
type Named<'a> = (&'a str, &'a dyn Fn(&str));

/// A name, and what is timed.
type Way<'a> = (&'a str, &'a dyn Fn() -> Duration);

impl Bench {
    /// Restores of 100 edits, and of all `files` files.
    pub(super) fn restores(&self, files: usize) {
        let worktree = self.ensured();
        let at = worktree.path.clone();
        let checkpoint = self.taken(&worktree);
        // Nobody waits for the disk but Hearth where it says so.
        let mut config = WorktreesConfig::new(self.dir.path().join("home"));
        config.sync = false;
        let unsynced = GitWorktrees::new(config);
        let few = |mark: &str| self.edit(&at, mark);
        let all = |mark: &str| self.rewrite(&at, files, mark);
        let orders: [Named<'_>; 2] = [("100 edits", &few), ("everything", &all)];
        let hearth = || self.restore(&unsynced, &worktree, &checkpoint);
        let synced = || self.restore(&self.port, &worktree, &checkpoint);
        let alone: [Way<'_>; 5] = [
            ("git", &|| timed(|| self.cli_restore(&at, &checkpoint))),
            ("git restore", &|| timed(|| cli_by_paths(&at, &checkpoint))),
            ("libgit2", &|| timed(|| libgit2_restore(&at, &checkpoint))),
            ("Hearth, without a wait for the disk", &hearth),
            ("Hearth", &synced),
        ];
        let with_undo: [Way<'_>; 5] = [
            ("git", &|| {
                timed(|| {
                    self.cli_checkpoint(&at);
                    self.cli_restore(&at, &checkpoint);
                })
            }),
            ("git, then a wait for the disk", &|| {
                timed(|| {
                    self.cli_checkpoint(&at);
                    self.cli_restore(&at, &checkpoint);
                    wait_for_disk(&at);
                })
            }),
            ("libgit2", &|| {
                timed(|| {
                    self.libgit2_checkpoint(&at);
                    libgit2_restore(&at, &checkpoint);
                })
            }),
            ("Hearth, without a wait for the disk", &hearth),
            ("Hearth", &synced),
        ];
        for (what, change) in orders {
            let stored = |mark: &str| {
                change(mark);
                for port in [&self.port, &unsynced] {
                    let taken = port.checkpoint(&worktree, CheckpointId::new(), None);
                    self.runtime.block_on(taken).expect("a checkpoint");
                }
            };
            let name = format!("restore alone, {what}");
            self.in_turns(&name, &alone, &stored, &worktree, &checkpoint);
            let name = format!("restore with its undo, {what}");
            self.in_turns(&name, &with_undo, change, &worktree, &checkpoint);
        }
    }

    /// Each way is played after a `change`, and must bring the files back.
    fn in_turns(
        &self,
        name: &str,
        ways: &[Way<'_>],
        change: &dyn Fn(&str),
        worktree: &Worktree,
        checkpoint: &Checkpoint,
    ) {
        let mut took: Vec<Vec<Duration>> = vec![Vec::new(); ways.len()];
        for round in 0..ROUNDS {
            for (number, ((_, way), took)) in ways.iter().zip(&mut took).enumerate() {
                change(&format!("{name} {round} {number}"));
                wait_for_disk(&worktree.path);
                took.push(way());
                let now = self.taken(worktree);
                assert_eq!(now.tree, checkpoint.tree, "not restored");
                sleep(PAUSE);
            }
        }
        println!("{name}");
        let least = |took: &[Duration]| took.iter().min().copied().unwrap_or_default();
        let reference = (middle(took[0].clone()), least(&took[0]));
        for ((way, _), took) in ways.iter().zip(took) {
            let (low, middle) = (least(&took), middle(took));
            let ms = |time: Duration| time.as_secs_f64() * 1e3;
            println!(
                "  {way:<38} {:>9.2} ms  {:>6.2}×   least {:>9.2} ms  {:>6.2}×",
                ms(middle),
                ms(middle) / ms(reference.0),
                ms(low),
                ms(low) / ms(reference.1),
            );
        }
    }

    fn taken(&self, worktree: &Worktree) -> Checkpoint {
        let taken = self.port.checkpoint(worktree, CheckpointId::new(), None);
        self.runtime.block_on(taken).expect("a checkpoint")
    }

    fn restore(&self, port: &GitWorktrees, worktree: &Worktree, to: &Checkpoint) -> Duration {
        let work = Work {
            id: OperationId::new(),
            order: Order::Restore {
                checkpoint: to.id,
                chat: ChatId::new(),
                consent: true,
                retries: None,
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

    /// git's fastest way: what its index knows is not read again.
    fn cli_restore(&self, at: &Path, to: &Checkpoint) {
        let index = self.copied_index(at);
        git_with(at, &index, &["read-tree", "-u", "--reset", &to.commit]);
        git_with(at, &index, &["clean", "-fdq"]);
    }
}

fn cli_by_paths(at: &Path, to: &Checkpoint) {
    let source = format!("--source={}", to.commit);
    git(at, &["restore", &source, "--worktree", ":/"]);
    git(at, &["clean", "-fdq"]);
}

fn wait_for_disk(at: &Path) {
    run(std::process::Command::new("sync").arg("-f").arg(at));
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
