//! How arenas are printed.

use std::fmt::Write as _;

use serde_json::Value;
use uuid::Uuid;

use crate::cli::ids::short;
use crate::cli::run::summary::quote;
use crate::store::rows::arenas::{Arena, Contestant};
use crate::text::clean;

/// Lines of a check's log that are shown.
const LOG_LINES: usize = 10;
/// Characters of a prompt or of a line.
const WIDTH: usize = 100;

/// A line each for what is new about the contestants, the same one every time.
pub(super) fn news(arena: &Arena) -> Vec<String> {
    let lines = arena.contestants.iter().filter_map(|one| {
        let who = who(one);
        match (one.state.as_str(), one.stage.as_str()) {
            ("pending", _) => None,
            ("running", _) => Some(format!("{who} works")),
            ("blocked", _) => Some(format!("{who} asks: hearth prompts")),
            (_, "waiting") => Some(format!("{who} ended: {}", outcome(one))),
            (_, "examining") => Some(format!("{who} is being checked")),
            _ => Some(format!("{who} ended: {}{}", outcome(one), after(one))),
        }
    });
    lines.collect()
}

/// A line an arena.
pub(super) fn list(arenas: &[Arena]) -> String {
    let mut out = String::new();
    for arena in arenas {
        let agents: Vec<String> = arena.contestants.iter().map(who).collect();
        let _ = writeln!(
            out,
            "{}  {:<9}  {}  {}",
            short(arena.id),
            arena.state,
            agents.join(", "),
            line(&arena.input)
        );
    }
    if out.is_empty() {
        out.push_str("no arenas yet: hearth arena \"…\" --agents A,B\n");
    }
    out
}

/// The verdict table.
pub(super) fn text(arena: &Arena) -> String {
    let mut out = format!(
        "arena {}  {}  {}\n",
        short(arena.id),
        arena.state,
        line(&arena.input)
    );
    if let Some(why) = &arena.detail {
        let _ = writeln!(out, "  {}", line(why));
    }
    let rows: Vec<[String; 8]> = std::iter::once(HEAD.map(str::to_owned))
        .chain(arena.contestants.iter().map(|one| row(arena, one)))
        .collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        let _ = writeln!(out, "  {}", cells.join("  ").trim_end());
    }
    for one in arena.contestants.iter() {
        for said in details(one) {
            let _ = writeln!(out, "  {said}");
        }
    }
    if arena.state == "judged" {
        out.push_str("  next:\n");
        let id = short(arena.id);
        for one in arena.contestants.iter() {
            if let (Some(path), Some(base), Some(result)) =
                (&one.worktree_path, &arena.base_commit, &one.result_commit)
            {
                // Two commits: new files are in the second one, and no index is
                // asked.
                let (path, base, result) = (quote(path), brief(base), brief(result));
                let _ = writeln!(out, "    git -C {path} diff {base} {result}");
            }
        }
        let _ = writeln!(out, "    hearth arena select {id} AGENT|TASK");
    }
    out
}

/// What became of a choice.
pub(super) fn selected(arena: &Arena, winner: Uuid, answer: &Value) -> String {
    let one = arena.contestants.iter().find(|one| one.task_id == winner);
    let who = one.map_or_else(|| short(winner), who);
    let session = answer["session_id"].as_str().unwrap_or_default();
    let files = answer["operation"]["result"]["files_total"]
        .as_u64()
        .unwrap_or(0);
    if arena.session_id.is_some() {
        let files = if files == 1 {
            "1 file".to_owned()
        } else {
            format!("{files} files")
        };
        format!("{who} is selected: {files} changed in session {session}\n")
    } else {
        format!("{who} is selected: its session {session} is an ordinary one\n")
    }
}

/// As much of a commit's hash as nobody else's begins with.
fn brief(hash: &str) -> String {
    hash.chars().take(12).collect()
}

const HEAD: [&str; 8] = [
    "agent", "task", "outcome", "check", "files", "tokens", "cost", "time",
];

fn row(arena: &Arena, one: &Contestant) -> [String; 8] {
    let mark = if arena.winner == Some(one.task_id) {
        " *"
    } else {
        ""
    };
    [
        format!("{}{mark}", who(one)),
        short(one.task_id),
        outcome(one),
        check(one),
        files(one),
        (one.input_tokens + one.output_tokens).to_string(),
        format!("{:.4} $", one.cost),
        one.wall_ms.map_or_else(|| "-".into(), seconds),
    ]
}

