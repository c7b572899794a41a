//! Shadow commits: exact, and invisible to the worktree's own git.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::SystemTime;

use hearth_actors::ids::CheckpointId;
use hearth_actors::model::Worktree;
use hearth_actors::ports::Worktrees;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::making::make_executable;
use super::scratch::{Lab, commit_all, git, reference_tree, try_git, write};

/// What an own git of the worktree could notice.
fn visible_state(worktree: &Worktree, entry: &Path) -> BTreeMap<&'static str, Vec<u8>> {
    let at = &worktree.path;
    let branches = git(
        at,
        ["for-each-ref", "refs/heads", "refs/stash", "refs/tags"],
    );
    BTreeMap::from([
        ("index", fs::read(entry.join("index")).expect("an index")),
        ("HEAD", fs::read(entry.join("HEAD")).expect("a HEAD")),
        ("refs", branches.into_bytes()),
        ("stash", git(at, ["stash", "list"]).into_bytes()),
        ("status", git(at, ["status", "--porcelain"]).into_bytes()),
    ])
}

fn names(worktree: &Worktree, tree: &str) -> Vec<String> {
    let listed = git(&worktree.path, ["ls-tree", "-r", "--name-only", tree]);
    listed.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_checkpoint_is_a_commit_on_head_under_a_private_ref() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    write(&worktree.path, "agent.txt", "committed by the agent");
    commit_all(&worktree.path, "Agent");
    write(&worktree.path, "new.txt", "new");
    let id = CheckpointId::new();
    let taken = lab.port.checkpoint(&worktree, id, None).await;
    let taken = taken.expect("a checkpoint");
    assert_eq!(taken.id, id);
    let name = format!("refs/hearth/checkpoints/{id}");
    let parse = |what: String| git(&worktree.path, ["rev-parse", &what]);
    assert_eq!(parse(name.clone()), taken.commit);
    assert_eq!(parse(format!("{name}^{{tree}}")), taken.tree);
    assert_eq!(parse(format!("{name}^@")), parse("HEAD".into()));
    assert_eq!(taken.tree, reference_tree(&worktree.path));
    let again = lab.port.checkpoint(&worktree, id, None).await;
    assert_eq!(again.expect("the same id again").tree, taken.tree);
}

#[tokio::test]
async fn index_head_and_stash_stay_as_they_are() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    write(at, "README.md", "stashed");
    git(at, ["stash", "push", "-q"]);
    write(at, "src/main.rs", "staged");
    git(at, ["add", "src/main.rs"]);
    write(at, "src/main.rs", "staged, then changed again");
    fs::remove_file(at.join("src/lib.rs")).expect("removed");
    write(at, "new.txt", "untracked");
    let entry = lab.entry(&worktree);
    let before = visible_state(&worktree, &entry);
    let taken = lab.checkpoint(&worktree).await;
    lab.diff(&worktree).await;
    assert_eq!(visible_state(&worktree, &entry), before);
    assert_eq!(taken.tree, reference_tree(at));
}

#[tokio::test]
async fn a_conflicted_index_is_no_obstacle() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    git(at, ["checkout", "-qb", "other"]);
    write(at, "README.md", "theirs");
    commit_all(at, "Theirs");
    git(at, ["checkout", "-q", &worktree.branch]);
    write(at, "README.md", "ours");
    commit_all(at, "Ours");
    assert!(!try_git(at, ["merge", "-q", "other"]).status.success());
    let entry = lab.entry(&worktree);
    let before = visible_state(&worktree, &entry);
    let taken = lab.checkpoint(&worktree).await;
    assert_eq!(taken.tree, reference_tree(at));
    assert_eq!(visible_state(&worktree, &entry), before);
    let content = git(at, ["show", &format!("{}:README.md", taken.tree)]);
    assert!(content.contains("<<<<<<<"), "{content}");
}

#[tokio::test]
async fn what_the_agent_tracks_or_untracks_is_followed() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    write(at, "kept.log", "ignored");
    write(at, "target/out", "ignored");
    let clean = lab.checkpoint(&worktree).await.tree;
    assert!(!names(&worktree, &clean).contains(&"kept.log".to_owned()));

    git(at, ["add", "-f", "kept.log"]);
    let forced = lab.checkpoint(&worktree).await.tree;
    assert_eq!(forced, reference_tree(at));
    assert!(names(&worktree, &forced).contains(&"kept.log".to_owned()));

    git(at, ["rm", "-q", "--cached", "kept.log"]);
    assert_eq!(lab.checkpoint(&worktree).await.tree, clean);

    write(at, "later.txt", "intended");
    git(at, ["add", "-N", "later.txt"]);
    assert_eq!(lab.checkpoint(&worktree).await.tree, reference_tree(at));

    git(at, ["checkout", "-q", "-b", "another"]);
    git(at, ["rm", "-q", "README.md"]);
    git(at, ["commit", "-qm", "Remove"]);
    assert_eq!(lab.checkpoint(&worktree).await.tree, reference_tree(at));
}

