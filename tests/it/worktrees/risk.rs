//! What would be lost with a worktree, beside what git itself says of it, in random
//! states. `SEED=7` plays one again.

use std::collections::BTreeSet;
use std::fs;

use hearth_actors::model::Worktree;
use hearth_actors::ports::ReapFiles as _;
use hearth_actors::risk::{Facts, Purpose};
use hearth_actors::rules::risk::losses;

use super::scratch::{Lab, commit_all, git, init, try_git, write};

/// States that are tried.
const STATES: u64 = 40;
/// Steps of each.
const STEPS: usize = 7;
const WHO: [&str; 4] = ["-c", "user.name=a", "-c", "user.email=a@b"];

#[tokio::test]
async fn the_risk_is_what_git_says() {
    let seeds = match std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
    {
        Some(seed) => vec![seed],
        None => (0..STATES).collect::<Vec<u64>>(),
    };
    for seed in seeds {
        let mut dice = fastrand::Rng::with_seed(seed);
        let lab = Lab::unsynced();
        let remote = dice.bool();
        if remote {
            let bare = lab.dir.path().join("remote.git");
            fs::create_dir(&bare).expect("a folder");
            git(&bare, ["init", "-q", "--bare", "-b", "main"]);
            let url = bare.display().to_string();
            git(&lab.project, ["remote", "add", "origin", &url]);
            git(&lab.project, ["push", "-q", "origin", "main"]);
            git(&lab.project, ["fetch", "-q"]);
            if dice.bool() {
                git(&lab.project, ["remote", "set-head", "origin", "main"]);
            }
        }
        let worktree = lab.worktree().await;
        let mut told = Vec::new();
        for _ in 0..dice.usize(0..STEPS) {
            told.push(step(&mut dice, &lab, &worktree, remote));
        }
        let facts = lab.port.facts(&worktree).await;
        compare(&lab, &worktree, remote, &facts)
            .unwrap_or_else(|why| panic!("SEED={seed}: {why}\n{told:?}\n{facts:#?}"));
    }
}

fn step(dice: &mut fastrand::Rng, lab: &Lab, worktree: &Worktree, remote: bool) -> String {
    let at = &worktree.path;
    let name = ["README.md", "a.txt", "dir/b.txt", "x.log", "src/lib.rs"][dice.usize(0..5)];
    let content = format!("{}\n", dice.u8(0..4));
    match dice.u8(0..9) {
        0 | 1 => write(at, name, &content),
        2 => drop(fs::remove_file(at.join(name))),
        3 => drop(git(at, ["add", "-A"])),
        4 | 5 => {
            git(at, ["add", "-A"]);
            let commit = ["commit", "-qm", "own", "--allow-empty-message"];
            try_git(at, WHO.iter().chain(&commit));
        }
        6 if remote => drop(try_git(at, ["push", "-qf", "origin", "HEAD"])),
        7 => {
            // Others commit, perhaps the same.
            write(&lab.project, "a.txt", &content);
            git(&lab.project, ["add", "-A"]);
            try_git(&lab.project, ["commit", "-qm", "theirs"]);
            if remote && dice.bool() {
                git(&lab.project, ["push", "-q", "origin", "main"]);
            }
            return format!("theirs {content}");
        }
        8 => drop(try_git(
            &lab.project,
            ["merge", "-q", "--no-edit", &worktree.branch],
        )),
        _ => {}
    }
    format!("{name} {content}")
}

