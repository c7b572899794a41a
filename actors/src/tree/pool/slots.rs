//! Giving tasks to sessions, and what follows when a session ends.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ractor::{Actor, ActorId};
use serde_json::json;

use super::{HeldTurn, Live, Msg, State, Waiting};
use crate::handover::Taken;
use crate::ids::{Generation, SessionKey};
use crate::limits::{ParkReason, Parked};
use crate::model::{Assignment, Fence, TurnEnd, Usage};
use crate::outcome::Outcome;
use crate::ports::Fact;
use crate::rules::evict::Nomination;
use crate::rules::pool::{self as rule, Admission, Slot};
use crate::rules::routing::{self, Route};
use crate::tree::addr::{Addr, Depth, Task};
use crate::tree::board::Snapshot;
use crate::tree::session::{self, SessionActor};
use crate::tree::shared::{Backoff, Shared, until_written};

/// A task whose agent cannot be had waits this long before it is claimed again.
const NO_AGENT_WAIT: Duration = Duration::from_secs(1);
/// Longest wait for the processes of a session that ended.
const GONE_BOUND: Duration = Duration::from_secs(15);

impl State {
    pub(super) async fn assign(&mut self, mut assignment: Box<Assignment>) {
        let entry = self.shared.ports.agents.get(&assignment.key.agent);
        let can_be_warm = entry.is_none_or(|entry| entry.backend.can_be_warm());
        if routing::route(assignment.origin, can_be_warm) == Route::OneShot {
            routing::make_one_shot(&mut assignment);
        }
        if assignment.budgeted && !self.draining && !self.stopping {
            return self.weigh(assignment);
        }
        self.place(Waiting {
            assignment,
            refused: Vec::new(),
        })
        .await;
    }

    pub(super) async fn place(&mut self, task: Waiting) {
        let key = &task.assignment.key;
        if self.draining || self.stopping {
            return self.give_back(&task.assignment);
        }
        if let Some(parked) = self.resting(key, task.assignment.chat) {
            return self.park(&task.assignment, parked);
        }
        if let Some(parked) = self.agent_rests(&task.assignment) {
            return self.park(&task.assignment, parked);
        }
        if let Some(parked) = self.kind_rests(&task.assignment) {
            return self.park(&task.assignment, parked);
        }
        let (now, limits) = (self.shared.now(), self.shared.limits());
        let slots = self.slots();
        let ahead = self.without_place();
        match rule::admit(&slots, key, limits.into(), &task.refused, ahead, now) {
            Admission::Reuse => self.hand_over(task.assignment),
            Admission::Spawn => self.spawn(task).await,
            Admission::After {
                victim,
                insist,
                memory,
            } => {
                let why = match memory {
                    true => Nomination::Memory,
                    false => Nomination::Lru,
                };
                self.ask_to_go(&victim, why, insist);
                self.waiting.push_back(task);
            }
            Admission::Wait => self.waiting.push_back(task),
            Admission::Full { wait, memory } => {
                self.turned_away += 1;
                self.lent_in_vain(wait);
                let parked = Parked::until(ParkReason::PoolFull, wait);
                let cap = limits.memory.filter(|_| memory);
                let why = match cap {
                    Some(cap) => format!(
                        "the warm sessions take {} of {} MB, and none of them can go",
                        rule::bytes(&slots) >> 20,
                        cap >> 20
                    ),
                    None => format!("all {} warm sessions are busy", limits.max_live),
                };
                let detail = format!(
                    "{why}; {} of them wait for people, whose answers make room",
                    self.asking()
                );
                self.park(&task.assignment, parked.because(detail));
            }
        }
    }

    /// Tasks that wait for a place; for others the end of a turn is still to be told.
    fn without_place(&self) -> usize {
        let held = |key: &SessionKey| self.live.get(key).is_some_and(|live| !live.slot.leaving);
        let waiting = self.waiting.iter();
        waiting.filter(|task| !held(&task.assignment.key)).count()
    }

