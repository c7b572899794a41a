//! The whole service is killed. A second process plays it.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::*;
use crate::support::role::{NOBODY, Role, Stage};

/// Plays the service: hardened, one agent with the full tree, for ever.
/// Reports the tree's processes, the shim last.
#[tokio::test]
#[ignore = "a role that other tests start"]
async fn role_service() {
    let stage = Stage::enter();
    hearth::process::harden().unwrap();
    let room = stage.room();
    let mut process = room.spawn(shell(TREE, stage.home())).await.unwrap();
    let mut tree = tree_of(&mut process).await;
    tree.extend(Identity::of(process.shim_pid().unwrap()));
    assert!(tree.iter().all(|member| room.owns_pid(member.pid)));
    stage.ready(tree).await;
}

async fn service(uid: Option<u32>) -> (Role, Vec<Identity>) {
    Role::start("process::service::role_service", uid).await
}

#[tokio::test]
async fn nothing_survives_kill_9_of_the_service() {
    let (mut service, tree) = service(None).await;
    assert_eq!(alive(&tree).len(), 5);
    service.kill_9();
    let took = all_gone("the tree of a killed service", &tree).await;
    println!("gone {took:?} after kill -9 of the service");
}

#[tokio::test]
async fn nothing_survives_for_an_ordinary_user_either() {
    let (mut service, tree) = service(Some(NOBODY)).await;
    let agent = std::fs::metadata(format!("/proc/{}", tree[0].pid)).unwrap();
    assert_eq!(agent.uid(), NOBODY);
    service.kill_9();
    let took = all_gone("the tree of a killed service", &tree).await;
    println!("gone {took:?} after kill -9 of nobody's service");
}

#[tokio::test]
async fn the_next_life_sweeps_what_lost_both_its_service_and_its_shim() {
    let (mut service, tree) = service(None).await;
    // Stopped, the service cannot act on the death of the shim.
    let pid = nix::unistd::Pid::from_raw(service.pid());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    kill_9(tree.last().unwrap().pid);
    service.kill_9();
    let orphans = alive(&tree);
    assert!(
        orphans.len() >= 2,
        "detached processes outlive both: {orphans:?}"
    );

    let room = service.room();
    let start = Instant::now();
    let report = room.sweep().await;
    println!("{report:?} after {:?}", start.elapsed());
    assert!(report.killed >= 2, "{report:?}");
    assert_eq!(report.left, 0);
    assert_eq!(alive(&tree), []);
    let ledger = service.home.path().join("ledger");
    assert_eq!(std::fs::read_dir(ledger).unwrap().count(), 0);
    assert_eq!(room.sweep().await, hearth::process::SweepReport::default());
}

#[tokio::test]
async fn secrets_of_service_and_shim_are_closed_to_their_own_user() {
    let (service, tree) = service(Some(NOBODY)).await;
    let shim = tree.last().unwrap().pid;
    for (who, pid) in [("service", service.pid()), ("shim", shim)] {
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
