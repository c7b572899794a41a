//! Making worktrees, and what is made of what a crash leaves behind.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use futures::future::join_all;
use hearth::worktrees::{GitWorktrees, WorktreesConfig, worktree_path};
use hearth_actors::ids::{SessionId, WorktreeId};
use hearth_actors::model::{Worktree, WorktreeSpec};
use hearth_actors::ports::{WorktreeError, Worktrees};

use super::scratch::{Lab, commit_all, git, write};

fn with_row(lab: &Lab, session: SessionId, row: &Worktree) -> WorktreeSpec {
    WorktreeSpec {
        existing: Some(row.clone()),
        ..lab.spec(session)
    }
}

/// git sees a sound, clean worktree on the session's branch.
fn assert_sound(worktree: &Worktree) {
    let at = &worktree.path;
    assert_eq!(git(at, ["branch", "--show-current"]), worktree.branch);
    assert_eq!(git(at, ["status", "--porcelain"]), "");
    assert_eq!(git(at, ["worktree", "prune", "-v", "-n"]), "");
    let listed = git(at, ["worktree", "list", "--porcelain"]);
    let lines: Vec<&str> = listed.lines().collect();
    let line = format!("worktree {}", at.display());
    assert!(lines.contains(&line.as_str()), "{listed}");
    assert!(!listed.contains("locked"), "{listed}");
    git(at, ["fsck", "--no-dangling"]);
}

