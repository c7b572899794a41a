//! `ls`: sessions, and what runs in them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::args::Output;
use super::client::Client;
use super::failure::{Exit, Failure};
use super::ids::short;
use super::{discover, print};
use crate::http::render::ago;
use crate::store::rows::projects::Project;
use crate::store::rows::sessions::Session;
use crate::store::rows::tasks::Task;
use crate::text::clean;

/// Rows of each kind that are fetched; more are not shown.
const MAX_ROWS: usize = 1000;
/// Open tasks of a session that are shown.
const MAX_TASKS: usize = 20;
/// Characters of a task's prompt.
const WIDTH: usize = 60;

/// All that is listed.
#[derive(Serialize)]
struct Listing {
    sessions: Vec<Line>,
    /// Tasks that wait for a time, or for somebody.
    parked: Vec<Parked>,
    /// Tasks that nobody will run: their agent is not configured.
    stuck: Vec<Stuck>,
}

#[derive(Serialize)]
struct Line {
    id: Uuid,
    name: String,
    project: String,
    created_at: DateTime<Utc>,
    /// `running`, `blocked`, `queued`, `closed` or `idle`.
    state: &'static str,
    queued: usize,
    worktree: Option<String>,
    /// Tasks in it that are not over, oldest first.
    tasks: Vec<Open>,
}

/// A task that runs or waits.
#[derive(Serialize)]
struct Open {
    id: Uuid,
    /// `running`, `blocked` or `pending`.
    state: String,
    agent: Option<String>,
    input: String,
}

#[derive(Serialize)]
struct Parked {
    task_id: Uuid,
    session_id: Option<Uuid>,
    reason: String,
    until: Option<DateTime<Utc>>,
    detail: Option<String>,
}

#[derive(Serialize)]
struct Stuck {
    task_id: Uuid,
    agent: Option<String>,
}

#[derive(Deserialize)]
struct Known {
    #[serde(default)]
    agents: Vec<Agent>,
    default_agent: Option<String>,
}

#[derive(Deserialize)]
struct Agent {
    name: String,
}

pub(super) async fn ls(
    args: &Output,
    home: &Path,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let client = discover::need(home, env).await?;
    let listing = fetch(&client).await?;
    if args.json {
        let json = serde_json::to_string_pretty(&listing).unwrap_or_default();
        print(&format!("{json}\n"));
    } else {
        print(&text(&listing, Utc::now()));
    }
    Ok(Exit::Ok)
}

async fn fetch(client: &Client) -> Result<Listing, Failure> {
    // Who can be asked is told by a service that does not stop; its sessions by any.
    let known: Option<Known> = client.get("/api/health").await.ok();
    let projects: Vec<Project> = client.list("/api/projects", MAX_ROWS).await?;
    let sessions: Vec<Session> = client.list("/api/sessions", MAX_ROWS).await?;
    let mut live: Vec<Task> = Vec::new();
    for state in ["running", "blocked", "pending"] {
        let path = format!("/api/tasks?state={state}");
        live.extend(client.list(&path, MAX_ROWS).await?);
    }
    Ok(Listing {
        sessions: sessions
            .into_iter()
            .map(|session| line(session, &projects, &live))
            .collect(),
        parked: live.iter().filter_map(parked).collect(),
        stuck: known.map_or_else(Vec::new, |known| stuck(&live, &known)),
    })
}

fn line(session: Session, projects: &[Project], live: &[Task]) -> Line {
    let own = |state: &str| {
        live.iter()
            .filter(|task| task.session_id == Some(session.id) && task.state == state)
            .count()
    };
    let queued = own("pending");
    let state = match (own("running"), own("blocked"), queued) {
        (1.., _, _) => "running",
        (_, 1.., _) => "blocked",
        (_, _, 1..) => "queued",
        _ if session.closed_at.is_some() => "closed",
        _ => "idle",
    };
    let mut tasks: Vec<&Task> = live
        .iter()
        .filter(|task| task.session_id == Some(session.id))
        .collect();
    tasks.sort_by_key(|task| (task.created_at, task.id));
    let tasks = tasks.into_iter().map(|task| Open {
        id: task.id,
        state: task.state.clone(),
        agent: task.agent.clone(),
        input: task.input.chars().take(WIDTH).collect(),
    });
    let project = projects
        .iter()
        .find(|project| project.id == session.project_id)
        .map_or_else(String::new, |project| project.name.clone());
    Line {
        id: session.id,
        name: session.name,
        project,
        created_at: session.created_at,
        state,
        queued,
        worktree: session.worktree_path,
        tasks: tasks.collect(),
    }
}

fn parked(task: &Task) -> Option<Parked> {
    Some(Parked {
        task_id: task.id,
        session_id: task.session_id,
        reason: task.parked_reason.clone()?,
        until: task.parked_until,
        detail: task.parked_detail.clone(),
    })
}

fn stuck(live: &[Task], known: &Known) -> Vec<Stuck> {
    let runs = |task: &Task| match task.agent.as_ref().or(known.default_agent.as_ref()) {
        Some(name) => known.agents.iter().any(|agent| agent.name == *name),
        None => false,
    };
    live.iter()
        .filter(|task| task.state == "pending" && !runs(task))
        .map(|task| Stuck {
            task_id: task.id,
            agent: task.agent.clone(),
        })
        .collect()
}

fn text(listing: &Listing, now: DateTime<Utc>) -> String {
    let mut out = String::new();
    if listing.sessions.is_empty() {
        out.push_str("no sessions yet; open one with: hearth run \"…\"\n");
    }
    for line in &listing.sessions {
        let queued = match (line.state, line.queued) {
            ("running" | "blocked", more @ 1..) => format!(" +{more} queued"),
            _ => String::new(),
        };
        let _ = writeln!(
            out,
            "{}  {:<7}{queued}  {}  {}  {}",
            line.id,
            line.state,
            ago(now, line.created_at),
            clean(&line.project),
            clean(&line.name),
        );
        for task in line.tasks.iter().take(MAX_TASKS) {
            let _ = writeln!(
                out,
                "  task {}  {:<7}  {}  {}",
                short(task.id),
                task.state,
                clean(task.agent.as_deref().unwrap_or("-")),
                clean(&task.input),
            );
        }
        if line.tasks.len() > MAX_TASKS {
            let _ = writeln!(out, "  … and {} more", line.tasks.len() - MAX_TASKS);
        }
    }
    for parked in &listing.parked {
        let wait = parked.until.map_or_else(
            || "until somebody acts".to_owned(),
            |until| format!("for {}", ago(until, now)),
        );
        let detail = parked.detail.as_deref().map(clean);
        let _ = writeln!(
            out,
            "! task {} is parked {wait}: {}{}",
            parked.task_id,
            clean(&parked.reason),
            detail.map_or_else(String::new, |why| format!(" ({why})")),
        );
    }
    for stuck in &listing.stuck {
        let agent = stuck
            .agent
            .as_deref()
            .unwrap_or("none named, and no default_agent");
        let _ = writeln!(
            out,
            "! task {} waits for an agent that is not configured: {}",
            stuck.task_id,
            clean(agent)
        );
    }
    out
}
