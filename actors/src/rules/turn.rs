//! The turn guard: one prompt in, exactly one verdict out, whatever the agent does.
//!
//! ```text
//!             agent ends, process exits
//!   Running ──────────────────────────────────────────► verdict
//!      │ cancel, first byte, stall or wall deadline        ▲
//!      ▼                                                   │
//!   Cancelling ── ends, exits ─────────────────────────────┤
//!      │ 3 s (deadlines.cancel)                            │
//!      ▼                                                   │
//!   Stopping ──── process tree gone, or 6 s after cancel ──┘
//! ```
//!
//! While a human is asked, the stall and wall clocks stand still.

use std::time::Duration;

use crate::event::{AgentFault, AgentStop, ExitInfo, FaultClass, OutOfMemory};
use crate::handover::Taken;
use crate::model::Deadlines;
use crate::outcome::Outcome;
use crate::rules::moment::Moment;

/// From cancel to the verdict, at the latest: 3 s for the agent, 2 s between
/// TERM and KILL, 1 s for the kernel.
pub const INTERRUPT_BOUND: Duration = Duration::from_secs(6);

/// Why a turn is being ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A human, a close or a newer message asked for it.
    Asked,
    /// Hearth stops or gives the session up.
    Interrupted,
    /// No byte came within `deadlines.first_byte`.
    FirstByte,
    /// Silence longer than `deadlines.stall`.
    Stall,
    /// Longer than `deadlines.wall`.
    Wall,
    /// A budget is used up.
    Budget,
    /// The agent's processes outgrew their limit.
    Memory,
}

/// How the turn ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The one outcome.
    pub outcome: Outcome,
    /// Why, for a person.
    pub detail: Option<String>,
    /// Whether the agent's context took the prompt.
    pub taken: Taken,
}

impl Verdict {
    /// A verdict with a reason on a prompt that did not reach the agent.
    #[must_use]
    pub fn because(outcome: Outcome, detail: impl Into<String>) -> Self {
        Self {
            outcome,
            detail: Some(detail.into()),
            taken: Taken::No,
        }
    }
}

/// What the guard wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Ask the agent to end the turn.
    SendCancel,
    /// End its process, skipping the polite wait.
    StopLink,
    /// The turn is over. Given at most once, and always last.
    Settle(Verdict),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Running,
    Cancelling { since: Moment, why: Why },
    Stopping { since: Moment, why: Why },
    Settled,
}

/// Guards one turn, from the moment its prompt is handed over.
#[derive(Clone, Debug)]
pub struct Guard {
    deadlines: Deadlines,
    prompted: Moment,
    last_byte: Option<Moment>,
    /// How the agent ended the turn by itself.
    answered_for: Option<Taken>,
    open_asks: usize,
    /// When the clocks stopped, while a human is asked.
    paused_at: Option<Moment>,
    /// How long they stood still before that.
    paused: Duration,
    stage: Stage,
}

impl Guard {
    /// A guard for a prompt handed over `now`.
    #[must_use]
    pub fn new(now: Moment, deadlines: Deadlines) -> Self {
        Self {
            deadlines,
            prompted: now,
            last_byte: None,
            answered_for: None,
            open_asks: 0,
            paused_at: None,
            paused: Duration::ZERO,
            stage: Stage::Running,
        }
    }

    /// The agent said something.
    pub fn spoke(&mut self, now: Moment) {
        // While the clocks stand still, silence begins when they go on.
        self.last_byte = Some(self.paused_at.unwrap_or(now));
    }

    /// A human is asked.
    pub fn asked(&mut self, now: Moment) {
        self.open_asks += 1;
        self.paused_at.get_or_insert(now);
    }

    /// A human answered, or the question was withdrawn.
    pub fn answered(&mut self, now: Moment) {
        self.open_asks = self.open_asks.saturating_sub(1);
        if self.open_asks == 0
            && let Some(at) = self.paused_at.take()
        {
            let pause = now.since(at);
            self.paused += pause;
            // Silence while a human thinks is not the agent's.
            self.last_byte = self.last_byte.map(|last| last + pause);
        }
    }

