//! A tree over fakes, with what a test needs to drive and to watch it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::event::{AskKind, AskOption};
use crate::ids::{AgentName, ChatId, PromptId, SessionId, SessionKey, TaskId};
use crate::model::{Checkpoint, Deadlines, Policy, Worktree};
use crate::outcome::Outcome;
use crate::ports::Ports;
use crate::prompt::{AnsweredBy, Settled};
use crate::rules::permission;
use crate::rules::routing::Origin;
use crate::testing::backend::{FakeAgents, FakeBackend};
use crate::testing::checks::FakeChecks;
use crate::testing::invariants;
use crate::testing::memory::{MemoryStore, TaskRow};
use crate::testing::meter::FakeMeter;
use crate::testing::server::FakeServers;
use crate::testing::worktrees::FakeWorktrees;
use crate::tree::TreeSettings;
use crate::tree::handle::{Refusal, TreeHandle};

/// Longest way to the end of a tree after its grace.
const STOP_BOUND: Duration = Duration::from_secs(60);

/// A running tree and the fakes behind it.
pub struct Harness {
    /// The tree.
    pub tree: TreeHandle,
    /// Its store.
    pub store: MemoryStore,
    /// Its agents.
    pub backend: FakeBackend,
    /// The servers of the agent `shared`, which it plays too.
    pub servers: FakeServers,
    /// Its worktrees.
    pub worktrees: FakeWorktrees,
    /// What judges in its arenas.
    pub checks: FakeChecks,
    /// What it counted.
    pub meter: FakeMeter,
    /// Tests are told of new tasks unless this is set: a lost notification.
    pub lose_wakeups: bool,
}

/// What a harness starts with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The tree's settings.
    pub tree: TreeSettings,
    /// Idle time of agents.
    pub idle_ttl: Duration,
    /// Clocks of turns.
    pub deadlines: Deadlines,
    /// What agents may do.
    pub policy: Policy,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            tree: TreeSettings {
                seed: 1,
                ..TreeSettings::default()
            },
            idle_ttl: Duration::from_secs(30 * 60),
            deadlines: Deadlines::default(),
            policy: Policy::AllowAll,
        }
    }
}

impl Harness {
    /// Starts a tree on nothing. Needs a runtime with paused time.
    ///
    /// # Panics
    /// When the tree does not start.
    pub async fn start(setup: Setup) -> Self {
        let (store, backend) = (MemoryStore::default(), FakeBackend::default());
        let worktrees = FakeWorktrees::default();
        Self::start_on(setup, store, backend, worktrees, FakeChecks::default()).await
    }

    /// Stops the tree with this grace and starts another on what it left.
    ///
    /// # Panics
    /// When the tree does not stop, or the other does not start.
    pub async fn start_over(self, grace: Duration, setup: Setup) -> Self {
        self.stop(grace).await;
        let store = self.store.second_process();
        Self::start_on(setup, store, self.backend, self.worktrees, self.checks).await
    }

    async fn start_on(
        setup: Setup,
        store: MemoryStore,
        backend: FakeBackend,
        worktrees: FakeWorktrees,
        checks: FakeChecks,
    ) -> Self {
        let servers = FakeServers::of(backend.clone());
        let meter = FakeMeter::default();
        let ports = Ports {
            queue: Arc::new(store.clone()),
            lease: Arc::new(store.clone()),
            journal: Arc::new(store.clone()),
            limits: Arc::new(store.clone()),
            agents: Arc::new(FakeAgents {
                backend: backend.clone(),
                servers: servers.clone(),
                idle_ttl: setup.idle_ttl,
                deadlines: setup.deadlines,
                policy: setup.policy,
            }),
            worktrees: Arc::new(worktrees.clone()),
            review: Arc::new(worktrees.clone()),
            operations: Arc::new(store.clone()),
            processes: Arc::new(backend.clone()),
            arenas: Arc::new(store.clone()),
            checks: Arc::new(checks.clone()),
            reap_rows: Arc::new(store.clone()),
            reap_files: Arc::new(worktrees.clone()),
            set_up_rows: Arc::new(store.clone()),
            set_up_files: Arc::new(worktrees.clone()),
            meter: Arc::new(meter.clone()),
        };
        let tree = TreeHandle::start(ports, setup.tree)
            .await
            .expect("the tree starts");
        Self {
            tree,
            store,
            backend,
            servers,
            worktrees,
            checks,
            meter,
            lose_wakeups: false,
        }
    }

    /// A new chat of a new workspace for the fake agent.
    #[must_use]
    pub fn chat(&self) -> (SessionId, SessionKey) {
        (SessionId::new(), self.key())
    }

    /// A new chat for the fake agent.
    #[must_use]
    pub fn key(&self) -> SessionKey {
        SessionKey {
            chat: ChatId::new(),
            agent: AgentName::from("fake"),
        }
    }

    /// Queues a prompt.
    pub fn enqueue(&self, session: SessionId, key: &SessionKey, input: &str) -> TaskId {
        let task = self.store.insert(session, key.clone(), input);
        if !self.lose_wakeups {
            self.tree.wakeup();
        }
        task
    }

    /// Queues a prompt that is no turn of the chat.
    pub fn enqueue_from(
        &self,
        origin: Origin,
        session: SessionId,
        key: &SessionKey,
        input: &str,
    ) -> TaskId {
        let task = self.store.insert_from(origin, session, key.clone(), input);
        if !self.lose_wakeups {
            self.tree.wakeup();
        }
        task
    }

