//! A turn that its model refused, and one whose budget runs out.

use std::time::Duration;

use tokio::time::Instant;

use super::{Msg, State};
use crate::event::{AgentStop, Reset, TurnRef};
use crate::ids::TurnId;
use crate::limits::{Gauge, Parked};
use crate::model::TurnEnd;
use crate::outcome::Outcome;
use crate::ports::JournalError;
use crate::rules::budget;
use crate::rules::retry::{self, Decision};
use crate::rules::session::Input;
use crate::rules::turn::Why;
use crate::tree::addr::{Task, report};
use crate::tree::pool::budgets::warn;
use crate::tree::shared::{Shared, until_written};

/// Between two looks at budgets none of which is near its end: each sums up all that
/// was spent.
const REST: Duration = Duration::from_secs(1);

/// What a session keeps of its turn's limits.
#[derive(Default)]
pub(super) struct Limited {
    /// The agent was refused before it said or did anything, and when it may be
    /// tried again.
    refused: Option<Option<Reset>>,
    /// Which budget ran out.
    spent: Option<String>,
    /// A look at the budgets is under way; true: another one is due.
    looking: Option<bool>,
    /// Looks again when time itself has used up a budget.
    clock: Option<Task>,
    /// No budget was near its end: the next look waits until then.
    rests_until: Option<Instant>,
    /// It waits for that.
    rest: Option<Task>,
}

/// A refused turn that left nothing behind.
pub(super) struct Refused {
    reset: Option<Reset>,
    jitter: f64,
}

impl State {
    pub(super) fn note_refusal(&mut self, input: &Input) {
        if let Input::AgentEnded(id, AgentStop::Refused { reset, .. }) = input
            && let Some(turn) = &mut self.turn
            && turn.reference.fence.turn == *id
        {
            turn.limited.refused = Some(*reset);
        }
    }

    /// How the turn was refused, if it could be tried again: not when its files
    /// moved, or nobody knows whether they did.
    pub(super) fn refused(&self, outcome: Outcome) -> Option<Refused> {
        let turn = self.turn.as_ref()?;
        let reset = turn.limited.refused?;
        let class = matches!(outcome, Outcome::Overload | Outcome::Quota);
        let before = &turn.checkpoint.as_ref()?.tree;
        let unmoved = turn.diff.as_ref()?.tree == *before;
        (class && unmoved).then(|| Refused {
            reset,
            jitter: self.to.shared.jitter(),
        })
    }

    /// The end's own words about a budget.
    pub(super) fn spent(&self, outcome: Outcome) -> Option<String> {
        let spent = self.turn.as_ref()?.limited.spent.clone();
        spent.filter(|_| outcome == Outcome::Budget)
    }

    /// The running turn may be bounded from here on.
    pub(super) fn budget_set(&mut self) {
        if let Some(turn) = &mut self.turn {
            turn.assignment.budgeted = true;
            turn.limited.rests_until = None;
            let id = turn.reference.fence.turn;
            self.look_at_budgets(id);
        }
    }

    /// The turn spent something, or time: looks at its budgets, once at a time.
    pub(super) fn look_at_budgets(&mut self, id: TurnId) {
        let shared = self.to.shared.clone();
        let Some(turn) = &mut self.turn else { return };
        let reference = turn.reference;
        if !turn.assignment.budgeted || reference.fence.turn != id {
            return;
        }
        if let Some(again) = &mut turn.limited.looking {
            *again = true;
            return;
        }
        let rest = turn
            .limited
            .rests_until
            .map(|until| until.duration_since(Instant::now()));
        if let Some(left) = rest.filter(|left| !left.is_zero()) {
            let wait = || self.me.cast_after(left, Msg::Spent(id));
            turn.limited.rest.get_or_insert_with(wait);
            return;
        }
        turn.limited.rest = None;
        turn.limited.looking = Some(false);
        let work = async move {
            let gauges = until_written(|| shared.ports.limits.gauges(&reference)).await;
            if let Ok(gauges) = &gauges {
                warn(&shared, &reference, gauges).await;
            }
            Msg::Weighed(id, gauges.map_err(|error| error.to_string()))
        };
        turn.tasks.retain(|task| !task.is_finished());
        turn.tasks.push(report(&self.me, work, move |why| {
            Msg::Weighed(id, Err(why))
        }));
    }

    pub(super) async fn weighed(&mut self, id: TurnId, gauges: Result<Vec<Gauge>, String>) {
        let me = self.me.clone();
        let turn = self.turn.as_mut();
        let Some(turn) = turn.filter(|turn| turn.reference.fence.turn == id) else {
            return;
        };
        let again = turn.limited.looking.take() == Some(true);
        let gauges = match gauges {
            Ok(gauges) => gauges,
            Err(error) => {
                tracing::warn!(session = %self.to.key, %error, "budgets could not be looked at");
                return;
            }
        };
        // A budget that is set later is told.
        turn.assignment.budgeted = again || !gauges.is_empty();
        let look = budget::while_running(&gauges);
        let fine = gauges
            .iter()
            .all(|gauge| gauge.level() == budget::Level::Fine);
        let rest = look.again.map_or(REST, |due| due.min(REST));
        turn.limited.rests_until = fine.then(|| Instant::now() + rest);
        turn.limited.clock = look
            .again
            .map(|wait| me.cast_after(wait.max(Duration::from_millis(10)), Msg::Spent(id)));
        if look.stop.is_some() && turn.limited.spent.is_none() {
            turn.limited.spent = look.stop;
            self.withdraw_prompts("a budget is used up");
            self.step(Input::Cancel(id, Why::Budget)).await;
        } else if again {
            self.look_at_budgets(id);
        }
    }
}

/// Ends a refused turn as parked, if the rule wants it so. None: it was ended, or
/// is not ours. Else the end that is to be written.
pub(super) async fn park(
    shared: &Shared,
    turn: &TurnRef,
    refused: &Refused,
    mut end: TurnEnd,
) -> Result<Option<TurnEnd>, JournalError> {
    let limits = &shared.ports.limits;
    let before = until_written(|| limits.refusals(turn)).await?;
    let settings = &shared.settings.retry;
    let decision = retry::decide(
        end.outcome,
        refused.reset,
        &before,
        settings,
        refused.jitter,
    );
    let parked = match decision {
        Decision::Fail(why) => {
            if let Some(why) = why {
                let told = end.detail.unwrap_or_default();
                end.detail = Some(format!("{told} ({why})"));
            }
            return Ok(Some(end));
        }
        Decision::Park(parked) => Parked {
            detail: end.detail.clone(),
            ..parked
        },
    };
    match until_written(|| limits.park(turn, &end, &parked)).await {
        Ok(frames) => {
            tracing::info!(
                task = %turn.fence.task, reason = %parked.reason, after = ?parked.after,
                "the task waits to be tried again"
            );
            shared.hub.publish(frames);
            Ok(None)
        }
        // The end it would have had without anybody's wish to try again.
        Err(JournalError::Cancelled) => Ok(Some(TurnEnd {
            outcome: Outcome::Cancelled,
            ..end
        })),
        Err(error) => Err(error),
    }
}

/// What a turn spent last may be enough for a warning.
pub(super) async fn warn_of(shared: &Shared, turn: &TurnRef) {
    if let Ok(gauges) = shared.ports.limits.gauges(turn).await {
        warn(shared, turn, &gauges).await;
    }
}
