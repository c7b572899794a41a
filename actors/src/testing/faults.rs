//! Fault plans: everything that may go wrong, at random moments, from a seed.

use std::time::Duration;

use tokio::time::Instant;

use crate::ids::{SessionId, SessionKey, TaskId};
use crate::outcome::TaskState;
use crate::testing::backend::{Start, Step};
use crate::testing::harness::{Harness, Setup};
use crate::testing::invariants;

/// Something that happens.
#[derive(Clone, Debug)]
pub enum Event {
    /// A prompt for one of the chats, with this script; perhaps nobody is told.
    Prompt {
        /// Which chat.
        chat: usize,
        /// What the agent does.
        script: Vec<Step>,
        /// The tree is told.
        told: bool,
    },
    /// `kill -9` of one of the agents.
    KillAgent(usize),
    /// A session's actor panics.
    PanicSession,
    /// A pump panics.
    PanicPump,
    /// The pool panics.
    PanicPool,
    /// The next start fails or is slow.
    BadStart(Start),
    /// The database goes away for so long.
    DatabaseDown(Duration),
    /// The database gets slow.
    Latency(Duration),
    /// Wake-ups that mean nothing.
    Wakeups(usize),
    /// Another node takes over.
    StealLease,
    /// A human cancels one of the tasks.
    Cancel(usize),
    /// Somebody evicts one of the sessions.
    Evict(usize),
    /// Somebody restarts one of the sessions.
    Restart(usize),
}

/// What happens, and when after the start.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where it came from.
    pub seed: u64,
    /// In order of time.
    pub events: Vec<(Duration, Event)>,
}

/// Chats of a plan; every second one shares its workspace with the one before.
const CHATS: usize = 6;

impl Plan {
    /// About 25 prompts and 15 faults within two minutes.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut events: Vec<_> = (0..40)
            .map(|_| {
                let at = Duration::from_millis(random.u64(0..120_000));
                let event = match random.u8(0..100) {
                    0..60 => Event::Prompt {
                        chat: random.usize(0..CHATS),
                        script: script(&mut random),
                        told: random.u8(0..10) > 0,
                    },
                    60..68 => Event::KillAgent(random.usize(..)),
                    68..71 => Event::PanicSession,
                    71..73 => Event::PanicPump,
                    73..75 => Event::PanicPool,
                    75..79 => Event::BadStart(start(&mut random)),
                    79..83 => Event::DatabaseDown(Duration::from_millis(random.u64(10..40_000))),
                    83..86 => Event::Latency(Duration::from_millis(random.u64(0..200))),
                    86..89 => Event::Wakeups(random.usize(1..20)),
                    89..91 => Event::StealLease,
                    91..96 => Event::Cancel(random.usize(..)),
                    96..98 => Event::Evict(random.usize(0..CHATS)),
                    _ => Event::Restart(random.usize(0..CHATS)),
                };
                (at, event)
            })
            .collect();
        events.sort_by_key(|(at, _)| *at);
        Self { seed, events }
    }

    /// Plays the plan on a fresh tree and checks every promise as it goes.
    ///
    /// # Panics
    /// When a promise is broken, or a task has no outcome in the end.
    pub async fn play(self) {
        let mut setup = Setup::default();
        setup.tree.seed = self.seed;
        setup.tree.max_live = 4;
        setup.idle_ttl = Duration::from_secs(30);
        setup.deadlines.wall = Duration::from_secs(300);
        setup.deadlines.stall = Duration::from_secs(90);
        setup.tree.sweep_every = Duration::from_secs(7);
        let mut player = Player::new(Harness::start(setup).await);
        let started = Instant::now();
        for (at, event) in self.events {
            player.quiet_until(started + at).await;
            player.happen(event);
            invariants::check(&player.harness.store, &player.harness.backend);
        }
        player.recover().await;
        player.harness.shutdown().await;
    }
}

struct Player {
    harness: Harness,
    chats: Vec<(SessionId, SessionKey)>,
    tasks: Vec<TaskId>,
    up_again: Option<Instant>,
}