    async fn spawn(&mut self, task: Waiting) {
        let key = task.assignment.key.clone();
        let Some(entry) = self.shared.ports.agents.get(&key.agent) else {
            tracing::warn!(agent = %key.agent, "a task was claimed for an agent that is gone");
            let parked = Parked::until(ParkReason::BackOff, NO_AGENT_WAIT);
            let detail = format!("agent {} is not configured any more", key.agent);
            return self.park(&task.assignment, parked.because(detail));
        };
        // A one-shot turn has a process of its own.
        let is_warm = key.chat == task.assignment.chat;
        let server = match is_warm {
            true => self.server_of(&key.agent, &entry).await,
            false => None,
        };
        let definition = entry.server.as_ref().filter(|_| server.is_some());
        let definition = definition.map(|backend| backend.definition().to_owned());
        let generation = self.generations.entry(key.clone()).or_default();
        *generation = generation.next();
        let generation = *generation;
        let (crashes, last_exit) = self.crashes(&key, task.assignment.chat);
        let depth = Depth::default();
        let (idle_ttl, of, memory) = (entry.idle_ttl, entry.definition, entry.memory);
        let arguments = session::Arguments {
            shared: self.shared.clone(),
            pool: self.me.clone(),
            key: key.clone(),
            session: task.assignment.session,
            chat: task.assignment.chat,
            generation,
            entry,
            server,
            depth: depth.clone(),
            crashes,
            last_exit,
        };
        let cell = self.me.actor().get_cell();
        match Actor::spawn_linked(None, SessionActor, arguments, cell).await {
            Ok((actor, join)) => {
                self.live.insert(
                    key,
                    Live {
                        addr: Addr::new(actor, depth),
                        join: Some(join),
                        generation,
                        session: task.assignment.session,
                        chat: task.assignment.chat,
                        slot: Slot {
                            busy: false,
                            leaving: false,
                            used: self.shared.now(),
                            idle_ttl,
                            asks: None,
                            bytes: None,
                        },
                        server: definition,
                        turn: None,
                        ended: false,
                        nominated: None,
                        definition: of,
                        memory,
                        well: false,
                        processes: 0,
                    },
                );
                self.hand_over(task.assignment);
            }
            Err(error) => {
                tracing::error!(session = %key, %error, "a session actor did not start");
                let parked = Parked::until(ParkReason::BackOff, NO_AGENT_WAIT);
                self.park(&task.assignment, parked.because(error.to_string()));
            }
        }
    }

    fn hand_over(&mut self, assignment: Box<Assignment>) {
        let now = self.shared.now();
        let Some(live) = self.live.get_mut(&assignment.key) else {
            return;
        };
        let prompted = Arc::new(AtomicBool::new(false));
        live.slot.busy = true;
        live.slot.used = now;
        live.turn = Some(HeldTurn {
            reference: HeldTurn::reference_of(&assignment),
            prompted: prompted.clone(),
        });
        live.addr.cast(session::Msg::Assign(assignment, prompted));
    }

    pub(super) async fn turn_over(
        &mut self,
        key: &SessionKey,
        generation: Generation,
        outcome: Option<Outcome>,
    ) {
        let now = self.shared.now();
        let Some(live) = self.live_now(key, generation) else {
            return;
        };
        live.slot.busy = false;
        live.slot.used = now;
        live.slot.asks = None;
        let turn = live.turn.take();
        let held = turn.is_some();
        let chat = live.chat;
        live.well |= outcome == Some(Outcome::Ok);
        if let Some(turn) = turn {
            self.tried(turn.reference.fence.turn, outcome);
        }
        self.lend();
        if outcome == Some(Outcome::Ok) {
            self.worked(key, chat);
        }
        match &self.dispatcher {
            Some(dispatcher) if held && outcome.is_some() => {
                dispatcher.cast(crate::tree::dispatcher::Msg::Ended);
            }
            _ if held => self.credit(),
            _ => {}
        }
        self.try_waiting().await;
    }

    /// The actor of a session ended; clean up after it, then free its slot.
    pub(super) fn ended(&mut self, actor: ActorId, failure: Option<String>) {
        let found = self
            .live
            .iter()
            .find(|(_, live)| live.addr.actor().get_id() == actor)
            .map(|(key, live)| (key.clone(), live.chat));
        let Some((key, chat)) = found else { return };
        if let Some(why) = failure {
            self.rest(&key, chat, format!("its actor failed: {why}"));
        }
        let Some(live) = self.live.get_mut(&key) else {
            return;
        };
        live.ended = true;
        live.slot.leaving = true;
        live.slot.asks = None;
        let (join, turn, generation) = (live.join.take(), live.turn.take(), live.generation);
        self.lend();
        if let Some(turn) = &turn {
            self.tried(turn.reference.fence.turn, None);
            self.credit();
        }
        let (shared, me) = (self.shared.clone(), self.me.clone());
        self.tasks.push(Task::spawn(async move {
            // The old state, and the link in it, may still be dropping.
            if let Some(join) = join {
                let _ = join.await;
            }
            if !shared.ports.processes.gone(&key, GONE_BOUND).await {
                tracing::error!(session = %key, "processes outlived their session by {GONE_BOUND:?}");
            }
            if let Some(turn) = turn {
                settle_orphan(&shared, &turn).await;
            }
            me.cast(Msg::Gone(key, generation));
        }));
    }

    pub(super) async fn gone(&mut self, key: &SessionKey, generation: Generation) {
        let Some(live) = self.live_now(key, generation) else {
            return;
        };
        let why = live.nominated.take();
        self.live.remove(key);
        self.went(key, why);
        self.tenants_went();
        self.shared
            .board
            .remove(&["root", "pool", &key.to_string()]);
        let mut index = 0;
        while index < self.evictions.len() {
            if self.evictions[index].0 == *key {
                let (_, reply) = self.evictions.remove(index);
                let _ = reply.send(Ok(()));
            } else {
                index += 1;
            }
        }
        self.forget_circuits();
        self.tasks.retain(|task| !task.is_finished());
        self.try_waiting().await;
    }

