//! Repositories and rows that mean ill: nothing runs, nothing leaves the root.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use hearth_actors::ports::{Review, WorktreeError};

use super::super::hardening::Trap;
use super::super::scratch::{Lab, write};
use super::desk::{Desk, Verb};
use super::things::on_disk;

#[tokio::test]
async fn nothing_that_a_repository_names_is_run() {
    let trap = Trap::new(0);
    let lab = &trap.lab;
    let mut desk = Desk::new(lab).await;
    let at = desk.worktree.path.clone();
    write(&at, "filtered.txt", "new raw bytes\r\n");
    write(&at, "pinned.pin", "new raw bytes\n");
    write(&at, "new.txt", "new\n");
    write(&at, "README.md", "# Edited\n");
    let before = on_disk(&lab.project);
    let pending = desk.pending().await;
    let applied = desk.order(Verb::Apply, pending).await.expect("no conflict");
    let raw = fs::read(lab.project.join("filtered.txt")).expect("a file");
    assert_eq!(raw, b"new raw bytes\r\n");
    desk.order(Verb::Rewind, applied)
        .await
        .expect("no conflict");
    assert_eq!(on_disk(&lab.project), before);
    let pending = desk.pending().await;
    desk.order(Verb::Reject, pending)
        .await
        .expect("no conflict");
    assert!(desk.pending().await.is_empty());
    assert_eq!(trap.sprung(), Vec::<String>::new());
}

#[tokio::test]
async fn rows_whose_paths_lead_out_are_refused() {
    let lab = Lab::new();
    let desk = Desk::new(&lab).await;
    write(&desk.worktree.path, "a", "agent's\n");
    let pending = desk.pending().await;
    let outside = lab.dir.path().join("out").display().to_string();
    let everything = || (on_disk(lab.dir.path()).len(), on_disk(&lab.project));
    let before = everything();
    for path in [
        "../out",
        &outside,
        "a/../../out",
        ".git/hooks/post-commit",
        ".GIT/config",
        "sub/.git/config",
        "git~1/config",
        "./a",
        "a//b",
        "",
        "\"\\057tmp\\057out\"",
    ] {
        for verb in [Verb::Apply, Verb::Reject, Verb::Rewind] {
            for is_old in [false, true] {
                let mut row = pending[0].clone();
                row.applied = vec![hearth_actors::review::Step {
                    path: path.into(),
                    from: None,
                    to: None,
                }];
                match is_old {
                    false => row.path = path.into(),
                    true => row.old_path = Some(path.into()),
                }
                let conflicts = desk.plan(verb, &[row]).await.expect_err("refused");
                assert_eq!(conflicts[0].path, path, "{verb:?}");
                assert!(conflicts[0].reason.contains("its path"), "{conflicts:?}");
            }
        }
    }
    let changed = everything();
    assert_eq!(changed.1, before.1);
}

#[tokio::test]
async fn a_link_in_the_checkout_is_not_followed() {
    let lab = Lab::new();
    let mut desk = Desk::new(&lab).await;
    let outside = lab.dir.path().join("outside");
    fs::rename(lab.project.join("src"), &outside).expect("renamed");
    symlink(&outside, lab.project.join("src")).expect("a link");
    let before = on_disk(&outside);
    let at = desk.worktree.path.clone();
    write(&at, "src/main.rs", "fn main() { evil() }\n");
    write(&at, "src/new.rs", "// new\n");
    fs::remove_file(at.join("src/lib.rs")).expect("removed");
    let pending = desk.pending().await;
    let conflicts = desk
        .order(Verb::Apply, pending)
        .await
        .expect_err("conflicts");
    assert_eq!(conflicts.len(), 2, "{conflicts:#?}");
    assert!(
        conflicts.iter().all(|c| c.reason.contains("is a link")),
        "{conflicts:#?}"
    );
    assert_eq!(on_disk(&outside), before);
}

#[tokio::test]
async fn a_worktree_swapped_for_a_link_is_not_written_to() {
    let lab = Lab::new();
    let desk = Desk::new(&lab).await;
    let at = desk.worktree.path.clone();
    write(&at, "new", "agent's\n");
    let pending = desk.pending().await;
    let plan = desk
        .plan(Verb::Reject, &pending)
        .await
        .expect("no conflict");
    write(&lab.project, "new", "agent's\n");
    fs::rename(&at, at.with_extension("away")).expect("renamed");
    symlink(&lab.project, &at).expect("a link");
    let carried = lab.port.carry_out(&plan).await;
    assert!(
        matches!(carried, Err(WorktreeError::Failed { .. })),
        "{carried:?}"
    );
    assert!(lab.project.join("new").exists());
}

#[tokio::test]
async fn what_would_be_waited_for_is_not_opened() {
    let lab = Lab::new();
    let desk = Desk::new(&lab).await;
    write(&desk.worktree.path, "pipe", "agent's\n");
    let pending = desk.pending().await;
    let fifo = |path: &Path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU);
    fifo(&lab.project.join("pipe")).expect("a FIFO");
    let conflicts = desk
        .plan(Verb::Apply, &pending)
        .await
        .expect_err("a conflict");
    assert!(conflicts[0].reason.contains("is a FIFO"), "{conflicts:?}");
    fs::remove_file(lab.project.join("pipe")).expect("removed");
    fifo(&lab.project.join(".gitattributes")).expect("a FIFO");
    let refused = lab.port.plan(&desk.work(Verb::Apply, &pending)).await;
    assert!(
        matches!(refused, Err(WorktreeError::Unusable(_))),
        "{refused:?}"
    );
}
