//! Sessions that are asked to go, and what their process trees take. The pool
//! nominates; the session decides, and the pool waits for its end.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Live, Msg, State};
use crate::ids::{Generation, SessionKey};
use crate::ports::{Fact, Footprint};
use crate::rules::evict::{Nomination, Stays};
use crate::rules::pool::{self as rule, Refused, Slot};
use crate::rules::turn::Why;
use crate::tree::addr::Task;
use crate::tree::session;

impl Live {
    /// It goes, whatever it says to an earlier wish that it might.
    pub(super) fn stop(&mut self) {
        self.end(session::Msg::Stop);
    }

    /// The same with other last words.
    pub(super) fn end(&mut self, order: session::Msg) {
        self.slot.leaving = true;
        self.nominated = None;
        self.addr.cast(order);
    }

    /// Its processes take more than they may: its turn ends, or it does.
    fn outgrew(&mut self, key: &SessionKey) {
        if let Some(turn) = &self.turn {
            let task = turn.reference.fence.task;
            tracing::warn!(session = %key, %task, bytes = self.slot.bytes, "an agent outgrew its memory in a turn");
            self.addr.cast(session::Msg::Cancel(task, Why::Memory));
        } else if !self.slot.leaving {
            tracing::warn!(session = %key, bytes = self.slot.bytes, "an unused agent outgrew its memory");
            self.stop();
            self.nominated = Some(Nomination::Memory);
        }
    }
}

impl State {
    pub(super) fn slots(&self) -> BTreeMap<SessionKey, Slot> {
        let live = self.live.iter();
        live.map(|(key, live)| (key.clone(), live.slot)).collect()
    }

    pub(super) fn sweep(&mut self) {
        for key in rule::expired(&self.slots(), self.shared.now()) {
            self.ask_to_go(&key, Nomination::Ttl, false);
        }
        self.outdated();
    }

    /// With `insist` no message that waits for it keeps it.
    pub(super) fn ask_to_go(&mut self, key: &SessionKey, why: Nomination, insist: bool) {
        if let Some(live) = self.live.get_mut(key)
            && !live.slot.leaving
        {
            live.slot.leaving = true;
            live.nominated = Some(why);
            live.addr.cast(session::Msg::Evict(why, insist));
        }
    }

    /// A refusal starts its idle time anew, so that it is asked last the next time.
    pub(super) async fn stays(&mut self, key: &SessionKey, generation: Generation, why: Stays) {
        let now = self.shared.now();
        let Some(live) = self.live_now(key, generation) else {
            return;
        };
        // Stopped since: what it says is no answer to that.
        let Some(asked) = live.nominated.take() else {
            return;
        };
        if let Some(asks) = live.slot.asks.as_mut().filter(|_| why == Stays::OpenPrompt) {
            // It knows better than what it told before; an answer may be on its way.
            asks.since = now;
        }
        // Its end may be known before its last words are read.
        if why != Stays::Stopping && !live.ended {
            live.slot.leaving = false;
            live.slot.used = now;
        }
        tracing::debug!(session = %key, %asked, %why, "a session stays");
        *self.refusals.entry(why).or_default() += 1;
        self.shared.note(Fact::Stayed(key.agent.clone(), why));
        let refused = Refused {
            key: key.clone(),
            needed: why == Stays::QueuedMessage,
        };
        for task in &mut self.waiting {
            task.refused.push(refused.clone());
        }
        if let Some(index) = self.evictions.iter().position(|(other, _)| other == key) {
            let (_, reply) = self.evictions.remove(index);
            let _ = reply.send(Err(why.into()));
        }
        self.try_waiting().await;
    }

    /// It is gone: counts it, if it was asked to go.
    pub(super) fn went(&mut self, key: &SessionKey, why: Option<Nomination>) {
        if let Some(why) = why {
            tracing::info!(session = %key, %why, "a session was evicted");
            *self.evicted.entry(why).or_default() += 1;
            self.shared.note(Fact::Evicted(key.agent.clone(), why));
        }
    }

    /// Looks at the process trees now and again, as long as there may be some.
    pub(super) fn use_scale(&mut self) {
        if self.live.is_empty() {
            self.scale = None;
        } else if self.scale.is_none() {
            let (shared, me) = (self.shared.clone(), self.me.clone());
            self.scale = Some(Task::spawn(async move {
                tokio::time::sleep(shared.settings.weigh_every).await;
                let weights = shared.ports.processes.footprints().await;
                me.cast(Msg::Weights(weights));
            }));
        }
    }

    pub(super) fn weighed_trees(&mut self, weights: &BTreeMap<SessionKey, Footprint>) {
        self.scale = None;
        for (key, live) in &mut self.live {
            let weight = weights.get(key);
            live.slot.bytes = weight.map(|weight| weight.bytes);
            live.processes = weight.map_or(0, |weight| weight.processes);
            if live.slot.bytes > live.memory.or(Some(u64::MAX)) {
                live.outgrew(key);
            }
        }
        if let Some(key) = rule::over_memory(&self.slots(), self.shared.limits().into()) {
            self.ask_to_go(&key, Nomination::Memory, false);
        }
    }

    /// For the board: bytes by key.
    pub(super) fn weights_shown(&self) -> Value {
        let live = self.live.iter();
        let weighed =
            live.filter_map(|(key, live)| Some((key.to_string(), live.slot.bytes?.into())));
        Value::Object(weighed.collect())
    }

    pub(super) async fn reloaded(&mut self) {
        self.outdated();
        // There may be more places.
        self.try_waiting().await;
        for key in rule::surplus(&self.slots(), self.shared.limits().into()) {
            self.ask_to_go(&key, Nomination::Lru, false);
        }
    }

    /// Idle sessions of agents that are defined otherwise by now.
    fn outdated(&mut self) {
        let changed = |key: &SessionKey, definition: u64| {
            let entry = self.shared.ports.agents.get(&key.agent);
            entry.is_none_or(|entry| entry.definition != definition)
        };
        let live = self.live.iter().filter(|(_, live)| !live.slot.busy);
        let changed: Vec<_> = live
            .filter(|(key, live)| changed(key, live.definition))
            .map(|(key, _)| key.clone())
            .collect();
        for key in changed {
            self.ask_to_go(&key, Nomination::Config, false);
        }
    }
}
