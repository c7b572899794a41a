//! What is stored, and the transactions on it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;

use serde_json::json;
use tokio::time::Instant;

use super::contexts::ContextRow;
use super::limits::told;
use super::operations::{ChangeRow, OperationRow};
use crate::event::{Frame, FrameKind, PartWrite, TurnRef};
use crate::handover::Told;
use crate::ids::{
    AgentName, ArenaId, ChangeId, ChatId, MessageId, NodeId, OperationId, ProjectId, PromptId,
    SessionId, SessionKey, TaskId, TurnId, WorktreeId,
};
use crate::limits::{AgentRest, Budget, Measure, Parked};
use crate::model::{Assignment, Checkpoint, Fence, Policy, Resume, Usage, Worktree, WorktreeSpec};
use crate::outcome::{Outcome, TaskState};
use crate::ports::{Claim, Reconciled};
use crate::prompt::{Given, NewPrompt, Settled};
use crate::reap::{KeptNotice, OldCheckpoint};
use crate::rules::routing::Origin;
use crate::set_up::{Consent, TearDown};

use super::arenas::ArenaRow;

/// A task as the store knows it.
#[derive(Clone, Debug)]
pub struct TaskRow {
    /// Position in the queue.
    pub seq: i64,
    /// Who runs it, in which chat.
    pub key: SessionKey,
    /// In which workspace.
    pub session: SessionId,
    /// Where it comes from.
    pub origin: Origin,
    /// What it wants to be allowed; none leaves it to the agent's settings.
    pub policy: Option<Policy>,
    /// The prompt.
    pub input: String,
    /// The task that asked for it.
    pub parent: Option<TaskId>,
    /// Its state.
    pub state: TaskState,
    /// Not to be claimed before.
    pub not_before: Option<Instant>,
    /// Why, the last time it was parked.
    pub parked: Option<Parked>,
    /// What it may spend.
    pub budget: Option<Budget>,
    /// Its turn is over and its prompts are open: it waits for the answers.
    pub detached: bool,
    /// Set by the last of them: what the agent is told, and the answers.
    pub goes_on: Option<(String, Vec<Given>)>,
    /// Attempts so far.
    pub attempts: i32,
    /// Outcomes written; more than one is a bug.
    pub outcomes: Vec<Outcome>,
}

/// An attempt as the store knows it.
#[derive(Clone, Debug)]
pub struct TurnRow {
    /// What its writers must show.
    pub reference: TurnRef,
    /// The user's message.
    pub user_message: MessageId,
    /// `prompted_at` is set.
    pub prompted: bool,
    /// When that was.
    pub prompted_at: Option<Instant>,
    /// What was reported so far.
    pub usage: Usage,
    /// What the files were before it.
    pub checkpoint: Option<Checkpoint>,
    /// `ended_at` is set.
    pub ended: bool,
    /// When that was; none for one that was given back.
    pub ended_at: Option<Instant>,
    /// How it ended; none for one that was given back.
    pub outcome: Option<Outcome>,
    /// It ended while a human was asked, and its task goes on.
    pub detached: bool,
    /// `cancel_requested_at` is set.
    pub cancelled: bool,
    /// The agent said something in it.
    pub spoke: bool,
    /// Who ran it.
    pub agent: AgentName,
    /// Its agent keeps no context of it.
    pub alone: bool,
    /// What it was told in front of the prompt.
    pub told: Option<Told>,
    /// Files that it changed.
    pub files: Vec<String>,
    /// Which turn of all it was to be claimed.
    pub order: u64,
}

/// A prompt as the store knows it.
#[derive(Clone, Debug)]
pub struct PromptRow {
    /// Whose request it is.
    pub turn: TurnRef,
    /// What is asked.
    pub prompt: NewPrompt,
    /// How it was settled; none while it is open.
    pub settled: Option<Settled>,
    /// Seq of the frame that asked.
    pub asked_seq: i64,
    /// Seq of the frame that told how it was settled.
    pub settled_seq: i64,
    /// Its agent was gone before it heard an answer.
    pub detached: bool,
}

