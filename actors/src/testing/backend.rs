//! A scripted agent: each prompt plays a list of steps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};

use super::server::FakeServers;
use crate::event::{
    AgentEvent, AgentFault, AgentStop, Answer, Ask, AskKind, AskOption, Command, ExitInfo,
    FaultClass, Reset, Said, Tool,
};
use crate::ids::{AgentName, SessionKey, TurnId};
use crate::model::{Continuity, Deadlines, LinkFacts, Policy, Resume, Usage};
use crate::ports::{
    AgentBackend, AgentEntry, Agents, Footprint, Link, LinkError, LinkSpec, ProcessLedger, Prompt,
    ServerBackend, StartError,
};

/// What a fake process tree takes unless it is said otherwise.
pub const WEIGHT: u64 = 1 << 20;

const DAY: Duration = Duration::from_secs(86_400);

/// One step of a script.
#[derive(Clone, Debug)]
pub enum Step {
    /// Says this.
    Say(&'static str),
    /// Tells of business of its own, which is no work on the prompt.
    Mutter,
    /// Says something so many times, as fast as it can.
    Flood(usize),
    /// Says the numbers from 0 up to this, each in a piece of its own.
    Count(usize),
    /// Does nothing for so long.
    Wait(Duration),
    /// Asks for consent and waits for the answer.
    Ask,
    /// Asks so many times at once and waits for all answers.
    AskAtOnce(usize),
    /// Asks for consent, and asks no more when there is no answer after so long.
    AskAwhile(Duration),
    /// Ends the turn before this one once more.
    LateEnd,
    /// Ends the turn with an error.
    Fail,
    /// Takes no prompt as it is set, in this context.
    Unfit,
    /// Ends the turn as refused before anything was said.
    Refuse(FaultClass, Option<Reset>),
    /// Reports that so many tokens were spent.
    Spend(i64),
    /// The process ends.
    Exit(i32),
    /// Never does anything again, but honours a cancel.
    Hang,
    /// From here on does not honour a cancel.
    IgnoreCancel,
}

/// What a start does.
#[derive(Clone, Debug)]
pub enum Start {
    /// Works after so long.
    After(Duration),
    /// Fails.
    Refused,
    /// Panics.
    Panic,
}

/// One prompt, and what the context knew that took it.
#[derive(Clone, Debug)]
pub struct ToldContext {
    /// Whose context it is.
    pub key: SessionKey,
    /// The turn.
    pub turn: TurnId,
    /// The agent's own session.
    pub context: String,
    /// The user's words.
    pub text: String,
    /// The section in front of the prompt.
    pub handover: Option<String>,
}

/// Scripted agents, and the record of what was done to them.
#[derive(Clone, Default)]
pub struct FakeBackend {
    state: Arc<Mutex<State>>,
    alive: Arc<watch::Sender<BTreeMap<SessionKey, usize>>>,
    /// Processes of others that work in every folder.
    pub others: Arc<Mutex<Vec<String>>>,
}

#[derive(Default)]
struct State {
    starts: VecDeque<Start>,
    scripts: VecDeque<Vec<Step>>,
    prompts: Vec<(SessionKey, TurnId, String)>,
    told: Vec<ToldContext>,
    contexts: u64,
    refuses_renewals: bool,
    cannot_continue: bool,
    answers: Vec<(String, Answer)>,
    started: Vec<SessionKey>,
    most_alive: usize,
    killers: Vec<mpsc::UnboundedSender<()>>,
    /// How often the agents lost their sessions.
    forgets: u32,
    facts_panics: u32,
    get_panics: u32,
    definition: u64,
    memory: Option<u64>,
    /// What each process tree takes, where it is not the same as all others.
    weights: BTreeMap<SessionKey, u64>,
    /// Processes that agents left running; none: nobody can tell.
    left_running: BTreeMap<SessionKey, Option<usize>>,
    /// Slash commands that agents tell as they start.
    offered: Vec<Command>,
    /// Whose directory was deleted.
    astray: BTreeSet<SessionKey>,
    settled: Vec<SessionKey>,
    /// Threads that were made to wait for a look at processes.
    blocked: Vec<ThreadId>,
}

impl FakeBackend {
    /// The agents are defined anew.
    pub fn redefine(&self) {
        self.with(|state| state.definition += 1);
    }

