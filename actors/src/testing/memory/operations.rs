//! The journal of operations on the rows.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::json;

use super::rows::Rows;
use crate::event::{Frame, FrameKind};
use crate::ids::{ChangeId, NodeId, OperationId, SessionId, TaskId};
use crate::model::{BlobRef, Diff, FileChange};
use crate::operation::{Abandoned, Asked, Begun, LeftBehind, OperationState, Owner, Started};
use crate::ports::OperationsError;
use crate::review::{FileState, Order, Plan, Recorded, Step, Work};

/// An operation as the store knows it.
#[derive(Clone, Debug)]
pub struct OperationRow {
    /// Whose gate it holds until it ends.
    pub session: SessionId,
    /// What was wanted, with the changes it came to.
    pub order: Order,
    /// Where one was intended.
    pub plan: Option<Plan>,
    /// How far it is.
    pub state: OperationState,
    /// The life that it belongs to.
    pub incarnation: i64,
    /// Ends written; more than one is a bug.
    pub ends: u32,
    /// Its refs were put right.
    pub settled: bool,
    /// Turns of all that were claimed before it ended.
    pub behind: u64,
    frames: Vec<Frame>,
}

/// A change as the store knows it.
#[derive(Clone, Debug)]
pub struct ChangeRow {
    /// Whose.
    pub session: SessionId,
    /// `pending`, `applied`, `rejected` or `reverted`.
    pub status: &'static str,
    /// The task whose turn did it, if that is known.
    pub task: Option<TaskId>,
    /// What it is about.
    pub file: FileChange,
    /// What an apply did.
    pub applied: Vec<Step>,
}

/// The state that an order's changes are in before and after it.
fn states(order: &Order) -> (&'static str, &'static str) {
    match order {
        Order::Reject { .. } => ("pending", "rejected"),
        Order::Rewind { .. } => ("applied", "reverted"),
        Order::Adopt { .. } => ("pending", "adopted"),
        Order::Apply { .. }
        | Order::Restore { .. }
        | Order::Retry { .. }
        | Order::Compare { .. }
        | Order::Stash
        | Order::Archive(_) => ("pending", "applied"),
    }
}

impl Rows {
    pub(super) fn begin(&mut self, asked: &Asked) -> Result<Begun, OperationsError> {
        let session = asked.session;
        let live = |rows: &Self| {
            let mut turns = rows.turns.values();
            turns.any(|turn| !turn.ended && turn.reference.session == session)
        };
        let held = self.gates.contains_key(&session) || self.held.contains_key(&session);
        if live(self) || held {
            return Err(OperationsError::Busy(
                "its files are being worked on".into(),
            ));
        }
        let Some((worktree, tree)) = self.worktrees.get(&session).cloned() else {
            return Err(wrong("no_worktree"));
        };
        if tree.is_some() && matches!(asked.order, Order::Compare { .. }) {
            return Ok(Begun::Nothing {
                already: Vec::new(),
                left_alone: Vec::new(),
            });
        }
        if self.deleted.contains(&session) {
            return Err(wrong("not_found"));
        }
        let (mut changes, mut already, mut left_alone) = (Vec::new(), Vec::new(), Vec::new());
        let mut checkpoint = None;
        let whole = asked.order.is_whole();
        if asked.order.leaves().is_some() && self.waits(session) {
            return Err(OperationsError::Busy("a task waits in it".into()));
        }
        if whole {
            // All of the worktree, whatever its changes.
        } else if let Some(back) = asked.order.goes_back() {
            if let Some(task) = back.retries {
                let may = match back.unasked {
                    true => self.may_be_retried(task),
                    false => self.can_be_retried(session, back.chat, task),
                };
                if !may {
                    return Err(wrong("not_retryable"));
                }
            }
            let mut turns = self.turns.values();
            let turn = turns.find(|turn| {
                turn.reference.session == session
                    && turn.reference.chat == back.chat
                    && turn
                        .checkpoint
                        .as_ref()
                        .is_some_and(|taken| taken.id == back.checkpoint)
            });
            let Some(turn) = turn else {
                return Err(wrong("not_found"));
            };
            checkpoint.clone_from(&turn.checkpoint);
            let others = self.later_chats(session, back.checkpoint);
            if !others.is_empty() && !back.consent {
                return Err(OperationsError::NeedsConsent(others));
            }
        } else {
            let named = asked.order.changes();
            let (wanted, done) = states(&asked.order);
            let of = match &asked.order {
                Order::Adopt { arena, task, .. } => self.adoptable(*arena, *task)?,
                _ => session,
            };
            let unknown = |id: &&ChangeId| {
                let row = self.changes.get(id);
                row.is_none_or(|row| row.session != of)
            };
            if named.iter().any(|id| unknown(&id)) {
                return Err(wrong("unknown_change"));
            }
            let all = named.is_empty();
            let secrets = matches!(asked.order, Order::Apply { secrets: false, .. });
            for (id, row) in &self.changes {
                if row.session != of || !(named.contains(id) || all && row.status == wanted) {
                    continue;
                }
                if row.status == done {
                    already.push(*id);
                } else if row.status != wanted {
                    let applied = wanted == "applied";
                    return Err(wrong(if applied {
                        "not_applied"
                    } else {
                        "not_pending"
                    }));
                } else if all && secrets && row.file.secret {
                    left_alone.push(row.file.path.clone());
                } else {
                    // Ids are in the order in which rows came.
                    let covered = self.changes.iter().any(|(later, other)| {
                        let same = other.session == of && other.file.path == row.file.path;
                        same && other.status == "applied" && later > id && !named.contains(later)
                    });
                    changes.push(Recorded {
                        covered: covered && row.status == "applied",
                        ..recorded(*id, row)
                    });
                }
            }
            if changes.is_empty() {
                return Ok(Begun::Nothing {
                    already,
                    left_alone,
                });
            }
        }
        let order = asked
            .order
            .naming(changes.iter().map(|change| change.id).collect());
        let row = OperationRow {
            session,
            order: order.clone(),
            plan: None,
            state: OperationState::Planning,
            incarnation: self.incarnation,
            ends: 0,
            settled: false,
            behind: 0,
            frames: Vec::new(),
        };
        self.operations.insert(asked.id, row);
        self.gates.insert(session, asked.id);
        Ok(Begun::Work(Box::new(Started {
            owner: self.owner(asked.id, session),
            work: Work {
                id: asked.id,
                order,
                session,
                worktree,
                project_path: PathBuf::from("/project"),
                changes,
                checkpoint,
            },
            already,
            left_alone,
        })))
    }

