//! The whole service is killed. A second process plays it: this test binary,
//! started again for its ignored test [`role_service`].

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::*;

const NOBODY: u32 = 65534;
const HOME: &str = "HEARTH_IT_HOME";
const SHIM: &str = "HEARTH_IT_SHIM";

/// Plays the service: hardened, one agent with the full tree, for ever. Its
/// processes are in the file `tree`.
#[tokio::test]
#[ignore = "a role that other tests start"]
async fn role_service() {
    let home = PathBuf::from(std::env::var_os(HOME).expect("started by a test"));
    let shim = PathBuf::from(std::env::var_os(SHIM).expect("started by a test"));
    hearth::process::harden().unwrap();
    let room = open_room(&home, &shim);
    let mut process = room.spawn(shell(TREE, &home)).await.unwrap();
    let mut tree = tree_of(&mut process).await;
    tree.extend(Identity::of(process.shim_pid().unwrap()));
    assert!(tree.iter().all(|member| room.owns_pid(member.pid)));
    std::fs::write(home.join("tree.new"), serde_json::to_vec(&tree).unwrap()).unwrap();
    std::fs::rename(home.join("tree.new"), home.join("tree")).unwrap();
    std::future::pending::<()>().await;
}

struct Service {
    child: Child,
    home: TempDir,
    shim: PathBuf,
    tree: Vec<Identity>,
}

impl Service {
    async fn start(uid: Option<u32>) -> Self {
        let home = tempfile::Builder::new()
            .permissions(PermissionsExt::from_mode(0o755))
            .tempdir()
            .unwrap();
        // An ordinary user cannot enter the build directory.
        let program = copied(&std::env::current_exe().unwrap(), home.path());
        let shim = copied(Path::new(env!("CARGO_BIN_EXE_hearth")), home.path());
        let mut command = Command::new(program);
        command
            .args([
                "process::service::role_service",
                "--exact",
                "--ignored",
                "--nocapture",
            ])
            .env(HOME, home.path())
            .env(SHIM, &shim)
            .current_dir("/")
            .stdout(Stdio::null());
        if let Some(uid) = uid {
            chown(home.path(), Some(uid), Some(uid)).unwrap();
            command.uid(uid).gid(uid);
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "it is the service, not a child of one"
        )]
        let child = command.spawn().unwrap();
        let list = home.path().join("tree");
        let limit = Duration::from_secs(20);
        wait::until(
            "the service's tree",
            limit,
            || list.exists(),
            |there| *there,
        )
        .await;
        let tree = serde_json::from_slice(&std::fs::read(list).unwrap()).unwrap();
        Self {
            child,
            home,
            shim,
            tree,
        }
    }

    fn kill_9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn shim(&self) -> Identity {
        *self.tree.last().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn copied(program: &Path, into: &Path) -> PathBuf {
    let copy = into.join(program.file_name().unwrap());
    std::fs::copy(program, &copy).unwrap();
    std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o755)).unwrap();
    copy
}

#[tokio::test]
async fn nothing_survives_kill_9_of_the_service() {
    let mut service = Service::start(None).await;
    assert_eq!(alive(&service.tree).len(), 5);
    service.kill_9();
    let took = all_gone("the tree of a killed service", &service.tree).await;
    println!("gone {took:?} after kill -9 of the service");
}

#[tokio::test]
async fn nothing_survives_for_an_ordinary_user_either() {
    let mut service = Service::start(Some(NOBODY)).await;
    let owner = std::os::unix::fs::MetadataExt::uid(
        &std::fs::metadata(format!("/proc/{}", service.tree[0].pid)).unwrap(),
    );
    assert_eq!(owner, NOBODY);
    service.kill_9();
    let took = all_gone("the tree of a killed service", &service.tree).await;
    println!("gone {took:?} after kill -9 of nobody's service");
}

#[tokio::test]
async fn the_next_life_sweeps_what_lost_both_its_service_and_its_shim() {
    let mut service = Service::start(None).await;
    // Stopped, the service cannot act on the death of the shim.
    let pid = nix::unistd::Pid::from_raw(service.child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    kill_9(service.shim().pid);
    service.kill_9();
    let orphans = alive(&service.tree);
    assert!(
        orphans.len() >= 2,
        "detached processes outlive both: {orphans:?}"
    );

    let room = open_room(service.home.path(), &service.shim);
    let start = Instant::now();
    let report = room.sweep().await;
    println!("{report:?} after {:?}", start.elapsed());
    assert!(report.killed >= 2, "{report:?}");
    assert_eq!(report.left, 0);
    assert_eq!(alive(&service.tree), []);
    assert_eq!(
        std::fs::read_dir(service.home.path().join("ledger"))
            .unwrap()
            .count(),
        0
    );
    assert_eq!(room.sweep().await, hearth::process::SweepReport::default());
}

#[tokio::test]
async fn secrets_of_service_and_shim_are_closed_to_their_own_user() {
    let service = Service::start(Some(NOBODY)).await;
    for (who, pid) in [
        ("service", service.child.id() as i32),
        ("shim", service.shim().pid),
    ] {
        let read = Command::new("cat")
            .arg(format!("/proc/{pid}/environ"))
            .uid(NOBODY)
            .gid(NOBODY)
            .output()
            .unwrap();
        assert!(!read.status.success(), "{who}: {read:?}");
        assert_eq!(read.stdout, b"", "{who}");
    }
}
