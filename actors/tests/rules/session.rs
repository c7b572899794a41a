//! The session machine in a small world of completions, late words and faults.

use std::time::Duration;

use hearth_actors::event::{AgentStop, ExitInfo};
use hearth_actors::ids::TurnId;
use hearth_actors::limits::{ParkReason, Parked};
use hearth_actors::model::Deadlines;
use hearth_actors::outcome::Outcome;
use hearth_actors::rules::moment::Moment;
use hearth_actors::rules::session::{Effect, Input, LinkNo, STOPPED, Session};
use hearth_actors::rules::turn::Why;
use proptest::prelude::*;
use uuid::Uuid;

use super::at;

/// What the world does next.
#[derive(Clone, Debug)]
enum Op {
    /// A new task, if one is welcome, with a prepared checkpoint or without, in a
    /// fresh context or not.
    Assign {
        prepared: bool,
        renew: bool,
    },
    /// One of the pending jobs comes back, well or badly.
    Complete {
        which: usize,
        how: u8,
    },
    /// The agent's process dies.
    Die,
    /// The agent does something in its turn.
    Agent(u8),
    /// The store says that the turn is not ours, or refuses its words.
    Disown {
        refused: bool,
    },
    Cancel(Why),
    Stop,
    /// To come back: what is asked stays open.
    Leave,
    /// Turns may end, and none may wait for a human.
    Drain,
    /// The agent has not the context that the turn wants.
    Unfit,
    /// All that was said before and is out of date is said again.
    Late,
    /// Time passes to the next deadline, or so many milliseconds.
    Tick,
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(prepared, renew)| Op::Assign { prepared, renew }),
        30 => (any::<usize>(), any::<u8>()).prop_map(|(which, how)| Op::Complete { which, how }),
        2 => Just(Op::Die),
        6 => any::<u8>().prop_map(Op::Agent),
        1 => any::<bool>().prop_map(|refused| Op::Disown { refused }),
        2 => prop_oneof![Just(Why::Asked), Just(Why::Interrupted)].prop_map(Op::Cancel),
        1 => Just(Op::Stop),
        1 => Just(Op::Leave),
        1 => Just(Op::Drain),
        1 => Just(Op::Unfit),
        4 => Just(Op::Late),
        2 => Just(Op::Tick),
        2 => (0u64..200_000).prop_map(Op::Wait),
    ]
}

/// A job under way, whose end is an input.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Job {
    Worktree(TurnId),
    Checkpoint(TurnId),
    Start(LinkNo),
    Open(TurnId),
    StopLink(LinkNo),
    /// The proof of a prepared checkpoint, and its taking again.
    Prove(TurnId),
    Retake(TurnId),
    /// A fresh context, where the prompt was not taken in the former.
    Renew(TurnId),
    Diff(TurnId),
    /// The agent's last words are on their way.
    Words(TurnId),
    Finish(TurnId),
    GiveBack(TurnId),
}

/// The turn as the world knows it.
#[derive(Debug, Default)]
struct Turn {
    id: Option<TurnId>,
    open_asked: bool,
    prompted: bool,
    committed: bool,
    renewed: bool,
    /// The checkpoint holds the files.
    stands: bool,
    /// Its files are compared.
    compared: bool,
    /// Its end, or its return, was ordered.
    ended: bool,
    cancelled: bool,
}

/// The world around one machine.
struct World {
    machine: Session,
    now: Moment,
    jobs: Vec<Job>,
    said: Vec<Input>,
    turns: u32,
    turn: Turn,
    /// Started and not known to be gone.
    link: Option<LinkNo>,
    link_is_up: bool,
    stopping: bool,
    draining: bool,
    stopped: bool,
}

impl World {
    fn new() -> Self {
        Self {
            machine: Session::new(at(0)),
            now: at(0),
            jobs: Vec::new(),
            said: Vec::new(),
            turns: 0,
            turn: Turn::default(),
            link: None,
            link_is_up: false,
            stopping: false,
            draining: false,
            stopped: false,
        }
    }