/// A message as the store knows it.
#[derive(Clone, Debug, Default)]
pub struct MessageRow {
    /// As the column says it.
    pub status: &'static str,
    /// Written with the end.
    pub content: String,
    /// By sequence.
    pub parts: BTreeMap<i32, PartWrite>,
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
    /// By id.
    pub messages: BTreeMap<MessageId, MessageRow>,
    /// By id.
    pub prompts: BTreeMap<PromptId, PromptRow>,
    /// Keys of which people were told that they cool down, and in which chat.
    pub open_circuits: BTreeMap<SessionKey, ChatId>,
    /// Agents that people were told of as resting.
    pub resting_agents: BTreeSet<AgentName>,
    /// Agents that rest: until when, and why.
    pub rests: BTreeMap<AgentName, (Instant, Option<String>)>,
    /// How often budgets were looked at.
    pub budget_looks: u64,
    /// What people were told of operations.
    pub told: Vec<String>,
    /// Tasks that are to be tried again by themselves.
    pub to_retry: BTreeSet<TaskId>,
    /// Tasks that were tried again.
    pub retried: BTreeSet<TaskId>,
    /// Failed tasks that people took out of the inbox.
    pub dismissed: BTreeSet<TaskId>,
    /// What sessions may spend.
    pub budgets: BTreeMap<SessionId, Budget>,
    /// Limits that people were warned of: whose, of what, how much in bits.
    pub warned: BTreeSet<(String, Measure, u64)>,
    /// The agents' own sessions.
    pub links: BTreeMap<SessionKey, Resume>,
    /// Messages that a restore took away: from how many claims on, and until how
    /// many they were not there.
    pub trimmed: BTreeMap<MessageId, Vec<Range<u64>>>,
    /// What is known of their contexts.
    pub contexts: BTreeMap<SessionKey, ContextRow>,
    /// Which session a chat is of, where it was made before its tasks.
    pub chats: BTreeMap<ChatId, SessionId>,
    /// By session: its worktree, and the tree it was left with if that is known.
    pub worktrees: BTreeMap<SessionId, (Worktree, Option<String>)>,
    /// By id.
    pub arenas: BTreeMap<ArenaId, ArenaRow>,
    /// Gates that an arena holds: no turn is claimed there.
    pub held: BTreeMap<SessionId, ArenaId>,
    /// The commits that sessions start from, where one is named.
    pub starts: BTreeMap<SessionId, String>,
    /// Changes of files, by id.
    pub changes: BTreeMap<ChangeId, ChangeRow>,
    /// By id.
    pub operations: BTreeMap<OperationId, OperationRow>,
    /// Sessions that were closed, until their next task.
    pub closed: BTreeSet<SessionId>,
    /// Sessions that were deleted.
    pub deleted: BTreeSet<SessionId>,
    /// What was decided about set-ups, by hash.
    pub set_ups: BTreeMap<String, (Consent, Option<TearDown>)>,
    /// The blocks of ports that sessions have.
    pub ports: BTreeMap<SessionId, usize>,
    /// Worktrees that were put away, and since when; an open session has its own
    /// back with its next task.
    pub shelf: BTreeMap<SessionId, (Worktree, Instant)>,
    /// When something was last done in a session.
    pub touched: BTreeMap<SessionId, Instant>,
    /// Worktrees whose archives were let go of.
    pub forgotten: BTreeSet<WorktreeId>,
    /// Checkpoints that are kept long enough.
    pub old_checkpoints: Vec<OldCheckpoint>,
    /// What people are told of worktrees that stay.
    pub kept: BTreeMap<String, KeptNotice>,
    /// By session: the operation that holds its gate.
    pub gates: BTreeMap<SessionId, OperationId>,
    /// The node's life.
    pub incarnation: i64,
    /// When its lease ends.
    pub lease_until: Option<Instant>,
    last_seq: i64,
    pub(super) last_news: i64,
    pub(super) turns_begun: u64,
}

