//! What is executed for an agent, in which home, and under which identity its
//! sessions can be found again.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hearth_actors::event::ExitInfo;
use hearth_actors::ports::{LinkSpec, StartError};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::process::{Limits, OwnedProcess, Owner, ProcessError, ProcessSpec, env};

/// How long a start waits to learn how an agent ended whose pipe just closed.
const EXIT_WAIT: Duration = Duration::from_secs(2);

/// Most lines of stderr told when a start fails.
const STDERR_LINES: usize = 12;

/// Characters of a hash that are kept: 64 bits, enough to tell apart the few
/// definitions and homes of one installation.
const HASH_CHARS: usize = 16;

/// How to launch one configured agent.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Its configured name, for messages.
    pub name: String,
    /// An absolute path, or a name to look up in the agent's `PATH`.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment set for it.
    pub env: BTreeMap<String, String>,
    /// Patterns of names that it inherits beyond the base allow-list.
    pub pass_env: Vec<String>,
    /// A home of its own; none means the user's.
    pub private_home: Option<PathBuf>,
    /// Where each of its processes gets a folder of its own for temporary files, which
    /// goes with it; none leaves them where all have theirs.
    pub temporary: Option<PathBuf>,
    /// The mode it is set to where a task says nothing.
    pub mode: Option<String>,
    /// Names of quirks beyond those known for the name it reports.
    pub quirks: Vec<String>,
    /// What its processes may take together, where the kernel sees to it.
    pub limits: Limits,
    /// Hearth's own environment, of which it inherits a part.
    pub parent_env: Vec<(OsString, OsString)>,
}

/// Where an agent's sessions can be found again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::backends) struct Identity {
    pub(in crate::backends) home_id: String,
    pub(in crate::backends) config_hash: String,
}

/// A launch made ready for one session.
#[derive(Debug)]
pub(in crate::backends) struct Prepared {
    pub(in crate::backends) process: ProcessSpec,
    pub(in crate::backends) identity: Identity,
    /// Why the former session, if there is one, must not be continued.
    pub(in crate::backends) former: Result<(), String>,
    /// To be kept until the process is gone.
    pub(in crate::backends) temporary: Option<TempDir>,
}

impl Launch {
    /// Composes environment and identity; makes the private home if it is missing.
    pub(in crate::backends) fn prepare(&self, spec: &LinkSpec) -> Result<Prepared, StartError> {
        let owner = Owner::Session(spec.key.clone());
        let mut process = self.process(owner, &spec.cwd, &spec.env)?;
        let temporary = self.temporary.as_deref().map(folder_in).transpose()?;
        if let Some(folder) = &temporary {
            process.env.insert("TMPDIR".into(), folder.path().into());
        }
        let identity = self.identity("acp", &process);
        let former = continuable(spec, &identity);
        Ok(Prepared {
            process,
            identity,
            former,
            temporary,
        })
    }

    /// The agent's process as a session in `cwd` would have it.
    ///
    /// # Errors
    /// [`StartError::Failed`] when its private home cannot be made.
    pub fn command(&self, owner: Owner, cwd: &Path) -> Result<ProcessSpec, StartError> {
        self.process(owner, cwd, &BTreeMap::new())
    }

    /// Tells definitions apart, values of their environment included: what differs in
    /// any of it cannot share a server. A hash, as those values hold secrets.
    pub(in crate::backends) fn definition(&self) -> String {
        let text = format!(
            "{:?}",
            (
                &self.program,
                &self.args,
                &self.env,
                &self.pass_env,
                &self.private_home
            )
        );
        hash([text.as_bytes()].into_iter())
    }

    /// Where the sessions of `process`, which speaks `protocol`, can be found again.
    pub(in crate::backends) fn identity(&self, protocol: &str, process: &ProcessSpec) -> Identity {
        Identity {
            home_id: home_id(process.env.get(OsStr::new("HOME")).map(OsString::as_os_str)),
            config_hash: self.config_hash(protocol),
        }
    }

    pub(in crate::backends) fn process(
        &self,
        owner: Owner,
        cwd: &Path,
        more: &BTreeMap<String, String>,
    ) -> Result<ProcessSpec, StartError> {
        let mut extra = self.env.clone();
        extra.extend(more.clone());
        if let Some(home) = &self.private_home {
            make_home(home)?;
            extra.extend(home_variables(home));
        }
        let mut process = ProcessSpec::new(owner, &self.program, cwd);
        process.args = self.args.iter().map(OsString::from).collect();
        process.limits = Some(self.limits);
        process.env = env::compose(self.parent_env.iter().cloned(), &self.pass_env, &extra);
        Ok(process)
    }

    /// The error for a process that could not be started, by what the user can do.
    pub(in crate::backends) fn not_spawned(&self, error: &ProcessError) -> StartError {
        let name = &self.name;
        match error {
            ProcessError::CommandMissing { .. }
            | ProcessError::NotExecutable { .. }
            | ProcessError::Exec { .. } => StartError::Missing(format!(
                "the agent {name} is not installed or cannot be run: {error} in [agents.{name}]"
            )),
            _ => StartError::Failed {
                message: format!("the agent {name} could not be started: {error}"),
                exit: None,
            },
        }
    }

