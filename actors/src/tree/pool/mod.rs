//! The pool supervisor: one session actor per key, started when needed, gone
//! when unused, replaced after a crash.
//!
//! It holds the only addresses of sessions. Restart intensity is counted per
//! key. After a session failed it waits for the old state's drop and for the
//! old process tree before the key may live again.

pub(crate) mod budgets;
mod circuits;
mod kinds;
mod leaving;
mod lending;
mod rests;
mod servers;
mod slots;
mod verbs;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};

use crate::event::TurnRef;
use crate::ids::{AgentName, ChatId, Generation, SessionId, SessionKey, TaskId, TurnId};
use crate::limits::Gauge;
use crate::model::Assignment;
use crate::outcome::Outcome;
use crate::ports::Footprint;
use crate::rules::evict::{Nomination, Stays};
use crate::rules::loan::Loan;
use crate::rules::pool::{self as rule, Slot};
use crate::rules::restart::History;
use crate::rules::trial::Trial;
use crate::rules::turn::Why;
use crate::tree::addr::{Addr, Depth, Task};
use crate::tree::dispatcher;
use crate::tree::handle::Refusal;
use crate::tree::session;
use crate::tree::shared::Shared;

pub(crate) use servers::Door;

/// What the pool is told.
pub(crate) enum Msg {
    /// Credits go there.
    Dispatcher(Addr<dispatcher::Msg>),
    /// Run this claimed task.
    Assign(Box<Assignment>),
    /// What is used of a claimed turn's budgets, or why nobody knows.
    Weighed(TurnId, Result<Vec<Gauge>, String>),
    /// Somebody set a budget: what runs may be bounded by it.
    BudgetSet,
    /// It is written down that this agent rests no more.
    Answers(AgentName),
    /// A session is through with its turn.
    TurnOver(SessionKey, Generation, Option<Outcome>),
    /// A session's agent crashed or did not start.
    Crashed(SessionKey, Generation, String),
    /// A session will not go.
    Stays(SessionKey, Generation, Stays),
    /// A session's actor, state and processes are gone.
    Gone(SessionKey, Generation),
    /// A session's turn waits for a human, and whether its agent may go meanwhile;
    /// none: not any more.
    Asks(SessionKey, Generation, Option<bool>),
    /// This life of the server of this definition should end, if no turn runs in it.
    RenewServer(String, u64),
    /// Credit that rested may be lent again.
    Lend,
    /// Look for sessions whose idle time is over.
    Sweep,
    /// What the process trees take.
    Weights(BTreeMap<SessionKey, Footprint>),
    /// The limits or the agents were set anew.
    Reloaded,
    /// Answers.
    Ping(RpcReplyPort<()>),
    /// End the turn of this task, if it runs here.
    Cancel(TaskId),
    /// Answer a prompt of this task.
    Answer(TaskId, session::Reply),
    /// End everything of this chat.
    CloseChat(ChatId),
    /// End everything of this workspace.
    CloseSession(SessionId),
    /// Stop an idle session.
    Evict(SessionKey, RpcReplyPort<Result<(), Refusal>>),
    /// Stop a session and forget its crashes.
    Restart(SessionKey, RpcReplyPort<Result<(), Refusal>>),
    /// Stop the agents of this chat, between turns; replies when all are gone.
    StopAgents(ChatId, RpcReplyPort<()>),
    /// The same for all chats of this workspace.
    Empty(SessionId, RpcReplyPort<()>),
    /// Begin no turn any more, and leave those that wait for a human; replies when
    /// none runs.
    Drain(RpcReplyPort<()>),
    /// Interrupts all turns and stops all sessions; replies when all are gone. What
    /// people are asked stays open.
    StopAll(RpcReplyPort<()>),
}

pub(crate) struct PoolActor;

pub(crate) struct Arguments {
    pub(crate) shared: Arc<Shared>,
    pub(crate) depth: Depth,
}

