//! What may be spent, and how often refused prompts are tried again.

use hearth_actors::limits::{Budget, BudgetSettings};
use hearth_actors::rules::retry;

use super::source::{self, Sources};

/// More of anything is no limit.
const MOST: u64 = 1_000_000_000_000_000;

pub(super) fn budgets(from: &mut Sources<'_>) -> BudgetSettings {
    BudgetSettings {
        day: Budget {
            tokens: whole(from, "budget.day.tokens", "HEARTH_BUDGET_DAY_TOKENS", MOST),
            cost: from.get("budget.day.cost", "HEARTH_BUDGET_DAY_COST", source::amount),
            ..Budget::default()
        },
        session: Budget {
            tokens: whole(
                from,
                "budget.session.tokens",
                "HEARTH_BUDGET_SESSION_TOKENS",
                MOST,
            ),
            cost: from.get(
                "budget.session.cost",
                "HEARTH_BUDGET_SESSION_COST",
                source::amount,
            ),
            ..Budget::default()
        },
        task: Budget {
            tokens: whole(
                from,
                "budget.task.tokens",
                "HEARTH_BUDGET_TASK_TOKENS",
                MOST,
            ),
            cost: from.get(
                "budget.task.cost",
                "HEARTH_BUDGET_TASK_COST",
                source::amount,
            ),
            wall_ms: whole(
                from,
                "budget.task.wall_ms",
                "HEARTH_BUDGET_TASK_WALL_MS",
                MOST,
            ),
            turns: whole(
                from,
                "budget.task.turns",
                "HEARTH_BUDGET_TASK_TURNS",
                1_000_000,
            ),
        },
    }
}

fn whole(from: &mut Sources<'_>, key: &'static str, var: &str, most: u64) -> Option<i64> {
    let number = from.get(key, var, source::number(1, most))?;
    i64::try_from(number).ok()
}

pub(super) fn retry(from: &mut Sources<'_>) -> retry::Limits {
    let mut limits = retry::Limits::default();
    let mut count = |key, var, low, high, limit: &mut u32| {
        let number = from.get(key, var, source::number(low, high));
        if let Some(number) = number.and_then(|number| u32::try_from(number).ok()) {
            *limit = number;
        }
    };
    count(
        "retry.attempts",
        "HEARTH_RETRY_ATTEMPTS",
        1,
        100,
        &mut limits.attempts,
    );
    count(
        "retry.per_hour",
        "HEARTH_RETRY_PER_HOUR",
        0,
        100_000,
        &mut limits.per_hour,
    );
    limits
}
