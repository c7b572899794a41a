//! Budgets, refusals and parking on the rows.

use std::time::Duration;

use async_trait::async_trait;
use chrono::DateTime;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::MemoryStore;
use super::rows::Rows;
use crate::event::{Frame, FrameKind, TurnRef};
use crate::handover::Taken;
use crate::ids::{AgentName, TaskId};
use crate::limits::{Budget, Gauge, Measure, Parked, Refusals, Scope};
use crate::model::TurnEnd;
use crate::outcome::{Outcome, TaskState};
use crate::ports::{JournalError, Limits};

const HOUR: Duration = Duration::from_secs(3600);

#[async_trait]
impl Limits for MemoryStore {
    async fn refusals(&self, turn: &TurnRef) -> Result<Refusals, JournalError> {
        self.reach().await.map_err(JournalError::Unavailable)?;
        Ok(self.with(|rows| rows.refusals(turn)))
    }

    async fn park(
        &self,
        turn: &TurnRef,
        end: &TurnEnd,
        parked: &Parked,
    ) -> Result<Vec<Frame>, JournalError> {
        self.reach().await.map_err(JournalError::Unavailable)?;
        self.with(|rows| rows.park(turn, end, parked))
    }

    async fn answers(&self, agent: &AgentName) -> Result<(), JournalError> {
        self.reach().await.map_err(JournalError::Unavailable)?;
        self.with(|rows| {
            let over = |rest: &(Instant, Option<String>)| rest.0 <= Instant::now();
            if rows.rests.get(agent).is_some_and(over) {
                rows.rests.remove(agent);
            }
        });
        Ok(())
    }

    async fn gauges(&self, turn: &TurnRef) -> Result<Vec<Gauge>, JournalError> {
        self.reach().await.map_err(JournalError::Unavailable)?;
        Ok(self.with(|rows| {
            rows.budget_looks += 1;
            rows.gauges(turn)
        }))
    }

    async fn warn(&self, turn: &TurnRef, gauge: &Gauge) -> Result<Vec<Frame>, JournalError> {
        self.reach().await.map_err(JournalError::Unavailable)?;
        let limit = (gauge.subject.clone(), gauge.measure, gauge.limit.to_bits());
        Ok(self.with(|rows| {
            if !rows.warned.insert(limit) {
                return Vec::new();
            }
            let data = json!({
                "scope": gauge.scope, "subject": gauge.subject, "measure": gauge.measure,
                "used": gauge.used, "limit": gauge.limit, "level": gauge.level().as_str(),
            });
            rows.frames(turn, [(FrameKind::BudgetUpdated, data)])
        }))
    }
}

/// What the frame tells of it.
pub(super) fn told(parked: &Parked) -> Value {
    let until = DateTime::UNIX_EPOCH + parked.after;
    json!({
        "reason": parked.reason,
        "until": (!parked.open_ended).then_some(until),
        "detail": parked.detail,
    })
}

impl Rows {
    fn refusals(&self, turn: &TurnRef) -> Refusals {
        let refused = |outcome| matches!(outcome, Some(Outcome::Overload | Outcome::Quota));
        let turns = || self.turns.values().filter(|row| refused(row.outcome));
        let of_task = turns().filter(|row| row.reference.fence.task == turn.fence.task);
        let agent = self.tasks.get(&turn.fence.task).map(|row| &row.key.agent);
        let recent = turns().filter(|row| {
            let own = self.tasks.get(&row.reference.fence.task);
            own.map(|row| &row.key.agent) == agent
                && row.ended_at.is_some_and(|at| at.elapsed() < HOUR)
        });
        let count = |many: usize| u32::try_from(many).unwrap_or(u32::MAX);
        Refusals {
            of_task: count(of_task.count()),
            in_last_hour: count(recent.count()),
            now: DateTime::UNIX_EPOCH,
        }
    }

    fn park(
        &mut self,
        turn: &TurnRef,
        end: &TurnEnd,
        parked: &Parked,
    ) -> Result<Vec<Frame>, JournalError> {
        let row = self.live(&turn.fence)?;
        if row.cancelled {
            return Err(JournalError::Cancelled);
        }
        row.ended = true;
        row.ended_at = Some(Instant::now());
        row.outcome = Some(end.outcome);
        self.settle_telling(turn, Some(Taken::Yes));
        if let Some(task) = self.tasks.get_mut(&turn.fence.task) {
            task.state = TaskState::Pending;
            task.not_before = Some(Instant::now() + parked.after);
            task.parked = Some(parked.clone());
        }
        if end.outcome == Outcome::Quota
            && !parked.open_ended
            && let Some(task) = self.tasks.get(&turn.fence.task)
        {
            let until = Instant::now() + parked.after;
            let rest = (until, end.detail.clone());
            self.rests.insert(task.key.agent.clone(), rest);
        }
        let message = self.messages.entry(turn.message).or_default();
        message.status = end.outcome.message_status();
        let state = json!({ "state": "pending", "parked": told(parked) });
        Ok(self.frames(
            turn,
            [
                (FrameKind::MessageComplete, json!({ "status": "failed" })),
                (FrameKind::TaskUpdated, state),
                (FrameKind::AgentStatusUpdated, json!({ "status": "idle" })),
            ],
        ))
    }

    fn gauges(&self, turn: &TurnRef) -> Vec<Gauge> {
        let task = turn.fence.task;
        let of_task = self.tasks.get(&task).and_then(|row| row.budget);
        let of_session = self.budgets.get(&turn.session).copied();
        let mut gauges = Vec::new();
        for (scope, subject, budget) in [
            (Scope::Task, task.to_string(), of_task),
            (Scope::Session, turn.session.to_string(), of_session),
        ] {
            for (measure, limit) in budget.iter().flat_map(Budget::limits) {
                gauges.push(Gauge {
                    scope,
                    subject: subject.clone(),
                    measure,
                    used: self.used(scope, turn, task, measure),
                    limit,
                    resets_in: None,
                });
            }
        }
        gauges
    }

    fn used(&self, scope: Scope, turn: &TurnRef, task: TaskId, measure: Measure) -> f64 {
        let turns = self.turns.values().filter(|row| match scope {
            Scope::Task => row.reference.fence.task == task,
            Scope::Session | Scope::Day => row.reference.session == turn.session,
        });
        turns
            .map(|row| match measure {
                Measure::Tokens => (row.usage.input_tokens + row.usage.output_tokens) as f64,
                Measure::Cost => row.usage.cost,
                Measure::Turns => f64::from(u8::from(row.prompted)),
                Measure::WallMs => row.prompted_at.map_or(0.0, |since| {
                    let until = row.ended_at.unwrap_or_else(Instant::now);
                    (until - since).as_secs_f64() * 1e3
                }),
            })
            .sum()
    }
}
