//! The root supervisor: lease, then operations, then pool, then dispatcher, arenas
//! and reaper (rest-for-one).
//!
//! Nothing is claimed before the lease is won and what the last life left
//! behind is settled, turns and operations. When the pool dies its sessions die with it; a new life of
//! the node then settles their turns by the same rule as a restart would. The
//! root's own intensity is OTP's: too many failures and the service exits, for
//! the init system to restart it.

use std::sync::Arc;
use std::time::Duration;

use ractor::{
    Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent,
};
use tokio::sync::watch;

use crate::operation::Asked;
use crate::ports::{Fact, OperationsError, ReapError, Reconciled};
use crate::rules::restart::{History, Intensity, Rest};
use crate::tree::addr::{Addr, Depth, Task};
use crate::tree::arenas::{self, ArenasActor};
use crate::tree::board::Snapshot;
use crate::tree::dispatcher::{self, DispatcherActor};
use crate::tree::lease::{self, LeaseKeeper};
use crate::tree::operations::{self, OperationsActor};
use crate::tree::pool::{self, PoolActor};
use crate::tree::reaper::{self, ReaperActor};
use crate::tree::shared::Shared;

/// Longest wait for all sessions to stop: the interrupt's 6 s, then the stop
/// ladder of those that ignore it.
const STOP_BOUND: Duration = Duration::from_secs(15);
/// Before the end of a lost lease nobody else may take over: 22 s of trust leave 8.
const HURRY_BOUND: Duration = Duration::from_secs(7);

/// What the root is told.
pub(crate) enum Msg {
    /// A new life of the node begins.
    LeaseWon(Box<Reconciled>),
    /// What earlier lives left of operations is ended.
    Recovered,
    /// It is over.
    LeaseLost,
    /// The workers of the last life are gone: begin a new one.
    Cleared,
    /// For the dispatcher.
    Wake,
    /// For the keeper of arenas.
    LookAtArenas,
    /// For the reaper; true: only look.
    Reap(bool, reaper::Reply),
    /// For the pool, if there is one; else it is answered by being dropped.
    Pool(pool::Msg),
    /// For the operations, if they are there.
    Operate(Box<Asked>, operations::Reply),
    /// The limits or the agents were set anew.
    Reloaded,
    /// Answers when it and the pool, if there is one, do.
    Ping(RpcReplyPort<()>),
    /// Turns have no grace any more.
    Hurry,
    /// Stop claiming, let turns finish so long, then stop everything.
    Shutdown(Duration, RpcReplyPort<()>),
    /// Everything is stopped.
    Stopped,
}

/// What the service may wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// The lease is not won yet, or lost.
    Starting,
    /// Tasks are being claimed.
    Ready,
    /// It stopped as asked.
    Stopped,
    /// It gave up; exit with a failure.
    Failed(String),
}

pub(crate) struct Root;

pub(crate) struct Arguments {
    pub(crate) shared: Arc<Shared>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) depth: Depth,
}

pub(crate) struct State {
    to: Arguments,
    me: Addr<Msg>,
    lease: Option<Addr<lease::Msg>>,
    operations: Option<Operations>,
    pool: Option<(Addr<pool::Msg>, ractor::concurrency::JoinHandle<()>)>,
    /// The pool that is being stopped: its turns can be answered and cancelled still.
    last_pool: Option<Addr<pool::Msg>>,
    dispatcher: Option<(Addr<dispatcher::Msg>, ractor::concurrency::JoinHandle<()>)>,
    arenas: Option<(Addr<arenas::Msg>, ractor::concurrency::JoinHandle<()>)>,
    reaper: Option<Reaper>,
    failures: History,
    /// Clearing or shutting down.
    task: Option<Task>,
    clearing: bool,
    /// How long turns may go on after a stop was asked for.
    grace: Duration,
    shutdown: Vec<RpcReplyPort<()>>,
    hurry: watch::Sender<bool>,
}

/// 3 failures of root's children in 60 s; then it gives up instead of resting.
const INTENSITY: Intensity = Intensity {
    crashes: 3,
    period: Duration::from_secs(60),
    first: Duration::ZERO,
    longest: Duration::ZERO,
    cool_down: Duration::ZERO,
};

