//! Kinds of files and of repositories, and what is told of them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hearth_actors::ports::Review;

use super::super::making::make_executable;
use super::super::scratch::{Lab, commit_all, git, write};
use super::desk::{Desk, Verb};
use super::things::on_disk;

fn lines(changed: &[(usize, &str)]) -> String {
    let line = |n: usize| {
        let changed = changed.iter().find(|(line, _)| *line == n);
        changed.map_or(format!("line {n}\n"), |(_, text)| format!("{text}\n"))
    };
    (1..=30).map(line).collect()
}

fn read(at: &Path, path: &str) -> String {
    fs::read_to_string(at.join(path)).expect("a file")
}

/// A lab whose project holds these files.
fn lab(files: &[(&str, &str)]) -> Lab {
    let lab = Lab::new();
    for (path, content) in files {
        write(&lab.project, path, content);
    }
    if !files.is_empty() {
        commit_all(&lab.project, "Files");
    }
    lab
}

#[tokio::test]
async fn edits_on_both_sides_come_together_and_apart_again() {
    let lab = lab(&[("text", &lines(&[]))]);
    let mut desk = Desk::new(&lab).await;
    write(&desk.worktree.path, "text", lines(&[(3, "agent's")]));
    make_executable(&desk.worktree.path.join("text"));
    let mine = lines(&[(20, "mine")]);
    write(&lab.project, "text", &mine);
    let pending = desk.pending().await;
    let applied = desk.order(Verb::Apply, pending).await.expect("no conflict");
    assert_eq!(
        read(&lab.project, "text"),
        lines(&[(3, "agent's"), (20, "mine")])
    );
    let mode = |at: &Path| {
        fs::metadata(at.join("text"))
            .expect("there")
            .permissions()
            .mode()
    };
    assert_ne!(mode(&lab.project) & 0o100, 0);
    assert!(desk.pending().await.is_empty());
    desk.order(Verb::Rewind, applied)
        .await
        .expect("no conflict");
    assert_eq!(read(&lab.project, "text"), mine);
    assert_eq!(mode(&lab.project) & 0o100, 0);
    assert_eq!(desk.pending().await.len(), 1);
}

#[tokio::test]
async fn a_conflict_names_the_lines_and_writes_nothing() {
    let lab = lab(&[("text", &lines(&[])), ("other", "other\n")]);
    let mut desk = Desk::new(&lab).await;
    write(
        &desk.worktree.path,
        "text",
        lines(&[(3, "agent's"), (25, "agent's")]),
    );
    write(&desk.worktree.path, "other", "agent's\n");
    write(
        &lab.project,
        "text",
        lines(&[(3, "mine\nand more"), (20, "mine")]),
    );
    let before = on_disk(&lab.project);
    let pending = desk.pending().await;
    let text = pending[1].id;
    let conflicts = desk
        .order(Verb::Apply, pending)
        .await
        .expect_err("a conflict");
    assert_eq!(conflicts.len(), 1, "{conflicts:?}");
    assert_eq!(conflicts[0].path, "text");
    assert_eq!(conflicts[0].change, Some(text));
    assert_eq!(conflicts[0].hunks, [(3, 2)]);
    assert_eq!(on_disk(&lab.project), before);
}

#[tokio::test]
async fn a_rename_takes_the_edits_of_the_checkout_along() {
    let lab = lab(&[("old/name", &lines(&[]))]);
    let mut desk = Desk::new(&lab).await;
    let at = desk.worktree.path.clone();
    fs::remove_dir_all(at.join("old")).expect("removed");
    write(&at, "new/name", lines(&[(3, "agent's")]));
    write(&lab.project, "old/name", lines(&[(20, "mine")]));
    let pending = desk.pending().await;
    assert_eq!(pending[0].old_path.as_deref(), Some("old/name"));
    let applied = desk.order(Verb::Apply, pending).await.expect("no conflict");
    assert_eq!(
        read(&lab.project, "new/name"),
        lines(&[(3, "agent's"), (20, "mine")])
    );
    assert!(!lab.project.join("old").exists());
    assert!(desk.pending().await.is_empty());
    desk.order(Verb::Rewind, applied)
        .await
        .expect("no conflict");
    assert_eq!(read(&lab.project, "old/name"), lines(&[(20, "mine")]));
    assert!(!lab.project.join("new").exists());
    let pending = desk.pending().await;
    desk.order(Verb::Reject, pending)
        .await
        .expect("no conflict");
    assert_eq!(read(&at, "old/name"), lines(&[]));
    assert!(!at.join("new").exists());
}

