//! What is counted, in Prometheus' words. Labels have few values: agents by their
//! names in the settings (the first 32, then `other`), words of Hearth's own, never ids.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hearth_actors::ids::AgentName;
use hearth_actors::ports::{Fact, Meter};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// What the text is.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Agents with series of their own.
const MOST_AGENTS: usize = 32;
/// What the others are called together.
const OTHER: &str = "other";

type Labels<const N: usize> = [(&'static str, String); N];
type Counters<const N: usize> = Family<Labels<N>, Counter>;
type Gauges<const N: usize> = Family<Labels<N>, Gauge>;
type Histograms<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// All that is counted. Clones share it.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    counted: Counted,
    shown: Shown,
    agents: Mutex<BTreeSet<String>>,
    /// One picture at a time.
    picture: Mutex<()>,
    queue: Mutex<Option<Queue>>,
}

#[derive(Default)]
struct Counted {
    claimed: Counter,
    parked: Counters<2>,
    starts: Counters<2>,
    start_failures: Counters<2>,
    restarts: Counters<2>,
    turns: Counters<2>,
    evictions: Counters<1>,
    refusals: Counters<1>,
    lease_renewals: Counters<1>,
    leases_lost: Counter,
    recovered: Counters<1>,
    frames: Counter,
}

struct Shown {
    ready: Gauge,
    sessions: Gauges<2>,
    pool_used: Gauges<1>,
    pool_limit: Gauges<1>,
    trees: Gauges<1>,
    processes: Gauge,
    circuits: Gauges<1>,
    queue: Gauges<1>,
    oldest: Gauges<1>,
    prompts: Gauge,
    start_seconds: Histograms<1>,
    first_token: Histograms<1>,
    turn_seconds: Histograms<1>,
    lease_left: Histogram,
    commits: Histogram,
}

/// A picture of this moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Tasks are claimed.
    pub ready: bool,
    /// Warm sessions, and how many there may be.
    pub live: u64,
    /// See there.
    pub max_live: u64,
    /// Bytes of their process trees, and how many they may take.
    pub memory: u64,
    /// See there.
    pub memory_cap: Option<u64>,
    /// Processes in them.
    pub processes: u64,
    /// Warm sessions by agent and state.
    pub sessions: BTreeMap<(String, String), u64>,
    /// Bytes of the process trees by agent.
    pub trees: BTreeMap<String, u64>,
    /// Whether each agent rests.
    pub circuits: BTreeMap<String, bool>,
}

/// What waits in the database, as it was read last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Tasks by why they are not done, and the age of the oldest in seconds.
    pub tasks: Vec<(&'static str, u64, u64)>,
    /// Prompts that nobody has answered.
    pub prompts: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Nothing counted yet.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("hearth");
        let (counted, shown) = (Counted::default(), Shown::new());
        counted.register(&mut registry);
        shown.register(&mut registry);
        let build: Gauges<1> = Family::default();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        build.get_or_create(&[("version", version)]).set(1);
        registry.register("build_info", "the running version", build);
        Self(Arc::new(Inner {
            registry,
            counted,
            shown,
            agents: Mutex::default(),
            picture: Mutex::default(),
            queue: Mutex::default(),
        }))
    }

    /// What waits in the database now; none: it is not known.
    pub fn queue(&self, queue: Option<Queue>) {
        *self.0.queue.lock().unwrap_or_else(PoisonError::into_inner) = queue;
    }

    /// All of it with that picture.
    #[must_use]
    pub fn text(&self, now: &Now) -> String {
        let _alone = self
            .0
            .picture
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let agent = |name: &str| self.agent(&AgentName::from(name));
        self.0.shown.show(now, &agent);
        let queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.shown.show_queue(queue.as_ref());
        drop(queue);
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.0.registry);
        text
    }

    /// Its label: the name, as long as there are not too many.
    fn agent(&self, name: &AgentName) -> String {
        let mut agents = self.0.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let name = name.as_str();
        if agents.contains(name) {
            return name.to_owned();
        }
        if agents.len() >= MOST_AGENTS {
            return OTHER.to_owned();
        }
        agents.insert(name.to_owned());
        name.to_owned()
    }
}