    /// How the agent ended, waiting a little for the news.
    pub(in crate::backends) async fn exit_of(&self, process: &OwnedProcess) -> ExitInfo {
        let mut exited = process.exited();
        let news = tokio::time::timeout(EXIT_WAIT, exited.wait_for(Option::is_some)).await;
        match news {
            Ok(Ok(exit)) => exit.clone().unwrap_or_default(),
            _ => ExitInfo {
                stderr_tail: process.stderr_tail(),
                ..ExitInfo::default()
            },
        }
    }

    /// What is told of an agent that ended before it could be used.
    pub(in crate::backends) fn ended_message(&self, exit: &ExitInfo) -> String {
        let lines: Vec<_> = exit.stderr_tail.lines().collect();
        let tail = lines[lines.len().saturating_sub(STDERR_LINES)..].join("\n");
        let said = if tail.is_empty() {
            "it said nothing".to_owned()
        } else {
            format!("it said:\n{tail}")
        };
        format!(
            "{} ended before it could be prompted ({}); {said}\nRun `{}` in a terminal to see more",
            self.name,
            exit.summary(),
            self.command_text()
        )
    }

    /// The program as people type it.
    pub(in crate::backends) fn program_text(&self) -> String {
        self.program.display().to_string()
    }

    /// The whole command as people type it.
    pub(in crate::backends) fn command_text(&self) -> String {
        std::iter::once(self.program_text())
            .chain(self.args.iter().cloned())
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// What cannot change under a live session: protocol, command, arguments
    /// and the names in its environment. Not the values, which hold secrets and
    /// change with every login.
    fn config_hash(&self, protocol: &str) -> String {
        let program = if self.program.is_absolute() {
            // An upgrade moves the file; the agent is the same.
            self.program.file_name().unwrap_or_default()
        } else {
            self.program.as_os_str()
        };
        let texts = [protocol.as_bytes(), program.as_bytes()].into_iter();
        let args = self.args.iter().map(String::as_bytes);
        let names = self.env.keys().map(String::as_bytes);
        let passed = self.pass_env.iter().map(String::as_bytes);
        hash(
            texts
                .chain(args)
                .chain([&b"env"[..]])
                .chain(names)
                .chain([&b"pass"[..]])
                .chain(passed),
        )
    }
}

/// A former session belongs to one home and one way of running the agent.
pub(in crate::backends) fn continuable(spec: &LinkSpec, identity: &Identity) -> Result<(), String> {
    if let Some(why) = &spec.forgotten {
        return Err(why.clone());
    }
    let Some(former) = &spec.resume else {
        return Ok(());
    };
    if former.home_id != identity.home_id {
        return Err("the former session lives in another home directory".into());
    }
    if former.config_hash != identity.config_hash {
        return Err(
            "the agent's command, arguments or environment were changed in the settings".into(),
        );
    }
    Ok(())
}

/// Tells homes apart by their canonical path; agents number their sessions per home.
fn home_id(home: Option<&OsStr>) -> String {
    let home = Path::new(home.unwrap_or_default());
    let canonical = home.canonicalize().unwrap_or_else(|_| home.to_owned());
    hash([canonical.as_os_str().as_bytes()].into_iter())
}

/// SHA-256 over length-prefixed parts, in hex, shortened.
fn hash<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.len().to_le_bytes());
        hasher.update(part);
    }
    let mut hex = format!("{:x}", hasher.finalize());
    hex.truncate(HASH_CHARS);
    hex
}

fn make_home(home: &Path) -> Result<(), StartError> {
    make(home).map_err(not_made("private home", home))
}

fn folder_in(parent: &Path) -> Result<TempDir, StartError> {
    make(parent)
        .and_then(|()| TempDir::new_in(parent))
        .map_err(not_made("temporary folder in", parent))
}

fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn not_made(what: &str, folder: &Path) -> impl FnOnce(io::Error) -> StartError {
    move |error| StartError::Failed {
        message: format!(
            "the {what} {} could not be made ({error}): free some disk or correct its permissions",
            folder.display()
        ),
        exit: None,
    }
}

/// Everything that leads to the user's own home, led elsewhere.
fn home_variables(home: &Path) -> impl Iterator<Item = (String, String)> {
    [
        ("HOME", ""),
        ("XDG_CONFIG_HOME", ".config"),
        ("XDG_DATA_HOME", ".local/share"),
        ("XDG_STATE_HOME", ".local/state"),
        ("XDG_CACHE_HOME", ".cache"),
    ]
    .into_iter()
    .map(|(name, below)| {
        let path = if below.is_empty() {
            home.to_owned()
        } else {
            home.join(below)
        };
        (name.to_owned(), path.to_string_lossy().into_owned())
    })
}