    pub(super) fn intend(&mut self, owner: &Owner, plan: &Plan) -> Result<(), OperationsError> {
        let row = self.operation(owner)?;
        if row.ends > 0 {
            return Err(OperationsError::Fenced);
        }
        row.state = OperationState::Intended;
        row.plan = Some(plan.clone());
        Ok(())
    }

    pub(super) fn complete(
        &mut self,
        owner: &Owner,
        plan: &Plan,
        diff: &Diff,
    ) -> Result<Vec<Frame>, OperationsError> {
        let row = self.operation(owner)?;
        match row.state {
            OperationState::Done => return Ok(row.frames.clone()),
            OperationState::Intended => {}
            _ => return Err(OperationsError::Fenced),
        }
        let order = row.order.clone();
        let session = owner.session;
        let mut frames = Vec::new();
        if let Some(back) = order.goes_back() {
            frames.extend(self.go_back(session, back.checkpoint, back.chat));
        }
        if let Some(leave) = order.leaves() {
            self.leave(session, leave.delete);
            self.end_operation(owner, OperationState::Done);
            return Ok(Vec::new());
        }
        let (_, done) = states(&order);
        let adopted = matches!(order, Order::Adopt { .. });
        for id in order.changes().iter().filter(|_| !adopted) {
            if let Some(row) = self.changes.get_mut(id) {
                row.status = done;
            }
        }
        if matches!(order, Order::Apply { .. }) {
            for (id, steps) in &plan.accounts {
                if let Some(row) = self.changes.get_mut(id) {
                    row.applied.clone_from(steps);
                }
            }
        }
        if let Some((worktree, tree)) = self.worktrees.get_mut(&session) {
            worktree.baseline.clone_from(&plan.baseline);
            *tree = Some(diff.tree.clone());
        }
        let of = match order {
            Order::Compare { task } => Some(task),
            _ => None,
        };
        self.replace_changes(session, of, diff);
        let data = json!({ "operation": { "id": owner.id, "kind": order.kind() } });
        frames.push(self.session_frame(session, None, FrameKind::PendingChangesUpdated, data));
        if let Order::Adopt { arena, task, .. } = &order {
            frames.extend(self.decide(*arena, *task));
        }
        if let Some(back) = order.goes_back()
            && let Some(task) = back.retries
            && !(back.unasked && self.dismissed.contains(&task))
        {
            self.queue_again(task);
        }
        self.end_operation(owner, OperationState::Done);
        if let Some(row) = self.operations.get_mut(&owner.id) {
            row.frames.clone_from(&frames);
        }
        Ok(frames)
    }

    pub(super) fn abandon(
        &mut self,
        owner: &Owner,
        _why: &Abandoned,
    ) -> Result<(), OperationsError> {
        if !self.operations.contains_key(&owner.id) {
            return Ok(());
        }
        match self.operation(owner)?.state {
            OperationState::Abandoned => Ok(()),
            OperationState::Done => Err(OperationsError::Fenced),
            _ => {
                self.end_operation(owner, OperationState::Abandoned);
                Ok(())
            }
        }
    }