pub(crate) struct State {
    shared: Arc<Shared>,
    me: Addr<Msg>,
    depth: Depth,
    dispatcher: Option<Addr<dispatcher::Msg>>,
    live: BTreeMap<SessionKey, Live>,
    generations: BTreeMap<SessionKey, Generation>,
    /// By the key that crashes are counted under.
    circuits: BTreeMap<SessionKey, Record>,
    /// By agent.
    kinds: BTreeMap<AgentName, kinds::Kind>,
    /// Shared servers, by definition.
    servers: BTreeMap<String, servers::Shared>,
    servers_stop: bool,
    /// Which turn tries whether a rested agent answers again.
    trying: BTreeMap<AgentName, Trial>,
    /// Claimed tasks whose budgets are looked at; bounded like those that wait.
    weighing: Vec<Assignment>,
    /// Claimed tasks that wait for a slot; bounded by the dispatcher's credit.
    waiting: VecDeque<Waiting>,
    loan: Loan,
    /// Ends the rest of the loan.
    lends: Option<Task>,
    evictions: Vec<(SessionKey, RpcReplyPort<Result<(), Refusal>>)>,
    /// Who waits for the agents of a chat or workspace to be gone.
    agents_gone: Vec<(Of, RpcReplyPort<()>)>,
    /// Who waits for the last turn.
    drained: Vec<RpcReplyPort<()>>,
    draining: bool,
    stopped: Vec<RpcReplyPort<()>>,
    stopping: bool,
    /// Why sessions stayed that were asked to go, counted since the start.
    refusals: BTreeMap<Stays, u64>,
    /// Tasks that found no place, counted since the start.
    turned_away: u64,
    /// Why sessions went, counted since the start.
    evicted: BTreeMap<Nomination, u64>,
    /// The look at the process trees that is under way or waits for its time.
    scale: Option<Task>,
    tasks: Vec<Task>,
    _sweep: Task,
}

/// A session that exists.
struct Live {
    addr: Addr<session::Msg>,
    /// Ends when the actor's state is dropped; taken by the clean-up.
    join: Option<ractor::concurrency::JoinHandle<()>>,
    generation: Generation,
    session: SessionId,
    /// The tab that shows its turns.
    chat: ChatId,
    slot: Slot,
    /// The definition of the shared server it lives in, if it does.
    server: Option<String>,
    turn: Option<HeldTurn>,
    /// Its actor is gone, its clean-up is not.
    ended: bool,
    /// Why it was asked to go, while it is.
    nominated: Option<Nomination>,
    /// What it was started with; another one by now makes it leave.
    definition: u64,
    /// Most bytes of its process tree.
    memory: Option<u64>,
    /// Its last turn ended well.
    well: bool,
    processes: usize,
}

/// The turn a session holds, in case it dies with it.
struct HeldTurn {
    reference: TurnRef,
    prompted: Arc<AtomicBool>,
}

/// What outlives the sessions of a circuit.
#[derive(Default)]
struct Record {
    history: History,
    last_exit: Option<String>,
    /// People were told that it cools down.
    noticed: bool,
}

/// Whose agents are meant.
#[derive(Clone, Copy)]
enum Of {
    Chat(ChatId),
    Session(SessionId),
}

impl Of {
    fn has(self, live: &Live) -> bool {
        match self {
            Self::Chat(chat) => live.chat == chat,
            Self::Session(session) => live.session == session,
        }
    }
}

struct Waiting {
    assignment: Box<Assignment>,
    refused: Vec<rule::Refused>,
}

