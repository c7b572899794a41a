//! Where git does not believe the permissions of files (`core.fileMode=false`),
//! neither does a review.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::super::scratch::{Lab, git, reference_tree, write};
use super::desk::{Desk, Verb};

/// As a file system does that knows no permissions.
fn open_up(at: &Path, paths: &[&str]) {
    for path in paths {
        let all = fs::Permissions::from_mode(0o777);
        fs::set_permissions(at.join(path), all).expect("set");
    }
}

fn mode(at: &Path, path: &str) -> u32 {
    let found = fs::metadata(at.join(path)).expect("there");
    found.permissions().mode() & 0o777
}

fn text(at: &Path, path: &str) -> String {
    fs::read_to_string(at.join(path)).expect("a text")
}

const TRACKED: [&str; 4] = ["README.md", "src/main.rs", "src/lib.rs", ".gitignore"];

#[tokio::test]
async fn permissions_that_git_does_not_believe_are_no_change_and_no_conflict() {
    let lab = Lab::new();
    git(&lab.project, ["config", "core.fileMode", "false"]);
    let mut desk = Desk::new(&lab).await;
    let at = desk.worktree.path.clone();
    let first = desk.checkpoint().await;
    open_up(&at, &TRACKED);
    open_up(&lab.project, &TRACKED);
    assert_eq!(desk.checkpoint().await.tree, first.tree);
    write(&at, "src/lib.rs", "//! Another.\n");
    write(&at, "run.sh", "#!/bin/sh\n");
    open_up(&at, &["run.sh"]);
    let changed = desk.checkpoint().await;
    assert_eq!(changed.tree, reference_tree(&at));
    let pending = desk.pending().await;
    let paths: Vec<_> = pending.iter().map(|row| row.path.as_str()).collect();
    assert_eq!(paths, ["run.sh", "src/lib.rs"]);
    assert!(pending.iter().all(|row| {
        row.after
            .as_ref()
            .is_some_and(|after| after.mode == 0o100_644)
    }));

    let applied = desk.order(Verb::Apply, pending).await.expect("no conflict");
    assert_eq!(text(&lab.project, "src/lib.rs"), "//! Another.\n");
    assert_eq!(mode(&lab.project, "src/lib.rs"), 0o777, "it keeps its own");
    assert!(lab.project.join("run.sh").exists());
    open_up(&lab.project, &["run.sh"]);
    desk.order(Verb::Rewind, applied)
        .await
        .expect("no conflict");
    assert!(text(&lab.project, "src/lib.rs").starts_with("//! Library."));
    assert!(!lab.project.join("run.sh").exists());

    let pending = desk.pending().await;
    assert_eq!(pending.len(), 2);
    open_up(&at, &["src/lib.rs"]);
    desk.order(Verb::Reject, pending)
        .await
        .expect("no conflict");
    assert_eq!(desk.checkpoint().await.tree, first.tree);

    for (to, library) in [(&changed, "//! Another."), (&first, "//! Library.")] {
        open_up(&at, &TRACKED);
        let plan = desk.plan_restore(to).await.expect("no conflict");
        assert_eq!(plan.steps.len(), 2);
        desk.finish(&plan).await;
        assert_eq!(desk.checkpoint().await.tree, to.tree);
        assert!(text(&at, "src/lib.rs").starts_with(library));
        assert_eq!(mode(&at, "src/lib.rs"), 0o777);
    }

    // What the repository says of a file is written where it is made anew.
    write(&at, "tool", "#!/bin/sh\n");
    git(&at, ["add", "tool"]);
    git(&at, ["update-index", "--chmod=+x", "tool"]);
    let with_tool = desk.checkpoint().await;
    assert_eq!(with_tool.tree, reference_tree(&at));
    fs::remove_file(at.join("tool")).expect("removed");
    let plan = desk.plan_restore(&with_tool).await.expect("no conflict");
    desk.finish(&plan).await;
    assert_eq!(mode(&at, "tool") & 0o100, 0o100);
    assert_eq!(desk.checkpoint().await.tree, with_tool.tree);
}
