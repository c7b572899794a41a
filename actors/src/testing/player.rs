//! Plays fault plans on a tree, and checks every promise as it goes.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::ids::{ChangeId, OperationId, SessionId, SessionKey, TaskId};
use crate::limits::{Budget, ParkReason};
use crate::model::Policy;
use crate::operation::{Asked, OperationState};
use crate::outcome::{Outcome, TaskState};
use crate::ports::Fact;
use crate::prompt::{AnsweredBy, Settled};
use crate::review::Order;
use crate::rules::permission;
use crate::testing::backend::{Start, Step, WEIGHT};
use crate::testing::faults::{CHATS, Event, Plan, Played, Wish};
use crate::testing::harness::{Harness, Setup};
use crate::testing::invariants::{self, INPUT};
use crate::tree::Status;

/// Plays `plan` on a fresh tree.
///
/// # Panics
/// When a promise is broken, or a task has no end in the end.
pub(super) async fn play(plan: Plan) -> Played {
    let setup = setup(plan.seed);
    let mut player = Player::new(Harness::start(setup.clone()).await);
    let mut people = People::of(&player.harness, plan.seed);
    let mut played = Played::default();
    let started = Instant::now();
    for (at, event) in plan.events {
        player.quiet_until(started + at).await;
        match event {
            Event::Stop(grace) => {
                played.add(&player.harness);
                player.harness = player.harness.start_over(grace, setup.clone()).await;
                people = People::of(&player.harness, plan.seed);
            }
            Event::HurriedStop(patience) => {
                played.add(&player.harness);
                let tree = player.harness.tree.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(patience).await;
                    tree.hurry();
                });
                let long = Duration::from_secs(600);
                let began = Instant::now();
                player.harness = player.harness.start_over(long, setup.clone()).await;
                let took = began.elapsed();
                assert!(took < patience + HURRIED, "a hurried stop took {took:?}");
                people = People::of(&player.harness, plan.seed);
            }
            event => player.happen(event),
        }
        invariants::check(&player.harness.store, &player.harness.backend);
    }
    if let Some(grace) = plan.stop {
        player.harness = player.harness.start_over(grace, setup.clone()).await;
        people = People::of(&player.harness, plan.seed);
        invariants::check(&player.harness.store, &player.harness.backend);
    }
    player.mend();
    if !player.all_end().await {
        // Its root gave up, as it must after too many failures: init starts it again.
        player.harness = player.harness.start_over(Duration::ZERO, setup).await;
        people = People::of(&player.harness, plan.seed);
        assert!(player.all_end().await, "it gave up although nothing breaks");
    }
    drop(people);
    if plan.calm {
        player.all_ran_once();
    }
    played.add(&player.harness);
    (played.done, played.abandoned) = player.harness.store.with(|rows| {
        let ended = |state| {
            rows.operations
                .values()
                .filter(|row| row.state == state)
                .count()
        };
        (
            ended(OperationState::Done),
            ended(OperationState::Abandoned),
        )
    });
    player.harness.shutdown().await;
    played
}

/// Longest way to the end of everything once somebody is in a hurry: the ladders, and
/// what waits for a database that is away.
const HURRIED: Duration = Duration::from_secs(60);

impl Played {
    fn add(&mut self, harness: &Harness) {
        let count = |pick: fn(&Fact) -> bool| {
            let facts = harness.meter.facts(|fact| pick(fact).then_some(()));
            facts.len()
        };
        self.evicted += count(|fact| matches!(fact, Fact::Evicted(..)));
        self.stayed += count(|fact| matches!(fact, Fact::Stayed(..)));
        self.rests += count(|fact| matches!(fact, Fact::Circuit { open: true, .. }));
    }
}

fn setup(seed: u64) -> Setup {
    let mut setup = Setup::default();
    setup.tree.seed = seed;
    if asks_people(seed) {
        setup.policy = Policy::Ask;
    }
    setup.tree.limits.max_live = 4;
    setup.idle_ttl = Duration::from_secs(30);
    setup.deadlines.wall = Duration::from_secs(300);
    setup.deadlines.stall = Duration::from_secs(90);
    setup.tree.sweep_every = Duration::from_secs(7);
    setup.tree.weigh_every = Duration::from_secs(5);
    setup
}

/// In a quarter of the plans people are asked.
pub(super) fn asks_people(seed: u64) -> bool {
    seed % 4 == 2
}

/// They answer what is open, sooner or later, and sometimes twice.
struct People(tokio::task::JoinHandle<()>);