#[tokio::test]
async fn no_flag_hides_a_file() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    git(at, ["update-index", "--assume-unchanged", "README.md"]);
    git(at, ["update-index", "--skip-worktree", "src/main.rs"]);
    write(at, "README.md", "hidden?");
    write(at, "src/main.rs", "hidden?");
    let tree = lab.checkpoint(&worktree).await.tree;
    for file in ["README.md", "src/main.rs"] {
        assert_eq!(git(at, ["show", &format!("{tree}:{file}")]), "hidden?");
    }
    assert_eq!(lab.diff(&worktree).await.changes.len(), 2);
}

#[tokio::test]
async fn a_sparse_checkout_is_not_a_mass_delete() {
    let lab = Lab::new();
    write(&lab.project, "deep/file.txt", "deep");
    commit_all(&lab.project, "Deep");
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    git(at, ["sparse-checkout", "set", "--no-cone", "/README.md"]);
    assert!(!at.join("deep/file.txt").exists());
    assert!(lab.diff(&worktree).await.changes.is_empty());
    write(at, "README.md", "edited");
    assert_eq!(lab.change(&worktree).await.path, "README.md");
}

#[tokio::test]
async fn only_files_and_links_are_recorded() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    mkfifo(&at.join("pipe"), Mode::S_IRWXU).expect("a FIFO");
    let _socket = std::os::unix::net::UnixListener::bind(at.join("socket")).expect("a socket");
    fs::remove_file(at.join("README.md")).expect("removed");
    mkfifo(&at.join("README.md"), Mode::S_IRWXU).expect("a FIFO");
    symlink("/etc/passwd", at.join("link")).expect("a link");
    symlink("nowhere", at.join("dangling")).expect("a link");
    symlink("src", at.join("folder-link")).expect("a link");
    let tree = lab.checkpoint(&worktree).await.tree;
    let listed = names(&worktree, &tree);
    for absent in ["pipe", "socket", "README.md"] {
        assert!(!listed.contains(&absent.to_owned()), "{listed:?}");
    }
    assert_eq!(git(at, ["show", &format!("{tree}:link")]), "/etc/passwd");
    let modes = git(at, ["ls-tree", &tree, "link", "dangling", "folder-link"]);
    assert_eq!(modes.matches("120000").count(), 3, "{modes}");
}

#[tokio::test]
async fn a_nested_repository_is_left_out_and_said_so() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let clean = lab.checkpoint(&worktree).await.tree;
    let nested = worktree.path.join("vendor/nested");
    fs::create_dir_all(&nested).expect("a folder");
    git(&nested, ["init", "-q"]);
    write(&nested, "inside.txt", "inside");
    let diff = lab.diff(&worktree).await;
    assert_eq!(diff.tree, clean);
    let told = diff.warnings.join("\n");
    assert!(told.contains("vendor/nested"), "{told}");
    assert!(nested.join("inside.txt").exists());
}

#[tokio::test]
async fn names_that_git_forbids_are_left_out_and_said_so() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    write(&worktree.path, "sub/git~1", "forbidden");
    write(&worktree.path, "fine.txt", "fine");
    let diff = lab.diff(&worktree).await;
    assert_eq!(diff.changes.len(), 1, "{:#?}", diff.changes);
    assert_eq!(diff.changes[0].path, "fine.txt");
    assert!(diff.warnings.join("\n").contains("git~1"));
}

#[tokio::test]
async fn an_edit_of_equal_size_and_time_is_seen() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let file = worktree.path.join("README.md");
    let mut last = lab.checkpoint(&worktree).await.tree;
    for round in 0..200_u32 {
        fs::write(&file, format!("{round:08}")).expect("written");
        let tree = lab.checkpoint(&worktree).await.tree;
        assert_ne!(tree, last, "round {round} was missed");
        last = tree;
    }
    let old = SystemTime::UNIX_EPOCH;
    let set_time = || {
        let file = fs::File::options().append(true).open(&file);
        file.and_then(|file| file.set_modified(old)).expect("set");
    };
    set_time();
    let before = lab.checkpoint(&worktree).await.tree;
    fs::write(&file, "99999999").expect("written");
    set_time();
    assert_ne!(lab.checkpoint(&worktree).await.tree, before);
}

#[tokio::test]
async fn a_prune_between_two_scans_loses_nothing() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    write(at, "new.txt", "in no commit of the agent");
    let tree = lab.diff(&worktree).await.tree;
    git(at, ["gc", "-q", "--prune=now"]);
    let taken = lab.checkpoint(&worktree).await;
    assert_eq!(taken.tree, tree);
    git(at, ["fsck", "--no-dangling", &taken.commit]);

    let name = format!("refs/hearth/trees/{}", worktree.id);
    git(at, ["update-ref", "-d", &name]);
    write(at, "other.txt", "its blob is about to go");
    let tree = lab.diff(&worktree).await.tree;
    git(at, ["update-ref", "-d", &name]);
    git(at, ["gc", "-q", "--prune=now"]);
    let taken = lab.checkpoint(&worktree).await;
    assert_eq!(taken.tree, tree, "rebuilt from the files");
    git(at, ["fsck", "--no-dangling", &taken.commit]);
}

