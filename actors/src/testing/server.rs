//! A scripted server: sessions of it are played by the scripted agent.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};

use super::backend::FakeBackend;
use crate::event::{AgentEvent, ExitInfo, OutOfMemory, Said};
use crate::ports::{
    AgentBackend as _, Link, LinkSpec, Server, ServerBackend, ServerFacts, StartError,
};
use crate::rules::health::Limits;

/// Scripted servers of one definition, and the record of what was done to them.
#[derive(Clone, Default)]
pub struct FakeServers {
    agents: FakeBackend,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    launches: usize,
    attached: usize,
    most_alive: usize,
    alive: usize,
    refusals: usize,
    panics: usize,
    deaf: bool,
    unruly: bool,
    deaths: usize,
    slow: Duration,
    heard: u64,
    memory: u64,
    life: Option<watch::Sender<Option<ExitInfo>>>,
}

impl FakeServers {
    /// Sessions are played by `agents`.
    #[must_use]
    pub fn of(agents: FakeBackend) -> Self {
        Self {
            agents,
            state: Arc::default(),
        }
    }

    /// The next so many starts fail.
    pub fn refuse(&self, times: usize) {
        self.with(|state| state.refusals = times);
    }

    /// From now on no probe is answered, or each is.
    pub fn deafen(&self, deaf: bool) {
        self.with(|state| state.deaf = deaf);
    }

    /// Something of it is heard.
    pub fn speak(&self) {
        self.with(|state| state.heard += 1);
    }

    /// It holds so many bytes.
    pub fn grow(&self, bytes: u64) {
        self.with(|state| state.memory = bytes);
    }

    /// The next look at its facts panics, and its actor with it.
    pub fn panic(&self) {
        self.with(|state| state.panics += 1);
    }

    /// A turn of the one that runs would not end.
    pub fn revolt(&self) {
        self.with(|state| state.unruly = true);
    }

    /// The next session that is opened kills it.
    pub fn die_of_a_session(&self) {
        self.with(|state| state.deaths += 1);
    }

    /// Starts take this much longer.
    pub fn slow_down(&self, by: Duration) {
        self.with(|state| state.slow = by);
    }

    /// Kills it, as `kill -9` would.
    pub fn kill(&self) {
        self.killed_for(None);
    }

    /// Kills it, as the kernel does where memory runs out.
    pub fn kill_of_memory(&self, whose: OutOfMemory) {
        self.killed_for(Some(whose));
    }

    fn killed_for(&self, out_of_memory: Option<OutOfMemory>) {
        self.with(|state| {
            if let Some(life) = &state.life {
                life.send_replace(Some(ExitInfo {
                    signal: Some(9),
                    out_of_memory,
                    ..ExitInfo::default()
                }));
            }
        });
    }

    /// How many were started.
    #[must_use]
    pub fn launches(&self) -> usize {
        self.with(|state| state.launches)
    }

    /// How many sessions were opened.
    #[must_use]
    pub fn attached(&self) -> usize {
        self.with(|state| state.attached)
    }

    /// How many are alive, and the most that ever were.
    #[must_use]
    pub fn alive(&self) -> (usize, usize) {
        self.with(|state| (state.alive, state.most_alive))
    }

    fn with<R>(&self, look: impl FnOnce(&mut State) -> R) -> R {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl ServerBackend for FakeServers {
    fn definition(&self) -> &str {
        "fake"
    }

    fn limits(&self) -> Limits {
        Limits {
            memory: Some(1000),
            ..Limits::default()
        }
    }

    async fn launch(&self) -> Result<Arc<dyn Server>, StartError> {
        let slow = self.with(|state| state.slow);
        tokio::time::sleep(Duration::from_millis(100) + slow).await;
        let (life, dead) = watch::channel(None);
        let refused = self.with(|state| {
            let refused = state.refusals > 0;
            state.refusals = state.refusals.saturating_sub(1);
            if !refused {
                state.launches += 1;
                state.alive += 1;
                state.most_alive = state.most_alive.max(state.alive);
                state.memory = 0;
                state.unruly = false;
                state.life = Some(life);
            }
            refused
        });
        if refused {
            return Err(StartError::Failed {
                message: "the fake server refuses to start".into(),
                exit: None,
            });
        }
        Ok(Arc::new(FakeServer {
            servers: self.clone(),
            dead,
        }))
    }
}

struct FakeServer {
    servers: FakeServers,
    dead: watch::Receiver<Option<ExitInfo>>,
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.servers.kill();
        self.servers.with(|state| state.alive -= 1);
    }
}

#[async_trait]
impl Server for FakeServer {
    fn facts(&self) -> ServerFacts {
        let panics = self.servers.with(|state| {
            let now = state.panics;
            state.panics = now.saturating_sub(1);
            now > 0
        });
        assert!(!panics, "the fake server panics as told");
        ServerFacts {
            version: "fake".into(),
            ..ServerFacts::default()
        }
    }

    async fn attach(
        &self,
        spec: LinkSpec,
        events: mpsc::Sender<AgentEvent>,
    ) -> Result<Arc<dyn Link>, StartError> {
        let dies = self.servers.with(|state| {
            let dies = state.deaths > 0;
            state.deaths = state.deaths.saturating_sub(1);
            state.attached += usize::from(!dies);
            dies
        });
        if dies {
            self.servers.kill();
            return Err(StartError::Server("the fake server died of it".into()));
        }
        let (inner, said) = mpsc::channel(64);
        let link = self.servers.agents.start(spec, inner).await?;
        tokio::spawn(tell(said, events, self.dead.clone()));
        Ok(link)
    }

    async fn probe(&self) -> Result<(), String> {
        if self.servers.with(|state| state.deaf) {
            std::future::pending().await
        }
        Ok(())
    }

    fn heard(&self) -> u64 {
        self.servers.with(|state| state.heard)
    }

    fn rss_bytes(&self) -> Option<u64> {
        Some(self.servers.with(|state| state.memory))
    }

    fn is_unruly(&self) -> bool {
        self.servers.with(|state| state.unruly)
    }

    async fn exited(&self) -> ExitInfo {
        ended(self.dead.clone()).await
    }

    async fn stop(&self) -> ExitInfo {
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.servers.kill();
        ended(self.dead.clone()).await
    }
}

async fn ended(mut dead: watch::Receiver<Option<ExitInfo>>) -> ExitInfo {
    let exit = dead.wait_for(Option::is_some).await;
    exit.ok().and_then(|exit| exit.clone()).unwrap_or_default()
}

/// The words of one session until the server ends.
async fn tell(
    mut said: mpsc::Receiver<AgentEvent>,
    events: mpsc::Sender<AgentEvent>,
    dead: watch::Receiver<Option<ExitInfo>>,
) {
    let over = ended(dead);
    tokio::pin!(over);
    loop {
        let event = tokio::select! {
            biased;
            exit = &mut over => AgentEvent {
                turn: None,
                said: Said::Exited(ExitInfo { shared: true, ..exit }),
            },
            event = said.recv() => match event {
                Some(event) => event,
                None => return,
            },
        };
        let last = matches!(event.said, Said::Exited(_));
        if events.send(event).await.is_err() || last {
            return;
        }
    }
}
