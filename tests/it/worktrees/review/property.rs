//! Random edits on both sides and random orders, against a plain model of both
//! sets of files and of the baseline: never a byte lost, never one come back.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use fastrand::Rng;
use git2::{Oid, Repository, TreeWalkMode};
use hearth::worktrees::{GitWorktrees, WorktreesConfig};
use hearth_actors::ports::Review;
use hearth_actors::review::{Plan, Recorded};

use super::super::scratch::{Lab, commit_all};
use super::desk::{Desk, Verb};
use super::model::{self, Row, is_free};
use super::things::{Files, Thing, in_model, on_disk};

/// Steps of each seed: 10 000 in all.
const STEPS: usize = 2_500;

/// Files and folders take each other's places.
const PATHS: [&str; 14] = [
    "a",
    "a/x",
    "a/y",
    "a.c",
    "b",
    "b/deep/z",
    "b/deep/er/z",
    "c.txt",
    "C.txt",
    "sp ace/ünï",
    "run.sh",
    ".env",
    "with \"quotes\"",
    "d/own",
];

struct World<'a> {
    desk: Desk<'a>,
    random: Rng,
    worktree: Files,
    checkout: Files,
    baseline: Files,
    /// As the last diff recorded them.
    pending: Vec<Row>,
    applied: Vec<Row>,
    /// How often each kind of step was done, or refused.
    done: [usize; 3],
    refused: [usize; 3],
}