/// By `git status`, `git cherry`, `rev-list` and `for-each-ref`.
fn compare(lab: &Lab, worktree: &Worktree, remote: bool, facts: &Facts) -> Result<(), String> {
    let at = &worktree.path;
    if try_git(&lab.project, ["rev-parse", "-q", "--verify", "MERGE_HEAD"])
        .status
        .success()
    {
        git(&lab.project, ["merge", "--abort"]);
    }
    let tips: Vec<&str> = match remote {
        true => vec!["refs/remotes/origin/main", "refs/heads/main"],
        false => vec!["refs/heads/main"],
    };
    let merged = |path: &str| {
        tips.iter().any(|tip| {
            let there = try_git(at, ["show", &format!("{tip}:{path}")]);
            match fs::read(at.join(path)) {
                Ok(here) => there.status.success() && there.stdout == here,
                Err(_) => !there.status.success(),
            }
        })
    };
    let status = git(at, ["status", "--porcelain", "-uall", "--no-renames"]);
    let (mut modified, mut untracked, mut staged) = (0, 0, 0);
    for line in status.lines() {
        // The first line lost its blank to `git`'s trim.
        let (state, path) = match line.as_bytes().get(2) {
            Some(b' ') => (line[..2].to_owned(), &line[3..]),
            _ => (format!(" {}", &line[..1]), &line[2..]),
        };
        let in_head = try_git(at, ["cat-file", "-e", &format!("HEAD:{path}")])
            .status
            .success();
        let same_as_head = match (fs::read(at.join(path)), in_head) {
            (Ok(here), true) => here == try_git(at, ["show", &format!("HEAD:{path}")]).stdout,
            (Err(_), false) => true,
            _ => false,
        };
        if state == "??" {
            untracked += u64::from(!merged(path));
            continue;
        }
        modified += u64::from(!same_as_head && !merged(path));
        let index = try_git(at, ["show", &format!(":{path}")]);
        if index.status.success() {
            let head = try_git(at, ["show", &format!("HEAD:{path}")]);
            let alone = (!head.status.success() || index.stdout != head.stdout)
                && fs::read(at.join(path)).ok().as_ref() != Some(&index.stdout);
            staged += u64::from(alone);
        }
    }
    same("modified", facts.modified.total, modified)?;
    same("untracked", facts.untracked.total, untracked)?;
    same("staged", facts.staged.total, staged)?;

    // What every default branch lacks, as an ancestor and as a patch.
    let mut alone: Option<BTreeSet<String>> = None;
    for tip in &tips {
        let cherry = git(at, ["cherry", tip, "HEAD"]);
        let lacks: BTreeSet<String> = cherry
            .lines()
            .filter_map(|line| line.strip_prefix("+ ").map(str::to_owned))
            .collect();
        alone = Some(match alone {
            None => lacks,
            Some(before) => before.intersection(&lacks).cloned().collect(),
        });
    }
    let alone = alone.unwrap_or_default();
    same("unmerged", facts.unmerged.total, alone.len() as u64)?;
    let refs = git(at, ["for-each-ref", "--format=%(refname)", "refs/remotes"]);
    let unpushed = alone.iter().filter(|commit| {
        !refs.lines().any(|name| {
            try_git(at, ["merge-base", "--is-ancestor", commit, name])
                .status
                .success()
        })
    });
    same("unpushed", facts.unpushed.total, unpushed.count() as u64)?;
    let clean = modified + untracked + staged == 0 && alone.is_empty();
    if losses(facts, Purpose::Delete).is_empty() != clean {
        return Err(format!("clean: {clean}"));
    }
    Ok(())
}

fn same(what: &str, ours: u64, gits: u64) -> Result<(), String> {
    if ours == gits {
        Ok(())
    } else {
        Err(format!("{what}: {ours}, git says {gits}"))
    }
}

#[tokio::test]
async fn the_default_branch_is_the_projects_own() {
    let lab = Lab::unsynced();
    git(&lab.project, ["branch", "-m", "main", "line"]);
    let worktree = lab.worktree().await;
    let facts = lab.port.facts(&worktree).await;
    assert_eq!(facts.default_branch.as_deref(), Some("line"), "{facts:#?}");
    assert!(losses(&facts, Purpose::Delete).is_empty());
    // A squashed merge has the same patch.
    write(&worktree.path, "a.txt", "a\n");
    git(&worktree.path, ["add", "-A"]);
    let commit = ["commit", "-qm", "own"];
    git(&worktree.path, WHO.iter().chain(&commit));
    assert_eq!(lab.port.facts(&worktree).await.unmerged.total, 1);
    git(&lab.project, ["merge", "-q", "--squash", &worktree.branch]);
    git(&lab.project, ["commit", "-qm", "squashed"]);
    assert_eq!(lab.port.facts(&worktree).await.unmerged.total, 0);
}

#[tokio::test]
async fn what_is_under_way_and_what_is_within_is_at_risk() {
    let lab = Lab::unsynced();
    let worktree = lab.worktree().await;
    let at = &worktree.path;
    write(at, "README.md", "ours\n");
    git(at, ["add", "-A"]);
    git(at, WHO.iter().chain(&["commit", "-qm", "ours"]));
    write(&lab.project, "README.md", "theirs\n");
    commit_all(&lab.project, "theirs");
    let merge = WHO.iter().chain(&["merge", "-q", "main"]);
    assert!(!try_git(at, merge).status.success(), "a conflict");
    let facts = lab.port.facts(&worktree).await;
    assert_eq!(facts.unfinished.as_deref(), Some("merge"), "{facts:#?}");
    git(at, ["merge", "--abort"]);
    git(at, ["checkout", "-q", "--detach"]);
    init(&at.join("inner"));
    let facts = lab.port.facts(&worktree).await;
    assert_eq!(facts.branch, None);
    assert!(!facts.unmerged.is_empty(), "{facts:#?}");
}
