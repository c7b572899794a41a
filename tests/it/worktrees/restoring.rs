//! Worktrees brought back to a checkpoint.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use hearth_actors::ids::{ChatId, OperationId, SessionId};
use hearth_actors::model::{Checkpoint, Worktree};
use hearth_actors::ports::{Review, WorktreeError};
use hearth_actors::review::{Conflict, Order, Plan, Planned, Work};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::making::make_executable;
use super::scratch::{Lab, git, reference_tree, try_git, write};

pub(super) fn order(lab: &Lab, worktree: &Worktree, checkpoint: &Checkpoint) -> Work {
    Work {
        id: OperationId::new(),
        order: Order::Restore {
            checkpoint: checkpoint.id,
            chat: ChatId::new(),
            consent: false,
            retries: None,
        },
        session: SessionId::new(),
        worktree: worktree.clone(),
        project_path: lab.project.clone(),
        changes: Vec::new(),
        checkpoint: Some(checkpoint.clone()),
    }
}

pub(super) async fn planned(lab: &Lab, worktree: &Worktree, to: &Checkpoint) -> Plan {
    match lab
        .port
        .plan(&order(lab, worktree, to))
        .await
        .expect("planned")
    {
        Planned::Ready(plan) => plan,
        other => panic!("{other:#?}"),
    }
}

pub(super) async fn refused(lab: &Lab, worktree: &Worktree, to: &Checkpoint) -> Vec<Conflict> {
    match lab
        .port
        .plan(&order(lab, worktree, to))
        .await
        .expect("planned")
    {
        Planned::Ready(plan) => panic!("{:#?}", plan.steps),
        Planned::Refused(conflicts) => conflicts,
        Planned::AtRisk(facts) => panic!("{facts:#?}"),
    }
}

pub(super) async fn restore(lab: &Lab, worktree: &Worktree, to: &Checkpoint) -> Plan {
    let plan = planned(lab, worktree, to).await;
    let conflicts = lab.port.carry_out(&plan).await.expect("carried out");
    assert_eq!(conflicts, []);
    lab.port.settle(&plan, true).await.expect("settled");
    plan
}

/// All that is below a folder, but for git's own: type, whether it can be run,
/// and content.
pub(super) fn everything(at: &Path) -> BTreeMap<OsString, (char, bool, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![at.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("listed") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(at).expect("below").to_owned();
            if name == Path::new(".git") {
                continue;
            }
            let stat = fs::symlink_metadata(&path).expect("there");
            let runs = stat.permissions().mode() & 0o100 != 0;
            let kind = stat.file_type();
            let held = if kind.is_dir() {
                folders.push(path);
                ('d', true, Vec::new())
            } else if kind.is_symlink() {
                let target = fs::read_link(&path).expect("a link");
                ('l', true, target.as_os_str().as_bytes().to_vec())
            } else if kind.is_file() {
                ('f', runs, fs::read(&path).expect("read"))
            } else {
                ('?', true, Vec::new())
            };
            found.insert(name.into_os_string(), held);
        }
    }
    found
}

/// A person must mend that first: nothing is gained by trying again and again.
#[tokio::test]
async fn a_worktree_that_is_gone_cannot_be_taken_back_and_keeps_nothing() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let checkpoint = lab.checkpoint(&worktree).await;
    write(&worktree.path, "later.txt", "later");
    let plan = planned(&lab, &worktree, &checkpoint).await;
    assert_eq!(lab.port.carry_out(&plan).await.expect("carried out"), []);
    fs::remove_dir_all(&worktree.path).expect("removed");
    let taken = lab.port.take_back(&plan).await;
    assert!(
        matches!(taken, Err(WorktreeError::Unusable(_))),
        "{taken:?}"
    );
    fs::remove_dir_all(&lab.project).expect("removed");
    let released = lab.port.release(&lab.project, vec![plan.id]).await;
    released.expect("what is gone keeps nothing");
}

