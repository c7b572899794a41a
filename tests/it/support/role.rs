//! A second process that plays a part, so that a test can kill it: this test
//! binary, started again for one of its ignored tests.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hearth::process::{Room, RoomConfig, ShimPath};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use super::wait;

/// The ordinary user that every machine has.
pub(crate) const NOBODY: u32 = 65534;

/// A playing process. Dropping it kills it.
pub(crate) struct Role {
    pub(crate) child: Child,
    /// Its directory, its own to write.
    pub(crate) home: TempDir,
}

/// What the player finds when it starts.
pub(crate) struct Stage {
    home: PathBuf,
}

const HOME: &str = "HEARTH_IT_HOME";
const SHIM: &str = "shim";
const READY: &str = "ready";
const START_LIMIT: Duration = Duration::from_secs(30);

impl Role {
    /// Starts the ignored test of that full name, as user `uid` if given, and
    /// returns what it reported.
    pub(crate) async fn start<R: DeserializeOwned>(test: &str, uid: Option<u32>) -> (Self, R) {
        let home = tempfile::Builder::new()
            .permissions(PermissionsExt::from_mode(0o755))
            .tempdir()
            .unwrap();
        Self::start_in(home, test, uid).await
    }

    /// The same in the directory of an earlier player.
    pub(crate) async fn start_in<R: DeserializeOwned>(
        home: TempDir,
        test: &str,
        uid: Option<u32>,
    ) -> (Self, R) {
        // An ordinary user cannot enter the build directory.
        let program = home.path().join("it");
        copy_program(&std::env::current_exe().unwrap(), &program);
        copy_program(
            Path::new(env!("CARGO_BIN_EXE_hearth")),
            &home.path().join(SHIM),
        );
        let ready = home.path().join(READY);
        let _ = std::fs::remove_file(&ready);
        let mut command = Command::new(program);
        command
            .args([test, "--exact", "--ignored", "--nocapture"])
            .env(HOME, home.path())
            .current_dir("/")
            .stdout(Stdio::null());
        if let Some(uid) = uid {
            chown(home.path(), Some(uid), Some(uid)).unwrap();
            command.uid(uid).gid(uid);
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "it plays the service, not a child of one"
        )]
        let child = command.spawn().unwrap();
        let role = Self { child, home };
        wait::until("the player", START_LIMIT, || ready.exists(), |there| *there).await;
        let report = serde_json::from_slice(&std::fs::read(ready).unwrap()).unwrap();
        (role, report)
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub(crate) fn kill_9(&mut self) {
        // Doing it twice is fine.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Kills it and keeps its directory.
    pub(crate) fn into_home(mut self) -> TempDir {
        self.kill_9();
        std::mem::replace(&mut self.home, tempfile::tempdir().unwrap())
    }

    /// A room in the player's directory, as its next life would open it.
    pub(crate) fn room(&self) -> Room {
        room(self.home.path(), &self.home.path().join(SHIM))
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Stage {
    /// Called by the player.
    pub(crate) fn enter() -> Self {
        let home = std::env::var_os(HOME).expect("only another test starts this one");
        Self { home: home.into() }
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    pub(crate) fn room(&self) -> Room {
        room(&self.home, &self.home.join(SHIM))
    }

    /// Reports that it is ready, and waits to be killed.
    pub(crate) async fn ready(&self, report: impl Serialize) -> ! {
        let new = self.home.join("ready.new");
        std::fs::write(&new, serde_json::to_vec(&report).unwrap()).unwrap();
        std::fs::rename(new, self.home.join(READY)).unwrap();
        std::future::pending().await
    }
}

/// A room whose node is named after its directory.
pub(crate) fn room(home: &Path, shim: &Path) -> Room {
    Room::open(RoomConfig {
        ledger_dir: home.join("ledger"),
        shim: ShimPath::Path(shim.to_owned()),
        node: home.file_name().unwrap().to_str().unwrap().to_owned(),
        cgroups: hearth::config::Cgroups::Off,
    })
    .unwrap()
}

fn copy_program(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap();
    std::fs::set_permissions(to, PermissionsExt::from_mode(0o755)).unwrap();
}
