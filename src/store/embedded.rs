//! The private PostgreSQL: what Hearth keeps its memory in when no
//! `DATABASE_URL` is given. Installed server programs, a data directory of our
//! own, a socket, no TCP port, a password even there.
//!
//! ```text
//!            lock taken                        server ends
//! open ──┬──────────────► Running (ours) ─────────────────► Down ──► started again
//!        │ another Hearth            server ends                 └──► Running
//!        └──────────────► Running (adopted) ──────────────► Down ──► lock, or adopt again
//! stop: ours is shut down and awaited, an adopted one is left alone ──► Stopped
//! ```
//!
//! When Hearth is killed the kernel sends the server SIGINT, its fast and clean
//! shutdown. The socket's path never changes, so connection pools recover by
//! themselves after every restart.

mod binaries;
mod cluster;
mod error;
mod fetch;
mod keeper;
mod layout;
mod pidfile;
mod tool;
mod url;
mod user;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use sqlx::postgres::PgConnectOptions;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::process::Room;

pub use error::EmbeddedError;
pub use keeper::Status;
pub use url::{DatabaseUrlError, parse_database_url};

use keeper::Keeper;

/// The role that owns everything in the private PostgreSQL.
const USER: &str = "hearth";
/// The database that every PostgreSQL has from the start.
const DATABASE: &str = "postgres";

/// Where the private PostgreSQL lives.
#[derive(Clone, Debug)]
pub struct EmbeddedConfig {
    /// Data and socket: `$HEARTH_HOME/pg`. Belongs to the user PostgreSQL runs
    /// as. When that is another one (Hearth is root), that user's group gets
    /// the right to pass through the directory above it.
    pub base: PathBuf,
    /// The password of the socket: `$HEARTH_HOME/pg-password`. Hearth's alone.
    pub password_file: PathBuf,
    /// Fetched programs: `$HEARTH_HOME/pg-bin`.
    pub fetched: PathBuf,
    /// Directory of `initdb` and `postgres` (HEARTH_PG_BIN); none searches.
    pub bin: Option<PathBuf>,
    /// Whom the server runs as when Hearth is root (HEARTH_PG_USER); none
    /// tries `postgres`, then `nobody`.
    pub user: Option<String>,
    /// Look where distributions install PostgreSQL, before the PATH.
    pub system: bool,
    /// The PATH in which programs are looked for.
    pub search_path: OsString,
    /// Connections the server accepts. The default, 40, holds a service's pool
    /// of about ten, the CLI, and a person with psql.
    pub max_connections: u16,
    /// Commits survive a power cut. Off is for tests only.
    pub durable: bool,
}

impl EmbeddedConfig {
    /// The usual places below Hearth's home.
    #[must_use]
    pub fn at_home(home: &Path, search_path: OsString) -> Self {
        Self {
            base: home.join("pg"),
            password_file: home.join("pg-password"),
            fetched: home.join("pg-bin"),
            bin: None,
            user: None,
            system: true,
            search_path,
            max_connections: 40,
            durable: true,
        }
    }
}

/// A running private PostgreSQL, kept running until it is stopped or dropped.
/// Dropping it shuts the server down in the background.
pub struct EmbeddedPg {
    options: PgConnectOptions,
    status: watch::Receiver<Status>,
    stop: DropGuard,
    keeper: JoinHandle<()>,
}

impl EmbeddedPg {
    /// The server's socket, role and password. They never change while the
    /// data directory lives.
    #[must_use]
    pub fn connect_options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// The server's process, while one runs.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        match *self.status.borrow() {
            Status::Running { pid, .. } => Some(pid),
            Status::Down | Status::Stopped => None,
        }
    }

    /// The server belongs to another Hearth on the same data directory.
    #[must_use]
    pub fn adopted(&self) -> bool {
        matches!(*self.status.borrow(), Status::Running { adopted: true, .. })
    }

    /// Follows the server's ups and downs.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Shuts the server down and waits for its end, at most 25 s; leaves an
    /// adopted one alone.
    pub async fn stop(self) {
        drop(self.stop);
        if let Err(error) = self.keeper.await {
            tracing::error!(%error, "the keeper of the private PostgreSQL failed");
        }
    }
}

/// Starts the private PostgreSQL, or joins the one that another Hearth runs on
/// the same directory. The first start takes a second or two, later ones less
/// than 100 ms; after a crash the log is replayed first.
///
/// # Errors
/// See [`EmbeddedError`]; every message names the cure.
pub async fn open(config: EmbeddedConfig, room: Room) -> Result<EmbeddedPg, EmbeddedError> {
    let keeper = Keeper::start(config.settle()?, room).await?;
    let options = PgConnectOptions::new_without_pgpass()
        .socket(keeper.config().socket_dir())
        .port(layout::PORT)
        .username(USER)
        .password(&keeper.config().password()?)
        .database(DATABASE)
        .application_name("hearth");
    let status = keeper.status();
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    Ok(EmbeddedPg {
        options,
        status,
        stop: stop.drop_guard(),
        keeper: tokio::spawn(keeper.run(stopped)),
    })
}
