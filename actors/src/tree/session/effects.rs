//! Carrying out what the session's machine wants done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ractor::Actor;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::settling::Ending;
use super::{LiveLink, Msg, State};
use crate::event::AgentEvent;
use crate::ids::SessionKey;
use crate::model::{Assignment, Continuity};
use crate::outcome::Outcome;
use crate::ports::{AgentBackend, Fact, How, LinkSpec, LinkStatus, ProcessLedger, StartError};
use crate::rules::session::{Effect, Input, LinkNo};
use crate::tree::addr::{Addr, Task, report};
use crate::tree::pool;
use crate::tree::pump::{self, CurrentTurn, Pump};
use crate::tree::server;

/// Longest wait for the processes of an earlier life of this key.
const GONE_BOUND: Duration = Duration::from_secs(10);
const STILL_ALIVE: &str = "processes of the agent's last life are still alive";
/// The stop ladder's longest way: 3 s, 2 s, and the kernel's time.
const STOP_BOUND: Duration = Duration::from_secs(15);
/// From the start to the first look at an agent's helpers; doubles up to the last.
const FIRST_LOOK_AT_HELPERS: Duration = Duration::from_secs(2);
const LAST_LOOK_AT_HELPERS: Duration = Duration::from_secs(60);
/// From a tool's process to the word of its call, at most, where the words are read.
const CALLS_ARE_HEARD: Duration = Duration::from_secs(1);

impl State {
    /// One step of the machine and all that follows from it.
    pub(super) async fn step(&mut self, input: Input) {
        let now = self.to.shared.now();
        let before = self.machine.state();
        let effects = self.machine.step(now, input);
        let changed = before != self.machine.state() || !effects.is_empty();
        for effect in effects {
            self.carry_out(effect).await;
        }
        self.tell_asks();
        self.arm_timer();
        if changed {
            self.show();
        }
    }