    /// A human is being asked right now.
    #[must_use]
    pub fn waits_for_human(&self) -> bool {
        self.open_asks > 0
    }

    /// Nothing ends the turn yet.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.stage == Stage::Running
    }

    /// End the turn from outside. A second cancel changes nothing: the first
    /// reason stands and its clock runs.
    pub fn cancel(&mut self, now: Moment, why: Why) -> Vec<Order> {
        if self.stage != Stage::Running {
            return Vec::new();
        }
        self.stage = Stage::Cancelling { since: now, why };
        vec![Order::SendCancel]
    }

    /// The agent itself ended the turn.
    pub fn agent_ended(&mut self, stop: &AgentStop) -> Vec<Order> {
        self.answered_for = Some(match stop {
            AgentStop::Unprompted(_) => Taken::No,
            _ => Taken::Yes,
        });
        match self.stage {
            Stage::Running => self.settle(by_agent(stop)),
            Stage::Cancelling { why, .. } => self.settle(by_us(why, self.deadlines)),
            // The process is being ended: wait for it, so that the files stand still.
            Stage::Stopping { .. } | Stage::Settled => Vec::new(),
        }
    }

    /// The agent's process is gone.
    pub fn exited(&mut self, exit: &ExitInfo) -> Vec<Order> {
        match self.stage {
            Stage::Running => self.settle(by_exit(exit)),
            Stage::Cancelling { why, .. } | Stage::Stopping { why, .. } => {
                self.settle(by_us(why, self.deadlines))
            }
            Stage::Settled => Vec::new(),
        }
    }

    /// Time passed.
    pub fn tick(&mut self, now: Moment) -> Vec<Order> {
        match self.stage {
            Stage::Running => match self.overdue(now) {
                Some(why) => self.cancel(now, why),
                None => Vec::new(),
            },
            Stage::Cancelling { since, why } if now >= since + self.polite() => {
                self.stage = Stage::Stopping { since, why };
                vec![Order::StopLink]
            }
            Stage::Stopping { since, why } if now >= since + INTERRUPT_BOUND => {
                self.settle(by_us(why, self.deadlines))
            }
            Stage::Cancelling { .. } | Stage::Stopping { .. } | Stage::Settled => Vec::new(),
        }
    }

    /// When to call [`Guard::tick`] next; none when no clock runs.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        match self.stage {
            Stage::Running if self.paused_at.is_some() => None,
            Stage::Running => Some(self.speech_deadline().0.min(self.wall_deadline())),
            Stage::Cancelling { since, .. } => Some(since + self.polite()),
            Stage::Stopping { since, .. } => Some(since + INTERRUPT_BOUND),
            Stage::Settled => None,
        }
    }

    fn overdue(&self, now: Moment) -> Option<Why> {
        if self.paused_at.is_some() {
            return None;
        }
        let (speech, why) = self.speech_deadline();
        if now >= self.wall_deadline() {
            Some(Why::Wall)
        } else {
            (now >= speech).then_some(why)
        }
    }

    fn speech_deadline(&self) -> (Moment, Why) {
        match self.last_byte {
            Some(last) => (last + self.deadlines.stall, Why::Stall),
            None => (
                self.prompted + self.deadlines.first_byte + self.paused,
                Why::FirstByte,
            ),
        }
    }

    /// How long the agent may take to honour a cancel, whatever is configured.
    fn polite(&self) -> Duration {
        self.deadlines.cancel.min(INTERRUPT_BOUND)
    }

    fn wall_deadline(&self) -> Moment {
        self.prompted + self.deadlines.wall + self.paused
    }

    /// Nobody asked for the turn's end.
    #[must_use]
    pub fn is_undisturbed(&self) -> bool {
        self.stage == Stage::Running
    }

    /// Its clocks.
    #[must_use]
    pub fn deadlines(&self) -> Deadlines {
        self.deadlines
    }

    /// What is known so far of whether the agent took the prompt in.
    #[must_use]
    pub fn taken(&self) -> Taken {
        match (self.answered_for, self.last_byte) {
            (Some(taken), _) => taken,
            (None, Some(_)) => Taken::Yes,
            (None, None) => Taken::Unknown,
        }
    }

    fn settle(&mut self, verdict: Verdict) -> Vec<Order> {
        self.stage = Stage::Settled;
        let taken = self.taken();
        vec![Order::Settle(Verdict { taken, ..verdict })]
    }
}

