//! One warm session: a worktree, a link to an agent, and at most one turn.
//!
//! ```text
//! turn:  Idle ─assign─► Preparing ─ready─► Opening ─committed─► Running
//!          ▲  └─ prepared ───────────────────►│ prompted_at ‖ proof │ guard
//!          │             │ worktree, then    │                     ▼
//!          │             │ checkpoint ‖ link │              Diffing ‖ last words
//!          └─ finished ── Finishing ◄──────── (unprompted) ──────── │
//!
//! link:  Down ─start─► Starting ─ready─► Up ─stop─► Stopping ─gone─► Down
//!                          └──failed──► Down ◄──exited──┘
//! ```
//!
//! A link outlives its turns: that is what warm means. Between turns a checkpoint
//! is prepared; the next turn then only proves, beside the commit, that nothing
//! moved since. Every input carries the
//! turn or the link number it speaks of; late ones change nothing.

mod ending;
mod link;
mod opening;
mod preparing;
mod running;
mod shown;
mod words;

use crate::ids::TurnId;
use crate::model::Deadlines;
use crate::outcome::Outcome;
use crate::rules::moment::Moment;
use crate::rules::turn::{Guard, Verdict, Why};
use opening::{Opening, Proof};
pub use words::{Effect, Input, LinkNo};

#[derive(Clone, Debug)]
enum Phase {
    Idle,
    Preparing {
        deadlines: Deadlines,
        checkpointed: bool,
    },
    Opening(Opening),
    Running(Box<Guard>),
    Diffing {
        verdict: Verdict,
        compared: bool,
        /// All that the agent said is stored.
        said_all: bool,
    },
    /// `None` while the task is given back.
    Finishing(Option<Outcome>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down,
    Starting,
    Up,
    Stopping {
        /// The stop ladder is through.
        gone: bool,
        /// Its last words are stored.
        said_all: bool,
    },
}

/// Why a turn was left while a human was asked, when Hearth stops.
pub const STOPPED: &str = "Hearth stopped while a human was asked";
/// The same, when another turn needs the place of its agent.
pub const MADE_ROOM: &str = "its agent made room for another while a human was asked";

/// The machine.
#[derive(Clone, Debug)]
pub struct Session {
    phase: Phase,
    turn: Option<TurnId>,
    link: Link,
    link_no: LinkNo,
    worktree_known: bool,
    stopping: bool,
    /// Turns may end, and none may wait for a human.
    draining: bool,
    /// The turn's prompt was tried in two contexts: there is no third.
    renewed: bool,
    /// [`Effect::StopSelf`] was given: nothing follows it.
    over: bool,
    since: Moment,
}

impl Session {
    /// A session that has nothing yet.
    #[must_use]
    pub fn new(now: Moment) -> Self {
        Self {
            phase: Phase::Idle,
            turn: None,
            link: Link::Down,
            link_no: LinkNo::default(),
            worktree_known: false,
            stopping: false,
            draining: false,
            renewed: false,
            over: false,
            since: now,
        }
    }

    /// One step.
    pub fn step(&mut self, now: Moment, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.over {
            return effects;
        }
        self.react(now, input, &mut effects);
        if self.draining && self.waits_for_human() {
            self.detach(STOPPED, &mut effects);
        }
        if let Link::Stopping { gone: true, .. } = self.link {
            // Perhaps nobody waits for last words any more.
            self.stopping_went_on(true, false, &mut effects);
        }
        if self.stopping && matches!(self.phase, Phase::Idle) {
            self.go(&mut effects);
        }
        effects
    }