impl Player {
    fn new(harness: Harness) -> Self {
        let mut chats: Vec<(SessionId, SessionKey)> = Vec::new();
        for index in 0..CHATS {
            let (fresh, key) = harness.chat();
            let session = match chats.last() {
                Some((session, _)) if index % 2 == 1 => *session,
                _ => fresh,
            };
            chats.push((session, key));
        }
        Self {
            harness,
            chats,
            tasks: Vec::new(),
            up_again: None,
        }
    }

    async fn quiet_until(&mut self, moment: Instant) {
        if let Some(up) = self.up_again.filter(|up| *up <= moment) {
            tokio::time::sleep_until(up).await;
            self.harness.store.break_it(|faults| faults.down = false);
            self.up_again = None;
        }
        tokio::time::sleep_until(moment).await;
    }

    fn happen(&mut self, event: Event) {
        let harness = &mut self.harness;
        match event {
            Event::Prompt { chat, script, told } => {
                let (session, key) = self.chats[chat].clone();
                harness.backend.next_turn(script);
                harness.lose_wakeups = !told;
                self.tasks.push(harness.enqueue(session, &key, "x"));
            }
            Event::KillAgent(which) => harness.backend.kill_one(which),
            Event::PanicSession => harness.backend.panic_session(),
            Event::PanicPump => harness.store.break_it(|faults| faults.append_panics += 1),
            Event::PanicPool => harness.backend.panic_pool(),
            Event::BadStart(start) => harness.backend.next_start(start),
            Event::DatabaseDown(time) => {
                harness.store.break_it(|faults| faults.down = true);
                self.up_again = Some(Instant::now() + time);
            }
            Event::Latency(latency) => harness.store.break_it(|faults| faults.latency = latency),
            Event::Wakeups(times) => (0..times).for_each(|_| harness.tree.wakeup()),
            Event::StealLease => harness.store.steal_lease(),
            Event::Cancel(which) => {
                if !self.tasks.is_empty() {
                    harness.tree.cancel(self.tasks[which % self.tasks.len()]);
                }
            }
            Event::Evict(chat) => {
                let (tree, key) = (harness.tree.clone(), self.chats[chat].1.clone());
                tokio::spawn(async move { tree.evict(key).await });
            }
            Event::Restart(chat) => {
                let (tree, key) = (harness.tree.clone(), self.chats[chat].1.clone());
                tokio::spawn(async move { tree.restart(key).await });
            }
        }
    }

    /// Nothing breaks any more: every task gets its outcome.
    async fn recover(&mut self) {
        self.harness
            .store
            .break_it(|faults| *faults = Default::default());
        self.harness.backend.calm();
        for task in &self.tasks {
            self.harness
                .until(&format!("task {task} ends"), |harness| {
                    let row = harness.task(*task);
                    (!matches!(row.state, TaskState::Pending | TaskState::Running)).then_some(())
                })
                .await;
        }
    }
}

fn script(random: &mut fastrand::Rng) -> Vec<Step> {
    let wait =
        |random: &mut fastrand::Rng| Step::Wait(Duration::from_millis(random.u64(0..20_000)));
    let mut steps = vec![Step::Say("x"), wait(random)];
    match random.u8(0..10) {
        0 => steps.push(Step::Exit(1)),
        1 => steps.push(Step::Hang),
        2 => steps.extend([Step::IgnoreCancel, Step::Hang]),
        3 => steps.push(Step::Fail),
        4 => steps.extend([Step::LateEnd, wait(random)]),
        5 => steps.push(Step::Flood(random.usize(1..5000))),
        6 => steps = vec![Step::Hang],
        _ => steps.push(Step::Say("y")),
    }
    steps
}

fn start(random: &mut fastrand::Rng) -> Start {
    match random.u8(0..3) {
        0 => Start::Refused,
        1 => Start::Panic,
        _ => Start::After(Duration::from_millis(random.u64(0..70_000))),
    }
}