    async fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::EnsureWorktree => self.ensure_worktree(),
            Effect::TakeCheckpoint => self.take_checkpoint(),
            Effect::PrepareCheckpoint => self.prepare_checkpoint(),
            Effect::ProveCheckpoint => self.prove_checkpoint(),
            Effect::RetakeCheckpoint => self.retake_checkpoint(),
            Effect::StartLink(no) => self.start_link(no),
            Effect::AbandonPreparation => {
                if let Some(turn) = &mut self.turn {
                    turn.tasks.clear();
                }
            }
            Effect::OpenJournal => self.open_journal(),
            Effect::SendPrompt => self.send_prompt().await,
            Effect::RenewContext(why) => self.renew_context(why),
            Effect::SendCancel => {
                if let (Some(live), Some(turn)) = (&self.link, self.machine.turn()) {
                    live.link.cancel(turn);
                }
            }
            Effect::StopLink { hurry } => self.stop_link(hurry),
            Effect::DropLink => {
                self.link = None;
                self.link_task = None;
            }
            Effect::CountCrash(why) => {
                self.to.crashes += 1;
                self.to.last_exit = Some(why.clone());
                self.note_link(LinkStatus::Crashed);
                self.tell_pool(|key, generation| pool::Msg::Crashed(key, generation, why));
            }
            // The server's own actor counts it.
            Effect::LostServer(why) => {
                self.to.last_exit = Some(why);
                self.note_link(LinkStatus::Crashed);
            }
            Effect::StopListening => self.set_current(None),
            Effect::TakeDiff => {
                self.withdraw_prompts("the turn ended before an answer came");
                self.take_diff();
            }
            Effect::Finish(verdict) => self.finish(verdict, Ending::Final),
            Effect::Detach(verdict) => self.finish(verdict, Ending::Detached),
            Effect::GiveBack(parked) => self.give_back(parked),
            Effect::TurnOver(outcome) => {
                let turn = self.turn.take();
                if let (Some(turn), Some(outcome)) = (&turn, outcome) {
                    let took = self.to.shared.now().since(turn.began);
                    let agent = self.to.key.agent.clone();
                    self.to.shared.note(Fact::TurnEnded {
                        agent,
                        outcome,
                        took,
                    });
                }
                if turn.is_some_and(|turn| turn.alone || self.to.is_one_shot()) {
                    // What it was started for is over.
                    self.me.cast(Msg::Stop);
                }
                self.set_current(None);
                self.tell_pool(|key, generation| pool::Msg::TurnOver(key, generation, outcome));
            }
            Effect::StopSelf => {
                self.note_link(LinkStatus::Closed);
                self.me.actor().stop(Some("asked to go".into()));
            }
        }
    }

    fn start_link(&mut self, no: LinkNo) {
        let (Some(worktree), Some(turn)) = (&self.worktree, &self.turn) else {
            return;
        };
        let assignment = &turn.assignment;
        let deadlines = self.to.entry.deadlines;
        let spec = LinkSpec {
            key: self.to.key.clone(),
            session: self.to.session,
            generation: self.to.generation,
            cwd: worktree.path.clone(),
            env: self.env.clone(),
            resume: assignment.resume.clone(),
            forgotten: assignment.context.forgotten.clone(),
            model: assignment.model.clone(),
            mode: assignment.mode.clone(),
            thinking: assignment.thinking.clone(),
            features: assignment.features.clone(),
            policy: turn.policy,
            deadlines,
        };
        // What was asked goes on in the context that asked, or not at all.
        let alone = self.to.entry.alone.clone();
        let alone = alone.filter(|_| assignment.goes_on.is_none());
        let (sender, events) = mpsc::channel(pump::CHANNEL);
        let heard = sender.downgrade();
        let current = CurrentTurn::default();
        let tools = Arc::new(AtomicBool::new(false));
        let arguments = pump::Arguments {
            shared: self.to.shared.clone(),
            session: self.me.clone(),
            link: no,
            events,
            current: current.clone(),
            tools: tools.clone(),
        };
        let backend = self.to.entry.backend.clone();
        let server = self.to.server.as_ref().map(pool::Door::addr);
        let processes = self.to.shared.ports.processes.clone();
        let (key, cell) = (self.to.key.clone(), self.me.actor().get_cell());
        let work = async move {
            if !processes.gone(&key, GONE_BOUND).await {
                return Msg::LinkUp(
                    no,
                    Err((Outcome::NoStart, overdue(STILL_ALIVE, GONE_BOUND))),
                );
            }
            let starting = async {
                match server {
                    Some(server) => in_server(&server, &*backend, spec, sender).await,
                    None => {
                        let alone = alone.as_deref().map(|alone| (alone, &*processes));
                        or_alone(&*backend, alone, spec, sender).await
                    }
                }
            };
            let started = match timeout(deadlines.spawn, starting).await {
                Ok(Err(StartError::Server(why))) => {
                    return Msg::Input(Input::ServerFailed(no, why));
                }
                Ok(started) => started.map_err(|error| refusal(&error)),
                Err(_) => {
                    let late = overdue("the agent could not be prompted", deadlines.spawn);
                    let cure = "`deadlines.spawn_ms` of its settings gives it longer";
                    Err((Outcome::NoStart, format!("{late}; {cure}")))
                }
            };
            let link = match started {
                Ok(link) => link,
                Err(why) => return Msg::LinkUp(no, Err(why)),
            };
            // Nothing was asked of it yet.
            processes.settled(&key, Duration::ZERO, &|| true).await;
            let helpers = Task::spawn(watch_helpers(processes, key, tools, heard));
            match Actor::spawn_linked(None, Pump, arguments, cell).await {
                Ok((pump, _)) => Msg::LinkUp(
                    no,
                    Ok(LiveLink {
                        link,
                        current,
                        pump,
                        noted: false,
                        _helpers: helpers,
                    }),
                ),
                Err(error) => Msg::LinkUp(no, Err((Outcome::NoStart, error.to_string()))),
            }
        };
        let lost = move |why| Msg::LinkUp(no, Err((Outcome::NoStart, why)));
        self.link_began = self.to.shared.now();
        self.link_task = Some(report(&self.me, work, lost));
    }

    /// A link nobody waits for any more is dropped here, and its process with it.
    pub(super) async fn link_up(&mut self, no: LinkNo, live: LiveLink) {
        if self.machine.awaits_link(no) {
            let turn = self.turn.as_ref().map(|turn| &turn.assignment);
            let unfit = turn.and_then(|assignment| unfit(assignment, &live));
            if let (Some(why), Some(turn)) = (unfit, self.machine.turn()) {
                self.step(Input::Unfit(turn, why)).await;
            }
            self.note_started(&live);
            self.link = Some(live);
            self.link_task = None;
            self.step(Input::LinkReady(no)).await;
        }
    }

    async fn send_prompt(&mut self) {
        let (Some(live), Some(turn)) = (&self.link, &self.turn) else {
            return;
        };
        let prompt = turn.prompt();
        live.current.set(Some(turn.reference));
        let now = self.to.shared.now();
        if let Err(error) = live.link.prompt(turn.reference.fence.turn, &prompt) {
            // The pump's `Exited` is on its way and settles the turn.
            tracing::info!(session = %self.to.key, %error, "the prompt did not reach the agent");
        }
        // Time may be among what is counted.
        let id = turn.reference.fence.turn;
        if let Some(turn) = &mut self.turn {
            turn.silent_since = Some(now);
        }
        self.look_at_budgets(id);
    }

    pub(super) fn note_first_word(&mut self, input: &Input) {
        let Input::Spoke(id) = input else { return };
        let turn = self.turn.as_mut();
        let Some(turn) = turn.filter(|turn| turn.reference.fence.turn == *id) else {
            return;
        };
        if let Some(since) = turn.silent_since.take() {
            let took = self.to.shared.now().since(since);
            let agent = self.to.key.agent.clone();
            self.to.shared.note(Fact::FirstWord(agent, took));
        }
    }

    fn note_started(&self, live: &LiveLink) {
        let (shared, key) = (&self.to.shared, &self.to.key);
        let how = match live.link.facts().continuity {
            Continuity::New => How::New,
            Continuity::Resumed | Continuity::Loaded => How::Resumed,
            Continuity::Fresh { .. } => How::Fresh,
        };
        let took = shared.now().since(self.link_began);
        tracing::info!(session = %key, how = how.as_str(), ?took, "an agent is up");
        let agent = key.agent.clone();
        shared.note(Fact::Started { agent, how, took });
    }

    /// Runs the stop ladder; the link is forgotten when the tree is gone.
    fn stop_link(&mut self, hurry: bool) {
        let Some(live) = &self.link else { return };
        let (no, link) = (self.machine.link_no(), live.link.clone());
        let work = async move {
            if timeout(STOP_BOUND, link.stop(hurry)).await.is_err() {
                tracing::warn!("an agent outlived its stop ladder: {STOP_BOUND:?}");
            }
            Msg::Input(Input::LinkStopped(no))
        };
        let lost = move |_| Msg::Input(Input::LinkStopped(no));
        self.link_task = Some(report(&self.me, work, lost));
    }

    fn arm_timer(&mut self) {
        let Some(at) = self.machine.next_deadline() else {
            self.timer = None;
            return;
        };
        // A deadline that moved away is found out when the old timer fires.
        if self.timer.as_ref().is_none_or(|(armed, _)| *armed > at) {
            let delay = self.to.shared.until(at);
            self.timer = Some((at, self.me.cast_after(delay, Msg::Tick)));
        }
    }
}

