//! The store in memory, with the same leases and fences as the real one.
//!
//! It passes the contract suite of [`super::contract_store`]. What only SQL has
//! (retention, listings, other programs' rows) is the real store's alone.

mod arenas;
mod contexts;
mod detached;
mod journal;
mod limits;
mod operations;
mod reap;
mod restore;
mod rows;
mod set_up;
mod suite;
mod transcripts;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::event::{Batch, Frame, TurnRef};
use crate::handover::{Past, Telling};
use crate::ids::{AgentName, OperationId, PromptId, SessionId, SessionKey, TaskId};
use crate::limits::Parked;
use crate::model::{Checkpoint, Diff, Fence, TurnEnd};
use crate::operation::{Abandoned, Asked, Begun, LeftBehind, Owner};
use crate::outcome::TaskState;
use crate::ports::{
    Claim, Journal, JournalError, LinkNote, NodeLease, OpenTurn, Operations, OperationsError,
    QueueError, Reconciled, Source, TaskQueue,
};
use crate::prompt::{NewPrompt, Notice, Settled};
use crate::review::Plan;
use crate::rules::routing::Origin;

pub use arenas::{ArenaRow, ContestantRow};
pub use contexts::ContextRow;
pub use operations::{ChangeRow, OperationRow};
pub use rows::{MessageRow, PromptRow, Rows, TaskRow, TurnRow};
pub use transcripts::{MemoryTranscripts, TranscriptFaults};

/// The lease's length, as in the real store.
const LEASE: Duration = Duration::from_secs(30);

/// One process on the store. Cheap to clone; all clones are one process.
#[derive(Clone, Default)]
pub struct MemoryStore {
    rows: Arc<Mutex<Rows>>,
    faults: Arc<Mutex<Faults>>,
    /// The node's life as this process knows it.
    life: Arc<AtomicI64>,
}

/// What goes wrong on demand.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Every call fails as unavailable.
    pub down: bool,
    /// Every call takes so long.
    pub latency: Duration,
    /// Each call takes a part of that, as these dice fall: then calls overtake each
    /// other.
    pub dice: Option<fastrand::Rng>,
    /// So many of the next appends panic.
    pub append_panics: u32,
    /// What breaks of the coming calls about operations: for each whether, and
    /// if so whether its answer is lost; else it panics behind its work.
    pub operations: std::collections::VecDeque<Option<bool>>,
}

impl MemoryStore {
    /// Answers a prompt whose turn is over while its task waits for it, as the
    /// answer route does. False when it is not one.
    pub fn answer_detached(&self, prompt: PromptId, settled: &Settled) -> bool {
        self.with(|rows| !rows.answer_detached(prompt, settled).is_empty())
    }

    /// Inserts a pending task, as any route or plain SQL would.
    pub fn insert(&self, session: SessionId, key: SessionKey, input: &str) -> TaskId {
        self.with(|rows| rows.insert(session, key, input))
    }

    /// The same, for a task that is no turn of its chat.
    pub fn insert_from(
        &self,
        origin: Origin,
        session: SessionId,
        key: SessionKey,
        input: &str,
    ) -> TaskId {
        self.with(|rows| {
            let task = rows.insert(session, key, input);
            if let Some(row) = rows.tasks.get_mut(&task) {
                row.origin = origin;
            }
            task
        })
    }

    /// Marks a task as to be ended, as the cancel route does; one that waits
    /// ends at once.
    pub fn request_cancel(&self, task: TaskId) {
        self.with(|rows| rows.request_cancel(task));
    }

    /// Ends all that waits in what was closed, and marks what runs.
    pub fn close(&self, closed: impl Fn(&TaskRow) -> bool) {
        self.with(|rows| {
            let tasks = rows.tasks.iter().filter(|(_, row)| closed(row));
            for task in tasks.map(|(id, _)| *id).collect::<Vec<_>>() {
                rows.request_cancel(task);
            }
        });
    }