    fn react(&mut self, now: Moment, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Assign {
                turn,
                deadlines,
                prepared,
                renew,
            } => {
                if renew {
                    self.stop_link(false, out);
                }
                self.assign(turn, deadlines, prepared, out);
            }
            Input::WorktreeReady(turn) if self.is_preparing(turn) => {
                self.worktree_known = true;
                out.push(Effect::TakeCheckpoint);
                self.want_link(out);
            }
            Input::CheckpointReady(turn) if self.is_preparing(turn) => {
                if let Phase::Preparing { checkpointed, .. } = &mut self.phase {
                    *checkpointed = true;
                }
                self.open_if_ready(out);
            }
            Input::PrepareFailed(turn, detail) if self.is_preparing(turn) => {
                self.worktree_known = false;
                out.push(Effect::AbandonPreparation);
                self.finish(Verdict::because(Outcome::NoStart, detail), out);
            }
            Input::PutOff(turn, parked) if self.is_preparing(turn) => {
                self.worktree_known = false;
                out.push(Effect::AbandonPreparation);
                self.phase = Phase::Finishing(None);
                out.push(Effect::GiveBack(Some(parked)));
            }
            Input::PrepareFailed(turn, detail) if self.turn == Some(turn) => {
                self.retake_failed(detail, out);
            }
            Input::CheckpointStands(turn) if self.turn == Some(turn) => {
                self.proved(now, Proof::Stands, out);
            }
            Input::FilesMoved(turn) if self.turn == Some(turn) => {
                self.proved(now, Proof::Moved, out);
            }
            Input::LinkReady(no) if self.awaits_link(no) => {
                self.link = Link::Up;
                self.open_if_ready(out);
            }
            Input::LinkFailed(no, outcome, detail) if self.awaits_link(no) => {
                out.push(Effect::CountCrash(detail.clone()));
                self.start_failed(outcome, detail, out);
            }
            Input::ServerFailed(no, detail) if self.awaits_link(no) => {
                out.push(Effect::LostServer(detail.clone()));
                self.start_failed(Outcome::NoStart, detail, out);
            }
            Input::NeedsFresh(turn, why) if self.turn == Some(turn) => {
                self.needs_fresh(why, out);
            }
            Input::Renewed(turn) if self.turn == Some(turn) => {
                self.proved(now, Proof::Stands, out);
            }
            Input::Opened(turn) if self.turn == Some(turn) => self.opened(now, out),
            Input::CancelledFirst(turn) if self.turn == Some(turn) => {
                if matches!(self.phase, Phase::Opening(_)) {
                    self.end_unprompted(Why::Asked, out);
                }
            }
            Input::Fenced(turn) if self.turn == Some(turn) => self.fenced(now, out),
            Input::Refused(turn, detail) if self.turn == Some(turn) => self.refused(detail, out),
            Input::Cancel(turn, why) if self.turn == Some(turn) => self.cancel(now, why, out),
            Input::Diffed(turn) if self.turn == Some(turn) => {
                if let Phase::Diffing { compared, .. } = &mut self.phase {
                    *compared = true;
                }
                self.finish_if_done(out);
            }
            Input::Finished(turn) if self.turn == Some(turn) => {
                if let Phase::Finishing(outcome) = self.phase {
                    self.turn_over(now, outcome, out);
                }
            }
            Input::LinkExited(no, exit) if no == self.link_no => self.exited(&exit, out),
            Input::LinkStopped(no) if no == self.link_no => {
                if let Link::Stopping { said_all, .. } = self.link {
                    self.stopping_went_on(true, said_all, out);
                }
            }
            Input::Spoke(turn) => self.guard_of(turn, out, |guard| {
                guard.spoke(now);
                Vec::new()
            }),
            Input::Asked(turn) => self.guard_of(turn, out, |guard| {
                guard.asked(now);
                Vec::new()
            }),
            Input::Answered(turn) => self.guard_of(turn, out, |guard| {
                guard.answered(now);
                Vec::new()
            }),
            Input::AgentEnded(turn, stop) if self.turn == Some(turn) => {
                if let Phase::Running(guard) = &mut self.phase {
                    let orders = guard.agent_ended(&stop);
                    self.obey(orders, false, out);
                }
            }
            Input::SaidAll(turn) if self.turn == Some(turn) => {
                if let Phase::Diffing { said_all, .. } = &mut self.phase
                    && !std::mem::replace(said_all, true)
                {
                    out.push(Effect::StopListening);
                }
                self.finish_if_done(out);
            }
            Input::Unfit(turn, why) if self.is_preparing(turn) => {
                out.push(Effect::AbandonPreparation);
                self.finish(Verdict::because(Outcome::Interrupted, why), out);
            }
            Input::Stop => {
                self.stopping = true;
                self.cancel(now, Why::Interrupted, out);
            }
            Input::Drain => self.draining = true,
            Input::Leave(why) => {
                self.stopping = true;
                if self.waits_for_human() {
                    self.detach(why, out);
                } else {
                    self.cancel(now, Why::Interrupted, out);
                }
            }
            Input::Tick => self.guarded(out, |guard| guard.tick(now)),
            // Words of an older turn or link.
            _ => {}
        }
    }
}