    fn happen(&mut self, op: Op) {
        match op {
            Op::Assign { prepared, renew } => self.assign(prepared, renew),
            Op::Complete { which, how } => {
                if !self.jobs.is_empty() {
                    let job = self.jobs.remove(which % self.jobs.len());
                    self.complete(job, how);
                }
            }
            Op::Die => {
                if let Some(no) = self.link {
                    let starting = self.jobs.contains(&Job::Start(no));
                    if self.link_is_up || starting {
                        self.store_words();
                        self.step(Input::LinkExited(no, ExitInfo::default()));
                    }
                }
            }
            Op::Agent(what) => self.agent(what),
            Op::Disown { refused } => {
                if let Some(turn) = self.turn.id.filter(|_| self.turn.prompted) {
                    self.step(if refused {
                        Input::Refused(turn, "no".into())
                    } else {
                        Input::Fenced(turn)
                    });
                }
            }
            Op::Cancel(why) => {
                if let Some(turn) = self.turn.id {
                    self.turn.cancelled = true;
                    self.step(Input::Cancel(turn, why));
                }
            }
            Op::Stop => {
                self.stopping = true;
                self.turn.cancelled = true;
                self.step(Input::Stop);
            }
            Op::Leave => {
                self.stopping = true;
                self.turn.cancelled = true;
                self.step(Input::Leave(STOPPED));
            }
            Op::Drain => {
                self.draining = true;
                self.step(Input::Drain);
            }
            Op::Unfit => {
                if let Some(turn) = self.turn.id {
                    self.step(Input::Unfit(turn, "no".into()));
                }
            }
            Op::Late => self.late(),
            Op::Tick => self.tick(),
            Op::Wait(ms) => {
                self.now = self.now + Duration::from_millis(ms);
                self.step(Input::Tick);
            }
        }
    }

    /// The pump stores what was said before it tells of the end of the link.
    fn store_words(&mut self) {
        let words = self
            .jobs
            .iter()
            .position(|job| matches!(job, Job::Words(_)));
        if let Some(which) = words {
            let job = self.jobs.remove(which);
            self.complete(job, 1);
        }
    }

    fn assign(&mut self, prepared: bool, renew: bool) {
        if self.machine.is_idle() {
            self.turns += 1;
            let turn = TurnId(Uuid::from_u128(self.turns.into()));
            self.turn = Turn {
                id: Some(turn),
                ..Turn::default()
            };
            self.step(Input::Assign {
                turn,
                deadlines: Deadlines::default(),
                prepared,
                renew,
            });
        }
    }

    fn complete(&mut self, job: Job, how: u8) {
        let well = !how.is_multiple_of(8);
        self.step(match job {
            Job::Worktree(turn) if well => Input::WorktreeReady(turn),
            Job::Checkpoint(turn) if well => Input::CheckpointReady(turn),
            Job::Worktree(turn) if how % 16 == 8 => {
                Input::PutOff(turn, Parked::until(ParkReason::DiskLow, Duration::ZERO))
            }
            Job::Worktree(turn) | Job::Checkpoint(turn) => Input::PrepareFailed(turn, "no".into()),
            Job::Start(no) if well => Input::LinkReady(no),
            Job::Start(no) => Input::LinkFailed(no, Outcome::NoStart, "no".into()),
            Job::Open(turn) | Job::Finish(turn) if how == 0 => Input::Fenced(turn),
            Job::Open(turn) if how % 16 == 8 => Input::CancelledFirst(turn),
            Job::Open(turn) if !well => Input::Refused(turn, "no".into()),
            Job::Open(turn) => Input::Opened(turn),
            Job::StopLink(no) => Input::LinkStopped(no),
            Job::Prove(turn) if well => Input::CheckpointStands(turn),
            Job::Prove(turn) => Input::FilesMoved(turn),
            Job::Retake(turn) if how == 0 => Input::Fenced(turn),
            Job::Retake(turn) if well => Input::CheckpointStands(turn),
            Job::Retake(turn) => Input::PrepareFailed(turn, "no".into()),
            Job::Renew(turn) if how == 0 => Input::Fenced(turn),
            Job::Renew(turn) if well => Input::Renewed(turn),
            Job::Renew(turn) => Input::NeedsFresh(turn, "no".into()),
            Job::Diff(turn) => Input::Diffed(turn),
            Job::Words(turn) => Input::SaidAll(turn),
            Job::Finish(turn) | Job::GiveBack(turn) => Input::Finished(turn),
        });
    }

    fn agent(&mut self, what: u8) {
        let Some(turn) = self.turn.id.filter(|_| self.turn.prompted) else {
            return;
        };
        let input = match what % 8 {
            0..3 => Input::Spoke(turn),
            3 => Input::Asked(turn),
            4 => Input::NeedsFresh(turn, "no".into()),
            5 | 6 => Input::Answered(turn),
            _ => {
                // Whatever the machine makes of it, the pump goes on to store
                // what was said.
                self.jobs.retain(|job| *job != Job::Words(turn));
                self.jobs.push(Job::Words(turn));
                Input::AgentEnded(turn, AgentStop::EndTurn)
            }
        };
        self.step(input);
    }

