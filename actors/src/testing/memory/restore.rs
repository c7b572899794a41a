//! What a restore does to the rows of its session.

use serde_json::{Value, json};

use super::rows::{MessageRow, Rows, TurnRow};
use crate::event::{Frame, FrameKind};
use crate::ids::{ChatId, CheckpointId, MessageId, OperationId, SessionId, TaskId};
use crate::operation::{Asked, OperationState};
use crate::outcome::{Outcome, TaskState};
use crate::review::Order;

impl Rows {
    /// Other chats of the session with turns since the checkpoint's.
    pub(super) fn later_chats(&self, session: SessionId, checkpoint: CheckpointId) -> Vec<ChatId> {
        let Some(target) = self.turn_of(checkpoint) else {
            return Vec::new();
        };
        let mut chats: Vec<ChatId> = self
            .later(session, target)
            .filter(|turn| turn.prompted && turn.reference.chat != target.reference.chat)
            .map(|turn| turn.reference.chat)
            .collect();
        chats.sort_unstable();
        chats.dedup();
        chats
    }

    /// It was interrupted, nobody has seen to it, and neither another task nor an
    /// operation worked in its session since its first attempt.
    pub(super) fn may_be_retried(&self, task: TaskId) -> bool {
        let turns = || self.turns.values();
        let own = |turn: &&TurnRow| turn.reference.fence.task == task && turn.prompted;
        let first = turns().filter(own).min_by_key(|turn| turn.order);
        let last = turns().filter(own).max_by_key(|turn| turn.order);
        let (Some(first), Some(last)) = (first, last) else {
            return false;
        };
        let session = last.reference.session;
        let worked = turns().any(|turn| {
            let other = turn.reference.session == session && turn.reference.fence.task != task;
            other && turn.prompted && turn.order > first.order
        });
        let ordered = self.operations.values().any(|row| {
            let done = row.session == session && row.state == OperationState::Done;
            done && row.order.writes() && row.behind > first.order
        });
        last.outcome == Some(Outcome::Interrupted)
            && self.failed(task)
            && self.to_retry.contains(&task)
            && !self.retried.contains(&task)
            && !self.dismissed.contains(&task)
            && !worked
            && !ordered
    }

    /// Orders for what is to be tried again by itself, and for what nobody looked at.
    pub(super) fn interrupted(&self) -> Vec<Asked> {
        let wanted = self
            .to_retry
            .iter()
            .filter(|task| self.may_be_retried(**task));
        let order = |task: &TaskId| {
            let turns = self.turns.values();
            let own = turns.filter(|turn| turn.reference.fence.task == *task && turn.prompted);
            let first = own.min_by_key(|turn| turn.order)?;
            Some(Asked {
                id: OperationId::new(),
                session: first.reference.session,
                order: Order::Retry {
                    checkpoint: first.checkpoint.as_ref()?.id,
                    chat: first.reference.chat,
                    task: *task,
                },
                caller: "on_interrupt".into(),
            })
        };
        let mut orders: Vec<Asked> = wanted.filter_map(order).collect();
        orders.extend(self.uncompared());
        orders
    }

    /// Orders for worktrees that nobody has looked at since a turn worked there.
    fn uncompared(&self) -> impl Iterator<Item = Asked> {
        let unread = self
            .worktrees
            .iter()
            .filter(|(_, (_, tree))| tree.is_none());
        let free = unread.filter(|(session, _)| {
            !self.gates.contains_key(session) && !self.held.contains_key(session)
        });
        free.filter_map(|(session, _)| {
            let turns = self.turns.values();
            let worked = turns.filter(|turn| turn.reference.session == *session && turn.prompted);
            let last = worked.max_by_key(|turn| turn.order)?;
            last.ended.then(|| Asked {
                id: OperationId::new(),
                session: *session,
                order: Order::Compare {
                    task: last.reference.fence.task,
                },
                caller: "start".into(),
            })
        })
    }

