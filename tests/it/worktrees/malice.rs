//! Repositories and files made to harm whoever looks back at them: nothing
//! runs, nothing leaves the tree, and what is wrong is told.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use git2::{ObjectType, Oid, Repository, Signature};
use hearth_actors::ids::CheckpointId;
use hearth_actors::model::Checkpoint;
use hearth_actors::ports::{Review, WorktreeError, Worktrees};
use hearth_actors::review::Planned;

use super::branching::branched;
use super::hardening::Trap;
use super::restoring::{everything, order, planned, refused, restore};
use super::scratch::{Lab, git, write};

#[tokio::test]
async fn nothing_runs_when_a_worktree_looks_or_goes_back_or_branches_off() {
    let trap = Trap::new(0);
    let lab = &trap.lab;
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    let first = lab.checkpoint(&worktree).await;
    let then = everything(at);
    write(at, "filtered.txt", "new raw bytes\r\n");
    write(at, "pinned.pin", "new raw bytes\n");
    write(at, "README.md", "# Edited\n");
    fs::remove_file(at.join(".gitattributes")).expect("removed");
    let second = lab.checkpoint(&worktree).await;
    let since = lab
        .port
        .since(&worktree, &first.commit)
        .await
        .expect("a diff");
    assert_eq!(since.changes.len(), 4, "{:#?}", since.changes);
    let between = lab
        .port
        .between(&lab.project, &first.commit, &second.commit);
    assert_eq!(between.await.expect("a diff").changes, since.changes);
    restore(lab, &worktree, &first).await;
    assert_eq!(everything(at), then, "raw bytes, unfiltered");
    restore(lab, &worktree, &second).await;
    let spec = branched(lab, &worktree, &second);
    let made = lab.port.ensure(&spec).await.expect("made");
    assert_eq!(everything(&made.path), everything(at));
    assert_eq!(trap.sprung(), Vec::<String>::new());
}

#[tokio::test]
async fn a_redirected_git_file_leads_a_restore_nowhere_else() {
    let lab = Lab::new();
    let other = Lab::new();
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    let first = lab.checkpoint(&worktree).await;
    let foreign = everything(&other.project);
    write(at, "src/main.rs", "changed\n");
    let redirect = format!("gitdir: {}\n", other.project.join(".git").display());
    write(at, ".git", &redirect);
    restore(&lab, &worktree, &first).await;
    let text = fs::read_to_string(at.join("src/main.rs")).expect("read");
    assert_eq!(text, "fn main() {}\n");
    assert_eq!(fs::read_to_string(at.join(".git")).expect("read"), redirect);
    assert_eq!(everything(&other.project), foreign);
    assert_eq!(git(&other.project, ["for-each-ref", "refs/hearth"]), "");
}

#[tokio::test]
async fn links_lead_a_restore_out_neither_before_nor_after_it_was_planned() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    let outside = lab.dir.path().join("outside");
    write(&outside, "main.rs", "outside\n");
    write(&outside, "lib.rs", "outside\n");
    let beyond = everything(&outside);
    let first = lab.checkpoint(&worktree).await;
    let then = everything(at);
    fs::remove_dir_all(at.join("src")).expect("removed");
    symlink(&outside, at.join("src")).expect("a link");
    restore(&lab, &worktree, &first).await;
    assert_eq!(
        (everything(at), everything(&outside)),
        (then, beyond.clone())
    );

    write(at, "src/main.rs", "changed\n");
    write(at, "src/later.rs", "later\n");
    let plan = planned(&lab, &worktree, &first).await;
    fs::rename(at.join("src"), at.join("aside")).expect("renamed");
    symlink(&outside, at.join("src")).expect("a link");
    let conflicts = lab.port.carry_out(&plan).await.expect("an answer");
    assert!(
        conflicts.iter().any(|one| one.reason.contains("link")),
        "{conflicts:#?}"
    );
    assert_eq!(everything(&outside), beyond);
}

/// A commit whose tree no git would make: these names, each a file with content.
fn crafted(project: &Path, names: &[&[u8]]) -> Checkpoint {
    let repo = Repository::open(project).expect("a repository");
    let blob = repo.blob(b"evil\n").expect("a blob");
    let mut names = names.to_vec();
    names.sort_unstable();
    let mut tree = Vec::new();
    for name in names {
        tree.extend_from_slice(&[b"100644 ", name, b"\0", blob.as_bytes()].concat());
    }
    commit(&repo, &tree)
}

