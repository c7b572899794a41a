//! `checkpoints` and `branch`: what a session's files were, and going on from
//! there.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::args::{Branch, Checkpoints};
use super::failure::{Exit, Failure};
use super::ids::{self, short};
use super::review::place::last_asked;
use super::{colours, discover, print};
use crate::http::render::ago;
use crate::store::rows::checkpoints::{Checkpoint, CheckpointDiff, FileDiff};
use crate::text::clean;

/// Checkpoints that are fetched; older ones are not shown.
const MAX_ROWS: usize = 1000;
/// Characters of a prompt in the table.
const WIDTH: usize = 60;

pub(super) async fn checkpoints(
    args: &Checkpoints,
    home: &Path,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let client = discover::need(home, env).await?;
    let session = match &args.session {
        Some(typed) => ids::session(&client, typed).await?,
        None => last_asked(&client).await?,
    };
    let address = format!("/api/sessions/{session}/checkpoints");
    let rows: Vec<Checkpoint> = client.list(&address, MAX_ROWS).await?;
    let Some(typed) = &args.diff else {
        return show(&rows, args.json, || {
            let table = table(&rows, Utc::now());
            match &args.session {
                Some(_) => table,
                // Which one it is was found out.
                None => format!("session {session}\n{table}"),
            }
        });
    };
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let pick = |typed| ids::pick(typed, "checkpoint", &ids, "`hearth checkpoints`");
    let mut address = format!("{address}/{}/diff", pick(typed)?);
    if let Some(to) = &args.to {
        let _ = write!(address, "?to={}", pick(to)?);
    }
    let diff: CheckpointDiff = client.get(&address).await?;
    show(&diff, args.json, || patches(&diff, colours(env)))
}

fn show(
    value: &impl Serialize,
    json: bool,
    text: impl FnOnce() -> String,
) -> Result<Exit, Failure> {
    if json {
        let json = serde_json::to_string_pretty(value).unwrap_or_default();
        print(&format!("{json}\n"));
    } else {
        print(&text());
    }
    Ok(Exit::Ok)
}

/// The session that was made.
#[derive(Deserialize, Serialize)]
struct Branched {
    id: Uuid,
    name: String,
    chat_id: Uuid,
    checkpoint_id: Uuid,
    worktree_path: Option<String>,
    changed: usize,
}

pub(super) async fn branch(
    args: &Branch,
    home: &Path,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let client = discover::need(home, env).await?;
    let (id, session) = ids::checkpoint(&client, &args.checkpoint, args.session.as_deref()).await?;
    let address = format!("/api/sessions/{session}/checkpoints/{id}/branch");
    let made: Branched = client.post(&address, &json!({ "name": args.name })).await?;
    show(&made, args.json, || {
        let files = match made.changed {
            1 => "1 file differs".to_owned(),
            count => format!("{count} files differ"),
        };
        format!(
            "session {} “{}” in {}\n{files} from its base commit\n  next:\n    hearth run --session {} \"…\"\n",
            made.id,
            clean(&made.name),
            clean(made.worktree_path.as_deref().unwrap_or("-")),
            made.id,
        )
    })
}

fn table(rows: &[Checkpoint], now: DateTime<Utc>) -> String {
    let mut out = String::new();
    for row in rows {
        let gone = match row.available {
            Some(false) => "  (gone)",
            _ => "",
        };
        let asked = row.label.as_deref().or(row.prompt.as_deref());
        let asked = clean(asked.unwrap_or("-"));
        let mut asked: String = asked.chars().take(WIDTH).collect();
        if asked.is_empty() {
            asked.push('-');
        }
        let _ = writeln!(
            out,
            "{}  {:>7}  chat {}  before {:<10}  {asked}{gone}",
            short(row.id),
            ago(now, row.created_at),
            short(row.chat_id),
            clean(row.agent.as_deref().unwrap_or("-")),
        );
    }
    if rows.is_empty() {
        out.push_str("no checkpoints yet: one is taken before each turn\n");
    }
    out
}

fn patches(diff: &CheckpointDiff, colour: bool) -> String {
    let mut out = String::new();
    for item in &diff.items {
        file(item, colour, &mut out);
    }
    if diff.items.is_empty() {
        out.push_str("no file differs\n");
    }
    if diff.omitted > 0 {
        let _ = writeln!(out, "… and {} more files", diff.omitted);
    }
    for note in &diff.notes {
        let _ = writeln!(out, "! {}", clean(note));
    }
    out
}

fn file(item: &FileDiff, colour: bool, out: &mut String) {
    let paint = |code: &'static str| if colour { code } else { "" };
    let renamed = item.old_path.as_deref();
    let renamed = renamed.map_or_else(String::new, |old| format!("{} → ", clean(old)));
    let _ = writeln!(
        out,
        "{}{} {renamed}{}{}  +{} -{}",
        paint("\x1b[1m"),
        clean(&item.operation),
        clean(&item.file_path),
        paint("\x1b[0m"),
        item.additions,
        item.deletions
    );
    if item.is_secret {
        let blob = |side: &Option<crate::store::rows::checkpoints::FileSide>| {
            side.as_ref()
                .map_or_else(|| "no file".into(), |side| clean(&side.blob))
        };
        let (before, after) = (blob(&item.before), blob(&item.after));
        let _ = writeln!(out, "  secret by its name: {before} → {after}");
    }
    for line in item.diff.lines() {
        let code = match line.as_bytes().first() {
            Some(b'+') => "\x1b[32m",
            Some(b'-') => "\x1b[31m",
            Some(b'@') => "\x1b[36m",
            _ => "",
        };
        let code = paint(code);
        let end = if code.is_empty() { "" } else { "\x1b[0m" };
        let _ = writeln!(out, "{code}{}{end}", clean(line));
    }
    if item.truncated {
        out.push_str("  (cut)\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_names_what_can_be_gone_back_to() {
        let row = |n: u8, prompt: &str, available: Option<bool>| -> Checkpoint {
            let id = format!("01990000-0000-7000-8000-00000000000{n}");
            serde_json::from_value(json!({
                "id": id, "session_id": id, "chat_id": id, "message_id": null, "task_id": null,
                "agent": "demo", "prompt": prompt, "label": null, "commit": "c",
                "created_at": "2026-01-01T00:00:00Z", "available": available,
            }))
            .expect("a checkpoint")
        };
        let now = "2026-01-01T00:05:00Z".parse().expect("a time");
        let rows = [row(2, "do\x1b[2J it", Some(true)), row(1, "", Some(false))];
        insta::assert_snapshot!(table(&rows, now));
        assert!(table(&[], now).starts_with("no checkpoints yet"));
    }
}
