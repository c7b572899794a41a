//! The journal's transactions on the rows.

use std::collections::BTreeMap;

use chrono::DateTime;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::rows::{PromptRow, Rows, TurnRow};
use crate::event::{Batch, Frame, FrameDraft, FrameKind, PartKind, PartWrite, TurnRef};
use crate::handover::Taken;
use crate::ids::{MessageId, PromptId, SessionId};
use crate::model::{Checkpoint, Diff, Fence, TurnEnd};
use crate::outcome::{Outcome, TaskState};
use crate::ports::{JournalError, OpenTurn};
use crate::prompt::{NewPrompt, Settled};

impl Rows {
    pub(super) fn open(
        &mut self,
        turn: &TurnRef,
        open: &OpenTurn,
    ) -> Result<Vec<Frame>, JournalError> {
        let row = self.owned(turn)?;
        if row.cancelled {
            return Err(JournalError::Cancelled);
        }
        row.prompted = true;
        row.prompted_at = Some(Instant::now());
        row.checkpoint = open.checkpoint.clone();
        row.alone = open.alone;
        self.tell_others(turn);
        self.write_user_message(open.user_message, &open.input);
        self.messages.entry(turn.message).or_default().status = "streaming";
        let last_tree = self
            .worktrees
            .remove(&turn.session)
            .and_then(|(_, tree)| tree);
        self.worktrees
            .insert(turn.session, (open.worktree.clone(), last_tree));
        self.touched.insert(turn.session, Instant::now());
        Ok(self.frames(
            turn,
            [
                (FrameKind::MessageStarted, json!({})),
                (FrameKind::TaskUpdated, json!({ "state": "running" })),
                (
                    FrameKind::AgentStatusUpdated,
                    json!({ "status": "working" }),
                ),
            ],
        ))
    }

    pub(super) fn recheckpoint(
        &mut self,
        turn: &TurnRef,
        checkpoint: &Checkpoint,
    ) -> Result<(), JournalError> {
        let row = self.owned(turn)?;
        match &mut row.checkpoint {
            Some(named) if row.prompted && named.id == checkpoint.id => {
                *named = checkpoint.clone();
                Ok(())
            }
            _ => Err(JournalError::Fenced),
        }
    }

    pub(super) fn append(
        &mut self,
        turn: &TurnRef,
        batch: &Batch,
    ) -> Result<Vec<Frame>, JournalError> {
        let row = self.owned(turn)?;
        row.spoke |= batch.first_token;
        if let Some(usage) = batch.usage {
            row.usage.input_tokens += usage.input_tokens;
            row.usage.output_tokens += usage.output_tokens;
            row.usage.cost += usage.cost;
        }
        let message = self.messages.entry(turn.message).or_default();
        for part in &batch.parts {
            message.parts.insert(part.sequence, part.clone());
        }
        let drafts = batch.frames.iter().cloned();
        Ok(self.frames(turn, drafts.map(|FrameDraft { kind, data }| (kind, data))))
    }

    pub(super) fn ask(
        &mut self,
        turn: &TurnRef,
        prompt: &NewPrompt,
    ) -> Result<Vec<Frame>, JournalError> {
        self.owned(turn)?;
        if let Some(row) = self.prompts.get(&prompt.id) {
            return Ok(self.two_frames(turn.session, row.asked_seq));
        }
        self.set_state(turn, TaskState::Blocked);
        let mut request = prompt.request.clone();
        request["options"] = json!(prompt.options);
        let data = json!({ "id": prompt.id, "request": request });
        let status = json!({ "status": "blocked" });
        let frames = self.frames(
            turn,
            [
                (FrameKind::PermissionRequested, data),
                (FrameKind::AgentStatusUpdated, status),
            ],
        );
        let row = PromptRow {
            turn: *turn,
            prompt: prompt.clone(),
            settled: None,
            asked_seq: frames[0].seq,
            settled_seq: 0,
            detached: false,
        };
        self.prompts.insert(prompt.id, row);
        Ok(frames)
    }

    pub(super) fn settle(
        &mut self,
        turn: &TurnRef,
        prompt: PromptId,
        settled: &Settled,
    ) -> Result<Vec<Frame>, JournalError> {
        self.owned(turn)?;
        let row = self.prompts.get(&prompt).filter(|row| row.turn == *turn);
        match row.ok_or(JournalError::Fenced)? {
            row if row.settled.is_none() => Ok(self.settle_open(turn, Some(prompt), settled)),
            row if row.settled.as_ref() == Some(settled) => {
                Ok(self.two_frames(turn.session, row.settled_seq))
            }
            _ => Err(JournalError::Fenced),
        }
    }

