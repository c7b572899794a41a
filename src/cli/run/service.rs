//! The service that `run` talks to: the one that runs, else one of its own in
//! this process.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::screen::{Screen, TICK};
use crate::app::{self, App};
use crate::cli::client::{Client, Page};
use crate::cli::discover;
use crate::cli::failure::{Exit, Failure};
use crate::cli::interrupt::Interrupts;
use crate::config::{Flags, Settings};

/// Two `run`s may start at once; one wins, and the other finds it.
const TRIES: u32 = 20;
const BETWEEN_TRIES: Duration = Duration::from_millis(250);
/// Between two looks at what other terminals still run.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

pub(super) struct Service {
    client: Client,
    /// Ours to stop.
    own: Option<App>,
}

impl Service {
    pub(super) async fn find_or_start(
        flags: &Flags,
        env: &BTreeMap<String, String>,
        screen: &mut Screen,
    ) -> Result<Self, Failure> {
        let home = discover::home_of(flags, env).ok_or_else(|| {
            Failure::new(Exit::Usage, "there is no home directory", "set HEARTH_HOME")
        })?;
        if let Some(client) = discover::find(&home, env).await? {
            return Ok(Self { client, own: None });
        }
        let settings = Settings::load(flags, env)
            .map_err(|errors| Failure::plain(Exit::Usage, errors.to_string()))?;
        screen.phase("starting database and service");
        let starting = app::start(settings);
        tokio::pin!(starting);
        let mut ticks = tokio::time::interval(TICK);
        let started = loop {
            tokio::select! {
                started = &mut starting => break started,
                _ = ticks.tick() => screen.tick(),
            }
        };
        match started {
            Ok(app) => Ok(Self {
                client: Client::new(&app.url, &app.token)?,
                own: Some(app),
            }),
            Err(error) => {
                for _ in 0..TRIES {
                    if let Some(client) = discover::find(&home, env).await? {
                        return Ok(Self { client, own: None });
                    }
                    if !is_taken(&error) {
                        break;
                    }
                    tokio::time::sleep(BETWEEN_TRIES).await;
                }
                Err(Failure::new(
                    Exit::Unreachable,
                    format!("the service cannot start: {error:#}"),
                    "`hearth doctor` shows what is missing",
                ))
            }
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Leaves. A service of our own stays while other terminals' turns run in
    /// it, unless told twice.
    pub(super) async fn leave(self, screen: &mut Screen, interrupts: &mut Interrupts) {
        let Some(app) = self.own else {
            return;
        };
        let mut said = false;
        while others_run(&self.client).await {
            if !std::mem::replace(&mut said, true) {
                screen
                    .line("other turns run in this service; it stays for them (Ctrl-C ends them)");
            }
            tokio::select! {
                biased;
                () = interrupts.next() => break,
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
        tokio::select! {
            biased;
            () = interrupts.next() => {}
            () = app.stop() => {}
        }
    }
}

/// Another process holds the data directory, so that waiting for its service
/// makes sense.
fn is_taken(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    })
}

async fn others_run(client: &Client) -> bool {
    for state in ["running", "blocked"] {
        let page: Result<Page<Value>, Failure> = client
            .get(&format!("/api/tasks?limit=1&state={state}"))
            .await;
        if page.is_ok_and(|page| !page.items.is_empty()) {
            return true;
        }
    }
    false
}