fn who(one: &Contestant) -> String {
    let agent = clean(one.agent.as_deref().unwrap_or("-"));
    match &one.model {
        Some(model) => format!("{agent}:{}", clean(model)),
        None => agent,
    }
}

fn outcome(one: &Contestant) -> String {
    clean(one.outcome.as_deref().unwrap_or(&one.state))
}

fn check(one: &Contestant) -> String {
    match (one.check.as_deref(), one.check_ms) {
        (None, _) if one.stage == "examining" => "running".into(),
        (None, _) => "-".into(),
        (Some("failed"), Some(ms)) => match one.check_exit_code {
            Some(code) => format!("failed ({code}) {}", seconds(ms)),
            None => format!("failed {}", seconds(ms)),
        },
        (Some(result @ ("passed" | "timed_out")), Some(ms)) => format!("{result} {}", seconds(ms)),
        (Some(result), _) => result.into(),
    }
}

fn files(one: &Contestant) -> String {
    match (one.files, one.additions, one.deletions) {
        (Some(files), Some(more), Some(less)) => format!("{files} +{more} -{less}"),
        _ => "-".into(),
    }
}

fn after(one: &Contestant) -> String {
    match check(one).as_str() {
        "-" => String::new(),
        check => format!(", check {check}"),
    }
}

/// What a person reads when something is not as wished.
fn details(one: &Contestant) -> Vec<String> {
    let mut lines = Vec::new();
    let who = who(one);
    if let Some(why) = &one.outcome_detail {
        lines.push(format!("{who}: {}", line(why)));
    }
    if let Some(note) = &one.note {
        lines.push(format!("{who}: {}", line(note)));
    }
    let wrong = one.check.as_deref().is_some_and(|check| check != "passed");
    if let Some(log) = one.check_log.as_deref().filter(|_| wrong) {
        let last: Vec<&str> = log.lines().collect();
        let from = last.len().saturating_sub(LOG_LINES);
        lines.extend(
            last[from..]
                .iter()
                .map(|said| format!("{who} | {}", line(said))),
        );
    }
    lines
}

#[expect(clippy::cast_precision_loss, reason = "a tenth of a second is shown")]
fn seconds(ms: i64) -> String {
    format!("{:.1}s", ms as f64 / 1000.0)
}

fn line(text: &str) -> String {
    let text = clean(text);
    let text = text.trim();
    let mut line: String = text.chars().take(WIDTH).collect();
    if text.chars().count() > WIDTH {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn arena(state: &str) -> Arena {
        let one = |n: u8, agent: &str, outcome: &str, check: &str| {
            json!({
                "task_id": format!("01990000-0000-7000-8000-00000000000{n}"),
                "session_id": format!("01990000-0000-7000-8000-00000000001{n}"),
                "agent": agent, "model": null, "mode_id": null, "state": "completed",
                "outcome": outcome, "outcome_detail": null, "summary": "done", "stage": "judged",
                "check": check, "check_exit_code": 3, "check_signal": null, "check_ms": 1234,
                "check_log": "one\ntwo\x1b[2J\n", "files": 2, "additions": 10, "deletions": 1,
                "input_tokens": 1000, "output_tokens": 234, "cost": 0.0123, "wall_ms": 4321,
                "result_commit": "c0ffee", "worktree_path": "/w/1", "note": null, "archived": false,
            })
        };
        let arena = json!({
            "id": "01990000-0000-7000-8000-000000000009", "project_id": Uuid::nil(),
            "session_id": null, "state": state, "detail": null, "input": "fix\x1b[2J the tests",
            "check_command": ["make"], "check_timeout_ms": 1, "base_commit": "c0ffee",
            "winner": null, "cancelling": false, "input_tokens": 0, "output_tokens": 0, "cost": 0,
            "created_at": "2026-01-01T00:00:00Z", "ended_at": null,
            "contestants": [one(1, "goose", "ok", "passed"), one(2, "qwen", "agent_crashed", "failed")],
        });
        serde_json::from_value(arena).expect("an arena")
    }

    #[test]
    fn the_table_says_who_did_how_and_what_is_next() {
        insta::assert_snapshot!(text(&arena("judged")));
        insta::assert_snapshot!("a_line_an_arena", list(&[arena("running")]));
        assert_eq!(
            news(&arena("running")),
            [
                "goose ended: ok, check passed 1.2s",
                "qwen ended: agent_crashed, check failed (3) 1.2s"
            ]
        );
    }
}
