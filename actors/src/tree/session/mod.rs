//! The session actor: owns one link to an agent, its pump and its turn guard.
//!
//! It feeds [`rules::session`](crate::rules::session) and carries out its
//! effects, each as a task that reports back; a handler never waits.

mod effects;
mod files;
mod handover;
mod leaving;
mod limits;
mod prompts;
mod settling;
mod shown;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::event::{Answer, Ask, Command, TurnRef};
use crate::ids::{ChatId, Generation, PromptId, SessionId, SessionKey, TaskId, TurnId};
use crate::limits::Gauge;
use crate::model::{Assignment, Checkpoint, Diff, Policy, Worktree};
use crate::outcome::Outcome;
use crate::ports::{AgentEntry, Fact, Link, Prompt};
use crate::rules::evict::{Looked, Nomination};
use crate::rules::moment::Moment;
use crate::rules::permission;
use crate::rules::session::{Input, LinkNo, STOPPED, Session};
use crate::rules::turn::Why;
use crate::tree::addr::{Addr, Depth, Task};
use crate::tree::pool;
use crate::tree::pump::{self, CurrentTurn};
use crate::tree::ready::{NotReady, Ready};
use crate::tree::shared::Shared;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

pub(crate) use prompts::Reply;

/// What a session actor is told.
pub(crate) enum Msg {
    /// Run this.
    Assign(Box<Assignment>, Orphanage),
    /// For the machine, as it is.
    Input(Input),
    /// `prompted_at` is committed, and what stands in front of the prompt with it.
    Opened(TurnId, Option<String>),
    /// The agent is in a fresh context, and what it is told there is written down.
    Renewed(TurnId, Option<String>),
    /// The worktree is there, or why not.
    Worktree(TurnId, Result<Ready, NotReady>),
    /// The checkpoint is taken, or why not.
    Checkpoint(TurnId, Result<Checkpoint, String>),
    /// The checkpoint of the next turn is prepared, or why not.
    Prepared(Result<Checkpoint, String>),
    /// The agent can be prompted, or why not.
    LinkUp(LinkNo, Result<LiveLink, (Outcome, String)>),
    /// The worktree was compared, if it could be.
    Diffed(TurnId, Option<Diff>),
    /// The agent asks.
    Asked(TurnId, Ask),
    /// The agent does not ask this any more.
    Withdrawn(TurnId, String),
    /// The agent asks outside any turn: nobody will answer.
    StrayAsk(Ask),
    /// A human answers.
    Answer(Reply),
    /// Nobody answered in time.
    Expired(PromptId),
    /// It is written down how a prompt was settled; false when that was not ours
    /// to write.
    Settled(PromptId, bool),
    /// Slash commands on offer.
    Commands(Vec<Command>),
    /// Somebody set a budget that may bound the turn.
    BudgetSet,
    /// The turn reported what it spent, or a budget's clock ran out.
    Spent(TurnId),
    /// What is used of the turn's budgets, or why nobody knows.
    Weighed(TurnId, Result<Vec<Gauge>, String>),
    /// End the turn of this task.
    Cancel(TaskId, Why),
    /// Go, if nothing speaks against it; the pool is told either way. With true, no
    /// message that waits does.
    Evict(Nomination, bool),
    /// What a look beyond the session found, for the nomination of that number.
    Looked(u64, Looked),
    /// Go in any case.
    Stop,
    /// The same, to come back: what a human is asked stays open.
    Leave,
    /// Hearth stops: finish the turn, but wait for no human.
    Drain,
    /// A clock ran out.
    Tick,
    /// The turn's end cannot be written: start over, the pool settles the turn.
    Broken(String),
}

/// Tells whoever finds a turn without its session whether it was prompted.
pub(crate) type Orphanage = Arc<std::sync::atomic::AtomicBool>;

pub(crate) struct SessionActor;

