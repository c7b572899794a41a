//! Sums of tokens and money over turns.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgPool};
use utoipa::ToSchema;

/// What is summed up together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Grouping {
    /// A project each.
    Project,
    /// An agent each.
    Agent,
    /// A day of UTC each.
    Day,
}

/// The sums of one group.
#[derive(Clone, Debug, PartialEq, FromRow, Serialize, Deserialize, ToSchema)]
pub struct Cost {
    /// The project's id, the agent's name or the day as `YYYY-MM-DD`.
    pub key: String,
    /// The same for people: a project's name.
    pub label: String,
    /// Tokens in, cache included.
    pub input_tokens: i64,
    /// Tokens out, reasoning included.
    pub output_tokens: i64,
    /// US dollars, as far as agents report them.
    pub cost: f64,
    /// Turns that were claimed; repeated attempts count each.
    pub turns: i64,
    /// Tasks they belong to.
    pub tasks: i64,
}

/// Which turns are summed up, and which groups are wanted.
#[derive(Clone, Debug)]
pub struct Query {
    /// What is summed up together.
    pub by: Grouping,
    /// Claimed at that time or later.
    pub from: Option<DateTime<Utc>>,
    /// Claimed before.
    pub to: Option<DateTime<Utc>>,
    /// Groups behind this key.
    pub after: Option<String>,
    /// Groups at most.
    pub limit: i64,
}

/// The groups in the order of their keys. A turn belongs to the time at which it
/// was claimed, and counts while it runs.
///
/// # Errors
/// The database's.
pub async fn costs(pool: &PgPool, query: &Query) -> sqlx::Result<Vec<Cost>> {
    let (key, label) = match query.by {
        Grouping::Project => ("k.project_id::text", "coalesce(max(p.name), '')"),
        Grouping::Agent => ("t.agent", "t.agent"),
        Grouping::Day => (
            "to_char(t.claimed_at at time zone 'UTC', 'YYYY-MM-DD')",
            "to_char(t.claimed_at at time zone 'UTC', 'YYYY-MM-DD')",
        ),
    };
    // Every part is one of the constants above.
    let text = format!(
        "select {key} as key, {label} as label,
            sum(t.input_tokens)::bigint as input_tokens,
            sum(t.output_tokens)::bigint as output_tokens,
            sum(t.cost) as cost, count(*) as turns, count(distinct t.task_id) as tasks
         from hearth.turns t
         join tasks k on k.id = t.task_id
         left join projects p on p.id = k.project_id
         where ($1::timestamptz is null or t.claimed_at >= $1)
            and ($2::timestamptz is null or t.claimed_at < $2)
            and ($3::text is null or {key} collate \"C\" > $3)
         group by {key}
         order by {key} collate \"C\" limit $4"
    );
    sqlx::query_as(sqlx::AssertSqlSafe(text))
        .bind(query.from)
        .bind(query.to)
        .bind(query.after.as_deref())
        .bind(query.limit)
        .fetch_all(pool)
        .await
}
