//! A plan of every kind of step, and the files it is about.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use git2::Repository;
use hearth_actors::ids::{OperationId, WorktreeId};
use hearth_actors::model::Worktree;
use hearth_actors::review::{FileState, Plan, Step};

use super::super::beneath::Root;
use super::super::ground::Ground;

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Thing {
    File(Vec<u8>),
    Program(Vec<u8>),
    Link(String),
    /// A folder with nothing in it.
    Hollow,
}

/// All files of a folder, without git's own.
pub(super) type Files = BTreeMap<String, Thing>;

/// A folder with a repository and a plan.
pub(super) struct Bench {
    pub(super) root: PathBuf,
    pub(super) ground: Ground,
    pub(super) plan: Plan,
    pub(super) before: Files,
    pub(super) after: Files,
}

fn file(text: &str) -> Thing {
    Thing::File(text.as_bytes().to_vec())
}

impl Bench {
    /// Every kind of step, and two files that are none of the plan's.
    pub(super) fn of_all_kinds(root: &Path) -> Self {
        let own = ("own".to_owned(), file("nobody else's\n"));
        let deep = ("folder/own".to_owned(), file("nobody else's\n"));
        let before = [
            ("edited", file("one\n")),
            ("folder/edited", file("one\n")),
            ("run", file("#!/bin/sh\n")),
            ("gone/deep/file", file("gone\n")),
            ("link", Thing::Link("own".into())),
            ("to-link", file("a file\n")),
            ("becomes-folder", file("a file\n")),
            ("becomes-file/one", file("1\n")),
            ("becomes-file/deep/two", Thing::Program(b"2\n".to_vec())),
            ("empty", file("")),
        ];
        let after = [
            ("edited", file("two\n")),
            ("folder/edited", file("two\n")),
            ("run", Thing::Program(b"#!/bin/sh\n".to_vec())),
            ("new/deep/file", file("new\n")),
            ("link", Thing::Link("elsewhere".into())),
            ("to-link", Thing::Link("own".into())),
            ("becomes-folder/one", file("1\n")),
            ("becomes-file", file("a file\n")),
            ("empty", file("no more\n")),
        ];
        let with_own = |files: &[(&str, Thing)]| -> Files {
            let files = files
                .iter()
                .map(|(path, thing)| ((*path).to_owned(), thing.clone()));
            files.chain([own.clone(), deep.clone()]).collect()
        };
        Self::new(root, with_own(&before), with_own(&after))
    }

    /// So many edited files.
    pub(super) fn of_many(root: &Path, count: usize) -> Self {
        let files = |text: &str| -> Files {
            let one = |n: usize| {
                (
                    format!("many/{}/{n}", n % 7),
                    file(&format!("{text} {n}\n")),
                )
            };
            (0..count).map(one).collect()
        };
        Self::new(root, files("before"), files("after"))
    }

    pub(super) fn new(root: &Path, before: Files, after: Files) -> Self {
        fs::create_dir_all(root).expect("a folder");
        let repo = Repository::init(root).expect("a repository");
        let root = fs::canonicalize(root).expect("a path");
        let ground = Ground::new(repo, Root::open(&root).expect("a root"));
        let state = |thing: &Thing| {
            let (content, mode) = match thing {
                Thing::File(content) => (&content[..], 0o100_644),
                Thing::Program(content) => (&content[..], 0o100_755),
                Thing::Link(target) => (target.as_bytes(), 0o120_000),
                Thing::Hollow => unreachable!("no file"),
            };
            let blob = ground.keep(content).expect("stored").to_string();
            FileState { blob, mode }
        };
        let step = |path: &String| Step {
            path: path.clone(),
            from: before.get(path).map(state),
            to: after.get(path).map(state),
        };
        let mut steps: Vec<Step> = before.keys().chain(after.keys()).map(step).collect();
        steps.sort_by_key(|step| (step.to.is_some(), step.path.clone()));
        steps.dedup();
        steps.retain(|step| step.from != step.to);
        let plan = Plan {
            id: OperationId::new(),
            root: root.clone(),
            worktree: Worktree {
                id: WorktreeId::new(),
                path: root.clone(),
                branch: String::new(),
                base_commit: String::new(),
                baseline: String::new(),
            },
            steps,
            baseline: String::new(),
            accounts: Vec::new(),
            notes: Vec::new(),
            undo: None,
            besides: None,
        };
        Self {
            root,
            ground,
            plan,
            before,
            after,
        }
    }

    /// Makes the folder hold exactly these files.
    pub(super) fn set(&self, files: &Files) {
        for entry in fs::read_dir(&self.root).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.ends_with(".git") {
                continue;
            }
            let is_folder = path.symlink_metadata().expect("there").is_dir();
            match is_folder {
                true => fs::remove_dir_all(path).expect("removed"),
                false => fs::remove_file(path).expect("removed"),
            }
        }
        for (path, thing) in files {
            let path = self.root.join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            match thing {
                Thing::File(content) => fs::write(path, content).expect("written"),
                Thing::Program(content) => {
                    fs::write(&path, content).expect("written");
                    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("set");
                }
                Thing::Link(target) => symlink(target, path).expect("a link"),
                Thing::Hollow => fs::create_dir(path).expect("a folder"),
            }
        }
    }

    /// What the folder holds.
    pub(super) fn files(&self) -> Files {
        let mut files = Files::new();
        walk(&self.root, &self.root, &mut files);
        files
    }
}

fn walk(root: &Path, folder: &Path, files: &mut Files) {
    let mut is_empty = true;
    for entry in fs::read_dir(folder).expect("a folder") {
        is_empty = false;
        let path = entry.expect("an entry").path();
        if path == root.join(".git") {
            continue;
        }
        let name = path
            .strip_prefix(root)
            .expect("below")
            .display()
            .to_string();
        let found = path.symlink_metadata().expect("there");
        let thing = if found.is_symlink() {
            let target = fs::read_link(&path).expect("a link");
            Thing::Link(target.display().to_string())
        } else if found.is_dir() {
            walk(root, &path, files);
            continue;
        } else if found.permissions().mode() & 0o100 != 0 {
            Thing::Program(fs::read(&path).expect("a file"))
        } else {
            Thing::File(fs::read(&path).expect("a file"))
        };
        files.insert(name, thing);
    }
    if is_empty {
        let name = folder.strip_prefix(root).expect("below");
        files.insert(name.display().to_string(), Thing::Hollow);
    }
}
