//! `run`: asks an agent in the repository one is in.

mod progress;
mod repository;
mod screen;
mod service;
mod session;
mod summary;
mod turn;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use super::args::Run;
use super::client::Client;
use super::failure::{Exit, Failure};
use super::interrupt::Interrupts;
use crate::config::Flags;
use screen::Screen;
use service::Service;

/// Longest prompt, in Unicode scalar values, as the service has it.
const MAX_PROMPT_CHARS: usize = 64_000;

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
    screen.phase("looking for the service");
    let began = async {
        let service = Service::find_or_start(flags, env, &mut screen).await?;
        let begun = begin(args, &prompt, &root, service.client(), &mut screen).await;
        Ok::<_, Failure>((service, begun))
    };
    let (service, begun) = tokio::select! {
        biased;
        () = interrupts.next() => {
            return Ok(Exit::Interrupted);
        }
        began = began => began?,
    };
    let ended = match begun {
        Ok(task) => turn::follow(args, service.client(), &task, &mut screen, &mut interrupts).await,
        Err(failure) => Err(failure),
    };
    screen.clear();
    service.leave(&mut screen, &mut interrupts).await;
    ended
}

/// Registers what is not there yet and posts the message.
async fn begin(
    args: &Run,
    prompt: &str,
    root: &Path,
    client: &Client,
    screen: &mut Screen,
) -> Result<turn::Task, Failure> {
    let agent = session::choose_agent(client, args.agent.as_deref()).await?;
    screen.phase("opening the session");
    let place = session::open(client, root, args.session.as_deref(), prompt, screen).await?;
    screen.phase("queued");
    turn::post(args, client, place, agent, prompt).await
}

fn prompt(given: &str) -> Result<String, Failure> {
    let mut prompt = given.to_owned();
    if given == "-" {
        prompt.clear();
        // Four bytes a character at most, and one more that shows the excess.
        let limit = 4 * MAX_PROMPT_CHARS as u64 + 1;
        std::io::stdin()
            .take(limit)
            .read_to_string(&mut prompt)
            .map_err(|error| {
                let what = format!("the prompt cannot be read from standard input: {error}");
                Failure::new(Exit::Usage, what, "give UTF-8 text")
            })?;
    }
    match prompt.chars().count() {
        0 => Err(Failure::new(
            Exit::Usage,
            "the prompt is empty",
            "say what the agent should do: hearth run \"…\"",
        )),
        1..=MAX_PROMPT_CHARS => Ok(prompt),
        more => Err(Failure::new(
            Exit::Usage,
            format!("the prompt has {more} characters; {MAX_PROMPT_CHARS} are accepted"),
            "put the long part into a file and name the file in the prompt",
        )),
    }
}