impl Meter for Metrics {
    fn note(&self, fact: Fact) {
        let (counted, shown) = (&self.0.counted, &self.0.shown);
        let agent = |name: &AgentName| ("agent", self.agent(name));
        let one = |family: &Counters<2>, agent, other: (&'static str, &str)| {
            let labels = [agent, (other.0, other.1.to_owned())];
            family.get_or_create(&labels).inc();
        };
        let lone = |family: &Counters<1>, name: &'static str, word: &str| {
            family.get_or_create(&[(name, word.to_owned())]).inc();
        };
        match fact {
            Fact::Claimed(tasks) => drop(counted.claimed.inc_by(tasks as u64)),
            Fact::Parked(name, reason) => {
                one(&counted.parked, agent(&name), ("reason", reason.as_str()));
            }
            Fact::Started {
                agent: name,
                how,
                took,
            } => {
                one(&counted.starts, agent(&name), ("how", how.as_str()));
                observe(&shown.start_seconds, agent(&name), took);
            }
            Fact::NotStarted(name, outcome) => {
                let outcome = ("outcome", outcome.as_str());
                one(&counted.start_failures, agent(&name), outcome);
            }
            Fact::FirstWord(name, took) => observe(&shown.first_token, agent(&name), took),
            Fact::TurnEnded {
                agent: name,
                outcome,
                took,
            } => {
                one(&counted.turns, agent(&name), ("outcome", outcome.as_str()));
                observe(&shown.turn_seconds, agent(&name), took);
            }
            Fact::Crashed { agent: name, cools } => {
                let rest = if cools { "cool_down" } else { "back_off" };
                one(&counted.restarts, agent(&name), ("rest", rest));
            }
            Fact::Evicted(_, why) => lone(&counted.evictions, "reason", why.as_str()),
            Fact::Stayed(_, why) => lone(&counted.refusals, "reason", why.as_str()),
            // Read off the board.
            Fact::Circuit { .. } => {}
            Fact::LeaseRenewed { done, left } => {
                let result = if done { "ok" } else { "failed" };
                lone(&counted.lease_renewals, "result", result);
                shown.lease_left.observe(left.as_secs_f64());
            }
            Fact::LeaseLost => drop(counted.leases_lost.inc()),
            Fact::Reconciled {
                requeued,
                interrupted,
            } => {
                for (how, turns) in [("reclaimed", requeued), ("interrupted", interrupted)] {
                    let labels = [("how", how.to_owned())];
                    counted
                        .recovered
                        .get_or_create(&labels)
                        .inc_by(turns as u64);
                }
            }
            Fact::Stored(frames, took) => {
                counted.frames.inc_by(frames as u64);
                shown.commits.observe(took.as_secs_f64());
            }
        }
    }
}

