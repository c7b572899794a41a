//! Review of what agents changed: `changes`, `apply`, `reject`, `rewind`,
//! `restore`. Where no service runs, one does inside the command.

mod changes;
mod orders;
pub(super) mod place;
mod show;

use std::collections::BTreeMap;

pub(super) use changes::changes;
pub(super) use orders::{apply, over, reject, restore, rewind};

use super::client::Client;
use super::failure::{Exit, Failure};
use super::interrupt::Interrupts;
use super::run::screen::Screen;
use super::run::service::Service;
use crate::config::Flags;

/// Does it with the service that runs, else with one of our own.
async fn with_service(
    flags: &Flags,
    env: &BTreeMap<String, String>,
    work: impl AsyncFnOnce(&Client) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let mut screen = Screen::new(false, env.contains_key("NO_COLOR"));
    let service = tokio::select! {
        biased;
        () = interrupts.next() => return Ok(Exit::Interrupted),
        found = Service::find_or_start(flags, env, &mut screen) => found,
    };
    screen.clear();
    let service = service?;
    let ended = tokio::select! {
        biased;
        () = interrupts.next() => Ok(Exit::Interrupted),
        ended = work(service.client()) => ended,
    };
    service.leave(&mut screen, &mut interrupts).await;
    ended
}
