//! Fault plans: everything that may go wrong, at random moments, from a seed.

use std::time::Duration;

use crate::event::{FaultClass, Reset};
use crate::testing::backend::{Start, Step, WEIGHT};
use crate::testing::player;
use crate::tree::Limits;

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
    /// Worktrees cannot be had for so long.
    WorktreesFail(Duration),
    /// Worktrees get slow.
    WorktreesSlow(Duration),
    /// Another node takes over.
    StealLease,
    /// A human cancels one of the tasks.
    Cancel(usize),
    /// Somebody evicts one of the sessions.
    Evict(usize),
    /// Somebody restarts one of the sessions.
    Restart(usize),
    /// A human closes one of the chats.
    CloseChat(usize),
    /// A human closes the workspace of one of the chats.
    CloseSession(usize),
    /// The agents of one of the chats are to begin anew, whoever wants it.
    Forget(usize),
    /// The next prompt is not taken in the context it meets.
    Unfit,
    /// A file is written in the workspace of one of the chats, by whomever.
    Write(usize, u8),
    /// A human writes, or removes, a file in the project's checkout.
    Edit(u8, bool),
    /// A human orders something done with the files of one of the chats.
    Operate {
        /// Which chat.
        chat: usize,
        /// What.
        order: Wish,
        /// Which of what it could be about; none means all.
        which: Option<usize>,
    },
    /// A call about operations, after so many others, loses its answer or panics.
    BreakOperations(usize, bool),
    /// So many calls about the files of operations panic.
    PanicReview(u32),
    /// The workspace of one of the chats may spend so many tokens.
    Bound(usize, i64),
    /// The service is stopped with this grace, and another one starts on what it
    /// left.
    Stop(Duration),
    /// The same with a long grace, which somebody cuts off after so long.
    HurriedStop(Duration),
    /// The agent of one of the chats takes so many bytes.
    Weigh(usize, u64),
    /// It leaves so many processes running, or nobody can tell.
    LeaveRunning(usize, Option<usize>),
    /// The limits are set anew.
    Reload(Limits),
    /// The agents are defined anew.
    Redefine,
    /// So many starts fail, whoever's they are.
    BadAgent(usize),
}

/// What a human wants done with files.
#[derive(Clone, Copy, Debug)]
pub enum Wish {
    /// Apply changes.
    Apply,
    /// Reject them.
    Reject,
    /// Rewind applied ones.
    Rewind,
    /// Restore a checkpoint.
    Restore,
}

/// What happens, and when after the start.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where it came from.
    pub seed: u64,
    /// In order of time.
    pub events: Vec<(Duration, Event)>,
    /// The service is stopped with this grace in the middle of it all, and
    /// another one starts on what it left.
    pub stop: Option<Duration>,
    /// Nothing breaks: sessions only make room for each other.
    pub calm: bool,
}

/// What a plan came to, for those who want to know that it tried anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Played {
    /// Operations that were carried out.
    pub done: usize,
    /// Operations that began and were not.
    pub abandoned: usize,
    /// Sessions that were evicted, and sessions that were asked and stayed.
    pub evicted: usize,
    /// See there.
    pub stayed: usize,
    /// Times that all chats of an agent began to rest.
    pub rests: usize,
}

impl std::ops::AddAssign for Played {
    fn add_assign(&mut self, other: Self) {
        self.done += other.done;
        self.abandoned += other.abandoned;
        self.evicted += other.evicted;
        self.stayed += other.stayed;
        self.rests += other.rests;
    }
}