    pub(super) fn withdraw(
        &mut self,
        turn: &TurnRef,
        reason: &str,
    ) -> Result<Vec<Frame>, JournalError> {
        self.owned(turn)?;
        Ok(self.settle_open(turn, None, &Settled::cancelled(reason)))
    }

    pub(super) fn decided(
        &mut self,
        turn: &TurnRef,
        prompt: &NewPrompt,
        settled: &Settled,
    ) -> Result<Vec<Frame>, JournalError> {
        self.owned(turn)?;
        if let Some(row) = self.prompts.get(&prompt.id) {
            let stream = self.frames.get(&turn.session).into_iter().flatten();
            let same = stream.filter(|frame| frame.seq == row.asked_seq);
            return Ok(same.cloned().collect());
        }
        let mut request = prompt.request.clone();
        request["options"] = json!(prompt.options);
        let data = json!({
            "id": prompt.id, "request": request, "state": settled.state,
            "answer": settled.answer, "answered_by": settled.by, "reason": settled.reason,
        });
        let frames = self.frames(turn, [(FrameKind::PermissionResolved, data)]);
        let row = PromptRow {
            turn: *turn,
            prompt: prompt.clone(),
            settled: Some(settled.clone()),
            asked_seq: frames[0].seq,
            settled_seq: frames[0].seq,
            detached: false,
        };
        self.prompts.insert(prompt.id, row);
        Ok(frames)
    }

    /// Settles this open prompt of the turn, or all.
    pub(super) fn settle_open(
        &mut self,
        turn: &TurnRef,
        prompt: Option<PromptId>,
        settled: &Settled,
    ) -> Vec<Frame> {
        let open = |row: &PromptRow| row.turn == *turn && row.settled.is_none();
        let mine = |id: &PromptId| prompt.is_none_or(|wanted| wanted == *id);
        let rows = self.prompts.iter().filter(|(_, row)| open(row));
        let (settling, left): (Vec<PromptId>, Vec<PromptId>) =
            rows.map(|(id, _)| *id).partition(mine);
        if settling.is_empty() {
            return Vec::new();
        }
        let told = settling.iter().map(|id| {
            let data = json!({
                "id": id, "state": settled.state, "answer": settled.answer,
                "answered_by": settled.by, "reason": settled.reason,
            });
            (FrameKind::PermissionResolved, data)
        });
        let status = if left.is_empty() {
            "working"
        } else {
            "blocked"
        };
        let status = (FrameKind::AgentStatusUpdated, json!({ "status": status }));
        let frames = self.frames(turn, told.chain([status]).collect::<Vec<_>>());
        for (id, frame) in settling.iter().zip(&frames) {
            if let Some(row) = self.prompts.get_mut(id) {
                row.settled = Some(settled.clone());
                row.settled_seq = frame.seq;
            }
        }
        if left.is_empty() {
            self.set_state(turn, TaskState::Running);
        }
        frames
    }

    fn set_state(&mut self, turn: &TurnRef, state: TaskState) {
        let task = self.tasks.get_mut(&turn.fence.task);
        if let Some(task) =
            task.filter(|task| matches!(task.state, TaskState::Running | TaskState::Blocked))
        {
            task.state = state;
        }
    }

    fn two_frames(&self, session: SessionId, first: i64) -> Vec<Frame> {
        let stream = self.frames.get(&session).into_iter().flatten();
        stream
            .filter(|frame| frame.seq == first || frame.seq == first + 1)
            .cloned()
            .collect()
    }

    pub(super) fn finish(
        &mut self,
        turn: &TurnRef,
        end: &TurnEnd,
    ) -> Result<Vec<Frame>, JournalError> {
        self.owned(turn)?;
        Ok(self.end_telling(turn, end.outcome, end.diff.as_ref(), end.taken))
    }

    pub(super) fn end(
        &mut self,
        turn: &TurnRef,
        outcome: Outcome,
        diff: Option<&Diff>,
    ) -> Vec<Frame> {
        self.end_telling(turn, outcome, diff, Some(Taken::Unknown))
    }

