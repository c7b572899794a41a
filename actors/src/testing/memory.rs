//! The store in memory, with the same leases and fences as the real one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::DateTime;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::event::{Batch, Frame, FrameDraft, FrameKind, PartWrite, TurnRef};
use crate::ids::{
    AgentName, ChatId, MessageId, NodeId, ProjectId, SessionId, SessionKey, TaskId, TurnId,
};
use crate::model::{Assignment, Fence, Resume, TurnEnd, WorktreeSpec};
use crate::outcome::{Outcome, TaskState};
use crate::ports::{
    Claim, Journal, JournalError, LinkNote, NodeLease, OpenTurn, QueueError, Reconciled, TaskQueue,
};

/// The lease's length, as in the real store.
const LEASE: Duration = Duration::from_secs(30);

/// A task as the store knows it.
#[derive(Clone, Debug)]
pub struct TaskRow {
    /// Position in the queue.
    pub seq: i64,
    /// Who runs it, in which chat.
    pub key: SessionKey,
    /// In which workspace.
    pub session: SessionId,
    /// The prompt.
    pub input: String,
    /// Its state.
    pub state: TaskState,
    /// Not to be claimed before.
    pub not_before: Option<Instant>,
    /// Attempts so far.
    pub attempts: i32,
    /// Outcomes written; more than one is a bug.
    pub outcomes: Vec<Outcome>,
}

/// An attempt as the store knows it.
#[derive(Clone, Debug)]
pub struct TurnRow {
    /// Proof of ownership that writers must show.
    pub fence: Fence,
    /// Whose stream.
    pub session: SessionId,
    /// `prompted_at` is set.
    pub prompted: bool,
    /// `ended_at` is set.
    pub ended: bool,
}

/// Everything that is stored.
#[derive(Default)]
pub struct Rows {
    /// By id.
    pub tasks: BTreeMap<TaskId, TaskRow>,
    /// By id.
    pub turns: BTreeMap<TurnId, TurnRow>,
    /// By session, in order of seq.
    pub frames: BTreeMap<SessionId, Vec<Frame>>,
    /// By message, by sequence.
    pub parts: BTreeMap<MessageId, BTreeMap<i32, PartWrite>>,
    /// The agents' own sessions.
    pub links: BTreeMap<SessionKey, Resume>,
    /// The node's life.
    pub incarnation: i64,
    /// When its lease ends.
    pub lease_until: Option<Instant>,
    last_seq: i64,
}

/// The store. Cheap to clone; all clones are one store.
#[derive(Clone, Default)]
pub struct MemoryStore {
    rows: Arc<Mutex<Rows>>,
    faults: Arc<Mutex<Faults>>,
}

/// What goes wrong on demand.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Every call fails as unavailable.
    pub down: bool,
    /// Every call takes so long.
    pub latency: Duration,
    /// So many of the next appends panic.
    pub append_panics: u32,
}

impl MemoryStore {
    /// Inserts a pending task, as any route or plain SQL would.
    pub fn insert(&self, session: SessionId, key: SessionKey, input: &str) -> TaskId {
        let id = TaskId::new();
        self.with(|rows| {
            rows.last_seq += 1;
            let row = TaskRow {
                seq: rows.last_seq,
                key,
                session,
                input: input.to_owned(),
                state: TaskState::Pending,
                not_before: None,
                attempts: 0,
                outcomes: Vec::new(),
            };
            rows.tasks.insert(id, row);
        });
        id
    }