    /// Looks at, or changes, what is stored.
    pub fn with<R>(&self, look: impl FnOnce(&mut Rows) -> R) -> R {
        look(&mut self.rows.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes things go wrong.
    pub fn break_it(&self, how: impl FnOnce(&mut Faults)) {
        how(&mut self.faults.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The call about operations that comes after so many others loses its answer,
    /// or panics behind its work.
    pub fn break_operations_after(&self, calls: usize, lost: bool) {
        self.break_it(|faults| {
            faults.operations = std::iter::repeat_n(None, calls)
                .chain([Some(lost)])
                .collect();
        });
    }

    /// Somebody else takes the node's turns over.
    pub fn steal_lease(&self) {
        self.with(|rows| {
            rows.new_life(None);
        });
    }

    /// A second process on the same rows, without a life of its own yet.
    #[must_use]
    pub fn second_process(&self) -> Self {
        Self {
            rows: self.rows.clone(),
            faults: self.faults.clone(),
            life: Arc::default(),
        }
    }

    async fn reach(&self) -> Result<(), Source> {
        let (latency, down) = {
            let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
            let part = faults.dice.as_mut().map_or(1.0, fastrand::Rng::f64);
            (faults.latency.mul_f64(part), faults.down)
        };
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        if down {
            return Err("the fake store is down".into());
        }
        Ok(())
    }

    /// Does it only while this process holds the lease.
    fn leased<R>(&self, act: impl FnOnce(&mut Rows) -> R) -> Result<R, QueueError> {
        let life = self.life.load(Ordering::Relaxed);
        self.with(|rows| {
            let until = rows.lease_until.filter(|_| rows.incarnation == life);
            if until.is_some_and(|until| until > Instant::now()) {
                Ok(act(rows))
            } else {
                Err(QueueError::LeaseLost)
            }
        })
    }

    fn panic_if_told(&self) {
        let told = {
            let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
            let told = faults.append_panics > 0;
            faults.append_panics = faults.append_panics.saturating_sub(1);
            told
        };
        assert!(!told, "the fake journal panics as told");
    }
}

#[async_trait]
impl TaskQueue for MemoryStore {
    async fn claim(&self, credit: usize, agents: &[AgentName]) -> Result<Claim, QueueError> {
        self.reach().await.map_err(QueueError::Unavailable)?;
        self.leased(|rows| rows.claim(Instant::now(), credit, agents))
    }

    async fn release(
        &self,
        fence: &Fence,
        parked: Option<&Parked>,
    ) -> Result<Vec<Frame>, QueueError> {
        self.reach().await.map_err(QueueError::Unavailable)?;
        Ok(self.with(|rows| rows.release(fence, parked)))
    }

    async fn waits(&self, key: &SessionKey) -> Result<bool, QueueError> {
        self.reach().await.map_err(QueueError::Unavailable)?;
        let now = Instant::now();
        Ok(self.with(|rows| {
            rows.tasks.values().any(|row| {
                let is_parked = row.not_before.is_some_and(|due| due > now);
                row.key == *key && row.state == TaskState::Pending && !is_parked
            })
        }))
    }
}

#[async_trait]
impl NodeLease for MemoryStore {
    async fn acquire(&self) -> Result<Reconciled, QueueError> {
        self.reach().await.map_err(QueueError::Unavailable)?;
        let found = self.with(|rows| rows.new_life(Some(Instant::now() + LEASE)));
        self.life.store(found.incarnation, Ordering::Relaxed);
        Ok(found)
    }

    async fn renew(&self) -> Result<(), QueueError> {
        self.reach().await.map_err(QueueError::Unavailable)?;
        self.leased(|rows| rows.lease_until = Some(Instant::now() + LEASE))
    }

    async fn release(&self) -> Result<(), QueueError> {
        // A lease that is over already needs no end.
        let _ = self.leased(|rows| rows.lease_until = None);
        Ok(())
    }
}

#[async_trait]
impl Journal for MemoryStore {
    async fn open(&self, turn: &TurnRef, open: &OpenTurn) -> Result<Vec<Frame>, JournalError> {
        self.reach().await.map_err(JournalError::Unavailable)?;
        self.with(|rows| rows.open(turn, open))
    }

    async fn past(&self, turn: &TurnRef, whole: bool) -> Result<Past, JournalError> {
        self.reach().await.map_err(JournalError::Unavailable)?;
        Ok(self.with(|rows| rows.past(turn, whole)))
    }

    async fn tell(&self, turn: &TurnRef, telling: &Telling) -> Result<(), JournalError> {
        self.reach().await.map_err(JournalError::Unavailable)?;
        self.with(|rows| rows.tell(turn, telling))
    }

    async fn recheckpoint(
        &self,
        turn: &TurnRef,
        checkpoint: &Checkpoint,
    ) -> Result<(), JournalError> {
        self.reach().await.map_err(JournalError::Unavailable)?;
        self.with(|rows| rows.recheckpoint(turn, checkpoint))
    }

    async fn append(&self, turn: &TurnRef, batch: &Batch) -> Result<Vec<Frame>, JournalError> {
        self.reach().await.map_err(JournalError::Unavailable)?;
        self.panic_if_told();
        self.with(|rows| rows.append(turn, batch))
    }

    async fn finish(&self, turn: &TurnRef, end: &TurnEnd) -> Result<Vec<Frame>, JournalError> {
        self.reach().await.map_err(JournalError::Unavailable)?;
        self.with(|rows| rows.finish(turn, end))
    }

    async fn ask(&self, turn: &TurnRef, prompt: &NewPrompt) -> Result<Vec<Frame>, JournalError> {
        self.reach().await.map_err(JournalError::Unavailable)?;
        self.with(|rows| rows.ask(turn, prompt))
    }

    async fn settle(
        &self,
        turn: &TurnRef,
        prompt: PromptId,
        settled: &Settled,
    ) -> Result<Vec<Frame>, JournalError> {
        self.reach().await.map_err(JournalError::Unavailable)?;
        self.with(|rows| rows.settle(turn, prompt, settled))
    }

    async fn withdraw(&self, turn: &TurnRef, reason: &str) -> Result<Vec<Frame>, JournalError> {
        self.reach().await.map_err(JournalError::Unavailable)?;
        self.with(|rows| rows.withdraw(turn, reason))
    }

    async fn decided(
        &self,
        turn: &TurnRef,
        prompt: &NewPrompt,
        settled: &Settled,
    ) -> Result<Vec<Frame>, JournalError> {
        self.reach().await.map_err(JournalError::Unavailable)?;
        self.with(|rows| rows.decided(turn, prompt, settled))
    }

    async fn detach(
        &self,
        turn: &TurnRef,
        _why: &str,
        unheard: &[PromptId],
    ) -> Result<Vec<Frame>, JournalError> {
        self.reach().await.map_err(JournalError::Unavailable)?;
        self.with(|rows| rows.detach(turn, unheard))
    }

    async fn notice(&self, notice: &Notice) -> Result<(), JournalError> {
        self.reach().await.map_err(JournalError::Unavailable)?;
        self.with(|rows| match notice {
            Notice::CircuitOpen { key, chat, .. } => rows.open_circuits.insert(key.clone(), *chat),
            Notice::CircuitClosed { key } => rows.open_circuits.remove(key),
            Notice::AgentRests { agent, .. } => {
                rows.resting_agents.insert(agent.clone());
                None
            }
            Notice::AgentAnswers { agent } => {
                rows.resting_agents.remove(agent);
                None
            }
            Notice::Operation { what, .. } => {
                rows.told.push(what.clone());
                None
            }
        });
        Ok(())
    }

    async fn note_link(&self, note: &LinkNote) -> Result<(), JournalError> {
        self.reach().await.map_err(JournalError::Unavailable)?;
        self.with(|rows| {
            if let Some(facts) = &note.facts {
                rows.note_context(&note.key, facts);
            }
        });
        Ok(())
    }
}

#[async_trait]
impl Operations for MemoryStore {
    async fn begin(&self, asked: &Asked) -> Result<Begun, OperationsError> {
        self.operate(|rows| rows.begin(asked)).await
    }

    async fn intend(&self, owner: &Owner, plan: &Plan) -> Result<(), OperationsError> {
        self.operate(|rows| rows.intend(owner, plan)).await
    }

    async fn complete(
        &self,
        owner: &Owner,
        plan: &Plan,
        diff: &Diff,
    ) -> Result<Vec<Frame>, OperationsError> {
        self.operate(|rows| rows.complete(owner, plan, diff)).await
    }

    async fn abandon(&self, owner: &Owner, why: &Abandoned) -> Result<(), OperationsError> {
        self.operate(|rows| rows.abandon(owner, why)).await
    }

    async fn settled(&self, id: OperationId) -> Result<(), OperationsError> {
        self.operate(|rows| {
            rows.settled(id);
            Ok(())
        })
        .await
    }

    async fn left_behind(&self) -> Result<Vec<(OperationId, SessionId)>, OperationsError> {
        self.operate(|rows| Ok(rows.left_behind())).await
    }

    async fn interrupted(&self) -> Result<Vec<Asked>, OperationsError> {
        self.operate(|rows| Ok(rows.interrupted())).await
    }

    async fn take_over(&self, id: OperationId) -> Result<Option<LeftBehind>, OperationsError> {
        self.operate(|rows| Ok(rows.take_over(id))).await
    }
}

impl MemoryStore {
    async fn operate<R>(
        &self,
        act: impl FnOnce(&mut Rows) -> Result<R, OperationsError>,
    ) -> Result<R, OperationsError> {
        self.reach().await.map_err(OperationsError::Unavailable)?;
        let done = self.leased(act).map_err(|_| OperationsError::Fenced)?;
        let fault = {
            let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
            faults.operations.pop_front().flatten()
        };
        match fault {
            None => done,
            Some(true) => Err(OperationsError::Unavailable("the answer was lost".into())),
            Some(false) => panic!("the fake journal of operations panics as told"),
        }
    }
}