impl World<'_> {
    /// An edit of one side's files, as agents and people make them.
    fn edit(random: &mut Rng, files: &mut Files, root: &Path) {
        let path = PATHS[random.usize(..PATHS.len())];
        let was = files.get(path).cloned();
        match (was, random.u8(..10)) {
            (Some(_), 0..=1) => {
                files.remove(path);
                fs::remove_file(root.join(path)).expect("removed");
            }
            (Some(was), 2..=3) => {
                let to = PATHS[random.usize(..PATHS.len())];
                files.remove(path);
                if files.contains_key(to) || !is_free(files, to) {
                    files.insert(path.to_owned(), was);
                    return;
                }
                fs::remove_file(root.join(path)).expect("removed");
                prune(root, path);
                let thing = match random.bool() {
                    true => was,
                    false => was.edited(random),
                };
                thing.write(&root.join(to));
                files.insert(to.to_owned(), thing);
            }
            (Some(was), _) => {
                let thing = was.edited(random);
                thing.write(&root.join(path));
                files.insert(path.to_owned(), thing);
            }
            (None, kind) => {
                let in_the_way: Vec<String> = files
                    .keys()
                    .filter(|other| {
                        other.starts_with(&format!("{path}/"))
                            || path.starts_with(&format!("{other}/"))
                    })
                    .cloned()
                    .collect();
                if !in_the_way.is_empty() && kind > 3 {
                    return;
                }
                for other in in_the_way {
                    files.remove(&other);
                    fs::remove_file(root.join(&other)).expect("removed");
                    prune(root, &other);
                }
                let _ = fs::remove_dir_all(root.join(path));
                let thing = Thing::any(random);
                thing.write(&root.join(path));
                files.insert(path.to_owned(), thing);
            }
        }
    }

    /// Records anew what is pending.
    async fn diff(&mut self) {
        let pending = self.desk.pending().await;
        let mut then = self.baseline.clone();
        self.pending.clear();
        for recorded in pending {
            let old = recorded.old_path.as_ref().unwrap_or(&recorded.path);
            let before = recorded
                .before
                .as_ref()
                .and_then(|_| self.baseline.get(old));
            let after = recorded
                .after
                .as_ref()
                .and_then(|_| self.worktree.get(&recorded.path));
            assert_eq!(recorded.before, before.map(Thing::state), "{recorded:?}");
            assert_eq!(recorded.after, after.map(Thing::state), "{recorded:?}");
            if before.is_some() {
                then.remove(old);
            }
            let (before, after) = (before.cloned(), after.cloned());
            self.pending.push(Row {
                recorded,
                before,
                after,
                steps: Vec::new(),
            });
        }
        for row in &self.pending {
            if let Some(after) = &row.after {
                then.insert(row.recorded.path.clone(), after.clone());
            }
        }
        assert_eq!(then, self.worktree, "baseline and changes make the files");
    }

    /// One, some or all of the rows, in their order.
    fn some_of(&mut self, rows: &[Row]) -> Vec<Row> {
        let random = &mut self.random;
        match random.u8(..3) {
            0 => rows.to_vec(),
            1 => {
                let one = random.usize(..rows.len().max(1));
                rows.iter().skip(one).take(1).cloned().collect()
            }
            _ => rows.iter().filter(|_| random.bool()).cloned().collect(),
        }
    }

    async fn order(&mut self, verb: Verb) {
        let rows = match verb {
            Verb::Apply | Verb::Reject => self.pending.clone(),
            Verb::Rewind => self.applied.clone(),
        };
        let rows = self.some_of(&rows);
        let meant = match verb {
            Verb::Apply => model::apply(&self.checkout, &self.baseline, &rows),
            Verb::Reject => model::reject(&self.worktree, &self.baseline, &rows),
            Verb::Rewind => model::rewind(&self.checkout, &self.baseline, &rows),
        };
        let recorded: Vec<Recorded> = rows.iter().map(|row| row.recorded.clone()).collect();
        let planned = self.desk.plan(verb, &recorded).await;
        self.check();
        let (plan, outcome) = match (planned, meant) {
            (Ok(plan), Ok(outcome)) => (plan, outcome),
            (Err(conflicts), Err(meant)) => {
                let told: BTreeSet<_> = conflicts.iter().filter_map(|c| c.change).collect();
                assert_eq!(told, meant, "{verb:?} {conflicts:#?} {rows:#?}");
                self.refused[verb as usize] += 1;
                return;
            }
            (planned, meant) => panic!("{verb:?} {rows:#?}\nis {planned:#?}\nnot {meant:#?}"),
        };
        self.done[verb as usize] += 1;
        match self.random.u8(..12) {
            0 => self.interfered(verb, &plan, outcome, rows).await,
            1 => {
                let port = &self.desk.lab.port;
                assert_eq!(port.carry_out(&plan).await.expect("an answer"), []);
                assert_eq!(self.desk.give_up(&plan).await, []);
            }
            _ => {
                self.desk.finish(&plan).await;
                self.took_place(verb, &plan, outcome, rows);
                self.diff().await;
            }
        }
    }

    /// Somebody edits a file between the plan and its carrying out.
    async fn interfered(
        &mut self,
        verb: Verb,
        plan: &Plan,
        outcome: model::Outcome,
        rows: Vec<Row>,
    ) {
        let files = match verb {
            Verb::Reject => &mut self.worktree,
            Verb::Apply | Verb::Rewind => &mut self.checkout,
        };
        let paths: Vec<String> = files.keys().cloned().collect();
        let Some(path) = self.random.choice(paths) else {
            self.desk.give_up(plan).await;
            return;
        };
        let thing = Thing::any(&mut self.random);
        thing.write(&plan.root.join(&path));
        let step = plan.steps.iter().find(|step| step.path == path);
        let moved = step
            .is_some_and(|step| step.from != Some(thing.state()) && step.to != Some(thing.state()));
        let was_moved = step.is_some_and(|step| step.to == Some(thing.state()));
        let conflicts = self.desk.lab.port.carry_out(plan).await.expect("an answer");
        assert_eq!(conflicts.is_empty(), !moved, "{conflicts:?}");
        if moved {
            assert_eq!(conflicts[0].path, path);
            files.insert(path.clone(), thing);
            let conflicts = self.desk.give_up(plan).await;
            assert_eq!(conflicts.len(), 1, "{conflicts:?}");
            return;
        }
        self.desk.settle(plan).await;
        self.took_place(verb, plan, outcome, rows);
        if step.is_none() && !was_moved {
            let files = match verb {
                Verb::Reject => &mut self.worktree,
                Verb::Apply | Verb::Rewind => &mut self.checkout,
            };
            files.insert(path, thing);
        }
        self.diff().await;
    }

    fn took_place(&mut self, verb: Verb, plan: &Plan, mut outcome: model::Outcome, rows: Vec<Row>) {
        let ids: BTreeSet<_> = rows.iter().map(|row| row.recorded.id).collect();
        self.baseline = outcome.baseline;
        match verb {
            Verb::Apply => {
                self.checkout = outcome.files;
                for mut row in rows {
                    row.steps = outcome.steps.remove(&row.recorded.id).unwrap_or_default();
                    let account = plan.accounts.iter().find(|(id, _)| *id == row.recorded.id);
                    row.recorded.applied = account.expect("an account").1.clone();
                    self.applied.push(row);
                }
            }
            Verb::Reject => self.worktree = outcome.files,
            Verb::Rewind => {
                self.checkout = outcome.files;
                self.applied.retain(|row| !ids.contains(&row.recorded.id));
            }
        }
        // What is told of many is too much for a small world.
        let forget = self.applied.len().saturating_sub(20);
        self.applied.drain(..forget);
    }

    fn check(&self) {
        let root = &self.desk.worktree.path;
        assert_eq!(on_disk(root), in_model(&self.worktree), "the worktree");
        let root = &self.desk.lab.project;
        assert_eq!(on_disk(root), in_model(&self.checkout), "the checkout");
        assert_eq!(
            self.baseline_tree(),
            in_model(&self.baseline),
            "the baseline"
        );
    }

    fn baseline_tree(&self) -> std::collections::BTreeMap<String, (Vec<u8>, u32)> {
        let repo = Repository::open(&self.desk.lab.project).expect("a repository");
        let id = Oid::from_str(&self.desk.worktree.baseline).expect("an id");
        let tree = repo.find_commit(id).and_then(|commit| commit.tree());
        let mut files = std::collections::BTreeMap::new();
        tree.expect("a tree")
            .walk(TreeWalkMode::PreOrder, |folder, entry| {
                if let Ok(blob) = repo.find_blob(entry.id()) {
                    let path = format!("{folder}{}", entry.name().expect("a name"));
                    let file = (blob.content().to_vec(), entry.filemode() as u32);
                    files.insert(path, file);
                }
                0
            })
            .expect("walked");
        files
    }
}