fn unusable(result: Result<Worktree, WorktreeError>) -> String {
    match result {
        Err(WorktreeError::Unusable(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_session_gets_a_worktree_on_its_own_branch() {
    let lab = Lab::new();
    let session = SessionId::new();
    let worktree = lab.port.ensure(&lab.spec(session)).await.expect("made");
    let home = lab.dir.path().join("home");
    assert_eq!(worktree.path, worktree_path(&home, lab.id, session));
    assert_eq!(worktree.branch, format!("session-{session}"));
    assert_eq!(
        worktree.base_commit,
        git(&lab.project, ["rev-parse", "HEAD"])
    );
    assert_sound(&worktree);
    let readme = fs::read_to_string(worktree.path.join("README.md"));
    assert_eq!(readme.expect("a file"), "# Project\n");
}

#[tokio::test]
async fn a_dirty_project_is_left_alone_and_its_head_is_used() {
    let lab = Lab::new();
    write(&lab.project, "README.md", "dirty");
    let worktree = lab.worktree().await;
    assert_sound(&worktree);
    let dirty = fs::read_to_string(lab.project.join("README.md"));
    assert_eq!(dirty.expect("a file"), "dirty");
}

#[tokio::test]
async fn a_row_elsewhere_is_used_at_exactly_its_path() {
    let lab = Lab::new();
    let path = lab.dir.path().join("elsewhere/adopted");
    git(
        &lab.project,
        [
            "worktree",
            "add",
            "-q",
            "-b",
            "mine",
            &path.display().to_string(),
        ],
    );
    let head = git(&lab.project, ["rev-parse", "HEAD"]);
    let row = Worktree {
        id: WorktreeId::new(),
        path: path.clone(),
        branch: "mine".into(),
        base_commit: head.clone(),
        baseline: head,
    };
    let spec = with_row(&lab, SessionId::new(), &row);
    assert_eq!(lab.port.ensure(&spec).await.expect("adopted"), row);
    write(&path, "new.txt", "new");
    assert_eq!(lab.change(&row).await.path, "new.txt");
    fs::remove_dir_all(&path).expect("removed");
    assert_eq!(lab.port.ensure(&spec).await.expect("made again"), row);
    assert_sound(&row);
}

#[tokio::test]
async fn a_vanished_worktree_comes_back_from_its_branch() {
    let lab = Lab::new();
    let session = SessionId::new();
    let row = lab.port.ensure(&lab.spec(session)).await.expect("made");
    write(&row.path, "work.txt", "committed work");
    commit_all(&row.path, "Work");
    fs::remove_dir_all(&row.path).expect("removed");
    let gone = lab.port.diff(&row).await.expect_err("no files");
    assert!(gone.to_string().contains("is gone"), "{gone}");
    let spec = with_row(&lab, session, &row);
    let again = lab.port.ensure(&spec).await.expect("made again");
    assert_eq!(again, row);
    assert_sound(&row);
    assert!(row.path.join("work.txt").exists());
    assert_eq!(lab.change(&row).await.path, "work.txt");
}

#[tokio::test]
async fn a_pruned_entry_and_a_lost_branch_cost_no_files() {
    let lab = Lab::new();
    let session = SessionId::new();
    let row = lab.port.ensure(&lab.spec(session)).await.expect("made");
    write(&row.path, "README.md", "edited by the agent");
    write(&row.path, "new.txt", "new");
    let before = lab.checkpoint(&row).await.tree;
    fs::remove_dir_all(lab.entry(&row)).expect("removed");
    git(&lab.project, ["branch", "-D", &row.branch]);
    let spec = with_row(&lab, session, &row);
    assert_eq!(lab.port.ensure(&spec).await.expect("repaired"), row);
    assert_eq!(lab.checkpoint(&row).await.tree, before);
    assert_eq!(git(&row.path, ["branch", "--show-current"]), row.branch);
}

#[tokio::test]
async fn a_lost_git_file_is_put_back() {
    let lab = Lab::new();
    let session = SessionId::new();
    let row = lab.port.ensure(&lab.spec(session)).await.expect("made");
    write(&row.path, "new.txt", "new");
    fs::remove_file(row.path.join(".git")).expect("removed");
    let found = lab.port.ensure(&lab.spec(session)).await.expect("repaired");
    assert_eq!(found, row, "also without its row");
    assert_eq!(git(&row.path, ["status", "--porcelain"]), "?? new.txt");
}

#[tokio::test]
async fn what_a_killed_try_left_is_used_or_removed() {
    let lab = Lab::new();
    let session = SessionId::new();
    let spec = lab.spec(session);
    let path = worktree_path(&lab.dir.path().join("home"), lab.id, session);
    let aside = path.with_file_name(format!(".making-{session}"));
    let entry = lab.project.join(format!(".git/worktrees/{session}"));
    let base = git(&lab.project, ["rev-parse", "HEAD"]);
    let branch = format!("session-{session}");

    git(&lab.project, ["branch", &branch]);
    write(&aside, "README.md", "# Pro");
    write(
        &entry,
        "gitdir",
        format!("{}\n", path.join(".git").display()),
    );
    write(&entry, "commondir", "../..\n");
    write(&entry, "locked", "hearth: being made\n");
    write(&entry, "index.lock", "");
    write(&lab.project, "later.txt", "HEAD has moved on");
    commit_all(&lab.project, "Later");

    let worktree = lab.port.ensure(&spec).await.expect("made");
    assert_eq!(worktree.base_commit, base, "where the first try began");
    assert!(!aside.exists());
    assert_sound(&worktree);
}

#[tokio::test]
async fn a_try_killed_after_the_move_is_finished() {
    let lab = Lab::new();
    let session = SessionId::new();
    let worktree = lab.port.ensure(&lab.spec(session)).await.expect("made");
    let entry = lab.entry(&worktree);
    write(&entry, "locked", "hearth: being made\n");
    fs::remove_dir_all(lab.dir.path().join("home/.index")).expect("removed");
    let found = lab.port.ensure(&lab.spec(session)).await.expect("finished");
    assert_eq!(found, worktree);
    assert_sound(&worktree);
}

#[tokio::test]
async fn a_stale_lock_on_the_branch_is_no_obstacle() {
    let lab = Lab::new();
    let session = SessionId::new();
    write(
        &lab.project,
        &format!(".git/refs/heads/session-{session}.lock"),
        "",
    );
    let worktree = lab.port.ensure(&lab.spec(session)).await.expect("made");
    assert_sound(&worktree);
}

#[tokio::test]
async fn foreign_content_is_named_and_never_touched() {
    let lab = Lab::new();
    let home = lab.dir.path().join("home");
    let place = |session| worktree_path(&home, lab.id, session);

    let files = SessionId::new();
    write(&place(files), "precious.txt", "mine");
    let text = unusable(lab.port.ensure(&lab.spec(files)).await);
    assert!(text.contains("precious.txt"), "{text}");
    assert!(place(files).join("precious.txt").exists());

    let file = SessionId::new();
    fs::write(place(file), "mine").expect("a file");
    unusable(lab.port.ensure(&lab.spec(file)).await);

    let own = SessionId::new();
    let worktree = lab.port.ensure(&lab.spec(own)).await.expect("made");
    fs::remove_file(worktree.path.join(".git")).expect("removed");
    git(&worktree.path, ["init", "-q"]);
    let text = unusable(lab.port.ensure(&lab.spec(own)).await);
    assert!(text.contains("repository of its own"), "{text}");

    let other = Lab::new();
    let elsewhere = SessionId::new();
    git(
        &other.project,
        [
            "worktree",
            "add",
            "-q",
            &place(elsewhere).display().to_string(),
        ],
    );
    let text = unusable(lab.port.ensure(&lab.spec(elsewhere)).await);
    assert!(text.contains("another repository"), "{text}");
}

#[tokio::test]
async fn a_branch_in_use_elsewhere_and_a_locked_entry_are_told() {
    let lab = Lab::new();
    let session = SessionId::new();
    let branch = format!("session-{session}");
    git(
        &lab.project,
        ["worktree", "add", "-q", "-b", &branch, "../taken"],
    );
    let text = unusable(lab.port.ensure(&lab.spec(session)).await);
    assert!(text.contains("taken") && text.contains(&branch), "{text}");

    let session = SessionId::new();
    let row = lab.port.ensure(&lab.spec(session)).await.expect("made");
    let shown = row.path.display().to_string();
    git(
        &lab.project,
        ["worktree", "lock", "--reason", "on a stick", &shown],
    );
    fs::remove_dir_all(&row.path).expect("removed");
    let text = unusable(lab.port.ensure(&with_row(&lab, session, &row)).await);
    assert!(
        text.contains("on a stick") && text.contains("unlock"),
        "{text}"
    );
}

#[tokio::test]
async fn a_lost_base_commit_is_told() {
    let lab = Lab::new();
    let session = SessionId::new();
    let mut row = lab.port.ensure(&lab.spec(session)).await.expect("made");
    row.base_commit = "12".repeat(20);
    let text = unusable(lab.port.ensure(&with_row(&lab, session, &row)).await);
    assert!(text.contains(&row.base_commit), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_sessions_of_one_repository_at_once() {
    let lab = Arc::new(Lab::new());
    let made = join_all((0..10).map(|_| {
        let lab = Arc::clone(&lab);
        tokio::spawn(async move { lab.worktree().await })
    }))
    .await;
    for worktree in made {
        let worktree = worktree.expect("no panic");
        assert_sound(&worktree);
        assert!(lab.diff(&worktree).await.changes.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_session_asked_for_many_times_at_once_is_one() {
    let lab = Arc::new(Lab::new());
    let spec = lab.spec(SessionId::new());
    let made = join_all((0..5).map(|_| lab.port.ensure(&spec))).await;
    let made: Vec<Worktree> = made.into_iter().map(|w| w.expect("made")).collect();
    assert!(
        made.iter().all(|worktree| *worktree == made[0]),
        "{made:#?}"
    );
}

#[tokio::test]
async fn a_big_project_is_written_by_the_git_program_or_without_one() {
    let lab = Lab::new();
    for file in 0..4_000 {
        write(&lab.project, &format!("many/{}/{file}", file % 40), "x");
    }
    commit_all(&lab.project, "Many");
    let index = fs::metadata(lab.project.join(".git/index")).expect("an index");
    assert!(index.len() > 256 * 1024, "not big: {}", index.len());
    let with = lab.worktree().await;
    assert_sound(&with);
    let mut config = WorktreesConfig::new(lab.dir.path().join("without"));
    config.git = "/no/such/git".into();
    let port = GitWorktrees::new(config);
    let without = port.ensure(&lab.spec(SessionId::new())).await;
    let without = without.expect("made");
    assert_sound(&without);
    assert!(
        port.diff(&without)
            .await
            .expect("a diff")
            .changes
            .is_empty()
    );
}

#[tokio::test]
async fn a_hung_git_program_is_killed_at_its_deadline() {
    let lab = Lab::new();
    for file in 0..4_000 {
        write(&lab.project, &format!("many/{}/{file}", file % 40), "x");
    }
    commit_all(&lab.project, "Many");
    let script = lab.dir.path().join("hung-git");
    write(lab.dir.path(), "hung-git", "#!/bin/sh\nexec sleep 1000\n");
    make_executable(&script);
    let mut config = WorktreesConfig::new(lab.dir.path().join("hung"));
    config.git = script;
    config.deadline = std::time::Duration::from_millis(300);
    let spec = lab.spec(SessionId::new());
    let hung = GitWorktrees::new(config).ensure(&spec).await;
    let Err(WorktreeError::Failed { source, .. }) = hung else {
        panic!("{hung:?}");
    };
    assert!(source.to_string().contains("was killed"), "{source}");
    assert_sound(&lab.port.ensure(&spec).await.expect("made"));
}

pub(super) fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
}
