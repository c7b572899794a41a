//! The data directory: made once, then started again and again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::binaries::{self, Binaries};
use super::layout::{PORT, fresh_socket_dir, write_private};
use super::pidfile::{self, Pidfile};
use super::tool::{Tool, plain_environment};
use super::user::ServerUser;
use super::{EmbeddedConfig, EmbeddedError, USER};
use crate::process::{Guard, Identity, OwnedProcess, Owner, ProcessSpec, Room};

/// Everything needed to start the server.
pub(super) struct Cluster<'a> {
    config: &'a EmbeddedConfig,
    room: &'a Room,
    binaries: Binaries,
    user: ServerUser,
    data: PathBuf,
}

/// initdb takes about a second; this is for a very slow disk.
const INITDB_LIMIT: Duration = Duration::from_secs(120);
/// A server that was killed replays its log first, at most as much as
/// `max_wal_size` holds.
const START_LIMIT: Duration = Duration::from_secs(120);
/// Between two looks at the server's pid file: much less than a start takes.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

impl<'a> Cluster<'a> {
    /// Finds the programs and the user, and makes the data directory if there
    /// is none. A crash in the middle leaves nothing that looks finished.
    pub(super) async fn prepare(
        config: &'a EmbeddedConfig,
        room: &'a Room,
    ) -> Result<Self, EmbeddedError> {
        let data = config.data();
        let existing = major_of(&data)?;
        let user = ServerUser::choose(&data, config.user.as_deref())?;
        let binaries = binaries::find(config, room, existing).await?;
        user.let_through(&config.base)?;
        user.give(&config.base)?;
        let cluster = Self {
            config,
            room,
            binaries,
            user,
            data,
        };
        if existing.is_none() {
            cluster.initialise().await?;
        } else if !config.password_file.exists() {
            cluster.clear_leftovers().await?;
            cluster.renew_password().await?;
        }
        Ok(cluster)
    }

    /// Starts the server and returns once it accepts connections.
    pub(super) async fn start(&self) -> Result<OwnedProcess, EmbeddedError> {
        self.clear_leftovers().await?;
        let sockets = self.config.socket_dir();
        fresh_socket_dir(&sockets, &self.user)?;
        let mut spec = ProcessSpec::new(
            Owner::Named("postgres".into()),
            self.binaries.directory.join("postgres"),
            "/",
        );
        spec.args = vec![
            "-D".into(),
            self.data.clone().into(),
            "-k".into(),
            sockets.into(),
        ];
        for setting in settings(self.config) {
            spec.args.extend(["-c".into(), setting.into()]);
        }
        spec.env = plain_environment();
        spec.run_as = self.user.run_as();
        // SIGINT is its fast shutdown: clean, and without waiting for clients.
        spec.guard = Guard::Signal(libc::SIGINT);
        let mut server = self.room.spawn(spec).await?;
        drop(server.take_stdin());
        self.until_ready(server).await
    }

    async fn until_ready(&self, server: OwnedProcess) -> Result<OwnedProcess, EmbeddedError> {
        let failed = |log: String| EmbeddedError::Failed {
            what: "starting the server",
            log,
        };
        let deadline = Instant::now() + START_LIMIT;
        while pidfile::ready_server(&self.data) != Some(server.identity()) {
            if let Some(exit) = &*server.exited().borrow() {
                return Err(failed(format!(
                    "{}: {}",
                    exit.summary(),
                    exit.stderr_tail.trim()
                )));
            }
            if Instant::now() > deadline {
                return Err(failed(format!(
                    "not ready after {START_LIMIT:?}: {}",
                    server.stderr_tail().trim()
                )));
            }
            sleep(LOOK_AGAIN).await;
        }
        Ok(server)
    }

    async fn initialise(&self) -> Result<(), EmbeddedError> {
        tracing::info!(
            data = %self.data.display(),
            major = self.binaries.major,
            user = %self.user.name,
            "creating the private PostgreSQL"
        );
        let new = self.config.base.join("data.new");
        remove_tree(&new)?;
        // The password itself stays where only Hearth can read it.
        let password = self.config.password()?;
        let copy = self.config.base.join("password.new");
        let _ = fs::remove_file(&copy);
        write_private(&copy, &password).map_err(EmbeddedError::io("writing", &copy))?;
        self.user.give(&copy)?;
        let mut args = vec![
            "--pgdata".into(),
            new.clone().into_os_string(),
            "--username".into(),
            USER.into(),
            "--pwfile".into(),
            copy.clone().into_os_string(),
        ];
        args.extend(
            [
                "--auth-local=scram-sha-256",
                "--auth-host=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-instructions",
            ]
            .map(Into::into),
        );
        if !self.config.durable {
            args.push("--no-sync".into());
        }
        let made = self.tool("initdb", INITDB_LIMIT).run(args, b"").await;
        let _ = fs::remove_file(&copy);
        made?;
        fs::rename(&new, &self.data).map_err(EmbeddedError::io("moving the new data", &self.data))
    }

