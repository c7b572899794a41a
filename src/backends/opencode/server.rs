//! The child: `opencode serve` on a port and with a password of its own.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hearth_actors::event::{AgentEvent, ExitInfo};
use hearth_actors::model::Deadlines;
use hearth_actors::ports::{Link, LinkSpec, Server, ServerBackend, ServerFacts, StartError};
use hearth_actors::rules::health::Limits;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::ChildStdout;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::client::{Client, USER};
use super::link;
use crate::backends::first;
use crate::backends::launch::{Identity, Launch, continuable};
use crate::process::{Ladder, OwnedProcess, Owner, Room};

/// What its first line of interest begins with.
const READY: &str = "opencode server listening on ";
/// The versions that Hearth was tried with: 1.18.33, and what promises to be like it.
const MAJOR: u64 = 1;
const OLDEST_MINOR: u64 = 18;
/// Tries with another port when somebody was faster.
const PORTS: usize = 3;
/// Longest line of its output that is looked at.
const LINE: usize = 4096;
/// Between two looks whether it answers after it said that it listens.
const LOOK: Duration = Duration::from_millis(50);

/// What keeps it from going out, from changing itself, and from taking orders of a
/// repository, whose configuration could run programs in a server that others share;
/// settings of the user's own in `env` win.
const QUIET: [(&str, &str); 3] = [
    ("OPENCODE_DISABLE_AUTOUPDATE", "1"),
    ("OPENCODE_DISABLE_SHARE", "1"),
    ("OPENCODE_DISABLE_PROJECT_CONFIG", "1"),
];

/// opencode as a server.
pub struct OpencodeBackend {
    launch: Launch,
    room: Room,
    deadlines: Deadlines,
    limits: Limits,
    definition: String,
    /// Emptied at each start: every one leaves megabytes there.
    temporary: PathBuf,
}

impl OpencodeBackend {
    /// Starts servers in `room` by `launch`, with `temporary` for a folder that
    /// nobody else uses.
    #[must_use]
    pub fn new(
        launch: Launch,
        room: Room,
        deadlines: Deadlines,
        limits: Limits,
        temporary: PathBuf,
    ) -> Self {
        Self {
            definition: launch.definition(),
            launch,
            room,
            deadlines,
            limits,
            temporary,
        }
    }
}