    /// No agent that starts from now on may take more bytes than this.
    pub fn limit_memory(&self, bytes: u64) {
        self.with(|state| state.memory = Some(bytes));
    }

    /// The process tree of `key` takes so many bytes, and not [`WEIGHT`].
    pub fn weigh(&self, key: &SessionKey, bytes: u64) {
        self.with(|state| state.weights.insert(key.clone(), bytes));
    }

    /// The agent of `key` has left so many processes running; none: nobody can tell.
    pub fn leave_running(&self, key: &SessionKey, processes: Option<usize>) {
        self.with(|state| state.left_running.insert(key.clone(), processes));
    }

    /// Whether this thread was made to wait for a look at processes.
    #[must_use]
    pub fn has_blocked_me(&self) -> bool {
        let me = thread::current().id();
        self.with(|state| state.blocked.contains(&me))
    }

    /// How often the processes of the key were taken for its agent and its helpers.
    #[must_use]
    pub fn settled_of(&self, key: &SessionKey) -> usize {
        self.with(|state| state.settled.iter().filter(|of| *of == key).count())
    }

    /// The next start does this; starts beyond the list work at once.
    pub fn next_start(&self, start: Start) {
        self.with(|state| state.starts.push_back(start));
    }

    /// The next prompt plays this; prompts beyond the list say one word.
    pub fn next_turn(&self, script: Vec<Step>) {
        self.with(|state| state.scripts.push_back(script));
    }

    /// Agents that start from here on offer this slash command.
    pub fn offers(&self, name: &str) {
        let command = Command {
            name: name.into(),
            description: String::new(),
        };
        self.with(|state| state.offered.push(command));
    }

    /// Deletes the directory that the agent was started in.
    pub fn lose_ground(&self, key: &SessionKey) {
        self.with(|state| state.astray.insert(key.clone()));
    }

    /// Every prompt that reached an agent, in order.
    #[must_use]
    pub fn prompts(&self) -> Vec<(SessionKey, TurnId, String)> {
        self.with(|state| state.prompts.clone())
    }

    /// From here on no agent begins a fresh context while it runs.
    pub fn refuse_renewals(&self) {
        self.with(|state| state.refuses_renewals = true);
    }

    /// From here on no agent says that its context can be continued.
    pub fn deny_continuing(&self) {
        self.with(|state| state.cannot_continue = true);
    }

    /// What every prompt that reached an agent had in front of it, in order.
    #[must_use]
    pub fn told(&self) -> Vec<ToldContext> {
        self.with(|state| state.told.clone())
    }

    /// Every answer that reached an agent, with the question's id, in order.
    #[must_use]
    pub fn answers(&self) -> Vec<(String, Answer)> {
        self.with(|state| state.answers.clone())
    }

    /// Every start, in order.
    #[must_use]
    pub fn started(&self) -> Vec<SessionKey> {
        self.with(|state| state.started.clone())
    }

    /// Process trees that are alive now.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.alive.borrow().values().sum()
    }

    /// The most trees that were ever alive for one key.
    #[must_use]
    pub fn most_alive(&self) -> usize {
        self.with(|state| state.most_alive)
    }

    /// From now on agents do not know the sessions that they had before.
    pub fn forget(&self) {
        self.with(|state| state.forgets += 1);
    }

    /// Kills one of the live agents, as `kill -9` would.
    pub fn kill_one(&self, which: usize) {
        self.with(|state| {
            state.killers.retain(|killer| !killer.is_closed());
            if !state.killers.is_empty() {
                let index = which % state.killers.len();
                let _ = state.killers[index].send(());
            }
        });
    }

    /// The next look at a link's facts panics, and its session with it.
    pub fn panic_session(&self) {
        self.with(|state| state.facts_panics += 1);
    }

    /// The next look for an agent panics, and the pool with it.
    pub fn panic_pool(&self) {
        self.with(|state| state.get_panics += 1);
    }

    /// The pending panics and bad starts are called off.
    pub fn calm(&self) {
        self.with(|state| {
            state.starts.clear();
            state.facts_panics = 0;
            state.get_panics = 0;
        });
    }