impl Actor for PoolActor {
    type Msg = Msg;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Msg>,
        to: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let me = Addr::new(myself, to.depth.clone());
        let (every, sweeper) = (to.shared.settings.sweep_every, me.clone());
        let sweep = Task::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                sweeper.cast(Msg::Sweep);
            }
        });
        let state = State {
            shared: to.shared,
            me,
            depth: to.depth,
            dispatcher: None,
            live: BTreeMap::new(),
            generations: BTreeMap::new(),
            circuits: BTreeMap::new(),
            kinds: BTreeMap::new(),
            servers: BTreeMap::new(),
            servers_stop: false,
            trying: BTreeMap::new(),
            weighing: Vec::new(),
            waiting: VecDeque::new(),
            loan: Loan::default(),
            lends: None,
            evictions: Vec::new(),
            agents_gone: Vec::new(),
            drained: Vec::new(),
            draining: false,
            stopped: Vec::new(),
            stopping: false,
            refusals: BTreeMap::new(),
            turned_away: 0,
            evicted: BTreeMap::new(),
            scale: None,
            tasks: Vec::new(),
            _sweep: sweep,
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
        state.depth.taken();
        match message {
            Msg::Dispatcher(dispatcher) => state.dispatcher = Some(dispatcher),
            Msg::Assign(assignment) => state.assign(assignment).await,
            Msg::Weighed(turn, gauges) => state.weighed(turn, gauges).await,
            Msg::BudgetSet => state.budget_set(),
            Msg::Answers(agent) => drop(state.trying.remove(&agent)),
            Msg::TurnOver(key, generation, outcome) => {
                state.turn_over(&key, generation, outcome).await
            }
            Msg::Crashed(key, generation, why) => state.crashed(&key, generation, why),
            Msg::Stays(key, generation, why) => state.stays(&key, generation, why).await,
            Msg::Gone(key, generation) => state.gone(&key, generation).await,
            Msg::Asks(key, generation, asks) => state.asks(&key, generation, asks),
            Msg::RenewServer(definition, life) => state.renew_server(&definition, life),
            Msg::Lend => state.lend(),
            Msg::Sweep => state.sweep(),
            Msg::Weights(weights) => state.weighed_trees(&weights),
            Msg::Reloaded => state.reloaded().await,
            Msg::Ping(reply) => drop(reply.send(())),
            Msg::Cancel(task) => state.cancel(task, Why::Asked),
            Msg::Answer(task, reply) => state.answer(task, reply),
            Msg::CloseChat(chat) => state.close(|of, _| of == chat),
            Msg::CloseSession(session) => state.close(|_, of| of == session),
            Msg::Evict(key, reply) => state.evict(key, reply),
            Msg::Restart(key, reply) => state.restart(&key, reply),
            Msg::StopAgents(chat, reply) => state.stop_agents(Of::Chat(chat), reply),
            Msg::Empty(session, reply) => state.stop_agents(Of::Session(session), reply),
            Msg::Drain(reply) => state.drain(reply),
            Msg::StopAll(reply) => state.stop_all(reply),
        }
        state.tell_servers();
        state.settle_replies();
        state.use_scale();
        state.show();
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Msg>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(cell, error) => {
                let why = error.to_string();
                if !state.server_ended(cell.get_id(), Some(&why)).await {
                    state.ended(cell.get_id(), Some(why));
                }
            }
            SupervisionEvent::ActorTerminated(cell, last_state, reason) => {
                drop(last_state);
                let killed = reason.filter(|reason| reason == "killed");
                if !state.server_ended(cell.get_id(), killed.as_deref()).await {
                    state.ended(cell.get_id(), killed);
                }
            }
            _ => {}
        }
        state.tell_servers();
        state.settle_replies();
        state.show();
        Ok(())
    }

    async fn post_stop(
        &self,
        myself: ActorRef<Msg>,
        _state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let bound = Some(ractor::concurrency::Duration::from_secs(8));
        myself.get_cell().stop_children_and_wait(None, bound).await;
        Ok(())
    }
}

impl State {
    fn credit(&self) {
        if let Some(dispatcher) = &self.dispatcher {
            dispatcher.cast(dispatcher::Msg::Credit(1));
        }
    }

    fn debit(&self) {
        if let Some(dispatcher) = &self.dispatcher {
            dispatcher.cast(dispatcher::Msg::Debit);
        }
    }

    fn settle_replies(&mut self) {
        if !self.drained.is_empty()
            && self.waiting.is_empty()
            && self.weighing.is_empty()
            && self.live.values().all(|live| live.turn.is_none())
        {
            for reply in self.drained.drain(..) {
                let _ = reply.send(());
            }
        }
        let live = &self.live;
        for (_, reply) in self
            .agents_gone
            .extract_if(.., |(of, _)| live.values().all(|live| !of.has(live)))
        {
            let _ = reply.send(());
        }
        if self.stopping && self.live.is_empty() && !std::mem::replace(&mut self.servers_stop, true)
        {
            self.stop_servers();
        }
        if self.live.is_empty() && self.servers.is_empty() {
            for reply in self.stopped.drain(..) {
                let _ = reply.send(());
            }
        }
    }

    fn held_by(&self, task: TaskId) -> Option<&Live> {
        self.live.values().find(|live| {
            live.turn
                .as_ref()
                .is_some_and(|turn| turn.reference.fence.task == task)
        })
    }
}

impl HeldTurn {
    fn reference_of(assignment: &Assignment) -> TurnRef {
        TurnRef {
            fence: assignment.fence,
            session: assignment.session,
            chat: assignment.chat,
            message: assignment.assistant_message,
        }
    }

    fn was_prompted(&self) -> bool {
        self.prompted.load(Ordering::Relaxed)
    }
}