impl Rows {
    pub(super) fn insert(&mut self, session: SessionId, key: SessionKey, input: &str) -> TaskId {
        let id = TaskId::new();
        self.last_seq += 1;
        let row = TaskRow {
            seq: self.last_seq,
            key,
            session,
            origin: Origin {
                own_chat: true,
                ..Origin::default()
            },
            policy: None,
            input: input.to_owned(),
            parent: None,
            state: TaskState::Pending,
            not_before: None,
            parked: None,
            budget: None,
            detached: false,
            goes_on: None,
            attempts: 0,
            outcomes: Vec::new(),
        };
        self.tasks.insert(id, row);
        self.closed.remove(&session);
        if !self.deleted.contains(&session)
            && let Some((worktree, _)) = self.shelf.remove(&session)
        {
            let as_it_was = Some("put away".to_owned());
            self.worktrees.insert(session, (worktree, as_it_was));
        }
        id
    }

    pub(super) fn request_cancel(&mut self, task: TaskId) {
        for turn in self.turns.values_mut() {
            turn.cancelled |= turn.reference.fence.task == task && !turn.ended;
        }
        if let Some(row) = self.tasks.get_mut(&task)
            && (row.state == TaskState::Pending || row.detached)
        {
            row.state = TaskState::Cancelled;
            if std::mem::take(&mut row.detached) {
                self.withdraw_detached(task);
            }
        }
    }

    pub(super) fn claim(&mut self, now: Instant, credit: usize, agents: &[AgentName]) -> Claim {
        let mut claim = Claim::default();
        for row in self.tasks.values_mut() {
            row.not_before = row.not_before.filter(|due| *due > now);
            if let (TaskState::Pending, Some(due)) = (row.state, row.not_before) {
                let wait = due - now;
                claim.next_due = Some(claim.next_due.map_or(wait, |next| next.min(wait)));
            }
        }
        let heads = self.heads(agents);
        claim.more = heads.len() > credit;
        for task in heads.into_iter().take(credit) {
            claim.assignments.extend(self.lease(task));
        }
        claim.left = self.tasks.values().any(|row| {
            row.state == TaskState::Pending
                && row.not_before.is_none()
                && agents.contains(&row.key.agent)
        });
        claim
    }

    /// The first claimable task of every session without a live turn, oldest
    /// first. A parked task holds back what follows it for its chat and agent.
    fn heads(&self, agents: &[AgentName]) -> Vec<TaskId> {
        let mut waiting: Vec<_> = self
            .tasks
            .iter()
            .filter(|(_, row)| row.state == TaskState::Pending || row.detached)
            .collect();
        waiting.sort_by_key(|(_, row)| row.seq);
        let mut taken: BTreeSet<SessionId> = self
            .turns
            .values()
            .filter(|turn| !turn.ended)
            .map(|turn| turn.reference.session)
            .chain(self.held.keys().copied())
            .chain(self.gates.keys().copied())
            .collect();
        let mut held_back = BTreeSet::new();
        let mut heads = Vec::new();
        for (id, row) in waiting {
            if row.not_before.is_some() || row.detached {
                held_back.insert(&row.key);
            } else if agents.contains(&row.key.agent)
                && !held_back.contains(&row.key)
                && taken.insert(row.session)
            {
                heads.push(*id);
            }
        }
        heads
    }

