//! The ways out of a turn: asked for, refused by the store, or through its
//! diff and its last words.

use super::{Effect, Link, Phase, Session};
use crate::handover::Taken;
use crate::outcome::Outcome;
use crate::rules::moment::Moment;
use crate::rules::turn::{Verdict, Why};

impl Session {
    pub(super) fn cancel(&mut self, now: Moment, why: Why, out: &mut Vec<Effect>) {
        match &mut self.phase {
            Phase::Preparing { .. } => {
                out.push(Effect::AbandonPreparation);
                if self.link == Link::Starting {
                    self.link = Link::Down;
                    out.push(Effect::DropLink);
                }
                self.end_unprompted(why, out);
            }
            Phase::Opening(_) => self.cancel_opening(why, out),
            Phase::Running(guard) => {
                let orders = guard.cancel(now, why);
                self.obey(orders, true, out);
            }
            Phase::Idle | Phase::Diffing { .. } | Phase::Finishing(_) => {}
        }
    }

    /// Somebody else owns the turn: the agent may be writing for it.
    pub(super) fn fenced(&mut self, now: Moment, out: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Running(_)) && self.link == Link::Up {
            self.stop_link(true, out);
        }
        self.turn_over(now, None, out);
    }

    pub(super) fn refused(&mut self, detail: String, out: &mut Vec<Effect>) {
        match self.phase {
            Phase::Opening(_) => {
                self.finish(Verdict::because(Outcome::NoStart, detail), out);
            }
            Phase::Running(_)
            | Phase::Diffing {
                said_all: false, ..
            } => {
                let taken = match &self.phase {
                    Phase::Running(guard) => guard.taken(),
                    Phase::Diffing { verdict, .. } => verdict.taken,
                    _ => Taken::Unknown,
                };
                if self.link == Link::Up {
                    self.stop_link(true, out);
                }
                let verdict = Verdict::because(Outcome::AgentError, detail);
                self.finish(Verdict { taken, ..verdict }, out);
            }
            _ => {}
        }
    }

    /// The end of a turn tells all of it: its files and its words.
    pub(super) fn finish_if_done(&mut self, out: &mut Vec<Effect>) {
        if let Phase::Diffing {
            verdict,
            compared: true,
            said_all: true,
        } = &self.phase
        {
            let verdict = verdict.clone();
            self.finish(verdict, out);
            if self.link == Link::Up && !self.stopping {
                out.push(Effect::PrepareCheckpoint);
            }
        }
    }

    /// What a human ended is cancelled; what only met a stop waits again.
    pub(super) fn end_unprompted(&mut self, why: Why, out: &mut Vec<Effect>) {
        if why == Why::Asked {
            let detail = "cancelled before it was prompted";
            self.finish(Verdict::because(Outcome::Cancelled, detail), out);
        } else {
            self.phase = Phase::Finishing(None);
            out.push(Effect::GiveBack(None));
        }
    }

    pub(super) fn finish(&mut self, verdict: Verdict, out: &mut Vec<Effect>) {
        self.phase = Phase::Finishing(Some(verdict.outcome));
        out.push(Effect::Finish(verdict));
    }

    /// The agent goes; what it asked is answered to its next process.
    pub(super) fn detach(&mut self, why: &'static str, out: &mut Vec<Effect>) {
        self.stopping = true;
        self.stop_link(true, out);
        self.phase = Phase::Finishing(Some(Outcome::Interrupted));
        out.push(Effect::StopListening);
        // Who asks has taken the prompt, and what stood in front of it.
        out.push(Effect::Detach(Verdict {
            taken: Taken::Yes,
            ..Verdict::because(Outcome::Interrupted, why)
        }));
    }

    pub(super) fn turn_over(
        &mut self,
        now: Moment,
        outcome: Option<Outcome>,
        out: &mut Vec<Effect>,
    ) {
        self.phase = Phase::Idle;
        self.turn = None;
        self.since = now;
        out.push(Effect::TurnOver(outcome));
    }
}