    fn end_telling(
        &mut self,
        turn: &TurnRef,
        outcome: Outcome,
        diff: Option<&Diff>,
        taken: Option<Taken>,
    ) -> Vec<Frame> {
        if let Some(row) = self.turns.get_mut(&turn.fence.turn) {
            row.ended = true;
            let changed = diff.into_iter().flat_map(|diff| &diff.changes);
            row.files = changed.map(|change| change.path.clone()).collect();
            row.ended_at = Some(Instant::now());
            row.outcome = Some(outcome);
        }
        self.settle_telling(turn, taken);
        let closed = Settled::cancelled(format!("the turn ended: {outcome}"));
        for row in self.prompts.values_mut().filter(|row| row.turn == *turn) {
            row.settled.get_or_insert_with(|| closed.clone());
        }
        let mut parent = None;
        if let Some(task) = self.tasks.get_mut(&turn.fence.task) {
            task.state = outcome.task_state();
            task.outcomes.push(outcome);
            parent = task.parent;
            let input = task.input.clone();
            let row = self.turns.get(&turn.fence.turn);
            let message = row.map_or(MessageId(turn.fence.task.0), |row| row.user_message);
            if !self.messages.contains_key(&message) {
                self.write_user_message(message, &input);
            }
        }
        if let Some(parent) = parent {
            self.tell_parent(parent, turn);
        }
        let message = self.messages.entry(turn.message).or_default();
        message.status = outcome.message_status();
        message.content = text_of(&message.parts);
        let prompted = self
            .turns
            .get(&turn.fence.turn)
            .is_some_and(|row| row.prompted);
        if (prompted || diff.is_some())
            && let Some((_, last_tree)) = self.worktrees.get_mut(&turn.session)
        {
            *last_tree = diff.map(|diff| diff.tree.clone());
        }
        let changed = diff
            .is_some_and(|diff| self.replace_changes(turn.session, Some(turn.fence.task), diff));
        let notes = diff
            .filter(|diff| diff.omitted > 0 || !diff.warnings.is_empty())
            .map(|diff| json!({ "omitted": diff.omitted, "warnings": diff.warnings }));
        let news = (changed || notes.is_some()).then(|| {
            let data = notes.unwrap_or_else(|| json!({}));
            (FrameKind::PendingChangesUpdated, data)
        });
        let state = outcome.task_state();
        let told = [
            (
                FrameKind::MessageComplete,
                json!({ "status": outcome.message_status() }),
            ),
            (
                FrameKind::TaskUpdated,
                json!({ "state": state, "outcome": outcome }),
            ),
            (FrameKind::AgentStatusUpdated, json!({ "status": "idle" })),
        ];
        self.frames(turn, told.into_iter().chain(news))
    }

    pub(super) fn live(&mut self, fence: &Fence) -> Result<&mut TurnRow, JournalError> {
        let incarnation = self.incarnation;
        self.turns
            .get_mut(&fence.turn)
            .filter(|turn| !turn.ended && turn.reference.fence == *fence)
            .filter(|turn| turn.reference.fence.incarnation == incarnation)
            .ok_or(JournalError::Fenced)
    }

    fn owned(&mut self, turn: &TurnRef) -> Result<&mut TurnRow, JournalError> {
        self.live(&turn.fence)
    }

    fn write_user_message(&mut self, id: MessageId, input: &str) {
        // What a task is asked again after it was trimmed is there again.
        self.untrim_message(id);
        let message = self.messages.entry(id).or_default();
        message.status = "complete";
        message.content = input.to_owned();
    }

    pub(super) fn frames(
        &mut self,
        turn: &TurnRef,
        drafts: impl IntoIterator<Item = (FrameKind, Value)>,
    ) -> Vec<Frame> {
        let stream = self.frames.entry(turn.session).or_default();
        let first = stream.len();
        stream.extend((first + 1..).zip(drafts).map(|(seq, (kind, data))| Frame {
            seq: i64::try_from(seq).unwrap_or(i64::MAX),
            kind,
            session_id: turn.session,
            chat_id: Some(turn.chat),
            task_id: Some(turn.fence.task),
            message_id: Some(turn.message),
            at: DateTime::UNIX_EPOCH,
            data,
        }));
        stream[first..].to_vec()
    }
}

fn text_of(parts: &BTreeMap<i32, PartWrite>) -> String {
    let texts = parts.values().filter(|part| part.kind == PartKind::Text);
    texts
        .filter_map(|part| part.payload["text"].as_str())
        .collect()
}