#[async_trait]
impl ServerBackend for OpencodeBackend {
    fn definition(&self) -> &str {
        &self.definition
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    async fn launch(&self) -> Result<Arc<dyn Server>, StartError> {
        empty(&self.temporary).map_err(|error| StartError::Failed {
            message: format!(
                "the folder {} could not be emptied ({error}): correct its permissions",
                self.temporary.display()
            ),
            exit: None,
        })?;
        let mut tries = PORTS;
        loop {
            tries -= 1;
            match self.start().await {
                Err(Trouble::PortTaken) if tries > 0 => {}
                Err(trouble) => return Err(self.failed(trouble)),
                Ok(server) => return Ok(Arc::new(server)),
            }
        }
    }
}

/// Why a start came to nothing.
enum Trouble {
    PortTaken,
    Told(StartError),
    Ended(ExitInfo),
}

impl OpencodeBackend {
    async fn start(&self) -> Result<OpencodeServer, Trouble> {
        let told = |message: String| {
            Trouble::Told(StartError::Failed {
                message,
                exit: None,
            })
        };
        let port = free_port().map_err(|error| told(format!("no port is free ({error})")))?;
        let password = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let owner = Owner::Named(format!("{} server", self.launch.name));
        let mut spec = self
            .launch
            .process(owner, &self.temporary, &self.environment(&password))
            .map_err(Trouble::Told)?;
        let number = port.to_string();
        let more = ["serve", "--hostname", "127.0.0.1", "--port", &number];
        spec.args.extend(more.map(Into::into));
        let identity = self.launch.identity("opencode", &spec);
        let alone = first::alone(&spec, self.deadlines.spawn / 8).await;
        let process = self.room.spawn(spec).await;
        let mut process =
            process.map_err(|error| Trouble::Told(self.launch.not_spawned(&error)))?;
        let Some(stdout) = process.take_stdout() else {
            return Err(told("the server has no output".into()));
        };
        // It reads nothing.
        drop(process.take_stdin());
        let client = Client::new(port, &password).map_err(told)?;
        if !is_ready(BufReader::new(stdout)).await {
            let exit = self.launch.exit_of(&process).await;
            return Err(if exit.stderr_tail.contains("ServeError") {
                Trouble::PortTaken
            } else {
                Trouble::Ended(exit)
            });
        }
        let version = loop {
            match client.health().await {
                Ok(version) => break version,
                Err(_) if process.exited().borrow().is_some() => {
                    return Err(Trouble::Ended(self.launch.exit_of(&process).await));
                }
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        };
        if let Err(why) = known(&version) {
            return Err(told(format!(
                "{} {why}: install another, or write protocol = \"acp\" in [agents.{}]",
                self.launch.program_text(),
                self.launch.name
            )));
        }
        alone.done();
        Ok(OpencodeServer(Arc::new(Inner {
            facts: ServerFacts {
                pid: Some(process.pid()),
                version,
                port,
            },
            client,
            process,
            room: self.room.clone(),
            identity,
            mode: self.launch.mode.clone(),
            ladder: Ladder::of(&self.deadlines, true),
        })))
    }

    fn environment(&self, password: &str) -> BTreeMap<String, String> {
        let quiet = QUIET.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut environment: BTreeMap<String, String> = quiet.into();
        environment.retain(|name, _| !self.launch.env.contains_key(name));
        environment.insert("OPENCODE_SERVER_PASSWORD".into(), password.into());
        environment.insert("OPENCODE_SERVER_USERNAME".into(), USER.into());
        let temporary = self.temporary.to_string_lossy().into_owned();
        environment.insert("TMPDIR".into(), temporary);
        environment
    }

    fn failed(&self, trouble: Trouble) -> StartError {
        let name = &self.launch.name;
        match trouble {
            Trouble::Told(error) => error,
            Trouble::PortTaken => StartError::Failed {
                message: format!("{name} found each of {PORTS} ports taken"),
                exit: None,
            },
            Trouble::Ended(exit) => StartError::Failed {
                message: self.launch.ended_message(&exit),
                exit: Some(exit),
            },
        }
    }
}

/// Reads until the server says that it listens, and then on, so that its pipe never
/// fills. False when the output ended before.
async fn is_ready(mut output: BufReader<ChildStdout>) -> bool {
    let mut line = Vec::new();
    loop {
        line.clear();
        match output.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return false,
            Ok(_) => line.truncate(LINE),
        }
        if String::from_utf8_lossy(&line).contains(READY) {
            break;
        }
    }
    tokio::spawn(async move {
        let _ = tokio::io::copy(&mut output, &mut tokio::io::sink()).await;
    });
    true
}

/// Whether Hearth knows the server of this version.
///
/// # Errors
/// Why not.
pub(in crate::backends) fn known(version: &str) -> Result<(), String> {
    let mut numbers = version.split('.').map(str::parse::<u64>);
    let is_known = match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => major == MAJOR && minor >= OLDEST_MINOR,
        _ => false,
    };
    if is_known {
        return Ok(());
    }
    let said: String = version.chars().take(40).collect();
    Err(format!(
        "says that its version is \"{said}\", and Hearth knows the server of {MAJOR}.{OLDEST_MINOR} and later ones of {MAJOR}"
    ))
}

/// A port that nobody listens on. Somebody may be faster, which the start finds out.
fn free_port() -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

fn empty(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

/// A server that runs.
struct OpencodeServer(Arc<Inner>);

/// What its links hold of it, weakly where it would keep the process alive.
pub(super) struct Inner {
    pub(super) facts: ServerFacts,
    pub(super) client: Client,
    pub(super) process: OwnedProcess,
    pub(super) identity: Identity,
    /// Where a prompt wants no other.
    pub(super) mode: Option<String>,
    room: Room,
    ladder: Ladder,
}

#[async_trait]
impl Server for OpencodeServer {
    fn facts(&self) -> ServerFacts {
        self.0.facts.clone()
    }

    async fn attach(
        &self,
        spec: LinkSpec,
        events: mpsc::Sender<AgentEvent>,
    ) -> Result<Arc<dyn Link>, StartError> {
        let former = continuable(&spec, &self.0.identity);
        link::attach(&self.0, spec, former, events).await
    }

    async fn probe(&self) -> Result<(), String> {
        self.0
            .client
            .health()
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    }

    fn heard(&self) -> u64 {
        self.0.client.heard()
    }

    fn rss_bytes(&self) -> Option<u64> {
        self.0.room.rss_of(&self.0.process)
    }

    fn is_unruly(&self) -> bool {
        self.0.client.is_unruly()
    }

    fn stderr_tail(&self) -> String {
        self.0.process.stderr_tail()
    }

    async fn exited(&self) -> ExitInfo {
        let mut exit = self.0.process.exited();
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.clone().unwrap_or_default(),
            Err(_) => ExitInfo::default(),
        }
    }

    async fn stop(&self) -> ExitInfo {
        self.0.process.stop(self.0.ladder).await
    }
}

#[cfg(test)]
mod tests {
    use super::known;

    #[test]
    fn versions_are_known_or_named() {
        for version in ["1.18.33", "1.18", "1.40.0-beta"] {
            assert_eq!(known(version), Ok(()), "{version}");
        }
        for version in ["0.9.1", "1.17.9", "2.0.0", "local", ""] {
            let why = known(version).expect_err(version);
            assert!(why.contains(&format!("\"{version}\"")), "{why}");
        }
    }
}