pub(crate) struct Arguments {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pool: Addr<pool::Msg>,
    pub(crate) key: SessionKey,
    pub(crate) session: SessionId,
    /// The tab that shows its turns: the key's, but for a one-shot session.
    pub(crate) chat: ChatId,
    pub(crate) generation: Generation,
    pub(crate) entry: AgentEntry,
    /// The server it has a tenancy of, in place of a process of its own.
    pub(crate) server: Option<pool::Door>,
    pub(crate) depth: Depth,
    /// Crashes of the key so far, and how the last one came about.
    pub(crate) crashes: u64,
    pub(crate) last_exit: Option<String>,
}

pub(crate) struct State {
    to: Arguments,
    me: Addr<Msg>,
    machine: Session,
    turn: Option<Turn>,
    worktree: Option<Worktree>,
    /// What tells its agents where they work.
    env: BTreeMap<String, String>,
    link: Option<LiveLink>,
    commands: Vec<Command>,
    /// The checkpoint of the next turn, if nothing moves until then.
    prepared: Option<Checkpoint>,
    preparing: Option<Task>,
    /// Starting the link, or stopping it. Outlives turns.
    link_task: Option<Task>,
    timer: Option<(Moment, Task)>,
    /// The pool knows that a human is asked.
    asks: bool,
    /// It was asked to go, and looks whether it may.
    nominated: Option<leaving::Nominated>,
    nominations: u64,
    /// When its link began to start.
    link_began: Moment,
}

/// The turn it works on. Dropping it forgets the tasks that work for it.
struct Turn {
    assignment: Assignment,
    reference: TurnRef,
    policy: Policy,
    checkpoint: Option<Checkpoint>,
    diff: Option<Diff>,
    prompted: Orphanage,
    /// What the agent is told in front of the prompt.
    handover: Option<String>,
    prompts: BTreeMap<PromptId, prompts::Open>,
    /// What is to be written of prompts, in order; none before the first.
    words: Option<words::Words>,
    /// Its agent keeps no context of it.
    alone: bool,
    /// They stay behind, open, when it ends.
    leaves_prompts: bool,
    /// Requests that were written down although nobody was asked.
    decided: usize,
    /// The worktree was made sure of in this turn.
    ensured: bool,
    began: Moment,
    /// When the prompt left, until its first word came.
    silent_since: Option<Moment>,
    limited: limits::Limited,
    tasks: Vec<Task>,
}

/// The last handle: dropping it kills the agent's process tree.
pub(crate) struct LiveLink {
    link: Arc<dyn Link>,
    current: CurrentTurn,
    pump: ActorRef<pump::Next>,
    /// The store knows who it is.
    noted: bool,
    /// Until its first tool call, what it starts are its helpers.
    _helpers: Task,
}

impl Drop for LiveLink {
    fn drop(&mut self) {
        self.pump.kill();
    }
}

impl Actor for SessionActor {
    type Msg = Msg;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Msg>,
        to: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let me = Addr::new(myself, to.depth.clone());
        let now = to.shared.now();
        let machine = Session::new(now);
        let state = State {
            to,
            me,
            machine,
            turn: None,
            worktree: None,
            env: BTreeMap::new(),
            prepared: None,
            preparing: None,
            link: None,
            commands: Vec::new(),
            link_task: None,
            timer: None,
            asks: false,
            nominated: None,
            nominations: 0,
            link_began: now,
        };
        state.show();
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Msg>,
        message: Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.to.depth.taken();
        if let Msg::Broken(why) = message {
            return Err(why.into());
        }
        state.take(message).await;
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Msg>,
        event: SupervisionEvent,
        _state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            // Without its pump nobody hears the agent: start over.
            SupervisionEvent::ActorFailed(_, error) => {
                Err(format!("the pump failed: {error}").into())
            }
            _ => Ok(()),
        }
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Msg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(live) = &state.link {
            live.link.stop(true).await;
        }
        Ok(())
    }
}

impl Turn {
    fn prompt(&self) -> Prompt {
        Prompt {
            text: self.assignment.input.clone(),
            handover: self.handover.clone(),
            model: self.assignment.model.clone(),
            mode: self.assignment.mode.clone(),
            thinking: self.assignment.thinking.clone(),
            features: self.assignment.features.clone(),
            policy: self.policy,
        }
    }
}

