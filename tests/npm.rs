//! Programs that come from npm, installed by the test run itself below the build
//! directory: exactly what `tests/<name>/package-lock.json` says, without install
//! scripts.
//!
//! They need npm and a registry that it reaches. Without them nothing can be
//! shown, so that the tests fail and say what to do; they are never skipped.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for another test process that installs.
const PATIENCE: Duration = Duration::from_secs(600);

/// What npm is given, and what names an installation by its content.
const FILES: &[&str] = &["package.json", "package-lock.json", ".npmrc"];

/// The directory that holds `node_modules` for `tests/<dir_name>`. The first
/// test of the first run installs; the others, of other processes too, wait for
/// it. Another lock file means another directory, and the end of this one.
///
/// # Panics
/// When npm is missing or cannot install; the message says what to do.
pub(crate) fn installed(dir_name: &str) -> PathBuf {
    const CURE: &str = "install Node.js 20 or newer with npm, see to it that npm reaches its \
        registry (`npm ping`), and run the tests again";
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(dir_name);
    let mut hasher = DefaultHasher::new();
    for file in FILES {
        fs::read(source.join(file))
            .unwrap_or_default()
            .hash(&mut hasher);
    }
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("npm");
    let at = all.join(format!("{dir_name}-{:016x}", hasher.finish()));
    once(&at, || {
        remove_others(&all, dir_name, &at);
        for file in FILES {
            if source.join(file).exists() {
                fs::copy(source.join(file), at.join(file)).unwrap();
            }
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .args(["--fetch-timeout=60000", "--fetch-retries=2"])
            .current_dir(&at);
        if let Err(why) = run(&mut npm) {
            panic!(
                "tests/{dir_name} needs npm packages for Linux on x86-64: {CURE}. In {}: {why}",
                at.display()
            );
        }
    });
    at
}

/// Makes what belongs below `at` once, however many processes ask: `make` runs
/// under a lock, and again only when it failed before.
pub(crate) fn once(at: &Path, make: impl FnOnce()) {
    fs::create_dir_all(at).unwrap();
    let stamp = at.join(".made");
    let _lock = lock(&at.join(".lock"));
    if !stamp.exists() {
        make();
        fs::write(stamp, "").unwrap();
    }
}

/// Runs it to its end.
///
/// # Errors
/// It failed; what it said.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let done = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{command:?} cannot be run: {error}"))?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!(
        "{command:?}: {}\n{}{}",
        done.status,
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    ))
}

/// What older lock files asked for.
fn remove_others(all: &Path, dir_name: &str, kept: &Path) {
    for entry in fs::read_dir(all).unwrap().flatten() {
        let path = entry.path();
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let of = name.rsplit_once('-').map(|(of, _)| of);
        if of == Some(dir_name) && path != kept {
            fs::remove_dir_all(path).unwrap();
        }
    }
}

fn lock(path: &Path) -> File {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .unwrap();
    let started = Instant::now();
    while file.try_lock().is_err() {
        assert!(
            started.elapsed() < PATIENCE,
            "another test process holds {} for more than {PATIENCE:?}: end it and run the tests again",
            path.display()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    file
}
