//! What follows when a model refuses a prompt.
//!
//! | class | decision |
//! |---|---|
//! | overload | again after seconds: a wait that doubles, with jitter, no shorter than the provider asks for |
//! | quota, its reset known | parked until then |
//! | quota without one, auth, bad request, anything else | the task fails |
//! | crash | the task fails; the key's back-off is [`restart`](super::restart)'s |
//!
//! A prompt is sent again only when the agent had said and done nothing before it
//! was refused and no file had changed: such a turn has no effect that a second
//! one could repeat. How often is counted in the database, for each task and for
//! each agent, so that neither a restart nor many tasks make a storm.

use std::time::Duration;

use crate::event::Reset;
use crate::limits::{ParkReason, Parked, Refusals};
use crate::outcome::Outcome;

/// How often and how far refused prompts are put off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Turns of one task in all; 1 never tries again.
    pub attempts: u32,
    /// Refused turns of one agent within an hour, after which its tasks fail.
    pub per_hour: u32,
    /// Wait after the first refusal of a task; doubles with each.
    pub first: Duration,
    /// Longest such wait.
    pub longest: Duration,
    /// A reset that is further away than this is not waited for.
    pub furthest: Duration,
}

impl Default for Limits {
    /// 5 turns a task, 60 refusals an agent and hour; 2 s doubling to 5 min; 8
    /// days, as the longest known quotas are weekly.
    fn default() -> Self {
        Self {
            attempts: 5,
            per_hour: 60,
            first: Duration::from_secs(2),
            longest: Duration::from_secs(5 * 60),
            furthest: Duration::from_secs(8 * 24 * 60 * 60),
        }
    }
}

/// What becomes of the task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It waits, to be prompted again.
    Park(Parked),
    /// It fails; why it is not tried again, where somebody could wonder.
    Fail(Option<String>),
}

/// Longest that resets are spread over, so that not all tasks wake at once.
const SPREAD: Duration = Duration::from_secs(60);
/// Providers' clocks differ by a hair.
const MARGIN: Duration = Duration::from_secs(1);

/// Decides about a turn that ended with `outcome` before the agent said or did
/// anything. `reset` is when the provider promises to answer again; `jitter` in
/// `0.0..=1.0` spreads the waits.
#[must_use]
pub fn decide(
    outcome: Outcome,
    reset: Option<Reset>,
    before: &Refusals,
    limits: &Limits,
    jitter: f64,
) -> Decision {
    let jitter = jitter.clamp(0.0, 1.0);
    let promised = reset.map(|reset| reset.wait_from(before.now));
    let (reason, after) = match (outcome, promised) {
        (Outcome::Overload, promised) => {
            let own = back_off(before.of_task, limits, jitter);
            let wait = promised.map_or(own, |promised| own.max(spread(promised, jitter)));
            (ParkReason::Overload, wait)
        }
        (Outcome::Quota, Some(promised)) => (ParkReason::Quota, spread(promised, jitter)),
        (Outcome::Quota, None) => {
            let why = "nobody says when the quota is reset";
            return Decision::Fail(Some(why.into()));
        }
        _ => return Decision::Fail(None),
    };
    let turns = before.of_task.saturating_add(1);
    if turns >= limits.attempts {
        let tried = (turns > 1)
            .then(|| format!("refused {turns} times, which is the limit (HEARTH_RETRY_ATTEMPTS)"));
        return Decision::Fail(tried);
    }
    if before.in_last_hour >= limits.per_hour {
        return Decision::Fail(Some(format!(
            "this agent's prompts were refused {} times within an hour, which is the limit (HEARTH_RETRY_PER_HOUR)",
            before.in_last_hour
        )));
    }
    if after > limits.furthest {
        return Decision::Fail(Some(format!(
            "it would have to wait for more than {} days",
            limits.furthest.as_secs() / 86_400
        )));
    }
    Decision::Park(Parked::until(reason, after))
}

/// The upper half of a wait that doubles.
fn back_off(refusals: u32, limits: &Limits, jitter: f64) -> Duration {
    let factor = 1u32.checked_shl(refusals).unwrap_or(u32::MAX);
    let full = limits.first.saturating_mul(factor).min(limits.longest);
    full.mul_f64(0.5 + 0.5 * jitter)
}

/// A little after what was promised: a twentieth more at most.
fn spread(promised: Duration, jitter: f64) -> Duration {
    let most = (promised / 20).min(SPREAD);
    promised + MARGIN + most.mul_f64(jitter)
}