impl Arguments {
    /// Its key is its task's own, which no later turn will use.
    fn is_one_shot(&self) -> bool {
        self.key.chat != self.chat
    }
}

impl State {
    async fn take(&mut self, message: Msg) {
        match message {
            Msg::Assign(assignment, prompted) => self.assign(*assignment, prompted).await,
            Msg::Input(input) => {
                self.note_refusal(&input);
                self.note_first_word(&input);
                self.step(input).await;
            }
            Msg::Opened(turn, handover) => {
                self.hand_over(turn, handover);
                self.step(Input::Opened(turn)).await;
            }
            Msg::Renewed(turn, handover) => {
                self.hand_over(turn, handover);
                self.step(Input::Renewed(turn)).await;
            }
            Msg::Worktree(turn, Ok(ready)) => {
                if self.is_turn(turn) {
                    self.worktree = Some(ready.worktree);
                    self.env = ready.env;
                    self.step(Input::WorktreeReady(turn)).await;
                }
            }
            Msg::Checkpoint(turn, Ok(checkpoint)) => {
                if let Some(running) = self
                    .turn
                    .as_mut()
                    .filter(|t| t.reference.fence.turn == turn)
                {
                    running.checkpoint = Some(checkpoint);
                    self.step(Input::CheckpointReady(turn)).await;
                }
            }
            Msg::Checkpoint(turn, Err(why)) if self.may_ensure_again(turn) => {
                tracing::info!(session = %self.to.key, %why, "the checkpoint failed, making sure of the worktree");
                self.ensure_worktree_then_checkpoint();
            }
            Msg::Worktree(turn, Err(NotReady::Later(parked))) => {
                self.step(Input::PutOff(turn, parked)).await;
            }
            Msg::Worktree(turn, Err(NotReady::Failed(why))) | Msg::Checkpoint(turn, Err(why)) => {
                self.step(Input::PrepareFailed(turn, why)).await;
            }
            Msg::Prepared(prepared) => self.prepared(prepared),
            Msg::LinkUp(no, Ok(live)) => self.link_up(no, live).await,
            Msg::LinkUp(no, Err((outcome, why))) => {
                if self.machine.awaits_link(no) {
                    let agent = self.to.key.agent.clone();
                    self.to.shared.note(Fact::NotStarted(agent, outcome));
                }
                self.step(Input::LinkFailed(no, outcome, why)).await;
            }
            Msg::Diffed(turn, diff) => {
                if let Some(running) = self
                    .turn
                    .as_mut()
                    .filter(|t| t.reference.fence.turn == turn)
                {
                    running.diff = diff;
                    self.step(Input::Diffed(turn)).await;
                }
            }
            Msg::Asked(turn, ask) => self.asked(turn, ask).await,
            Msg::Withdrawn(turn, ask) => self.withdrawn(turn, &ask),
            Msg::StrayAsk(ask) => self.answer_agent(&ask.id, &Answer::Cancelled),
            Msg::Answer(reply) => self.answer(reply),
            Msg::Expired(prompt) => self.expired(prompt),
            Msg::Settled(prompt, written) => self.settled(prompt, written).await,
            Msg::Commands(commands) => {
                self.commands = commands;
                self.show();
            }
            Msg::BudgetSet => self.budget_set(),
            Msg::Spent(turn) => self.look_at_budgets(turn),
            Msg::Weighed(turn, gauges) => self.weighed(turn, gauges).await,
            Msg::Cancel(task, why) => {
                let turn = self
                    .turn
                    .as_ref()
                    .filter(|turn| turn.assignment.fence.task == task);
                if let Some(turn) = turn.map(|turn| turn.reference.fence.turn) {
                    self.withdraw_prompts("the task was cancelled");
                    self.step(Input::Cancel(turn, why)).await;
                }
            }
            Msg::Evict(nomination, insist) => self.nominated(nomination, insist).await,
            Msg::Looked(number, looked) => self.looked(number, looked).await,
            Msg::Drain => self.step(Input::Drain).await,
            Msg::Stop => {
                self.withdraw_prompts("its session was stopped");
                self.step(Input::Stop).await;
            }
            Msg::Leave => {
                if !self.machine.waits_for_human() {
                    self.withdraw_prompts("its session was stopped");
                }
                self.step(Input::Leave(STOPPED)).await;
            }
            Msg::Tick => {
                self.timer = None;
                self.step(Input::Tick).await;
            }
            // Answered by the handler itself.
            Msg::Broken(_) => {}
        }
    }

