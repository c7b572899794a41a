//! `kill -9` at every point of a plan's way, there and back: whoever comes after
//! finishes it or takes it back, and nothing of either is left behind.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use git2::Repository;
use hearth_actors::review::Plan;
use serde::{Deserialize, Serialize};

use super::super::beneath::Root;
use super::super::fault::strike;
use super::super::ground::Ground;
use super::super::steps::{carry_out, take_back};
use super::bench::{Bench, Files, Thing};

const PART: &str = "HEARTH_REVIEW_PART";
const NO_KILL: usize = usize::MAX;

/// What the process that is killed plays.
#[derive(Clone, Serialize, Deserialize)]
struct Part {
    plan: Plan,
    back: bool,
    point: usize,
    /// On a file system that cannot exchange names.
    plain: bool,
}

impl Part {
    fn command(&self, at: &Path) -> Command {
        let file = at.join("part.json");
        let text = serde_json::to_vec(self).expect("a text");
        fs::write(&file, text).expect("written");
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new(program);
        let name = "worktrees::review::tests::kills::role_carrier";
        command
            .args([name, "--exact", "--ignored"])
            .env(PART, file)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Plays it; whether it was killed.
    fn play(&self, at: &Path) -> bool {
        let status = self.command(at).status().expect("this program starts");
        assert!(status.success() || status.signal() == Some(9), "{status}");
        !status.success()
    }
}

#[test]
#[ignore = "a part that other tests start"]
fn role_carrier() {
    let file: PathBuf = std::env::var_os(PART).expect("a part").into();
    let part: Part = serde_json::from_slice(&fs::read(file).expect("a file")).expect("a part");
    let ground = Ground::new(
        Repository::open(&part.plan.root).expect("a repository"),
        Root::open(&part.plan.root).expect("a root"),
    );
    strike::rename_plainly(part.plain);
    if part.point != NO_KILL {
        strike::at(part.point);
    }
    let work = if part.back { take_back } else { carry_out };
    assert_eq!(work(&ground, &part.plan, false).expect("an answer"), []);
}

/// Every file is what it was or what it becomes, and in its place unless it is
/// on its way.
fn is_whole(bench: &Bench, now: &Files) {
    for (path, thing) in now {
        let ours = path.contains(".hearth-") || *thing == Thing::Hollow;
        let known = [&bench.before, &bench.after]
            .iter()
            .any(|files| files.get(path) == Some(thing));
        assert!(known || ours, "{path}: {thing:?}");
    }
    for own in ["own", "folder/own"] {
        assert_eq!(now.get(own), bench.before.get(own));
    }
}

fn at_every_point(back: bool, plain: bool) -> usize {
    let dir = tempfile::tempdir().expect("a folder");
    let bench = Bench::of_all_kinds(&dir.path().join("root"));
    let (start, goal) = match back {
        false => (&bench.before, &bench.after),
        true => (&bench.after, &bench.before),
    };
    for point in 0.. {
        bench.set(start);
        let part = Part {
            plan: bench.plan.clone(),
            back,
            point,
            plain,
        };
        if !part.play(dir.path()) {
            assert_eq!(&bench.files(), goal);
            return point;
        }
        let killed = bench.files();
        is_whole(&bench, &killed);
        strike::rename_plainly(plain);
        let finish = carry_out(&bench.ground, &bench.plan, false);
        assert_eq!(finish.expect("an answer"), [], "killed at {point}");
        assert_eq!(bench.files(), bench.after, "killed at {point}");
        bench.set(&killed);
        let undo = take_back(&bench.ground, &bench.plan, false);
        assert_eq!(undo.expect("an answer"), [], "killed at {point}");
        assert_eq!(bench.files(), bench.before, "killed at {point}");
        strike::rename_plainly(false);
    }
    unreachable!("points have an end")
}

#[test]
fn carrying_out_is_finished_or_taken_back_after_a_kill_at_any_point() {
    let points = at_every_point(false, false);
    assert!(points >= 50, "only {points} points");
}

#[test]
fn taking_back_is_finished_or_turned_after_a_kill_at_any_point() {
    let points = at_every_point(true, false);
    assert!(points >= 50, "only {points} points");
}

#[test]
fn a_file_system_without_exchange_is_as_safe() {
    let points = at_every_point(false, true);
    assert!(points >= 70, "only {points} points");
}

#[test]
fn kill_after_kill_after_kill() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let dir = tempfile::tempdir().expect("a folder");
    let bench = Bench::of_all_kinds(&dir.path().join("root"));
    for _ in 0..8 {
        bench.set(&bench.before);
        for _ in 0..5 {
            let part = Part {
                plan: bench.plan.clone(),
                back: random.bool(),
                point: random.usize(..40),
                plain: random.bool(),
            };
            part.play(dir.path());
            is_whole(&bench, &bench.files());
        }
        let (work, end): (fn(_, _, _) -> _, _) = match random.bool() {
            true => (carry_out, &bench.after),
            false => (take_back, &bench.before),
        };
        let ended = work(&bench.ground, &bench.plan, false);
        assert_eq!(ended.expect("an answer"), []);
        assert_eq!(&bench.files(), end);
    }
}

/// No points here: whenever the signal comes.
#[test]
fn a_kill_at_any_moment() {
    let dir = tempfile::tempdir().expect("a folder");
    let bench = Bench::of_many(&dir.path().join("root"), 300);
    let part = Part {
        plan: bench.plan.clone(),
        back: false,
        point: NO_KILL,
        plain: false,
    };
    let mut counts = BTreeMap::new();
    for round in 0..12 {
        bench.set(&bench.before);
        let mut command = part.command(dir.path());
        #[expect(
            clippy::disallowed_methods,
            reason = "it plays the service, not a child of one"
        )]
        let mut child = command.spawn().expect("this program starts");
        let first = bench.root.join("many/0/0");
        let begun = || fs::read(&first).is_ok_and(|text| text.starts_with(b"after"));
        for _ in 0..20_000 {
            if begun() {
                break;
            }
            sleep(Duration::from_micros(500));
        }
        assert!(begun(), "it never began");
        sleep(Duration::from_micros(700 * round));
        child.kill().expect("killed");
        child.wait().expect("ended");
        let now = bench.files();
        let done = now
            .iter()
            .filter(|(path, thing)| bench.after.get(*path) == Some(*thing));
        *counts.entry(done.count()).or_insert(0) += 1;
        let (work, end): (fn(_, _, _) -> _, _) = match round % 2 {
            0 => (carry_out, &bench.after),
            _ => (take_back, &bench.before),
        };
        let ended = work(&bench.ground, &bench.plan, false);
        assert_eq!(ended.expect("an answer"), []);
        assert_eq!(&bench.files(), end);
    }
    let between = counts.keys().filter(|done| **done < 300).count();
    assert!(between > 0, "no kill came between: {counts:?}");
}
