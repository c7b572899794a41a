//! `inbox`: everything that needs a person; `retry` and `dismiss`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde::Deserialize as _;
use serde_json::{Value, json};
use uuid::Uuid;

use super::args::{Item as Named, Output, Retry};
use super::client::Client;
use super::failure::{Exit, Failure};
use super::ids::{pick, short, task as find_task};
use super::prompts::how;
use super::review::over;
use super::{discover, print, prompts};
use crate::http::render::ago;
use crate::store::rows::inbox::Item;
use crate::store::rows::prompts::Prompt;
use crate::store::rows::tasks::Task;
use crate::text::clean;

/// Items that are fetched; more are not shown.
const MAX_ROWS: usize = 1000;
/// Characters of a line.
const WIDTH: usize = 100;
/// Longest detail, in characters: what does not fit a line is wrapped.
const MAX_DETAIL: usize = 4000;

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
        let asks = items.iter().any(|item| item.id.starts_with("prompt:"));
        let asked = if asks {
            prompts::open(&client).await?
        } else {
            Vec::new()
        };
        print(&text(&items, &asked, Utc::now()));
    }
    Ok(Exit::Ok)
}

pub(super) async fn retry(
    args: &Retry,
    home: &Path,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let client = discover::need(home, env).await?;
    let task = find_task(&client, &args.id).await?.id;
    let path = format!("/api/inbox/task:{task}/retry");
    let body = json!({ "restore": args.restore, "consent": args.consent });
    let (mut answer, made): (Value, bool) = client.post_making(&path, &body).await?;
    if let Ok(operation) = Uuid::deserialize(&answer["operation_id"]) {
        let operation = over(&client, operation).await?;
        if operation.state == "abandoned" {
            let why = operation
                .detail
                .unwrap_or_else(|| "it was broken off".into());
            return Err(Failure::plain(
                Exit::Failed,
                format!("not restored, and nothing is queued: {}", clean(&why)),
            ));
        }
        // It finds what the order queued.
        answer = client.post(&path, &body).await?;
    }
    let queued = answer["task_id"].as_str().unwrap_or_default();
    print(&match (queued == task.to_string(), made) {
        (true, _) => format!("task {queued} is tried now\n"),
        (false, false) => {
            let again: Task = client.get(&format!("/api/tasks/{queued}")).await?;
            format!(
                "it was tried again before: task {queued} ({})\n",
                clean(again.outcome.as_deref().unwrap_or(&again.state))
            )
        }
        (false, true) => format!("queued again as task {queued}\n"),
    });
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
fn text(items: &[Item], asked: &[Prompt], now: DateTime<Utc>) -> String {
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
            for line in wrapped(&why) {
                let _ = writeln!(out, "  {line}");
            }
        }
        for action in &item.actions {
            let arguments = match action.as_str() {
                "answer" => {
                    let prompt = asked.iter().find(|prompt| prompt.id == id);
                    prompt.map_or_else(
                        || " …".into(),
                        |prompt| format!(" {}", how(&prompt.options)),
                    )
                }
                _ => String::new(),
            };
            let _ = writeln!(out, "    hearth {action} {}{arguments}", short(id));
        }
        if item.state == "parked"
            && let Some(task) = item.task_id
        {
            let _ = writeln!(out, "    hearth cancel {}", short(task));
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

/// Whole words on lines: a cure that is cut off is none.
fn wrapped(text: &str) -> Vec<String> {
    let text: String = clean(text).chars().take(MAX_DETAIL).collect();
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last().map_or(0, |line| line.chars().count());
        if last > 0 && last + 1 + word.chars().count() > WIDTH {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cure_is_wrapped_and_never_cut() {
        let word = "x".repeat(60);
        let cure = format!("{word} {word} `hearth budgets {word} --tokens N`\x1b[2J");
        let lines = wrapped(&cure);
        assert_eq!(lines.len(), 3, "{lines:?}");
        let told = lines.join(" ");
        assert!(told.ends_with("--tokens N` [2J"), "{told}");
        assert!(lines[..2].iter().all(|line| line.chars().count() <= WIDTH));
    }

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
        insta::assert_snapshot!(text(&items, &[], now));
        assert_eq!(text(&[], &[], now), "nothing needs you\n");
    }
}
