//! `inbox`: everything that needs a person; `retry` and `dismiss`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use super::args::{Item as Named, Output, Retry};
use super::client::Client;
use super::failure::{Exit, Failure};
use super::ids::{pick, short};
use super::prompts::clean;
use super::{discover, print};
use crate::http::render::ago;
use crate::store::rows::inbox::Item;

/// Items that are fetched; more are not shown.
const MAX_ROWS: usize = 1000;
/// Longest title or detail, in characters.
const WIDTH: usize = 100;

pub(super) async fn inbox(
    args: &Output,
    home: &Path,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let client = discover::need(home, env).await?;
    let items = items(&client).await?;
    if args.json {
        let json = serde_json::to_string_pretty(&items).unwrap_or_default();
        print(&format!("{json}\n"));
    } else {
        print(&text(&items, Utc::now()));
    }
    Ok(Exit::Ok)
}

pub(super) async fn retry(
    args: &Retry,
    home: &Path,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let client = discover::need(home, env).await?;
    let ids = ids(&items(&client).await?, "task");
    let id = pick(&args.id, "task", &ids, "`hearth inbox`")?;
    let made: Value = client
        .post(
            &format!("/api/inbox/task:{id}/retry"),
            &json!({ "restore": args.restore, "consent": args.consent }),
        )
        .await?;
    let task = made["task_id"].as_str().unwrap_or_default();
    print(&format!("queued again as task {task}\n"));
    Ok(Exit::Ok)
}

pub(super) async fn dismiss(
    args: &Named,
    home: &Path,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let client = discover::need(home, env).await?;
    let items = items(&client).await?;
    let kind = match args.id.split_once(':') {
        Some((kind @ ("task" | "notice" | "prompt"), _)) => kind,
        _ => kind_of(&args.id, &items),
    };
    let id = pick(&args.id, kind, &ids(&items, kind), "`hearth inbox`")?;
    client
        .post_silent(&format!("/api/inbox/{kind}:{id}/dismiss"))
        .await?;
    print("dismissed\n");
    Ok(Exit::Ok)
}

async fn items(client: &Client) -> Result<Vec<Item>, Failure> {
    client.list("/api/inbox", MAX_ROWS).await
}

fn ids(items: &[Item], kind: &str) -> Vec<Uuid> {
    let of_kind = items.iter().filter_map(|item| split(item));
    of_kind
        .filter(|(of, _)| *of == kind)
        .map(|(_, id)| id)
        .collect()
}

/// Digits alone name a task, unless only a notice has them.
fn kind_of(typed: &str, items: &[Item]) -> &'static str {
    let has = |kind| pick(typed, kind, &ids(items, kind), "").is_ok();
    if !has("task") && has("notice") {
        "notice"
    } else {
        "task"
    }
}

fn split(item: &Item) -> Option<(&str, Uuid)> {
    let (kind, id) = item.id.split_once(':')?;
    Some((kind, id.parse().ok()?))
}

/// A blocked task is told by its prompts.
fn text(items: &[Item], now: DateTime<Utc>) -> String {
    let asking: BTreeSet<Uuid> = items
        .iter()
        .filter(|item| item.id.starts_with("prompt:"))
        .filter_map(|item| item.task_id)
        .collect();
    let told = |item: &&Item| {
        item.state != "blocked" || !item.task_id.is_some_and(|task| asking.contains(&task))
    };
    let mut out = String::new();
    for item in items.iter().filter(told) {
        let Some((kind, id)) = split(item) else {
            continue;
        };
        let state = match kind {
            "prompt" => "asks",
            "notice" => "notice",
            _ => &item.state,
        };
        let agent = item.agent.as_deref().unwrap_or("-");
        let _ = writeln!(
            out,
            "{}  {state:<11}  {}  {}  {}",
            short(id),
            ago(now, item.at),
            clean(agent),
            line(&item.title)
        );
        let why = match (kind, &item.detail) {
            ("task", Some(detail)) => Some(format!("{}: {detail}", item.reason)),
            ("task", None) if item.state != "blocked" => Some(item.reason.clone()),
            (_, detail) => detail.clone(),
        };
        if let Some(why) = why {
            let _ = writeln!(out, "  {}", line(&why));
        }
        for action in &item.actions {
            let arguments = match (action.as_str(), item.reason.as_str()) {
                ("answer", "question") => " \"…\"",
                ("answer", _) => " allow|deny",
                _ => "",
            };
            let _ = writeln!(out, "    hearth {action} {}{arguments}", short(id));
        }
    }
    if out.is_empty() {
        out.push_str("nothing needs you\n");
    }
    out
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
    use super::*;

    fn item(id: &str, state: &str, reason: &str, task: &str, actions: &[&str]) -> Item {
        let item = json!({
            "id": id, "state": state, "reason": reason, "title": "do\x1b[2J it",
            "detail": null, "at": "2026-01-01T00:00:00Z", "until": null, "session_id": null,
            "chat_id": null, "task_id": task, "agent": "demo", "actions": actions,
        });
        serde_json::from_value(item).expect("an item")
    }

    #[test]
    fn shows_what_to_do_and_a_blocked_task_only_without_its_prompt() {
        let task = |n: u8| format!("01990000-0000-7000-8000-00000000000{n}");
        let mut failed = item(
            &format!("task:{}", task(1)),
            "failed",
            "agent_crashed",
            &task(1),
            &["retry", "dismiss"],
        );
        failed.detail = Some("signal 9".into());
        let items = [
            failed,
            item(
                &format!("task:{}", task(2)),
                "blocked",
                "open_prompt",
                &task(2),
                &[],
            ),
            item(
                &format!("prompt:{}", task(3)),
                "open",
                "permission",
                &task(2),
                &["answer"],
            ),
            item(
                &format!("task:{}", task(4)),
                "blocked",
                "open_prompt",
                &task(4),
                &[],
            ),
        ];
        let now = "2026-01-01T00:05:00Z".parse().expect("a time");
        insta::assert_snapshot!(text(&items, now));
        assert_eq!(text(&[], now), "nothing needs you\n");
    }
}