    pub(super) fn settled(&mut self, id: OperationId) {
        let row = self.operations.get_mut(&id);
        if let Some(row) = row.filter(|row| row.ends > 0) {
            row.settled = true;
        }
    }

    pub(super) fn left_behind(&self) -> Vec<(OperationId, SessionId)> {
        let rows = self.operations.iter();
        rows.filter(|(_, row)| row.incarnation < self.incarnation && !row.settled)
            .map(|(id, row)| (*id, row.session))
            .collect()
    }

    pub(super) fn take_over(&mut self, id: OperationId) -> Option<LeftBehind> {
        let incarnation = self.incarnation;
        let row = self.operations.get_mut(&id)?;
        if row.settled {
            return None;
        }
        row.incarnation = incarnation;
        let worktree = self
            .worktrees
            .get(&row.session)
            .map(|(worktree, _)| worktree);
        let mut plan = row
            .plan
            .clone()
            .or_else(|| worktree.map(|worktree| Plan::nothing(id, worktree.clone())));
        if let (Some(plan), Some(worktree), true) = (&mut plan, worktree, row.ends > 0) {
            plan.baseline.clone_from(&worktree.baseline);
        }
        let (order, state, session) = (row.order.clone(), row.state, row.session);
        Some(LeftBehind {
            owner: self.owner(id, session),
            order,
            state,
            plan,
        })
    }

    fn owner(&self, id: OperationId, session: SessionId) -> Owner {
        Owner {
            id,
            session,
            node: NodeId(uuid::Uuid::nil()),
            incarnation: self.incarnation,
        }
    }

    fn operation(&mut self, owner: &Owner) -> Result<&mut OperationRow, OperationsError> {
        self.operations
            .get_mut(&owner.id)
            .filter(|row| row.incarnation == owner.incarnation)
            .ok_or(OperationsError::Fenced)
    }

    fn end_operation(&mut self, owner: &Owner, state: OperationState) {
        if let Some(row) = self.operations.get_mut(&owner.id) {
            row.state = state;
            row.ends += 1;
            row.behind = self.turns_begun;
        }
        if self.gates.get(&owner.session) == Some(&owner.id) {
            self.gates.remove(&owner.session);
        }
    }

    /// The pending changes of a session by path.
    pub fn pending(&self, session: SessionId) -> BTreeMap<String, (ChangeId, Option<BlobRef>)> {
        let rows = self.changes.iter();
        rows.filter(|(_, row)| row.session == session && row.status == "pending")
            .map(|(id, row)| (row.file.path.clone(), (*id, row.file.after.clone())))
            .collect()
    }

    /// True when any row changed; a row whose file did not keeps its id. What is new
    /// is of this task.
    pub(super) fn replace_changes(
        &mut self,
        session: SessionId,
        task: Option<TaskId>,
        diff: &Diff,
    ) -> bool {
        let mut old = self.pending(session);
        let mut changed = false;
        for file in &diff.changes {
            if let Some((id, _)) = old
                .remove(&file.path)
                .filter(|(_, after)| *after == file.after)
            {
                if let Some(row) = self.changes.get_mut(&id) {
                    row.file.clone_from(file);
                }
                continue;
            }
            changed = true;
            let row = ChangeRow {
                session,
                status: "pending",
                task,
                file: file.clone(),
                applied: Vec::new(),
            };
            self.changes.insert(ChangeId::new(), row);
        }
        let kept: Vec<ChangeId> = {
            let afters: BTreeMap<_, _> = diff.changes.iter().map(|f| (&f.path, &f.after)).collect();
            let rows = self.pending(session);
            rows.iter()
                .filter(|(path, (_, after))| afters.get(path).is_some_and(|now| *now == after))
                .map(|(_, (id, _))| *id)
                .collect()
        };
        let count = self.changes.len();
        self.changes.retain(|id, row| {
            row.session != session || row.status != "pending" || kept.contains(id)
        });
        changed || self.changes.len() != count
    }
}

fn recorded(id: ChangeId, row: &ChangeRow) -> Recorded {
    let side = |blob: &Option<BlobRef>| {
        blob.as_ref().map(|blob| FileState {
            blob: blob.id.clone(),
            mode: blob.mode,
        })
    };
    Recorded {
        id,
        path: row.file.path.clone(),
        old_path: row.file.old_path.clone(),
        before: side(&row.file.before),
        after: side(&row.file.after),
        secret: row.file.secret,
        applied: row.applied.clone(),
        covered: false,
    }
}

fn wrong(code: &'static str) -> OperationsError {
    OperationsError::Wrong {
        code,
        what: code.into(),
    }
}
