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

mod opening;
mod words;

use std::time::Duration;

use crate::event::ExitInfo;
use crate::ids::TurnId;
use crate::model::Deadlines;
use crate::outcome::Outcome;
use crate::rules::moment::Moment;
use crate::rules::turn::{Guard, Order, Verdict, Why, crash_report};
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

/// The machine.
#[derive(Clone, Debug)]
pub struct Session {
    phase: Phase,
    turn: Option<TurnId>,
    link: Link,
    link_no: LinkNo,
    worktree_known: bool,
    stopping: bool,
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
            over: false,
            since: now,
        }
    }

    /// No turn, not stopping: an assignment is welcome.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle) && !self.stopping
    }

    /// The agent's process is up.
    #[must_use]
    pub fn is_warm(&self) -> bool {
        self.link == Link::Up
    }

    /// It is on its way out.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// A human is being asked.
    #[must_use]
    pub fn waits_for_human(&self) -> bool {
        matches!(&self.phase, Phase::Running(guard) if guard.waits_for_human())
    }

    /// The turn it works on.
    #[must_use]
    pub fn turn(&self) -> Option<TurnId> {
        self.turn
    }

    /// The number of the current or last link.
    #[must_use]
    pub fn link_no(&self) -> LinkNo {
        self.link_no
    }

    /// The link of this number is being started and still wanted.
    #[must_use]
    pub fn awaits_link(&self, no: LinkNo) -> bool {
        self.link == Link::Starting && self.link_no == no
    }

    /// How long nothing has happened, while idle.
    #[must_use]
    pub fn idle_for(&self, now: Moment) -> Duration {
        now.since(self.since)
    }

    /// One word for people.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match (&self.phase, self.link) {
            (_, Link::Stopping { .. }) => "stopping",
            (Phase::Idle, Link::Up) => "idle",
            (Phase::Idle, Link::Starting) => "starting",
            (Phase::Idle, Link::Down) => "cold",
            (Phase::Preparing { .. }, _) => "preparing",
            (Phase::Opening(_), _) => "opening",
            (Phase::Running(guard), _) if guard.waits_for_human() => "blocked",
            (Phase::Running(_), _) => "running",
            (Phase::Diffing { .. }, _) => "diffing",
            (Phase::Finishing(_), _) => "finishing",
        }
    }

    /// When to give [`Input::Tick`] next; none when no clock runs.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        match &self.phase {
            Phase::Running(guard) => guard.next_deadline(),
            _ => None,
        }
    }

    /// One step.
    pub fn step(&mut self, now: Moment, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.over {
            return effects;
        }
        self.react(now, input, &mut effects);
        if let Link::Stopping { gone: true, .. } = self.link {
            // Perhaps nobody waits for last words any more.
            self.stopping_went_on(true, false, &mut effects);
        }
        if self.stopping && matches!(self.phase, Phase::Idle) {
            self.go(&mut effects);
        }
        effects
    }

    /// No turn is left: end the link, then the actor.
    fn go(&mut self, out: &mut Vec<Effect>) {
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

    fn react(&mut self, now: Moment, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Assign {
                turn,
                deadlines,
                prepared,
            } => self.assign(turn, deadlines, prepared, out),
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
                self.start_failed(outcome, detail, out);
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
            Input::Stop => {
                self.stopping = true;
                self.cancel(now, Why::Interrupted, out);
            }
            Input::Tick => self.guarded(out, |guard| guard.tick(now)),
            // Words of an older turn or link.
            _ => {}
        }
    }

    fn assign(
        &mut self,
        turn: TurnId,
        deadlines: Deadlines,
        prepared: bool,
        out: &mut Vec<Effect>,
    ) {
        debug_assert!(self.is_idle(), "one turn at a time");
        self.turn = Some(turn);
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
        if self.worktree_known {
            out.push(Effect::TakeCheckpoint);
            self.want_link(out);
        } else {
            out.push(Effect::EnsureWorktree);
        }
    }

    fn want_link(&mut self, out: &mut Vec<Effect>) {
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

    fn open_if_ready(&mut self, out: &mut Vec<Effect>) {
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

    fn cancel(&mut self, now: Moment, why: Why, out: &mut Vec<Effect>) {
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

    fn exited(&mut self, exit: &ExitInfo, out: &mut Vec<Effect>) {
        match self.link {
            Link::Up => {
                self.link = Link::Down;
                out.push(Effect::DropLink);
                out.push(Effect::CountCrash(crash_report(
                    "the agent's process ended",
                    exit,
                )));
                self.start_again(out);
                self.guarded(out, |guard| guard.exited(exit));
            }
            // It died so early that its end overtook the news of its start.
            Link::Starting => {
                let detail = crash_report("the agent's process ended as it started", exit);
                self.start_failed(Outcome::NoStart, detail, out);
            }
            Link::Stopping { gone, .. } => self.stopping_went_on(gone, true, out),
            Link::Down => {}
        }
    }

    /// A link that is being stopped is down when its processes are gone and, if
    /// a turn listens, its last words are stored.
    fn stopping_went_on(&mut self, gone: bool, said_all: bool, out: &mut Vec<Effect>) {
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

    fn start_failed(&mut self, outcome: Outcome, detail: String, out: &mut Vec<Effect>) {
        self.link = Link::Down;
        out.push(Effect::DropLink);
        out.push(Effect::CountCrash(detail.clone()));
        if matches!(self.phase, Phase::Preparing { .. }) {
            out.push(Effect::AbandonPreparation);
            self.finish(Verdict::because(outcome, detail), out);
        }
    }

    /// Somebody else owns the turn: the agent may be writing for it.
    fn fenced(&mut self, now: Moment, out: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Running(_)) && self.link == Link::Up {
            self.stop_link(true, out);
        }
        self.turn_over(now, None, out);
    }

    fn refused(&mut self, detail: String, out: &mut Vec<Effect>) {
        match self.phase {
            Phase::Opening(_) => {
                self.finish(Verdict::because(Outcome::NoStart, detail), out);
            }
            Phase::Running(_)
            | Phase::Diffing {
                said_all: false, ..
            } => {
                if self.link == Link::Up {
                    self.stop_link(true, out);
                }
                self.finish(Verdict::because(Outcome::AgentError, detail), out);
            }
            _ => {}
        }
    }

    fn guard_of(
        &mut self,
        turn: TurnId,
        out: &mut Vec<Effect>,
        act: impl FnOnce(&mut Guard) -> Vec<Order>,
    ) {
        if self.turn == Some(turn) {
            self.guarded(out, act);
        }
    }

    fn guarded(&mut self, out: &mut Vec<Effect>, act: impl FnOnce(&mut Guard) -> Vec<Order>) {
        if let Phase::Running(guard) = &mut self.phase {
            let orders = act(guard);
            self.obey(orders, true, out);
        }
    }

    /// `said_all`: what the agent said before is stored.
    fn obey(&mut self, orders: Vec<Order>, said_all: bool, out: &mut Vec<Effect>) {
        for order in orders {
            match order {
                Order::SendCancel => out.push(Effect::SendCancel),
                Order::StopLink => self.stop_link(true, out),
                Order::Settle(verdict) => {
                    self.phase = Phase::Diffing {
                        verdict,
                        compared: false,
                        said_all,
                    };
                    if said_all {
                        out.push(Effect::StopListening);
                    }
                    out.push(Effect::TakeDiff);
                }
            }
        }
    }

    /// The end of a turn tells all of it: its files and its words.
    fn finish_if_done(&mut self, out: &mut Vec<Effect>) {
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

    fn stop_link(&mut self, hurry: bool, out: &mut Vec<Effect>) {
        if self.link == Link::Up {
            self.link = Link::Stopping {
                gone: false,
                said_all: false,
            };
            out.push(Effect::StopLink { hurry });
        }
    }

    /// What a human ended is cancelled; what only met a stop waits again.
    fn end_unprompted(&mut self, why: Why, out: &mut Vec<Effect>) {
        if why == Why::Asked {
            let detail = "cancelled before it was prompted";
            self.finish(Verdict::because(Outcome::Cancelled, detail), out);
        } else {
            self.phase = Phase::Finishing(None);
            out.push(Effect::GiveBack);
        }
    }

    fn finish(&mut self, verdict: Verdict, out: &mut Vec<Effect>) {
        self.phase = Phase::Finishing(Some(verdict.outcome));
        out.push(Effect::Finish(verdict));
    }

    fn turn_over(&mut self, now: Moment, outcome: Option<Outcome>, out: &mut Vec<Effect>) {
        self.phase = Phase::Idle;
        self.turn = None;
        self.since = now;
        out.push(Effect::TurnOver(outcome));
    }

    fn is_preparing(&self, turn: TurnId) -> bool {
        self.turn == Some(turn) && matches!(self.phase, Phase::Preparing { .. })
    }
}
