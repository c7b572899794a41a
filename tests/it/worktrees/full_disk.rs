//! A file system without room.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hearth::worktrees::{GitWorktrees, WorktreesConfig, worktree_path};
use hearth_actors::ids::SessionId;
use hearth_actors::ports::{WorktreeError, Worktrees};
use nix::unistd::Uid;

use super::scratch::{Lab, commit_all, git, write};

/// A small file system of its own, gone with the value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Option<Self> {
        fs::create_dir_all(&at).expect("a folder");
        let args = ["-t", "tmpfs", "-o", "size=256k", "tmpfs"];
        let mounted = Command::new("mount").args(args).arg(&at).output();
        mounted
            .is_ok_and(|output| output.status.success())
            .then_some(Self(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_leaves_nothing_behind() {
    let lab = Lab::new();
    let Some(disk) = Uid::effective()
        .is_root()
        .then(|| SmallDisk::mount(lab.dir.path().join("small")))
        .flatten()
    else {
        eprintln!("cannot mount: see the errors' unit test");
        return;
    };
    for file in 0..40 {
        write(&lab.project, &format!("big/{file}"), vec![b'x'; 16 * 1024]);
    }
    commit_all(&lab.project, "Big");
    assert_full(&lab, &disk.0).await;
    for file in 0..4_000 {
        write(&lab.project, &format!("many/{}/{file}", file % 40), "x");
    }
    commit_all(&lab.project, "Many: now the git program writes");
    assert_full(&lab, &disk.0).await;
}

async fn assert_full(lab: &Lab, disk: &Path) {
    let port = GitWorktrees::new(WorktreesConfig::new(disk.to_owned()));
    let session = SessionId::new();
    let made = port.ensure(&lab.spec(session)).await;
    assert!(
        matches!(made, Err(WorktreeError::DiskFull { .. })),
        "{made:?}"
    );
    assert!(!worktree_path(disk, lab.id, session).exists());
    assert_eq!(git(&lab.project, ["worktree", "prune", "-v", "-n"]), "");
}
