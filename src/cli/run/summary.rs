//! What `run` says at the end: pure, so that it can be tested.

use std::fmt::Write as _;
use std::time::Duration;

use uuid::Uuid;

use super::progress::{Notes, Over};
use crate::cli::failure::Exit;
use crate::store::rows::changes::Change;
use crate::text::clean;

/// Files listed; more are counted.
const MAX_FILES: usize = 40;

/// All that the end of a turn leaves behind.
pub(super) struct Summary<'a> {
    pub(super) agent: &'a str,
    pub(super) over: &'a Over,
    pub(super) took: Duration,
    /// All that wait for review in the session.
    pub(super) changes: &'a [Change],
    /// The turn's task: what it changed is told by name.
    pub(super) task: Uuid,
    pub(super) notes: &'a Notes,
    pub(super) worktree: Option<&'a str>,
    pub(super) session: &'a str,
}

/// What the turn's end means for the exit code.
pub(super) fn exit(over: &Over, interrupted: bool) -> Exit {
    match over.outcome.as_deref() {
        Some("ok") => Exit::Ok,
        _ if interrupted => Exit::Interrupted,
        None if over.state == "completed" => Exit::Ok,
        _ => Exit::Failed,
    }
}

impl Summary<'_> {
    /// A few lines, ended by a line break.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        self.verdict(&mut out);
        self.files(&mut out);
        self.next(&mut out);
        out
    }

    fn verdict(&self, out: &mut String) {
        let (mark, word) = match self.over.state.as_str() {
            "completed" => ('✓', "done"),
            "cancelled" => ('■', "cancelled"),
            _ => ('✗', "failed"),
        };
        let _ = write!(out, "{mark} {} {word} in {}", self.agent, took(self.took));
        match self.over.outcome.as_deref() {
            Some("ok" | "cancelled") | None => {}
            Some(outcome) => {
                let _ = write!(out, ": {outcome}");
            }
        }
        if let Some(detail) = &self.over.detail {
            let _ = write!(out, " ({detail})");
        }
        out.push('\n');
    }

    fn files(&self, out: &mut String) {
        let Some(worktree) = self.worktree else {
            return;
        };
        self.notes(out);
        let own: Vec<&Change> = self
            .changes
            .iter()
            .filter(|change| change.task_id == Some(self.task))
            .collect();
        if own.is_empty() && self.over.outcome.as_deref() == Some("interrupted") {
            // The service may have gone before it could look; it does so at its start.
            let _ = writeln!(
                out,
                "  what it changed in {worktree} may not be compared yet: the next start of the service, or the session's next turn, does that"
            );
            return;
        }
        let files = match own.len() {
            0 => "no files".to_owned(),
            1 => "1 file".to_owned(),
            more => format!("{more} files"),
        };
        let _ = writeln!(out, "  {files} changed in {worktree}");
        for change in own.iter().take(MAX_FILES) {
            let _ = writeln!(out, "    {}", line(change));
        }
        if own.len() > MAX_FILES {
            let _ = writeln!(out, "    … and {} more", own.len() - MAX_FILES);
        }
        if self.changes.len() > own.len() {
            let _ = writeln!(
                out,
                "  {} pending in all, earlier turns' too",
                self.changes.len()
            );
        }
    }

    fn notes(&self, out: &mut String) {
        for warning in &self.notes.warnings {
            let _ = writeln!(out, "  ! {}", clean(warning));
        }
        if self.notes.omitted > 0 {
            let _ = writeln!(
                out,
                "  ! {} more files changed than are listed",
                self.notes.omitted
            );
        }
    }

    fn next(&self, out: &mut String) {
        out.push_str("  next:\n");
        if let Some(worktree) = self.worktree.filter(|_| !self.changes.is_empty()) {
            let _ = writeln!(out, "    git -C {} status", quote(worktree));
            let _ = writeln!(out, "    hearth changes {}", self.session);
            let _ = writeln!(out, "    hearth apply {} --all", self.session);
        }
        let _ = writeln!(
            out,
            "    hearth run --session {} --agent {} \"…\"",
            self.session, self.agent
        );
    }
}

fn line(change: &Change) -> String {
    let path = match &change.old_path {
        Some(old) => format!("{old} → {}", change.file_path),
        None => change.file_path.clone(),
    };
    let path: String = path.chars().filter(|c| !c.is_control()).collect();
    let size = match (change.is_secret, change.is_binary) {
        (true, _) => "(secret: not shown)".to_owned(),
        (_, true) => "(binary)".to_owned(),
        _ => format!("+{} -{}", change.additions, change.deletions),
    };
    let cut = if change.truncated { " (cut)" } else { "" };
    format!("{:<6} {path}  {size}{cut}", change.operation)
}

fn took(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{}.{}s", seconds, duration.subsec_millis() / 100),
        10..60 => format!("{seconds}s"),
        _ => format!("{}m{:02}s", seconds / 60, seconds % 60),
    }
}

/// For a shell.
pub(in crate::cli) fn quote(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:".contains(c);
    if path.chars().all(plain) {
        path.to_owned()
    } else {
        format!("'{}'", path.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(path: &str, operation: &str) -> Change {
        Change {
            id: Uuid::nil(),
            session_id: None,
            task_id: Some(Uuid::nil()),
            file_path: path.into(),
            old_path: None,
            operation: operation.into(),
            diff: String::new(),
            status: "pending".into(),
            agent: None,
            is_binary: false,
            is_secret: false,
            truncated: false,
            size: None,
            additions: 3,
            deletions: 1,
            created_at: chrono::DateTime::UNIX_EPOCH,
        }
    }

    fn over(state: &str, outcome: &str) -> Over {
        Over {
            state: state.into(),
            outcome: Some(outcome.into()),
            detail: None,
        }
    }

    #[test]
    fn says_what_changed_and_what_to_do_next() {
        let mut renamed = change("new.rs", "edit");
        renamed.old_path = Some("old.rs".into());
        let mut secret = change(".env", "edit");
        secret.is_secret = true;
        let changes = [change("a.txt", "create"), renamed, secret];
        let summary = Summary {
            agent: "demo",
            over: &over("completed", "ok"),
            took: Duration::from_millis(3456),
            changes: &changes,
            notes: &Notes {
                omitted: 7,
                warnings: vec!["the agent changed .git/config".into()],
            },
            task: Uuid::nil(),
            worktree: Some("/tmp/it's here"),
            session: "0199",
        };
        insta::assert_snapshot!(summary.text());
        let later = Summary {
            task: Uuid::from_u128(1),
            ..summary
        };
        let text = later.text();
        assert!(text.contains("  no files changed in /tmp"), "{text}");
        assert!(text.contains("  3 pending in all"), "{text}");
        assert!(text.contains("hearth apply 0199 --all"), "{text}");
    }

    #[test]
    fn the_outcome_decides_the_exit_code() {
        assert_eq!(exit(&over("completed", "ok"), false), Exit::Ok);
        assert_eq!(exit(&over("failed", "agent_crashed"), false), Exit::Failed);
        assert_eq!(
            exit(&over("cancelled", "cancelled"), true),
            Exit::Interrupted
        );
        assert_eq!(exit(&over("completed", "ok"), true), Exit::Ok);
    }
}
