//! What a budget allows: whether a turn may start, go on, and who is warned.

use std::time::Duration;

use crate::limits::{Budget, BudgetSettings, Gauge, Measure, ParkReason, Parked, Scope};

/// People are warned, once a limit, when this part of it is used.
pub const WARN_AT: f64 = 0.8;

/// A task whose session has used up its budget is looked at again after this
/// long at the latest, although only a person can raise the budget.
pub const LOOK_AGAIN: Duration = Duration::from_secs(24 * 60 * 60);

/// How much of a limit is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Less than [`WARN_AT`].
    Fine,
    /// That much and more.
    Warning,
    /// All of it.
    Exhausted,
}

impl Level {
    /// One word for people and programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Warning => "warning",
            Self::Exhausted => "exhausted",
        }
    }
}

/// Whether a turn may be prompted.
#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    /// It may.
    Go,
    /// Its task waits.
    Wait(Parked),
    /// Its task ends: nothing can raise what it may spend.
    Never(String),
}

/// What a running turn's budgets ask for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Look {
    /// The turn is to be ended, because of this.
    pub stop: Option<String>,
    /// When to look again without any news, because time itself is counted.
    pub again: Option<Duration>,
}

impl Budget {
    /// Every limit, with what it counts.
    pub fn limits(&self) -> impl Iterator<Item = (Measure, f64)> {
        // Limits of 2^53 and more are no limits.
        let whole = |number: Option<i64>| number.map(|number| number as f64);
        [
            (Measure::Tokens, whole(self.tokens)),
            (Measure::Cost, self.cost),
            (Measure::WallMs, whole(self.wall_ms)),
            (Measure::Turns, whole(self.turns)),
        ]
        .into_iter()
        .filter_map(|(measure, limit)| Some((measure, limit?)))
    }

    /// It limits nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.limits().next().is_none()
    }

    /// The tighter of both, limit by limit.
    #[must_use]
    pub fn tightened(&self, other: &Self) -> Self {
        fn least<T: PartialOrd>(a: Option<T>, b: Option<T>) -> Option<T> {
            match (a, b) {
                (Some(a), Some(b)) => Some(if b < a { b } else { a }),
                (a, b) => a.or(b),
            }
        }
        Self {
            tokens: least(self.tokens, other.tokens),
            cost: least(self.cost, other.cost),
            wall_ms: least(self.wall_ms, other.wall_ms),
            turns: least(self.turns, other.turns),
        }
    }

    /// The first limit that is above that of `bound`, with the bound.
    #[must_use]
    pub fn looser_than(&self, bound: &Self) -> Option<(Measure, f64)> {
        let bounds: Vec<_> = bound.limits().collect();
        self.limits().find_map(|(measure, limit)| {
            let (_, bound) = bounds.iter().find(|(of, _)| *of == measure)?;
            (limit > *bound).then_some((measure, *bound))
        })
    }
}

impl BudgetSettings {
    /// Of that scope.
    #[must_use]
    pub fn of(&self, scope: Scope) -> &Budget {
        match scope {
            Scope::Task => &self.task,
            Scope::Session => &self.session,
            Scope::Day => &self.day,
        }
    }

    /// They limit nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        Scope::ALL.iter().all(|scope| self.of(*scope).is_empty())
    }
}

impl Gauge {
    /// How much of it is used.
    #[must_use]
    pub fn level(&self) -> Level {
        if self.used >= self.limit {
            Level::Exhausted
        } else if self.used >= self.limit * WARN_AT {
            Level::Warning
        } else {
            Level::Fine
        }
    }

    /// What is left of it, never less than nothing.
    #[must_use]
    pub fn left(&self) -> f64 {
        (self.limit - self.used).max(0.0)
    }

    /// `the session's budget: 12000 of 10000 tokens are used`.
    #[must_use]
    pub fn text(&self) -> String {
        let (used, limit) = (self.used, self.limit);
        let of = match self.measure {
            Measure::Tokens => format!("{used:.0} of {limit:.0} tokens"),
            Measure::Cost => format!("{used:.4} of {limit:.4} US dollars"),
            Measure::WallMs => format!("{:.1} of {:.1} seconds", used / 1e3, limit / 1e3),
            Measure::Turns => format!("{used:.0} of {limit:.0} turns"),
        };
        format!("the {}'s budget: {of} are used", self.scope)
    }
}

/// Whether a claimed task may be prompted. What its own budget, or that of a
/// task above it, no longer allows never will; a session's may be raised, a
/// day's ends with the day.
#[must_use]
pub fn before_start(gauges: &[Gauge]) -> Start {
    let exhausted = |scope: Scope| {
        let mut of_scope = gauges.iter().filter(move |gauge| gauge.scope == scope);
        of_scope.find(|gauge| gauge.level() == Level::Exhausted)
    };
    if let Some(task) = exhausted(Scope::Task) {
        return Start::Never(format!("{}; it was not started", task.text()));
    }
    if let Some(session) = exhausted(Scope::Session) {
        let flag = match session.measure {
            Measure::Cost => "--cost DOLLARS",
            _ => "--tokens N",
        };
        let parked = Parked {
            reason: ParkReason::Budget,
            after: LOOK_AGAIN,
            open_ended: true,
            detail: Some(format!(
                "{}; raise it with `hearth budgets {} {flag}`, or cancel the task",
                session.text(),
                session.subject
            )),
        };
        return Start::Wait(parked);
    }
    match exhausted(Scope::Day) {
        Some(day) => {
            let ends = day.resets_in.unwrap_or(LOOK_AGAIN);
            let parked = Parked::until(ParkReason::Budget, ends);
            Start::Wait(parked.because(format!("{}; it goes on when the day ends", day.text())))
        }
        None => Start::Go,
    }
}

/// What a running turn's budgets say. Turns are counted when they start: the one
/// that runs was allowed to.
#[must_use]
pub fn while_running(gauges: &[Gauge]) -> Look {
    let mut counted = gauges
        .iter()
        .filter(|gauge| gauge.measure != Measure::Turns);
    let stop = counted.find(|gauge| gauge.level() == Level::Exhausted);
    let times = gauges
        .iter()
        .filter(|gauge| gauge.measure == Measure::WallMs);
    let least = times.map(Gauge::left).reduce(f64::min);
    Look {
        again: least
            .filter(|_| stop.is_none())
            .map(|ms| Duration::from_secs_f64(ms / 1e3) + Duration::from_millis(1)),
        stop: stop.map(Gauge::text),
    }
}

/// Limits of which people are to be told that little is left.
pub fn warnings(gauges: &[Gauge]) -> impl Iterator<Item = &Gauge> {
    let told = |gauge: &&Gauge| gauge.level() >= Level::Warning;
    gauges.iter().filter(told)
}
