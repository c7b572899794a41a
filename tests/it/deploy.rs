//! What `deploy/` says agrees with the program and the repository. No container
//! engine is needed: what is read here is what people would trip over first.

use std::collections::BTreeSet;
use std::path::Path;

/// Names that `deploy/compose.yaml` itself asks for; the service reads none.
const OF_COMPOSE: [&str; 3] = ["HEARTH_DB_PASSWORD", "HEARTH_PROJECTS", "HEARTH_UID"];

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Words that look like a variable of ours.
fn variables(text: &str) -> BTreeSet<String> {
    text.split(|letter: char| !(letter.is_ascii_uppercase() || "_0123456789".contains(letter)))
        .filter(|word| word.starts_with("HEARTH_") || word.starts_with("AGENT_POOL_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_variable_of_the_files_is_a_setting() {
    let known = variables(&read("deploy/env.example"));
    let known_to_readme = variables(&read("README.md"));
    for file in [
        "deploy/Dockerfile",
        "deploy/compose.yaml",
        "deploy/hearth.service",
    ] {
        let used = variables(&read(file));
        assert!(!used.is_empty(), "{file} sets something");
        for name in used {
            assert!(
                known.contains(&name) || OF_COMPOSE.contains(&name.as_str()),
                "{file} has {name}, which is not in deploy/env.example"
            );
        }
    }
    // The README names these as families.
    let is_one_of_many = |name: &String| {
        let families = ["HEARTH_DEADLINES_", "HEARTH_BUDGET_"];
        families.iter().any(|family| name.starts_with(family))
    };
    for name in known
        .iter()
        .filter(|name| !is_one_of_many(name) && !name.ends_with('_'))
    {
        assert!(
            known_to_readme.contains(name),
            "the README does not explain {name}"
        );
    }
}

#[test]
fn what_the_image_copies_is_there_and_not_ignored() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ignore = read("deploy/Dockerfile.dockerignore");
    let dockerfile = read("deploy/Dockerfile");
    let mut copied = 0;
    for line in dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "))
    {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words[0].starts_with("--from") {
            continue;
        }
        for source in &words[..words.len() - 1] {
            copied += 1;
            assert!(root.join(source).exists(), "COPY {source}: no such file");
            assert!(
                ignore.lines().any(|kept| kept == format!("!{source}")),
                "COPY {source}: left out by Dockerfile.dockerignore"
            );
        }
    }
    assert!(copied >= 5, "the build copies the whole workspace");
}

#[test]
fn the_image_builds_with_the_toolchain_the_manifest_asks_for() {
    let manifest = read("Cargo.toml");
    let wanted = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = \""))
        .and_then(|rest| rest.strip_suffix('"'))
        .expect("the manifest names a toolchain");
    assert!(
        read("deploy/Dockerfile").contains(&format!("FROM rust:{wanted}-")),
        "deploy/Dockerfile builds with Rust {wanted}"
    );
}