/// Work is begun by tools: until the first call of one, what an agent has are its
/// helpers, some of which come up behind it. A call may be on its way while its process
/// runs already: what was seen holds when nothing unheard of it came behind.
async fn watch_helpers(
    processes: Arc<dyn ProcessLedger>,
    key: SessionKey,
    tools: Arc<AtomicBool>,
    events: mpsc::WeakSender<AgentEvent>,
) {
    let all_heard = || {
        let events = events.upgrade();
        events.is_some_and(|events| events.capacity() == events.max_capacity())
    };
    let still = || all_heard() && !tools.load(Ordering::Relaxed);
    let mut wait = FIRST_LOOK_AT_HELPERS;
    loop {
        tokio::time::sleep(wait).await;
        if tools.load(Ordering::Relaxed) {
            return;
        }
        processes.settled(&key, CALLS_ARE_HEARD, &still).await;
        wait = (wait * 2).min(LAST_LOOK_AT_HELPERS);
    }
}

/// A session in the shared server, which may have to be started first; where there
/// is none to be had, a process of its own.
///
/// # Errors
/// [`StartError::Server`] names both reasons when the process does not start either.
async fn in_server(
    server: &Addr<server::Msg>,
    backend: &dyn AgentBackend,
    mut spec: LinkSpec,
    events: mpsc::Sender<AgentEvent>,
) -> server::Tenancy {
    let bound = spec.deadlines.spawn;
    let ask = |reply| {
        server::Msg::Attach(Box::new(server::Tenant {
            spec: spec.clone(),
            events: events.clone(),
            reply,
        }))
    };
    let mut tenancy = server.call(ask, bound).await;
    if tenancy.is_none() {
        // It ended just then: there is another, or a reason.
        tenancy = server.call(ask, bound).await;
    }
    let ended = || StartError::Server("it ended as the chat was opened".into());
    let why = match tenancy.unwrap_or_else(|| Err(ended())) {
        Err(StartError::Server(why)) => why,
        settled => return settled,
    };
    tracing::warn!(session = %spec.key, %why, "a chat gets a process of its own");
    if spec.resume.is_some() && spec.forgotten.is_none() {
        let why = format!("its server cannot be used ({why}), and another process runs it");
        spec.forgotten = Some(why);
    }
    let started = backend.start(spec, events).await;
    started.map_err(|error| match (error, why) {
        (error @ StartError::Auth(_), _) => error,
        (error, why) if error.to_string() == why => StartError::Server(why),
        (error, why) => StartError::Server(format!("its server: {why}\nand without it: {error}")),
    })
}

