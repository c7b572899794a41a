//! What the service says is wrong, for people: an exit code, and a cure that can
//! be typed.

use reqwest::StatusCode;
use serde_json::Value;

use super::failure::{Exit, Failure};
use super::ids::short;
use crate::text::clean;

/// What the service says is wrong.
pub(super) fn problem(status: StatusCode, body: &[u8]) -> Failure {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    let (code, detail) = (text("code"), text("detail"));
    let exit = exit(status, &code);
    if detail.is_empty() {
        return Failure::plain(exit, format!("the service answers {status}"));
    }
    if code == "conflict" {
        return in_the_way(&detail, &body["conflicts"]);
    }
    let what = for_people(&detail);
    match cure(&code, &body) {
        Some(cure) => Failure::new(exit, what, cure),
        None => Failure::plain(exit, what),
    }
}

fn exit(status: StatusCode, code: &str) -> Exit {
    match (code, status.as_u16()) {
        ("conflict", _) => Exit::Conflict,
        ("worktree_busy" | "turn_running" | "starting" | "stopping", _) => Exit::Busy,
        ("needs_consent" | "worktree_at_risk", _) => Exit::NeedsConsent,
        (_, 400 | 404 | 409 | 410 | 413 | 415 | 422) => Exit::Usage,
        (_, 401 | 403 | 503) => Exit::Unreachable,
        _ => Exit::Failed,
    }
}

/// Routes and fields are for programs: a person has commands.
fn for_people(detail: &str) -> String {
    let is_for_programs = |clause: &&str| {
        let mut words = clause.split_whitespace();
        words.any(|word| {
            word.trim_start_matches(['`', '"', '('])
                .starts_with("/api/")
        }) || clause.contains("\"consent\"")
            || clause.contains("skip_teardown=")
    };
    // Where a route is only the other way out, the first one stays.
    let shorten = |clause: &'_ str| match clause.rsplit_once(", or ") {
        Some((first, other)) if is_for_programs(&other) => first.to_owned(),
        _ => clause.to_owned(),
    };
    let clauses = detail.split("; ").map(shorten);
    let told: Vec<String> = clauses
        .filter(|clause| !is_for_programs(&clause.as_str()))
        .map(|clause| clause.strip_prefix("#/").unwrap_or(&clause).to_owned())
        .collect();
    if told.is_empty() {
        return clean(detail);
    }
    clean(&told.join("; "))
}

/// What can be typed against it, where the text does not say.
fn cure(code: &str, body: &Value) -> Option<String> {
    let cure = match code {
        "worktree_busy" | "turn_running" => {
            "`hearth ls` shows what runs; try again when it is over"
        }
        "needs_consent" => {
            let chats = body["chats"].as_array().into_iter().flatten();
            let chats: Vec<String> = chats
                .filter_map(|chat| Some(short(chat.as_str()?.parse().ok()?)))
                .collect();
            return Some(format!(
                "say --consent if {} may lose that work",
                match &chats[..] {
                    [] => "they".to_owned(),
                    [chat] => format!("chat {chat}"),
                    several => format!("the chats {}", several.join(", ")),
                }
            ));
        }
        "teardown_failed" => "mend it, or `hearth rm SESSION --skip-teardown`",
        "worktree_at_risk" => {
            "`hearth stash` keeps uncommitted files; --force deletes and keeps all in a commit for 14 days"
        }
        "task_ended" => "`hearth attach` with its id shows how it ended",
        "not_retryable" => "`hearth inbox` lists what can be tried again",
        "not_dismissable" => "`hearth inbox` says what can be done about it",
        "prompt_answered" | "prompt_closed" => "`hearth prompts` lists what is still asked",
        "not_pending" => "`hearth changes --status all` shows how each change stands",
        "not_applied" => "`hearth changes --status applied` lists what can be rewound",
        "unknown_agent" => "name one with --agent; `hearth agents` lists who can be asked",
        _ => return None,
    };
    Some(cure.to_owned())
}

/// Files that stand in the way of an order, each with its reason.
fn in_the_way(detail: &str, conflicts: &Value) -> Failure {
    let clean = |value: &Value| clean(value.as_str().unwrap_or_default());
    let mut what = for_people(detail);
    for conflict in conflicts.as_array().into_iter().flatten() {
        let lines = conflict["hunks"].as_array().into_iter().flatten();
        let lines: Vec<String> = lines
            .filter_map(|hunk| {
                let (first, count) = (hunk[0].as_u64()?, hunk[1].as_u64()?);
                Some(match count {
                    0 => format!("before line {first}"),
                    1 => format!("line {first}"),
                    _ => format!("lines {first}-{}", first + count - 1),
                })
            })
            .collect();
        let place = if lines.is_empty() {
            String::new()
        } else {
            format!(" ({})", lines.join(", "))
        };
        let (path, reason) = (clean(&conflict["path"]), clean(&conflict["reason"]));
        what.push_str(&format!("\n  {path}{place}: {reason}"));
    }
    Failure::new(
        Exit::Conflict,
        what,
        "settle these files, or leave their changes out",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(status: u16, body: &Value) -> Failure {
        let status = StatusCode::from_u16(status).expect("a status");
        problem(status, body.to_string().as_bytes())
    }

    #[test]
    fn each_refusal_has_its_exit_code_and_no_words_of_programs() {
        let chat = "01990000-0000-7000-8000-0000aaaabbbb";
        for (status, code, detail, exit, what, cure) in [
            (
                409,
                "worktree_busy",
                "a turn runs in the session",
                Exit::Busy,
                "a turn runs in the session",
                Some("`hearth ls` shows what runs; try again when it is over"),
            ),
            (
                409,
                "needs_consent",
                "another chat worked since; send `\"consent\": true` if it may",
                Exit::NeedsConsent,
                "another chat worked since",
                Some("say --consent if chat aaaabbbb may lose that work"),
            ),
            (
                409,
                "task_ended",
                "task 5 has ended; its outcome is in GET /api/tasks/5",
                Exit::Usage,
                "task 5 has ended",
                Some("`hearth attach` with its id shows how it ended"),
            ),
            (
                401,
                "unauthorized",
                "the token is not ours",
                Exit::Unreachable,
                "the token is not ours",
                None,
            ),
            (
                422,
                "invalid",
                "#/model: is no model of demo; choose one of a, b, or look with POST /api/x",
                Exit::Usage,
                "model: is no model of demo; choose one of a, b",
                None,
            ),
            (
                422,
                "invalid",
                "src/api/a.rs: is no file; look with (`/api/x`)",
                Exit::Usage,
                "src/api/a.rs: is no file",
                None,
            ),
            (500, "internal", "\u{1b}[2Jx", Exit::Failed, " [2Jx", None),
        ] {
            let body = json!({ "code": code, "detail": detail, "chats": [chat] });
            let failure = told(status, &body);
            assert_eq!(failure.exit, exit, "{code}");
            assert_eq!(failure.what, what);
            assert_eq!(failure.cure.as_deref(), cure);
        }
    }

    #[test]
    fn files_in_the_way_are_named_with_their_lines() {
        let conflicts = json!([
            { "path": "a.txt", "reason": "both changed it", "hunks": [[3, 2], [9, 1]] },
            { "path": "b.txt", "reason": "it is gone" },
        ]);
        let body = json!({ "code": "conflict", "detail": "2 files", "conflicts": conflicts });
        let failure = told(409, &body);
        assert_eq!(failure.exit, Exit::Conflict);
        assert_eq!(
            failure.what,
            "2 files\n  a.txt (lines 3-4, line 9): both changed it\n  b.txt: it is gone"
        );
    }
}
