//! Between a committed claim and the prompt: two things must be true before the
//! prompt leaves, in any order. `prompted_at` is committed, and the checkpoint
//! that it names holds the files as they are.

use super::{Effect, Link, Phase, Session};
use crate::event::{AgentFault, AgentStop, FaultClass};
use crate::model::Deadlines;
use crate::outcome::Outcome;
use crate::rules::moment::Moment;
use crate::rules::turn::{Guard, Verdict, Why};

/// A turn that is being opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opening {
    deadlines: Deadlines,
    /// Asked for while the commit was on its way.
    cancelled: Option<Why>,
    /// `prompted_at` is.
    committed: bool,
    proof: Proof,
}

/// What is known of the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// It holds the files as they are.
    Stands,
    /// It was prepared, and whether something moved since is being found out.
    Asked,
    /// Something moved: it has to be taken again, once the opening is
    /// committed.
    Moved,
    /// It is being taken again, and stored.
    Retaking,
    /// It holds, and the agent is given a fresh context.
    Renewing,
}

impl Opening {
    pub(super) fn checkpointed(deadlines: Deadlines) -> Self {
        Self {
            deadlines,
            cancelled: None,
            committed: false,
            proof: Proof::Stands,
        }
    }

    pub(super) fn proving(deadlines: Deadlines) -> Self {
        Self {
            proof: Proof::Asked,
            ..Self::checkpointed(deadlines)
        }
    }
}

impl Session {
    pub(super) fn opened(&mut self, now: Moment, out: &mut Vec<Effect>) {
        if let Phase::Opening(opening) = &mut self.phase {
            opening.committed = true;
            // Too late to be given back: the store counts it as prompted.
            match opening.cancelled {
                Some(why) => self.end_opened(why, out),
                None => self.prompt_if_ready(now, out),
            }
        }
    }

    /// [`Proof::Stands`] answers a proof, a retake and a renewal, [`Proof::Moved`]
    /// only the first.
    pub(super) fn proved(&mut self, now: Moment, answer: Proof, out: &mut Vec<Effect>) {
        if let Phase::Opening(opening) = &mut self.phase {
            let answers = match opening.proof {
                Proof::Asked => true,
                Proof::Retaking | Proof::Renewing => answer == Proof::Stands,
                Proof::Stands | Proof::Moved => false,
            };
            if answers {
                opening.proof = answer;
                self.prompt_if_ready(now, out);
            }
        }
    }

    /// A running turn whose prompt was not handed over is opened once more, in a
    /// fresh context; where that cannot be had either, it ends.
    pub(super) fn needs_fresh(&mut self, why: String, out: &mut Vec<Effect>) {
        match &self.phase {
            Phase::Running(guard)
                if self.link == Link::Up && !self.renewed && guard.is_undisturbed() =>
            {
                let opening = Opening {
                    deadlines: guard.deadlines(),
                    cancelled: None,
                    committed: true,
                    proof: Proof::Renewing,
                };
                self.phase = Phase::Opening(opening);
                self.renewed = true;
                out.push(Effect::RenewContext(why));
            }
            Phase::Running(_) => {
                let fault = AgentFault {
                    class: FaultClass::Other,
                    message: why,
                };
                let unprompted = AgentStop::Unprompted(fault);
                self.guarded(out, |guard| guard.agent_ended(&unprompted));
            }
            Phase::Opening(opening) if opening.proof == Proof::Renewing => {
                let outcome = if self.link == Link::Up {
                    Outcome::AgentError
                } else {
                    Outcome::AgentCrashed
                };
                self.finish(Verdict::because(outcome, why), out);
            }
            _ => {}
        }
    }

    pub(super) fn retake_failed(&mut self, detail: String, out: &mut Vec<Effect>) {
        if let Phase::Opening(opening) = &self.phase
            && opening.proof == Proof::Retaking
        {
            self.worktree_known = false;
            self.finish(Verdict::because(Outcome::NoStart, detail), out);
        }
    }

    pub(super) fn cancel_opening(&mut self, why: Why, out: &mut Vec<Effect>) {
        if let Phase::Opening(opening) = &mut self.phase {
            let why = *opening.cancelled.get_or_insert(why);
            if opening.committed {
                // Only the files are waited for, and they may take long.
                self.end_opened(why, out);
            }
        }
    }

    fn prompt_if_ready(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let Phase::Opening(opening) = &mut self.phase else {
            return;
        };
        match opening.proof {
            _ if !opening.committed => {}
            Proof::Asked | Proof::Retaking | Proof::Renewing => {}
            Proof::Moved => {
                opening.proof = Proof::Retaking;
                out.push(Effect::RetakeCheckpoint);
            }
            Proof::Stands if self.link == Link::Up => {
                let guard = Guard::new(now, opening.deadlines);
                self.phase = Phase::Running(Box::new(guard));
                out.push(Effect::SendPrompt);
            }
            Proof::Stands => self.finish(
                Verdict::because(
                    Outcome::AgentCrashed,
                    "the agent's process ended before the prompt reached it",
                ),
                out,
            ),
        }
    }

    /// Ends a turn that the store counts as prompted and no agent heard of.
    fn end_opened(&mut self, why: Why, out: &mut Vec<Effect>) {
        out.push(Effect::AbandonPreparation);
        let (outcome, what) = match why {
            Why::Asked => (Outcome::Cancelled, "cancelled"),
            Why::Budget => (Outcome::Budget, "its budget was used up"),
            Why::Memory => (Outcome::OutOfMemory, "its agent took too much memory"),
            _ => (Outcome::Interrupted, "stopped"),
        };
        let detail = format!("{what} before the prompt reached the agent");
        self.finish(Verdict::because(outcome, detail), out);
    }
}
