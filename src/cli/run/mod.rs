//! `run`: asks an agent in the repository one is in.

pub(super) mod progress;
pub(super) mod questions;
pub(super) mod repository;
pub(super) mod screen;
pub(super) mod service;
pub(super) mod session;
pub(super) mod summary;
pub(super) mod turn;

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::Path;

use uuid::Uuid;

use super::args::Run;
use super::client::Client;
use super::failure::{Exit, Failure};
use super::interrupt::Interrupts;
use crate::config::Flags;
use crate::store::MAX_INPUT_CHARS;
use screen::Screen;
use service::Service;
use session::Place;
use turn::{Following, OnInterrupt, Task};

/// Services that one turn may see go away before it gives up.
const MAX_SERVICES: u32 = 3;

/// Runs one turn.
///
/// # Errors
/// It could not be begun or followed.
pub(super) async fn run(
    args: &Run,
    flags: &Flags,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let prompt = prompt(&args.prompt)?;
    let here = std::env::current_dir().map_err(|error| {
        let what = format!("the present directory cannot be used: {error}");
        Failure::new(Exit::Usage, what, "go to a directory that exists")
    })?;
    let root = repository::root(&here)?;
    let mut screen = Screen::new(args.json, env.contains_key("NO_COLOR"));
    let mut journey = Journey::new(args, &root, &prompt);
    for _ in 0..MAX_SERVICES {
        screen.phase("looking for the service");
        let service = tokio::select! {
            biased;
            () = interrupts.next() => return Ok(Exit::Interrupted),
            found = Service::find_or_start(flags, env, &mut screen) => found?,
        };
        let going = journey.go(service.client(), &mut screen, &mut interrupts);
        let ended = unless(going, service.failed()).await;
        screen.clear();
        match ended {
            Err(failure) if failure.exit == Exit::Unreachable && !service.is_own() => {
                screen.line(&format!("{}; going on with another", failure.what));
            }
            ended => {
                service.leave(&mut screen, &mut interrupts).await;
                return ended;
            }
        }
    }
    Err(Failure::new(
        Exit::Unreachable,
        format!("{MAX_SERVICES} services in a row went away"),
        "start one that stays: hearth serve",
    ))
}

/// From a prompt to its outcome. It can go on with another service on the same
/// home when one leaves: another terminal's `run` ends with its own turn.
struct Journey<'a> {
    args: &'a Run,
    root: &'a Path,
    prompt: &'a str,
    key: String,
    place: Option<Place>,
    task: Option<Task>,
}

impl<'a> Journey<'a> {
    fn new(args: &'a Run, root: &'a Path, prompt: &'a str) -> Self {
        Self {
            args,
            root,
            prompt,
            key: Uuid::new_v4().to_string(),
            place: None,
            task: None,
        }
    }

    /// An interrupt during the post is heeded after it: what was posted must be
    /// cancelled, not forgotten.
    async fn go(
        &mut self,
        client: &Client,
        screen: &mut Screen,
        interrupts: &mut Interrupts,
    ) -> Result<Exit, Failure> {
        let place = match &self.place {
            Some(place) => place,
            None => {
                let open = session::open(self.args, client, self.root, self.prompt, screen);
                let place = tokio::select! {
                    biased;
                    () = interrupts.next() => return Ok(Exit::Interrupted),
                    opened = open => opened?,
                };
                self.place.insert(place)
            }
        };
        let task = match &mut self.task {
            Some(task) => task,
            None => {
                screen.phase("queued");
                let task =
                    turn::post(self.args, client, place, &self.key, self.prompt, screen).await?;
                self.task.insert(task)
            }
        };
        let how = Following {
            json: self.args.json,
            on_interrupt: OnInterrupt::Cancel,
        };
        turn::follow(how, client, task, screen, interrupts).await
    }
}

/// The end of `work`, unless the service that does it gives up before.
async fn unless<T>(
    work: impl Future<Output = Result<T, Failure>>,
    gave_up: impl Future<Output = String>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        done = work => done,
        why = gave_up => Err(Failure::new(
            Exit::Failed,
            format!("the service gave up: {why}"),
            "try again: what was begun is ended first; `hearth serve` logs what fails",
        )),
    }
}

/// What was typed, or piped in for `-`.
///
/// # Errors
/// It is empty, too long or no text.
pub(super) fn prompt(given: &str) -> Result<String, Failure> {
    let prompt = match given {
        "-" => piped().map_err(|error| {
            let what = format!("the prompt cannot be read from standard input: {error}");
            Failure::new(Exit::Usage, what, "give UTF-8 text")
        })?,
        given => given.to_owned(),
    };
    match prompt.chars().count() {
        0 => Err(Failure::new(
            Exit::Usage,
            "the prompt is empty",
            "say what the agent should do: hearth run \"…\"",
        )),
        1..=MAX_INPUT_CHARS => Ok(prompt),
        more => Err(Failure::new(
            Exit::Usage,
            format!("the prompt has {more} characters; {MAX_INPUT_CHARS} are accepted"),
            "put the long part into a file and name the file in the prompt",
        )),
    }
}

/// Standard input, up to a little more than a prompt may have.
fn piped() -> io::Result<String> {
    // Four bytes a character at most.
    let limit = 4 * (MAX_INPUT_CHARS + 1);
    let mut bytes = Vec::new();
    io::stdin().take(limit as u64).read_to_end(&mut bytes)?;
    if let Err(error) = std::str::from_utf8(&bytes) {
        // The limit may lie inside a character.
        let cut = bytes.len() == limit && error.error_len().is_none();
        bytes.truncate(if cut { error.valid_up_to() } else { limit });
    }
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn a_turn_is_not_waited_for_when_its_service_gave_up() {
        let stuck = pending::<Result<Exit, Failure>>();
        let failure = unless(stuck, ready("pool failed too often".into())).await;
        let failure = failure.expect_err("given up");
        assert_eq!(failure.exit, Exit::Failed);
        assert!(failure.what.contains("pool failed too often"));
        let done = unless(ready(Ok(Exit::Ok)), ready("too late".into())).await;
        assert_eq!(done, Ok(Exit::Ok));
    }
}
