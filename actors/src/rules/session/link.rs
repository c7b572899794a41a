//! The link to the agent: started for a turn, outliving it, and ended by its
//! death, a turn's end or the session's.

use super::{Effect, Link, Phase, Session};
use crate::event::ExitInfo;
use crate::outcome::Outcome;
use crate::rules::turn::{Verdict, crash_report};

impl Session {
    pub(super) fn want_link(&mut self, out: &mut Vec<Effect>) {
        if self.link == Link::Down {
            self.link_no.0 += 1;
            self.link = Link::Starting;
            out.push(Effect::StartLink(self.link_no));
        }
    }

    /// The link went down while a turn is being prepared for it.
    fn start_again(&mut self, out: &mut Vec<Effect>) {
        if self.worktree_known && matches!(self.phase, Phase::Preparing { .. }) {
            self.want_link(out);
        }
    }

    pub(super) fn start_failed(&mut self, outcome: Outcome, detail: String, out: &mut Vec<Effect>) {
        self.link = Link::Down;
        out.push(Effect::DropLink);
        if matches!(self.phase, Phase::Preparing { .. }) {
            out.push(Effect::AbandonPreparation);
            self.finish(Verdict::because(outcome, detail), out);
        }
    }

    pub(super) fn exited(&mut self, exit: &ExitInfo, out: &mut Vec<Effect>) {
        match self.link {
            Link::Up => {
                self.link = Link::Down;
                out.push(Effect::DropLink);
                out.push(crash(crash_report("the agent's process ended", exit), exit));
                self.start_again(out);
                self.guarded(out, |guard| guard.exited(exit));
            }
            // It died so early that its end overtook the news of its start.
            Link::Starting => {
                let detail = crash_report("the agent's process ended as it started", exit);
                out.push(crash(detail.clone(), exit));
                self.start_failed(Outcome::NoStart, detail, out);
            }
            Link::Stopping { gone, .. } => self.stopping_went_on(gone, true, out),
            Link::Down => {}
        }
    }

    pub(super) fn stop_link(&mut self, hurry: bool, out: &mut Vec<Effect>) {
        if self.link == Link::Up {
            self.link = Link::Stopping {
                gone: false,
                said_all: false,
            };
            out.push(Effect::StopLink { hurry });
        }
    }

    /// A link that is being stopped is down when its processes are gone and, if
    /// a turn listens, its last words are stored.
    pub(super) fn stopping_went_on(&mut self, gone: bool, said_all: bool, out: &mut Vec<Effect>) {
        let listened_to = matches!(
            self.phase,
            Phase::Running(_)
                | Phase::Diffing {
                    said_all: false,
                    ..
                }
        );
        if gone && (said_all || !listened_to) {
            self.link = Link::Down;
            out.push(Effect::DropLink);
            self.start_again(out);
            self.guarded(out, |guard| guard.exited(&ExitInfo::default()));
        } else {
            self.link = Link::Stopping { gone, said_all };
        }
    }

    /// No turn is left: end the link, then the actor.
    pub(super) fn go(&mut self, out: &mut Vec<Effect>) {
        if self.link == Link::Starting {
            self.link = Link::Down;
            out.push(Effect::DropLink);
        }
        self.stop_link(false, out);
        if self.link == Link::Down {
            self.over = true;
            out.push(Effect::StopSelf);
        }
    }
}

fn crash(report: String, exit: &ExitInfo) -> Effect {
    if exit.shared {
        Effect::LostServer(report)
    } else {
        Effect::CountCrash(report)
    }
}