    /// Words of an older turn or link: nothing follows, nothing changes.
    fn late(&mut self) {
        let (turn, no) = (self.machine.turn(), self.machine.link_no());
        let before = format!("{:?}", self.machine);
        for input in self.said.iter().filter(|input| is_stale(input, turn, no)) {
            let effects = self.machine.step(self.now, input.clone());
            assert_eq!(effects, [], "after a late {input:?}");
        }
        assert_eq!(format!("{:?}", self.machine), before, "after late words");
    }

    fn tick(&mut self) {
        if let Some(deadline) = self.machine.next_deadline() {
            self.now = self.now.max(deadline);
        }
        self.step(Input::Tick);
    }

    fn step(&mut self, input: Input) {
        self.said.push(input.clone());
        let was_up = self.machine.is_warm();
        let over = self.turn.ended;
        let effects = self.machine.step(self.now, input.clone());
        assert!(
            !self.stopped || effects.is_empty(),
            "after the end: {effects:?}"
        );
        match input {
            Input::Opened(_) => self.turn.committed = true,
            Input::CheckpointReady(_) | Input::CheckpointStands(_) => self.turn.stands = true,
            Input::Renewed(_) => self.turn.prompted = false,
            Input::Diffed(_) => self.turn.compared = true,
            _ => {}
        }
        if let Input::Opened(turn) | Input::CheckpointStands(turn) = input
            && self.turn.id == Some(turn)
        {
            let ready = self.turn.committed && self.turn.stands && !over;
            let due = ready && was_up && !self.turn.cancelled;
            assert_eq!(effects.contains(&Effect::SendPrompt), due, "{effects:?}");
        }
        for effect in effects {
            self.carry_out(effect, &input);
        }
        self.link_is_up = self.machine.is_warm();
        self.check();
    }

    fn carry_out(&mut self, effect: Effect, cause: &Input) {
        let turn = self.turn.id;
        let of_turn = || turn.expect("an effect of a turn");
        match effect {
            Effect::EnsureWorktree => self.jobs.push(Job::Worktree(of_turn())),
            Effect::TakeCheckpoint => self.jobs.push(Job::Checkpoint(of_turn())),
            Effect::ProveCheckpoint => self.jobs.push(Job::Prove(of_turn())),
            Effect::RetakeCheckpoint => {
                assert!(self.turn.committed, "stored before there was a row");
                self.jobs.push(Job::Retake(of_turn()));
            }
            Effect::PrepareCheckpoint => {
                assert!(self.turn.ended && self.machine.is_warm());
            }
            Effect::StopListening => assert!(self.turn.prompted),
            Effect::StartLink(no) => {
                assert_eq!(self.link.replace(no), None, "two live links");
                self.jobs.push(Job::Start(no));
            }
            Effect::AbandonPreparation => {
                self.jobs.retain(|job| job.turn() != turn);
            }
            Effect::OpenJournal => {
                assert!(!self.turn.open_asked, "opened twice");
                self.turn.open_asked = true;
                self.jobs.push(Job::Open(of_turn()));
            }
            Effect::RenewContext(_) => {
                assert!(self.turn.prompted && self.machine.is_warm());
                assert!(
                    !std::mem::replace(&mut self.turn.renewed, true),
                    "renewed twice"
                );
                self.jobs.push(Job::Renew(of_turn()));
            }
            Effect::SendPrompt => {
                assert!(
                    matches!(cause, Input::Opened(id) | Input::CheckpointStands(id) | Input::Renewed(id) if Some(*id) == turn)
                );
                assert!(self.turn.committed && self.turn.stands);
                assert!(!self.turn.prompted, "prompted twice");
                self.turn.prompted = true;
            }
            Effect::SendCancel => assert!(self.turn.prompted && self.machine.is_warm()),
            Effect::StopLink { .. } => {
                let no = self.link.expect("a link to stop");
                assert!(!self.jobs.contains(&Job::StopLink(no)), "stopped twice");
                self.jobs.push(Job::StopLink(no));
            }
            Effect::DropLink => {
                let no = self.link.take().expect("a link to drop");
                self.jobs.retain(|job| *job != Job::Start(no));
            }
            Effect::CountCrash(_) | Effect::LostServer(_) => {}
            Effect::TakeDiff => {
                assert!(self.turn.prompted);
                self.jobs.push(Job::Diff(of_turn()));
            }
            Effect::Finish(_) => {
                assert!(
                    !matches!(cause, Input::SaidAll(_)) || self.turn.compared,
                    "ended without its files"
                );
                assert!(
                    !std::mem::replace(&mut self.turn.ended, true),
                    "ended twice"
                );
                self.jobs.push(Job::Finish(of_turn()));
            }
            Effect::Detach(_) => {
                let left = matches!(cause, Input::Leave(_)) || self.draining;
                assert!(left && self.turn.prompted);
                self.stopping = true;
                self.turn.cancelled = true;
                assert!(
                    !std::mem::replace(&mut self.turn.ended, true),
                    "ended twice"
                );
                self.jobs.push(Job::Finish(of_turn()));
            }
            Effect::GiveBack(_) => {
                assert!(!self.turn.open_asked, "given back after its opening");
                assert!(
                    !std::mem::replace(&mut self.turn.ended, true),
                    "ended twice"
                );
                self.jobs.push(Job::GiveBack(of_turn()));
            }
            Effect::TurnOver(outcome) => {
                assert!(outcome.is_none() || self.turn.ended, "over without an end");
                let over = of_turn();
                self.turn = Turn::default();
                // What worked for it is dropped with it.
                self.jobs.retain(|job| job.turn() != Some(over));
            }
            Effect::StopSelf => {
                assert!(self.stopping && self.link.is_none() && turn.is_none());
                self.stopped = true;
            }
        }
    }