impl People {
    fn of(harness: &Harness, seed: u64) -> Self {
        let (tree, store) = (harness.tree.clone(), harness.store.clone());
        let mut random = fastrand::Rng::with_seed(seed);
        Self(tokio::spawn(async move {
            while asks_people(seed) {
                tokio::time::sleep(Duration::from_millis(random.u64(1..9_000))).await;
                let open: Vec<_> = store.with(|rows| {
                    let open = rows.prompts.iter().filter(|(_, row)| row.settled.is_none());
                    open.map(|(id, row)| (*id, row.turn.fence.task, row.prompt.options.clone()))
                        .collect()
                });
                for (prompt, task, options) in open {
                    for _ in 0..random.usize(0..3) {
                        let option = random.choice(["allow", "reject"]).unwrap_or("allow");
                        let Some(answer) = permission::option(&options, option).cloned() else {
                            continue;
                        };
                        let (tree, store) = (tree.clone(), store.clone());
                        tokio::spawn(async move {
                            let by = AnsweredBy::Http;
                            let told = tree.answer(task, prompt, answer.clone(), by).await;
                            if told.is_err()
                                && store.answer_detached(prompt, &Settled::answered(answer, by))
                            {
                                tree.wakeup();
                            }
                        });
                    }
                }
            }
        }))
    }
}

impl Drop for People {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Player {
    harness: Harness,
    chats: Vec<(SessionId, SessionKey)>,
    tasks: Vec<TaskId>,
    writes: usize,
    up_again: Option<Instant>,
    usable_again: Option<Instant>,
}

impl Player {
    fn new(harness: Harness) -> Self {
        let mut chats: Vec<(SessionId, SessionKey)> = Vec::new();
        for index in 0..CHATS {
            let (fresh, mut key) = harness.chat();
            let session = match chats.last() {
                Some((session, before)) if index % 2 == 1 => {
                    if index > 1 {
                        key.chat = before.chat;
                        key.agent = "other".into();
                    }
                    *session
                }
                _ => fresh,
            };
            chats.push((session, key));
        }
        Self {
            harness,
            chats,
            tasks: Vec::new(),
            writes: 0,
            up_again: None,
            usable_again: None,
        }
    }

