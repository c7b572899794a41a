//! Why a process was not started.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::wire::{Report, Stage};

/// Characters of a PATH in a message.
const PATH_SHOWN: usize = 160;

/// What went wrong, by what to do about it.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// The user must install it or correct the setting.
    #[error(
        "the command `{command}` was not found in PATH ({}): install it, or set the full path of the program as `command`",
        path.chars().take(PATH_SHOWN).collect::<String>() + if path.chars().count() > PATH_SHOWN { "…" } else { "" }
    )]
    CommandMissing {
        /// As it was asked for.
        command: PathBuf,
        /// Where it was looked for.
        path: String,
    },
    /// The user must correct the setting or the file's mode.
    #[error("{path} cannot be executed: make it executable (chmod +x) or set another `command`")]
    NotExecutable {
        /// The file.
        path: PathBuf,
    },
    /// The working directory is gone or closed to us.
    #[error(
        "the working directory {path} cannot be entered ({source}): restore it or its permissions"
    )]
    Cwd {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The kernel refused to execute the file.
    #[error(
        "{path} could not be executed ({source}): check that it is a program for this machine, that the interpreter in its first line exists, and its permissions"
    )]
    Exec {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The environment or an argument holds a zero byte, or the room was
    /// configured wrongly: trying again does not help.
    #[error("the process cannot be described to the system: {0}")]
    Invalid(String),
    /// The machine lacks something now (processes, files, memory): try later.
    #[error("no process can be started now: {what}")]
    Unavailable {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The shim did not report within its deadline, or ended first: try later.
    #[error("the process guard did not report that {command} runs: {detail}")]
    Shim {
        /// The command it was to start.
        command: PathBuf,
        /// What was seen instead.
        detail: String,
    },
    /// The ledger directory cannot be used: set another HEARTH_HOME.
    #[error(
        "the process ledger at {path} cannot be written: check that the directory belongs to the user who runs Hearth and has space"
    )]
    Ledger {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// As many process trees as the room allows are alive: stop one first.
    #[error("{limit} process trees are alive, which is the limit: stop an agent first")]
    Full {
        /// The limit.
        limit: usize,
    },
}

impl ProcessError {
    /// What a shim's first report means when it is not that `program` runs.
    pub(super) fn from_report(report: Option<Report>, program: &Path, cwd: &Path) -> Self {
        match report {
            Some(Report::Failed(Stage::Cwd, errno)) => Self::Cwd {
                path: cwd.to_owned(),
                source: io::Error::from_raw_os_error(errno),
            },
            Some(Report::Failed(Stage::Exec, errno)) => Self::Exec {
                path: program.to_owned(),
                source: io::Error::from_raw_os_error(errno),
            },
            Some(Report::Failed(Stage::Group, errno)) => Self::Unavailable {
                what: "putting a process into its control group",
                source: io::Error::from_raw_os_error(errno),
            },
            Some(Report::Failed(Stage::Shim, errno)) => Self::Unavailable {
                what: "preparing a process guard",
                source: io::Error::from_raw_os_error(errno),
            },
            other => Self::Shim {
                command: program.to_owned(),
                detail: match other {
                    Some(report) => format!("it said `{report}` first"),
                    None => "it ended or said nothing in time".to_owned(),
                },
            },
        }
    }

    /// Without a shim, the failures of the fork and of `program` come as one.
    pub(super) fn of_program(self, program: &Path) -> Self {
        match self {
            Self::Unavailable { source, .. }
                if matches!(
                    source.raw_os_error(),
                    Some(libc::ENOENT | libc::EACCES | libc::ENOEXEC | libc::EPERM | libc::ETXTBSY)
                ) =>
            {
                Self::Exec {
                    path: program.to_owned(),
                    source,
                }
            }
            other => other,
        }
    }
}
