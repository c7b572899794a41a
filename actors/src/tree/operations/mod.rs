//! The supervisor of operations: what people do with a session's files.
//!
//! First it ends what earlier lives of the node left, and brings back the files of
//! interrupted tasks that are to be tried again by themselves, which other work in
//! their sessions would make too late: nothing is claimed before. Then it looks at what
//! other turns that died with Hearth left, which would be said to be of the next ones:
//! claims wait for that, too, but not for long.
//! Then it takes orders, each a task of its own, so many at a time. Whoever gave
//! an order may go away; the operation goes on. One that is under way is never
//! cut short by us: at a stop it is awaited, and after a crash the next life
//! finds it in the journal.

mod job;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde_json::json;

use crate::ids::{OperationId, SessionId};
use crate::operation::{Asked, Done};
use crate::ports::OperationsError;
use crate::tree::addr::{Addr, Depth, Task, report};
use crate::tree::board::Snapshot;
use crate::tree::pool;
use crate::tree::root;
use crate::tree::shared::{Shared, with_source};
use job::Job;

/// Operations at a time: each reads and writes whole worktrees.
const AT_ONCE: usize = 4;
/// Orders that may wait for that; more are refused.
const MAX_WAITING: usize = 32;
/// Longest wait for what earlier lives left before tasks are claimed. The gates
/// of what is not ended by then stay closed.
const RECOVERY_BOUND: Duration = Duration::from_secs(20);
/// Longest wait for worktrees to be looked at before tasks are claimed. Where that has
/// begun the gate is held; the next turns look at the others.
const COMPARING_BOUND: Duration = Duration::from_secs(2);
/// Between two looks for what earlier lives left, while the journal is away.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What whoever gave an order is told.
pub(crate) type Reply = RpcReplyPort<Result<Done, OperationsError>>;

/// What the supervisor of operations is told.
pub(crate) enum Msg {
    /// What earlier lives left.
    Left(Result<Vec<(OperationId, SessionId)>, OperationsError>),
    /// Look for it.
    Look,
    /// What is to be done where turns were interrupted.
    Interrupted(Result<Vec<Asked>, OperationsError>),
    /// It takes too long to end all of that.
    Late,
    /// There is a pool: orders are taken from now on.
    Pool(Addr<pool::Msg>),
    /// Carry this out.
    Run(Box<Asked>, Reply),
    /// An operation is over.
    Over(OperationId),
    /// Take no more orders; replies when none is under way.
    Drain(RpcReplyPort<()>),
}

pub(crate) struct OperationsActor;

pub(crate) struct Arguments {
    pub(crate) shared: Arc<Shared>,
    pub(crate) root: Addr<root::Msg>,
    pub(crate) depth: Depth,
}

pub(crate) struct State {
    to: Arguments,
    me: Addr<Msg>,
    pool: Option<Addr<pool::Msg>>,
    running: BTreeMap<OperationId, Running>,
    waiting: VecDeque<(Job, Option<Reply>)>,
    /// Worktrees to be looked at when all else that was left is done.
    unseen: Vec<Job>,
    recovery: Recovery,
    draining: Vec<RpcReplyPort<()>>,
    look: Option<Task>,
    late: Option<Task>,
    ended: u64,
}

struct Running {
    session: SessionId,
    _task: Task,
}

/// How far the end of what earlier lives left is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Recovery {
    Looking,
    Ending,
    Retrying,
    Comparing,
    Over,
}

impl Actor for OperationsActor {
    type Msg = Msg;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Msg>,
        to: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let me = Addr::new(myself, to.depth.clone());
        me.cast(Msg::Look);
        let late = Some(me.cast_after(RECOVERY_BOUND, Msg::Late));
        Ok(State {
            to,
            me,
            pool: None,
            running: BTreeMap::new(),
            waiting: VecDeque::new(),
            unseen: Vec::new(),
            recovery: Recovery::Looking,
            draining: Vec::new(),
            look: None,
            late,
            ended: 0,
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Msg>,
        message: Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.to.depth.taken();
        match message {
            Msg::Look => state.look(),
            Msg::Left(found) => state.left(found),
            Msg::Interrupted(found) => state.interrupted(found),
            Msg::Late => state.late(),
            Msg::Pool(pool) => state.pool = Some(pool),
            Msg::Run(asked, reply) => state.order(*asked, reply),
            Msg::Over(id) => {
                state.ended += 1;
                state.running.remove(&id);
                state.start_waiting();
            }
            Msg::Drain(reply) => state.drain(reply),
        }
        state.settle_replies();
        state.show();
        Ok(())
    }
}

impl State {
    fn look(&mut self) {
        let operations = self.to.shared.ports.operations.clone();
        let work = async move { Msg::Left(operations.left_behind().await) };
        let lost = |why: String| Msg::Left(Err(OperationsError::Unavailable(why.into())));
        self.look = Some(report(&self.me, work, lost));
    }

    fn left(&mut self, found: Result<Vec<(OperationId, SessionId)>, OperationsError>) {
        match found {
            Ok(found) => {
                if !found.is_empty() {
                    tracing::info!(
                        operations = found.len(),
                        "earlier lives left operations behind"
                    );
                }
                for (id, session) in found {
                    let job = Job::resume(self.to.shared.clone(), id, session);
                    self.waiting.push_back((job, None));
                }
                if self.recovery == Recovery::Looking {
                    self.recovery = Recovery::Ending;
                }
                self.start_waiting();
            }
            // A newer life looks for itself.
            Err(OperationsError::Fenced) => self.look = None,
            Err(error) => {
                let why = with_source(&error);
                tracing::warn!(%why, "operations of earlier lives could not be looked for, trying again");
                self.look = Some(self.me.cast_after(LOOK_AGAIN, Msg::Look));
            }
        }
    }

