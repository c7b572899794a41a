//! What may be spent, and how often refused prompts are tried again.

use hearth_actors::limits::{Budget, BudgetSettings};
use hearth_actors::rules::retry;

use super::source::{self, Sources};

/// More of anything is no limit.
const MOST: u64 = 1_000_000_000_000_000;

macro_rules! budget {
    ($from:ident, $scope:literal, $var:literal, $($measure:ident),+) => {
        Budget {
            $($measure: measure::$measure(
                $from,
                concat!("budget.", $scope, ".", stringify!($measure)),
                concat!("HEARTH_BUDGET_", $var),
            ),)+
            ..Budget::default()
        }
    };
}

/// How each limit is read; a variable's name ends with the measure.
mod measure {
    use super::{MOST, Sources, source};

    pub(super) fn tokens(from: &mut Sources<'_>, key: &'static str, var: &str) -> Option<i64> {
        whole(from, key, &format!("{var}_TOKENS"), MOST)
    }

    pub(super) fn cost(from: &mut Sources<'_>, key: &'static str, var: &str) -> Option<f64> {
        from.get(key, &format!("{var}_COST"), source::amount)
    }

    pub(super) fn wall_ms(from: &mut Sources<'_>, key: &'static str, var: &str) -> Option<i64> {
        whole(from, key, &format!("{var}_WALL_MS"), MOST)
    }

    pub(super) fn turns(from: &mut Sources<'_>, key: &'static str, var: &str) -> Option<i64> {
        whole(from, key, &format!("{var}_TURNS"), 1_000_000)
    }

    fn whole(from: &mut Sources<'_>, key: &'static str, var: &str, most: u64) -> Option<i64> {
        let number = from.get(key, var, source::number(1, most))?;
        i64::try_from(number).ok()
    }
}

pub(super) fn budgets(from: &mut Sources<'_>) -> BudgetSettings {
    BudgetSettings {
        day: budget!(from, "day", "DAY", tokens, cost),
        session: budget!(from, "session", "SESSION", tokens, cost),
        task: budget!(from, "task", "TASK", tokens, cost, wall_ms, turns),
    }
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
