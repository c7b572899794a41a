//! Checkpoints on the way, and restores of them.

use std::collections::BTreeMap;

use git2::Repository;
use hearth_actors::model::Checkpoint;

use super::super::desk::Verb;
use super::super::model;
use super::super::things::Files;
use super::World;

/// Checkpoints that a restore can choose from.
const MAX_PAST: usize = 12;

/// A checkpoint taken on the way, and the worktree's files then.
#[derive(Clone)]
pub(super) struct Past {
    checkpoint: Checkpoint,
    files: Files,
    /// A restore took it, of what it found.
    is_undo: bool,
}

impl World<'_> {
    /// Takes a checkpoint to go back to.
    pub(super) async fn take_checkpoint(&mut self) {
        let checkpoint = self.desk.checkpoint().await;
        let files = self.worktree.clone();
        self.remember(checkpoint, files, false);
    }

    /// Brings the worktree back to any checkpoint; often to what was there before
    /// the last restore.
    pub(super) async fn restore(&mut self) {
        let last_undo = self.past.iter().rfind(|past| past.is_undo);
        let past = match (last_undo, self.random.u8(..3)) {
            (Some(undo), 0) => undo,
            _ => match self.random.choice(&self.past) {
                Some(any) => any,
                None => return,
            },
        };
        let past = past.clone();
        let plan = self.desk.plan_restore(&past.checkpoint).await;
        let plan = plan.expect("nothing is ever in the way");
        self.check();
        self.undone += usize::from(past.is_undo);
        let outcome = model::Outcome {
            files: past.files,
            baseline: self.baseline.clone(),
            steps: BTreeMap::new(),
        };
        self.carried(Verb::Restore, plan, outcome, Vec::new()).await;
    }

    /// Whether the checkpoint is there to go back to.
    pub(super) fn stands(&self, checkpoint: &Checkpoint) -> bool {
        let repo = Repository::open(&self.desk.lab.project).expect("a repository");
        let name = format!("refs/hearth/checkpoints/{}", checkpoint.id);
        repo.find_reference(&name).is_ok()
    }

    /// Keeps what a restore can go back to.
    pub(super) fn remember(&mut self, checkpoint: Checkpoint, files: Files, is_undo: bool) {
        if self.past.len() == MAX_PAST {
            let forgotten = self.random.usize(..MAX_PAST);
            self.past.remove(forgotten);
        }
        self.past.push(Past {
            checkpoint,
            files,
            is_undo,
        });
    }
}
