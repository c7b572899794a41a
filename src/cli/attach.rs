//! `attach`: follows what an agent says, from storage and then live.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use chrono::Utc;
use uuid::Uuid;

use super::args::Attach;
use super::client::Client;
use super::discover;
use super::failure::{Exit, Failure};
use super::ids::{self, Found};
use super::interrupt::Interrupts;
use super::run::progress::Progress;
use super::run::questions::Questions;
use super::run::screen::{Screen, TICK};
use super::run::turn::{self, Following, OnInterrupt};
use crate::store::rows::tasks::Task;
use crate::text::one_line;

pub(super) async fn attach(
    args: &Attach,
    home: &Path,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let client = discover::need(home, env).await?;
    let mut screen = Screen::new(args.json, env.contains_key("NO_COLOR"));
    match ids::task_or_session(&client, &args.to).await? {
        Found::Task(row) => {
            let mut task = followed(&row).after(args.after);
            screen.phase("waiting for the agent");
            let how = Following {
                json: args.json,
                on_interrupt: OnInterrupt::Detach,
            };
            turn::follow(how, &client, &mut task, &mut screen, &mut interrupts).await
        }
        Found::Session(session) => {
            watch(args, &client, session, &mut screen, &mut interrupts).await
        }
    }
}

fn followed(row: &Task) -> turn::Task {
    let ago = row.started_at.map(|began| Utc::now() - began);
    let ago = ago.and_then(|ago| ago.to_std().ok());
    turn::Task::new(
        row.id,
        row.session_id.unwrap_or_default(),
        row.agent.as_deref().unwrap_or("the agent"),
        ago.unwrap_or(Duration::ZERO),
    )
}

/// A session has no end: it is followed until the reader leaves.
async fn watch(
    args: &Attach,
    client: &Client,
    session: Uuid,
    screen: &mut Screen,
    interrupts: &mut Interrupts,
) -> Result<Exit, Failure> {
    let mut frames = client
        .frames(&format!("/api/sessions/{session}/stream"))
        .after(args.after);
    let mut ticks = tokio::time::interval(TICK);
    // One turn at a time runs in a session.
    let mut current: Option<(String, Progress)> = None;
    let mut over = None;
    let mut questions = Questions::new(args.json);
    loop {
        tokio::select! {
            biased;
            () = interrupts.next() => return Ok(detached(session, screen)),
            event = frames.next() => {
                let event = event?;
                if args.json {
                    turn::print_json(&event.data)?;
                    continue;
                }
                let Some(task) = event.data["task_id"].as_str() else {
                    continue;
                };
                if over.as_deref() == Some(task) {
                    // What is noticed about its files comes after its end.
                    continue;
                }
                if current.as_ref().is_none_or(|(id, _)| id != task) {
                    let (head, agent) = introduced(client, task).await;
                    screen.line(&head);
                    current = Some((task.to_owned(), Progress::new(&agent)));
                }
                let Some((_, progress)) = &mut current else {
                    continue;
                };
                if let Some(end) = turn::show(progress, &event, false, screen, &mut questions)? {
                    let why = end.outcome.filter(|outcome| outcome != &end.state);
                    let why = why.map_or_else(String::new, |why| format!(": {why}"));
                    screen.line(&format!("── {}{why}", end.state));
                    over = Some(task.to_owned());
                    screen.phase("waiting for the next turn (Ctrl-C leaves)");
                    current = None;
                }
            }
            line = questions.typed() => {
                let answered = questions.answer(&line, client, screen);
                if interrupts.unless(answered).await.is_none() {
                    return Ok(detached(session, screen));
                }
            }
            _ = ticks.tick() => {
                if let Some(line) = frames.heard_of_cut() {
                    screen.line(line);
                }
                screen.tick();
            }
        }
    }
}

fn detached(session: Uuid, screen: &mut Screen) -> Exit {
    screen.clear();
    screen.line(&format!(
        "detached; the session goes on: hearth attach {session}"
    ));
    Exit::Ok
}

/// The line above a turn, and who its agent is: what its row tells, as far as it can
/// be had.
async fn introduced(client: &Client, task: &str) -> (String, String) {
    let row: Option<Task> = client.get(&format!("/api/tasks/{task}")).await.ok();
    let agent = row.as_ref().and_then(|row| row.agent.clone());
    let agent = agent.unwrap_or_else(|| "the agent".into());
    let asked = row.map_or_else(String::new, |row| format!(": {}", one_line(&row.input)));
    (
        format!("── task {task} · {}{asked}", one_line(&agent)),
        agent,
    )
}