impl Actor for Root {
    type Msg = Msg;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Msg>,
        to: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let me = Addr::new(myself.clone(), to.depth.clone());
        let mut state = State {
            to,
            me,
            lease: None,
            operations: None,
            pool: None,
            last_pool: None,
            dispatcher: None,
            arenas: None,
            reaper: None,
            failures: History::default(),
            task: None,
            clearing: false,
            grace: Duration::ZERO,
            shutdown: Vec::new(),
            hurry: watch::Sender::new(false),
        };
        state.start_lease().await?;
        state.show();
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Msg>,
        message: Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.to.depth.taken();
        match message {
            Msg::LeaseWon(found) => state.start_operations(*found).await?,
            Msg::Recovered => state.start_workers().await?,
            Msg::LeaseLost => state.clear(),
            Msg::Cleared => state.cleared().await?,
            Msg::Wake => {
                if let Some((dispatcher, _)) = &state.dispatcher {
                    dispatcher.cast(dispatcher::Msg::Wake);
                }
            }
            Msg::LookAtArenas => {
                if let Some((arenas, _)) = &state.arenas {
                    arenas.cast(arenas::Msg::Look);
                }
            }
            Msg::Reap(dry_run, reply) => match &state.reaper {
                Some((reaper, _)) => {
                    reaper.cast(reaper::Msg::Reap(dry_run, reply));
                }
                None => {
                    let away = "the service is starting or stopping";
                    let _ = reply.send(Err(ReapError::Unavailable(away.into())));
                }
            },
            Msg::Pool(message) => {
                let pool = state.pool.as_ref().map(|(pool, _)| pool);
                if let Some(pool) = pool.or(state.last_pool.as_ref()) {
                    pool.cast(message);
                }
            }
            Msg::Operate(asked, reply) => match &state.operations {
                Some((operations, _)) => {
                    operations.cast(operations::Msg::Run(asked, reply));
                }
                None => {
                    let away = "the service is starting or stopping";
                    let _ = reply.send(Err(OperationsError::Unavailable(away.into())));
                }
            },
            Msg::Reloaded => {
                if let Some((dispatcher, _)) = &state.dispatcher {
                    dispatcher.cast(dispatcher::Msg::Resize);
                }
                if let Some((pool, _)) = &state.pool {
                    pool.cast(pool::Msg::Reloaded);
                }
            }
            Msg::Ping(reply) => match &state.pool {
                Some((pool, _)) => {
                    pool.cast(pool::Msg::Ping(reply));
                }
                None => {
                    let _ = reply.send(());
                }
            },
            Msg::Hurry => {
                state.hurry.send_replace(true);
            }
            Msg::Shutdown(grace, reply) => state.shut_down(grace, reply),
            Msg::Stopped => {
                state.say(Status::Stopped);
                for reply in state.shutdown.drain(..) {
                    let _ = reply.send(());
                }
                myself.stop(Some("shut down".into()));
            }
        }
        state.show();
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Msg>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let (child, why) = match event {
            SupervisionEvent::ActorFailed(cell, error) => (cell.get_id(), error.to_string()),
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                (cell.get_id(), reason.unwrap_or_else(|| "stopped".into()))
            }
            _ => return Ok(()),
        };
        let Some(name) = state.name_of(child) else {
            return Ok(());
        };
        if name == "lease" {
            state.lease = None;
        }
        if state.clearing || !state.shutdown.is_empty() {
            return Ok(());
        }
        tracing::error!(child = name, %why, "a supervisor's child failed");
        let now = state.to.shared.now();
        if let Rest::CoolDown(_) = state.failures.crashed(now, &INTENSITY, 0.0) {
            let why = format!("{name} failed too often: {why}");
            state.say(Status::Failed(why.clone()));
            myself.stop(Some(why));
            return Ok(());
        }
        state.clear();
        state.show();
        Ok(())
    }

    async fn post_stop(
        &self,
        myself: ActorRef<Msg>,
        _state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        myself
            .get_cell()
            .stop_children_and_wait(None, Some(STOP_BOUND))
            .await;
        Ok(())
    }
}

impl State {
    async fn start_lease(&mut self) -> Result<(), ActorProcessingErr> {
        let depth = Depth::default();
        let arguments = lease::Arguments {
            shared: self.to.shared.clone(),
            root: self.me.clone(),
            depth: depth.clone(),
        };
        let (actor, _) = Actor::spawn_linked(None, LeaseKeeper, arguments, self.cell()).await?;
        self.lease = Some(Addr::new(actor, depth));
        Ok(())
    }

    async fn start_operations(&mut self, found: Reconciled) -> Result<(), ActorProcessingErr> {
        if self.operations.is_some() || self.clearing || !self.shutdown.is_empty() {
            return Ok(());
        }
        tracing::info!(
            incarnation = found.incarnation,
            requeued = found.requeued,
            interrupted = found.interrupted,
            detached = found.detached,
            "the lease is won"
        );
        let shared = self.to.shared.clone();
        shared.note(Fact::Reconciled {
            requeued: found.requeued,
            interrupted: found.interrupted,
        });
        shared.hub.publish(found.frames);
        let depth = Depth::default();
        let arguments = operations::Arguments {
            shared,
            root: self.me.clone(),
            depth: depth.clone(),
        };
        let (actor, join) =
            Actor::spawn_linked(None, OperationsActor, arguments, self.cell()).await?;
        self.operations = Some((Addr::new(actor, depth), join));
        Ok(())
    }

