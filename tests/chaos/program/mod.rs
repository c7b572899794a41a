//! Chaos: real parts, random work, random harm, and checks that nothing was lost.
//!
//! [`plan`] says from a seed what people do and what breaks; [`people`] and [`harm`] do
//! it to a [`hearth`] of its own, while followers read all streams. When the faults are
//! over and all has settled, [`collect`] gathers what is in the database, the streams,
//! `/proc` and on disk into one [`history`], and [`checks`] and [`replay`] compare it
//! with what was asked for. Those are pure, and so are [`plan`], [`asked`] and [`cast`].

pub(crate) mod asked;
pub(crate) mod cast;
pub(crate) mod checks;
mod collect;
mod desk;
mod disk;
pub(crate) mod follower;
mod harm;
mod hearth;
pub(crate) mod history;
mod people;
pub(crate) mod plan;
pub(crate) mod processes;
mod proxy;
pub(crate) mod replay;
mod report;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::json;
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::models::openai::Model;
use crate::real_agents::Agent;
use crate::real_agents::install::installed;

use asked::{SHARED, nonce_in, shared_at_first};
use cast::{CHATS, PROJECTS, SESSIONS, project_of, session_of};
use desk::Desk;
use harm::Harm;
use hearth::{Hearth, git};
use history::Witnessed;
use people::{People, Places};
use plan::{Act, Deed, Fault, Plan, Words};

pub(crate) use report::Report;

/// Until all that was asked for is over, once nothing breaks any more: agents that
/// crashed often rest, models that refused are asked again.
const SETTLE: Duration = Duration::from_secs(420);
/// Between two looks at what agents ask.
const LOOK: Duration = Duration::from_millis(250);
/// Readers of each stream.
const FOLLOWERS: usize = 2;

const AGENTS: [Agent; 3] = [Agent::Goose, Agent::OpencodeServer, Agent::Claude];

/// What kind of run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) seed: u64,
    /// How long things break.
    pub(crate) length: Duration,
    /// Between two faults, on average.
    pub(crate) fault_gap: Duration,
}

/// A whole run.
///
/// # Errors
/// It could not be set up, or Hearth ended by itself or did not come back.
pub(crate) async fn run(options: Options) -> anyhow::Result<Report> {
    let model = Model::witness();
    let agents = tokio::task::spawn_blocking(installed).await?;
    let mut hearth = Hearth::new(|models| {
        let tables = AGENTS.map(|agent| agent.table(agents, models)).concat();
        format!("{SETTINGS}{tables}")
    })
    .await?;
    hearth
        .models
        .lead_to(model.url().trim_start_matches("http://").parse().ok());
    for agent in AGENTS {
        let home = hearth.home.join("homes").join(agent.name());
        agent.furnish(&home, &hearth.models.url());
    }
    let first = hearth.start().await?;
    let people = People::new(hearth.desk(), places(&hearth).await?);
    let followers: Vec<_> = (0..SESSIONS * FOLLOWERS)
        .map(|number| {
            let seat = number % SESSIONS;
            collect::follow(&people.desk, people.places.sessions[seat], seat)
        })
        .collect();
    let hearth = Arc::new(Mutex::new(hearth));
    let mut harm = Harm::new(Arc::clone(&hearth), people.desk.clone(), options.seed);
    let answering = tokio::spawn(answer_always(people.clone()));

    let broke = breaking(options, &people, &mut harm).await;
    let quiet = Instant::now();
    let settled = match broke {
        Ok(()) => until_settled(&people, &mut harm).await,
        Err(error) => Err(error),
    };
    answering.abort();
    let quiet = quiet.elapsed();
    let mut hearth = hearth.lock().await;
    let unsettled =
        settled.with_context(|| format!("seed {}\n{}", options.seed, hearth.log_end()))?;

    let mut history = collect::rows(&people.desk, &people.places).await?;
    collect::streams(&people.desk, &people.places, &followers, &mut history).await;
    let visits = followers
        .iter()
        .map(|follower| follower.visits().count)
        .sum();
    drop(followers);
    let memory = std::mem::take(&mut *people.memory());
    history
        .unsettled
        .extend([unsettled, memory.ignored.clone()].concat());
    history.answers = collect::answers(&people.desk, &memory).await?;
    collect::disk(&people.desk, &people.places, &memory, &mut history).await?;
    history.asked = memory.asked;
    history.witnessed = witnessed(&model, &people.places);
    history.faults = std::mem::take(&mut harm.struck);
    history.orphans = left(&hearth, "while Hearth runs").await;
    hearth.stop().await?;
    history
        .orphans
        .extend(left(&hearth, "after its stop").await);
    let mut starts = vec![first];
    starts.extend(
        harm.starts
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .iter(),
    );
    if std::env::var_os("CHAOS_LOG").is_some() {
        let kept = std::env::temp_dir().join(format!("hearth-chaos-{}.log", options.seed));
        std::fs::copy(hearth.home.join("log"), kept)?;
    }
    Ok(Report {
        seed: options.seed,
        length: options.length,
        quiet,
        offences: checks::all(&history),
        history,
        acts: memory.acts,
        starts,
        visits,
        log: hearth.log_end(),
    })
}

