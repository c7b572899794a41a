//! A server that many sessions of one agent share.
//!
//! It is started when the first of them needs it, probed while it lives
//! ([`rules::health`](crate::rules::health)), ended when it is deaf, too large or
//! unused, and started again under a restart intensity of its own: its crashes are
//! no crashes of the chats that live in it. Sessions hold no server but a tenancy,
//! which they ask for by message; when the server ends, their links end with it.

mod life;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use serde_json::json;
use tokio::sync::mpsc;

use crate::event::{AgentEvent, ExitInfo};
use crate::ports::{Link, LinkSpec, Server, ServerBackend, StartError};
use crate::rules::health::{Cause, Health};
use crate::rules::restart::{History, Rest};
use crate::tree::addr::{Addr, Depth, Task};
use crate::tree::board::Snapshot;
use crate::tree::pool;
use crate::tree::shared::Shared;

use life::{Life, Verdict};

/// Tenancies that may wait for a server; more are refused. Above any number of
/// live sessions that one machine carries.
const WAITERS: usize = 256;
/// Longest wait for the tenants of a server that is renewed: the stop of a session
/// and the end of its processes.
const LEAVE_BOUND: Duration = Duration::from_secs(30);
/// Bytes of standard error that are shown.
const TAIL: usize = 2048;

/// What comes of a request for a tenancy.
pub(crate) type Tenancy = Result<Arc<dyn Link>, StartError>;

/// A session that wants a tenancy.
pub(crate) struct Tenant {
    pub(crate) spec: LinkSpec,
    pub(crate) events: mpsc::Sender<AgentEvent>,
    pub(crate) reply: RpcReplyPort<Tenancy>,
}

/// What the server's actor is told. The number is the life that it is about.
pub(crate) enum Msg {
    /// A session needs it.
    Attach(Box<Tenant>),
    /// It answers, or why not.
    Launched(u64, Result<Arc<dyn Server>, StartError>),
    /// Its process ended.
    Exited(u64, ExitInfo),
    /// Probe `1` was answered well, or why not.
    Probed(u64, u64, Result<(), String>),
    /// Its process tree is gone.
    Ended(u64),
    /// Time for whatever is due.
    Tick(u64),
    /// So many sessions hold a tenancy, and in so many of them a turn runs.
    Used {
        /// Live sessions.
        tenants: usize,
        /// Of these.
        turns: usize,
    },
    /// No turn begins in it until it is renewed: who wants in waits.
    Renewing(u64),
    /// Its tenants are gone: it ends, and starts for who waits.
    Renew(u64),
    /// Nobody has used it for its idle time.
    Unused(u64),
    /// Start it, if somebody waits.
    Start,
    /// End it for good; the actor ends with it.
    Stop,
}

pub(crate) struct ServerActor;

pub(crate) struct Arguments {
    pub(crate) shared: Arc<Shared>,
    /// It gives out the turns.
    pub(crate) pool: Addr<pool::Msg>,
    /// As people call it: the agent.
    pub(crate) name: String,
    pub(crate) backend: Arc<dyn ServerBackend>,
    /// Longest start.
    pub(crate) spawn: Duration,
    /// Without a tenant for so long, it is ended.
    pub(crate) idle_ttl: Duration,
    pub(crate) depth: Depth,
}

pub(crate) struct State {
    to: Arguments,
    me: Addr<Msg>,
    phase: Phase,
    lives: u64,
    history: History,
    waiting: VecDeque<Tenant>,
    tenants: usize,
    turns: usize,
    /// Why its last life ended, and when (wall clock, for people).
    last_restart: Option<(String, DateTime<Utc>)>,
    last_exit: Option<String>,
    stopping: bool,
    /// Why it is to be renewed, once that was found.
    worn: Option<Cause>,
    /// Until its tenants are gone, or were given their time to go.
    renewing: Option<Task>,
    /// The start after a rest.
    rest: Option<Task>,
    /// The end after being unused.
    idle: Option<Task>,
}