    fn new_context(&self, key: &SessionKey) -> String {
        self.with(|state| {
            state.contexts += 1;
            format!("fake-{key}-{}-{}", state.contexts, state.forgets)
        })
    }

    /// The session is of the time since it forgot all.
    fn remembers(&self, resume: &Resume) -> bool {
        let forgets = self.with(|state| state.forgets);
        resume.agent_session_id.ends_with(&format!("-{forgets}"))
    }

    fn with<R>(&self, look: impl FnOnce(&mut State) -> R) -> R {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn born(&self, key: &SessionKey) -> Alive {
        let mut count = 0;
        self.alive.send_modify(|alive| {
            let entry = alive.entry(key.clone()).or_default();
            *entry += 1;
            count = *entry;
        });
        self.with(|state| state.most_alive = state.most_alive.max(count));
        Alive {
            backend: self.clone(),
            key: key.clone(),
        }
    }
}

/// A process tree; it takes 20 ms to die after it is dropped.
struct Alive {
    backend: FakeBackend,
    key: SessionKey,
}

impl Drop for Alive {
    fn drop(&mut self) {
        let (alive, key) = (self.backend.alive.clone(), self.key.clone());
        let die = move || {
            alive.send_modify(|alive| {
                if let Some(count) = alive.get_mut(&key) {
                    *count -= 1;
                }
            });
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(async move {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    die();
                });
            }
            Err(_) => die(),
        }
    }
}

#[async_trait]
impl AgentBackend for FakeBackend {
    async fn start(
        &self,
        spec: LinkSpec,
        events: mpsc::Sender<AgentEvent>,
    ) -> Result<Arc<dyn Link>, StartError> {
        let start = self
            .with(|state| state.starts.pop_front())
            .unwrap_or(Start::After(Duration::ZERO));
        let alive = self.born(&spec.key);
        match start {
            Start::After(delay) => tokio::time::sleep(delay).await,
            Start::Refused => {
                return Err(StartError::Failed {
                    message: "the fake agent refuses to start".into(),
                    exit: None,
                });
            }
            Start::Panic => panic!("the fake agent panics as told"),
        }
        let offered = self.with(|state| {
            state.started.push(spec.key.clone());
            state.astray.remove(&spec.key);
            state.offered.clone()
        });
        if !offered.is_empty() {
            let said = Said::Commands(offered);
            let _ = events.send(AgentEvent { turn: None, said }).await;
        }
        let (orders, inbox) = mpsc::unbounded_channel();
        let asks = Asks::default();
        let (killer, killed) = mpsc::unbounded_channel();
        self.with(|state| state.killers.push(killer));
        let player = Player {
            events,
            inbox,
            asks: asks.clone(),
            last: None,
        };
        let player = tokio::spawn(play(player, alive, killed));
        let (session, continuity) = match (spec.resume, spec.forgotten) {
            (Some(resume), _) if self.remembers(&resume) => {
                (resume.agent_session_id, Continuity::Resumed)
            }
            (Some(_), _) => {
                let why = "it forgot its session".into();
                (self.new_context(&spec.key), Continuity::Fresh { why })
            }
            (None, None) => (self.new_context(&spec.key), Continuity::New),
            (None, Some(why)) => (self.new_context(&spec.key), Continuity::Fresh { why }),
        };
        Ok(Arc::new(FakeLink {
            backend: self.clone(),
            context: Mutex::new((session, continuity)),
            key: spec.key,
            orders,
            asks,
            player: player.abort_handle(),
        }))
    }
}

enum Do {
    Prompt(TurnId, Vec<Step>),
    Cancel(TurnId),
    Answer,
    Stop(mpsc::UnboundedSender<ExitInfo>),
}

/// How many questions were asked, and which of them wait.
type Asks = Arc<Mutex<(u32, BTreeSet<String>)>>;

struct FakeLink {
    backend: FakeBackend,
    /// Its own session, and how that began.
    context: Mutex<(String, Continuity)>,
    key: SessionKey,
    orders: mpsc::UnboundedSender<Do>,
    asks: Asks,
    player: tokio::task::AbortHandle,
}

impl FakeLink {
    fn session(&self) -> String {
        let context = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        context.0.clone()
    }
}