/// Files of every kind that a checkpoint holds.
fn furnish(at: &Path) {
    write(at, "text.txt", "one\ntwo\n");
    write(at, "no-newline", "end");
    write(at, "empty", "");
    write(at, "crlf.txt", "one\r\ntwo\r\n");
    write(at, "binary", [0, 255, 1, 2, 0]);
    write(at, "run.sh", "#!/bin/sh\n");
    make_executable(&at.join("run.sh"));
    write(at, "plain.sh", "#!/bin/sh\n");
    write(at, "Case.txt", "case");
    write(at, "ü/ö x.txt", "name");
    write(at, "d/e/f/deep", "deep");
    write(at, "becomes-folder", "a file");
    write(at, "becomes-file/a/b", "in a folder");
    write(at, "becomes-link", "a file");
    write(at, "moved/a", "a");
    write(at, "moved/b", "b");
    symlink("text.txt", at.join("link")).expect("a link");
    symlink("d", at.join("folder-link")).expect("a link");
    symlink("/nowhere", at.join("dangling")).expect("a link");
    fs::write(at.join(OsStr::from_bytes(b"no\xfftext")), "bytes").expect("written");
}

/// Does to them what an agent may do.
fn rearrange(at: &Path) {
    write(at, "text.txt", "one\nthree\n");
    write(at, "empty", "not empty");
    write(at, "crlf.txt", "one\ntwo\n");
    write(at, "binary", [0; 70_000]);
    fs::set_permissions(at.join("run.sh"), fs::Permissions::from_mode(0o644)).expect("chmod");
    make_executable(&at.join("plain.sh"));
    fs::rename(at.join("Case.txt"), at.join("case.txt")).expect("renamed");
    fs::remove_dir_all(at.join("ü")).expect("removed");
    fs::remove_dir_all(at.join("d")).expect("removed");
    symlink("moved", at.join("d")).expect("a link");
    fs::remove_file(at.join("becomes-folder")).expect("removed");
    write(at, "becomes-folder/x/y", "new");
    fs::remove_dir_all(at.join("becomes-file")).expect("removed");
    write(at, "becomes-file", "new");
    fs::remove_file(at.join("becomes-link")).expect("removed");
    symlink("text.txt", at.join("becomes-link")).expect("a link");
    fs::rename(at.join("moved"), at.join("moved-away")).expect("renamed");
    fs::remove_file(at.join("link")).expect("removed");
    symlink("run.sh", at.join("link")).expect("a link");
    fs::remove_file(at.join("dangling")).expect("removed");
    fs::remove_file(at.join("README.md")).expect("removed");
    fs::remove_file(at.join(OsStr::from_bytes(b"no\xfftext"))).expect("removed");
    write(at, "later/than/all", "later");
    write(at, "src/main.rs", "fn main() { later() }\n");
}

#[tokio::test]
async fn every_kind_of_file_comes_back_byte_for_byte_and_goes_again() {
    there_and_back(0).await;
}

#[tokio::test]
async fn every_kind_of_file_comes_back_among_20_000_others() {
    there_and_back(20_000).await;
}

/// Every kind of file beside `others` plain ones, of which some change too.
async fn there_and_back(others: usize) {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    furnish(at);
    for other in 0..others {
        let path = format!("others/{}/{other}", other % 200);
        write(at, &path, format!("{other}\n"));
    }
    let first = lab.checkpoint(&worktree).await;
    let then = everything(at);
    rearrange(at);
    for other in (0..others).step_by(7) {
        let path = at.join(format!("others/{}/{other}", other % 200));
        if other % 2 == 0 {
            fs::remove_file(path).expect("removed");
        } else {
            fs::write(path, "other").expect("written");
        }
    }
    git(at, ["add", "text.txt", "later"]);
    let _ = try_git(
        at,
        [
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b",
            "commit",
            "-qm",
            "agent",
        ],
    );
    git(at, ["add", "empty"]);
    let now = everything(at);
    let second = lab.checkpoint(&worktree).await;
    let entry = lab.entry(&worktree);
    let own = || {
        let index = fs::read(entry.join("index")).expect("an index");
        (
            index,
            fs::read(entry.join("HEAD")).expect("HEAD"),
            git(at, ["rev-parse", "HEAD"]),
        )
    };
    let before = own();

    let plan = restore(&lab, &worktree, &first).await;
    assert_eq!(everything(at), then);
    assert_eq!(own(), before);
    assert_eq!(lab.checkpoint(&worktree).await.tree, first.tree);
    assert_eq!(reference_tree(at), first.tree);
    assert_eq!(plan.notes, Vec::<String>::new());
    let undo = plan.undo.expect("what was there before");
    assert_eq!((undo.id.0, &undo.tree), (plan.id.0, &second.tree));
    let kept = git(
        at,
        ["rev-parse", &format!("refs/hearth/checkpoints/{}", undo.id)],
    );
    assert_eq!(kept, undo.commit);

    restore(&lab, &worktree, &undo).await;
    assert_eq!(everything(at), now);
    let nothing = restore(&lab, &worktree, &second).await;
    assert_eq!(nothing.steps, []);
}