/// Chats of a plan: the second shares its workspace with the first; the fourth
/// and the sixth are the one before once more, for another agent.
pub(super) const CHATS: usize = 6;

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
                    91..94 => Event::Cancel(random.usize(..)),
                    94 => Event::Evict(random.usize(0..CHATS)),
                    95 => Event::Restart(random.usize(0..CHATS)),
                    96 => Event::CloseChat(random.usize(0..CHATS)),
                    97 => Event::CloseSession(random.usize(0..CHATS)),
                    98 => Event::WorktreesFail(Duration::from_millis(random.u64(10..20_000))),
                    _ => Event::WorktreesSlow(Duration::from_millis(random.u64(0..90_000))),
                };
                (at, event)
            })
            .collect();
        events.extend(contexts(seed));
        events.extend(reviews(seed));
        events.extend(limits(seed));
        events.extend(questions(seed));
        events.extend(pressure(seed, false));
        events.sort_by_key(|(at, _)| *at);
        let stop = (random.u8(0..4) == 0).then(|| Duration::from_millis(random.u64(0..20_000)));
        Self {
            seed,
            events,
            stop,
            calm: false,
        }
    }

    /// Prompts that end by themselves, and nothing else than that sessions have to
    /// make room: no turn may notice.
    #[must_use]
    pub fn of_pressure(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut events: Vec<_> = (0..40)
            .map(|_| {
                let wait = Step::Wait(Duration::from_millis(random.u64(0..6_000)));
                let prompt = Event::Prompt {
                    chat: random.usize(0..CHATS),
                    script: vec![Step::Say("x"), wait, Step::Say("y")],
                    told: random.u8(0..10) > 0,
                };
                (Duration::from_millis(random.u64(0..120_000)), prompt)
            })
            .collect();
        events.extend(pressure(seed, true));
        events.sort_by_key(|(at, _)| *at);
        Self {
            seed,
            events,
            stop: None,
            calm: true,
        }
    }

    /// Plays the plan on a fresh tree and checks every promise as it goes.
    ///
    /// # Panics
    /// When a promise is broken, or a task has no outcome in the end.
    pub async fn play(self) -> Played {
        player::play(self).await
    }
}

/// What happens to contexts, by dice of its own so that the rest of a plan stays.
fn contexts(seed: u64) -> Vec<(Duration, Event)> {
    let mut random = fastrand::Rng::with_seed(seed.rotate_left(32));
    (0..8)
        .map(|_| {
            let at = Duration::from_millis(random.u64(0..120_000));
            let event = match random.u8(0..3) {
                0 => Event::Unfit,
                _ => Event::Forget(random.usize(0..CHATS)),
            };
            (at, event)
        })
        .collect()
}

/// About 20 files and 15 orders beside all that, from numbers of their own: what
/// a seed meant before stays as it was.
fn reviews(seed: u64) -> Vec<(Duration, Event)> {
    let mut random = fastrand::Rng::with_seed(!seed);
    let one = |random: &mut fastrand::Rng| match random.u8(0..20) {
        0..8 => Event::Write(random.usize(0..CHATS), random.u8(0..6)),
        8 => Event::Edit(random.u8(0..6), random.bool()),
        9..17 => Event::Operate {
            chat: random.usize(0..CHATS),
            order: match random.u8(0..10) {
                0..4 => Wish::Apply,
                4..6 => Wish::Reject,
                6..8 => Wish::Rewind,
                _ => Wish::Restore,
            },
            which: random.bool().then(|| random.usize(..)),
        },
        17 | 18 => Event::BreakOperations(random.usize(0..6), random.bool()),
        _ => Event::PanicReview(random.u32(1..4)),
    };
    (0..40)
        .map(|_| {
            (
                Duration::from_millis(random.u64(0..120_000)),
                one(&mut random),
            )
        })
        .collect()
}

