//! Worktrees that are put away, stashed and reaped, on real git: what would be lost
//! is found, and every byte comes back.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hearth_actors::arena::Archived;
use hearth_actors::ids::{OperationId, SessionId};
use hearth_actors::model::{Worktree, WorktreeSpec};
use hearth_actors::ports::{ReapFiles as _, Review as _, Worktrees as _};
use hearth_actors::reap::ThingKind;
use hearth_actors::review::{Besides, Conflict, Leave, Order, Plan, Planned, Work};
use hearth_actors::risk::{Facts, Loss, Purpose};
use hearth_actors::rules::risk::losses;

use super::scratch::{Lab, git, try_git, write};

const FORCED: Leave = Leave {
    force: true,
    delete: false,
    skip_teardown: false,
};

pub(super) fn work(lab: &Lab, worktree: &Worktree, order: Order) -> Work {
    Work {
        id: OperationId::new(),
        order,
        session: SessionId::new(),
        worktree: worktree.clone(),
        project_path: lab.project.clone(),
        changes: Vec::new(),
        checkpoint: None,
    }
}

async fn planned(lab: &Lab, worktree: &Worktree, order: Order) -> Planned {
    let work = work(lab, worktree, order);
    lab.port.plan(&work).await.expect("an answer")
}

async fn plan(lab: &Lab, worktree: &Worktree, order: Order) -> Plan {
    match planned(lab, worktree, order).await {
        Planned::Ready(plan) => plan,
        other => panic!("{other:#?}"),
    }
}

async fn at_risk(lab: &Lab, worktree: &Worktree, leave: Leave) -> Facts {
    match planned(lab, worktree, Order::Archive(leave)).await {
        Planned::AtRisk(facts) => *facts,
        other => panic!("{other:#?}"),
    }
}

async fn carry_out(lab: &Lab, plan: &Plan) {
    let conflicts = lab.port.carry_out(plan).await.expect("carried out");
    assert!(conflicts.is_empty(), "{conflicts:#?}");
    lab.port.settle(plan, true).await.expect("settled");
}

async fn put_away(lab: &Lab, worktree: &Worktree, leave: Leave) -> Plan {
    let plan = plan(lab, worktree, Order::Archive(leave)).await;
    carry_out(lab, &plan).await;
    assert!(!worktree.path.exists());
    plan
}

/// The worktree as its session gets it back.
async fn back(lab: &Lab, worktree: &Worktree, plan: &Plan) -> Worktree {
    let spec = WorktreeSpec {
        existing: Some(worktree.clone()),
        begins_with: plan.undo.as_ref().map(|undo| undo.commit.clone()),
        ..lab.spec(SessionId::new())
    };
    lab.port.ensure(&spec).await.expect("a worktree")
}

/// Every file below, `.git` left out: what it is, and its bytes.
pub(super) fn held(at: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut files = BTreeMap::new();
    let mut folders = vec![at.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").flatten() {
            let path = entry.path();
            let name = path.strip_prefix(at).expect("below").display().to_string();
            let stat = fs::symlink_metadata(&path).expect("there");
            if name == ".git" {
                continue;
            }
            if stat.is_dir() {
                folders.push(path);
            } else if stat.is_symlink() {
                let to = fs::read_link(&path).expect("a link");
                let bytes = to.into_os_string().into_encoded_bytes();
                files.insert(name, (0o120_000, bytes));
            } else {
                let mode = stat.permissions().mode() & 0o100;
                files.insert(name, (mode, fs::read(&path).expect("a file")));
            }
        }
    }
    files
}

/// Uncommitted, untracked, staged, unpushed and unmerged work of all kinds.
fn fill(worktree: &Worktree) {
    let at = &worktree.path;
    write(at, "src/lib.rs", "committed here\n");
    git(at, ["add", "-A"]);
    git(
        at,
        [
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b",
            "commit",
            "-qm",
            "own",
        ],
    );
    write(at, "README.md", "# Edited\n");
    write(at, "new/deep/file.bin", [0_u8, 159, 146, 150, 10, 13]);
    write(at, "empty", "");
    write(at, "run.sh", "#!/bin/sh\n");
    fs::set_permissions(at.join("run.sh"), fs::Permissions::from_mode(0o755)).expect("a mode");
    std::os::unix::fs::symlink("nowhere", at.join("link")).expect("a link");
    fs::remove_file(at.join("src/main.rs")).expect("there");
    write(at, "staged.txt", "staged\n");
    git(at, ["add", "staged.txt"]);
    write(at, "staged.txt", "and then edited\n");
}

