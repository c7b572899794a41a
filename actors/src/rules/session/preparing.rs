//! Between an assignment and its opening: the worktree, then its checkpoint
//! beside the link.

use super::opening::Opening;
use super::{Effect, Link, Phase, Session};
use crate::ids::TurnId;
use crate::model::Deadlines;

impl Session {
    pub(super) fn assign(
        &mut self,
        turn: TurnId,
        deadlines: Deadlines,
        prepared: bool,
        out: &mut Vec<Effect>,
    ) {
        debug_assert!(self.is_idle(), "one turn at a time");
        self.turn = Some(turn);
        self.renewed = false;
        if prepared && self.worktree_known && self.link == Link::Up {
            self.phase = Phase::Opening(Opening::proving(deadlines));
            out.push(Effect::OpenJournal);
            out.push(Effect::ProveCheckpoint);
            return;
        }
        self.phase = Phase::Preparing {
            deadlines,
            checkpointed: false,
        };
        if self.worktree_known && self.link == Link::Up {
            out.push(Effect::TakeCheckpoint);
        } else {
            // No agent is started where the directory may be gone by now.
            self.worktree_known = false;
            out.push(Effect::EnsureWorktree);
        }
    }

    pub(super) fn open_if_ready(&mut self, out: &mut Vec<Effect>) {
        if let Phase::Preparing {
            deadlines,
            checkpointed: true,
        } = self.phase
            && self.link == Link::Up
        {
            self.phase = Phase::Opening(Opening::checkpointed(deadlines));
            out.push(Effect::OpenJournal);
        }
    }

    pub(super) fn is_preparing(&self, turn: TurnId) -> bool {
        self.turn == Some(turn) && matches!(self.phase, Phase::Preparing { .. })
    }
}
