//! Files of the checkout in worktrees, and rows that do not know of a set-up yet.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use hearth::worktrees::{GitWorktrees, WorktreesConfig};
use hearth_actors::ids::SessionId;
use hearth_actors::model::WorktreeSpec;
use hearth_actors::ports::{SetUpFiles, WorktreeError, Worktrees};
use hearth_actors::set_up::Found;

use super::scratch::{Lab, commit_all, git, write};

fn globs(globs: &[&str]) -> Vec<String> {
    globs.iter().map(|glob| (*glob).to_owned()).collect()
}

#[tokio::test]
async fn what_matches_is_copied_once_and_nothing_else() {
    let lab = Lab::new();
    for path in [
        ".env",
        ".env.local",
        "config/a.local",
        "config/deep/b.local",
        "config/c.txt",
    ] {
        write(&lab.project, path, path);
    }
    write(&lab.project, "deps/one/x.js", "x");
    write(&lab.project, "deps/nested/y.js", "y");
    git(&lab.project.join("deps/nested"), ["init", "-q"]);
    fs::set_permissions(lab.project.join(".env"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("../shared", lab.project.join("link")).unwrap();
    let worktree = lab.worktree().await;
    write(&worktree.path, ".env.local", "its own");
    let wanted = globs(&[".env*", "config/*.local", "deps", "link", "no/such", ".git"]);
    for _ in 0..2 {
        lab.port
            .begin(&worktree, &lab.project, &wanted)
            .await
            .expect("copied");
    }
    let text = |path: &str| fs::read_to_string(worktree.path.join(path)).ok();
    assert_eq!(text(".env").as_deref(), Some(".env"));
    let mode = fs::metadata(worktree.path.join(".env"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        text(".env.local").as_deref(),
        Some("its own"),
        "what is there stays"
    );
    assert_eq!(text("config/a.local").as_deref(), Some("config/a.local"));
    assert_eq!(text("deps/one/x.js").as_deref(), Some("x"));
    let link = fs::read_link(worktree.path.join("link")).unwrap();
    assert_eq!(link.to_str(), Some("../shared"));
    for path in ["config/deep", "config/c.txt", "deps/nested"] {
        assert!(!worktree.path.join(path).exists(), "{path}");
    }
    assert!(worktree.path.join(".git").is_file(), "the worktree's own");
}

/// A repository may hold a link where the copy is to go.
#[tokio::test]
async fn no_copy_leaves_the_worktree() {
    let lab = Lab::new();
    let outside = lab.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, lab.project.join("config")).unwrap();
    commit_all(&lab.project, "A link");
    fs::remove_file(lab.project.join("config")).unwrap();
    write(&lab.project, "config/secret", "secret");
    let worktree = lab.worktree().await;
    let begun = lab
        .port
        .begin(&worktree, &lab.project, &globs(&["config"]))
        .await;
    begun.expect("the rest is copied");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[tokio::test]
async fn a_row_that_does_not_know_its_baseline_moved_is_put_right() {
    let lab = Lab::new();
    let spec = lab.spec(SessionId::new());
    let row = lab.port.ensure(&spec).await.expect("a worktree");
    lab.port
        .begin(&row, &lab.project, &[])
        .await
        .expect("begun");
    write(&row.path, "made.txt", "by the set-up");
    let done = lab.port.done(&row, Some("abc")).await.expect("done");
    // Hearth ended before a turn wrote it down.
    let spec = WorktreeSpec {
        existing: Some(row),
        ..spec
    };
    let found = lab.port.ensure(&spec).await.expect("the same");
    assert_eq!(found, done);
    git(&lab.project, ["gc", "-q", "--prune=now"]);
    assert_eq!(lab.port.diff(&found).await.expect("a diff").changes, []);
}

#[tokio::test]
async fn a_worktree_that_is_made_again_is_due_and_one_of_others_never_is() {
    let lab = Lab::new();
    let spec = lab.spec(SessionId::new());
    let row = lab.port.ensure(&spec).await.expect("a worktree");
    lab.port.done(&row, Some("abc")).await.expect("done");
    fs::remove_dir_all(&row.path).unwrap();
    let spec = WorktreeSpec {
        existing: Some(row),
        ..spec
    };
    let again = lab.port.ensure(&spec).await.expect("made again");
    assert!(lab.port.is_due(&again).await.expect("an answer"));
    let entry = fs::read_to_string(again.path.join(".git")).unwrap();
    let entry = entry.trim().strip_prefix("gitdir: ").expect("an entry");
    fs::remove_file(std::path::Path::new(entry).join("hearth.json")).unwrap();
    let found = lab.port.ensure(&spec).await.expect("found");
    assert!(!lab.port.is_due(&found).await.expect("an answer"));
}

#[tokio::test]
async fn the_file_of_the_checkout_counts() {
    let lab = Lab::new();
    let file = ".hearth/worktree.toml";
    assert_eq!(lab.port.wanted(&lab.project).await, Found::Nothing);
    write(&lab.project, file, "setup = \"true\"\n");
    let Found::This(this) = lab.port.wanted(&lab.project).await else {
        panic!("a set-up");
    };
    assert_eq!(this.set_up.as_deref(), Some("true"));
    write(&lab.project, file, "setup = ");
    assert!(matches!(
        lab.port.wanted(&lab.project).await,
        Found::Wrong(_)
    ));
    write(&lab.project, file, "x".repeat(70_000));
    assert!(matches!(
        lab.port.wanted(&lab.project).await,
        Found::Wrong(_)
    ));
    fs::remove_file(lab.project.join(file)).unwrap();
    symlink("/etc/passwd", lab.project.join(file)).unwrap();
    assert!(matches!(
        lab.port.wanted(&lab.project).await,
        Found::Wrong(_)
    ));
}

#[tokio::test]
async fn a_worktree_is_not_made_where_room_is_low_and_one_that_is_there_goes_on() {
    let lab = Lab::new();
    let there = lab.worktree().await;
    let port = GitWorktrees::new(WorktreesConfig {
        min_free: u64::MAX,
        ..WorktreesConfig::new(lab.dir.path().join("home"))
    });
    let made = port.ensure(&lab.spec(SessionId::new())).await;
    let Err(WorktreeError::DiskLow {
        free_mb, least_mb, ..
    }) = made
    else {
        panic!("{made:?}");
    };
    assert!(free_mb < least_mb);
    assert_eq!(
        git(&lab.project, ["branch", "--list", "session-*"])
            .lines()
            .count(),
        1
    );
    let session = there
        .branch
        .strip_prefix("session-")
        .and_then(|id| id.parse().ok());
    let spec = WorktreeSpec {
        existing: Some(there.clone()),
        ..lab.spec(SessionId(session.expect("an id")))
    };
    assert_eq!(port.ensure(&spec).await.expect("it is there"), there);
}