fn prune(root: &Path, path: &str) {
    let mut folder = root.join(path);
    while folder.pop() && folder != root && fs::remove_dir(&folder).is_ok() {}
}

async fn run(seed: u64) {
    println!("seed {seed}");
    let mut random = Rng::with_seed(seed);
    let mut lab = Lab::new();
    let config = WorktreesConfig {
        sync: false,
        ..WorktreesConfig::new(lab.dir.path().join("home"))
    };
    lab.port = GitWorktrees::new(config);
    for path in on_disk(&lab.project).keys() {
        fs::remove_file(lab.project.join(path)).expect("removed");
        prune(&lab.project, path);
    }
    let mut start = Files::new();
    for _ in 0..12 {
        World::edit(&mut random, &mut start, &lab.project);
    }
    commit_all(&lab.project, "Start");
    let desk = Desk::new(&lab).await;
    let mut world = World {
        desk,
        random,
        worktree: start.clone(),
        checkout: start.clone(),
        baseline: start,
        pending: Vec::new(),
        applied: Vec::new(),
        done: [0; 3],
        refused: [0; 3],
    };
    world.check();
    for _ in 0..STEPS {
        // A restore joins here: its own arm, and `model::restore` on the worktree.
        match world.random.u8(..100) {
            0..40 => {
                let root = world.desk.worktree.path.clone();
                World::edit(&mut world.random, &mut world.worktree, &root);
            }
            40..58 => {
                let root = world.desk.lab.project.clone();
                World::edit(&mut world.random, &mut world.checkout, &root);
            }
            58..72 => world.diff().await,
            72..86 => world.order(Verb::Apply).await,
            86..92 => world.order(Verb::Reject).await,
            _ => world.order(Verb::Rewind).await,
        }
        world.check();
    }
    // Else it proves nothing.
    println!("done {:?}, refused {:?}", world.done, world.refused);
    assert!(
        world
            .done
            .iter()
            .chain(&world.refused)
            .all(|times| *times >= 15)
    );
}

fn seed_of(number: u64) -> u64 {
    match std::env::var("SEED") {
        Ok(seed) => seed.parse().expect("SEED is a number"),
        Err(_) => number,
    }
}

#[tokio::test]
async fn any_edits_and_orders_first() {
    run(seed_of(1)).await;
}

#[tokio::test]
async fn any_edits_and_orders_second() {
    run(seed_of(2)).await;
}

#[tokio::test]
async fn any_edits_and_orders_third() {
    run(seed_of(3)).await;
}

#[tokio::test]
async fn any_edits_and_orders_of_a_random_seed() {
    run(seed_of(fastrand::u64(..))).await;
}