    /// The task's row.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn task(&self, task: TaskId) -> TaskRow {
        self.store.with(|rows| rows.tasks[&task].clone())
    }

    /// The checkpoint that the task's turn names.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn checkpoint(&self, task: TaskId) -> Checkpoint {
        let named = self.store.with(|rows| {
            let mut turns = rows.turns.values();
            let turn = turns.find(|turn| turn.reference.fence.task == task)?;
            turn.checkpoint.clone()
        });
        named.expect("a checkpoint")
    }

    /// The session's worktree.
    ///
    /// # Panics
    /// When no turn was opened in it yet.
    #[must_use]
    pub fn worktree(&self, session: SessionId) -> Worktree {
        let stored = self
            .store
            .with(|rows| rows.worktrees.get(&session).cloned());
        stored.expect("a worktree").0
    }

    /// Waits in virtual time, at most an hour, until `seen` says something.
    ///
    /// # Panics
    /// When it does not; shows the board.
    pub async fn until<T>(&self, what: &str, seen: impl FnMut(&Self) -> Option<T>) -> T {
        // A hundredth of what has passed is exact enough, and quick for hours.
        let step = |elapsed: Duration| {
            (elapsed / 100).clamp(Duration::from_millis(1), Duration::from_secs(1))
        };
        self.until_by(what, step, seen).await
    }

    /// The same with these steps, each from what has passed.
    ///
    /// # Panics
    /// As there.
    pub async fn until_by<T>(
        &self,
        what: &str,
        step: impl Fn(Duration) -> Duration,
        mut seen: impl FnMut(&Self) -> Option<T>,
    ) -> T {
        let started = Instant::now();
        let end = started + Duration::from_secs(3600);
        loop {
            if let Some(found) = seen(self) {
                return found;
            }
            assert!(
                Instant::now() < end,
                "{what}: not within an hour of virtual time; the board shows {:#?}",
                self.tree.board().tree()
            );
            tokio::time::sleep(step(started.elapsed())).await;
        }
    }

    /// Waits until the task has its outcome.
    pub async fn outcome(&self, task: TaskId) -> Outcome {
        self.until(&format!("an outcome of {task}"), |harness| {
            harness.task(task).outcomes.first().copied()
        })
        .await
    }

    /// Waits until so many prompts are open; gives them, oldest first.
    pub async fn open_prompts(&self, many: usize) -> Vec<PromptId> {
        self.until(&format!("{many} open prompts"), |harness| {
            let open = harness.store.with(|rows| {
                let open = rows.prompts.iter().filter(|(_, row)| row.settled.is_none());
                open.map(|(id, _)| *id).collect::<Vec<_>>()
            });
            (open.len() == many).then_some(open)
        })
        .await
    }

    /// How a prompt was settled, if it was.
    ///
    /// # Panics
    /// When there is no such prompt.
    #[must_use]
    pub fn settled(&self, prompt: PromptId) -> Option<Settled> {
        self.store
            .with(|rows| rows.prompts[&prompt].settled.clone())
    }

    /// Answers as a person at the command line would.
    ///
    /// # Errors
    /// The tree's.
    pub async fn answer(
        &self,
        task: TaskId,
        prompt: PromptId,
        option: &str,
    ) -> Result<(), Refusal> {
        let answer = self.option(prompt, option);
        self.tree
            .answer(task, prompt, answer, AnsweredBy::Cli)
            .await
    }

    /// Answers a prompt whose turn is over, as a person would, and tells the tree.
    pub fn answer_detached(&self, prompt: PromptId, option: &str) -> bool {
        let answer = self.option(prompt, option);
        let settled = Settled::answered(answer, AnsweredBy::Cli);
        let answered = self.store.answer_detached(prompt, &settled);
        self.tree.wakeup();
        answered
    }

    /// The option of this id, or one that is not on offer.
    fn option(&self, prompt: PromptId, id: &str) -> AskOption {
        let offered = self
            .store
            .with(|rows| rows.prompts[&prompt].prompt.options.clone());
        let found = permission::option(&offered, id).cloned();
        found.unwrap_or_else(|| AskOption {
            id: id.to_owned(),
            label: id.to_owned(),
            kind: AskKind::AllowOnce,
        })
    }

    /// Waits until the session of `key` shows `state`.
    pub async fn state(&self, key: &SessionKey, state: &str) {
        let name = key.to_string();
        self.until(&format!("{name} is {state}"), |harness| {
            let shown = harness.tree.board().get(&["root", "pool", &name])?;
            (shown.state == state).then_some(())
        })
        .await;
    }

    /// A chat of a new workspace whose first turn ended well, and whose agent is warm.
    ///
    /// # Panics
    /// When that turn does not end well.
    pub async fn warm(&self) -> (SessionId, SessionKey) {
        let (session, key) = self.chat();
        let task = self.enqueue(session, &key, "x");
        assert_eq!(self.outcome(task).await, Outcome::Ok);
        self.state(&key, "idle").await;
        (session, key)
    }

    /// Stops the tree and checks every promise once more.
    ///
    /// # Panics
    /// When something is left alive or a promise was broken.
    pub async fn shutdown(self) {
        self.stop(Duration::from_secs(1)).await;
        invariants::check(&self.store, &self.backend);
    }

    async fn stop(&self, grace: Duration) {
        let stopped = self.tree.shutdown(grace);
        timeout(grace + STOP_BOUND, stopped)
            .await
            .expect("the tree stops");
        self.until("all agents are gone", |harness| {
            (harness.backend.alive() == 0).then_some(())
        })
        .await;
    }
}
