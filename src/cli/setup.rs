//! `setup`: what a project wants done in its worktrees, and whether it may.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::args::Setup;
use super::failure::{Exit, Failure};
use super::{discover, print};
use crate::text::clean;

pub(super) async fn setup(
    args: &Setup,
    home: &Path,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let client = discover::need(home, env).await?;
    let here = match &args.project {
        Some(path) => std::path::absolute(path),
        None => std::env::current_dir(),
    };
    let here = here.map_err(|error| Failure::plain(Exit::Usage, error.to_string()))?;
    let project: Value = client
        .post(
            "/api/projects",
            &json!({ "path": here.display().to_string() }),
        )
        .await?;
    let id = project["id"].as_str().unwrap_or_default();
    let path = format!("/api/projects/{id}/worktree-setup");
    let mut answer: Value = client.get(&path).await?;
    let consent = match (&args.trust, args.refuse) {
        (Some(seen), _) => Some(("trusted", seen.as_deref())),
        (None, true) => Some(("refused", None)),
        (None, false) => None,
    };
    if let Some((consent, seen)) = consent {
        let body = json!({ "hash": decided(seen, &answer), "consent": consent });
        answer = client.put(&path, &body).await?;
    }
    if args.json {
        print(&format!("{answer}\n"));
    } else {
        print(&text(&answer));
    }
    Ok(Exit::Ok)
}

/// Fewest characters of a hash that stand for it.
const SHORT: usize = 12;

/// The hash that is decided about: the one that was seen, else the present one. The
/// server refuses one that is not the present one.
fn decided<'a>(seen: Option<&'a str>, answer: &'a Value) -> &'a str {
    let present = answer["hash"].as_str().unwrap_or_default();
    let is_other = |seen: &&str| seen.len() < SHORT || !present.starts_with(seen);
    seen.filter(is_other).unwrap_or(present)
}

fn text(answer: &Value) -> String {
    let path = clean(answer["path"].as_str().unwrap_or_default());
    let mut text = match answer["state"].as_str() {
        Some("wrong") => {
            let why = clean(answer["wrong"].as_str().unwrap_or_default());
            return format!("{path} cannot be used, and new worktrees wait: {why}\n");
        }
        Some("none") => return format!("no {path}: worktrees are not set up\n"),
        Some("trusted") => format!("{path} is trusted: it runs in new worktrees\n"),
        Some("refused") => format!("{path} is refused: new worktrees go without\n"),
        _ => {
            let hash = clean(answer["hash"].as_str().unwrap_or_default());
            let short = hash.get(..SHORT).unwrap_or(&hash);
            format!(
                "{path} is not decided about, and new worktrees wait: --trust {short} or --refuse it\n"
            )
        }
    };
    for key in ["hash", "setup", "teardown"] {
        if let Some(value) = answer[key].as_str() {
            let lines = value.lines().map(clean).collect::<Vec<_>>();
            let _ = writeln!(text, "  {key:<9} {}", lines.join("\n            "));
        }
    }
    let copy: Vec<String> = answer["copy"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|glob| glob.as_str().map(clean))
        .collect();
    if !copy.is_empty() {
        let _ = writeln!(text, "  copy      {}", copy.join(", "));
    }
    match answer["woken"].as_u64() {
        Some(1) => text.push_str("  1 task waited for it and is tried now\n"),
        Some(woken @ 2..) => {
            let _ = writeln!(text, "  {woken} tasks waited for it and are tried now");
        }
        _ => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_decided_about() {
        let answer = json!({ "hash": "0123456789abcdef" });
        assert_eq!(decided(None, &answer), "0123456789abcdef");
        assert_eq!(decided(Some("0123456789ab"), &answer), "0123456789abcdef");
        for other in ["0123456789ac", "0123", "x"] {
            assert_eq!(decided(Some(other), &answer), other);
        }
    }

    #[test]
    fn all_that_would_run_is_shown() {
        let told = text(&json!({
            "path": ".hearth/worktree.toml", "state": "undecided", "hash": "abc",
            "setup": "one\ntwo", "teardown": null, "copy": [".env"], "woken": null,
        }));
        assert!(told.contains("--trust") && told.contains("abc"), "{told}");
        assert!(told.contains("one\n            two"), "{told}");
        assert!(told.contains("copy      .env"), "{told}");
    }
}
