//! Agents whose provider refuses all their chats until some moment. The rows
//! remember until when; here is only who tries first when it is over, so that one
//! prompt is refused in vain and not one of each chat.

use std::time::Duration;

use super::State;
use crate::ids::AgentName;
use crate::limits::{ParkReason, Parked};
use crate::model::Assignment;
use crate::outcome::Outcome;
use crate::tree::addr::Task;
use crate::tree::shared::until_written;

/// While another task tries whether the agent answers again, the others wait this
/// long before they are claimed again.
const TRIED_BY_ANOTHER: Duration = Duration::from_secs(15);

impl State {
    /// Why the task has to wait for its agent; else it may be the one that tries.
    pub(super) fn agent_rests(&mut self, assignment: &Assignment) -> Option<Parked> {
        let rest = assignment.rests.as_ref()?;
        let agent = &assignment.key.agent;
        if !rest.left.is_zero() {
            let parked = Parked::until(ParkReason::Quota, rest.left);
            return Some(Parked {
                detail: rest.because.clone(),
                ..parked
            });
        }
        let trial = self.trying.entry(agent.clone()).or_default();
        (!trial.enter(assignment.fence.turn)).then(|| Parked {
            open_ended: true,
            ..Parked::until(ParkReason::Quota, TRIED_BY_ANOTHER).because(format!(
                "another task tries whether agent {agent} answers again after its quota was used up"
            ))
        })
    }

    /// The turn is over or was given back; with an outcome if it had one.
    pub(super) fn tried(&mut self, turn: crate::ids::TurnId, outcome: Option<Outcome>) {
        self.kind_tried(turn, outcome);
        let tried: Option<AgentName> = self
            .trying
            .iter()
            .find(|(_, trial)| trial.is_by(turn))
            .map(|(agent, _)| agent.clone());
        let Some(agent) = tried else { return };
        if outcome != Some(Outcome::Ok) {
            // The next one tries.
            self.trying.remove(&agent);
            return;
        }
        // Until it is written: who is claimed before that is not the first.
        let (shared, me) = (self.shared.clone(), self.me.clone());
        self.tasks.retain(|task| !task.is_finished());
        self.tasks.push(Task::spawn(async move {
            if let Err(error) = until_written(|| shared.ports.limits.answers(&agent)).await {
                tracing::warn!(%agent, %error, "that the agent answers again was not written");
            }
            me.cast(super::Msg::Answers(agent));
        }));
    }
}