    async fn start_workers(&mut self) -> Result<(), ActorProcessingErr> {
        let ready = self.operations.is_some() && self.pool.is_none();
        if !ready || self.clearing || !self.shutdown.is_empty() {
            return Ok(());
        }
        let shared = self.to.shared.clone();
        let depth = Depth::default();
        let arguments = pool::Arguments {
            shared: shared.clone(),
            depth: depth.clone(),
        };
        let (actor, join) = Actor::spawn_linked(None, PoolActor, arguments, self.cell()).await?;
        let pool = Addr::new(actor, depth);
        let lease = self.lease.clone();
        let depth = Depth::default();
        let arguments = dispatcher::Arguments {
            shared: shared.clone(),
            pool: pool.clone(),
            depth: depth.clone(),
            lease_doubted: Arc::new(move || {
                if let Some(lease) = &lease {
                    lease.cast(lease::Msg::Doubt);
                }
            }),
        };
        let (actor, claims) =
            Actor::spawn_linked(None, DispatcherActor, arguments, self.cell()).await?;
        if let Some((operations, _)) = &self.operations {
            operations.cast(operations::Msg::Pool(pool.clone()));
            let depth = Depth::default();
            let arguments = reaper::Arguments {
                shared: shared.clone(),
                operations: operations.clone(),
                depth: depth.clone(),
            };
            let (actor, looks) =
                Actor::spawn_linked(None, ReaperActor, arguments, self.cell()).await?;
            self.reaper = Some((Addr::new(actor, depth), looks));
        }
        self.dispatcher = Some((Addr::new(actor, depth), claims));
        let depth = Depth::default();
        let arguments = arenas::Arguments {
            shared,
            pool: pool.clone(),
            depth: depth.clone(),
        };
        let (keeper, looks) =
            Actor::spawn_linked(None, ArenasActor, arguments, self.cell()).await?;
        self.arenas = Some((Addr::new(keeper, depth), looks));
        self.pool = Some((pool, join));
        self.say(Status::Ready);
        Ok(())
    }

    /// Stops dispatcher, operations and pool, then begins a new life of the node.
    fn clear(&mut self) {
        if self.clearing || !self.shutdown.is_empty() {
            return;
        }
        self.clearing = true;
        self.say(Status::Starting);
        let (dispatcher, pool) = (self.dispatcher.take(), self.pool.take());
        let arenas = self.arenas.take();
        let reaper = self.reaper.take();
        let operations = self.operations.take();
        let me = self.me.clone();
        self.task = Some(Task::spawn(async move {
            stop_at_once(reaper).await;
            stop_at_once(arenas).await;
            if let Some((dispatcher, join)) = dispatcher {
                dispatcher.actor().stop(None);
                let _ = join.await;
            }
            // Files that are being written now are left to the next life.
            let drained = drain(&operations, HURRY_BOUND);
            let stopped = async {
                if let Some((pool, _)) = &pool {
                    let _ = pool.call(pool::Msg::StopAll, HURRY_BOUND).await;
                }
            };
            tokio::join!(drained, stopped);
            if let Some((operations, join)) = operations {
                operations.actor().stop(None);
                let _ = join.await;
            }
            if let Some((pool, join)) = pool {
                pool.actor().stop(None);
                let _ = join.await;
            }
            me.cast(Msg::Cleared);
        }));
    }

    async fn cleared(&mut self) -> Result<(), ActorProcessingErr> {
        self.clearing = false;
        self.task = None;
        self.to.shared.board.remove(&["root", "dispatcher"]);
        self.to.shared.board.remove(&["root", "pool"]);
        self.to.shared.board.remove(&["root", "arenas"]);
        self.to.shared.board.remove(&["root", "reaper"]);
        self.to.shared.board.remove(&["root", "operations"]);
        if !self.shutdown.is_empty() {
            self.stop_workers();
        } else if let Some(lease) = &self.lease {
            lease.cast(lease::Msg::Acquire);
        } else {
            self.start_lease().await?;
        }
        Ok(())
    }

    fn shut_down(&mut self, grace: Duration, reply: RpcReplyPort<()>) {
        self.shutdown.push(reply);
        if self.shutdown.len() == 1 {
            self.grace = grace;
            // What is being cleared is awaited first.
            if !self.clearing {
                self.stop_workers();
            }
        }
    }