#[tokio::test]
async fn it_can_be_taken_back_and_begun_again() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    furnish(at);
    let first = lab.checkpoint(&worktree).await;
    let then = everything(at);
    rearrange(at);
    let now = everything(at);
    let plan = planned(&lab, &worktree, &first).await;
    assert_eq!(everything(at), now, "planning writes no file");
    for _ in 0..2 {
        assert_eq!(lab.port.carry_out(&plan).await.expect("done"), []);
        assert_eq!(everything(at), then);
    }
    for _ in 0..2 {
        assert_eq!(lab.port.take_back(&plan).await.expect("done"), []);
        assert_eq!(everything(at), now);
    }
    lab.port.settle(&plan, false).await.expect("let go");
    let refs = git(at, ["for-each-ref", "--format=%(refname)", "refs/hearth"]);
    assert!(!refs.contains(&plan.id.to_string()), "{refs}");
}

#[tokio::test]
async fn what_no_checkpoint_holds_stays() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    write(at, "target/old", "ignored");
    let first = lab.checkpoint(&worktree).await;
    write(at, "target/new", "ignored");
    write(at, "src/trace.log", "ignored");
    write(at, "later/file", "goes");
    write(at, "later/trace.log", "ignored");
    write(at, "emptied/deep/file", "goes");
    mkfifo(&at.join("pipe"), Mode::from_bits_truncate(0o600)).expect("a FIFO");
    write(at, "piped/file", "goes");
    mkfifo(&at.join("piped/pipe"), Mode::from_bits_truncate(0o600)).expect("a FIFO");
    write(at, "nested/inside.txt", "another repository's");
    git(&at.join("nested"), ["init", "-q"]);
    let plan = restore(&lab, &worktree, &first).await;
    for path in [
        "target/old",
        "target/new",
        "src/trace.log",
        "later/trace.log",
        "nested/inside.txt",
    ] {
        assert!(at.join(path).is_file(), "{path}");
    }
    for path in ["pipe", "piped/pipe"] {
        assert!(at.join(path).exists(), "{path}");
    }
    for path in ["later/file", "emptied", "piped/file"] {
        assert!(!at.join(path).exists(), "{path}");
    }
    let notes = plan.notes.join("\n");
    for word in [
        "later stays",
        "later/trace.log",
        "piped/pipe",
        "nested is a repository",
    ] {
        assert!(notes.contains(word), "{word:?} is missing in: {notes}");
    }
    assert!(!notes.contains("emptied"), "{notes}");
    assert_eq!(lab.checkpoint(&worktree).await.tree, first.tree);
}

#[tokio::test]
async fn what_the_checkpoint_ignored_is_not_taken_for_later_work() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    write(at, "trace.log", "ignored then");
    let first = lab.checkpoint(&worktree).await;
    fs::remove_file(at.join(".gitignore")).expect("removed");
    write(at, "new.txt", "later");
    assert_eq!(lab.diff(&worktree).await.changes.len(), 3);
    let plan = restore(&lab, &worktree, &first).await;
    assert!(at.join("trace.log").exists() && !at.join("new.txt").exists());
    assert!(
        plan.notes.join("\n").contains("trace.log stays"),
        "{:?}",
        plan.notes
    );
    assert_eq!(lab.checkpoint(&worktree).await.tree, first.tree);
}

