//! Whatever agents do to their files, a checkpoint is what `git add -A` would
//! stage.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::scratch::{Lab, reference_tree, try_git};

/// One thing an agent may do to its files.
#[derive(Clone, Debug)]
pub(super) enum Edit {
    Write(String, Vec<u8>),
    Remove(String),
    Link(String, String),
    Executable(String),
    Rename(String, String),
    Stage(String),
    Commit,
}

pub(super) fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let path = prop::sample::select(vec![
        "a",
        "b.log",
        "d/a",
        "d/e/f",
        "d/b.log",
        "target/x",
        "d",
        "ü/ö",
        "x y",
        "README.md",
        "src/main.rs",
        "src",
        "keep.log/x",
        ".gitignore",
        "d/.gitignore",
    ]);
    let path = path.prop_map(str::to_owned);
    let content = prop_oneof![
        Just(b"*.log\n!keep.log\nd/e/\n".to_vec()),
        Just(Vec::new()),
        Just(b"/\x0b\n*.log\n\x0c\nd/e\n".to_vec()),
        r"[abdef*?/!.\[\]\\ \n\r\x0b\x0c#^-]{0,24}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..40),
    ];
    let edit = prop_oneof![
        4 => (path.clone(), content).prop_map(|(p, c)| Edit::Write(p, c)),
        2 => path.clone().prop_map(Edit::Remove),
        1 => (path.clone(), path.clone()).prop_map(|(p, q)| Edit::Link(p, q)),
        1 => path.clone().prop_map(Edit::Executable),
        1 => (path.clone(), path.clone()).prop_map(|(p, q)| Edit::Rename(p, q)),
        1 => path.prop_map(Edit::Stage),
        1 => Just(Edit::Commit),
    ];
    prop::collection::vec(edit, 1..12)
}

/// Does the edit as far as the files allow it.
pub(super) fn perform(at: &Path, edit: &Edit) {
    let full = |path: &String| at.join(path);
    let make_room = |path: &String| {
        if let Some(parent) = full(path).parent() {
            let _ = fs::create_dir_all(parent);
        }
    };
    match edit {
        Edit::Write(path, content) => {
            make_room(path);
            let _ = fs::write(full(path), content);
        }
        Edit::Remove(path) => {
            let _ = fs::remove_file(full(path)).or_else(|_| fs::remove_dir_all(full(path)));
        }
        Edit::Link(path, target) => {
            make_room(path);
            let _ = symlink(target, full(path));
        }
        Edit::Executable(path) => {
            if fs::symlink_metadata(full(path)).is_ok_and(|found| found.is_file()) {
                let mode = fs::Permissions::from_mode(0o755);
                fs::set_permissions(full(path), mode).expect("chmod");
            }
        }
        Edit::Rename(from, to) => {
            make_room(to);
            let _ = fs::rename(full(from), full(to));
        }
        Edit::Stage(path) => drop(try_git(at, ["add", "-f", path])),
        Edit::Commit => drop(try_git(at, ["commit", "-qm", "Agent", "--allow-empty"])),
    }
}

#[test]
fn any_edits_give_the_tree_that_git_add_would() {
    let mut config = Config::with_cases(24);
    config.failure_persistence = None;
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("SEED={seed}");
    config.rng_seed = prop::test_runner::RngSeed::Fixed(seed);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    TestRunner::new(config)
        .run(&edits(), |edits| {
            let lab = Lab::new();
            let worktree = runtime.block_on(lab.worktree());
            for (number, edit) in edits.iter().enumerate() {
                perform(&worktree.path, edit);
                let ours = runtime.block_on(lab.checkpoint(&worktree)).tree;
                let git = reference_tree(&worktree.path);
                prop_assert_eq!(&ours, &git, "after edit {}", number);
                // Now that the edit is older than the scan, this one leaves a
                // proof, on which the scan after the next edit builds.
                let again = runtime.block_on(lab.checkpoint(&worktree)).tree;
                prop_assert_eq!(&again, &git, "again after edit {}", number);
            }
            Ok(())
        })
        .expect("equal trees");
}