fn commit(repo: &Repository, tree: &[u8]) -> Checkpoint {
    let odb = repo.odb().expect("objects");
    let tree = odb.write(ObjectType::Tree, tree).expect("a tree");
    let id = CheckpointId::new();
    let author = Signature::now("x", "x@localhost").expect("a name");
    let found = repo.find_tree(tree).expect("a tree");
    let name = format!("refs/hearth/checkpoints/{id}");
    let commit = repo.commit(Some(&name), &author, &author, "x", &found, &[]);
    Checkpoint {
        id,
        commit: commit.expect("a commit").to_string(),
        tree: tree.to_string(),
    }
}

/// Refused because of what the tree says.
fn is_no_name<T>(answer: Result<T, WorktreeError>) -> bool {
    match answer {
        Err(WorktreeError::Failed { source, .. }) => source.to_string().contains("no name"),
        _ => false,
    }
}

#[tokio::test]
async fn names_that_lead_out_of_the_tree_are_refused() {
    let names: [&[u8]; 7] = [
        b"..",
        b"../up",
        b".git",
        b".GIT",
        b"a/../../up",
        b"git~1",
        b"/abs",
    ];
    for name in names {
        let lab = Lab::new();
        let worktree = lab.worktree().await;
        let evil = crafted(&lab.project, &[name, b"harmless"]);
        let parent = worktree.path.parent().expect("a parent").to_owned();
        let before = everything(&parent);
        let own = fs::read(worktree.path.join(".git")).expect("read");
        let shown = String::from_utf8_lossy(name).into_owned();

        if name.contains(&b'/') {
            let planned = lab.port.plan(&order(&lab, &worktree, &evil)).await;
            assert!(is_no_name(planned), "{shown}");
            assert!(
                is_no_name(lab.port.since(&worktree, &evil.commit).await),
                "{shown}"
            );
            let made = lab.port.ensure(&branched(&lab, &worktree, &evil)).await;
            assert!(is_no_name(made), "{shown}");
            assert_eq!(everything(&parent), before, "{shown}");
            continue;
        }
        let conflicts = refused(&lab, &worktree, &evil).await;
        let told = conflicts.iter().find(|one| one.path == shown);
        let told = told.unwrap_or_else(|| panic!("{shown}: {conflicts:#?}"));
        assert!(
            told.reason.contains("does not write there"),
            "{}",
            told.reason
        );
        let since = lab
            .port
            .since(&worktree, &evil.commit)
            .await
            .expect("a diff");
        assert!(
            since.changes.iter().any(|change| change.path == shown),
            "{shown}"
        );

        let spec = branched(&lab, &worktree, &evil);
        let made = lab.port.ensure(&spec).await;
        assert!(made.is_err(), "{shown}: {made:?}");
        assert_eq!(everything(&parent), before, "{shown}");
        assert_eq!(
            fs::read(worktree.path.join(".git")).expect("read"),
            own,
            "{shown}"
        );
        assert!(!lab.dir.path().join("up").exists());
    }
}

#[tokio::test]
async fn a_tree_deeper_than_any_path_is_refused_and_not_followed_to_the_end() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let repo = Repository::open(&lab.project).expect("a repository");
    let odb = repo.odb().expect("objects");
    let blob = repo.blob(b"deep\n").expect("a blob");
    let entry = |mode: &str, id: Oid| [mode.as_bytes(), b" d\0", id.as_bytes()].concat();
    let mut tree = entry("100644", blob);
    for _ in 0..3_000 {
        let id = odb.write(ObjectType::Tree, &tree).expect("a tree");
        tree = entry("40000", id);
    }
    let evil = commit(&repo, &tree);
    let before = everything(&worktree.path);
    let planned = lab.port.plan(&order(&lab, &worktree, &evil)).await;
    let Err(WorktreeError::Failed { source, .. }) = planned else {
        panic!("must be refused");
    };
    assert!(source.to_string().contains("too long"), "{source}");
    let since = lab.port.since(&worktree, &evil.commit).await;
    assert!(matches!(since, Err(WorktreeError::Failed { .. })));
    assert_eq!(everything(&worktree.path), before);
}