#[tokio::test]
async fn what_stands_in_the_way_is_named_and_nothing_is_written() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    for path in ["a", "b", "c", "e/inner", "g", "h/inner"] {
        write(at, path, "of the checkpoint");
    }
    let first = lab.checkpoint(&worktree).await;
    for path in ["a", "b", "c", "g"] {
        fs::remove_file(at.join(path)).expect("removed");
    }
    for path in ["e", "h"] {
        fs::remove_dir_all(at.join(path)).expect("removed");
    }
    write(at, ".gitignore", "target/\n*.log\na\ne\n");
    write(at, "a", "ignored now, and other content");
    write(at, "b/trace.log", "ignored");
    mkfifo(&at.join("c"), Mode::from_bits_truncate(0o600)).expect("a FIFO");
    symlink("/etc", at.join("e")).expect("a link");
    write(at, "g/inside", "another repository's");
    git(&at.join("g"), ["init", "-q"]);
    write(at, "h/inside", "another repository's");
    git(&at.join("h"), ["init", "-q"]);
    write(at, "README.md", "changed");
    let now = everything(at);
    let conflicts = refused(&lab, &worktree, &first).await;
    let told: BTreeMap<&str, &str> = conflicts
        .iter()
        .map(|conflict| (&conflict.path[..], &conflict.reason[..]))
        .collect();
    for (path, word) in [
        ("a", "ignored"),
        ("b", "ignored"),
        ("c", "FIFO"),
        ("e", "is a link"),
        ("g", "no checkpoint holds"),
        ("h", "repository of its own"),
    ] {
        let reason = told
            .get(path)
            .unwrap_or_else(|| panic!("{path}: {told:#?}"));
        assert!(
            reason.contains(word) && reason.contains("move it away"),
            "{reason}"
        );
    }
    assert_eq!(told.len(), 6, "{told:#?}");
    assert_eq!(everything(at), now);
}

#[tokio::test]
async fn a_file_that_changes_between_plan_and_writing_is_left() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    let first = lab.checkpoint(&worktree).await;
    write(at, "README.md", "of the agent");
    write(at, "src/main.rs", "of the agent");
    let plan = planned(&lab, &worktree, &first).await;
    write(at, "src/main.rs", "of somebody else");
    let conflicts = lab.port.carry_out(&plan).await.expect("an answer");
    assert_eq!(conflicts.len(), 1, "{conflicts:#?}");
    assert_eq!(conflicts[0].path, "src/main.rs");
    let read = |path: &str| fs::read_to_string(at.join(path)).expect("read");
    assert_eq!(
        (&read("README.md")[..], &read("src/main.rs")[..]),
        ("of the agent", "of somebody else")
    );
}

#[tokio::test]
async fn submodules_are_left_alone_and_said_so() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    let first = lab.checkpoint(&worktree).await;
    let head = git(at, ["rev-parse", "HEAD"]);
    let entry = format!("160000,{head},sub");
    git(at, ["update-index", "--add", "--cacheinfo", &entry]);
    fs::create_dir(at.join("sub")).expect("a folder");
    write(at, "new.txt", "later");
    let plan = restore(&lab, &worktree, &first).await;
    assert!(at.join("sub").is_dir() && !at.join("new.txt").exists());
    assert!(
        plan.notes.join("\n").contains("sub stays"),
        "{:?}",
        plan.notes
    );
}

#[tokio::test]
async fn a_checkpoint_whose_commit_is_gone_is_told() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let mut gone = lab.checkpoint(&worktree).await;
    gone.commit = "12".repeat(20);
    let planned = lab.port.plan(&order(&lab, &worktree, &gone)).await;
    let Err(WorktreeError::Unusable(text)) = planned else {
        panic!("{planned:?}");
    };
    assert!(text.contains(&gone.commit), "{text}");
}

#[tokio::test]
async fn endless_rules_on_either_side_are_no_obstacle() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    write(at, ".gitignore", "\x0c\n*.log\n");
    let first = lab.checkpoint(&worktree).await;
    let then = everything(at);
    write(at, ".gitignore", "!\x0b\ntarget/\n");
    write(at, "src/.gitignore", "/\x0b\n");
    write(at, "src/new.rs", "new");
    restore(&lab, &worktree, &first).await;
    assert_eq!(everything(at), then);
}
