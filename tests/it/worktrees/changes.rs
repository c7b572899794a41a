//! One change a file, exact in what it records and bounded in what it shows.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use hearth::worktrees::{MAX_FILES, MAX_PATCH, MAX_PATCHES};
use hearth_actors::model::{Operation, Worktree};

use super::making::make_executable;
use super::scratch::{Lab, commit_all, git, try_git, write};

#[tokio::test]
async fn a_created_an_edited_and_a_deleted_file() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    write(at, "new.txt", "new\n");
    write(at, "README.md", "# Edited\n");
    fs::remove_file(at.join("src/main.rs")).expect("removed");
    let diff = lab.diff(&worktree).await;
    let [edited, created, deleted] = &diff.changes[..] else {
        panic!("{:#?}", diff.changes);
    };
    assert_eq!(diff.tree, lab.checkpoint(&worktree).await.tree);
    assert_eq!((diff.omitted, diff.warnings.len()), (0, 0));

    assert_eq!(created.path, "new.txt");
    assert_eq!(created.operation, Operation::Create);
    assert!(created.before.is_none());
    let after = created.after.as_ref().expect("a blob");
    assert_eq!((after.mode, after.size), (0o100_644, 4));
    assert_eq!(git(at, ["cat-file", "blob", &after.id]), "new");
    assert!(created.diff.contains("+new\n"), "{}", created.diff);

    assert_eq!(edited.path, "README.md");
    assert_eq!(edited.operation, Operation::Edit);
    assert!(edited.diff.contains("-# Project\n+# Edited\n"));
    let before = edited.before.as_ref().expect("a blob");
    assert_eq!(before.id, git(at, ["rev-parse", "HEAD:README.md"]));

    assert_eq!(deleted.path, "src/main.rs");
    assert_eq!(deleted.operation, Operation::Delete);
    assert!(deleted.after.is_none() && deleted.before.is_some());
    assert!(diff.changes.iter().all(|c| !c.binary && !c.truncated));
    assert!(
        diff.changes
            .iter()
            .all(|c| !c.secret && c.old_path.is_none())
    );
}

#[tokio::test]
async fn a_commit_of_the_agent_changes_nothing_in_the_diff() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    write(&worktree.path, "new.txt", "new\n");
    let before = lab.diff(&worktree).await;
    commit_all(&worktree.path, "Agent");
    assert_eq!(lab.diff(&worktree).await, before);
}

#[tokio::test]
async fn the_patches_apply_with_git() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    write(at, "new.txt", "new, no newline at its end");
    write(at, "README.md", "# Edited\n");
    write(at, "small.bin", [0, 1, 2, 255]);
    make_executable(&at.join("src/main.rs"));
    symlink("README.md", at.join("link")).expect("a link");
    fs::rename(at.join("src/lib.rs"), at.join("src/moved.rs")).expect("renamed");
    let diff = lab.diff(&worktree).await;
    let patch: String = diff.changes.iter().map(|c| c.diff.as_str()).collect();
    let file = lab.dir.path().join("all.patch");
    fs::write(&file, patch).expect("written");
    git(
        &lab.project,
        ["apply", "--index", &file.display().to_string()],
    );
    assert_eq!(git(&lab.project, ["write-tree"]), diff.tree);
}

#[tokio::test]
async fn a_rename_is_an_edit_with_its_old_path() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    let long: String = (0..50).map(|n| format!("line {n}\n")).collect();
    write(at, "README.md", &long);
    commit_all(at, "Long");
    let mut moved = worktree.clone();
    moved.baseline = git(at, ["rev-parse", "HEAD"]);
    fs::rename(at.join("README.md"), at.join("docs.md")).expect("renamed");
    write(at, "docs.md", long.replace("line 7\n", "line seven\n"));
    let change = lab.change(&moved).await;
    assert_eq!(change.path, "docs.md");
    assert_eq!(change.old_path.as_deref(), Some("README.md"));
    assert_eq!(change.operation, Operation::Edit);
    assert!(change.diff.contains("rename from README.md"));
    assert!(change.diff.contains("+line seven"));
}