#[tokio::test]
async fn line_ends_are_those_of_the_checkout() {
    let lab = lab(&[
        (".gitattributes", "*.txt text eol=crlf\n"),
        ("a.txt", &lines(&[])),
    ]);
    let crlf = |text: String| text.replace('\n', "\r\n");
    let mut desk = Desk::new(&lab).await;
    // As git would check it out, with an edit; the agent's tools write plain ends.
    let mine = crlf(lines(&[(20, "mine")]));
    write(&lab.project, "a.txt", &mine);
    write(&desk.worktree.path, "a.txt", lines(&[(3, "agent's")]));
    write(&desk.worktree.path, "new.txt", "new\n");
    let pending = desk.pending().await;
    let applied = desk.order(Verb::Apply, pending).await.expect("no conflict");
    let both = crlf(lines(&[(3, "agent's"), (20, "mine")]));
    assert_eq!(read(&lab.project, "a.txt"), both);
    assert_eq!(read(&lab.project, "new.txt"), "new\r\n");
    assert!(desk.pending().await.is_empty());
    desk.order(Verb::Rewind, applied)
        .await
        .expect("no conflict");
    assert_eq!(read(&lab.project, "a.txt"), mine);
    let pending = desk.pending().await;
    desk.order(Verb::Reject, pending)
        .await
        .expect("no conflict");
    assert_eq!(read(&desk.worktree.path, "a.txt"), crlf(lines(&[])));
    assert_eq!(
        git(&lab.project, ["ls-files", "-o", "--exclude-standard"]),
        ""
    );
}

/// What `git lfs` leaves: pointers in the repository and in worktrees that no
/// filter wrote, content in the checkout.
#[tokio::test]
async fn what_a_filter_made_of_a_file_is_not_merged() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n";
    let lab = lab(&[
        (".gitattributes", "*.bin filter=lfs -text\n"),
        ("a.bin", pointer),
    ]);
    let mut desk = Desk::new(&lab).await;
    write(&lab.project, "a.bin", "content");
    write(&desk.worktree.path, "a.bin", "agent's content");
    write(&desk.worktree.path, "new.bin", "new\r\ncontent");
    let pending = desk.pending().await;
    let conflicts = desk
        .order(Verb::Apply, pending.clone())
        .await
        .expect_err("a conflict");
    assert_eq!(conflicts.len(), 1, "{conflicts:?}");
    assert_eq!(conflicts[0].path, "a.bin");
    assert!(conflicts[0].reason.contains("filter"), "{conflicts:?}");
    desk.order(Verb::Apply, vec![pending[1].clone()])
        .await
        .expect("no conflict");
    assert_eq!(read(&lab.project, "new.bin"), "new\r\ncontent");
    assert_eq!(read(&lab.project, "a.bin"), "content");
}

#[tokio::test]
async fn any_name_that_git_allows() {
    let lab = lab(&[]);
    let mut desk = Desk::new(&lab).await;
    let names: [&[u8]; 5] = [
        b"\"quoted\"",
        b"not \xff text",
        b"new\nline",
        b"back\\slash",
        b"\"\xff\"",
    ];
    let put = |at: &Path| {
        for name in names {
            fs::write(at.join(OsStr::from_bytes(name)), name).expect("written");
        }
    };
    let has = |at: &Path| {
        let there = |name: &&&[u8]| {
            fs::read(at.join(OsStr::from_bytes(name))).is_ok_and(|content| content == **name)
        };
        names.iter().filter(there).count()
    };
    put(&desk.worktree.path);
    let pending = desk.pending().await;
    assert_eq!(pending.len(), 5);
    let applied = desk.order(Verb::Apply, pending).await.expect("no conflict");
    assert_eq!(has(&lab.project), 5);
    desk.order(Verb::Rewind, applied)
        .await
        .expect("no conflict");
    assert_eq!(has(&lab.project), 0);
    let pending = desk.pending().await;
    desk.order(Verb::Reject, pending)
        .await
        .expect("no conflict");
    assert_eq!(has(&desk.worktree.path), 0);
}

#[tokio::test]
async fn index_and_head_stay_as_they_are() {
    let lab = lab(&[("staged", "one\n"), ("gone", "one\n")]);
    let mut desk = Desk::new(&lab).await;
    write(&lab.project, "staged", "staged\n");
    git(&lab.project, ["add", "staged"]);
    git(&lab.project, ["rm", "-q", "--cached", "gone"]);
    write(&desk.worktree.path, "new", "new\n");
    fs::remove_file(desk.worktree.path.join("gone")).expect("removed");
    let index = |at: &Path| fs::read(at.join("index")).expect("an index");
    let entry = lab.entry(&desk.worktree);
    let before = (index(&lab.project.join(".git")), index(&entry));
    let head = git(&lab.project, ["rev-parse", "HEAD"]);
    let pending = desk.pending().await;
    let applied = desk.order(Verb::Apply, pending).await.expect("no conflict");
    assert!(!lab.project.join("gone").exists());
    desk.order(Verb::Rewind, applied)
        .await
        .expect("no conflict");
    let pending = desk.pending().await;
    desk.order(Verb::Reject, pending)
        .await
        .expect("no conflict");
    assert_eq!((index(&lab.project.join(".git")), index(&entry)), before);
    assert_eq!(git(&lab.project, ["rev-parse", "HEAD"]), head);
    assert_eq!(
        git(&lab.project, ["symbolic-ref", "HEAD"]),
        "refs/heads/main"
    );
}