#[tokio::test]
async fn stale_locks_and_lost_private_files_are_no_obstacle() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let id = CheckpointId::new();
    let private = lab.dir.path().join(format!("home/.index/{}", worktree.id));
    write(&worktree.path, "new.txt", "new");
    write(&private, "index.lock", "");
    write(&lab.entry(&worktree), "index.lock", "");
    let locked = format!(".git/refs/hearth/checkpoints/{id}.lock");
    write(&lab.project, &locked, "");
    let taken = lab.port.checkpoint(&worktree, id, None).await;
    let tree = taken.expect("a checkpoint").tree;
    fs::write(private.join("index"), "rubbish").expect("written");
    assert_eq!(lab.checkpoint(&worktree).await.tree, tree);
    fs::remove_file(private.join("index")).expect("removed");
    fs::remove_file(lab.entry(&worktree).join("index")).expect("removed");
    assert_eq!(lab.checkpoint(&worktree).await.tree, tree);
}

#[tokio::test]
async fn line_endings_are_stored_as_git_stores_them() {
    let lab = Lab::new();
    write(
        &lab.project,
        ".gitattributes",
        "*.crlf text eol=crlf\n*.txt text\n",
    );
    commit_all(&lab.project, "Attributes");
    let worktree = lab.worktree().await;
    write(&worktree.path, "a.crlf", "one\r\ntwo\r\n");
    write(&worktree.path, "b.txt", "one\r\ntwo\r\n");
    write(&worktree.path, "c.bin", "one\r\ntwo\r\n");
    let tree = lab.checkpoint(&worktree).await.tree;
    assert_eq!(tree, reference_tree(&worktree.path));
}

#[tokio::test]
async fn line_endings_stay_right_from_scan_to_scan() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    for (round, content) in ["a\r\nb\r\n", "a\nb\n", "a\r\n"].iter().enumerate() {
        write(at, "plain.txt", content);
        assert_eq!(lab.checkpoint(&worktree).await.tree, reference_tree(at));
        if round == 1 {
            write(at, "src/.gitattributes", "* text=auto\n");
        }
        write(at, "src/auto.txt", format!("{content}{round}\r\n"));
        assert_eq!(lab.checkpoint(&worktree).await.tree, reference_tree(at));
    }
    fs::remove_file(at.join("src/.gitattributes")).expect("removed");
    assert_eq!(lab.checkpoint(&worktree).await.tree, reference_tree(at));
    git(at, ["config", "core.autocrlf", "input"]);
    write(at, "last.txt", "a\r\nb\r\n");
    assert_eq!(lab.checkpoint(&worktree).await.tree, reference_tree(at));
}

#[tokio::test]
async fn what_is_tracked_though_ignored_may_go_and_come_back() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    write(at, "kept.log", "ignored");
    write(at, "target/deep/out", "ignored");
    git(at, ["add", "-f", "kept.log", "target/deep/out"]);
    let both = lab.checkpoint(&worktree).await.tree;
    fs::remove_file(at.join("kept.log")).expect("removed");
    fs::remove_dir_all(at.join("target")).expect("removed");
    assert_ne!(lab.checkpoint(&worktree).await.tree, both);
    write(at, "kept.log", "ignored");
    write(at, "target/deep/out", "ignored");
    write(at, "target/deep/new", "ignored");
    assert_eq!(lab.checkpoint(&worktree).await.tree, both);
    assert_eq!(both, reference_tree(at));
}

#[tokio::test]
async fn a_folder_that_becomes_a_repository_and_back_is_followed() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    write(at, "new/inside.txt", "inside");
    let inside = lab.checkpoint(&worktree).await.tree;
    git(&at.join("new"), ["init", "-q"]);
    let nested = lab.diff(&worktree).await;
    assert!(nested.warnings.join("\n").contains("new"), "{nested:?}");
    assert!(!names(&worktree, &nested.tree).contains(&"new/inside.txt".to_owned()));
    fs::remove_dir_all(at.join("new/.git")).expect("removed");
    assert_eq!(lab.checkpoint(&worktree).await.tree, inside);
    let other = at.join("nested");
    write(at, "nested/inside.txt", "inside");
    git(&other, ["init", "-q"]);
    assert_eq!(lab.checkpoint(&worktree).await.tree, inside);
    fs::remove_dir_all(other.join(".git")).expect("removed");
    assert_eq!(lab.checkpoint(&worktree).await.tree, reference_tree(at));
}

#[tokio::test]
async fn executable_bits_and_deletes_are_recorded() {
    let lab = Lab::new();
    let worktree = lab.worktree().await;
    write(&worktree.path, "run.sh", "#!/bin/sh\n");
    make_executable(&worktree.path.join("run.sh"));
    make_executable(&worktree.path.join("README.md"));
    fs::remove_dir_all(worktree.path.join("src")).expect("removed");
    let tree = lab.checkpoint(&worktree).await.tree;
    assert_eq!(tree, reference_tree(&worktree.path));
    let listed = git(&worktree.path, ["ls-tree", "-r", &tree]);
    assert_eq!(listed.matches("100755").count(), 2, "{listed}");
}
