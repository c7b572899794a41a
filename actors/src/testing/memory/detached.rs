//! Tasks that wait for answers without a turn.

use serde_json::{Value, json};

use super::rows::{PromptRow, Rows};
use crate::event::{Frame, FrameKind, TurnRef};
use crate::handover::Taken;
use crate::ids::{PromptId, TaskId};
use crate::outcome::{Outcome, TaskState};
use crate::ports::JournalError;
use crate::prompt::{Given, PromptState, Settled};
use crate::rules::going_on;

impl Rows {
    pub(super) fn detach(
        &mut self,
        turn: &TurnRef,
        unheard: &[PromptId],
    ) -> Result<Vec<Frame>, JournalError> {
        // Who is not the owner writes nothing, as any other call would tell.
        if self.live(&turn.fence).is_err() {
            return Ok(Vec::new());
        }
        Ok(self.detach_turn(turn, unheard))
    }

    /// No frames, and nothing done, where nothing is open or unheard, nothing can be
    /// resumed, or a cancel came first.
    pub(super) fn detach_turn(&mut self, turn: &TurnRef, unheard: &[PromptId]) -> Vec<Frame> {
        let task = &self.tasks[&turn.fence.task];
        let can_resume = task.origin.own_chat && !task.origin.child && !task.origin.contestant;
        let context = self.contexts.get(&task.key);
        let forgotten = context.is_some_and(|context| context.forgotten.is_some());
        let can_resume = can_resume && !forgotten && self.links.contains_key(&task.key);
        let of_turn = |row: &PromptRow| row.turn == *turn;
        let mut prompts = self.prompts.iter();
        let open = prompts.any(|(id, row)| {
            let settled = row.settled.as_ref();
            let is_unheard = settled.is_some_and(answered) && unheard.contains(id);
            of_turn(row) && (settled.is_none() || is_unheard)
        });
        let Some(row) = self.turns.get_mut(&turn.fence.turn) else {
            return Vec::new();
        };
        if !open || !can_resume || row.cancelled || !row.prompted {
            return Vec::new();
        }
        row.ended = true;
        row.detached = true;
        for (id, row) in &mut self.prompts {
            row.detached |= of_turn(row) && (row.settled.is_none() || unheard.contains(id));
        }
        self.settle_telling(turn, Some(Taken::Yes));
        if let Some(task) = self.tasks.get_mut(&turn.fence.task) {
            task.detached = true;
            task.state = TaskState::Blocked;
        }
        let status = Outcome::Interrupted.message_status();
        self.messages.entry(turn.message).or_default().status = status;
        if let Some((_, last_tree)) = self.worktrees.get_mut(&turn.session) {
            *last_tree = None;
        }
        let mut told = vec![
            (FrameKind::MessageComplete, json!({ "status": status })),
            (FrameKind::TaskUpdated, json!({ "state": "blocked" })),
            (
                FrameKind::AgentStatusUpdated,
                json!({ "status": "blocked" }),
            ),
        ];
        told.extend(self.go_on_if_answered(turn));
        self.frames(turn, told)
    }

    /// Behind the last answer the task waits for its next turn.
    fn go_on_if_answered(&mut self, turn: &TurnRef) -> Option<(FrameKind, Value)> {
        let mut asked = self.prompts.values();
        if asked.any(|row| row.turn == *turn && row.settled.is_none()) {
            return None;
        }
        let given = self.given(turn);
        if let Some(task) = self.tasks.get_mut(&turn.fence.task) {
            task.detached = false;
            task.state = TaskState::Pending;
            task.goes_on = Some((going_on::message(&task.input, &given), given));
        }
        Some((FrameKind::TaskUpdated, json!({ "state": "pending" })))
    }

    /// The last answer lets the task go on.
    pub(super) fn answer_detached(&mut self, prompt: PromptId, settled: &Settled) -> Vec<Frame> {
        let Some(turn) = self.detached_turn_of(prompt) else {
            return Vec::new();
        };
        if let Some(row) = self.prompts.get_mut(&prompt) {
            row.settled = Some(settled.clone());
        }
        let data = json!({
            "id": prompt, "state": settled.state, "answer": settled.answer,
            "answered_by": settled.by, "reason": settled.reason,
        });
        let mut told = vec![(FrameKind::PermissionResolved, data)];
        told.extend(self.go_on_if_answered(&turn));
        self.frames(&turn, told)
    }

    /// The task was cancelled.
    pub(super) fn withdraw_detached(&mut self, task: TaskId) {
        let withdrawn = Settled::cancelled("the task was cancelled");
        for row in self.prompts.values_mut() {
            if row.turn.fence.task == task {
                row.settled.get_or_insert_with(|| withdrawn.clone());
            }
        }
    }

    fn detached_turn_of(&self, prompt: PromptId) -> Option<TurnRef> {
        let row = self.prompts.get(&prompt)?;
        let waits = self.tasks[&row.turn.fence.task].detached;
        (waits && row.settled.is_none()).then_some(row.turn)
    }

    fn given(&self, turn: &TurnRef) -> Vec<Given> {
        let mut asked: Vec<_> = self.prompts.values().collect();
        asked.retain(|row| row.turn == *turn && row.detached);
        let asked = asked.into_iter();
        let settled = asked.filter_map(|row| {
            let settled = row.settled.as_ref()?;
            Some(Given {
                request: row.prompt.request.clone(),
                answer: settled.answer.clone(),
            })
        });
        settled.collect()
    }
}

/// By a person, a policy or a deadline, and not withdrawn.
fn answered(settled: &Settled) -> bool {
    settled.state != PromptState::Cancelled
}