impl Drop for FakeLink {
    fn drop(&mut self) {
        self.player.abort();
    }
}

#[async_trait]
impl Link for FakeLink {
    fn facts(&self) -> LinkFacts {
        let panics = self.backend.with(|state| {
            let now = state.facts_panics;
            state.facts_panics = now.saturating_sub(1);
            now > 0
        });
        assert!(!panics, "the fake link panics as told");
        let (agent_session_id, continuity) = self
            .context
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        LinkFacts {
            pid: None,
            resume: Resume {
                agent_session_id,
                home_id: "home".into(),
                config_hash: "config".into(),
            },
            backend: "acp_warm".into(),
            continuity,
        }
    }

    fn can_continue(&self) -> bool {
        self.backend.with(|state| !state.cannot_continue)
    }

    fn has_ground(&self) -> bool {
        self.backend.with(|state| !state.astray.contains(&self.key))
    }

    fn prompt(&self, turn: TurnId, prompt: &Prompt) -> Result<(), LinkError> {
        let context = self.session();
        let script = self.backend.with(|state| {
            let script = state.scripts.pop_front();
            let script = script.unwrap_or_else(|| vec![Step::Say("done")]);
            if !matches!(script.first(), Some(Step::Unfit)) {
                let text = prompt.text.clone();
                state.prompts.push((self.key.clone(), turn, text.clone()));
                state.told.push(ToldContext {
                    key: self.key.clone(),
                    turn,
                    context,
                    text,
                    handover: prompt.handover.clone(),
                });
            }
            script
        });
        self.orders
            .send(Do::Prompt(turn, script))
            .map_err(|_| LinkError::Gone)
    }

    fn cancel(&self, turn: TurnId) {
        let _ = self.orders.send(Do::Cancel(turn));
    }

    fn answer(&self, ask: &str, answer: &Answer) -> Result<(), LinkError> {
        if self.orders.is_closed() {
            return Err(LinkError::Gone);
        }
        let mut asks = self.asks.lock().unwrap_or_else(PoisonError::into_inner);
        if !asks.1.remove(ask) {
            return Err(LinkError::Unknown);
        }
        self.backend
            .with(|state| state.answers.push((ask.to_owned(), answer.clone())));
        self.orders.send(Do::Answer).map_err(|_| LinkError::Gone)
    }

    async fn renew(&self, _prompt: &Prompt, why: &str) -> Result<LinkFacts, String> {
        if self.backend.with(|state| state.refuses_renewals) {
            return Err(why.into());
        }
        let fresh = Continuity::Fresh { why: why.into() };
        let session = self.backend.new_context(&self.key);
        *self.context.lock().unwrap_or_else(PoisonError::into_inner) = (session, fresh);
        Ok(self.facts())
    }

    async fn stop(&self, hurry: bool) -> ExitInfo {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let mut exit = ExitInfo::default();
        if self.orders.send(Do::Stop(sender)).is_ok() {
            if !hurry {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            exit = receiver.recv().await.unwrap_or_default();
        }
        self.backend.gone(&self.key, Duration::from_secs(5)).await;
        exit
    }
}

/// The agent itself.
struct Player {
    events: mpsc::Sender<AgentEvent>,
    inbox: mpsc::UnboundedReceiver<Do>,
    asks: Asks,
    /// The turn before this one.
    last: Option<TurnId>,
}

async fn play(mut player: Player, alive: Alive, mut killed: mpsc::UnboundedReceiver<()>) {
    let exit = tokio::select! {
        biased;
        _ = killed.recv() => ExitInfo { signal: Some(9), ..ExitInfo::default() },
        exit = player.run() => exit,
    };
    drop(alive);
    player.say(None, Said::Exited(exit)).await;
}

impl Player {
    async fn run(&mut self) -> ExitInfo {
        while let Some(order) = self.inbox.recv().await {
            match order {
                Do::Prompt(turn, script) => {
                    if let Some(exit) = self.turn(turn, script).await {
                        return exit;
                    }
                    self.last = Some(turn);
                }
                Do::Stop(reply) => return stopped(&reply),
                Do::Cancel(_) | Do::Answer => {}
            }
        }
        ExitInfo::default()
    }

    async fn say(&self, turn: Option<TurnId>, said: Said) {
        let _ = self.events.send(AgentEvent { turn, said }).await;
    }

