//! Refusals, parking and budgets, counted from rows.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use hearth_actors::event::{Frame, TurnRef};
use hearth_actors::ids::AgentName;
use hearth_actors::limits::{Budget, BudgetSettings, Gauge, Measure, Parked, Refusals, Scope};
use hearth_actors::model::TurnEnd;
use hearth_actors::ports::{JournalError, Limits};
use serde_json::json;
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use super::Store;
use super::error::{is_in_doubt, journal_error};
use super::frames::{FrameRow, in_order};
use super::journal::fenced;
use super::text::{clean, json as text_of};

const PARK: &str = include_str!("sql/park.sql");
const GAUGES: &str = include_str!("sql/gauges.sql");
const WARN: &str = include_str!("sql/warn.sql");
const REFUSALS: &str = "\
    select
        (select count(*) from hearth.turns u
            where u.task_id = t.task_id and u.outcome in ('overload', 'quota')) as of_task,
        (select count(*) from hearth.turns u
            where u.outcome in ('overload', 'quota') and u.ended_at > now() - interval '1 hour' and u.agent = t.agent) as in_last_hour,
        clock_timestamp() as now
    from hearth.turns t where t.id = $1";
const ANSWERS: &str = "\
    delete from hearth.agent_rests
    where node = $1 and agent = $2 and until <= clock_timestamp()";
const CANCELLED: &str = "\
    select exists (select 1 from hearth.turns t join tasks k on k.id = t.task_id
        where t.id = $1 and t.attempt = $2 and t.node = $3 and t.incarnation = $4
            and t.ended_at is null
            and (t.cancel_requested_at is not null or k.state not in ('running', 'blocked')))";

#[async_trait]
impl Limits for Store {
    async fn refusals(&self, turn: &TurnRef) -> Result<Refusals, JournalError> {
        let row: Option<(i64, i64, DateTime<Utc>)> = sqlx::query_as(REFUSALS)
            .bind(turn.fence.turn.0)
            .fetch_optional(&self.pool)
            .await
            .map_err(journal_error)?;
        let (of_task, in_last_hour, now) = row.ok_or(JournalError::Fenced)?;
        let count = |many: i64| u32::try_from(many).unwrap_or(u32::MAX);
        Ok(Refusals {
            of_task: count(of_task),
            in_last_hour: count(in_last_hour),
            now,
        })
    }

    async fn park(
        &self,
        turn: &TurnRef,
        end: &TurnEnd,
        parked: &Parked,
    ) -> Result<Vec<Frame>, JournalError> {
        let write = Uuid::now_v7();
        let answer: sqlx::Result<Vec<FrameRow>> = fenced(PARK, &turn.fence)
            .bind(turn.session.0)
            .bind(turn.chat.0)
            .bind(end.outcome.as_str())
            .bind(end.detail.as_deref().map(clean))
            .bind(parked.reason.as_str())
            .bind(millis(parked.after))
            .bind(parked.open_ended)
            .bind(end.diff.as_ref().map(|diff| diff.tree.as_str()))
            .bind(write)
            .bind(end.outcome.message_status())
            .fetch_all(&self.journal)
            .await;
        match answer {
            Ok(rows) if !rows.is_empty() => return Ok(in_order(rows)),
            Err(lost) if is_in_doubt(&lost) => {
                self.endings.remember(turn, write);
                return match self.endings.recall(&self.journal, turn).await {
                    Ok(frames) if !frames.is_empty() => Ok(frames),
                    _ => Err(journal_error(lost)),
                };
            }
            answered => drop(answered.map_err(journal_error)?),
        }
        // A repeat whose first answer was lost, a cancel, or an old fence.
        let frames = self.endings.recall(&self.journal, turn).await?;
        if !frames.is_empty() {
            return Ok(frames);
        }
        let (cancelled,): (bool,) = fenced(CANCELLED, &turn.fence)
            .fetch_one(&self.journal)
            .await
            .map_err(journal_error)?;
        Err(if cancelled {
            JournalError::Cancelled
        } else {
            JournalError::Fenced
        })
    }

    async fn answers(&self, agent: &AgentName) -> Result<(), JournalError> {
        sqlx::query(ANSWERS)
            .bind(self.node.0)
            .bind(agent.as_str())
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(journal_error)
    }

    async fn gauges(&self, turn: &TurnRef) -> Result<Vec<Gauge>, JournalError> {
        let settings = &self.budgets;
        let rows: Vec<Spent> = sqlx::query_as(GAUGES)
            .bind(turn.fence.turn.0)
            .bind(!settings.task.is_empty())
            .bind(!settings.session.is_empty())
            .bind(!settings.day.is_empty())
            .fetch_all(&self.pool)
            .await
            .map_err(journal_error)?;
        Ok(rows.iter().flat_map(|row| row.gauges(settings)).collect())
    }

    async fn warn(&self, turn: &TurnRef, gauge: &Gauge) -> Result<Vec<Frame>, JournalError> {
        let title = match gauge.scope {
            Scope::Day => "much of today's budget is used",
            Scope::Session => "much of a session's budget is used",
            Scope::Task => "much of a task's budget is used",
        };
        let (limit, resets) = (gauge.limit, gauge.resets_in.map(millis));
        let subject = format!(
            "{}:{}:{}:{limit}",
            gauge.scope, gauge.subject, gauge.measure
        );
        let data = json!({
            "scope": gauge.scope, "subject": gauge.subject, "measure": gauge.measure,
            "used": gauge.used, "limit": limit, "level": gauge.level().as_str(),
            "resets_in_ms": resets,
        });
        let rows: Vec<FrameRow> = sqlx::query_as(WARN)
            .bind(turn.fence.turn.0)
            .bind(title)
            .bind(gauge.text())
            .bind(resets)
            .bind(subject)
            .bind(text_of(&data))
            .fetch_all(&self.pool)
            .await
            .map_err(journal_error)?;
        Ok(in_order(rows))
    }
}

/// What was spent of something that may be bounded.
#[derive(Debug, FromRow)]
pub(super) struct Spent {
    scope: String,
    subject: String,
    /// Its own, tighter than the settings' or instead of them.
    budget: Option<Json<Budget>>,
    tokens: i64,
    cost: f64,
    wall_ms: i64,
    turns: i64,
    resets_in_ms: Option<i64>,
}

impl Spent {
    /// One for each limit that applies.
    pub(super) fn gauges(&self, settings: &BudgetSettings) -> Vec<Gauge> {
        let Some(scope) = Scope::parse(&self.scope) else {
            return Vec::new();
        };
        let own = self.budget.as_ref().map(|budget| budget.0);
        let budget = settings.of(scope).tightened(&own.unwrap_or_default());
        let resets = self.resets_in_ms.and_then(|ms| u64::try_from(ms).ok());
        budget
            .limits()
            .map(|(measure, limit)| Gauge {
                scope,
                subject: self.subject.clone(),
                measure,
                used: self.used(measure),
                limit,
                resets_in: resets.map(Duration::from_millis),
            })
            .collect()
    }

    /// Above 2^53 it is not exact, and far above every limit.
    fn used(&self, measure: Measure) -> f64 {
        match measure {
            Measure::Tokens => self.tokens as f64,
            Measure::Cost => self.cost,
            Measure::WallMs => self.wall_ms as f64,
            Measure::Turns => self.turns as f64,
        }
    }
}

pub(super) fn millis(wait: Duration) -> i64 {
    i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)
}