    fn lease(&mut self, task: TaskId) -> Option<Assignment> {
        let row = self.tasks.get_mut(&task)?;
        row.attempts += 1;
        row.state = TaskState::Running;
        let reference = TurnRef {
            fence: Fence {
                task,
                turn: TurnId::new(),
                attempt: row.attempts,
                node: NodeId(uuid::Uuid::nil()),
                incarnation: self.incarnation,
            },
            session: row.session,
            chat: row.key.chat,
            message: MessageId::new(),
        };
        let turn = TurnRow {
            reference,
            // Words about an answer are a message of their own.
            user_message: MessageId(match row.goes_on {
                Some(_) => reference.fence.turn.0,
                None => task.0,
            }),
            prompted: false,
            prompted_at: None,
            usage: Usage::default(),
            checkpoint: None,
            ended: false,
            ended_at: None,
            outcome: None,
            detached: false,
            cancelled: false,
            spoke: false,
            agent: row.key.agent.clone(),
            alone: false,
            told: None,
            files: Vec::new(),
            order: self.turns_begun,
        };
        let context = self
            .contexts
            .get(&row.key)
            .map(ContextRow::note)
            .unwrap_or_default();
        self.turns_begun += 1;
        let (existing, last_tree) = self.worktrees.get(&row.session).cloned().unzip();
        let assignment = Assignment {
            fence: reference.fence,
            key: row.key.clone(),
            chat: row.key.chat,
            origin: row.origin,
            session: row.session,
            input: row
                .goes_on
                .as_ref()
                .map_or(&row.input, |(text, _)| text)
                .clone(),
            user_message: turn.user_message,
            assistant_message: reference.message,
            model: None,
            mode: None,
            thinking: None,
            features: std::collections::BTreeMap::new(),
            policy: row.policy,
            budgeted: row.budget.is_some() || self.budgets.contains_key(&row.session),
            worktree: WorktreeSpec {
                session: row.session,
                project: ProjectId(uuid::Uuid::nil()),
                project_path: PathBuf::from("/project"),
                existing,
                start: self.starts.get(&row.session).cloned(),
                begins_with: None,
            },
            resume: self
                .links
                .get(&row.key)
                .filter(|_| context.forgotten.is_none())
                .cloned(),
            last_tree: last_tree.flatten(),
            context,
            goes_on: row.goes_on.as_ref().map(|(_, given)| given.clone()),
            rests: self
                .rests
                .get(&row.key.agent)
                .map(|(until, because)| AgentRest {
                    left: until.saturating_duration_since(Instant::now()),
                    because: because.clone(),
                }),
        };
        self.turns.insert(reference.fence.turn, turn);
        Some(assignment)
    }

    /// A cancel that came before it wins: the turn ends instead.
    pub(super) fn release(&mut self, fence: &Fence, parked: Option<&Parked>) -> Vec<Frame> {
        let turn = match self.live(fence) {
            Ok(turn) if turn.cancelled => {
                let reference = turn.reference;
                return self.end(&reference, Outcome::Cancelled, None);
            }
            Ok(turn) if !turn.prompted => turn.reference,
            _ => return Vec::new(),
        };
        let due = parked.map(|parked| Instant::now() + parked.after);
        self.requeue(fence, due);
        let Some(task) = self.tasks.get_mut(&fence.task) else {
            return Vec::new();
        };
        let before = std::mem::replace(&mut task.parked, parked.cloned());
        match parked {
            Some(parked) if before.is_none_or(|before| before.reason != parked.reason) => {
                let data = json!({ "state": "pending", "parked": told(parked) });
                self.frames(&turn, [(FrameKind::TaskUpdated, data)])
            }
            _ => Vec::new(),
        }
    }

    /// A new life of the node. What the last one left: unprompted waits again,
    /// prompted is interrupted, cancelled is cancelled.
    pub(super) fn new_life(&mut self, lease_until: Option<Instant>) -> Reconciled {
        self.incarnation += 1;
        self.lease_until = lease_until;
        let mut found = Reconciled {
            incarnation: self.incarnation,
            ..Reconciled::default()
        };
        let open = self.turns.values().filter(|turn| !turn.ended);
        for turn in open.cloned().collect::<Vec<_>>() {
            let outcome = match (turn.cancelled, turn.prompted) {
                (true, _) => Outcome::Cancelled,
                (false, true) => Outcome::Interrupted,
                (false, false) => {
                    found.requeued += 1;
                    self.requeue(&turn.reference.fence, None);
                    continue;
                }
            };
            found.interrupted += usize::from(outcome == Outcome::Interrupted);
            let kept = self.detach_turn(&turn.reference, &[]);
            if !kept.is_empty() {
                found.detached += 1;
                found.frames.extend(kept);
                continue;
            }
            let reason = "Hearth stopped";
            found.frames.extend(self.settle_open(
                &turn.reference,
                None,
                &Settled::cancelled(reason),
            ));
            found
                .frames
                .extend(self.end(&turn.reference, outcome, None));
        }
        found
    }

    fn requeue(&mut self, fence: &Fence, not_before: Option<Instant>) {
        if let Some(turn) = self.turns.get_mut(&fence.turn) {
            turn.ended = true;
        }
        if let Some(task) = self.tasks.get_mut(&fence.task) {
            task.state = TaskState::Pending;
            task.not_before = not_before;
        }
    }
}