    pub(super) async fn try_waiting(&mut self) {
        for task in std::mem::take(&mut self.waiting) {
            self.place(task).await;
        }
    }

    /// Gives a claimed task back to the queue, and its credit with it.
    pub(super) fn give_back(&mut self, assignment: &Assignment) {
        self.release(assignment, None);
    }

    /// The same, to wait there for a while.
    pub(super) fn park(&mut self, assignment: &Assignment, parked: Parked) {
        self.release(assignment, Some(parked));
    }

    fn release(&mut self, assignment: &Assignment, parked: Option<Parked>) {
        let (fence, shared) = (assignment.fence, self.shared.clone());
        self.tried(fence.turn, None);
        if let Some(parked) = &parked {
            let agent = assignment.key.agent.clone();
            self.shared.note(Fact::Parked(agent, parked.reason));
        }
        let dispatcher = self.dispatcher.clone();
        self.tasks.retain(|task| !task.is_finished());
        self.tasks.push(Task::spawn(async move {
            release(&shared, &fence, parked.as_ref()).await;
            if let Some(dispatcher) = dispatcher {
                dispatcher.cast(crate::tree::dispatcher::Msg::Credit(1));
            }
        }));
    }

    pub(super) fn live_now(
        &mut self,
        key: &SessionKey,
        generation: Generation,
    ) -> Option<&mut Live> {
        self.live
            .get_mut(key)
            .filter(|live| live.generation == generation)
    }

    pub(super) fn show(&self) {
        let limits = self.shared.limits();
        let memory: u64 = self.live.values().filter_map(|live| live.slot.bytes).sum();
        self.shared.board.put(
            &["root", "pool"],
            Snapshot {
                kind: "pool".into(),
                name: "pool".into(),
                state: match (self.stopping, self.draining) {
                    (true, _) => "stopping",
                    (false, true) => "draining",
                    (false, false) => "up",
                }
                .into(),
                restarts: self
                    .circuits
                    .values()
                    .map(|record| record.history.total())
                    .sum(),
                mailbox: self.depth.get(),
                detail: json!({
                    "live": self.live.len(),
                    "busy": self.live.values().filter(|live| live.slot.busy).count(),
                    "max_live": limits.max_live,
                    "memory_bytes": memory,
                    "memory_cap": limits.memory,
                    "weights": self.weights_shown(),
                    "processes": self.live.values().map(|live| live.processes).sum::<usize>(),
                    "agents_resting": self.kinds_shown(),
                    "asking": self.asking(),
                    "waiting": self.waiting.len(),
                    "turned_away": self.turned_away,
                    "evicted": self.evicted,
                    "refusals": self.refusals,
                    "weighing": self.weighing.len(),
                    "resting": self.resting_shown(),
                }),
                ..Snapshot::default()
            },
        );
    }
}

/// A turn whose session died with it: what was not prompted waits again, what
/// was ends here.
async fn settle_orphan(shared: &Shared, turn: &HeldTurn) {
    let fence = turn.reference.fence;
    if turn.was_prompted() {
        tracing::info!(
            task = %fence.task, outcome = %Outcome::Interrupted,
            detail = "its session's actor failed", "turn ended"
        );
        let end = TurnEnd {
            outcome: Outcome::Interrupted,
            detail: Some("the session's actor failed in mid-turn".into()),
            diff: None,
            usage: Usage::default(),
            taken: Some(Taken::Unknown),
        };
        let journal = &shared.ports.journal;
        let why = end.detail.as_deref().unwrap_or_default();
        match until_written(|| journal.detach(&turn.reference, why, &[])).await {
            Ok(frames) if frames.is_empty() => {}
            Ok(frames) => return shared.hub.publish(frames),
            Err(error) => {
                tracing::debug!(task = %fence.task, %error, "what is asked could not be kept");
            }
        }
        let reason = "the turn ended before an answer came";
        match until_written(|| journal.withdraw(&turn.reference, reason)).await {
            Ok(frames) => shared.hub.publish(frames),
            Err(error) => tracing::debug!(task = %fence.task, %error, "prompts were not withdrawn"),
        }
        match until_written(|| journal.finish(&turn.reference, &end)).await {
            Ok(frames) => shared.hub.publish(frames),
            Err(error) => {
                tracing::debug!(task = %fence.task, %error, "an orphan turn was settled already")
            }
        }
    } else {
        release(shared, &fence, None).await;
    }
}

/// Until it is written: nobody else gives it back.
async fn release(shared: &Shared, fence: &Fence, parked: Option<&Parked>) {
    let mut backoff = Backoff::new();
    loop {
        match shared.ports.queue.release(fence, parked).await {
            Ok(frames) => return shared.hub.publish(frames),
            Err(error) => {
                tracing::debug!(task = %fence.task, %error, "a task could not be given back yet");
            }
        }
        backoff.wait().await;
    }
}