#[tokio::test]
async fn every_byte_comes_back() {
    let lab = Lab::unsynced();
    let worktree = lab.worktree().await;
    fill(&worktree);
    let before = held(&worktree.path);
    let head = git(&worktree.path, ["rev-parse", "HEAD"]);

    let facts = at_risk(&lab, &worktree, Leave::default()).await;
    for loss in [
        Loss::Modified,
        Loss::Untracked,
        Loss::Staged,
        Loss::Unpushed,
    ] {
        assert!(
            losses(&facts, Purpose::Archive).contains(&loss),
            "{loss}: {facts:#?}"
        );
    }
    assert!(
        facts
            .untracked
            .names
            .contains(&"new/deep/file.bin".to_owned())
    );
    assert_eq!(facts.staged.names, ["staged.txt"]);
    assert_eq!(facts.unmerged.total, 1);
    assert_eq!(held(&worktree.path), before, "a refusal changes nothing");

    let plan = put_away(&lab, &worktree, FORCED).await;
    let kept = format!("refs/hearth/deleted/{}", worktree.id);
    // By git alone, into an empty folder.
    let elsewhere = lab.dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("a folder");
    let tree = format!("--work-tree={}", elsewhere.display());
    git(
        &lab.project,
        [&tree, "restore", "--source", &kept, "--worktree", "--", "."],
    );
    assert_eq!(held(&elsewhere), before);
    assert_eq!(git(&lab.project, ["rev-parse", &format!("{kept}^1")]), head);
    let staged = git(&lab.project, ["show", &format!("{kept}^2:staged.txt")]);
    assert_eq!(staged, "staged");
    // And by Hearth, at the same path.
    let again = back(&lab, &worktree, &plan).await;
    assert_eq!(again, worktree);
    assert_eq!(held(&worktree.path), before);
    assert_eq!(git(&worktree.path, ["rev-parse", "HEAD"]), head);
    assert_eq!(
        git(&worktree.path, ["symbolic-ref", "--short", "HEAD"]),
        worktree.branch
    );
}

#[tokio::test]
async fn a_clean_one_goes_without_consent_and_what_is_merged_counts_as_clean() {
    let lab = Lab::unsynced();
    let worktree = lab.worktree().await;
    // Applied to the checkout and committed there: it is lost nowhere.
    write(&worktree.path, "feature.rs", "fn f() {}\n");
    at_risk(&lab, &worktree, Leave::default()).await;
    write(&lab.project, "feature.rs", "fn f() {}\n");
    super::scratch::commit_all(&lab.project, "Feature");
    let facts = lab.port.facts(&worktree).await;
    assert_eq!(facts.default_branch.as_deref(), Some("main"));
    assert_eq!(
        (facts.merged_files, facts.untracked.total),
        (1, 0),
        "{facts:#?}"
    );
    let before = held(&worktree.path);
    let plan = put_away(&lab, &worktree, Leave::default()).await;
    assert_eq!(
        try_git(&lab.project, ["worktree", "list"]).status.code(),
        Some(0)
    );
    back(&lab, &worktree, &plan).await;
    assert_eq!(held(&worktree.path), before, "it comes back as it was");
    assert!(lab.diff(&worktree).await.changes.len() == 1);
}

