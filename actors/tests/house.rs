//! The directions in which rooms may know each other, and what rules may not.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn rules_know_no_clock_no_tasks_and_no_actors() {
    for file in sources(&root().join("actors/src/rules")) {
        let code = code(&file);
        for word in [
            "async",
            ".await",
            "tokio",
            "ractor",
            "::now(",
            "crate::tree",
            "crate::testing",
        ] {
            assert!(!names(&code, word), "{} says `{word}`", file.display());
        }
    }
}

#[test]
fn the_heart_depends_on_no_adapter() {
    let manifest = fs::read_to_string(root().join("actors/Cargo.toml")).expect("a manifest");
    for name in [
        "sqlx",
        "axum",
        "git2",
        "reqwest",
        "agent-client-protocol",
        "nix",
        "hyper",
    ] {
        let named = manifest.lines().any(|line| line.starts_with(name));
        assert!(!named, "actors/Cargo.toml names {name}");
    }
    for file in sources(&root().join("actors/src")) {
        let code = code(&file);
        assert!(!code.contains("hearth::"), "{} looks out", file.display());
        let in_tree = file.starts_with(root().join("actors/src/tree"));
        assert!(
            !(in_tree && code.contains("testing::")),
            "{} knows its tests",
            file.display()
        );
    }
}

#[test]
fn adapters_do_not_import_each_other() {
    let adapters = ["store", "backends", "worktrees", "checks"];
    let faces = ["app", "http", "cli", "mcp"];
    for room in adapters {
        let others = adapters.into_iter().filter(|other| *other != room);
        no_imports(room, others.chain(faces));
        let mut files = sources(&root().join("src").join(room));
        files.retain(|file| code(file).contains("hearth_actors::tree"));
        assert!(
            files.is_empty(),
            "adapters know ports, not the tree: {files:?}"
        );
    }
    no_imports("process", adapters.into_iter().chain(faces));
}

/// The command line may ask the store for its rows, no more.
#[test]
fn only_the_wiring_builds_adapters() {
    for room in ["http", "config"] {
        no_imports(room, ["app", "backends", "worktrees", "checks", "process"]);
    }
    no_imports("cli", ["backends", "worktrees", "checks", "process"]);
    // It speaks the words of HTTP, by whichever way it is given.
    no_imports(
        "mcp",
        [
            "app",
            "backends",
            "checks",
            "cli",
            "config",
            "http",
            "process",
            "store",
            "worktrees",
        ],
    );
}

/// No file of `src/<room>` names one of the other rooms.
fn no_imports<'a>(room: &str, others: impl IntoIterator<Item = &'a str>) {
    let files = sources(&root().join("src").join(room));
    assert!(!files.is_empty(), "src/{room} is somewhere else now");
    for other in others {
        for file in &files {
            for path in [format!("crate::{other}"), format!("hearth::{other}")] {
                let named = names(&code(file), &path);
                assert!(!named, "{} imports {path}", file.display());
            }
        }
    }
}

/// `path` as a whole path, not as the beginning of a longer name.
fn names(code: &str, path: &str) -> bool {
    code.match_indices(path).any(|(start, found)| {
        let next = code[start + found.len()..].chars().next();
        next.is_none_or(|next| !next.is_alphanumeric() && next != '_')
    })
}

/// Every `.rs` file of a room: its folder, and the file beside it.
fn sources(room: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let beside = room.with_extension("rs");
    if beside.is_file() {
        found.push(beside);
    }
    let mut folders = vec![room.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "{} has no sources", room.display());
    found
}

/// The file without its comments; nested imports (`use crate::{a, b}`) would
/// hide a room, so they are refused here.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).expect("a readable file");
    let code: String = text
        .lines()
        .map(|line| line.split_once("//").map_or(line, |(code, _)| code))
        .flat_map(|line| [line, "\n"])
        .collect();
    assert!(
        !code.contains("use crate::{"),
        "{}: one import a room, please",
        file.display()
    );
    code
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
