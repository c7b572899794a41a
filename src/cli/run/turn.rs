//! One turn, from the posted message to its end.

use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::progress::{Over, Progress, Show};
use super::questions::Questions;
use super::screen::{Screen, TICK};
use super::session::Place;
use super::summary::{self, Summary};
use crate::cli::args::Run;
use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure};
use crate::cli::frames::Event;
use crate::cli::interrupt::Interrupts;
use crate::store::rows::changes::Change;
use crate::store::rows::sessions::Session;

/// Changes that are fetched for the summary.
const MAX_CHANGES: usize = 2000;

/// A posted message, and how much of its turn was shown.
pub(super) struct Task {
    id: Uuid,
    session: Uuid,
    agent: String,
    began: Instant,
    progress: Progress,
    seen: Option<i64>,
    interrupted: bool,
    over: Option<Over>,
}

/// Posts the message; `key` makes a repeat harmless.
///
/// # Errors
/// The service's.
pub(super) async fn post(
    args: &Run,
    client: &Client,
    place: &Place,
    key: &str,
    prompt: &str,
) -> Result<Task, Failure> {
    #[derive(Deserialize)]
    struct Accepted {
        task_id: Uuid,
    }
    let mut body = json!({ "content": prompt, "agent": place.agent.name });
    if let Some(model) = &args.model {
        body["model"] = json!(model);
    }
    if place.agent.permission.as_deref() == Some("ask") && !std::io::stdin().is_terminal() {
        // Nobody is there to be asked.
        body["policy"] = json!("deny");
    }
    let address = format!("/api/chats/{}/messages", place.chat);
    let accepted: Accepted = client.post_once(&address, key, &body).await?;
    Ok(Task {
        id: accepted.task_id,
        session: place.session.id,
        agent: place.agent.name.clone(),
        began: Instant::now(),
        progress: Progress::new(&place.agent.name),
        seen: None,
        interrupted: false,
        over: None,
    })
}

/// Shows the turn until it is over, then what it left behind.
///
/// # Errors
/// The stream was lost.
pub(super) async fn follow(
    args: &Run,
    client: &Client,
    task: &mut Task,
    screen: &mut Screen,
    interrupts: &mut Interrupts,
) -> Result<Exit, Failure> {
    let over = match task.over.clone() {
        Some(over) => over,
        None => match watch(args, client, task, screen, interrupts).await? {
            Some(over) => task.over.insert(over).clone(),
            None => return Ok(Exit::Interrupted),
        },
    };
    screen.clear();
    report(args, client, task, &over).await?;
    Ok(summary::exit(&over, task.interrupted))
}

/// Shows the turn until it is over; none when the second interrupt came first.
async fn watch(
    args: &Run,
    client: &Client,
    task: &mut Task,
    screen: &mut Screen,
    interrupts: &mut Interrupts,
) -> Result<Option<Over>, Failure> {
    let mut frames = client
        .frames(&format!("/api/tasks/{}/stream", task.id))
        .after(task.seen);
    let mut ticks = tokio::time::interval(TICK);
    let mut questions = Questions::new(args.json);
    loop {
        tokio::select! {
            biased;
            () = interrupts.next() => {
                screen.clear();
                if std::mem::replace(&mut task.interrupted, true) {
                    return Ok(None);
                }
                screen.line("cancelling (Ctrl-C again leaves at once)");
                cancel(client, task.id, screen).await;
            }
            event = frames.next() => {
                let event = event?;
                task.seen = frames.last_seq();
                if args.json {
                    print_json(&event.data)?;
                }
                let shown = show(&mut task.progress, &event, args.json, screen, &mut questions)?;
                if let Some(over) = shown {
                    return Ok(Some(over));
                }
            }
            line = questions.typed() => questions.answer(&line, client, screen).await,
            _ = ticks.tick() => screen.tick(),
        }
    }
}

fn show(
    progress: &mut Progress,
    event: &Event,
    quiet: bool,
    screen: &mut Screen,
    questions: &mut Questions,
) -> Result<Option<Over>, Failure> {
    for show in progress.on(event) {
        match show {
            Show::Over(over) => return Ok(Some(over)),
            _ if quiet => {}
            Show::Text(text) => screen.text(&text).map_err(|error| unread(&error))?,
            Show::Line(line) => screen.line(&format!("  {line}")),
            Show::Phase(phase) => screen.phase(&phase),
            Show::Asked(question) => questions.asked(question, screen),
            Show::Settled(prompt, how) => questions.settled(prompt, &how, screen),
        }
    }
    Ok(None)
}

/// The turn goes on until the service has ended it: the stream tells.
async fn cancel(client: &Client, task: Uuid, screen: &mut Screen) {
    let asked: Result<Value, Failure> = client
        .post(&format!("/api/tasks/{task}/cancel"), &json!({}))
        .await;
    if let Err(failure) = asked {
        screen.line(&format!("  {}", failure.what));
    }
}

async fn report(args: &Run, client: &Client, task: &Task, over: &Over) -> Result<(), Failure> {
    let session: Session = client
        .get(&format!("/api/sessions/{}", task.session))
        .await?;
    let changes: Vec<Change> = client
        .list(
            &format!("/api/sessions/{}/pending", task.session),
            MAX_CHANGES,
        )
        .await?;
    if args.json {
        return print_json(&json!({
            "type": "result",
            "task_id": task.id,
            "session_id": task.session,
            "state": over.state,
            "outcome": over.outcome,
            "detail": over.detail,
            "worktree": session.worktree_path,
            "changes": changes,
        }));
    }
    let id = task.session.to_string();
    let summary = Summary {
        agent: &task.agent,
        over,
        took: task.began.elapsed(),
        changes: &changes,
        worktree: session.worktree_path.as_deref(),
        session: &id,
    };
    // The answer is on standard output; this is about it.
    drop(std::io::stderr().write_all(summary.text().as_bytes()));
    Ok(())
}

fn print_json(value: &Value) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{value}").map_err(|error| unread(&error))
}

fn unread(error: &std::io::Error) -> Failure {
    Failure::plain(
        Exit::Failed,
        format!("standard output cannot be written: {error}"),
    )
}