    async fn end(&self, turn: TurnId, stop: AgentStop) {
        self.say(Some(turn), Said::TurnEnded(stop)).await;
    }

    /// Plays a turn; gives the exit if the process ends in it.
    async fn turn(&mut self, turn: TurnId, script: Vec<Step>) -> Option<ExitInfo> {
        let mut deaf = false;
        for step in script {
            let mut pause = Duration::ZERO;
            let mut for_answer = false;
            match step {
                Step::Say(text) => self.say(Some(turn), Said::Text(text.into())).await,
                Step::Mutter => {
                    let own = Said::Raw {
                        kind: "session_info_update".into(),
                        value: serde_json::Value::Null,
                    };
                    self.say(Some(turn), own).await;
                }
                Step::Flood(times) => {
                    for _ in 0..times {
                        self.say(Some(turn), Said::Text("word ".into())).await;
                    }
                }
                Step::Count(times) => {
                    for number in 0..times {
                        self.say(Some(turn), Said::Text(format!("{number} "))).await;
                    }
                }
                Step::Wait(time) => pause = time,
                Step::Ask | Step::AskAtOnce(_) => {
                    let times = if let Step::AskAtOnce(times) = step {
                        times
                    } else {
                        1
                    };
                    for _ in 0..times {
                        let ask = self.ask();
                        self.say(Some(turn), Said::Permission(ask)).await;
                    }
                    for_answer = true;
                    pause = DAY;
                }
                Step::AskAwhile(time) => {
                    let ask = self.ask();
                    self.say(Some(turn), Said::Permission(ask)).await;
                    (for_answer, pause) = (true, time);
                }
                Step::LateEnd => {
                    self.say(self.last, Said::Text("late".into())).await;
                    self.say(self.last, Said::TurnEnded(AgentStop::EndTurn))
                        .await;
                }
                Step::Fail => {
                    let message = "the fake agent fails".into();
                    let class = FaultClass::Other;
                    let fault = AgentFault { class, message };
                    self.end(turn, AgentStop::Error(fault)).await;
                    return None;
                }
                Step::Unfit => {
                    let why = "the fake agent cannot be set so".into();
                    self.say(Some(turn), Said::Unfit(why)).await;
                    return None;
                }
                Step::Refuse(class, reset) => {
                    let message = "the model refuses".into();
                    let fault = AgentFault { class, message };
                    self.end(turn, AgentStop::Refused { fault, reset }).await;
                    return None;
                }
                Step::Spend(tokens) => {
                    let usage = Usage {
                        output_tokens: tokens,
                        ..Usage::default()
                    };
                    self.say(Some(turn), Said::Usage(usage)).await;
                }
                Step::Exit(code) => {
                    return Some(ExitInfo {
                        code: Some(code),
                        ..ExitInfo::default()
                    });
                }
                Step::Hang => pause = 30 * DAY,
                Step::IgnoreCancel => deaf = true,
            }
            let until = tokio::time::Instant::now() + pause;
            loop {
                tokio::select! {
                    biased;
                    order = self.inbox.recv() => match order {
                        Some(Do::Cancel(of)) if of == turn && !deaf => {
                            self.end(turn, AgentStop::Cancelled).await;
                            return None;
                        }
                        Some(Do::Stop(reply)) => return Some(stopped(&reply)),
                        Some(Do::Answer) if for_answer && self.all_answered() => break,
                        Some(_) => {}
                        None => return Some(ExitInfo::default()),
                    },
                    () = tokio::time::sleep_until(until) => break,
                }
            }
            for ask in self.unanswered() {
                self.say(Some(turn), Said::Withdrawn(ask)).await;
            }
        }
        self.end(turn, AgentStop::EndTurn).await;
        None
    }

    fn all_answered(&self) -> bool {
        let asks = self.asks.lock().unwrap_or_else(PoisonError::into_inner);
        asks.1.is_empty()
    }

    /// Takes back what it still asks.
    fn unanswered(&self) -> BTreeSet<String> {
        let mut asks = self.asks.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut asks.1)
    }