    fn check(&self) {
        let machine = &self.machine;
        assert_eq!(
            machine.turn(),
            self.turn.id,
            "every turn is over exactly once"
        );
        assert!(!machine.is_warm() || self.link == Some(machine.link_no()));
        assert_eq!(machine.is_stopping(), self.stopping);
        assert!(!self.draining || !machine.waits_for_human(), "{machine:?}");
        assert!(!machine.is_idle() || self.turn.id.is_none());
        assert!(!machine.waits_for_human() || self.turn.prompted);
    }

    /// Completions and time alone lead to rest from wherever it is.
    fn settle(&mut self) {
        for _ in 0..60 {
            if let Some(job) = self.jobs.pop() {
                self.complete(job, 1);
            } else if self.machine.next_deadline().is_some() {
                self.tick();
            } else if self.machine.waits_for_human() {
                self.happen(Op::Cancel(Why::Asked));
            } else {
                break;
            }
        }
        assert_eq!(self.turn.id, None, "wedged: {:?}", self.machine);
        assert_eq!(self.stopped, self.stopping, "{:?}", self.machine);
        assert_eq!(self.machine.is_idle(), !self.stopping);
    }
}

impl Job {
    fn turn(self) -> Option<TurnId> {
        match self {
            Self::Worktree(turn)
            | Self::Checkpoint(turn)
            | Self::Open(turn)
            | Self::Prove(turn)
            | Self::Retake(turn)
            | Self::Renew(turn)
            | Self::Diff(turn)
            | Self::Words(turn)
            | Self::Finish(turn)
            | Self::GiveBack(turn) => Some(turn),
            Self::Start(_) | Self::StopLink(_) => None,
        }
    }
}

fn is_stale(input: &Input, turn: Option<TurnId>, link: LinkNo) -> bool {
    match input {
        Input::Assign { .. } | Input::Stop | Input::Leave(_) | Input::Drain | Input::Tick => false,
        Input::LinkReady(no)
        | Input::LinkFailed(no, ..)
        | Input::ServerFailed(no, _)
        | Input::LinkExited(no, _)
        | Input::LinkStopped(no) => *no != link,
        Input::WorktreeReady(of)
        | Input::CheckpointReady(of)
        | Input::PrepareFailed(of, _)
        | Input::PutOff(of, _)
        | Input::NeedsFresh(of, _)
        | Input::Opened(of)
        | Input::CancelledFirst(of)
        | Input::Fenced(of)
        | Input::Refused(of, _)
        | Input::Spoke(of)
        | Input::Asked(of)
        | Input::Answered(of)
        | Input::AgentEnded(of, _)
        | Input::SaidAll(of)
        | Input::Unfit(of, _)
        | Input::Renewed(of)
        | Input::CheckpointStands(of)
        | Input::FilesMoved(of)
        | Input::Cancel(of, _)
        | Input::Diffed(of)
        | Input::Finished(of) => Some(*of) != turn,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_promise_holds_after_every_step(ops in prop::collection::vec(op(), 0..120)) {
        let mut world = World::new();
        for op in ops {
            world.happen(op);
        }
        world.settle();
        if !world.stopped {
            // It is as good as new: one more turn runs to a good end.
            world.assign(false, false);
            for _ in 0..20 {
                if let Some(job) = world.jobs.pop() {
                    world.complete(job, 1);
                } else if world.turn.prompted {
                    world.happen(Op::Agent(7));
                }
            }
            prop_assert_eq!(world.turn.id, None);
            world.happen(Op::Stop);
            world.settle();
            prop_assert!(world.stopped);
        }
    }
}