    /// A person may have it tried again: it failed in this chat, and was not tried
    /// again before.
    pub(super) fn can_be_retried(&self, session: SessionId, chat: ChatId, task: TaskId) -> bool {
        let there = self.tasks.get(&task);
        there.is_some_and(|row| row.session == session && row.key.chat == chat)
            && self.failed(task)
            && !self.retried.contains(&task)
    }

    fn failed(&self, task: TaskId) -> bool {
        let row = self.tasks.get(&task);
        row.is_some_and(|row| row.state == TaskState::Failed)
    }

    pub(super) fn queue_again(&mut self, task: TaskId) {
        let Some(row) = self.tasks.get(&task) else {
            return;
        };
        let (session, key, input) = (row.session, row.key.clone(), row.input.clone());
        if self.retried.insert(task) {
            self.insert(session, key, &input);
        }
    }

    pub(super) fn go_back(
        &mut self,
        session: SessionId,
        checkpoint: CheckpointId,
        chat: ChatId,
    ) -> Vec<Frame> {
        let mut trimmed: Vec<MessageId> = Vec::new();
        let mut asking: Vec<TaskId> = Vec::new();
        if let Some(target) = self.turn_of(checkpoint) {
            let asks = |turn: &&TurnRow| {
                let task = &self.tasks[&turn.reference.fence.task];
                let answered = task.state == TaskState::Pending && task.goes_on.is_some();
                turn.reference.chat == chat && (task.detached || answered)
            };
            let tasks = self.later(session, target).filter(asks);
            asking.extend(tasks.map(|turn| turn.reference.fence.task));
            let own = |turn: &&TurnRow| turn.reference.chat == chat;
            for turn in self.later(session, target).filter(own) {
                trimmed.extend([turn.user_message, turn.reference.message]);
            }
            let kept = self
                .turns
                .values()
                .filter(|turn| turn.reference.chat == chat && turn.order < target.order);
            let kept: Vec<_> = kept
                .flat_map(|turn| [turn.user_message, turn.reference.message])
                .collect();
            trimmed.retain(|id| !kept.contains(id));
        }
        // Nobody could go on behind an answer to what is gone.
        for task in asking {
            self.request_cancel(task);
        }
        trimmed.retain(|id| self.trim_message(*id));
        let data = json!({ "checkpoint_id": checkpoint, "message_ids": trimmed });
        let told = self.session_frame(session, Some(chat), FrameKind::MessagesTrimmed, data);
        let mut frames = vec![told];
        for other in self.later_chats(session, checkpoint) {
            let marker = MessageRow {
                status: "complete",
                content: "restored".into(),
                ..MessageRow::default()
            };
            self.messages.insert(MessageId::new(), marker);
            let data = json!({ "status": "complete", "role": "system" });
            frames.push(self.session_frame(session, Some(other), FrameKind::MessageComplete, data));
        }
        self.reset_contexts(chat, "the chat was restored to an earlier checkpoint");
        frames
    }

    fn turn_of(&self, checkpoint: CheckpointId) -> Option<&TurnRow> {
        let mut turns = self.turns.values();
        turns.find(|turn| {
            turn.checkpoint
                .as_ref()
                .is_some_and(|taken| taken.id == checkpoint)
        })
    }

    fn later<'a>(
        &'a self,
        session: SessionId,
        target: &'a TurnRow,
    ) -> impl Iterator<Item = &'a TurnRow> {
        self.turns
            .values()
            .filter(move |turn| turn.reference.session == session && turn.order >= target.order)
    }

    pub(super) fn session_frame(
        &mut self,
        session: SessionId,
        chat: Option<ChatId>,
        kind: FrameKind,
        data: Value,
    ) -> Frame {
        let stream = self.frames.entry(session).or_default();
        let frame = Frame {
            seq: i64::try_from(stream.len() + 1).unwrap_or(i64::MAX),
            kind,
            session_id: session,
            chat_id: chat,
            task_id: None,
            message_id: None,
            at: chrono::DateTime::UNIX_EPOCH,
            data,
        };
        stream.push(frame.clone());
        frame
    }
}
