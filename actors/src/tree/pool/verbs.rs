//! What people and clocks ask of the pool.

use ractor::RpcReplyPort;

use super::{Of, State, Waiting};
use crate::ids::{ChatId, SessionId, SessionKey, TaskId};
use crate::model::Assignment;
use crate::rules::evict::Nomination;
use crate::rules::turn::Why;
use crate::tree::handle::Refusal;
use crate::tree::session;

impl State {
    pub(super) fn cancel(&mut self, task: TaskId, why: Why) {
        if let Some(live) = self.held_by(task) {
            live.addr.cast(session::Msg::Cancel(task, why));
            return;
        }
        let waits = |waiting: &Waiting| waiting.assignment.fence.task == task;
        match self.waiting.iter().position(waits) {
            // The store ends what is given back after its cancel was asked for.
            Some(index) => self.give_back_waiting(index),
            None if self.give_back_weighing(|assignment| assignment.fence.task == task) => {}
            None => tracing::debug!(%task, "nothing to cancel here"),
        }
    }

    pub(super) fn answer(&self, task: TaskId, reply: session::Reply) {
        match self.held_by(task) {
            Some(live) => {
                live.addr.cast(session::Msg::Answer(reply));
            }
            None => {
                let _ = reply.told.send(Err(Refusal::NoPrompt));
            }
        }
    }

    /// Ends the turns of what was closed as its user's wish, then the sessions.
    pub(super) fn close(&mut self, closed: impl Fn(ChatId, SessionId) -> bool) {
        let is_closed = |waiting: &Waiting| {
            let assignment = &waiting.assignment;
            closed(assignment.chat, assignment.session)
        };
        while let Some(index) = self.waiting.iter().position(is_closed) {
            self.give_back_waiting(index);
        }
        self.give_back_weighing(|assignment| closed(assignment.chat, assignment.session));
        for live in self.live.values_mut() {
            if closed(live.chat, live.session) {
                if let Some(turn) = &live.turn {
                    let task = turn.reference.fence.task;
                    live.addr.cast(session::Msg::Cancel(task, Why::Asked));
                }
                live.stop();
            }
        }
    }

    fn give_back_waiting(&mut self, index: usize) {
        if let Some(waiting) = self.waiting.remove(index) {
            self.give_back(&waiting.assignment);
        }
    }

    /// True when there was one.
    fn give_back_weighing(&mut self, of: impl Fn(&Assignment) -> bool) -> bool {
        let (gone, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.weighing)
            .into_iter()
            .partition(|assignment| of(assignment));
        self.weighing = left;
        for assignment in &gone {
            self.give_back(assignment);
        }
        !gone.is_empty()
    }

    pub(super) fn evict(&mut self, key: SessionKey, reply: RpcReplyPort<Result<(), Refusal>>) {
        let refusal = match self.live.get(&key) {
            None => Some(self.why_not_warm(&key)),
            Some(live) if live.slot.leaving => Some(Refusal::Stopping),
            Some(live) if live.slot.busy => Some(Refusal::TurnRunning),
            Some(_) => None,
        };
        match refusal {
            Some(refusal) => {
                let _ = reply.send(Err(refusal));
            }
            None => {
                self.ask_to_go(&key, Nomination::Operator, false);
                self.evictions.push((key, reply));
            }
        }
    }

    pub(super) fn restart(&mut self, key: &SessionKey, reply: RpcReplyPort<Result<(), Refusal>>) {
        let known = self
            .circuits
            .get_mut(key)
            .map(|record| record.history.forgive())
            .is_some();
        self.circuit_closed(key);
        self.kind_worked(&key.agent);
        match self.live.get_mut(key) {
            Some(live) => {
                live.stop();
                self.evictions.push((key.clone(), reply));
            }
            None => {
                let _ = reply.send(if known {
                    Ok(())
                } else {
                    Err(Refusal::NotWarm(key.clone()))
                });
            }
        }
    }

    /// The caller holds the session's gate: no turn runs or begins in it.
    pub(super) fn stop_agents(&mut self, of: Of, reply: RpcReplyPort<()>) {
        for live in self.live.values_mut().filter(|live| of.has(live)) {
            live.stop();
        }
        self.agents_gone.push((of, reply));
    }

    pub(super) fn drain(&mut self, reply: RpcReplyPort<()>) {
        self.draining = true;
        self.give_back_weighing(|_| true);
        while !self.waiting.is_empty() {
            self.give_back_waiting(0);
        }
        for live in self.live.values() {
            live.addr.cast(session::Msg::Drain);
        }
        self.drained.push(reply);
    }

    pub(super) fn stop_all(&mut self, reply: RpcReplyPort<()>) {
        self.stopping = true;
        self.give_back_weighing(|_| true);
        for live in self.live.values_mut() {
            live.end(session::Msg::Leave);
        }
        self.stopped.push(reply);
    }

    fn why_not_warm(&self, key: &SessionKey) -> Refusal {
        let cooling = self
            .circuits
            .get(key)
            .is_some_and(|record| record.history.resting(self.shared.now()).is_some());
        if cooling {
            Refusal::Cooling
        } else {
            Refusal::NotWarm(key.clone())
        }
    }
}
