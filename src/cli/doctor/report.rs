//! What was found, for people and programs.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::json;

use crate::cli::failure::Exit;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    Ok,
    /// Works, but not everything or not for long.
    Warning,
    /// Does not work.
    Failure,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) check: String,
    pub(super) level: Level,
    pub(super) what: String,
    pub(super) cure: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &str, what: impl Into<String>) -> Self {
        Self {
            check: check.into(),
            level: Level::Ok,
            what: what.into(),
            cure: None,
        }
    }

    pub(super) fn warn(check: &str, what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            check: check.into(),
            level: Level::Warning,
            what: what.into(),
            cure: Some(cure.into()),
        }
    }

    pub(super) fn fail(check: &str, what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            level: Level::Failure,
            ..Self::warn(check, what, cure)
        }
    }
}

pub(super) fn exit(findings: &[Finding]) -> Exit {
    if findings.iter().any(|found| found.level == Level::Failure) {
        Exit::Failed
    } else {
        Exit::Ok
    }
}

pub(super) fn json(findings: &[Finding]) -> String {
    let ok = exit(findings) == Exit::Ok;
    format!("{}\n", json!({ "ok": ok, "findings": findings }))
}

pub(super) fn text(findings: &[Finding], colour: bool) -> String {
    let mut out = String::new();
    for found in findings {
        let (mark, paint) = match found.level {
            Level::Ok => ("✓", "\x1b[32m"),
            Level::Warning => ("!", "\x1b[33m"),
            Level::Failure => ("✗", "\x1b[31m"),
        };
        let (on, off) = if colour { (paint, "\x1b[0m") } else { ("", "") };
        let _ = writeln!(out, "{on}{mark}{off} {:<9} {}", found.check, found.what);
        if let Some(cure) = &found.cure {
            let _ = writeln!(out, "            cure: {cure}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_with_its_cure_below() {
        let findings = [
            Finding::ok("git", "git version 2.47.3"),
            Finding::warn("agent", "goose: not found", "install it"),
            Finding::fail("token", "can be read by others", "delete it"),
        ];
        insta::assert_snapshot!(text(&findings, false));
        assert_eq!(exit(&findings), Exit::Failed);
        assert_eq!(exit(&findings[..2]), Exit::Ok);
    }
}
