//! `close`, `rm`, `stash` and `reap`: what is done with sessions and worktrees that
//! nobody needs any more.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::args::{Close, Reap, Remove, Stash};
use super::failure::{Exit, Failure};
use super::{discover, ids, print};
use crate::text::clean;

pub(super) async fn close(
    args: &Close,
    home: &Path,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let client = discover::need(home, env).await?;
    let path = if args.chat {
        format!("/api/chats/{}/close", ids::chat(&client, &args.what).await?)
    } else {
        let session = ids::session(&client, &args.what).await?;
        format!("/api/sessions/{session}/close")
    };
    let answer: Value = client.post(&path, &json!({})).await?;
    if args.json {
        print(&format!("{answer}\n"));
        return Ok(Exit::Ok);
    }
    let mut text = format!(
        "closed: {} cancelled, {} interrupted\n",
        answer["cancelled"], answer["interrupted"]
    );
    match answer["worktree"].as_str() {
        Some("archived") => text.push_str("  its worktree is archived; a message brings it back\n"),
        Some("underway") => text.push_str("  its worktree is being archived\n"),
        Some("kept") => {
            let why = answer["why"].as_str().unwrap_or_default();
            let _ = writeln!(text, "  its worktree is kept: {}", clean(why));
            text.push_str(&risk(&answer["risk"]));
        }
        _ => {}
    }
    print(&text);
    Ok(Exit::Ok)
}

pub(super) async fn remove(
    args: &Remove,
    home: &Path,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let client = discover::need(home, env).await?;
    let session = ids::session(&client, &args.session).await?;
    if args.dry_run {
        let path = format!("/api/sessions/{session}/worktree-risk");
        let answer: Value = client.get(&path).await?;
        if args.json {
            print(&format!("{answer}\n"));
        } else if answer["at_risk"] == true {
            print(&format!(
                "work would be lost:\n{}",
                risk(&answer["worktree"])
            ));
        } else {
            print("nothing would be lost\n");
        }
        return Ok(Exit::Ok);
    }
    let path = format!(
        "/api/sessions/{session}?force={}&skip_teardown={}",
        args.force, args.skip_teardown
    );
    let answer: Value = client.delete(&path).await?;
    if args.json {
        print(&format!("{answer}\n"));
        return Ok(Exit::Ok);
    }
    print(&deleted(&session.to_string(), &answer));
    Ok(Exit::Ok)
}

fn deleted(session: &str, answer: &Value) -> String {
    if answer["worktree"] == "underway" {
        return format!("{session} is being deleted: its worktree is being put away\n");
    }
    let mut text = format!("{session} deleted\n");
    if let Some(kept) = answer["kept_as"].as_str() {
        let _ = writeln!(
            text,
            "  what its worktree held is kept for 14 days: git show {kept}"
        );
    }
    text
}

pub(super) async fn stash(
    args: &Stash,
    home: &Path,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let client = discover::need(home, env).await?;
    let session = ids::session(&client, &args.session).await?;
    let path = format!("/api/sessions/{session}/worktree-stash");
    let answer: Value = client.post(&path, &json!({})).await?;
    if args.json {
        print(&format!("{answer}\n"));
    } else {
        let result = &answer["operation"]["result"];
        let notes = result["notes"].as_array().into_iter().flatten();
        let notes: Vec<String> = notes.filter_map(Value::as_str).map(clean).collect();
        let files = result["files_total"].as_u64().unwrap_or_default();
        let mut told = notes
            .iter()
            .fold(String::new(), |told, note| told + note + "\n");
        if files > 0 || notes.is_empty() {
            let files = match files {
                1 => "1 file".to_owned(),
                count => format!("{count} files"),
            };
            told += &format!("stashed {files}; `git stash list` in the repository shows them\n");
        }
        print(&told);
    }
    Ok(Exit::Ok)
}

pub(super) async fn reap(
    args: &Reap,
    home: &Path,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let client = discover::need(home, env).await?;
    let path = format!("/api/reap?dry_run={}", args.dry_run);
    let report: Value = client.post(&path, &json!({})).await?;
    if args.json {
        print(&format!("{report}\n"));
    } else {
        print(&lines(&report));
    }
    Ok(Exit::Ok)
}

fn lines(report: &Value) -> String {
    let would = if report["dry_run"] == true {
        "would "
    } else {
        ""
    };
    let mut text = String::new();
    for item in report["items"].as_array().into_iter().flatten() {
        let word = |key: &str| clean(item[key].as_str().unwrap_or_default());
        let what = match item["fate"].as_str() {
            Some("done") => format!("{would}{}", word("deed")),
            Some(fate) => fate.to_owned(),
            None => String::new(),
        };
        let _ = writeln!(text, "{what:<16} {} ({})", word("path"), word("reason"));
        if let Some(detail) = item["detail"].as_str() {
            let _ = writeln!(text, "                 {}", clean(detail));
        }
    }
    if report["checkpoints"] != 0 {
        let _ = writeln!(
            text,
            "{would}forget {} old checkpoints",
            report["checkpoints"]
        );
    }
    if text.is_empty() {
        text.push_str("nothing to do\n");
    }
    text
}

/// Every kind of loss with its number and names.
fn risk(risk: &Value) -> String {
    let mut text = String::new();
    for kind in ["unreadable", "unfinished"] {
        if let Some(why) = risk[kind].as_str() {
            let _ = writeln!(text, "    {kind}: {}", clean(why));
        }
    }
    let kinds = [
        "modified",
        "untracked",
        "staged",
        "unkept",
        "unpushed",
        "unmerged",
    ];
    for kind in kinds {
        let names: Vec<String> = risk[kind]["names"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|name| name.as_str().map(clean))
            .collect();
        let total = risk[kind]["total"].as_u64().unwrap_or(0);
        if total > 0 {
            let more = total.saturating_sub(names.len() as u64);
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            let _ = writeln!(text, "    {total} {kind}: {}{more}", names.join(", "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_and_why() {
        let report = json!({ "dry_run": true, "checkpoints": 3, "items": [
            { "deed": "archive", "path": "/w/a", "reason": "idle", "fate": "done" },
            { "deed": "bury", "path": "/w/b", "reason": "orphan", "fate": "kept",
              "detail": "untracked: x" },
        ]});
        let text = lines(&report);
        assert!(
            text.contains("would archive") && text.contains("/w/a (idle)"),
            "{text}"
        );
        assert!(
            text.contains("kept") && text.contains("untracked: x"),
            "{text}"
        );
        assert!(text.contains("would forget 3"), "{text}");
        assert_eq!(
            lines(&json!({ "items": [], "checkpoints": 0 })),
            "nothing to do\n"
        );
    }

    #[test]
    fn only_what_is_over_is_called_deleted() {
        let mut answer = json!({ "worktree": "archived", "kept_as": "refs/x" });
        let told = deleted("s", &answer);
        assert!(
            told.starts_with("s deleted\n") && told.contains("git show refs/x"),
            "{told}"
        );
        answer["worktree"] = json!("underway");
        let told = deleted("s", &answer);
        assert_eq!(told, "s is being deleted: its worktree is being put away\n");
    }

    #[test]
    fn a_risk_has_numbers_and_names() {
        let told = risk(&json!({ "untracked": { "total": 3, "names": ["a", "b"] } }));
        assert_eq!(told, "    3 untracked: a, b and 1 more\n");
    }
}
