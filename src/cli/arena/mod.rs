//! `arena`: several agents, one prompt, one table.

pub(super) mod args;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::client::Client;
use super::failure::{Exit, Failure};
use super::ids::pick;
use super::interrupt::Interrupts;
use super::run::screen::Screen;
use super::run::{repository, session};
use super::{discover, ids, print, run};
use crate::store::rows::arenas::{Arena, Contestant};
use args::{Arena as Begin, ArenaCommand, ArenaSelect, ArenaShow};

/// Arenas that are listed.
const MAX_ROWS: usize = 200;
/// Between two looks at an arena that is followed.
const LOOK: Duration = Duration::from_millis(250);

#[derive(Deserialize)]
struct Accepted {
    arena_id: Uuid,
}

pub(super) async fn arena(
    args: &Begin,
    home: &Path,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    match &args.command {
        None => begin(args, home, env).await,
        Some(ArenaCommand::Show(args)) => show(args, &discover::need(home, env).await?).await,
        Some(ArenaCommand::Select(args)) => select(args, &discover::need(home, env).await?).await,
        Some(ArenaCommand::Cancel(args)) => {
            let client = discover::need(home, env).await?;
            let id = ids::arena(&client, &args.arena).await?;
            let answer = cancel(&client, id).await?;
            if args.json {
                print(&format!("{answer}\n"));
            } else {
                let status = answer["status"].as_str().unwrap_or("cancelling");
                print(&format!("{id} {status}\n"));
            }
            Ok(Exit::Ok)
        }
    }
}

async fn begin(args: &Begin, home: &Path, env: &BTreeMap<String, String>) -> Result<Exit, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let prompt = run::prompt(args.prompt.as_deref().unwrap_or_default())?;
    let client = discover::need(home, env).await?;
    let mut screen = Screen::new(args.json, env.contains_key("NO_COLOR"));
    let mut body = body(args, &prompt);
    match &args.session {
        Some(typed) => body["session_id"] = json!(ids::session(&client, typed).await?),
        None => {
            let here = std::env::current_dir().map_err(|error| {
                let what = format!("the present directory cannot be used: {error}");
                Failure::new(Exit::Usage, what, "go to a directory that exists")
            })?;
            let root = repository::root(&here)?;
            let (project, warnings) = session::register(&client, &root).await?;
            session::warn(&warnings, &mut screen);
            body["project_id"] = json!(project.id);
        }
    }
    let key = Uuid::new_v4().to_string();
    let accepted: Accepted = client.post_once("/api/arena", &key, &body).await?;
    let id = accepted.arena_id;
    if args.no_wait {
        print(&if args.json {
            format!("{}\n", json!({ "arena_id": id }))
        } else {
            format!("{id}\n")
        });
        return Ok(Exit::Ok);
    }
    let (arena, interrupted) = follow(&client, id, &mut screen, &mut interrupts).await?;
    screen.clear();
    shown(&arena, args.json);
    Ok(if interrupted {
        Exit::Interrupted
    } else {
        exit(&arena)
    })
}

/// `agent:model` where a model is wanted; no agent's name has a colon.
fn body(args: &Begin, prompt: &str) -> Value {
    let contestants: Vec<Value> = args
        .agents
        .iter()
        .map(|named| match named.split_once(':') {
            Some((agent, model)) => json!({ "agent": agent, "model": model }),
            None => json!({ "agent": named }),
        })
        .collect();
    let mut body = json!({ "input": prompt, "contestants": contestants });
    if let Some(policy) = &args.policy {
        body["policy"] = json!(policy);
    }
    if let Some(command) = &args.check {
        body["check"] = json!({ "command": ["sh", "-c", command] });
        if let Some(seconds) = args.check_timeout {
            body["check"]["timeout_ms"] = json!(seconds.saturating_mul(1000));
        }
    }
    body
}

/// Until the arena is over. The first Ctrl-C cancels it, a second one leaves.
async fn follow(
    client: &Client,
    id: Uuid,
    screen: &mut Screen,
    interrupts: &mut Interrupts,
) -> Result<(Arena, bool), Failure> {
    let mut told = BTreeSet::new();
    let mut interrupted = false;
    loop {
        let arena: Arena = client.get(&format!("/api/arena/{id}")).await?;
        for line in table::news(&arena) {
            if told.insert(line.clone()) {
                screen.line(&line);
            }
        }
        if arena.state != "preparing" && arena.state != "running" {
            return Ok((arena, interrupted));
        }
        screen.phase(if interrupted { "cancelling" } else { "running" });
        tokio::select! {
            biased;
            () = interrupts.next() => {
                if std::mem::replace(&mut interrupted, true) {
                    return Ok((arena, true));
                }
                cancel(client, id).await?;
            }
            () = tokio::time::sleep(LOOK) => screen.tick(),
        }
    }
}

async fn show(args: &ArenaShow, client: &Client) -> Result<Exit, Failure> {
    if let Some(typed) = &args.arena {
        let id = ids::arena(client, typed).await?;
        let arena: Arena = client.get(&format!("/api/arena/{id}")).await?;
        shown(&arena, args.json);
        return Ok(Exit::Ok);
    }
    let arenas: Vec<Arena> = client.list("/api/arena", MAX_ROWS).await?;
    if args.json {
        let json = serde_json::to_string_pretty(&arenas).unwrap_or_default();
        print(&format!("{json}\n"));
    } else {
        print(&table::list(&arenas));
    }
    Ok(Exit::Ok)
}

async fn select(args: &ArenaSelect, client: &Client) -> Result<Exit, Failure> {
    let id = ids::arena(client, &args.arena).await?;
    let arena: Arena = client.get(&format!("/api/arena/{id}")).await?;
    let winner = winner(&arena, &args.winner)?;
    let path = format!("/api/arena/{id}/select/{winner}");
    let answer: Value = client.post(&path, &json!({})).await?;
    if args.json {
        print(&format!("{answer}\n"));
    } else {
        print(&table::selected(&arena, winner, &answer));
    }
    Ok(Exit::Ok)
}

/// By its task, or by an agent that competes once.
fn winner(arena: &Arena, typed: &str) -> Result<Uuid, Failure> {
    let of: Vec<&Contestant> = arena
        .contestants
        .iter()
        .filter(|one| one.agent.as_deref() == Some(typed))
        .collect();
    match of.as_slice() {
        [one] => Ok(one.task_id),
        [] => {
            let tasks: Vec<Uuid> = arena.contestants.iter().map(|one| one.task_id).collect();
            pick(typed, "contestant", &tasks, "`hearth arena show`")
        }
        several => Err(Failure::new(
            Exit::Usage,
            format!("`{typed}` competes {} times", several.len()),
            "name the task: `hearth arena show` lists them",
        )),
    }
}

async fn cancel(client: &Client, id: Uuid) -> Result<Value, Failure> {
    client
        .post(&format!("/api/arena/{id}/cancel"), &json!({}))
        .await
}

fn shown(arena: &Arena, json: bool) {
    if json {
        let json = serde_json::to_string_pretty(arena).unwrap_or_default();
        print(&format!("{json}\n"));
    } else {
        print(&table::text(arena));
    }
}

/// Good when somebody did well: passed the check where there is one.
fn exit(arena: &Arena) -> Exit {
    let well = |one: &Contestant| match one.check.as_deref() {
        Some(check) => check == "passed",
        None => one.outcome.as_deref() == Some("ok"),
    };
    if arena.contestants.iter().any(well) {
        Exit::Ok
    } else {
        Exit::Failed
    }
}
