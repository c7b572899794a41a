//! How often agents crashed, and what rests because of it.
//!
//! Counted per key; one-shot turns, whose keys are their tasks' own, are counted
//! together under one key an agent.

use std::time::Duration;

use serde_json::{Value, json};

use super::State;
use crate::ids::{ChatId, Generation, SessionKey};
use crate::limits::{ParkReason, Parked};
use crate::ports::Fact;
use crate::prompt::Notice;
use crate::rules::restart::Rest;
use crate::rules::routing::circuit;
use crate::tree::addr::Task;
use crate::tree::shared::until_written;

/// Circuits that are remembered although nothing of them lives.
const CIRCUITS: usize = 1024;

impl State {
    /// Why a turn of this key has to wait, and for how long.
    pub(super) fn resting(&self, key: &SessionKey, chat: ChatId) -> Option<Parked> {
        let now = self.shared.now();
        let record = self.circuits.get(&circuit(key, chat))?;
        let rest = record.history.resting(now)?;
        let reason = match rest {
            Rest::BackOff(_) => ParkReason::BackOff,
            Rest::CoolDown(_) => ParkReason::CoolDown,
        };
        let parked = Parked::until(reason, rest.until().since(now));
        Some(Parked {
            detail: record.last_exit.clone(),
            ..parked
        })
    }

    /// Crashes so far, and how the last one came about.
    pub(super) fn crashes(&self, key: &SessionKey, chat: ChatId) -> (u64, Option<String>) {
        let record = self.circuits.get(&circuit(key, chat));
        record.map_or((0, None), |record| {
            (record.history.total(), record.last_exit.clone())
        })
    }

    pub(super) fn crashed(&mut self, key: &SessionKey, generation: Generation, why: String) {
        if let Some(live) = self.live_now(key, generation) {
            live.well = false;
            let chat = live.chat;
            self.kind_failed(&circuit(key, chat), &why);
            self.rest(key, chat, why);
        }
    }

    /// Counts a crash and tells how long its circuit rests.
    pub(super) fn rest(&mut self, key: &SessionKey, chat: ChatId, why: String) {
        let (now, jitter) = (self.shared.now(), self.shared.jitter());
        let circuit = circuit(key, chat);
        let record = self.circuits.entry(circuit.clone()).or_default();
        let rest = record
            .history
            .crashed(now, &self.shared.settings.intensity, jitter);
        let wait = rest.until().since(now);
        match rest {
            Rest::BackOff(_) => tracing::warn!(session = %key, ?wait, %why, "a session backs off"),
            Rest::CoolDown(_) => {
                tracing::error!(session = %key, ?wait, %why, "a session crashed too often and cools down")
            }
        }
        self.shared.note(Fact::Crashed {
            agent: key.agent.clone(),
            cools: matches!(rest, Rest::CoolDown(_)),
        });
        let record = self.circuits.entry(circuit.clone()).or_default();
        record.last_exit = Some(why.clone());
        if let Rest::CoolDown(_) = rest {
            record.noticed = true;
            self.tell_people(Notice::CircuitOpen {
                key: circuit,
                chat,
                why,
                rest: wait,
            });
        }
    }

    /// A turn ended well.
    pub(super) fn worked(&mut self, key: &SessionKey, chat: ChatId) {
        let circuit = circuit(key, chat);
        self.kind_worked(&key.agent);
        if let Some(record) = self.circuits.get_mut(&circuit) {
            record.history.worked();
            self.circuit_closed(&circuit);
        }
    }

    /// It works, or a person wants it to be tried: what was said is over.
    pub(super) fn circuit_closed(&mut self, circuit: &SessionKey) {
        let record = self.circuits.get_mut(circuit);
        if record.is_some_and(|record| std::mem::take(&mut record.noticed)) {
            self.tell_people(Notice::CircuitClosed {
                key: circuit.clone(),
            });
        }
    }

    /// Beside the pool, which waits for no database.
    pub(super) fn tell_people(&mut self, notice: Notice) {
        let shared = self.shared.clone();
        self.tasks.retain(|task| !task.is_finished());
        self.tasks.push(Task::spawn(async move {
            if let Err(error) = until_written(|| shared.ports.journal.notice(&notice)).await {
                tracing::warn!(?notice, %error, "a notice was not written");
            }
        }));
    }

    pub(super) fn forget_circuits(&mut self) {
        self.forget_kinds();
        let live = &self.live;
        if self.circuits.len() > CIRCUITS {
            let (now, intensity) = (self.shared.now(), self.shared.settings.intensity);
            let is_live = |key: &SessionKey| {
                let mut live = live.iter();
                live.any(|(own, live)| circuit(own, live.chat) == *key)
            };
            self.circuits
                .retain(|key, record| is_live(key) || !record.history.is_clean(now, &intensity));
        }
        if self.generations.len() > CIRCUITS {
            // A key that does not live may count from the start.
            self.generations.retain(|key, _| live.contains_key(key));
        }
    }

    /// What rests, for the board.
    pub(super) fn resting_shown(&self) -> Vec<Value> {
        let now = self.shared.now();
        let resting = self.circuits.iter().filter_map(|(key, record)| {
            let rest = record.history.resting(now)?;
            let wait: Duration = rest.until().since(now);
            Some(json!({
                "key": key.to_string(),
                "one_shots": key.chat.0.is_nil(),
                "cooling": matches!(rest, Rest::CoolDown(_)),
                "ms": wait.as_millis() as u64,
                "why": record.last_exit,
            }))
        });
        resting.collect()
    }
}