/// Starts the agent, or else what runs this turn alone: also where the agent hangs,
/// which leaves that a quarter of the time there is.
///
/// # Errors
/// [`StartError::Failed`] names both reasons when that does not start either.
async fn or_alone(
    backend: &dyn AgentBackend,
    alone: Option<(&dyn AgentBackend, &dyn ProcessLedger)>,
    mut spec: LinkSpec,
    events: mpsc::Sender<AgentEvent>,
) -> server::Tenancy {
    let Some((alone, processes)) = alone else {
        return backend.start(spec, events).await;
    };
    let bound = spec.deadlines.spawn / 4 * 3;
    let started = timeout(bound, backend.start(spec.clone(), events.clone())).await;
    let why = match started {
        Err(_) => overdue("the agent could not be prompted", bound),
        Ok(Err(StartError::Failed { message, .. })) => message,
        Ok(settled) => return settled,
    };
    tracing::warn!(session = %spec.key, %why, "a turn is run alone");
    // One of them at a time is in the worktree.
    if !processes.gone(&spec.key, GONE_BOUND).await {
        let message = format!("{why}\n{}", overdue(STILL_ALIVE, GONE_BOUND));
        return Err(StartError::Failed {
            message,
            exit: None,
        });
    }
    spec.resume = None;
    spec.forgotten = Some(format!("it could not be started to be kept: {why}"));
    let started = alone.start(spec, events).await;
    started.map_err(|error| match error {
        StartError::Failed { message, exit } => StartError::Failed {
            message: format!("{why}\nand for this turn alone: {message}"),
            exit,
        },
        error => error,
    })
}

/// Why this agent cannot go on with the turn, if it is one that goes on and the
/// agent has another context than the one that asked.
pub(super) fn unfit(assignment: &Assignment, live: &LiveLink) -> Option<String> {
    assignment.goes_on.as_ref()?;
    let facts = live.link.facts();
    let wanted = assignment.resume.as_ref();
    if wanted.is_some_and(|wanted| wanted.agent_session_id == facts.resume.agent_session_id) {
        return None;
    }
    let why = match facts.continuity {
        Continuity::Fresh { why } => why,
        _ => "its session is not known any more".into(),
    };
    Some(format!(
        "answered, but the agent cannot go on with what it asked: {why}; a retry begins anew"
    ))
}

fn refusal(error: &StartError) -> (Outcome, String) {
    let outcome = match error {
        StartError::Auth(_) => Outcome::Auth,
        StartError::Missing(_) | StartError::Failed { .. } | StartError::Server(_) => {
            Outcome::NoStart
        }
    };
    (outcome, error.to_string())
}

pub(super) fn overdue(what: &str, bound: Duration) -> String {
    format!("{what} within {} s", bound.as_secs())
}
