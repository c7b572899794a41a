//! One operation on a session's files, from its gate to its end, whatever
//! breaks on the way.
//!
//! ```text
//!  Begin ─► Quiet ─► Plan ─► Intend ─► CarryOut ─► Compare ─► Complete ─► Settle
//!    │        │        │        │          │           │          │          ▲
//!    │        └────────┴────────┤          └───────────┴────┬─────┘          │
//!    │                          ▼                           ▼                │
//!    └──► Recall            Abandon ◄─────────────────── TakeBack            │
//!          (look what the      └─────────────────────────────────────────────┘
//!           journal says)
//! ```
//!
//! Before the intent is stored no file is written, and after it the operation
//! ends in one of two ways: all files are as planned and the journal says done,
//! or all are as before and it says abandoned. Only what a person must mend first,
//! such as a folder that is gone, is left as it is: after a few tries people are
//! told, and the gate is given back. Who finds an intent, after a
//! crash or a panic, rolls it forward first: files that somebody moved meanwhile
//! show themselves there, and are taken back around.

use std::time::Duration;

use crate::operation::OperationState;

/// Tries at reading or writing files before the operation is taken back.
pub const FILE_TRIES: u32 = 3;
/// Tries at storing the intent before the journal is asked what it knows.
pub const INTENT_TRIES: u32 = 6;
/// Tries at putting the refs right: 6 s in all, in which a database that was restarted
/// is back.
pub const SETTLE_TRIES: u32 = 8;
/// Times that an operation is found again before it is taken back.
pub const LAPS: u32 = 3;
/// First wait between tries of what must be done in the end; doubles.
pub const FIRST_WAIT: Duration = Duration::from_millis(50);
/// Longest wait between tries.
pub const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Take the gate and write down what is wanted.
    Begin,
    /// Stop the warm agents that must not see files change under them.
    Quiet,
    /// Work out what it means for the files.
    Plan,
    /// Write the plan down.
    Intend,
    /// Write the files.
    CarryOut,
    /// Compare the worktree with its baseline.
    Compare,
    /// Write down that it is done, and give the gate back.
    Complete,
    /// Write the files back.
    TakeBack,
    /// Write down that it is not done, and give the gate back.
    Abandon,
    /// Put the private refs right.
    Settle {
        /// It was carried out.
        done: bool,
    },
    /// Ask the journal how far it is, and take it over.
    Recall,
}

impl Act {
    /// One word for the debug tree.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Begin => "beginning",
            Self::Quiet => "quieting",
            Self::Plan => "planning",
            Self::Intend => "intending",
            Self::CarryOut => "writing",
            Self::Compare => "comparing",
            Self::Complete => "completing",
            Self::TakeBack => "taking_back",
            Self::Abandon => "abandoning",
            Self::Settle { .. } => "settling",
            Self::Recall => "recalling",
        }
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// It is done.
    Did,
    /// No, for good: the order does not fit, or the data is refused.
    Refused,
    /// Some files are neither as before nor as planned.
    InTheWay,
    /// It will hardly do by itself: a folder is gone, or a statement takes longer than
    /// it may.
    Stuck,
    /// Not this time.
    Failed,
    /// Nobody knows: the worker panicked.
    Lost,
    /// A newer life of the node has it.
    Fenced,
    /// What the journal says; none when it never began.
    Found(Option<OperationState>),
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// This, after a wait.
    Do(Act, Duration),
    /// Nothing more.
    Over,
}

/// The way of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Course {
    quiets: bool,
    act: Act,
    tries: u32,
    laps: u32,
}

impl Course {
    /// A new operation. `quiets`: agents must be gone before it.
    #[must_use]
    pub fn begin(quiets: bool) -> Self {
        Self {
            quiets,
            act: Act::Begin,
            tries: 0,
            laps: 0,
        }
    }

    /// One that an earlier life left behind.
    #[must_use]
    pub fn resume() -> Self {
        Self {
            quiets: false,
            act: Act::Recall,
            tries: 0,
            laps: 0,
        }
    }

