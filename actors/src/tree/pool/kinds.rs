//! One circuit an agent: while it fails in chat after chat, none of them starts it.
//! A session whose last turn ended well is not held back.

use std::time::Duration;

use serde_json::{Value, json};

use super::State;
use crate::ids::{AgentName, SessionKey, TurnId};
use crate::limits::{ParkReason, Parked};
use crate::model::Assignment;
use crate::outcome::Outcome;
use crate::ports::Fact;
use crate::prompt::Notice;
use crate::rules::circuit::{Circuit, Entry, Shown};

/// While another task tries, the others wait this long before they are claimed again.
const TRIED_BY_ANOTHER: Duration = Duration::from_secs(5);

/// What is known of an agent.
#[derive(Default)]
pub(super) struct Kind {
    circuit: Circuit,
    why: Option<String>,
}

impl State {
    pub(super) fn kind_failed(&mut self, key: &SessionKey, why: &str) {
        let (now, limits) = (self.shared.now(), self.shared.settings.circuit);
        let kind = self.kinds.entry(key.agent.clone()).or_default();
        kind.why = Some(why.to_owned());
        let Some(rest) = kind.circuit.failed(now, key, &limits) else {
            return;
        };
        let agent = key.agent.clone();
        tracing::error!(%agent, ?rest, %why, "an agent fails in chat after chat: all of them rest");
        self.shared.note(Fact::Circuit {
            agent: agent.clone(),
            open: true,
        });
        self.tell_people(Notice::AgentRests {
            agent,
            why: why.to_owned(),
            rest,
        });
    }

    pub(super) fn kind_worked(&mut self, agent: &AgentName) {
        let kind = self.kinds.get_mut(agent);
        if kind.is_some_and(|kind| kind.circuit.worked()) {
            self.kind_answers(agent);
        }
    }

    fn kind_answers(&mut self, agent: &AgentName) {
        tracing::info!(%agent, "an agent that rested answers again");
        let agent = agent.clone();
        self.shared.note(Fact::Circuit {
            agent: agent.clone(),
            open: false,
        });
        self.tell_people(Notice::AgentAnswers { agent });
    }

    /// Why a turn of this agent has to wait; else it may be the one that tries.
    pub(super) fn kind_rests(&mut self, assignment: &Assignment) -> Option<Parked> {
        let key = &assignment.key;
        if self.live.get(key).is_some_and(|live| live.well) {
            return None;
        }
        let now = self.shared.now();
        let kind = self.kinds.get_mut(&key.agent)?;
        let why = kind.why.as_deref().unwrap_or_default();
        let agent = &key.agent;
        match kind.circuit.enter(now, assignment.fence.turn) {
            Entry::Go => None,
            Entry::Rests(rest) => {
                let detail = format!("agent {agent} failed in several chats, last: {why}");
                Some(Parked::until(ParkReason::CoolDown, rest).because(detail))
            }
            Entry::Tried => {
                let detail =
                    format!("another task tries whether agent {agent} works again after: {why}");
                let parked = Parked::until(ParkReason::CoolDown, TRIED_BY_ANOTHER);
                Some(Parked {
                    open_ended: true,
                    ..parked.because(detail)
                })
            }
        }
    }

    /// The turn is over or was given back; with an outcome if it had one.
    pub(super) fn kind_tried(&mut self, turn: TurnId, outcome: Option<Outcome>) {
        let answered = outcome.is_some_and(Outcome::is_answer);
        let mut kinds = self.kinds.iter_mut();
        let closed = kinds.find_map(|(agent, kind)| {
            let closed = kind.circuit.left(turn, answered);
            closed.then(|| agent.clone())
        });
        if let Some(agent) = closed {
            self.kind_answers(&agent);
        }
    }

    pub(super) fn forget_kinds(&mut self) {
        let (now, limits) = (self.shared.now(), self.shared.settings.circuit);
        self.kinds
            .retain(|_, kind| !kind.circuit.is_clean(now, &limits));
    }

    /// For the board: those that rest or are being tried.
    pub(super) fn kinds_shown(&self) -> Vec<Value> {
        let now = self.shared.now();
        let shown = self.kinds.iter().filter_map(|(agent, kind)| {
            let (state, rest) = match kind.circuit.shown(now) {
                Shown::Closed => return None,
                Shown::Open(rest) => ("open", rest),
                Shown::HalfOpen => ("half_open", Duration::ZERO),
            };
            Some(json!({
                "agent": agent,
                "state": state,
                "ms": rest.as_millis() as u64,
                "why": kind.why,
            }))
        });
        shown.collect()
    }
}
