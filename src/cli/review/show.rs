//! Changes for people: a line each, and their diffs.

use std::fmt::Write as _;

use crate::cli::ids::short;
use crate::store::rows::changes::Change;

const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const CYAN: &str = "\x1b[36m";
const DIM: &str = "\x1b[2m";
const OFF: &str = "\x1b[0m";

/// A line each.
pub(super) fn stat(changes: &[Change], status: bool) -> String {
    let mut out = String::new();
    for change in changes {
        let _ = writeln!(out, "{}", line(change, status));
    }
    let (added, removed) = changes.iter().fold((0, 0), |(added, removed), change| {
        (added + change.additions, removed + change.deletions)
    });
    let files = if changes.len() == 1 { "file" } else { "files" };
    let _ = writeln!(out, "{} {files}, +{added} -{removed}", changes.len());
    out
}

/// A line each, with its diff below.
pub(super) fn diffs(changes: &[Change], status: bool, colours: bool) -> String {
    let paint = |style: &'static str| if colours { style } else { "" };
    let off = paint(OFF);
    let mut out = String::new();
    for change in changes {
        let _ = writeln!(out, "{}{}{off}", paint(BOLD), line(change, status));
        for text in change.diff.lines() {
            let style = match text.as_bytes().first() {
                _ if text.starts_with("+++") || text.starts_with("---") => paint(BOLD),
                _ if text.starts_with("diff ") || text.starts_with("index ") => paint(DIM),
                Some(b'+') => paint(GREEN),
                Some(b'-') => paint(RED),
                Some(b'@') => paint(CYAN),
                _ => "",
            };
            let end = if style.is_empty() { "" } else { off };
            let _ = writeln!(out, "{style}{}{end}", clean(text));
        }
        if change.truncated {
            let _ = writeln!(out, "{}… the rest is too long to show{off}", paint(DIM));
        }
        out.push('\n');
    }
    out
}

fn line(change: &Change, status: bool) -> String {
    let path = match &change.old_path {
        Some(old) => format!("{} → {}", clean(old), clean(&change.file_path)),
        None => clean(&change.file_path),
    };
    let size = match (change.is_secret, change.is_binary) {
        (true, _) => "(secret: not shown)".to_owned(),
        (_, true) => "(binary)".to_owned(),
        _ => format!("+{} -{}", change.additions, change.deletions),
    };
    let agent = change.agent.as_deref().map(clean).unwrap_or_default();
    let status = if status { change.status.as_str() } else { "" };
    let line = format!(
        "{}  {:<6} {path}  {size}  {agent}  {status}",
        short(change.id),
        change.operation
    );
    line.trim_end().to_owned()
}

/// What comes from files must not steer the terminal; tabs may stay.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn change(path: &str, diff: &str) -> Change {
        Change {
            id: Uuid::from_u128(0x1234),
            session_id: None,
            task_id: None,
            file_path: path.into(),
            old_path: None,
            operation: "edit".into(),
            diff: diff.into(),
            status: "pending".into(),
            agent: Some("demo".into()),
            is_binary: false,
            is_secret: false,
            truncated: false,
            size: None,
            additions: 1,
            deletions: 1,
            created_at: chrono::DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_diff_is_readable_and_steers_no_terminal() {
        let diff = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-old\x1b[2J\n+new\tword\n";
        let changes = [change("x", diff), change("evil\x1b]0;\x07", "")];
        let plain = diffs(&changes, false, false);
        assert!(!plain.contains('\x1b'), "{plain:?}");
        assert!(plain.contains("+new\tword\n"));
        insta::assert_snapshot!(plain);
        let coloured = diffs(&changes[..1], true, true);
        assert!(coloured.contains("\x1b[32m+new\tword\x1b[0m"));
        assert!(!coloured.contains("\x1b[2J"));
        assert_eq!(stat(&changes[..1], true).lines().count(), 2);
    }
}