#[tokio::test]
async fn content_that_is_gone_is_told_before_anything_is_written() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let repo = Repository::open(&lab.project).expect("a repository");
    let nothing = Oid::from_str(&"12".repeat(20)).expect("an id");
    let tree = [b"100644 lost\0", nothing.as_bytes()].concat();
    let evil = commit(&repo, &tree);
    let before = everything(&worktree.path);
    let conflicts = refused(&lab, &worktree, &evil).await;
    assert_eq!(conflicts.len(), 1, "{conflicts:#?}");
    assert!(conflicts[0].reason.contains("no longer in the repository"));
    assert_eq!(everything(&worktree.path), before);
}

#[tokio::test]
async fn ten_thousand_changed_files_are_listed_in_part_and_all_go_back() {
    let lab = Lab::unsynced();
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    for file in 0..5_000 {
        write(at, &format!("old/{}/{file}", file % 50), "old");
    }
    let first = lab.checkpoint(&worktree).await;
    for file in 0..5_000 {
        write(at, &format!("old/{}/{file}", file % 50), "new");
        write(at, &format!("new/{}/{file}", file % 50), "new");
    }
    let since = lab
        .port
        .since(&worktree, &first.commit)
        .await
        .expect("a diff");
    assert_eq!((since.changes.len(), since.omitted), (2_000, 8_000));
    let began = Instant::now();
    let plan = restore(&lab, &worktree, &first).await;
    assert_eq!(plan.steps.len(), 10_000);
    assert_eq!(lab.checkpoint(&worktree).await.tree, first.tree);
    assert!(!at.join("new").exists());
    assert!(
        began.elapsed() < Duration::from_secs(120),
        "{:?}",
        began.elapsed()
    );
}

/// Bytes that one process of ours may hold while it works on a huge file.
const MOST_HELD: u64 = 120 * 1024 * 1024;

/// Size of the file that the player plays with.
const HUGE_MIB: &str = "HUGE_MIB";

fn huge() -> u64 {
    let mib = std::env::var(HUGE_MIB).expect("a size");
    mib.parse::<u64>().expect("a number") * 1024 * 1024
}

/// Reading it takes 10 s where nothing is optimised.
#[test]
fn a_huge_sparse_file_is_not_held_in_memory() {
    is_not_held(256);
}

#[test]
#[ignore = "takes minutes: cargo test --test it a_file_of_1_gib -- --ignored"]
fn a_file_of_1_gib_is_not_held_in_memory() {
    is_not_held(1024);
}

fn is_not_held(mib: u64) {
    let program = std::env::current_exe().expect("this program");
    let player = "worktrees::malice::plays_with_a_huge_file";
    let done = Command::new(program)
        .args(["--exact", player, "--ignored", "--nocapture"])
        .env(HUGE_MIB, mib.to_string())
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success(),
        "{told}{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let peak = told.lines().find_map(|line| line.strip_prefix("peak "));
    let peak: u64 = peak.and_then(|peak| peak.parse().ok()).expect("a peak");
    assert!(peak < MOST_HELD, "{peak} bytes");
}

#[tokio::test]
#[ignore = "a player of the tests above, in a process of its own"]
async fn plays_with_a_huge_file() {
    let lab = Lab::unsynced();
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    let first = lab.checkpoint(&worktree).await;
    let huge = fs::File::create(at.join("huge")).expect("a file");
    huge.set_len(self::huge()).expect("sparse");
    drop(huge);
    let since = lab
        .port
        .since(&worktree, &first.commit)
        .await
        .expect("a diff");
    assert_eq!(since.changes.len(), 1);
    assert!(since.changes[0].truncated && since.changes[0].diff.len() < 1_000);
    let second = lab.checkpoint(&worktree).await;
    restore(&lab, &worktree, &first).await;
    assert!(!at.join("huge").exists());
    let back = match lab
        .port
        .plan(&order(&lab, &worktree, &second))
        .await
        .expect("an answer")
    {
        Planned::Ready(plan) => plan,
        other => panic!("{other:#?}"),
    };
    assert_eq!(lab.port.carry_out(&back).await.expect("carried out"), []);
    assert_eq!(
        fs::metadata(at.join("huge")).expect("there").len(),
        self::huge()
    );
    let status = fs::read_to_string("/proc/self/status").expect("read");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = peak
        .expect("a peak")
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number");
    println!("\npeak {}", kib * 1024);
}
