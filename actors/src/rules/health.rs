//! Whether a server that many sessions share is alive, and when it is started
//! again.
//!
//! A probe that fails is a doubt, not a proof: a server whose bytes still arrive
//! is alive however slowly it answers, and one in whose sessions turns run is
//! given more time, because its restart ends them all. An exit is a proof.

use std::time::Duration;

use crate::rules::moment::Moment;

/// The clocks and limits of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Between two probes of a server that is silent; bytes make one needless.
    pub period: Duration,
    /// How long a probe may take.
    pub timeout: Duration,
    /// Failed probes in a row, without a byte in between, that make it deaf.
    pub failures: u32,
    /// How long a deaf server keeps its running turns, from its last sign of life.
    pub busy_grace: Duration,
    /// Resident bytes of its process tree from which it is started again once no
    /// turn runs in it. None: no limit.
    pub memory: Option<u64>,
}

impl Default for Limits {
    /// A probe every 5 s that may take 5 s, deaf after 3: an idle server that
    /// hangs is noticed within 30 s. With a turn it has 2 minutes: a full garbage
    /// collection or a swapped-out process takes seconds, and a model that thinks
    /// leaves the server free to answer. 2 GiB: six times what a fresh one takes.
    fn default() -> Self {
        Self {
            period: Duration::from_secs(5),
            timeout: Duration::from_secs(5),
            failures: 3,
            busy_grace: Duration::from_secs(120),
            memory: Some(2 * 1024 * 1024 * 1024),
        }
    }
}

/// What is told of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Bytes of it arrived, whatever they say.
    Bytes,
    /// Probe `0` was answered as it should be.
    Answered(u64),
    /// Probe `0` failed or took too long.
    Failed(u64),
    /// Its process ended.
    Exited,
    /// So many turns run in it.
    Turns(usize),
    /// So many resident bytes its process tree has.
    Memory(u64),
    /// A turn of it would not end, and may go on for nobody.
    Unruly,
    /// Time passed.
    Tick,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Ask it whether it is well. The answer names the probe.
    Probe(u64),
    /// Stop what is left of it and start it again. Comes once: the next server
    /// has a monitor of its own.
    Restart(Cause),
    /// Start it again when whoever gives out its turns says that none begins
    /// meanwhile. Comes once for each time that no turn runs.
    Renew(Cause),
}

/// Why a server is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its process ended.
    Exited,
    /// It did not answer, and no turn ran in it.
    Deaf,
    /// It did not answer, and its turns stood still with it for too long.
    DeafWithTurns,
    /// It holds too much memory, and no turn ran in it.
    Memory,
    /// A turn of it would not end, and no other ran in it.
    Unruly,
}

/// How it stands, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers, or its bytes arrive.
    Well,
    /// So many probes in a row failed.
    Doubtful(u32),
    /// It is deaf and kept for its turns.
    Deaf,
    /// It is to be started again.
    Over(Cause),
}

/// The monitor of one life of a server.
#[derive(Clone, Debug)]
pub struct Monitor {
    limits: Limits,
    last_sign: Moment,
    /// The probe under way, and when it was sent.
    probing: Option<(u64, Moment)>,
    last_probe: Moment,
    probes: u64,
    failures: u32,
    turns: usize,
    memory: u64,
    unruly: bool,
    /// Since no turn runs, it was said that it should be renewed.
    renewing: bool,
    over: Option<Cause>,
}

impl Monitor {
    /// A server that is ready since `now`.
    #[must_use]
    pub fn new(now: Moment, limits: Limits) -> Self {
        Self {
            limits,
            last_sign: now,
            probing: None,
            last_probe: now,
            probes: 0,
            failures: 0,
            turns: 0,
            memory: 0,
            unruly: false,
            renewing: false,
            over: None,
        }
    }

