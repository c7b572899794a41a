//! What people do and what breaks, from the seed alone: pure. What it comes to
//! depends on the moment; what is tried, and after which pause, does not.

use std::time::Duration;

use fastrand::Rng;

use super::cast::{CHATS, PROJECTS, SESSIONS};

/// Between two things that people do, on average.
const ACT_GAP: Duration = Duration::from_millis(450);

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Act(Act),
    Fault(Fault),
}

/// What people do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// A message in a chat.
    Say {
        chat: usize,
        way: Way,
        /// It cancels the turn that runs in its chat.
        interrupts: bool,
        /// It is tried again by itself when Hearth interrupts it.
        retries: bool,
        words: Words,
    },
    /// Cancels one of the latest messages: so many before the last.
    Stop { back: usize },
    /// Brings changes of a session into the checkout: all, or one.
    Apply { session: usize, one: bool },
    /// Takes one change out of the worktree.
    Reject { session: usize },
    /// Takes one applied change out of the checkout.
    Rewind { session: usize },
    /// Brings a session's files back to a checkpoint: so many before the last.
    Restore { session: usize, back: usize },
    /// Somebody edits files of the checkout.
    Edit { project: usize },
}

/// How a message is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Http,
    /// Twice, under one `Idempotency-Key`.
    Twice,
    /// A plain row.
    Sql,
}

/// What a message asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Words {
    /// An answer.
    Talk,
    /// An answer that takes some time.
    Slow,
    /// A file of its own.
    Create,
    /// A big one.
    Big,
    /// A line in a file that others change too.
    Mark,
    /// A file, after a person allowed it.
    Ask,
    /// The agent, or its model, misbehaves in a way of this number.
    Odd(usize),
}

/// What breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    KillAgent,
    KillShim,
    KillServer,
    KillPostgres,
    /// One process of PostgreSQL: all others end with it, and it recovers.
    KillBackend,
    KillHearth,
    FreezeAgent(Duration),
    FreezeServer(Duration),
    /// Of clients and followers.
    CutClients,
    CutModels,
    CutDatabase,
    FillDisk(Duration),
    /// An agent or its model that misbehaves: the message that asks for it is the fault.
    Corrupt,
}

impl Fault {
    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::KillAgent => "kill -9 of an agent",
            Self::KillShim => "kill -9 of a shim",
            Self::KillServer => "kill -9 of the opencode server",
            Self::KillPostgres => "kill -9 of PostgreSQL",
            Self::KillBackend => "kill -9 of one of its processes",
            Self::KillHearth => "kill -9 of Hearth",
            Self::FreezeAgent(_) => "SIGSTOP of an agent",
            Self::FreezeServer(_) => "SIGSTOP of the opencode server",
            Self::CutClients => "connections of clients cut",
            Self::CutModels => "connections to models cut",
            Self::CutDatabase => "connections to PostgreSQL cut",
            Self::FillDisk(_) => "disk of the worktrees full",
            Self::Corrupt => "agent or model misbehaves",
        }
    }
}

/// The deeds of a run, without end.
pub(crate) struct Plan {
    acts: Rng,
    faults: Rng,
    fault_gap: Duration,
    next_act: Duration,
    next_fault: Duration,
}

impl Plan {
    /// With a fault each `fault_gap` on average.
    pub(crate) fn new(seed: u64, fault_gap: Duration) -> Self {
        let mut acts = Rng::with_seed(seed);
        let mut faults = acts.fork();
        let next_act = gap(&mut acts, ACT_GAP);
        // Something has to run before it can break.
        let next_fault = 3 * fault_gap + gap(&mut faults, fault_gap);
        Self {
            acts,
            faults,
            fault_gap,
            next_act,
            next_fault,
        }
    }

    /// The next deed, and when: since the begin of the run.
    pub(crate) fn next(&mut self) -> (Duration, Deed) {
        if self.next_act <= self.next_fault {
            let at = self.next_act;
            self.next_act += gap(&mut self.acts, ACT_GAP);
            (at, Deed::Act(act(&mut self.acts)))
        } else {
            let at = self.next_fault;
            self.next_fault += gap(&mut self.faults, self.fault_gap);
            (at, fault(&mut self.faults))
        }
    }
}

/// Between nothing and twice the mean.
fn gap(random: &mut Rng, mean: Duration) -> Duration {
    mean.mul_f64(2.0 * random.f64())
}

fn act(random: &mut Rng) -> Act {
    let session = random.usize(..SESSIONS);
    match random.u8(..100) {
        0..62 => say(random, None),
        62..70 => Act::Stop {
            back: random.usize(..12),
        },
        70..80 => Act::Apply {
            session,
            one: random.bool(),
        },
        80..84 => Act::Reject { session },
        84..87 => Act::Rewind { session },
        87..92 => Act::Restore {
            session,
            back: random.usize(..4),
        },
        _ => Act::Edit {
            project: random.usize(..PROJECTS),
        },
    }
}

fn say(random: &mut Rng, odd: Option<usize>) -> Act {
    let words = match (odd, random.u8(..100)) {
        (Some(number), _) => Words::Odd(number),
        (None, 0..20) => Words::Talk,
        (None, 20..40) => Words::Slow,
        (None, 40..62) => Words::Create,
        (None, 62..68) => Words::Big,
        (None, 68..88) => Words::Mark,
        (None, _) => Words::Ask,
    };
    Act::Say {
        chat: random.usize(..CHATS),
        way: match random.u8(..10) {
            0..5 => Way::Http,
            5..7 => Way::Twice,
            _ => Way::Sql,
        },
        interrupts: random.u8(..12) == 0,
        retries: random.u8(..4) == 0,
        words,
    }
}

fn fault(random: &mut Rng) -> Deed {
    let pause = |random: &mut Rng| Duration::from_millis(random.u64(200..4000));
    Deed::Fault(match random.u8(..100) {
        0..24 => Fault::KillAgent,
        24..34 => Fault::KillShim,
        34..38 => Fault::KillServer,
        38..42 => Fault::KillPostgres,
        42..45 => Fault::KillBackend,
        45..51 => Fault::KillHearth,
        51..60 => Fault::FreezeAgent(pause(random)),
        60..63 => Fault::FreezeServer(pause(random)),
        63..70 => Fault::CutClients,
        70..76 => Fault::CutModels,
        76..82 => Fault::CutDatabase,
        82..87 => Fault::FillDisk(pause(random)),
        _ => {
            let odd = random.usize(..16);
            return Deed::Act(say(random, Some(odd)));
        }
    })
}