fn observe(family: &Histograms<1>, label: (&'static str, String), took: Duration) {
    family.get_or_create(&[label]).observe(took.as_secs_f64());
}

impl Counted {
    fn register(&self, registry: &mut Registry) {
        let Self {
            claimed,
            parked,
            starts,
            start_failures,
            restarts,
            turns,
            evictions,
            refusals,
            lease_renewals,
            leases_lost,
            recovered,
            frames,
        } = self;
        registry.register("tasks_claimed", "tasks claimed", claimed.clone());
        registry.register("tasks_parked", "tasks given back to wait", parked.clone());
        registry.register("starts", "agents that could be prompted", starts.clone());
        registry.register(
            "start_failures",
            "agents that did not start",
            start_failures.clone(),
        );
        registry.register(
            "session_restarts",
            "crashes and failed starts, after which a session rests",
            restarts.clone(),
        );
        registry.register("turns", "turns ended", turns.clone());
        registry.register("evictions", "sessions that went", evictions.clone());
        registry.register(
            "eviction_refusals",
            "sessions that stayed although they were asked to go",
            refusals.clone(),
        );
        registry.register(
            "lease_renewals",
            "renewals of the node's lease",
            lease_renewals.clone(),
        );
        registry.register("leases_lost", "leases lost", leases_lost.clone());
        registry.register(
            "recovered_turns",
            "turns of an earlier life that were settled",
            recovered.clone(),
        );
        registry.register("frames_stored", "frames of agents' words", frames.clone());
    }
}

impl Shown {
    fn new() -> Self {
        let starts: fn() -> Histogram = || Histogram::new(exponential_buckets(0.05, 2.0, 12));
        let words: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 2.0, 18));
        let turns: fn() -> Histogram =
            || Histogram::new(exponential_buckets(0.1, 2.0, 13).chain([1800.0, 14_400.0]));
        Self {
            ready: Gauge::default(),
            sessions: Family::default(),
            pool_used: Family::default(),
            pool_limit: Family::default(),
            trees: Family::default(),
            processes: Gauge::default(),
            circuits: Family::default(),
            queue: Family::default(),
            oldest: Family::default(),
            prompts: Gauge::default(),
            start_seconds: Family::new_with_constructor(starts),
            first_token: Family::new_with_constructor(words),
            turn_seconds: Family::new_with_constructor(turns),
            lease_left: Histogram::new([1.0, 2.0, 5.0, 8.0, 11.0, 12.0, 15.0, 22.0]),
            commits: Histogram::new(exponential_buckets(0.0005, 2.0, 14)),
        }
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("ready", "1 when tasks are claimed", self.ready.clone());
        registry.register(
            "warm_sessions",
            "sessions of the pool",
            self.sessions.clone(),
        );
        registry.register("pool_used", "used of the pool", self.pool_used.clone());
        registry.register("pool_limit", "size of the pool", self.pool_limit.clone());
        registry.register_with_unit(
            "tree_memory",
            "proportional memory of agents' process trees",
            Unit::Bytes,
            self.trees.clone(),
        );
        registry.register(
            "tree_processes",
            "processes in them",
            self.processes.clone(),
        );
        registry.register(
            "circuit_open",
            "1 while all chats of an agent rest",
            self.circuits.clone(),
        );
        registry.register("queue_depth", "tasks not done yet", self.queue.clone());
        registry.register_with_unit(
            "queue_oldest",
            "age of the oldest of them",
            Unit::Seconds,
            self.oldest.clone(),
        );
        registry.register("prompts_open", "unanswered prompts", self.prompts.clone());
        for (name, help, family) in [
            ("start", "from start to prompt", &self.start_seconds),
            ("first_token", "from prompt to word", &self.first_token),
            ("turn", "from assignment to stored end", &self.turn_seconds),
        ] {
            registry.register_with_unit(name, help, Unit::Seconds, family.clone());
        }
        registry.register_with_unit(
            "lease_remaining",
            "trust left when the lease was renewed",
            Unit::Seconds,
            self.lease_left.clone(),
        );
        registry.register_with_unit(
            "journal_commit",
            "one commit of agents' words",
            Unit::Seconds,
            self.commits.clone(),
        );
    }

    /// What is gone has no series any more.
    fn show(&self, now: &Now, agent: &dyn Fn(&str) -> String) {
        self.ready.set(i64::from(now.ready));
        self.sessions.clear();
        for ((name, state), many) in &now.sessions {
            let labels = [("agent", agent(name)), ("state", state.clone())];
            self.sessions.get_or_create(&labels).inc_by(whole(*many));
        }
        self.trees.clear();
        for (name, bytes) in &now.trees {
            let labels = [("agent", agent(name))];
            self.trees.get_or_create(&labels).inc_by(whole(*bytes));
        }
        self.circuits.clear();
        for (name, open) in &now.circuits {
            let labels = [("agent", agent(name))];
            let gauge = self.circuits.get_or_create(&labels);
            gauge.set(gauge.get().max(i64::from(*open)));
        }
        self.processes.set(whole(now.processes));
        let set = |family: &Gauges<1>, resource: &str, value: u64| {
            let labels = [("resource", resource.to_owned())];
            family.get_or_create(&labels).set(whole(value));
        };
        set(&self.pool_used, "live", now.live);
        set(&self.pool_used, "memory_bytes", now.memory);
        self.pool_limit.clear();
        set(&self.pool_limit, "live", now.max_live);
        if let Some(cap) = now.memory_cap {
            set(&self.pool_limit, "memory_bytes", cap);
        }
    }

    fn show_queue(&self, queue: Option<&Queue>) {
        self.queue.clear();
        self.oldest.clear();
        let Some(queue) = queue else {
            // Better none than an old one.
            self.prompts.set(0);
            return;
        };
        for (state, many, seconds) in &queue.tasks {
            let labels = [("state", (*state).to_owned())];
            self.queue.get_or_create(&labels).set(whole(*many));
            self.oldest.get_or_create(&labels).set(whole(*seconds));
        }
        self.prompts.set(whole(queue.prompts));
    }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use hearth_actors::limits::ParkReason;
    use hearth_actors::outcome::Outcome;
    use hearth_actors::ports::How;
    use hearth_actors::rules::evict::{Nomination, Stays};

    use super::*;

    /// Every label of every metric, for more agents than have series.
    fn full() -> Metrics {
        let metrics = Metrics::new();
        let took = Duration::from_millis(20);
        for n in 0..40 {
            let agent = AgentName::from(format!("agent-{n:02}").as_str());
            for outcome in Outcome::ALL {
                metrics.note(Fact::NotStarted(agent.clone(), *outcome));
                metrics.note(Fact::TurnEnded {
                    agent: agent.clone(),
                    outcome: *outcome,
                    took,
                });
            }
            for how in [How::New, How::Resumed, How::Fresh] {
                metrics.note(Fact::Started {
                    agent: agent.clone(),
                    how,
                    took,
                });
            }
            for cools in [false, true] {
                metrics.note(Fact::Crashed {
                    agent: agent.clone(),
                    cools,
                });
            }
            for reason in ParkReason::ALL {
                metrics.note(Fact::Parked(agent.clone(), *reason));
            }
            metrics.note(Fact::FirstWord(agent.clone(), took));
            for why in Nomination::ALL {
                metrics.note(Fact::Evicted(agent.clone(), *why));
            }
            for why in Stays::ALL {
                metrics.note(Fact::Stayed(agent.clone(), *why));
            }
        }
        metrics
    }

    #[test]
    fn the_number_of_series_is_bounded_whatever_agents_are_called() {
        let text = full().text(&Now::default());
        let series = text.lines().filter(|line| !line.starts_with('#')).count();
        assert!(series < 5_000, "{series}");
        assert!(text.contains("hearth_turns_total{agent=\"other\",outcome=\"ok\"} 8"));
        assert!(!text.contains("agent-39"));
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_picture_replaces_the_one_before_it() {
        let metrics = Metrics::new();
        let mut now = Now {
            memory_cap: Some(7),
            ..Now::default()
        };
        now.sessions.insert(("demo".into(), "idle".into()), 2);
        now.trees.insert("demo".into(), 5_000);
        now.circuits.insert("demo".into(), true);
        metrics.queue(Some(Queue {
            tasks: vec![("ready", 3, 9)],
            prompts: 4,
        }));
        let text = metrics.text(&now);
        for line in [
            "hearth_warm_sessions{agent=\"demo\",state=\"idle\"} 2",
            "hearth_tree_memory_bytes{agent=\"demo\"} 5000",
            "hearth_circuit_open{agent=\"demo\"} 1",
            "hearth_pool_limit{resource=\"memory_bytes\"} 7",
            "hearth_queue_depth{state=\"ready\"} 3",
            "hearth_queue_oldest_seconds{state=\"ready\"} 9",
            "hearth_prompts_open 4",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line} in {text}");
        }
        metrics.queue(None);
        let text = metrics.text(&Now::default());
        for gone in [
            "warm_sessions{",
            "tree_memory_bytes{",
            "queue_depth{",
            "{resource=\"memory_bytes\"} 7",
        ] {
            assert!(!text.contains(gone), "{gone}");
        }
    }
}