    /// Nothing happens until then but what gets well by itself.
    async fn quiet_until(&mut self, moment: Instant) {
        loop {
            let (up, usable) = (self.up_again, self.usable_again);
            let Some(next) = up
                .into_iter()
                .chain(usable)
                .min()
                .filter(|at| *at <= moment)
            else {
                break;
            };
            tokio::time::sleep_until(next).await;
            if up == Some(next) {
                self.harness.store.break_it(|faults| faults.down = false);
                self.up_again = None;
            }
            if usable == Some(next) {
                self.harness.worktrees.fail_with(None);
                self.usable_again = None;
            }
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
                let input = format!("{INPUT}{}", self.tasks.len());
                self.tasks.push(harness.enqueue(session, &key, &input));
            }
            Event::Unfit => harness.backend.next_turn(vec![Step::Unfit]),
            Event::Forget(chat) => {
                let (session, key) = self.chats[chat].clone();
                harness.store.with(|rows| {
                    let mut live = rows.turns.values().filter(|turn| !turn.ended);
                    if !live.any(|turn| turn.reference.session == session) {
                        rows.reset_contexts(key.chat, "somebody wants it");
                    }
                });
            }
            Event::Bound(chat, tokens) => {
                let session = self.chats[chat].0;
                let budget = Budget {
                    tokens: Some(tokens),
                    ..Budget::default()
                };
                harness
                    .store
                    .with(|rows| rows.budgets.insert(session, budget));
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
            Event::WorktreesFail(time) => {
                harness.worktrees.fail_with(Some("the disk is full"));
                self.usable_again = Some(Instant::now() + time);
            }
            Event::WorktreesSlow(latency) => harness.worktrees.slow(latency),
            Event::Cancel(which) => {
                if !self.tasks.is_empty() {
                    let task = self.tasks[which % self.tasks.len()];
                    harness.store.request_cancel(task);
                    harness.tree.cancel(task);
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
            Event::CloseChat(chat) => {
                let chat = self.chats[chat].1.chat;
                harness.store.close(|task| task.key.chat == chat);
                harness.tree.close_chat(chat);
            }
            Event::Write(chat, name) => {
                let session = self.chats[chat].0;
                let known = harness
                    .store
                    .with(|rows| rows.worktrees.get(&session).cloned());
                if let Some((worktree, _)) = known {
                    self.writes += 1;
                    let content = format!("text {}", self.writes);
                    harness
                        .worktrees
                        .put(&worktree, &format!("file {name}"), &content);
                }
            }
            Event::Edit(name, gone) => {
                let (root, name) = (Path::new("/project"), format!("file {name}"));
                if gone {
                    harness.worktrees.remove_at(root, &name);
                } else {
                    harness.worktrees.put_at(root, &name, "mine");
                }
            }
            Event::Operate { chat, order, which } => self.operate(chat, order, which),
            Event::BreakOperations(calls, lost) => {
                harness.store.break_operations_after(calls, lost);
            }
            Event::Weigh(chat, bytes) => harness.backend.weigh(&self.chats[chat].1, bytes),
            Event::LeaveRunning(chat, left) => {
                harness.backend.leave_running(&self.chats[chat].1, left);
            }
            Event::Reload(limits) => harness.tree.reload(limits),
            Event::Redefine => {
                harness.backend.redefine();
                let limits = harness.tree.limits();
                harness.tree.reload(limits);
            }
            Event::BadAgent(starts) => {
                (0..starts).for_each(|_| harness.backend.next_start(Start::Refused));
            }
            // Its player's.
            Event::Stop(_) | Event::HurriedStop(_) => {}
            Event::PanicReview(times) => harness.worktrees.panic_review(times),
            Event::CloseSession(chat) => {
                let session = self.chats[chat].0;
                harness.store.close(|task| task.session == session);
                harness.tree.close_session(session);
            }
        }
    }

    fn operate(&self, chat: usize, wish: Wish, which: Option<usize>) {
        let harness = &self.harness;
        let (session, key) = self.chats[chat].clone();
        let pick = |status: &str| -> Vec<ChangeId> {
            let Some(which) = which else {
                return Vec::new();
            };
            harness.store.with(|rows| {
                let rows = rows.changes.iter();
                let fit: Vec<_> = rows
                    .filter(|(_, row)| row.session == session && row.status == status)
                    .map(|(id, _)| *id)
                    .collect();
                fit.get(which % fit.len().max(1))
                    .copied()
                    .into_iter()
                    .collect()
            })
        };
        let order = match wish {
            Wish::Apply => Order::Apply {
                changes: pick("pending"),
                secrets: false,
            },
            Wish::Reject => Order::Reject {
                changes: pick("pending"),
            },
            Wish::Rewind => Order::Rewind {
                changes: pick("applied"),
            },
            Wish::Restore => {
                let taken: Vec<_> = harness.store.with(|rows| {
                    let turns = rows.turns.values();
                    let own = turns.filter(|turn| turn.reference.chat == key.chat);
                    own.filter_map(|turn| Some(turn.checkpoint.as_ref()?.id))
                        .collect()
                });
                let Some(id) = taken.get(which.unwrap_or_default() % taken.len().max(1)) else {
                    return;
                };
                Order::Restore {
                    checkpoint: *id,
                    chat: key.chat,
                    consent: which.is_some(),
                    retries: None,
                }
            }
        };
        let asked = Asked {
            id: OperationId::new(),
            session,
            order,
            caller: "player".into(),
        };
        let tree = harness.tree.clone();
        tokio::spawn(async move { tree.operate(asked, Duration::from_secs(60)).await });
    }

    /// Each task ran through, and was prompted once.
    fn all_ran_once(&self) {
        let prompts = self.harness.backend.prompts().len();
        assert_eq!(prompts, self.tasks.len(), "prompts");
        for task in &self.tasks {
            let row = self.harness.task(*task);
            assert_eq!(row.outcomes, [Outcome::Ok], "task {task}");
        }
    }

    /// Nothing breaks any more.
    fn mend(&mut self) {
        self.harness
            .store
            .break_it(|faults| *faults = Default::default());
        self.harness.worktrees.fail_with(None);
        self.harness.worktrees.slow(Duration::ZERO);
        self.harness.backend.calm();
        for (_, key) in &self.chats {
            self.harness.backend.leave_running(key, Some(0));
            self.harness.backend.weigh(key, WEIGHT);
        }
        lift_budgets(&self.harness);
    }

    /// Every task and every operation gets its end; false when the tree gave up
    /// before.
    async fn all_end(&self) -> bool {
        let second = Duration::from_secs(1);
        let every = |_| second;
        let ended = self.harness.until_by("everything ends", every, |harness| {
            lift_budgets(harness);
            let open = harness.store.with(|rows| {
                let works = rows.operations.values().any(|row| row.ends == 0);
                let waits = self.tasks.iter().any(|task| {
                    let state = rows.tasks[task].state;
                    matches!(
                        state,
                        TaskState::Pending | TaskState::Running | TaskState::Blocked
                    )
                });
                works || waits || !rows.gates.is_empty()
            });
            let gave_up = matches!(*harness.tree.status().borrow(), Status::Failed(_));
            (!open || gave_up).then_some(!open)
        });
        ended.await
    }
}

/// Nobody else raises budgets, or lets the tasks that wait for it go on; one may
/// be parked at the moment at which they are lifted.
fn lift_budgets(harness: &Harness) {
    harness.store.with(|rows| {
        rows.budgets.clear();
        for task in rows.tasks.values_mut() {
            let waits = task.parked.as_ref().map(|parked| parked.reason);
            task.not_before = task
                .not_before
                .filter(|_| waits != Some(ParkReason::Budget));
        }
    });
}
