//! What a policy says to an agent's request.

use crate::event::{Answer, Ask, AskKind};
use crate::model::Policy;

/// What to do with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Answer at once.
    Answer(Answer),
    /// Ask a human.
    Human,
}

/// Decides by the meaning of the options, never by their ids or order; a single
/// consent is preferred to a lasting one, because a lasting one would change
/// the agent's own settings.
#[must_use]
pub fn decide(policy: Policy, ask: &Ask) -> Decision {
    let edits = matches!(ask.tool.kind.as_deref(), Some("edit" | "delete" | "move"));
    match policy {
        Policy::AllowAll => Decision::Answer(allow(ask)),
        Policy::AllowEdits if edits => Decision::Answer(allow(ask)),
        Policy::AllowEdits | Policy::Ask => Decision::Human,
        Policy::Deny => Decision::Answer(reject(ask)),
    }
}

/// The stricter of the agent's policy and the one a task asked for, because
/// callers of the API may only tighten.
#[must_use]
pub fn tightened(agent: Policy, task: Option<Policy>) -> Policy {
    task.map_or(agent, |task| task.min(agent))
}

/// The answer that allows, else the withdrawal.
#[must_use]
pub fn allow(ask: &Ask) -> Answer {
    pick(ask, [AskKind::AllowOnce, AskKind::AllowAlways])
}

/// The answer that refuses, else the withdrawal.
#[must_use]
pub fn reject(ask: &Ask) -> Answer {
    pick(ask, [AskKind::RejectOnce, AskKind::RejectAlways])
}

fn pick(ask: &Ask, kinds: [AskKind; 2]) -> Answer {
    kinds
        .iter()
        .find_map(|kind| ask.options.iter().find(|option| option.kind == *kind))
        .map_or(Answer::Cancelled, |option| {
            Answer::Option(option.id.clone())
        })
}
