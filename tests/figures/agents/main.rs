//! First words of real agents, cold and warm, with and without Hearth.
//!
//! `cargo bench --bench figures_agents`
//!
//! The same agent is prompted twice: over its own pipes, and through the service.
//! The scripted model notes when it handed out its first word, so that what comes
//! after it is the way of that word to the client. Hearth's own share is the
//! difference of the two ways. opencode's server is prompted over its HTTP; with
//! Hearth it starts once, for the first of its chats.

#[path = "../service/clock.rs"]
#[expect(dead_code, reason = "only the sample of it is used here")]
mod clock;
mod direct;
#[path = "../service/hearth.rs"]
#[expect(dead_code, reason = "the other figures measure more of it")]
mod hearth;
#[path = "../../models/mod.rs"]
#[expect(dead_code, reason = "the tests look closer at what was asked")]
mod models;
#[path = "../../npm.rs"]
mod npm;
#[path = "../../agents/mod.rs"]
mod real_agents;
mod served;
#[path = "../service/stream.rs"]
#[expect(dead_code, reason = "only server-sent events are read here")]
mod stream;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use direct::Direct;
use hearth::Hearth;
use models::openai::Model;
use real_agents::Agent;
use real_agents::install::installed;
use served::Served;

const COLD: usize = 3;
const WARM: usize = 20;
/// Chats of one server whose memory is looked at.
const CHATS: usize = 20;
const AGENTS: [Agent; 5] = [
    Agent::Goose,
    Agent::Qwen,
    Agent::Opencode,
    Agent::OpencodeServer,
    Agent::Claude,
];
const PROMPT: &str = "[[text:tick tock tick tock]]";

/// What the measured service passes on to agents; nothing here.
mod agent {
    pub(crate) const NOTES: &str = "FIGURES_NOTES";
}

static MODEL: OnceLock<Model> = OnceLock::new();

fn model() -> &'static Model {
    MODEL.get_or_init(Model::start)
}

/// The settings of the measured service.
fn config() -> String {
    AGENTS
        .map(|agent| agent.table(installed(), model().url()))
        .concat()
}

/// Medians of one way of prompting.
#[derive(Default)]
struct Way {
    cold: Vec<Duration>,
    /// A chat whose server runs, for others.
    another: Vec<Duration>,
    warm: Vec<Duration>,
    /// From the model's first word to the client.
    word: Vec<Duration>,
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(figures());
}

async fn figures() {
    let mut hearth = Hearth::new().await;
    hearth.start().await;
    println!("first words, ms, medians ({COLD} cold, {WARM} warm)");
    println!(
        "  {:<16} {:>13} {:>13} {:>13} {:>13} {:>13} {:>13} {:>13}",
        "agent",
        "cold, alone",
        "with Hearth",
        "warm, alone",
        "with Hearth",
        "word, alone",
        "with Hearth",
        "Hearth's own"
    );
    for agent in AGENTS {
        let alone = match agent {
            Agent::OpencodeServer => server_alone().await,
            _ => alone(agent).await,
        };
        let with = with_hearth(agent, &hearth).await;
        let (word_alone, word_with) = (median(&alone.word), median(&with.word));
        println!(
            "  {:<16} {:>13.1} {:>13.1} {:>13.1} {:>13.1} {:>13.2} {:>13.2} {:>13.2}",
            agent.name(),
            median(&alone.cold),
            median(&with.cold),
            median(&alone.warm),
            median(&with.warm),
            word_alone,
            word_with,
            word_with - word_alone
        );
        if agent == Agent::OpencodeServer {
            println!(
                "  {:<16} first words of another chat of the same server: alone {:.1}, with Hearth {:.1}",
                "",
                median(&alone.another),
                median(&with.another)
            );
        }
    }
    hearth.stop().await;
}

async fn alone(agent: Agent) -> Way {
    let mut way = Way::default();
    for round in 0..COLD {
        let home = tempfile::tempdir().expect("a home");
        let started = Instant::now();
        let mut direct = Direct::start(agent, model().url(), home.path()).await;
        way.cold.push(direct.first_text(PROMPT).await - started);
        for _ in 0..if round + 1 == COLD { WARM } else { 0 } {
            let asked = Instant::now();
            let came = direct.first_text(PROMPT).await;
            way.warm.push(came - asked);
            way.word.push(came.saturating_duration_since(first_word()));
        }
    }
    way
}

async fn server_alone() -> Way {
    let mut way = Way::default();
    for round in 0..COLD {
        let home = tempfile::tempdir().expect("a home");
        let started = Instant::now();
        let mut served = Served::start(model().url(), home.path()).await;
        way.cold.push(served.first_text(PROMPT).await - started);
        if round + 1 < COLD {
            continue;
        }
        for _ in 0..WARM {
            let asked = Instant::now();
            let came = served.first_text(PROMPT).await;
            way.warm.push(came - asked);
            way.word.push(came.saturating_duration_since(first_word()));
        }
        let one = served.rss_mb();
        for _ in 1..CHATS {
            let asked = Instant::now();
            served.next_session().await;
            way.another.push(served.first_text(PROMPT).await - asked);
        }
        let all = served.rss_mb();
        println!(
            "  opencode's server: {one:.0} MB with a chat, {all:.0} MB with {CHATS} in one directory, {:.1} MB each",
            (all - one) / (CHATS - 1) as f64
        );
    }
    way
}

async fn with_hearth(agent: Agent, hearth: &Hearth) -> Way {
    let home = hearth.home().join("homes").join(agent.name());
    agent.furnish(&home, model().url());
    let mut way = Way::default();
    for round in 0..COLD {
        // Each chat has an agent of its own, or is another one of its server.
        let chat = hearth.chat().await;
        let mut stream = hearth.stream(&chat.session).await;
        for turn in 0..if round + 1 == COLD { WARM + 1 } else { 1 } {
            let asked = Instant::now();
            hearth.say(&chat, agent.name(), PROMPT).await;
            stream.until(|frame| frame["type"] == "delta").await;
            let came = Instant::now();
            stream
                .until(|frame| frame["type"] == "task_updated" && frame["state"] == "completed")
                .await;
            if turn == 0 && round > 0 && agent == Agent::OpencodeServer {
                way.another.push(came - asked);
            } else if turn == 0 {
                way.cold.push(came - asked);
            } else {
                way.warm.push(came - asked);
                way.word.push(came.saturating_duration_since(first_word()));
            }
        }
    }
    way
}

/// When the model handed out the first word of its latest answer.
fn first_word() -> Instant {
    let asked = model().asked();
    let latest = asked.last().expect("a request");
    latest.first_word.expect("an answer")
}

fn median(times: &[Duration]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted[sorted.len() / 2].as_secs_f64() * 1000.0
}
