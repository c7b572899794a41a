//! What can be wrong with an agent, and the cure: pure.

use std::io;
use std::path::Path;
use std::time::Duration;

use hearth_actors::ids::AgentName;
use hearth_actors::ports::StartError;

use crate::process::ProcessError;

/// Longest explanation that is kept, in characters.
const MAX_DETAIL: usize = 2000;

/// How a runtime that is too old shows itself on standard error.
const OLD_RUNTIME: &[&str] = &[
    "requires node",
    "requires node.js",
    "unsupported engine",
    "node version",
    "node.js version",
    "err_unknown_builtin_module",
    "syntaxerror:",
];

/// How the agents that are built in are installed.
const INSTALL: &[(&str, &str)] = &[
    ("goose", "npm install -g @aaif/goose-acp"),
    (
        "qwen",
        "npm install -g @qwen-code/qwen-code (needs Node 22 or newer)",
    ),
    ("opencode", "npm install -g opencode-ai"),
    ("claude", "npm install -g @anthropic-ai/claude-code"),
];

/// Something is wrong with an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// A word that stays: `not_installed`, `not_executable`, `not_logged_in`,
    /// `old_runtime`, `timed_out`, `ended`, `refused` or `unusable`.
    pub kind: &'static str,
    /// What happened, for a person.
    pub detail: String,
    /// What to do about it.
    pub cure: String,
}

impl Fault {
    fn new(kind: &'static str, detail: &str, cure: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.trim().chars().take(MAX_DETAIL).collect(),
            cure: cure.into(),
        }
    }

    pub(super) fn no_place(directory: &Path, error: &io::Error) -> Self {
        Self::new(
            "unusable",
            &format!(
                "no directory can be made below {}: {error}",
                directory.display()
            ),
            "free some disk, or correct the permissions of the data directory",
        )
    }

    /// The program is not there.
    pub(super) fn missing(name: &AgentName, error: &ProcessError) -> Self {
        if matches!(error, ProcessError::NotExecutable { .. }) {
            let cure = format!("chmod +x it, or set another `command` in [agents.{name}]");
            return Self::new("not_executable", &error.to_string(), cure);
        }
        let known = INSTALL.iter().find(|(known, _)| name.as_str() == *known);
        let install = known.map_or("install it", |(_, how)| how);
        Self::new(
            "not_installed",
            &format!("{name} is not installed: its program is not where it is looked for"),
            format!("{install}, or set `command` in [agents.{name}] to where it is"),
        )
    }

    pub(super) fn timed_out(name: &AgentName, limit: Duration) -> Self {
        Self::new(
            "timed_out",
            &format!("{name} opened no session within {} s", limit.as_secs()),
            format!(
                "run its command in a terminal to see what it waits for, or raise `deadlines` for a slow machine (spawn_ms, at most 60 s count for a look at {name})"
            ),
        )
    }

    /// It could not be started, or opened no session.
    pub(super) fn start(name: &AgentName, error: &StartError) -> Self {
        let again = format!(
            "run `{name}` in a terminal to see more; then look again with `hearth agents --probe`"
        );
        match error {
            StartError::Missing(detail) => Self::new(
                "not_executable",
                detail,
                format!("install it anew, or set another `command` in [agents.{name}]"),
            ),
            StartError::Auth(detail) => Self::new(
                "not_logged_in",
                detail,
                "log in with the agent's own command in a terminal, or give it its API key (`pass_env`)",
            ),
            StartError::Server(detail) => Self::new("refused", detail, again),
            StartError::Failed { message, exit } => {
                let said = message.to_lowercase();
                if exit.is_some() && OLD_RUNTIME.iter().any(|sign| said.contains(sign)) {
                    return Self::new(
                        "old_runtime",
                        message,
                        "install Node 22 or newer and put it first in PATH",
                    );
                }
                let kind = if exit.is_some() { "ended" } else { "refused" };
                Self::new(kind, message, again)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use hearth_actors::event::ExitInfo;

    use super::*;

    fn failed(message: &str, exited: bool) -> Fault {
        let error = StartError::Failed {
            message: message.into(),
            exit: exited.then(ExitInfo::default),
        };
        Fault::start(&"qwen".into(), &error)
    }

    #[test]
    fn each_fault_has_a_word_and_a_cure() {
        let missing = ProcessError::CommandMissing {
            command: "qwen".into(),
            path: "/bin".into(),
        };
        let fault = Fault::missing(&"qwen".into(), &missing);
        assert_eq!(fault.kind, "not_installed");
        assert!(fault.cure.contains("@qwen-code/qwen-code"), "{fault:?}");
        let other = Fault::missing(&"mine".into(), &missing);
        assert!(other.cure.contains("[agents.mine]"), "{other:?}");
        let file = ProcessError::NotExecutable { path: "/x".into() };
        assert_eq!(Fault::missing(&"qwen".into(), &file).kind, "not_executable");
        let login = Fault::start(&"qwen".into(), &StartError::Auth("wants a login".into()));
        assert_eq!(login.kind, "not_logged_in");
        assert_eq!(
            Fault::timed_out(&"qwen".into(), Duration::from_secs(60)).kind,
            "timed_out"
        );
    }

    #[test]
    fn an_old_runtime_is_told_from_other_ends() {
        assert_eq!(
            failed("SyntaxError: Invalid regular expression flags", true).kind,
            "old_runtime"
        );
        assert_eq!(
            failed("this program requires Node.js >= 22", true).kind,
            "old_runtime"
        );
        assert_eq!(failed("boom", true).kind, "ended");
        assert_eq!(failed("it speaks version 9", false).kind, "refused");
        assert_eq!(failed(&"x".repeat(9000), true).detail.len(), MAX_DETAIL);
    }
}