/// A person writes into it between the plan and the move, or a crash leaves it
/// moved aside.
#[tokio::test]
async fn what_is_written_meanwhile_stays() {
    let lab = Lab::unsynced();
    let worktree = lab.worktree().await;
    write(&worktree.path, "one.txt", "one");
    let planned = plan(&lab, &worktree, Order::Archive(FORCED)).await;
    write(&worktree.path, "two.txt", "two");
    let before = held(&worktree.path);
    let conflicts = lab.port.carry_out(&planned).await.expect("an answer");
    assert_eq!(conflicts.len(), 1, "{conflicts:#?}");
    lab.port.take_back(&planned).await.expect("taken back");
    lab.port.settle(&planned, false).await.expect("settled");
    assert_eq!(held(&worktree.path), before);
    let kept = format!("refs/hearth/deleted/{}", worktree.id);
    assert!(
        !try_git(&lab.project, ["rev-parse", "-q", "--verify", &kept])
            .status
            .success()
    );

    let planned = plan(&lab, &worktree, Order::Archive(FORCED)).await;
    lab.port.carry_out(&planned).await.expect("moved");
    assert!(!worktree.path.exists());
    lab.port.carry_out(&planned).await.expect("again");
    lab.port.take_back(&planned).await.expect("taken back");
    assert_eq!(held(&worktree.path), before);
}

/// Something makes its path again while it is aside: nothing of it goes unseen.
#[tokio::test]
async fn files_whose_place_is_taken_are_kept_where_nobody_removes_them() {
    let lab = Lab::unsynced();
    let worktree = lab.worktree().await;
    write(&worktree.path, "one.txt", "one");
    let planned = plan(&lab, &worktree, Order::Archive(FORCED)).await;
    lab.port.carry_out(&planned).await.expect("moved");
    let aside = aside_of(&planned);
    write(&aside, "late.txt", "late");
    write(&worktree.path, "new.txt", "new");
    let told = |conflicts: Vec<Conflict>| {
        let [one] = &conflicts[..] else {
            panic!("{conflicts:#?}")
        };
        PathBuf::from(&one.path)
    };
    let kept = told(lab.port.carry_out(&planned).await.expect("an answer"));
    let again = told(lab.port.take_back(&planned).await.expect("an answer"));
    assert_eq!(again, kept);
    lab.port.settle(&planned, false).await.expect("settled");
    let kept_all = || kept.join("late.txt").exists() && kept.join("one.txt").exists();
    assert!(kept_all() && !aside.exists() && worktree.path.join("new.txt").exists());

    // Neither the reaper nor the next archive takes it for something to remove.
    let projects = [lab.project.clone()];
    let rows = [worktree.path.clone()];
    let things = lab.port.things(&projects, &rows).await.expect("things");
    assert!(things.iter().all(|thing| thing.path != kept), "{things:#?}");
    fs::remove_dir_all(&worktree.path).expect("removed");
    let next = plan(&lab, &worktree, Order::Archive(FORCED)).await;
    let conflicts = lab.port.carry_out(&next).await.expect("an answer");
    assert!(conflicts.is_empty(), "{conflicts:#?}");
    lab.port.settle(&next, true).await.expect("settled");
    assert!(kept_all());
}

#[tokio::test]
async fn an_empty_folder_takes_nobodys_place() {
    let lab = Lab::unsynced();
    let worktree = lab.worktree().await;
    write(&worktree.path, "one.txt", "one");
    let mut all = held(&worktree.path);
    let planned = plan(&lab, &worktree, Order::Archive(FORCED)).await;
    lab.port.carry_out(&planned).await.expect("moved");
    write(&aside_of(&planned), "late.txt", "late");
    fs::create_dir(&worktree.path).expect("a folder");
    let left = lab.port.take_back(&planned).await.expect("an answer");
    assert!(left.is_empty(), "{left:#?}");
    lab.port.settle(&planned, false).await.expect("settled");
    all.insert("late.txt".into(), (0, b"late".to_vec()));
    assert_eq!(held(&worktree.path), all);
}

