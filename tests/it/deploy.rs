//! What stands in deploy/ fits what is built: names of settings, copied files.

use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The settings that Hearth reads, as the example names them.
fn known() -> Vec<String> {
    let named = |line: &str| {
        let (name, _) = line.strip_prefix('#')?.split_once('=')?;
        let plain = |b: u8| b.is_ascii_uppercase() || b == b'_';
        name.bytes().all(plain).then(|| name.to_owned())
    };
    read("deploy/env.example")
        .lines()
        .filter_map(named)
        .collect()
}

#[test]
fn the_container_sets_nothing_that_hearth_does_not_read() {
    let known = known();
    assert!(known.len() > 20, "{known:?}");
    let compose = read("deploy/compose.yaml");
    let hearth = compose
        .split("  hearth:\n    build:")
        .nth(1)
        .expect("a service");
    let given = hearth
        .split("environment:\n")
        .nth(1)
        .and_then(|rest| rest.split("    ports:").next())
        .expect("an environment");
    let mut names: Vec<_> = given
        .lines()
        .filter_map(|line| line.trim().split_once(": "))
        .map(|(name, _)| name.to_owned())
        .collect();
    let image = read("deploy/Dockerfile");
    let set = image
        .split("ENV ")
        .nth(1)
        .and_then(|rest| rest.split("\nVOLUME").next());
    names.extend(
        set.expect("an environment")
            .split_whitespace()
            .filter_map(|word| word.split_once('='))
            .map(|(name, _)| name.to_owned()),
    );
    assert_eq!(names.len(), 5, "{names:?}");
    for name in names {
        assert!(known.contains(&name), "{name} is no setting");
    }
}

#[test]
fn the_image_copies_what_the_build_needs_and_what_exists() {
    let image = read("deploy/Dockerfile");
    let copied: Vec<&str> = image
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "))
        .filter(|line| !line.starts_with("--from"))
        .flat_map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            words[..words.len() - 1].to_vec()
        })
        .collect();
    for source in &copied {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
        assert!(path.exists(), "{source} is copied and does not exist");
    }
    for needed in [
        "Cargo.toml",
        "Cargo.lock",
        "actors",
        "src",
        "migrations",
        "tests",
    ] {
        assert!(copied.contains(&needed), "{needed} is not copied");
    }
    let rust = read("Cargo.toml");
    let version = rust
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = \""))
        .map(|rest| rest.trim_end_matches('"'))
        .expect("a version");
    assert!(image.contains(&format!("rust:{version}")), "{version}");
}