/// Clocks short enough that what hangs is over within the run. The disk of the
/// worktrees is a small one: how much must be free is not looked at.
const SETTINGS: &str = "shutdown_grace_ms = 5000
worktrees.min_free_mb = 0
[deadlines]
first_byte_ms = 60000
stall_ms = 60000
wall_ms = 180000
[agents.demo.deadlines]
stall_ms = 20000
";

/// Plays the plan until its time is over.
async fn breaking(options: Options, people: &People, harm: &mut Harm) -> anyhow::Result<()> {
    let mut plan = Plan::new(options.seed, options.fault_gap);
    let started = Instant::now();
    loop {
        let (at, deed) = plan.next();
        if at > options.length {
            return Ok(());
        }
        tokio::time::sleep(at.saturating_sub(started.elapsed())).await;
        match deed {
            Deed::Act(act) => {
                if let Act::Say {
                    chat,
                    words: Words::Odd(number),
                    ..
                } = act
                {
                    harm.note(
                        Fault::Corrupt,
                        Duration::ZERO,
                        format!("number {number} in chat {chat}"),
                    );
                }
                people.act(act);
            }
            Deed::Fault(fault) => harm.strike(fault).await?,
        }
    }
}

async fn answer_always(people: People) {
    loop {
        let _ = people.answer_prompts().await;
        tokio::time::sleep(LOOK).await;
    }
}

/// Projects, sessions and chats, as people would open them.
async fn places(hearth: &Hearth) -> anyhow::Result<Places> {
    let desk = hearth.desk();
    let mut places = Places {
        witness: hearth.place().join("witness"),
        ..Places::default()
    };
    for number in 0..PROJECTS {
        let checkout = hearth.place().join(format!("checkout-{number}"));
        std::fs::create_dir(&checkout)?;
        std::fs::write(checkout.join(SHARED), shared_at_first())?;
        git(&checkout, &["init", "-q"])?;
        git(&checkout, &["add", "."])?;
        git(&checkout, &["commit", "-qm", "one"])?;
        places
            .projects
            .push(made(&desk, "/api/projects", &json!({ "path": checkout })).await?);
        places.checkouts.push(checkout);
    }
    for number in 0..SESSIONS {
        let project = places.projects[project_of(number)];
        let body = json!({ "project_id": project, "name": format!("session {number}") });
        let session = made(&desk, "/api/sessions", &body).await?;
        let below = hearth.home.join("worktrees").join(project.to_string());
        places.worktrees.push(below.join(session.to_string()));
        places.sessions.push(session);
    }
    for number in 0..CHATS {
        let path = format!(
            "/api/sessions/{}/chats",
            places.sessions[session_of(number)]
        );
        places
            .chats
            .push(made(&desk, &path, &json!({ "name": format!("chat {number}") })).await?);
    }
    Ok(places)
}

async fn made(desk: &Desk, path: &str, body: &serde_json::Value) -> anyhow::Result<Uuid> {
    let (status, answer) = desk.post(path, None, body).await?;
    ensure!(status == 201, "{path}: {status} {answer}");
    Ok(answer["id"].as_str().context("an id")?.parse()?)
}

async fn until_settled(people: &People, harm: &mut Harm) -> anyhow::Result<Vec<String>> {
    harm.heal().await?;
    people.done().await;
    settled(&people.desk).await
}

/// Waits until everything is over; what is not, when its time is.
async fn settled(desk: &Desk) -> anyhow::Result<Vec<String>> {
    let started = Instant::now();
    loop {
        let open = desk.with_database(async |connection| {
            sqlx::query_scalar(
                "select concat_ws(' ', 'task', t.id, t.agent, t.state, q.parked_reason, q.parked_until, t.input)
                 from tasks t left join hearth.queue q on q.task_id = t.id
                 where t.state in ('pending', 'running', 'blocked')
                 union all select concat_ws(' ', 'turn', id, task_id) from hearth.turns where ended_at is null
                 union all select concat_ws(' ', 'operation', id, kind, state) from hearth.operations
                    where ended_at is null or not settled
                 union all select concat_ws(' ', 'gate', session_id, turn_id, operation) from hearth.gates
                    where turn_id is not null or operation is not null",
            )
            .fetch_all(connection)
            .await
        });
        let open: Vec<String> = open.await?;
        if open.is_empty() || started.elapsed() > SETTLE {
            return Ok(open);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn witnessed(model: &Model, places: &Places) -> Vec<Witnessed> {
    let mut witnessed = collect::demo_witness(&places.witness);
    for seen in model.asked() {
        if let Some(nonce) = nonce_in(&seen.prompt) {
            witnessed.push(Witnessed {
                nonce: nonce.to_owned(),
                at: Some(seen.at.into()),
            });
        }
    }
    witnessed
}

/// Processes that belong to nobody, if they stay.
async fn left(hearth: &Hearth, when: &str) -> Vec<String> {
    const DYING: Duration = Duration::from_secs(10);
    let started = Instant::now();
    loop {
        let orphans: BTreeMap<i32, String> = hearth.orphans().into_iter().collect();
        if orphans.is_empty() || started.elapsed() > DYING {
            let told = orphans
                .iter()
                .map(|(pid, line)| format!("process {pid} {when}: {line}"));
            return told.collect();
        }
        tokio::time::sleep(LOOK).await;
    }
}
