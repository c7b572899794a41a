//! Why the private PostgreSQL is not there.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::process::ProcessError;

/// What went wrong, by what to do about it. Each message ends with the cure;
/// setting DATABASE_URL to a PostgreSQL of one's own is always another one.
#[derive(Debug, Error)]
pub enum EmbeddedError {
    /// No server programs, and none could be fetched: the user installs them.
    #[error(
        "no PostgreSQL server was found and none could be fetched ({reason}): install one (`apt-get install postgresql`, `dnf install postgresql-server`, `apk add postgresql`), point HEARTH_PG_BIN at its bin directory, or set DATABASE_URL"
    )]
    NotInstalled {
        /// What was tried.
        reason: String,
    },
    /// The data was made by another major version: the user installs that one
    /// or moves the data over.
    #[error(
        "the data in {data} belongs to PostgreSQL {wanted}, but only {found} is installed: install PostgreSQL {wanted}, or dump the data with it and restore them into a new directory"
    )]
    WrongMajor {
        /// The data directory.
        data: PathBuf,
        /// Its major version.
        wanted: u32,
        /// What was found instead.
        found: String,
    },
    /// PostgreSQL does not run as root or nameless: the user changes who runs it.
    #[error("{0}")]
    User(String),
    /// A directory cannot be used by us or the user PostgreSQL runs as.
    #[error("{path} cannot be used for the private PostgreSQL: {reason}")]
    Directory {
        /// Which one.
        path: PathBuf,
        /// Why, and the cure.
        reason: String,
    },
    /// A file operation failed: the disk may be full.
    #[error("{what} at {path} failed: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The server or one of its tools did not do its work; the log says why.
    #[error("PostgreSQL: {what} failed: {log}")]
    Failed {
        /// What was being done.
        what: &'static str,
        /// The end of what it said.
        log: String,
    },
    /// Another Hearth owns the data and its server did not get ready: try later.
    #[error(
        "another Hearth uses {base} but its PostgreSQL is not ready: wait for it, stop it, or set another HEARTH_HOME"
    )]
    Busy {
        /// The directory both want.
        base: PathBuf,
    },
    /// A program could not be started.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl EmbeddedError {
    /// For `map_err`: names the operation and the path.
    pub(super) fn io(what: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}
