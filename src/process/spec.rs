//! What to start, for whom, and how to stop it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hearth_actors::ids::SessionKey;
use hearth_actors::model::Deadlines;

use super::ProcessError;

/// Whose process it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// A warm session's agent.
    Session(SessionKey),
    /// Something of Hearth's own or shared, such as an agent's server.
    Named(String),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(key) => key.fmt(f),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// A process to start. Its error is a pipe.
#[derive(Clone, Debug)]
pub struct ProcessSpec {
    /// Whose it is.
    pub owner: Owner,
    /// The program: absolute, relative to `cwd` if it has a slash, else
    /// looked up in the PATH of `env`.
    pub command: PathBuf,
    /// Its arguments, without the program's own name. No secrets: everyone on
    /// the machine can read them.
    pub args: Vec<OsString>,
    /// Where it works; must exist.
    pub cwd: PathBuf,
    /// Its complete environment, as made by [`super::env::compose`]. The room
    /// adds only its marker.
    pub env: BTreeMap<OsString, OsString>,
    /// User and group id to run as; only root can ask for this.
    pub run_as: Option<(u32, u32)>,
    /// How it is kept from outliving Hearth.
    pub guard: Guard,
    /// What its input and its output are.
    pub streams: Streams,
    /// What it and its descendants may take, for what runs foreign code: they get a
    /// control group of their own where the room has such. Only with
    /// [`Guard::Shim`].
    pub limits: Option<Limits>,
}

/// What the kernel is to hold a process tree to, as far as it can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory; none does not limit.
    pub memory: Option<u64>,
    /// Processes and threads at a time; none does not limit.
    pub pids: Option<u32>,
}

/// What a process has as its input and its output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Streams {
    /// Pipes.
    #[default]
    Pipes,
    /// Its output is a terminal, and it leads a session that this terminal controls.
    /// Only with [`Guard::Shim`].
    Terminal {
        /// Its input is the terminal too, at which nobody types; else a pipe.
        input: bool,
    },
}

/// How a process is kept from outliving Hearth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Through a shim, which kills all its descendants with it. For anything
    /// that runs foreign code.
    Shim,
    /// It looks after its own children; when Hearth dies or drops it, the
    /// process itself gets this signal and ends in its own time. It is not
    /// swept. For a database server.
    Signal(i32),
}

impl ProcessSpec {
    /// A shimmed process with no arguments and an empty environment.
    #[must_use]
    pub fn new(owner: Owner, command: impl Into<PathBuf>, cwd: impl Into<PathBuf>) -> Self {
        Self {
            owner,
            command: command.into(),
            args: Vec::new(),
            cwd: cwd.into(),
            env: BTreeMap::new(),
            run_as: None,
            guard: Guard::Shim,
            streams: Streams::Pipes,
            limits: None,
        }
    }

    /// Finds the program's file, as an absolute path.
    ///
    /// # Errors
    /// [`ProcessError::CommandMissing`] or [`ProcessError::NotExecutable`].
    pub fn resolve_command(&self) -> Result<PathBuf, ProcessError> {
        resolve(
            &self.command,
            &self.cwd,
            self.env.get(OsStr::new("PATH")).map(OsString::as_os_str),
        )
    }
}

/// How long a process may take over each step of leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// After its input was closed (by the caller), before TERM.
    pub after_close: Duration,
    /// After TERM, before KILL.
    pub after_term: Duration,
    /// Skip the first wait.
    pub hurry: bool,
}

impl Ladder {
    /// The steps as a turn's deadlines have them.
    #[must_use]
    pub fn of(deadlines: &Deadlines, hurry: bool) -> Self {
        Self {
            after_close: deadlines.cancel,
            after_term: deadlines.term,
            hurry,
        }
    }
}

/// Finds the file of `command` as `execvp` would, but says why not.
fn resolve(command: &Path, cwd: &Path, path: Option<&OsStr>) -> Result<PathBuf, ProcessError> {
    let missing = |path: &OsStr| ProcessError::CommandMissing {
        command: command.to_owned(),
        path: path.to_string_lossy().into_owned(),
    };
    if command.as_os_str().is_empty() {
        return Err(missing(OsStr::new("")));
    }
    if command.components().count() > 1 || command.is_absolute() {
        let file = cwd.join(command);
        return match kind_of(&file) {
            FileKind::Program => Ok(file),
            FileKind::NotExecutable => Err(ProcessError::NotExecutable { path: file }),
            FileKind::Absent => Err(missing(path.unwrap_or_default())),
        };
    }
    let path = path.unwrap_or(OsStr::new(DEFAULT_PATH));
    let mut unusable = None;
    for directory in std::env::split_paths(path) {
        let file = cwd.join(directory).join(command);
        match kind_of(&file) {
            FileKind::Program => return Ok(file),
            FileKind::NotExecutable => unusable = unusable.or(Some(file)),
            FileKind::Absent => {}
        }
    }
    Err(match unusable {
        Some(path) => ProcessError::NotExecutable { path },
        None => missing(path),
    })
}

/// Where POSIX systems look when PATH is not set.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

enum FileKind {
    Program,
    NotExecutable,
    Absent,
}

fn kind_of(file: &Path) -> FileKind {
    match file.metadata() {
        Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => {
            FileKind::Program
        }
        Ok(_) => FileKind::NotExecutable,
        Err(_) => FileKind::Absent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve_in(command: &str, path: &str) -> Result<PathBuf, ProcessError> {
        resolve(Path::new(command), Path::new("/"), Some(OsStr::new(path)))
    }

    #[test]
    fn a_name_is_looked_up_in_the_given_path_only() {
        assert!(matches!(resolve_in("sh", "/usr/bin:/bin"), Ok(p) if p.ends_with("sh")));
        assert!(matches!(
            resolve_in("sh", "/nowhere"),
            Err(ProcessError::CommandMissing { path, .. }) if path == "/nowhere"
        ));
    }

    #[test]
    fn a_path_is_taken_as_it_is_and_relative_ones_start_at_the_working_directory() {
        assert!(matches!(resolve_in("/bin/sh", ""), Ok(p) if p == Path::new("/bin/sh")));
        assert!(matches!(resolve_in("bin/sh", ""), Ok(p) if p == Path::new("/bin/sh")));
        assert!(matches!(
            resolve_in("/bin/no-such-program", ""),
            Err(ProcessError::CommandMissing { .. })
        ));
    }

    #[test]
    fn a_plain_file_or_directory_is_not_executable() {
        for path in ["/etc/passwd", "/etc"] {
            assert!(matches!(
                resolve_in(path, ""),
                Err(ProcessError::NotExecutable { .. })
            ));
        }
        assert!(matches!(
            resolve_in("passwd", "/etc"),
            Err(ProcessError::NotExecutable { .. })
        ));
    }

    #[test]
    fn an_empty_command_is_missing() {
        assert!(matches!(
            resolve_in("", "/bin"),
            Err(ProcessError::CommandMissing { .. })
        ));
    }
}
