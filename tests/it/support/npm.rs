//! Programs that come from npm, installed by the test run itself: exactly what
//! `tests/<name>/package-lock.json` says, without install scripts.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What names an installation, by their content.
const FILES: &[&str] = &["package.json", "package-lock.json", ".npmrc"];

/// The directory that holds `node_modules` for `tests/<dir_name>`. The first
/// test of the first run installs; the others, of other processes too, wait for
/// it. Another lock file means another directory.
///
/// # Panics
/// When npm is missing or cannot install, with what it said.
pub(crate) fn installed(dir_name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(dir_name);
    let mut hasher = DefaultHasher::new();
    for file in FILES {
        fs::read(source.join(file))
            .unwrap_or_default()
            .hash(&mut hasher);
    }
    let at = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("npm")
        .join(format!("{dir_name}-{:016x}", hasher.finish()));
    once(&at, || {
        for file in FILES {
            if source.join(file).exists() {
                fs::copy(source.join(file), at.join(file)).unwrap();
            }
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(&at);
        run(&mut npm);
    });
    at
}

/// Makes what belongs below `at` once, however many processes ask: `make` runs
/// under a lock, and again only when it failed before.
pub(crate) fn once(at: &Path, make: impl FnOnce()) {
    fs::create_dir_all(at).unwrap();
    let stamp = at.join(".made");
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(at.join(".lock"))
        .unwrap();
    lock.lock().unwrap();
    if !stamp.exists() {
        make();
        fs::write(stamp, "").unwrap();
    }
}

/// Runs it to its end; fails with what it said.
pub(crate) fn run(command: &mut Command) {
    let done = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
    assert!(
        done.status.success(),
        "{command:?}: {}\n{}{}",
        done.status,
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}