#[tokio::test]
async fn a_file_that_became_a_link_is_no_part_of_a_rename() {
    let lab = Lab::new();
    let at = &lab.project;
    write(at, "program", "#!/bin/sh\necho one two three four\n");
    for link in ["deleted", "edited"] {
        symlink("a-long-target/of-a-link/0", at.join(link)).expect("a link");
    }
    commit_all(at, "Links");
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    for path in ["program", "deleted", "edited"] {
        fs::remove_file(at.join(path)).expect("removed");
    }
    symlink("a-long-target/of-a-link/1", at.join("program")).expect("a link");
    write(at, "edited", "#!/bin/sh\necho one two three five\n");
    write(at, "new", "#!/bin/sh\necho one two three six\n");
    let changes = lab.diff(&worktree).await.changes;
    let told: Vec<_> = changes.iter().map(|c| (&c.path[..], c.operation)).collect();
    assert_eq!(
        told,
        [
            ("deleted", Operation::Delete),
            ("edited", Operation::Edit),
            ("new", Operation::Create),
            ("program", Operation::Edit),
        ]
    );
    for change in changes {
        assert_eq!(change.old_path, None);
        let before = change.before.map(|side| side.id);
        let there = [
            "rev-parse",
            "-q",
            "--verify",
            &format!("HEAD:{}", change.path),
        ];
        let there = try_git(at, there);
        let there = String::from_utf8_lossy(&there.stdout).trim().to_owned();
        assert_eq!(before.unwrap_or_default(), there, "{}", change.path);
    }
}

#[tokio::test]
async fn modes_links_and_type_changes() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    make_executable(&at.join("src/main.rs"));
    fs::remove_file(at.join("README.md")).expect("removed");
    symlink("src/lib.rs", at.join("README.md")).expect("a link");
    fs::remove_file(at.join("src/lib.rs")).expect("removed");
    write(at, "src/lib.rs/mod.rs", "a folder took the file's place");
    let changes = lab.diff(&worktree).await.changes;
    let modes: Vec<_> = changes
        .iter()
        .map(|c| {
            let mode = |side: &Option<hearth_actors::model::BlobRef>| side.as_ref().map(|s| s.mode);
            (c.path.as_str(), mode(&c.before), mode(&c.after))
        })
        .collect();
    let (file, program, link) = (Some(0o100_644), Some(0o100_755), Some(0o120_000));
    assert_eq!(
        modes,
        [
            ("README.md", file, link),
            ("src/lib.rs", file, None),
            ("src/lib.rs/mod.rs", None, file),
            ("src/main.rs", file, program),
        ]
    );
    assert!(changes[3].diff.contains("new mode 100755"));
}

#[tokio::test]
async fn a_small_binary_is_a_patch_and_a_big_one_hash_and_size() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    write(&worktree.path, "small.bin", [0, 1, 2, 255]);
    let noise: Vec<u8> = {
        let mut random = fastrand_like(7);
        (0..200 * 1024).map(|_| random()).collect()
    };
    write(&worktree.path, "big.bin", noise);
    write(&worktree.path, "huge.txt", "text\n".repeat(300_000));
    let changes = lab.diff(&worktree).await.changes;
    let [big, huge, small] = &changes[..] else {
        panic!("{changes:#?}");
    };
    assert!(small.binary && !small.truncated);
    assert!(small.diff.contains("GIT binary patch"), "{}", small.diff);
    for left_out in [big, huge] {
        let after = left_out.after.as_ref().expect("a blob");
        assert!(left_out.truncated);
        assert!(left_out.diff.contains(&after.id), "{}", left_out.diff);
        assert!(left_out.diff.contains(&format!("{} bytes", after.size)));
        assert!(left_out.diff.len() < 200);
    }
    assert!(big.binary);
}