fn by_exit(exit: &ExitInfo) -> Verdict {
    match exit.out_of_memory {
        Some(whose) => Verdict::because(Outcome::OutOfMemory, out_of_memory(whose, exit.shared)),
        None => Verdict::because(
            Outcome::AgentCrashed,
            crash_report("the agent's process ended in mid-turn", exit),
        ),
    }
}

/// Which limit was hit, and where it is set.
fn out_of_memory(whose: OutOfMemory, shared: bool) -> String {
    let (who, setting) = if shared {
        ("the agent's server", "`server.memory_mb`")
    } else {
        ("the agent's processes", "`memory_mb`")
    };
    match whose {
        OutOfMemory::Limit(bytes) => format!(
            "the kernel ended {who}, which may take {} MB by {setting}",
            bytes / (1024 * 1024)
        ),
        OutOfMemory::Machine => format!(
            "the kernel ended {who}, as the memory of the machine, or of the container around it, ran out; {setting} can bound them"
        ),
    }
}

/// `what (signal 9): last stderr line`.
#[must_use]
pub fn crash_report(what: &str, exit: &ExitInfo) -> String {
    let summary = exit.summary();
    match exit
        .stderr_tail
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
    {
        Some(line) => {
            let line: String = line.trim().chars().take(300).collect();
            format!("{what} ({summary}); its last words: {line}")
        }
        None => format!("{what} ({summary})"),
    }
}

fn by_agent(stop: &AgentStop) -> Verdict {
    match stop {
        AgentStop::EndTurn => Verdict {
            outcome: Outcome::Ok,
            detail: None,
            taken: Taken::Yes,
        },
        AgentStop::Cancelled => Verdict::because(
            Outcome::AgentError,
            "the agent cancelled the turn by itself",
        ),
        AgentStop::Limit(word) => Verdict::because(
            Outcome::AgentError,
            format!("the agent stopped at its own limit: {word}"),
        ),
        AgentStop::Error(fault)
        | AgentStop::Refused { fault, .. }
        | AgentStop::Unprompted(fault) => {
            Verdict::because(outcome_of(fault), fault.message.clone())
        }
    }
}

fn outcome_of(fault: &AgentFault) -> Outcome {
    match fault.class {
        FaultClass::Overload => Outcome::Overload,
        FaultClass::Quota => Outcome::Quota,
        FaultClass::Auth => Outcome::Auth,
        FaultClass::BadRequest | FaultClass::Other => Outcome::AgentError,
    }
}

fn by_us(why: Why, deadlines: Deadlines) -> Verdict {
    let seconds = |d: Duration| d.as_secs_f64();
    match why {
        Why::Asked => Verdict {
            outcome: Outcome::Cancelled,
            detail: None,
            taken: Taken::Unknown,
        },
        Why::Interrupted => Verdict::because(
            Outcome::Interrupted,
            "Hearth stopped, or restarted this session, in mid-turn",
        ),
        Why::FirstByte => Verdict::because(
            Outcome::Stalled,
            format!(
                "no word from the agent within {} s of the prompt",
                seconds(deadlines.first_byte)
            ),
        ),
        Why::Stall => Verdict::because(
            Outcome::Stalled,
            format!("no word from the agent for {} s", seconds(deadlines.stall)),
        ),
        Why::Wall => Verdict::because(
            Outcome::WallClock,
            format!("the turn took longer than {} s", seconds(deadlines.wall)),
        ),
        Why::Budget => Verdict::because(Outcome::Budget, "a budget is used up"),
        Why::Memory => Verdict::because(
            Outcome::OutOfMemory,
            "the agent's processes took more than its `memory_mb`",
        ),
    }
}
