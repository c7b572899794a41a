//! One turn, from the posted message to its end.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

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
use crate::store::rows::tasks;

/// Changes that are fetched for the summary.
const MAX_CHANGES: usize = 2000;

/// What Ctrl-C means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum OnInterrupt {
    /// The turn is cancelled, and its end waited for; a second one leaves at once.
    Cancel,
    /// Leave; the turn goes on.
    Detach,
}

/// How a turn is followed.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Following {
    /// Frames as JSON lines, the result last.
    pub(in crate::cli) json: bool,
    pub(in crate::cli) on_interrupt: OnInterrupt,
}

/// A posted message, and how much of its turn was shown.
pub(in crate::cli) struct Task {
    id: Uuid,
    session: Uuid,
    agent: String,
    began: Instant,
    progress: Progress,
    seen: Option<i64>,
    interrupted: bool,
    over: Option<Over>,
}

impl Task {
    /// Nothing of it was shown yet. It began `ago`.
    pub(in crate::cli) fn new(id: Uuid, session: Uuid, agent: &str, ago: Duration) -> Self {
        let now = Instant::now();
        Self {
            id,
            session,
            agent: agent.to_owned(),
            began: now.checked_sub(ago).unwrap_or(now),
            progress: Progress::new(agent),
            seen: None,
            interrupted: false,
            over: None,
        }
    }

    /// The same, without what came up to frame `seen`.
    pub(in crate::cli) fn after(self, seen: Option<i64>) -> Self {
        Self { seen, ..self }
    }
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
    screen: &mut Screen,
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
        body["policy"] = json!("deny");
        screen.line(&format!(
            "  nobody can be asked here, as this is no terminal: what {} wants consent for is \
             refused\n    `hearth send` asks elsewhere (`hearth prompts`), `permission` of the \
             agent's settings allows more",
            place.agent.name
        ));
    }
    let address = format!("/api/chats/{}/messages", place.chat);
    let accepted: Accepted = client.post_once(&address, key, &body).await?;
    Ok(Task::new(
        accepted.task_id,
        place.session.id,
        &place.agent.name,
        Duration::ZERO,
    ))
}

/// Shows the turn until it is over, then what it left behind.
///
/// # Errors
/// The stream was lost.
pub(in crate::cli) async fn follow(
    how: Following,
    client: &Client,
    task: &mut Task,
    screen: &mut Screen,
    interrupts: &mut Interrupts,
) -> Result<Exit, Failure> {
    let over = match task.over.clone() {
        Some(over) => over,
        None => match watch(how, client, task, screen, interrupts).await? {
            Some(over) => task.over.insert(over).clone(),
            None => return Ok(Exit::Interrupted),
        },
    };
    screen.clear();
    report(how.json, client, task, &over).await?;
    Ok(summary::exit(&over, task.interrupted))
}

/// Shows the turn until it is over; none when the reader left before.
async fn watch(
    how: Following,
    client: &Client,
    task: &mut Task,
    screen: &mut Screen,
    interrupts: &mut Interrupts,
) -> Result<Option<Over>, Failure> {
    let mut frames = client
        .frames(&format!("/api/tasks/{}/stream", task.id))
        .after(task.seen);
    let mut ticks = tokio::time::interval(TICK);
    let mut questions = Questions::new(how.json);
    loop {
        let interrupted = tokio::select! {
            biased;
            () = interrupts.next() => true,
            event = frames.next_or_end() => {
                let Some(event) = event? else {
                    // Its last frame was seen before, or is no longer kept.
                    match ended(client, task.id).await {
                        Some(over) => return Ok(Some(over)),
                        None => continue,
                    }
                };
                task.seen = frames.last_seq();
                if how.json {
                    print_json(&event.data)?;
                }
                let shown = show(&mut task.progress, &event, how.json, screen, &mut questions)?;
                if let Some(over) = shown {
                    return Ok(Some(over));
                }
                false
            }
            line = questions.typed() => {
                let answered = questions.answer(&line, client, screen);
                interrupts.unless(answered).await.is_none()
            }
            _ = ticks.tick() => {
                if let Some(line) = frames.heard_of_cut() {
                    screen.line(line);
                }
                screen.tick();
                false
            }
        };
        if !interrupted {
            continue;
        }
        screen.clear();
        if how.on_interrupt == OnInterrupt::Detach {
            screen.line(&format!(
                "detached; the turn goes on: hearth attach {}",
                task.id
            ));
            return Ok(None);
        }
        if std::mem::replace(&mut task.interrupted, true) {
            return Ok(None);
        }
        screen.line("cancelling (Ctrl-C again leaves at once)");
        let asked = interrupts.unless(cancel(client, task.id, screen)).await;
        if asked.is_none() {
            return Ok(None);
        }
    }
}

/// How the task ended, by its row; none while it goes on or nobody tells.
async fn ended(client: &Client, task: Uuid) -> Option<Over> {
    let row: tasks::Task = client.get(&format!("/api/tasks/{task}")).await.ok()?;
    let is_over = matches!(row.state.as_str(), "completed" | "failed" | "cancelled");
    is_over.then_some(Over {
        state: row.state,
        outcome: row.outcome,
        detail: row.outcome_detail,
    })
}

pub(in crate::cli) fn show(
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

async fn report(json: bool, client: &Client, task: &Task, over: &Over) -> Result<(), Failure> {
    let session: Session = client
        .get(&format!("/api/sessions/{}", task.session))
        .await?;
    let changes: Vec<Change> = client
        .list(
            &format!("/api/sessions/{}/pending", task.session),
            MAX_CHANGES,
        )
        .await?;
    if json {
        return print_json(&json!({
            "type": "result",
            "task_id": task.id,
            "session_id": task.session,
            "state": over.state,
            "outcome": over.outcome,
            "detail": over.detail,
            "worktree": session.worktree_path,
            "changes": changes,
            "omitted": task.progress.notes().omitted,
            "warnings": task.progress.notes().warnings,
        }));
    }
    let id = task.session.to_string();
    let summary = Summary {
        agent: &task.agent,
        over,
        took: task.began.elapsed(),
        changes: &changes,
        task: task.id,
        notes: task.progress.notes(),
        worktree: session.worktree_path.as_deref(),
        session: &id,
    };
    // The answer is on standard output; this is about it.
    drop(std::io::stderr().write_all(summary.text().as_bytes()));
    Ok(())
}

pub(in crate::cli) fn print_json(value: &Value) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{value}").map_err(|error| unread(&error))
}

fn unread(error: &std::io::Error) -> Failure {
    Failure::plain(
        Exit::Failed,
        format!("standard output cannot be written: {error}"),
    )
}