/// Bytes that do not compress, the same on every run.
fn fastrand_like(mut state: u64) -> impl FnMut() -> u8 {
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    }
}

#[tokio::test]
async fn patches_are_capped_each_and_together() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let long = "a line of an agent that talks a lot\n".repeat(4_000);
    for file in 0..80 {
        write(&worktree.path, &format!("long/{file:03}.txt"), &long);
    }
    let changes = lab.diff(&worktree).await.changes;
    assert_eq!(changes.len(), 80);
    assert!(changes.iter().all(|change| change.truncated));
    assert!(changes.iter().all(|change| change.after.is_some()));
    assert!(changes[0].diff.len() > MAX_PATCH / 2);
    assert!(changes[0].diff.ends_with('\n'));
    let all: usize = changes.iter().map(|change| change.diff.len()).sum();
    assert!(changes.iter().all(|change| change.diff.len() <= MAX_PATCH));
    let summaries = 200 * changes.len();
    assert!(all <= MAX_PATCHES + summaries, "{all}");
    assert!(all > MAX_PATCHES / 2, "{all}");
}

#[tokio::test]
async fn files_beyond_the_cap_are_counted() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    for file in 0..MAX_FILES + 25 {
        write(&worktree.path, &format!("many/{file:05}"), "x");
    }
    let diff = lab.diff(&worktree).await;
    assert_eq!((diff.changes.len(), diff.omitted), (MAX_FILES, 25));
    assert!(diff.changes.is_sorted_by_key(|change| change.path.clone()));
}

#[tokio::test]
async fn secrets_are_path_and_hash_only() {
    let lab = Lab::new();
    write(&lab.project, "deploy.pem", "PRIVATE ONE\n".repeat(20));
    commit_all(&lab.project, "A secret");
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    write(at, ".env", "TOKEN=PRIVATE TWO\n");
    fs::rename(at.join("deploy.pem"), at.join("plain.txt")).expect("renamed");
    let changes = lab.diff(&worktree).await.changes;
    assert_eq!(changes.len(), 2, "{changes:#?}");
    for change in &changes {
        assert!(change.secret, "{change:#?}");
        assert_eq!(change.diff, "");
        assert!(!change.after.as_ref().expect("a blob").id.is_empty());
    }
    assert!(!format!("{changes:?}").contains("PRIVATE"));
}

#[tokio::test]
async fn a_path_that_is_no_text_is_quoted() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let name = OsStr::from_bytes(b"caf\xe9.txt");
    fs::write(worktree.path.join(name), "latin 1").expect("written");
    assert_eq!(lab.change(&worktree).await.path, r#""caf\351.txt""#);
}

#[tokio::test]
async fn a_submodule_is_no_change() {
    let lab = Lab::new();
    let other = Lab::new();
    let url = other.project.display().to_string();
    let allow = "protocol.file.allow=always";
    git(
        &lab.project,
        ["-c", allow, "submodule", "add", "-q", &url, "sub"],
    );
    commit_all(&lab.project, "Submodule");
    let worktree = lab.worktree().await;
    assert!(lab.diff(&worktree).await.changes.is_empty());
    git(
        &worktree.path,
        ["-c", allow, "submodule", "update", "-q", "--init"],
    );
    write(&worktree.path, "sub/README.md", "edited inside");
    assert!(lab.diff(&worktree).await.changes.is_empty());
}

#[tokio::test]
async fn a_moved_baseline_shows_only_new_work() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    write(&worktree.path, "applied.txt", "applied");
    let baseline = lab.checkpoint(&worktree).await.commit;
    let applied = Worktree {
        baseline,
        ..worktree
    };
    assert!(lab.diff(&applied).await.changes.is_empty());
    write(&applied.path, "new.txt", "new");
    assert_eq!(lab.change(&applied).await.path, "new.txt");
}
