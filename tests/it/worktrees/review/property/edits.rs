//! What agents and people do to files by themselves.

use std::fs;
use std::path::Path;

use fastrand::Rng;

use super::super::model::is_free;
use super::super::things::{Files, Thing};
use super::World;

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

impl World<'_> {
    /// An edit of one side's files, as agents and people make them.
    pub(super) fn edit(random: &mut Rng, files: &mut Files, root: &Path) {
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

    /// People copy a file of the worktree, or the lack of it.
    pub(super) fn take_over(&mut self) {
        let path = PATHS[self.random.usize(..PATHS.len())];
        let root = &self.desk.lab.project;
        match self.worktree.get(path) {
            Some(thing) if is_free(&self.checkout, path) => {
                thing.write(&root.join(path));
                self.checkout.insert(path.to_owned(), thing.clone());
            }
            None if self.checkout.remove(path).is_some() => {
                fs::remove_file(root.join(path)).expect("removed");
            }
            _ => {}
        }
    }
}

pub(super) fn prune(root: &Path, path: &str) {
    let mut folder = root.join(path);
    while folder.pop() && folder != root && fs::remove_dir(&folder).is_ok() {}
}
