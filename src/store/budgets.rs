//! Budgets as people set and see them.

use chrono::{DateTime, Utc};
use hearth_actors::ids::SessionId;
use hearth_actors::limits::Budget;
use sqlx::FromRow;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::limits::Spent;
use super::rows::budgets::BudgetUse;
use super::{Store, StoreError};

const BUDGETS: &str = include_str!("sql/budgets.sql");
/// What was said of the session's budget is over, and its tasks may be looked at
/// again.
const SET: &str = "\
    with gate as (
        update hearth.gates g set budget = $2
        where g.session_id = $1 and g.deleted_at is null
        returning g.session_id),
    entries as (
        update hearth.queue q set not_before = null
        from gate cross join lateral hearth.spenders(gate.session_id) s(id)
        where q.task_id = s.id and q.waiting and q.not_before is not null and q.parked_reason = 'budget'),
    told as (
        update hearth.notices n set over_at = clock_timestamp()
        from gate where n.session_id = gate.session_id and n.kind = 'budget'
            and n.subject like 'session:%' and n.over_at is null)
    select count(*) > 0 from gate";
/// Budgets of the task $1 and those above it, nearest first.
const LINE: &str = "\
    with recursive line(id, n) as (
        select $1::uuid, 1
        union all
        select t.parent_task_id, l.n + 1
        from line l join tasks t on t.id = l.id
        where t.parent_task_id is not null and l.n < 1000)
    select q.task_id, q.budget from line l join hearth.queue q on q.task_id = l.id
    where q.budget is not null order by l.n";

#[derive(FromRow)]
struct Row {
    #[sqlx(flatten)]
    spent: Spent,
    now: DateTime<Utc>,
}

impl Store {
    /// Every budget of which something can still be spent, at most `limit`
    /// sessions and tasks; of this session if one is given.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn budgets(
        &self,
        session: Option<SessionId>,
        limit: i64,
    ) -> Result<Vec<BudgetUse>, StoreError> {
        let settings = &self.budgets;
        let rows: Vec<Row> = sqlx::query_as(BUDGETS)
            .bind(session.map(|session| session.0))
            .bind(!settings.day.is_empty())
            .bind(!settings.session.is_empty())
            .bind(!settings.task.is_empty())
            .bind(limit)
            .fetch_all(&self.pool)
            .await?;
        let uses = rows.iter().flat_map(|row| {
            let gauges = row.spent.gauges(settings).into_iter();
            gauges.map(|gauge| BudgetUse::of(&gauge, row.now))
        });
        Ok(uses.collect())
    }

    /// Bounds what all turns of a session may spend, or no longer does: an empty
    /// budget leaves it to the settings. Tasks that waited for it are looked at
    /// again.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when it is looser than the settings,
    /// [`StoreError::NotFound`].
    pub async fn set_session_budget(
        &self,
        session: SessionId,
        budget: &Budget,
    ) -> Result<(), StoreError> {
        self.check_session_budget(budget)?;
        let found: bool = sqlx::query_scalar(SET)
            .bind(session.0)
            .bind((!budget.is_empty()).then_some(Json(budget)))
            .fetch_one(&self.pool)
            .await?;
        if found {
            Ok(())
        } else {
            Err(StoreError::NotFound {
                what: "session",
                id: session.to_string(),
            })
        }
    }

    /// # Errors
    /// [`StoreError::Invalid`] when it is looser than the settings.
    pub fn check_session_budget(&self, budget: &Budget) -> Result<(), StoreError> {
        within(
            budget,
            &self.budgets.session,
            "the settings allow a session",
        )
    }

    /// Refuses a task's budget that is looser than that of the settings or of a
    /// task above it.
    pub(super) async fn check_task_budget(
        &self,
        tx: &mut PgConnection,
        budget: &Budget,
        parent: Option<Uuid>,
    ) -> Result<(), StoreError> {
        within(budget, &self.budgets.task, "the settings allow a task")?;
        let Some(parent) = parent else { return Ok(()) };
        let line: Vec<(Uuid, Json<Budget>)> =
            sqlx::query_as(LINE).bind(parent).fetch_all(tx).await?;
        for (above, bound) in line {
            within(
                budget,
                &bound.0,
                &format!("task {above}, which asks for it, has"),
            )?;
        }
        Ok(())
    }
}

fn within(budget: &Budget, bound: &Budget, whose: &str) -> Result<(), StoreError> {
    match budget.looser_than(bound) {
        None => Ok(()),
        Some((measure, bound)) => Err(StoreError::Invalid {
            field: "budget",
            problem: format!("is looser than {whose}: at most {bound} {measure}"),
        }),
    }
}