    /// The password file was lost: as owner of the data we may set a new one.
    async fn renew_password(&self) -> Result<(), EmbeddedError> {
        tracing::warn!("the password file of the private PostgreSQL was lost: setting a new one");
        let password = self.config.password()?;
        let set = format!("ALTER ROLE {USER} PASSWORD '{password}'\n");
        let args = [
            "--single".as_ref(),
            "-D".as_ref(),
            self.data.as_os_str(),
            "postgres".as_ref(),
        ];
        let done = self
            .tool("postgres", START_LIMIT)
            .run(args, set.as_bytes())
            .await;
        if done.is_err() {
            let _ = fs::remove_file(&self.config.password_file);
        }
        done.map(drop)
    }

    fn tool(&self, name: &'static str, limit: Duration) -> Tool<'_> {
        Tool {
            room: self.room,
            what: name,
            program: self.binaries.directory.join(name),
            cwd: "/".into(),
            env: plain_environment(),
            run_as: self.user.run_as(),
            limit,
        }
    }

    /// Ends what an earlier life left running in the data directory (a server
    /// on its way out, or the backends of a killed one, which keep its shared
    /// memory) and removes its pid file.
    async fn clear_leftovers(&self) -> Result<(), EmbeddedError> {
        if Pidfile::read(&self.data).is_none() {
            return Ok(());
        }
        for (signal, patience) in [
            (libc::SIGINT, Duration::from_secs(10)),
            (libc::SIGQUIT, Duration::from_secs(5)),
            (libc::SIGKILL, Duration::from_secs(5)),
        ] {
            // SIGINT is for the server alone: it sees to its backends.
            let server = Pidfile::read(&self.data).map(|file| file.pid);
            let left = pidfile::occupants(&self.data);
            let has_server = left.iter().any(|process| Some(process.pid) == server);
            if signal == libc::SIGINT && !has_server {
                continue;
            }
            for process in &left {
                if signal != libc::SIGINT || Some(process.pid) == server {
                    process.signal(signal);
                }
            }
            if self.is_empty_within(left, patience).await {
                Pidfile::remove(&self.data);
                return Ok(());
            }
        }
        Err(EmbeddedError::Failed {
            what: "stopping an earlier server",
            log: format!("processes still use {}", self.data.display()),
        })
    }

    async fn is_empty_within(&self, left: Vec<Identity>, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while left.iter().any(|process| process.is_alive()) {
            if Instant::now() > deadline {
                return false;
            }
            sleep(LOOK_AGAIN).await;
        }
        pidfile::occupants(&self.data).is_empty()
    }
}

/// For one service on one machine: small, and never less durable than
/// PostgreSQL's default. No TCP: Hearth is the only client, and a socket in a
/// closed directory cannot be reached by other users or from the network.
fn settings(config: &EmbeddedConfig) -> Vec<String> {
    let durability = if config.durable { "on" } else { "off" };
    let mut settings = vec![
        format!("port={PORT}"),
        format!("max_connections={}", config.max_connections),
        format!("fsync={durability}"),
        format!("full_page_writes={durability}"),
        format!("synchronous_commit={durability}"),
    ];
    settings.extend(
        [
            "listen_addresses=",
            "unix_socket_permissions=0700",
            "cluster_name=hearth",
            "shared_buffers=32MB",
            "max_wal_size=256MB",
            "autovacuum=on",
            "autovacuum_max_workers=1",
            // Every query is short: compiling or spreading it costs more.
            "jit=off",
            "max_parallel_workers_per_gather=0",
            "max_worker_processes=4",
            // Standard error goes to the end of log that Hearth keeps.
            "logging_collector=off",
            "log_destination=stderr",
            "log_min_messages=warning",
        ]
        .map(str::to_owned),
    );
    settings
}

fn major_of(data: &Path) -> Result<Option<u32>, EmbeddedError> {
    let path = data.join("PG_VERSION");
    match fs::read_to_string(&path) {
        Ok(version) => version
            .trim()
            .parse()
            .map(Some)
            .map_err(|_| EmbeddedError::Directory {
                path,
                reason: format!("it says {version:?}: restore the data directory from a backup"),
            }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(EmbeddedError::io("reading", &path)(error)),
    }
}

fn remove_tree(path: &Path) -> Result<(), EmbeddedError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(EmbeddedError::io("removing", path)(error))
        }
        _ => Ok(()),
    }
}