    /// What is being done.
    #[must_use]
    pub fn act(&self) -> Act {
        self.act
    }

    /// The next failure is the last that is waited for, where tries are counted.
    #[must_use]
    pub fn last_try(&self) -> bool {
        self.tries + 1 >= FILE_TRIES
    }

    /// How often it failed in a row.
    #[must_use]
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// Takes what came of [`Course::act`].
    pub fn came(&mut self, came: Came) -> Next {
        if came == Came::Fenced {
            return Next::Over;
        }
        match self.act {
            Act::Begin => match came {
                Came::Did if self.quiets => self.go(Act::Quiet),
                Came::Did => self.go(Act::Plan),
                Came::Refused => Next::Over,
                _ => self.go(Act::Recall),
            },
            Act::Quiet => self.go(if came == Came::Did {
                Act::Plan
            } else {
                Act::Abandon
            }),
            Act::Plan => self.go(if came == Came::Did {
                Act::Intend
            } else {
                Act::Abandon
            }),
            Act::Intend => match came {
                Came::Did => self.go(Act::CarryOut),
                Came::Refused => self.go(Act::Abandon),
                Came::Failed if self.tries + 1 < INTENT_TRIES => self.again(),
                _ => self.go(Act::Recall),
            },
            Act::CarryOut => match came {
                Came::Did => self.go(Act::Compare),
                Came::InTheWay | Came::Refused => self.go(Act::TakeBack),
                _ => self.again_or_back(),
            },
            Act::Compare => match came {
                Came::Did => self.go(Act::Complete),
                Came::Refused => self.go(Act::TakeBack),
                _ => self.again_or_back(),
            },
            Act::Complete => match came {
                Came::Did => self.go(Act::Settle { done: true }),
                Came::Stuck if !self.last_try() => self.again(),
                // Unless an earlier try was written and its answer lost.
                Came::Refused | Came::Stuck => {
                    self.laps = LAPS;
                    self.go(Act::Recall)
                }
                Came::Lost => self.go(Act::Recall),
                _ => self.again(),
            },
            Act::TakeBack => match came {
                Came::Did | Came::InTheWay => self.go(Act::Abandon),
                Came::Stuck if self.last_try() => self.go(Act::Abandon),
                _ => self.again(),
            },
            Act::Abandon => match came {
                Came::Did => self.go(Act::Settle { done: false }),
                Came::Refused => Next::Over,
                _ => self.again(),
            },
            // What is not settled then is settled at the next start.
            Act::Settle { .. } => match came {
                Came::Failed | Came::Lost if self.tries + 1 < SETTLE_TRIES => self.again(),
                _ => Next::Over,
            },
            Act::Recall => match came {
                Came::Found(None) | Came::Refused => Next::Over,
                Came::Found(Some(OperationState::Intended)) if self.laps + 1 >= LAPS => {
                    self.go(Act::TakeBack)
                }
                Came::Found(Some(state)) => {
                    self.laps += 1;
                    self.go(after_recall(state))
                }
                _ => self.again(),
            },
        }
    }

    fn go(&mut self, act: Act) -> Next {
        self.act = act;
        self.tries = 0;
        Next::Do(act, Duration::ZERO)
    }

    fn again(&mut self) -> Next {
        let wait = FIRST_WAIT * 2_u32.pow(self.tries.min(16));
        self.tries += 1;
        Next::Do(self.act, wait.min(LONGEST_WAIT))
    }

    fn again_or_back(&mut self) -> Next {
        if self.last_try() {
            self.go(Act::TakeBack)
        } else {
            self.again()
        }
    }
}

fn after_recall(state: OperationState) -> Act {
    match state {
        OperationState::Planning => Act::Abandon,
        OperationState::Intended => Act::CarryOut,
        OperationState::Done => Act::Settle { done: true },
        OperationState::Abandoned => Act::Settle { done: false },
    }
}
