//! The files of a turn: its worktree, and the checkpoint before it.

use tokio::time::timeout;

use super::effects::overdue;
use super::settling::refused;
use super::{Msg, State};
use crate::ids::{CheckpointId, TurnId};
use crate::model::{Checkpoint, Worktree, WorktreeSpec};
use crate::rules::session::Input;
use crate::tree::addr::report;
use crate::tree::ready::{FILES_BOUND, NotReady, ready};
use crate::tree::shared::{Shared, until_written, with_source};

impl State {
    pub(super) fn ensure_worktree(&mut self) {
        let Some(turn) = &mut self.turn else { return };
        turn.ensured = true;
        let id = turn.reference.fence.turn;
        let spec = turn.assignment.worktree.clone();
        let shared = self.to.shared.clone();
        let work = async move { Msg::Worktree(id, ready(&shared, &spec).await) };
        turn.tasks.push(report(&self.me, work, move |why| {
            Msg::Worktree(id, Err(NotReady::Failed(why)))
        }));
    }

    pub(super) fn take_checkpoint(&mut self) {
        let Some(worktree) = self.worktree.clone() else {
            return;
        };
        let Some(turn) = &mut self.turn else { return };
        let id = turn.reference.fence.turn;
        let known = turn.assignment.last_tree.clone();
        let bound = FILES_BOUND;
        let worktrees = self.to.shared.ports.worktrees.clone();
        let work = async move {
            let taking = worktrees.checkpoint(&worktree, CheckpointId::new(), known.as_deref());
            let taken = match timeout(bound, taking).await {
                Ok(taken) => taken.map_err(|error| with_source(&error)),
                Err(_) => Err(overdue("the checkpoint was not taken", bound)),
            };
            Msg::Checkpoint(id, taken)
        };
        turn.tasks.push(report(&self.me, work, move |why| {
            Msg::Checkpoint(id, Err(why))
        }));
    }

    /// The directory may have vanished since this actor last saw it.
    pub(super) fn may_ensure_again(&self, turn: TurnId) -> bool {
        self.is_turn(turn) && self.turn.as_ref().is_some_and(|turn| !turn.ensured)
    }

    pub(super) fn ensure_worktree_then_checkpoint(&mut self) {
        if let (Some(turn), Some(worktree)) = (&mut self.turn, &self.worktree) {
            turn.assignment.worktree.existing = Some(worktree.clone());
        }
        self.ensure_worktree();
    }

    /// Between turns, so that the next one need not wait for it. Nobody does: a
    /// turn that comes before it is ready takes its own.
    pub(super) fn prepare_checkpoint(&mut self) {
        let Some(worktree) = self.worktree.clone() else {
            return;
        };
        let worktrees = self.to.shared.ports.worktrees.clone();
        let work = async move {
            let preparing = worktrees.prepare(&worktree, CheckpointId::new());
            Msg::Prepared(match timeout(FILES_BOUND, preparing).await {
                Ok(prepared) => prepared.map_err(|error| with_source(&error)),
                Err(_) => Err(overdue("no checkpoint was prepared", FILES_BOUND)),
            })
        };
        self.preparing = Some(report(&self.me, work, |why| Msg::Prepared(Err(why))));
    }

    pub(super) fn prepared(&mut self, prepared: Result<Checkpoint, String>) {
        self.preparing = None;
        match prepared {
            Ok(checkpoint) => self.prepared = Some(checkpoint),
            // The next turn takes its checkpoint itself, and tells if it cannot.
            Err(why) => tracing::debug!(session = %self.to.key, %why, "no checkpoint was prepared"),
        }
    }

    pub(super) fn prove_checkpoint(&mut self) {
        let (Some(worktree), Some(turn)) = (self.worktree.clone(), &mut self.turn) else {
            return;
        };
        let Some(checkpoint) = turn.checkpoint.clone() else {
            return;
        };
        let id = turn.reference.fence.turn;
        let worktrees = self.to.shared.ports.worktrees.clone();
        let key = self.to.key.clone();
        let work = async move {
            let proof = worktrees.confirm(&worktree, &checkpoint);
            Msg::Input(match timeout(FILES_BOUND, proof).await {
                Ok(Ok(true)) => Input::CheckpointStands(id),
                Ok(Err(error)) => {
                    tracing::debug!(session = %key, %error, "a prepared checkpoint could not be used");
                    Input::FilesMoved(id)
                }
                Ok(Ok(false)) | Err(_) => Input::FilesMoved(id),
            })
        };
        turn.tasks.push(report(&self.me, work, move |_| {
            Msg::Input(Input::FilesMoved(id))
        }));
    }

    pub(super) fn retake_checkpoint(&mut self) {
        let (Some(worktree), Some(turn)) = (self.worktree.clone(), &mut self.turn) else {
            return;
        };
        let Some(prepared) = turn.checkpoint.as_ref().map(|checkpoint| checkpoint.id) else {
            return;
        };
        let reference = turn.reference;
        let id = reference.fence.turn;
        let spec = WorktreeSpec {
            existing: Some(worktree.clone()),
            ..turn.assignment.worktree.clone()
        };
        let shared = self.to.shared.clone();
        let work = async move {
            let taking = take_or_remake(&shared, &worktree, &spec, prepared);
            let taken = match timeout(FILES_BOUND, taking).await {
                Ok(taken) => taken,
                Err(_) => Err(overdue("the checkpoint was not taken", FILES_BOUND)),
            };
            let checkpoint = match taken {
                Ok(checkpoint) => checkpoint,
                Err(why) => return Msg::Input(Input::PrepareFailed(id, why)),
            };
            let journal = &shared.ports.journal;
            let stored = until_written(|| journal.recheckpoint(&reference, &checkpoint)).await;
            Msg::Input(match stored {
                Ok(()) => Input::CheckpointStands(id),
                Err(error) => refused(reference, error),
            })
        };
        turn.tasks.push(report(&self.me, work, move |why| {
            Msg::Input(Input::PrepareFailed(id, why))
        }));
    }
}

/// The directory may have vanished since this actor last saw it.
async fn take_or_remake(
    shared: &Shared,
    worktree: &Worktree,
    spec: &WorktreeSpec,
    id: CheckpointId,
) -> Result<Checkpoint, String> {
    let worktrees = &shared.ports.worktrees;
    if let Ok(checkpoint) = worktrees.checkpoint(worktree, id, None).await {
        return Ok(checkpoint);
    }
    let worktree = match ready(shared, spec).await {
        Ok(ready) => ready.worktree,
        Err(NotReady::Failed(why)) => return Err(why),
        Err(NotReady::Later(parked)) => return Err(parked.detail.unwrap_or_default()),
    };
    let taken = worktrees.checkpoint(&worktree, id, None).await;
    taken.map_err(|error| with_source(&error))
}