    fn stop_workers(&mut self) {
        let grace = self.grace;
        let (dispatcher, pool) = (self.dispatcher.take(), self.pool.take());
        self.last_pool = pool.as_ref().map(|(pool, _)| pool.clone());
        let arenas = self.arenas.take();
        let reaper = self.reaper.take();
        let operations = self.operations.take();
        let (me, lease) = (self.me.clone(), self.to.shared.ports.lease.clone());
        let hurry = self.hurry.clone();
        tracing::info!(
            ?grace,
            "nothing is claimed any more; turns that run have their grace"
        );
        self.task = Some(Task::spawn(async move {
            if let Some((dispatcher, _)) = &dispatcher {
                dispatcher.cast(dispatcher::Msg::Pause);
            }
            stop_at_once(reaper).await;
            stop_at_once(arenas).await;
            // Operations end by themselves: their grace is never too short for
            // one that a person waits for.
            let drained = async {
                let whole = drain(&operations, grace.max(STOP_BOUND));
                if unless_hurried(&hurry, whole).await.is_none() {
                    drain(&operations, STOP_BOUND).await;
                }
            };
            let stopped = async {
                if let Some((pool, _)) = &pool {
                    let turns = pool.call(pool::Msg::Drain, grace);
                    let ended = unless_hurried(&hurry, turns).await.flatten().is_some();
                    if !ended {
                        tracing::info!("the grace is over: turns that run are interrupted");
                    }
                    let _ = pool.call(pool::Msg::StopAll, STOP_BOUND).await;
                }
            };
            tokio::join!(drained, stopped);
            if let Some((operations, join)) = operations {
                operations.actor().stop(None);
                let _ = join.await;
            }
            if let Some((pool, join)) = pool {
                pool.actor().stop(None);
                let _ = join.await;
            }
            if let Some((dispatcher, join)) = dispatcher {
                dispatcher.actor().stop(None);
                let _ = join.await;
            }
            if let Ok(Err(error)) =
                tokio::time::timeout(Duration::from_secs(2), lease.release()).await
            {
                tracing::debug!(%error, "the lease was not released, it will run out");
            }
            me.cast(Msg::Stopped);
        }));
    }

    fn name_of(&self, child: ActorId) -> Option<&'static str> {
        let is = |id: Option<ActorId>| id == Some(child);
        if is(self.lease.as_ref().map(|addr| addr.actor().get_id())) {
            Some("lease")
        } else if is(self
            .operations
            .as_ref()
            .map(|(addr, _)| addr.actor().get_id()))
        {
            Some("operations")
        } else if is(self.pool.as_ref().map(|(addr, _)| addr.actor().get_id())) {
            Some("pool")
        } else if is(self
            .dispatcher
            .as_ref()
            .map(|(addr, _)| addr.actor().get_id()))
        {
            Some("dispatcher")
        } else if is(self.arenas.as_ref().map(|(addr, _)| addr.actor().get_id())) {
            Some("arenas")
        } else if is(self.reaper.as_ref().map(|(addr, _)| addr.actor().get_id())) {
            Some("reaper")
        } else {
            None
        }
    }

    fn cell(&self) -> ActorCell {
        self.me.actor().get_cell()
    }

    fn say(&self, status: Status) {
        self.to.status.send_replace(status);
    }

    fn show(&self) {
        let state = match (&*self.to.status.borrow(), self.shutdown.is_empty()) {
            (_, false) => "stopping",
            (Status::Ready, _) => "ready",
            _ => "starting",
        };
        self.to.shared.board.put(
            &["root"],
            Snapshot {
                kind: "root".into(),
                name: "hearth".into(),
                state: state.into(),
                restarts: self.failures.total(),
                mailbox: self.to.depth.get(),
                ..Snapshot::default()
            },
        );
    }
}

/// What it was doing is dropped, and done again by the next life.
async fn stop_at_once<M: ractor::Message>(
    actor: Option<(Addr<M>, ractor::concurrency::JoinHandle<()>)>,
) {
    if let Some((actor, join)) = actor {
        actor.actor().stop(None);
        let _ = join.await;
    }
}

type Reaper = (Addr<reaper::Msg>, ractor::concurrency::JoinHandle<()>);

/// None when somebody was in a hurry first.
async fn unless_hurried<T>(
    hurry: &watch::Sender<bool>,
    work: impl Future<Output = T>,
) -> Option<T> {
    let mut hurry = hurry.subscribe();
    tokio::select! {
        biased;
        done = work => Some(done),
        // Its sender lives: the root awaits its own end.
        _ = hurry.wait_for(|hurry| *hurry) => None,
    }
}

type Operations = (Addr<operations::Msg>, ractor::concurrency::JoinHandle<()>);

/// Waits until no operation is under way, at most so long.
async fn drain(operations: &Option<Operations>, bound: Duration) {
    if let Some((operations, _)) = operations {
        let _ = operations.call(operations::Msg::Drain, bound).await;
    }
}
