//! Budgets, and what is used of them.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One limit, and what is used of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BudgetUse {
    /// `day`, `session` or `task`.
    pub scope: String,
    /// The session's or task's id, or the day of UTC as `YYYY-MM-DD`.
    pub subject: String,
    /// `tokens`, `cost` (US dollars), `wall_ms` or `turns`.
    pub measure: String,
    /// So much is used, as far as agents reported it.
    pub used: f64,
    /// So much there is.
    pub limit: f64,
    /// What is left.
    pub left: f64,
    /// `ok`, `warning` from 80 % on, or `exhausted`.
    pub level: String,
    /// When it counts from nothing again; never if null.
    pub resets_at: Option<DateTime<Utc>>,
}

impl BudgetUse {
    pub(crate) fn of(gauge: &hearth_actors::limits::Gauge, now: DateTime<Utc>) -> Self {
        let resets = gauge
            .resets_in
            .and_then(|wait| TimeDelta::from_std(wait).ok());
        Self {
            scope: gauge.scope.to_string(),
            subject: gauge.subject.clone(),
            measure: gauge.measure.to_string(),
            used: gauge.used,
            limit: gauge.limit,
            left: gauge.left(),
            level: gauge.level().as_str().to_owned(),
            resets_at: resets.map(|wait| now + wait),
        }
    }
}
