//! The Hearth that is harmed: its directory, its lives, its database.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::desk::Desk;
use super::disk::SmallDisk;
use super::processes::Look;
use super::proxy::Proxy;

/// A start after a kill, PostgreSQL's recovery in it, on a busy machine.
const START: Duration = Duration::from_secs(120);
const STOP: Duration = Duration::from_secs(90);
/// Of one request.
const ANSWER: Duration = Duration::from_secs(60);

/// A service and all that belongs to it.
pub(crate) struct Hearth {
    /// Ends before the disk below it and the directory go, in this order.
    child: Option<Child>,
    pub(crate) disk: Option<SmallDisk>,
    pub(crate) home: PathBuf,
    /// To the API, whatever life it is.
    pub(crate) door: Proxy,
    /// To the model that the agents ask.
    pub(crate) models: Proxy,
    http: reqwest::Client,
    token: String,
    dir: TempDir,
}

impl Hearth {
    /// In a directory of its own; `settings` are written for the address of the models.
    /// Nothing runs yet.
    pub(crate) async fn new(settings: impl FnOnce(&str) -> String) -> anyhow::Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::Builder::new().prefix("hearth-chaos-").tempdir()?;
        // PostgreSQL runs as another user when this runs as root.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711))?;
        let home = dir.path().join("home");
        std::fs::create_dir(&home)?;
        let (door, models) = (Proxy::start().await?, Proxy::start().await?);
        std::fs::write(dir.path().join("hearth.toml"), settings(&models.url()))?;
        let http = reqwest::Client::builder().no_proxy();
        Ok(Self {
            disk: SmallDisk::mount(&home.join("worktrees")),
            home,
            door,
            models,
            http: http.build()?,
            token: String::new(),
            child: None,
            dir,
        })
    }

    /// Where all of it lies; gone with the value.
    pub(crate) fn place(&self) -> &Path {
        self.dir.path()
    }

    /// Its process; none while it has none.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.child.as_ref()?.id()?.try_into().ok()
    }

    /// How it ended, if nobody asked for it.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let exit = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        Some(exit.to_string())
    }

    /// Starts it and waits until it is ready; the time that took.
    pub(crate) async fn start(&mut self) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let mut child = self.command()?.spawn()?;
        let pid = child.id();
        let url = loop {
            let file = std::fs::read(self.home.join("service.json")).unwrap_or_default();
            let file: Value = serde_json::from_slice(&file).unwrap_or_default();
            if file["pid"].as_u64() == pid.map(u64::from) {
                break file["url"].as_str().unwrap_or_default().to_owned();
            }
            if let Some(exit) = child.try_wait()? {
                bail!("Hearth does not start: {exit}\n{}", self.log_end());
            }
            ensure!(
                started.elapsed() < START,
                "Hearth does not open its door\n{}",
                self.log_end()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        self.child = Some(child);
        let address = url.trim_start_matches("http://").parse()?;
        self.door.lead_to(Some(address));
        let token = std::fs::read_to_string(self.home.join("token"))?;
        self.token = token.trim().to_owned();
        while !self.is_ready(&url).await {
            if let Some(exit) = self.ended() {
                bail!("Hearth ended in its start: {exit}\n{}", self.log_end());
            }
            ensure!(
                started.elapsed() < START,
                "Hearth is never ready\n{}",
                self.log_end()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(started.elapsed())
    }

    async fn is_ready(&self, url: &str) -> bool {
        let ask = self.http.get(format!("{url}/api/health/ready"));
        let answer = ask.timeout(ANSWER).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// `kill -9`, and nothing else.
    pub(crate) async fn kill(&mut self) {
        self.door.lead_to(None);
        if let Some(mut child) = self.child.take() {
            let _ = child.start_kill();
            let _ = child.wait().await;
        }
    }

    /// SIGTERM, and the wait for its end.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        let pid = self.pid().context("it runs")?;
        super::processes::signal(pid, nix::sys::signal::Signal::SIGTERM);
        if let Some(mut child) = self.child.take() {
            let ended = tokio::time::timeout(STOP, child.wait()).await;
            if ended.is_err() {
                let _ = child.start_kill();
                bail!("Hearth does not stop within {STOP:?}\n{}", self.log_end());
            }
        }
        Ok(())
    }

    /// Processes that carry its mark, or work in its directory, and do not descend from it.
    pub(crate) fn orphans(&self) -> Vec<(i32, String)> {
        let node = std::fs::read_to_string(self.home.join("node")).unwrap_or_default();
        let mark = format!("HEARTH_OWNER={}:", node.trim().replace('-', ""));
        Look::now().orphans(&mark, &self.dir.path().to_string_lossy(), self.pid())
    }

    /// For those who use it.
    pub(crate) fn desk(&self) -> Desk {
        Desk {
            http: self.http.clone(),
            url: self.door.url(),
            token: self.token.clone(),
            home: self.home.clone(),
        }
    }

    /// The end of its log.
    pub(crate) fn log_end(&self) -> String {
        let log = std::fs::read(self.home.join("log")).unwrap_or_default();
        let end = log.len().saturating_sub(6000);
        String::from_utf8_lossy(&log[end..]).into_owned()
    }

    fn command(&self) -> anyhow::Result<Command> {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.home.join("log"))?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_hearth"));
        command
            .arg("serve")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("HEARTH_HOME", &self.home)
            .env("HEARTH_LISTEN", "127.0.0.1:0")
            .env("HEARTH_CONFIG", self.dir.path().join("hearth.toml"))
            .env("HEARTH_LOG", "info")
            .env("HEARTH_PROBE_EVERY_MS", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true);
        Ok(command)
    }
}

/// Runs git there.
pub(crate) fn git(path: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let done = std::process::Command::new("git")
        .arg("-C")
        .arg(path)
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
        .args(arguments)
        .output()?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    ensure!(done.status.success(), "git {arguments:?}: {said}");
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