    /// Looks at, or changes, what is stored.
    pub fn with<R>(&self, look: impl FnOnce(&mut Rows) -> R) -> R {
        look(&mut self.rows.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes things go wrong.
    pub fn break_it(&self, how: impl FnOnce(&mut Faults)) {
        how(&mut self.faults.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Somebody else takes the node's turns over.
    pub fn steal_lease(&self) {
        self.with(|rows| {
            rows.incarnation += 1;
            rows.lease_until = None;
            settle(rows);
        });
    }

    async fn reach(&self) -> Result<(), crate::ports::Source> {
        let faults = self
            .faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        tokio::time::sleep(faults.latency).await;
        if faults.down {
            return Err("the fake store is down".into());
        }
        Ok(())
    }
}

#[async_trait]
impl TaskQueue for MemoryStore {
    async fn claim(&self, credit: usize, agents: &[AgentName]) -> Result<Claim, QueueError> {
        self.reach().await.map_err(QueueError::Unavailable)?;
        self.with(|rows| {
            let now = Instant::now();
            if rows.lease_until.is_none_or(|until| until <= now) {
                return Err(QueueError::LeaseLost);
            }
            let mut claim = Claim::default();
            for id in heads(rows) {
                let row = &rows.tasks[&id];
                if !agents.contains(&row.key.agent) {
                    continue;
                }
                match row.not_before {
                    Some(due) if due > now => {
                        let wait = due - now;
                        claim.next_due = Some(claim.next_due.map_or(wait, |next| next.min(wait)));
                    }
                    _ if claim.assignments.len() == credit => claim.more = true,
                    _ => claim.assignments.push(lease(rows, id)),
                }
            }
            Ok(claim)
        })
    }

    async fn release(&self, fence: &Fence, after: Duration) -> Result<(), QueueError> {
        self.reach().await.map_err(QueueError::Unavailable)?;
        self.with(|rows| {
            if check(rows, fence).is_ok() {
                requeue(rows, fence.turn, Some(Instant::now() + after));
            }
        });
        Ok(())
    }
}

#[async_trait]
impl NodeLease for MemoryStore {
    async fn acquire(&self) -> Result<Reconciled, QueueError> {
        self.reach().await.map_err(QueueError::Unavailable)?;
        Ok(self.with(|rows| {
            rows.incarnation += 1;
            rows.lease_until = Some(Instant::now() + LEASE);
            settle(rows)
        }))
    }

    async fn renew(&self) -> Result<(), QueueError> {
        self.reach().await.map_err(QueueError::Unavailable)?;
        self.with(|rows| {
            let now = Instant::now();
            match rows.lease_until {
                Some(until) if until > now => {
                    rows.lease_until = Some(now + LEASE);
                    Ok(())
                }
                _ => Err(QueueError::LeaseLost),
            }
        })
    }

    async fn release(&self) -> Result<(), QueueError> {
        self.with(|rows| rows.lease_until = None);
        Ok(())
    }
}

#[async_trait]
impl Journal for MemoryStore {
    async fn open(&self, turn: &TurnRef, _open: &OpenTurn) -> Result<Vec<Frame>, JournalError> {
        self.reach().await.map_err(JournalError::Unavailable)?;
        self.with(|rows| {
            check(rows, &turn.fence)?.prompted = true;
            Ok(frame(rows, turn, FrameKind::MessageStarted, json!({})))
        })
    }

    async fn append(&self, turn: &TurnRef, batch: &Batch) -> Result<Vec<Frame>, JournalError> {
        self.reach().await.map_err(JournalError::Unavailable)?;
        {
            let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
            if faults.append_panics > 0 {
                faults.append_panics -= 1;
                drop(faults);
                panic!("the fake journal panics as told");
            }
        }
        self.with(|rows| {
            check(rows, &turn.fence)?;
            let parts = rows.parts.entry(turn.message).or_default();
            for part in &batch.parts {
                parts.insert(part.sequence, part.clone());
            }
            let drafts = batch.frames.iter().cloned();
            Ok(drafts
                .flat_map(|FrameDraft { kind, data }| frame(rows, turn, kind, data))
                .collect())
        })
    }

    async fn finish(&self, turn: &TurnRef, end: &TurnEnd) -> Result<Vec<Frame>, JournalError> {
        self.reach().await.map_err(JournalError::Unavailable)?;
        self.with(|rows| {
            check(rows, &turn.fence)?;
            Ok(finish(rows, turn.fence.turn, end.outcome))
        })
    }

    async fn note_link(&self, note: &LinkNote) -> Result<(), JournalError> {
        self.reach().await.map_err(JournalError::Unavailable)?;
        self.with(|rows| {
            if let Some(facts) = &note.facts {
                rows.links.insert(note.key.clone(), facts.resume.clone());
            }
        });
        Ok(())
    }
}

/// The first waiting task of every session that has no live turn, in order.
fn heads(rows: &Rows) -> Vec<TaskId> {
    let mut heads: BTreeMap<SessionId, (i64, TaskId)> = BTreeMap::new();
    for (id, row) in &rows.tasks {
        if row.state == TaskState::Pending {
            let head = heads.entry(row.session).or_insert((row.seq, *id));
            *head = (*head).min((row.seq, *id));
        }
    }
    for turn in rows.turns.values().filter(|turn| !turn.ended) {
        heads.remove(&turn.session);
    }
    let mut heads: Vec<_> = heads.into_values().collect();
    heads.sort_unstable();
    heads.into_iter().map(|(_, id)| id).collect()
}

fn lease(rows: &mut Rows, id: TaskId) -> Assignment {
    let incarnation = rows.incarnation;
    let row = rows.tasks.get_mut(&id).expect("a head is a task");
    row.attempts += 1;
    row.state = TaskState::Running;
    let fence = Fence {
        task: id,
        turn: TurnId::new(),
        attempt: row.attempts,
        node: NodeId(uuid::Uuid::nil()),
        incarnation,
    };
    let row = row.clone();
    rows.turns.insert(
        fence.turn,
        TurnRow {
            fence,
            session: row.session,
            prompted: false,
            ended: false,
        },
    );
    Assignment {
        fence,
        key: row.key.clone(),
        session: row.session,
        input: row.input,
        user_message: MessageId::new(),
        assistant_message: MessageId::new(),
        model: None,
        mode: None,
        thinking: None,
        policy: None,
        worktree: WorktreeSpec {
            session: row.session,
            project: ProjectId(uuid::Uuid::nil()),
            project_path: PathBuf::from("/project"),
            existing: None,
        },
        resume: rows.links.get(&row.key).cloned(),
        last_tree: None,
    }
}

fn check<'a>(rows: &'a mut Rows, fence: &Fence) -> Result<&'a mut TurnRow, JournalError> {
    let incarnation = rows.incarnation;
    rows.turns
        .get_mut(&fence.turn)
        .filter(|turn| !turn.ended && turn.fence == *fence && fence.incarnation == incarnation)
        .ok_or(JournalError::Fenced)
}

fn requeue(rows: &mut Rows, turn: TurnId, not_before: Option<Instant>) {
    let turn = rows.turns.get_mut(&turn).expect("a checked turn");
    turn.ended = true;
    let task = turn.fence.task;
    if let Some(row) = rows.tasks.get_mut(&task) {
        row.state = TaskState::Pending;
        row.not_before = not_before;
    }
}

fn finish(rows: &mut Rows, turn: TurnId, outcome: Outcome) -> Vec<Frame> {
    let row = rows.turns.get_mut(&turn).expect("a checked turn");
    row.ended = true;
    let (fence, session) = (row.fence, row.session);
    let task = rows.tasks.get_mut(&fence.task).expect("a turn has a task");
    task.state = outcome.task_state();
    task.outcomes.push(outcome);
    let turn = TurnRef {
        fence,
        session,
        chat: task.key.chat,
        message: MessageId(uuid::Uuid::nil()),
    };
    frame(
        rows,
        &turn,
        FrameKind::TaskUpdated,
        json!({ "outcome": outcome }),
    )
}

/// What the last life left: unprompted waits again, prompted is interrupted.
fn settle(rows: &mut Rows) -> Reconciled {
    let mut found = Reconciled {
        incarnation: rows.incarnation,
        ..Reconciled::default()
    };
    let open: Vec<_> = rows
        .turns
        .values()
        .filter(|turn| !turn.ended)
        .cloned()
        .collect();
    for turn in open {
        if turn.prompted {
            found.interrupted += 1;
            found
                .frames
                .extend(finish(rows, turn.fence.turn, Outcome::Interrupted));
        } else {
            found.requeued += 1;
            requeue(rows, turn.fence.turn, None);
        }
    }
    found
}

fn frame(rows: &mut Rows, turn: &TurnRef, kind: FrameKind, data: Value) -> Vec<Frame> {
    let frames = rows.frames.entry(turn.session).or_default();
    let frame = Frame {
        seq: i64::try_from(frames.len()).unwrap_or(i64::MAX) + 1,
        kind,
        session_id: turn.session,
        chat_id: Some(ChatId(turn.chat.0)),
        task_id: Some(turn.fence.task),
        message_id: Some(turn.message),
        at: DateTime::UNIX_EPOCH,
        data,
    };
    frames.push(frame.clone());
    vec![frame]
}