enum Phase {
    Down,
    Starting(#[expect(dead_code, reason = "dropping it ends the start")] Task),
    Up(Box<Life>),
    Ending(#[expect(dead_code, reason = "kept until the process tree is gone")] Task),
}

impl Actor for ServerActor {
    type Msg = Msg;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Msg>,
        to: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let state = State {
            me: Addr::new(myself, to.depth.clone()),
            to,
            phase: Phase::Down,
            lives: 0,
            history: History::default(),
            waiting: VecDeque::new(),
            tenants: 0,
            turns: 0,
            last_restart: None,
            last_exit: None,
            stopping: false,
            worn: None,
            renewing: None,
            rest: None,
            idle: None,
        };
        state.show();
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Msg>,
        message: Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.to.depth.taken();
        match message {
            Msg::Attach(tenant) => state.attach(*tenant),
            Msg::Launched(life, launched) if life == state.lives => state.launched(launched),
            Msg::Exited(life, exit) => state.exited(life, &exit),
            Msg::Probed(life, probe, answer) => state.probed(life, probe, answer),
            Msg::Ended(life) if life == state.lives => state.ended(),
            Msg::Tick(life) => state.tick(life),
            Msg::Used { tenants, turns } => state.used(tenants, turns),
            Msg::Renewing(life) => state.renewing(life),
            Msg::Renew(life) => state.renew(life),
            Msg::Unused(life) => state.unused(life),
            Msg::Start => state.start(),
            Msg::Stop => state.stop(),
            // Of an earlier life.
            Msg::Launched(..) | Msg::Ended(_) => {}
        }
        if state.stopping && matches!(state.phase, Phase::Down) {
            myself.stop(None);
        }
        state.show();
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Msg>,
        _event: SupervisionEvent,
        _state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

impl State {
    fn attach(&mut self, tenant: Tenant) {
        if self.stopping {
            return refuse(tenant, "the service is stopping");
        }
        if let Phase::Up(life) = &mut self.phase
            && self.renewing.is_none()
        {
            return life.attach(tenant);
        }
        let now = self.to.shared.now();
        if let Some(Rest::CoolDown(until)) = self.history.resting(now) {
            let wait = until.since(now).as_secs();
            let why = self
                .last_exit
                .as_deref()
                .unwrap_or("it ended again and again");
            return refuse(
                tenant,
                &format!("it rests for {wait} s more after too many crashes: {why}"),
            );
        }
        self.waiting.retain(|tenant| !tenant.reply.is_closed());
        if self.waiting.len() >= WAITERS {
            return refuse(tenant, &format!("{WAITERS} sessions wait for it already"));
        }
        self.waiting.push_back(tenant);
        self.start();
    }

    /// Starts it now, or when its rest is over, if somebody waits for it.
    fn start(&mut self) {
        // Who stopped waiting needs none.
        self.waiting.retain(|tenant| !tenant.reply.is_closed());
        if !matches!(self.phase, Phase::Down) || self.waiting.is_empty() || self.stopping {
            return;
        }
        let now = self.to.shared.now();
        if let Some(rest) = self.history.resting(now) {
            self.rest = Some(self.me.cast_after(rest.until().since(now), Msg::Start));
            return;
        }
        self.lives += 1;
        self.rest = None;
        self.phase = Phase::Starting(life::launch(
            &self.me,
            self.lives,
            self.to.backend.clone(),
            self.to.spawn,
        ));
    }

    fn launched(&mut self, launched: Result<Arc<dyn Server>, StartError>) {
        if self.stopping {
            self.phase = Phase::Down;
            return;
        }
        match launched {
            Ok(server) => {
                let now = self.to.shared.now();
                let limits = self.to.backend.limits();
                let mut life = Life::new(&self.me, self.lives, server, now, limits);
                let waiting = self.waiting.drain(..);
                for tenant in waiting.filter(|tenant| !tenant.reply.is_closed()) {
                    life.attach(tenant);
                }
                self.phase = Phase::Up(Box::new(life));
                // Whoever it was started for may be gone.
                self.used(self.tenants, self.turns);
            }
            Err(error) => {
                self.phase = Phase::Down;
                self.crashed(&format!("it did not start: {error}"));
                for tenant in std::mem::take(&mut self.waiting) {
                    refuse(tenant, &error.to_string());
                }
            }
        }
    }

    fn used(&mut self, tenants: usize, turns: usize) {
        let fewer = turns < self.turns;
        (self.tenants, self.turns) = (tenants, turns);
        if let Phase::Up(life) = &self.phase
            && fewer
            && life.is_alive()
        {
            self.history.worked();
        }
        self.step(|life, now, turns| life.turns(now, turns));
        let unused = tenants == 0 && matches!(self.phase, Phase::Up(_));
        if !unused {
            self.idle = None;
        } else if self.idle.is_none() {
            let wait = self.to.idle_ttl;
            self.idle = Some(self.me.cast_after(wait, Msg::Unused(self.lives)));
        }
    }

    fn renewing(&mut self, life: u64) {
        if life == self.lives && matches!(self.phase, Phase::Up(_)) {
            self.renewing = Some(self.me.cast_after(LEAVE_BOUND, Msg::Renew(life)));
        }
    }

    fn renew(&mut self, life: u64) {
        if life == self.lives && self.renewing.is_some() {
            self.end(match self.worn {
                Some(Cause::Unruly) => "a turn of it would not end, and no other ran",
                _ => "it held too much memory, and no turn ran",
            });
        }
    }

    fn tick(&mut self, life: u64) {
        if life == self.lives {
            self.step(|life, now, _| life.tick(now));
        }
    }

    fn unused(&mut self, life: u64) {
        if life == self.lives && self.tenants == 0 {
            self.end("nobody used it");
        }
    }

    fn probed(&mut self, life: u64, probe: u64, answer: Result<(), String>) {
        if life == self.lives {
            if let Err(why) = &answer {
                tracing::info!(server = %self.to.name, %why, "a server failed a probe");
            }
            self.step(|life, now, _| life.probed(now, probe, answer.is_ok()));
        }
    }

    fn exited(&mut self, life: u64, exit: &ExitInfo) {
        if life != self.lives || !matches!(self.phase, Phase::Up(_)) {
            return;
        }
        let told = format!("{} {}", exit.summary(), tail(&exit.stderr_tail));
        self.last_exit = Some(told.trim().to_owned());
        self.step(|life, now, _| life.exited(now));
    }

    /// One step of the monitor, and what follows.
    fn step(
        &mut self,
        step: impl FnOnce(&mut Life, crate::rules::moment::Moment, usize) -> Option<Verdict>,
    ) {
        let (now, turns) = (self.to.shared.now(), self.turns);
        let Phase::Up(life) = &mut self.phase else {
            return;
        };
        match step(life, now, turns) {
            Some(Verdict::Restart(cause)) => self.restart(cause),
            Some(Verdict::Renew(cause)) => {
                self.worn = Some(cause);
                // A turn may be on its way: only who gives them out knows.
                let definition = self.to.backend.definition().to_owned();
                let ask = pool::Msg::RenewServer(definition, self.lives);
                self.to.pool.cast(ask);
            }
            None => {}
        }
    }

    fn restart(&mut self, cause: Cause) {
        let why = match cause {
            Cause::Exited => format!(
                "it ended: {}",
                self.last_exit.as_deref().unwrap_or("unknown")
            ),
            Cause::Deaf => "it did not answer".into(),
            Cause::DeafWithTurns => {
                format!("it did not answer, and {} turns stood still", self.turns)
            }
            // Those are no end by themselves.
            Cause::Memory | Cause::Unruly => return,
        };
        self.crashed(&why);
        self.end(&why);
    }

    fn crashed(&mut self, why: &str) {
        let shared = &self.to.shared;
        let rest = self
            .history
            .crashed(shared.now(), &shared.settings.intensity, shared.jitter());
        let wait = rest.until().since(shared.now());
        tracing::warn!(server = %self.to.name, %why, ?wait, "a server is down");
        self.last_exit.get_or_insert_with(|| why.to_owned());
        // Then it is shown as rested, and starts for who waits.
        self.rest = Some(self.me.cast_after(wait, Msg::Start));
    }

    fn end(&mut self, why: &str) {
        let Phase::Up(life) = std::mem::replace(&mut self.phase, Phase::Down) else {
            return;
        };
        tracing::info!(server = %self.to.name, %why, "a server is ended");
        self.last_restart = Some((why.to_owned(), Utc::now()));
        (self.worn, self.renewing, self.idle) = (None, None, None);
        self.phase = Phase::Ending(life.end(&self.me, self.lives));
    }

    /// The next life starts only when the last one's processes are gone.
    fn ended(&mut self) {
        self.phase = Phase::Down;
        self.start();
    }

    fn stop(&mut self) {
        self.stopping = true;
        for tenant in std::mem::take(&mut self.waiting) {
            refuse(tenant, "the service is stopping");
        }
        self.end("the service is stopping");
        // Dropping the start kills what it began.
        if matches!(self.phase, Phase::Starting(_)) {
            self.phase = Phase::Down;
        }
    }

    fn show(&self) {
        let (state, health, life) = match &self.phase {
            Phase::Down if self.history.resting(self.to.shared.now()).is_some() => {
                ("backing_off", None, None)
            }
            Phase::Down => ("down", None, None),
            Phase::Starting(_) => ("starting", None, None),
            Phase::Up(life) => ("up", Some(life.health()), Some(life)),
            Phase::Ending(_) => ("stopping", None, None),
        };
        let facts = life.map(|life| life.facts().clone()).unwrap_or_default();
        self.to.shared.board.put(
            &["root", "pool", &format!("server {}", self.to.name)],
            Snapshot {
                kind: "server".into(),
                name: self.to.name.clone(),
                state: state.into(),
                generation: self.lives,
                restarts: self.history.total(),
                last_exit: self.last_exit.clone(),
                mailbox: self.to.depth.get(),
                pid: facts.pid,
                rss_bytes: life.and_then(|life| life.memory()),
                detail: json!({
                    "version": facts.version,
                    "port": facts.port,
                    "tenants": self.tenants,
                    "turns": self.turns,
                    "waiting": self.waiting.len(),
                    "health": health.map(word),
                    "last_restart": self.last_restart.as_ref().map(|(why, _)| why),
                    "last_restart_at": self.last_restart.as_ref().map(|(_, at)| at),
                    "stderr": life.map(|life| tail(&life.stderr()).to_owned()),
                }),
                ..Snapshot::default()
            },
        );
    }
}

fn refuse(tenant: Tenant, why: &str) {
    let _ = tenant.reply.send(Err(StartError::Server(why.to_owned())));
}

/// The last [`TAIL`] bytes or less.
fn tail(text: &str) -> &str {
    let text = text.trim();
    &text[text.floor_char_boundary(text.len().saturating_sub(TAIL))..]
}

fn word(health: Health) -> String {
    match health {
        Health::Well => "well".into(),
        Health::Doubtful(failures) => format!("doubtful: {failures} probes failed"),
        Health::Deaf => "deaf, kept for its turns".into(),
        Health::Over(_) => "over".into(),
    }
}