    /// An operation may have moved it since this actor saw the worktree.
    fn know_baseline(&mut self, assignment: &Assignment) {
        let row = assignment.worktree.existing.as_ref();
        if let (Some(known), Some(row)) = (&mut self.worktree, row)
            && known.id == row.id
            && !row.baseline.is_empty()
        {
            known.baseline.clone_from(&row.baseline);
        }
    }

    async fn assign(&mut self, assignment: Assignment, prompted: Orphanage) {
        if !self.machine.is_idle() {
            // It began to go when this was on its way: the pool finds the turn
            // unprompted when this session is gone, and gives it back.
            return;
        }
        let reference = TurnRef {
            fence: assignment.fence,
            session: assignment.session,
            chat: assignment.chat,
            message: assignment.assistant_message,
        };
        self.know_baseline(&assignment);
        let entry = &self.to.entry;
        let policy = permission::tightened(entry.policy, assignment.policy);
        let deadlines = entry.deadlines;
        let turn = reference.fence.turn;
        let prepared = self.prepared.take();
        let unfit = self
            .link
            .as_ref()
            .and_then(|live| effects::unfit(&assignment, live));
        let is_prepared = prepared.is_some() && unfit.is_none();
        let live = self.link.as_ref();
        let astray = live.is_some_and(|live| !live.link.has_ground());
        if astray {
            tracing::warn!(session = %self.to.key, "the agent's directory was deleted: it is made again, and the agent started again");
        }
        let renew = live.is_some() && assignment.context.forgotten.is_some() || astray;
        self.turn = Some(Turn {
            assignment,
            reference,
            policy,
            checkpoint: prepared,
            diff: None,
            prompted,
            handover: None,
            prompts: BTreeMap::new(),
            words: None,
            alone: false,
            leaves_prompts: false,
            decided: 0,
            ensured: false,
            began: self.to.shared.now(),
            silent_since: None,
            limited: limits::Limited::default(),
            tasks: Vec::new(),
        });
        self.step(Input::Assign {
            turn,
            deadlines,
            prepared: is_prepared && !renew,
            renew,
        })
        .await;
        if let Some(why) = unfit {
            self.step(Input::Unfit(turn, why)).await;
        }
    }

    fn answer_agent(&self, id: &str, answer: &Answer) {
        if let Some(live) = &self.link
            && let Err(error) = live.link.answer(id, answer)
        {
            tracing::debug!(session = %self.to.key, %error, "an answer came too late");
        }
    }

    /// What it asks may stay open without its process: the answers go to the next
    /// one.
    fn may_leave_prompts(&self) -> bool {
        let answered = self.turn.as_ref().is_some_and(Turn::is_being_answered);
        self.can_leave_prompts() && !answered
    }

    /// The same, whatever is under way.
    fn can_leave_prompts(&self) -> bool {
        let link = self.link.as_ref();
        !self.to.is_one_shot() && link.is_some_and(|live| live.link.can_continue())
    }

    /// Tells the pool when its turn begins or ceases to wait for a human.
    fn tell_asks(&mut self) {
        let asks = self.machine.waits_for_human();
        if std::mem::replace(&mut self.asks, asks) != asks {
            let can_leave = asks.then(|| self.can_leave_prompts());
            self.tell_pool(|key, generation| pool::Msg::Asks(key, generation, can_leave));
        }
    }

    fn is_turn(&self, turn: TurnId) -> bool {
        self.machine.turn() == Some(turn)
    }

    fn tell_pool(&self, message: impl FnOnce(SessionKey, Generation) -> pool::Msg) {
        self.to
            .pool
            .cast(message(self.to.key.clone(), self.to.generation));
    }
}