    /// Once a life: others are found by whoever looks now and again.
    fn look_for_interrupted(&mut self) {
        self.recovery = Recovery::Retrying;
        let operations = self.to.shared.ports.operations.clone();
        let work = async move { Msg::Interrupted(operations.interrupted().await) };
        let lost = |why: String| Msg::Interrupted(Err(OperationsError::Unavailable(why.into())));
        self.look = Some(report(&self.me, work, lost));
    }

    fn interrupted(&mut self, found: Result<Vec<Asked>, OperationsError>) {
        self.look = None;
        // The dispatcher may have started meanwhile, with it a pool to ask.
        if self.recovery != Recovery::Retrying || !self.draining.is_empty() {
            return;
        }
        match found {
            Ok(found) => {
                for asked in found {
                    tracing::info!(session = %asked.session, kind = asked.order.kind(), "a turn left work there");
                    let writes = asked.order.writes();
                    let job = Job::begin(self.to.shared.clone(), asked, None);
                    match writes {
                        true => self.waiting.push_back((job, None)),
                        false => self.unseen.push(job),
                    }
                }
            }
            Err(error) => {
                let why = with_source(&error);
                tracing::warn!(%why, "what was interrupted was not looked for");
            }
        }
        self.start_waiting();
    }

    fn late(&mut self) {
        self.late = None;
        match self.recovery {
            Recovery::Over => return,
            Recovery::Comparing => tracing::info!(
                "worktrees of interrupted turns are looked at for longer than {COMPARING_BOUND:?}: their sessions wait"
            ),
            Recovery::Looking | Recovery::Ending | Recovery::Retrying => tracing::warn!(
                "operations of earlier lives take longer than {RECOVERY_BOUND:?}: their sessions wait"
            ),
        }
        self.recovered();
    }

    fn compare(&mut self) {
        self.recovery = Recovery::Comparing;
        self.late = Some(self.me.cast_after(COMPARING_BOUND, Msg::Late));
        self.waiting
            .extend(self.unseen.drain(..).map(|job| (job, None)));
        self.start_waiting();
    }

    fn recovered(&mut self) {
        if std::mem::replace(&mut self.recovery, Recovery::Over) != Recovery::Over {
            self.late = None;
            // An agent may be warm from here on, which these could not stop.
            self.waiting.retain(|(job, _)| !job.before_agents());
            self.to.root.cast(root::Msg::Recovered);
        }
    }

    fn order(&mut self, asked: Asked, reply: Reply) {
        let refused = if !self.draining.is_empty() || self.pool.is_none() {
            Some(OperationsError::Unavailable(
                "the service is starting or stopping".into(),
            ))
        } else if self.holds(asked.session) {
            Some(OperationsError::Busy(format!(
                "another operation works on the files of session {}: wait until it is over, then repeat this",
                asked.session
            )))
        } else if self.waiting.len() >= MAX_WAITING {
            Some(OperationsError::Unavailable(
                "too many operations wait already".into(),
            ))
        } else {
            None
        };
        if let Some(refused) = refused {
            let _ = reply.send(Err(refused));
            return;
        }
        let job = Job::begin(self.to.shared.clone(), asked, self.pool.clone());
        self.waiting.push_back((job, Some(reply)));
        self.start_waiting();
    }

    fn holds(&self, session: SessionId) -> bool {
        self.running
            .values()
            .any(|running| running.session == session)
            || self.waiting.iter().any(|(job, _)| job.session() == session)
    }

    fn start_waiting(&mut self) {
        while self.running.len() < AT_ONCE
            && let Some((job, reply)) = self.waiting.pop_front()
        {
            // Who gave up was told that nothing is done.
            if reply.as_ref().is_some_and(RpcReplyPort::is_closed) {
                continue;
            }
            let (id, session) = (job.id(), job.session());
            let me = self.me.clone();
            let task = Task::spawn(async move {
                let came = job.run().await;
                // First, so that the next order finds the session free.
                me.cast(Msg::Over(id));
                if let Some(reply) = reply {
                    // Fails when nobody waits any more.
                    let _ = reply.send(came);
                }
            });
            self.running.insert(
                id,
                Running {
                    session,
                    _task: task,
                },
            );
        }
        if !self.running.is_empty() || !self.waiting.is_empty() {
            return;
        }
        match self.recovery {
            Recovery::Ending if self.draining.is_empty() => self.look_for_interrupted(),
            Recovery::Retrying if self.look.is_none() => self.compare(),
            Recovery::Comparing => self.recovered(),
            _ => {}
        }
    }

    fn drain(&mut self, reply: RpcReplyPort<()>) {
        self.draining.push(reply);
        self.look = None;
        self.unseen.clear();
        for (_, reply) in self.waiting.drain(..) {
            if let Some(reply) = reply {
                let _ = reply.send(Err(OperationsError::Unavailable(
                    "the service is stopping".into(),
                )));
            }
        }
    }

    fn settle_replies(&mut self) {
        if self.running.is_empty() {
            for reply in self.draining.drain(..) {
                let _ = reply.send(());
            }
        }
    }

    fn show(&self) {
        let state = match (self.recovery, self.running.is_empty()) {
            (Recovery::Over, true) => "idle",
            (Recovery::Over, false) => "busy",
            _ => "recovering",
        };
        self.to.shared.board.put(
            &["root", "operations"],
            Snapshot {
                kind: "operations".into(),
                name: "operations".into(),
                state: state.into(),
                mailbox: self.to.depth.get(),
                detail: json!({
                    "running": self.running.len(),
                    "waiting": self.waiting.len(),
                    "ended": self.ended,
                }),
                ..Snapshot::default()
            },
        );
    }
}