/// Memory, places, definitions and what agents leave behind, from numbers of their own
/// as above. Unless it is `calm`, starts fail in numbers and stops are hurried.
fn pressure(seed: u64, calm: bool) -> Vec<(Duration, Event)> {
    let mut random = fastrand::Rng::with_seed(seed ^ 0x90_01);
    let one = |random: &mut fastrand::Rng| match random.u8(0..20) {
        0..6 => Event::Weigh(random.usize(0..CHATS), random.u64(0..8) * WEIGHT),
        6..9 => {
            let left = random.choice([Some(0), Some(0), Some(2), None]);
            Event::LeaveRunning(random.usize(0..CHATS), left.flatten())
        }
        9..13 => {
            let memory = random.bool().then(|| random.u64(1..12) * WEIGHT);
            Event::Reload(Limits {
                max_live: random.usize(1..6),
                memory,
            })
        }
        13 => Event::Redefine,
        14..18 => Event::Evict(random.usize(0..CHATS)),
        18 if !calm => Event::BadAgent(random.usize(6..12)),
        19 if !calm => Event::HurriedStop(Duration::from_millis(random.u64(0..5_000))),
        _ => Event::Wakeups(1),
    };
    let many = if calm { 40 } else { 12 };
    (0..many)
        .map(|_| {
            (
                Duration::from_millis(random.u64(0..120_000)),
                one(&mut random),
            )
        })
        .collect()
}

/// In half of the plans the service is stopped on the way, with whatever grace; in
/// those whose people are asked, it meets turns that ask again and again. From
/// numbers of their own, as above.
fn questions(seed: u64) -> Vec<(Duration, Event)> {
    let mut random = fastrand::Rng::with_seed(seed ^ 0xa5_4ed);
    let moment = |random: &mut fastrand::Rng| Duration::from_millis(random.u64(0..120_000));
    let mut events = Vec::new();
    if seed.is_multiple_of(2) {
        for _ in 0..random.usize(1..4) {
            let grace = Duration::from_millis(random.u64(0..20_000));
            events.push((moment(&mut random), Event::Stop(grace)));
        }
    }
    if player::asks_people(seed) {
        for _ in 0..10 {
            let pause = Step::Wait(Duration::from_millis(random.u64(0..8_000)));
            let script = match random.u8(0..4) {
                0 => vec![Step::Ask, pause, Step::Ask],
                1 => vec![Step::AskAtOnce(3), Step::Say("x"), Step::Ask],
                2 => vec![pause, Step::AskAtOnce(2), Step::Hang],
                _ => vec![Step::Say("x"), Step::Ask, Step::Say("y")],
            };
            let prompt = Event::Prompt {
                chat: random.usize(0..CHATS),
                script,
                told: random.u8(0..10) > 0,
            };
            events.push((moment(&mut random), prompt));
        }
    }
    events
}

/// In a third of the plans models refuse prompts, and workspaces have budgets.
/// From a sequence of their own, so that the rest of a plan stays what it was.
fn limits(seed: u64) -> Vec<(Duration, Event)> {
    let mut random = fastrand::Rng::with_seed(seed ^ 0x5eed);
    let events = if seed % 3 == 1 { 14 } else { 0 };
    let one = |random: &mut fastrand::Rng| {
        let reset = random
            .bool()
            .then(|| Reset::After(Duration::from_millis(random.u64(0..40_000))));
        let script = match random.u8(0..10) {
            0..4 => vec![Step::Refuse(FaultClass::Overload, reset)],
            4..6 => vec![Step::Refuse(FaultClass::Quota, reset)],
            6 => vec![
                Step::Wait(Duration::from_secs(3)),
                Step::Refuse(FaultClass::Auth, reset),
            ],
            _ => vec![
                Step::Spend(random.i64(1..80)),
                Step::Say("x"),
                Step::Spend(40),
            ],
        };
        match random.u8(0..10) {
            0..3 => Event::Bound(random.usize(0..CHATS), random.i64(1..300)),
            _ => Event::Prompt {
                chat: random.usize(0..CHATS),
                script,
                told: random.u8(0..10) > 0,
            },
        }
    };
    (0..events)
        .map(|_| {
            (
                Duration::from_millis(random.u64(0..120_000)),
                one(&mut random),
            )
        })
        .collect()
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
        7 => steps.push(Step::Ask),
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
