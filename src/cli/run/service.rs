//! The service that a command talks to: the one that runs, else one of its own
//! in this process.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use super::screen::{Screen, TICK};
use crate::app::{self, App};
use crate::cli::client::{Client, Page};
use crate::cli::discover;
use crate::cli::failure::{Exit, Failure};
use crate::cli::interrupt::Interrupts;
use crate::config::{Flags, Settings};
use crate::store::rows::tasks::Task;

/// Longest wait for another Hearth on the same home, which starts or stops: its
/// first start may fetch and set up a database.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// Longest wait for our own lease: that of a node that died has run out by then.
const READY_LIMIT: Duration = Duration::from_secs(120);
const BETWEEN_TRIES: Duration = Duration::from_millis(100);
/// Between two looks at what other terminals still run.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

pub(in crate::cli) struct Service {
    client: Client,
    /// Ours to stop.
    own: Option<App>,
}

impl Service {
    /// The service that runs, once it is ready; else one of our own.
    ///
    /// # Errors
    /// None runs and none can be started.
    pub(in crate::cli) async fn find_or_start(
        flags: &Flags,
        env: &BTreeMap<String, String>,
        screen: &mut Screen,
    ) -> Result<Self, Failure> {
        let home = discover::home_of(flags, env).ok_or_else(|| {
            Failure::new(Exit::Usage, "there is no home directory", "set HEARTH_HOME")
        })?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(client) = discover::find(&home, env).await? {
                // None: it left since it was found.
                let health = client.health().await?;
                if health.is_some_and(|health| health.readiness == "ready") {
                    return Ok(Self { client, own: None });
                }
                if Instant::now() >= deadline {
                    return Err(not_in_time(&home));
                }
                screen.phase("waiting for the service");
            } else {
                match start(flags, env, screen).await? {
                    Start::Ours(app) => return Self::own(*app).await,
                    Start::Taken if Instant::now() < deadline => {
                        screen.phase("waiting for another hearth");
                    }
                    Start::Taken => return Err(not_in_time(&home)),
                }
            }
            screen.tick();
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
    }

    async fn own(mut app: App) -> Result<Self, Failure> {
        // It ends with this command and at nobody else's wish.
        drop(app.stops());
        let ready = tokio::time::timeout(READY_LIMIT, app.ready()).await;
        let why = match ready {
            Ok(Ok(())) => {
                return Ok(Self {
                    client: Client::new(&app.url, &app.token)?,
                    own: Some(app),
                });
            }
            Ok(Err(error)) => format!("the service cannot start: {error:#}"),
            Err(_) => "the service does not become ready: its database may be away".into(),
        };
        app.stop().await;
        Err(unstartable(why))
    }

    /// It runs in this process, and ends with it.
    pub(super) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Waits until a service of our own gave up; returns why.
    pub(super) async fn failed(&self) -> String {
        match &self.own {
            Some(app) => app.failed().await,
            None => std::future::pending().await,
        }
    }

    pub(in crate::cli) fn client(&self) -> &Client {
        &self.client
    }

    /// Leaves. A service of our own stays while other terminals' turns run in
    /// it. After a second interrupt everything ends with this process: the shims
    /// see to the agents, the kernel to the database.
    pub(in crate::cli) async fn leave(self, screen: &mut Screen, interrupts: &mut Interrupts) {
        let Some(app) = self.own else {
            return;
        };
        if interrupts.came_twice() {
            return;
        }
        tokio::select! {
            biased;
            // Nobody runs them any more.
            _ = app.failed() => {}
            () = interrupts.next() => {}
            () = others(&self.client, screen) => {}
        }
        tokio::select! {
            biased;
            () = interrupts.next() => {}
            () = app.stop() => {}
        }
    }
}

/// Waits until no other terminal needs the service.
async fn others(client: &Client, screen: &mut Screen) {
    let mut said = false;
    while others_run(client).await {
        if !std::mem::replace(&mut said, true) {
            screen.line("other turns run in this service; it stays for them (Ctrl-C ends them)");
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

enum Start {
    Ours(Box<App>),
    /// Another process holds the data directory.
    Taken,
}

async fn start(
    flags: &Flags,
    env: &BTreeMap<String, String>,
    screen: &mut Screen,
) -> Result<Start, Failure> {
    let settings = app::settings(flags, env)
        .map_err(|errors| Failure::plain(Exit::Usage, errors.to_string()))?;
    screen.phase("starting database and service");
    let mut elsewhere = settings.clone();
    elsewhere.listen.set_port(0);
    let mut started = start_ticking(settings, screen).await;
    if started.as_ref().is_err_and(is_in_use) {
        // Another user's Hearth, or anything else, has the port. Clients of this
        // home find the address in its service file.
        started = start_ticking(elsewhere, screen).await;
    }
    match started {
        Ok(app) => Ok(Start::Ours(Box::new(app))),
        Err(error) if is_taken(&error) => Ok(Start::Taken),
        Err(error) => Err(unstartable(format!("the service cannot start: {error:#}"))),
    }
}

async fn start_ticking(settings: Settings, screen: &mut Screen) -> anyhow::Result<App> {
    let starting = app::start(settings);
    tokio::pin!(starting);
    let mut ticks = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            started = &mut starting => return started,
            _ = ticks.tick() => screen.tick(),
        }
    }
}

fn unstartable(what: String) -> Failure {
    Failure::new(
        Exit::Unreachable,
        what,
        "`hearth doctor` shows what is missing",
    )
}

fn not_in_time(home: &Path) -> Failure {
    Failure::new(
        Exit::Unreachable,
        format!(
            "another hearth on {} neither gets ready nor ends",
            home.display()
        ),
        "look at its terminal or log, and end it",
    )
}

/// Another process holds the data directory, so that waiting for its service
/// makes sense.
fn is_taken(error: &anyhow::Error) -> bool {
    is_kind(error, std::io::ErrorKind::WouldBlock)
}

/// Somebody else listens on the address.
fn is_in_use(error: &anyhow::Error) -> bool {
    is_kind(error, std::io::ErrorKind::AddrInUse)
}

fn is_kind(error: &anyhow::Error, kind: std::io::ErrorKind) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == kind)
    })
}

/// Turns that run, or wait only for their place in this service.
async fn others_run(client: &Client) -> bool {
    let known = match client.health().await {
        Ok(Some(health)) => health,
        _ => return false,
    };
    // Chats whose agent goes on only behind a person's answer, to whatever service.
    let mut held = Vec::new();
    for state in ["running", "blocked", "pending"] {
        let page: Result<Page<Task>, Failure> =
            client.get(&format!("/api/tasks?state={state}")).await;
        let Ok(page) = page else { continue };
        for task in page.items {
            let place = (task.chat_id, task.agent.clone());
            let runs = match state {
                "pending" => known.would_run(&task) && !held.contains(&place),
                // Its last turn is over: it waits for an answer, and for nobody here.
                "blocked" => task.outcome.is_none(),
                _ => true,
            };
            if runs {
                return true;
            }
            if state == "blocked" {
                held.push(place);
            }
        }
    }
    false
}