fn aside_of(plan: &Plan) -> PathBuf {
    match &plan.besides {
        Some(Besides::Leave { aside }) => aside.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_arena_does_not_archive_over_files_that_stayed_aside() {
    let lab = Lab::unsynced();
    let worktree = lab.worktree().await;
    let name = worktree.path.file_name().expect("a name").to_string_lossy();
    let aside = worktree.path.with_file_name(format!(".archived-{name}"));
    write(&aside, "late.txt", "late");
    let left = lab.port.archive(&worktree).await.expect("an answer");
    assert!(
        matches!(&left, Archived::Left(why) if why.contains(".archived-")),
        "{left:?}"
    );
    assert!(worktree.path.exists() && aside.join("late.txt").exists());
}

/// Its files are gone, and commits that no branch names are not.
#[tokio::test]
async fn commits_of_a_detached_head_stay_when_the_entry_goes() {
    let lab = Lab::unsynced();
    let projects = [lab.project.clone()];
    for archived_before in [false, true] {
        let worktree = lab.worktree().await;
        let kept = format!("refs/hearth/deleted/{}", worktree.id);
        let of_git = lab.entry(&worktree);
        let before = archived_before.then(|| {
            let tree = git(&lab.project, ["rev-parse", "HEAD^{tree}"]);
            let commit = git(&lab.project, ["commit-tree", "-m", "before", &tree]);
            git(&lab.project, ["update-ref", &kept, &commit]);
            commit
        });
        git(&worktree.path, ["checkout", "-q", "--detach"]);
        write(&worktree.path, "alone.txt", "alone");
        super::scratch::commit_all(&worktree.path, "Alone");
        let head = git(&worktree.path, ["rev-parse", "HEAD"]);
        fs::remove_dir_all(&worktree.path).expect("removed");
        let things = lab.port.things(&projects, &[]).await.expect("things");
        let entry = things
            .iter()
            .find(|thing| thing.kind == ThingKind::Entry)
            .expect("an entry");
        lab.port.clear(entry).await.expect("cleared");
        assert!(!of_git.exists());
        for commit in before.iter().chain([&head]) {
            let reached = ["merge-base", "--is-ancestor", commit, &kept];
            assert!(try_git(&lab.project, reached).status.success(), "{commit}");
        }
    }
}

#[tokio::test]
async fn what_was_not_seen_is_not_gone_and_entries_of_others_are_left_alone() {
    let lab = Lab::unsynced();
    let worktree = lab.worktree().await;
    let home = lab.dir.path().join("home");
    let projects = [lab.project.clone()];
    // Not to be listed, elsewhere, and gone.
    write(&home, "file", "x");
    let hidden = home.join("file").join("worktree");
    let deep = home.join("a").join("b").join("worktree");
    fs::create_dir_all(&deep).expect("a folder");
    let rows = [worktree.path.clone(), hidden.clone(), deep.clone()];
    let gone = home.join("a").join("gone");
    let rows = [&rows[..], &[gone]].concat();
    // Somebody's own, which Hearth did not make.
    let own = home.join("own").join("worktree");
    let path = own.display().to_string();
    git(
        &lab.project,
        ["worktree", "add", "-q", "--detach", &path, "HEAD"],
    );
    fs::remove_dir_all(&own).expect("removed");
    let things = lab.port.things(&projects, &rows).await.expect("things");
    let of = |kind: ThingKind| -> Vec<&Path> {
        let of_kind = things.iter().filter(|thing| thing.kind == kind);
        of_kind.map(|thing| thing.path.as_path()).collect()
    };
    let mut wanted = vec![
        home.join("a").join("b"),
        deep,
        hidden,
        worktree.path.clone(),
    ];
    wanted.sort();
    let mut folders = of(ThingKind::Folder);
    folders.sort();
    assert_eq!(folders, wanted);
    assert_eq!(of(ThingKind::Entry), Vec::<&Path>::new());

    fs::remove_dir_all(&home).expect("removed");
    let none = lab.port.things(&[], &[]).await.expect("nothing");
    assert_eq!(none, []);
    fs::write(&home, "no folder").expect("written");
    let error = lab.port.things(&[], &[]).await.expect_err("an error");
    assert!(error.to_string().contains("list worktrees"), "{error}");
}

#[tokio::test]
async fn what_no_commit_can_hold_stays_whoever_consents() {
    let lab = Lab::unsynced();
    let worktree = lab.worktree().await;
    super::scratch::init(&worktree.path.join("nested"));
    write(&worktree.path, "nested/file", "x");
    let facts = at_risk(&lab, &worktree, FORCED).await;
    assert!(
        losses(&facts, Purpose::Archive).contains(&Loss::Unkept),
        "{facts:#?}"
    );
    fs::remove_dir_all(worktree.path.join("nested")).expect("removed");
    // Unreadable: its index is no index.
    let index = lab.entry(&worktree).join("index");
    fs::write(&index, "no index at all").expect("written");
    let facts = at_risk(&lab, &worktree, FORCED).await;
    assert!(
        losses(&facts, Purpose::Archive).contains(&Loss::Unreadable),
        "{facts:#?}"
    );
    assert!(worktree.path.join("README.md").exists());
}

#[tokio::test]
async fn a_stash_is_one_of_gits_own() {
    let lab = Lab::unsynced();
    let worktree = lab.worktree().await;
    let clean = held(&worktree.path);
    fill(&worktree);
    let before = held(&worktree.path);
    let plan = plan(&lab, &worktree, Order::Stash).await;
    carry_out(&lab, &plan).await;
    lab.port.settle(&plan, true).await.expect("a repeat");
    let mut committed = clean;
    committed.insert("src/lib.rs".into(), (0, b"committed here\n".to_vec()));
    assert_eq!(held(&worktree.path), committed);
    assert_eq!(git(&worktree.path, ["status", "--porcelain"]), "");
    let listed = git(&lab.project, ["stash", "list"]);
    assert_eq!(listed.lines().count(), 1, "{listed}");
    git(&worktree.path, ["stash", "pop", "-q"]);
    assert_eq!(held(&worktree.path), before);
}

#[tokio::test]
async fn the_reaper_finds_what_is_left_and_removes_what_loses_nothing() {
    let lab = Lab::unsynced();
    let (clean, dirty) = (lab.worktree().await, lab.worktree().await);
    write(&dirty.path, "new.txt", "work");
    let projects = [lab.project.clone()];
    let parent = clean.path.parent().expect("a parent");
    fs::create_dir(parent.join(".making-x")).expect("a folder");
    let gone = lab.worktree().await;
    fs::remove_dir_all(&gone.path).expect("removed");
    let things = lab.port.things(&projects, &[]).await.expect("things");
    let of = |kind: ThingKind| things.iter().filter(move |thing| thing.kind == kind);
    let known: Vec<_> = of(ThingKind::Folder)
        .map(|thing| thing.worktree.clone())
        .collect();
    assert!(
        known.contains(&Some(clean.clone())) && known.contains(&Some(dirty.clone())),
        "{known:#?}"
    );
    assert_eq!(known.len(), 2);
    let entry = of(ThingKind::Entry).next().expect("an entry").clone();
    assert_eq!(entry.path, gone.path);
    let half = of(ThingKind::HalfMade).next().expect("a folder").clone();

    lab.port.clear(&entry).await.expect("cleared");
    lab.port.clear(&half).await.expect("cleared");
    let listed = git(&lab.project, ["worktree", "list", "--porcelain"]);
    assert!(!listed.contains("prunable"), "{listed}");
    let buried = lab.port.bury(&clean).await.expect("an answer");
    assert!(matches!(buried, Archived::Removed(Some(_))), "{buried:?}");
    let left = lab.port.bury(&dirty).await.expect("an answer");
    assert!(
        matches!(&left, Archived::Left(why) if why.contains("new.txt")),
        "{left:?}"
    );
    assert!(dirty.path.join("new.txt").exists());

    lab.port
        .forget(clean.id, &lab.project)
        .await
        .expect("forgotten");
    let refs = git(
        &lab.project,
        ["for-each-ref", "--format=%(refname)", "refs/hearth"],
    );
    assert!(!refs.contains(&clean.id.to_string()), "{refs}");
    assert!(refs.contains(&dirty.id.to_string()), "{refs}");
    let no_time = lab.port.things(&projects, &[]).await.expect("things");
    assert!(
        no_time
            .iter()
            .all(|thing| thing.age < Duration::from_secs(600))
    );
}