    fn ask(&self) -> Ask {
        let mut asks = self.asks.lock().unwrap_or_else(PoisonError::into_inner);
        asks.0 += 1;
        let id = ask_id(asks.0);
        asks.1.insert(id.clone());
        Ask {
            id,
            tool: Tool {
                id: "tool".into(),
                kind: Some("execute".into()),
                ..Tool::default()
            },
            question: None,
            options: options(),
        }
    }
}

fn options() -> Vec<AskOption> {
    let kinds = [
        ("allow", AskKind::AllowOnce),
        ("always", AskKind::AllowAlways),
        ("reject", AskKind::RejectOnce),
    ];
    let option = |(id, kind): (&str, AskKind)| AskOption {
        id: id.into(),
        label: id.into(),
        kind,
    };
    kinds.map(option).into()
}

fn ask_id(number: u32) -> String {
    format!("ask-{number}")
}

fn stopped(reply: &mpsc::UnboundedSender<ExitInfo>) -> ExitInfo {
    let exit = ExitInfo {
        code: Some(0),
        expected: true,
        ..ExitInfo::default()
    };
    let _ = reply.send(exit.clone());
    exit
}

/// The agents `fake` and `other`, with processes of their own, `shared`, with a
/// server, and `lonely`, which is started once more where it does not start.
#[derive(Clone)]
pub struct FakeAgents {
    /// Runs it.
    pub backend: FakeBackend,
    /// Run another, by the name of `shared`.
    pub servers: FakeServers,
    /// Its idle time.
    pub idle_ttl: Duration,
    /// Its clocks.
    pub deadlines: Deadlines,
    /// Its policy.
    pub policy: Policy,
}

impl Agents for FakeAgents {
    fn get(&self, name: &AgentName) -> Option<AgentEntry> {
        let panics = self.backend.with(|state| {
            let now = state.get_panics;
            state.get_panics = now.saturating_sub(1);
            now > 0
        });
        assert!(!panics, "the fake agents panic as told");
        let server: Option<Arc<dyn ServerBackend>> = match name.as_str() {
            "fake" | "other" | "lonely" => None,
            "shared" => Some(Arc::new(self.servers.clone())),
            _ => return None,
        };
        let alone = (name.as_str() == "lonely")
            .then(|| Arc::new(self.backend.clone()) as Arc<dyn AgentBackend>);
        Some(AgentEntry {
            server,
            backend: Arc::new(self.backend.clone()),
            alone,
            policy: self.policy,
            idle_ttl: self.idle_ttl,
            deadlines: self.deadlines,
            memory: self.backend.with(|state| state.memory),
            definition: self.backend.with(|state| state.definition),
        })
    }

    fn names(&self) -> Vec<AgentName> {
        ["fake", "other", "shared", "lonely"].map(Into::into).into()
    }
}

#[async_trait]
impl ProcessLedger for FakeBackend {
    async fn gone(&self, key: &SessionKey, within: Duration) -> bool {
        let mut alive = self.alive.subscribe();
        let none = alive.wait_for(|alive| alive.get(key).is_none_or(|count| *count == 0));
        tokio::time::timeout(within, none).await.is_ok()
    }

    async fn leave(&self, _folder: &std::path::Path) -> Vec<String> {
        self.others
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn rss_bytes(&self, key: &SessionKey) -> Option<u64> {
        let me = thread::current().id();
        self.with(|state| {
            state.blocked.push(me);
            Some(state.weights.get(key).copied().unwrap_or(WEIGHT))
        })
    }

    async fn footprints(&self) -> BTreeMap<SessionKey, Footprint> {
        let alive = self.alive.borrow().clone();
        let alive = alive.into_iter().filter(|(_, count)| *count > 0);
        self.with(|state| {
            let weigh = |(key, processes)| {
                let bytes = state.weights.get(&key).copied().unwrap_or(WEIGHT);
                (key, Footprint { bytes, processes })
            };
            alive.map(weigh).collect()
        })
    }

    async fn settled(&self, key: &SessionKey, wait: Duration, still: &(dyn Fn() -> bool + Sync)) {
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        if still() {
            self.with(|state| state.settled.push(key.clone()));
        }
    }

    async fn left_running(&self, key: &SessionKey) -> Option<usize> {
        self.with(|state| state.left_running.get(key).copied().unwrap_or(Some(0)))
    }
}