    /// One sign, and what follows from it.
    pub fn step(&mut self, now: Moment, sign: Sign) -> Option<Order> {
        if self.over.is_some() {
            return None;
        }
        match sign {
            Sign::Bytes => self.alive(now),
            Sign::Answered(probe) => {
                if self.ends(probe) {
                    self.alive(now);
                }
            }
            Sign::Failed(probe) => self.failed(probe),
            Sign::Exited => return Some(self.end(Cause::Exited)),
            Sign::Turns(turns) => {
                self.turns = turns;
                self.renewing &= turns == 0;
            }
            Sign::Memory(bytes) => self.memory = bytes,
            Sign::Unruly => self.unruly = true,
            Sign::Tick => {}
        }
        self.overdue(now);
        if let Some(cause) = self.verdict(now) {
            return Some(self.end(cause));
        }
        if let Some(cause) = self.worn().filter(|_| self.turns == 0)
            && !std::mem::replace(&mut self.renewing, true)
        {
            return Some(Order::Renew(cause));
        }
        self.is_probe_due(now).then(|| self.probe(now))
    }

    /// When a [`Sign::Tick`] is next of use.
    #[must_use]
    pub fn next(&self, now: Moment) -> Moment {
        let probe = match self.probing {
            Some((_, sent)) => sent + self.limits.timeout,
            None => self.last_probe.max(self.last_sign) + self.limits.period,
        };
        let grace = self.last_sign + self.limits.busy_grace;
        if self.is_deaf() && grace > now {
            probe.min(grace)
        } else {
            probe
        }
    }

    /// How it stands.
    #[must_use]
    pub fn health(&self) -> Health {
        match (self.over, self.failures) {
            (Some(cause), _) => Health::Over(cause),
            (None, 0) => Health::Well,
            (None, _) if self.is_deaf() => Health::Deaf,
            (None, failures) => Health::Doubtful(failures),
        }
    }

    fn alive(&mut self, now: Moment) {
        self.last_sign = now;
        self.failures = 0;
    }

    /// Whether `probe` is the one under way, which is over then.
    fn ends(&mut self, probe: u64) -> bool {
        let ends = self.probing.is_some_and(|(number, _)| number == probe);
        if ends {
            self.probing = None;
        }
        ends
    }

    /// A probe that bytes have overtaken proves nothing, were they of the same
    /// moment: none is sent in a moment that had bytes before it.
    fn failed(&mut self, probe: u64) {
        let Some((_, sent)) = self.probing else {
            return;
        };
        if self.ends(probe) && self.last_sign < sent {
            self.failures = self.failures.saturating_add(1);
        }
    }

    fn overdue(&mut self, now: Moment) {
        if let Some((probe, sent)) = self.probing
            && now.since(sent) >= self.limits.timeout
        {
            self.failed(probe);
        }
    }

    fn verdict(&self, now: Moment) -> Option<Cause> {
        if self.is_deaf() {
            if self.turns == 0 {
                return Some(Cause::Deaf);
            }
            let stale = now.since(self.last_sign) >= self.limits.busy_grace;
            return stale.then_some(Cause::DeafWithTurns);
        }
        None
    }

    /// Why it should not serve for long any more.
    fn worn(&self) -> Option<Cause> {
        if self.unruly {
            return Some(Cause::Unruly);
        }
        let full = self.limits.memory.is_some_and(|most| self.memory > most);
        full.then_some(Cause::Memory)
    }

    fn is_deaf(&self) -> bool {
        self.failures >= self.limits.failures
    }

    fn is_probe_due(&self, now: Moment) -> bool {
        let since = self.last_probe.max(self.last_sign);
        self.probing.is_none() && now.since(since) >= self.limits.period
    }

    fn probe(&mut self, now: Moment) -> Order {
        self.probes += 1;
        self.last_probe = now;
        self.probing = Some((self.probes, now));
        Order::Probe(self.probes)
    }

    fn end(&mut self, cause: Cause) -> Order {
        self.over = Some(cause);
        self.probing = None;
        Order::Restart(cause)
    }
}