#[tokio::test]
async fn what_an_operation_needs_outlives_git_gc() {
    let lab = lab(&[("a", "one\n")]);
    let mut desk = Desk::new(&lab).await;
    let gc = || {
        git(
            &lab.project,
            ["-c", "gc.reflogExpire=now", "gc", "-q", "--prune=now"],
        )
    };
    write(&desk.worktree.path, "a", "two\n");
    let pending = desk.pending().await;
    write(&lab.project, "a", "one\n");
    let plan = desk.plan(Verb::Apply, &pending).await.expect("no conflict");
    // The agent goes on, so that nothing else names its file.
    write(&desk.worktree.path, "a", "three\n");
    desk.pending().await;
    gc();
    desk.finish(&plan).await;
    assert_eq!(read(&lab.project, "a"), "two\n");
    gc();
    let mut applied = pending;
    applied[0].applied = plan.accounts[0].1.clone();
    desk.order(Verb::Rewind, applied)
        .await
        .expect("no conflict");
    assert_eq!(read(&lab.project, "a"), "one\n");
    gc();
    let refs = git(
        &lab.project,
        ["for-each-ref", "--format=%(refname)", "refs/hearth"],
    );
    let baseline = format!("refs/hearth/baselines/{}", desk.worktree.id);
    assert!(refs.lines().any(|name| name == baseline), "{refs}");
    let parent = git(&lab.project, ["rev-parse", &format!("{baseline}^")]);
    assert_eq!(parent, plan.baseline);
    let abandoned = {
        let pending = desk.pending().await;
        desk.plan(Verb::Apply, &pending).await.expect("no conflict")
    };
    let name = format!("refs/hearth/operations/{}", abandoned.id);
    assert!(!git(&lab.project, ["rev-parse", &name]).is_empty());
    lab.port.settle(&abandoned, false).await.expect("settled");
    let refs = git(
        &lab.project,
        ["for-each-ref", "--format=%(refname)", "refs/hearth"],
    );
    assert!(!refs.contains(&name), "{refs}");
}

#[tokio::test]
async fn what_is_in_the_way_is_named_and_stays() {
    let lab = lab(&[]);
    let mut desk = Desk::new(&lab).await;
    let at = desk.worktree.path.clone();
    for path in [
        "untracked",
        "folder",
        "vendor/inner",
        "file/inner",
        "build.txt",
    ] {
        write(&at, path, "agent's\n");
    }
    write(&lab.project, ".git/info/exclude", "build.txt\n");
    // Ignored here for the worktree's scan too, unless it is tracked there.
    git(&at, ["add", "-f", "build.txt"]);
    write(&lab.project, "untracked", "mine\n");
    write(&lab.project, "build.txt", "mine, ignored\n");
    write(&lab.project, "folder/mine", "mine\n");
    write(&lab.project, "file", "mine\n");
    super::super::scratch::init(&lab.project.join("vendor"));
    let before = on_disk(&lab.project);
    let pending = desk.pending().await;
    assert_eq!(pending.len(), 5);
    let conflicts = desk
        .order(Verb::Apply, pending)
        .await
        .expect_err("conflicts");
    let mut told: Vec<&str> = conflicts
        .iter()
        .map(|conflict| &conflict.path[..])
        .collect();
    told.sort_unstable();
    assert_eq!(
        told,
        ["build.txt", "file", "folder", "untracked", "vendor"],
        "{conflicts:#?}"
    );
    assert!(conflicts.iter().all(|conflict| conflict.change.is_some()));
    assert_eq!(on_disk(&lab.project), before);
}

#[tokio::test]
async fn names_that_differ_by_case_alone() {
    let lab = lab(&[("Read.me", &lines(&[]))]);
    let mut desk = Desk::new(&lab).await;
    let at = desk.worktree.path.clone();
    fs::rename(at.join("Read.me"), at.join("read.me")).expect("renamed");
    write(&at, "notes", "agent's\n");
    write(&lab.project, "Notes", "mine\n");
    let pending = desk.pending().await;
    // A repository on a file system that takes both for one.
    git(&lab.project, ["config", "core.ignoreCase", "true"]);
    let conflicts = desk
        .plan(Verb::Apply, &pending)
        .await
        .expect_err("conflicts");
    let told: Vec<&str> = conflicts
        .iter()
        .map(|conflict| &conflict.path[..])
        .collect();
    assert_eq!(told, ["notes", "read.me"], "{conflicts:#?}");
    git(&lab.project, ["config", "core.ignoreCase", "false"]);
    desk.order(Verb::Apply, pending).await.expect("no conflict");
    assert_eq!(read(&lab.project, "read.me"), lines(&[]));
    assert!(!lab.project.join("Read.me").exists());
    assert_eq!(read(&lab.project, "Notes"), "mine\n");
}
