//! `prompts`: what agents ask; `answer`: what they are told.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use super::args::{Answer, Output};
use super::client::Client;
use super::failure::{Exit, Failure};
use super::ids::{pick, short};
use super::{discover, print};
use crate::http::render::ago;
use crate::store::rows::prompts::{Choice, Prompt};

/// Prompts that are fetched; more are not shown.
const MAX_ROWS: usize = 1000;

pub(super) async fn prompts(
    args: &Output,
    home: &Path,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let client = discover::need(home, env).await?;
    let open = open(&client).await?;
    if args.json {
        let json = serde_json::to_string_pretty(&open).unwrap_or_default();
        print(&format!("{json}\n"));
    } else {
        print(&text(&open, Utc::now()));
    }
    Ok(Exit::Ok)
}

pub(super) async fn answer(
    args: &Answer,
    home: &Path,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let client = discover::need(home, env).await?;
    let ids: Vec<Uuid> = open(&client)
        .await?
        .iter()
        .map(|prompt| prompt.id)
        .collect();
    let id = pick(&args.prompt, "prompt", &ids, "`hearth prompts`")?;
    let prompt = send(&client, id, &body(&args.answer)).await?;
    let said = prompt
        .answer
        .as_ref()
        .map_or("settled", |answer| &answer.label);
    print(&format!("{}: {}\n", what(&prompt), clean(said)));
    Ok(Exit::Ok)
}

/// Answers; the service's word is the truth.
///
/// # Errors
/// The service's: it was answered otherwise before, or is over.
pub(super) async fn send(client: &Client, id: Uuid, body: &Value) -> Result<Prompt, Failure> {
    client
        .post(&format!("/api/prompts/{id}/answer"), body)
        .await
}

async fn open(client: &Client) -> Result<Vec<Prompt>, Failure> {
    client.list("/api/prompts?state=open", MAX_ROWS).await
}

/// A word for a meaning, else an option's own id.
fn body(answer: &str) -> Value {
    let kind = match answer {
        "allow" => "allow_once",
        "deny" => "reject_once",
        "always" => "allow_always",
        "never" => "reject_always",
        option => return json!({ "option_id": option }),
    };
    json!({ "kind": kind })
}

fn text(open: &[Prompt], now: DateTime<Utc>) -> String {
    if open.is_empty() {
        return "nobody asks anything\n".into();
    }
    let mut out = String::new();
    for prompt in open {
        let _ = writeln!(
            out,
            "{}  {}  {}  {}",
            short(prompt.id),
            ago(now, prompt.created_at),
            clean(&prompt.agent),
            what(prompt)
        );
        let _ = writeln!(out, "  {}", offer(&prompt.options));
    }
    out.push_str("answer with: hearth answer ID allow|deny|always|never|OPTION\n");
    out
}

fn offer(options: &[Choice]) -> String {
    let options = options
        .iter()
        .map(|option| format!("{} ({})", clean(&option.id), clean(&option.label)));
    options.collect::<Vec<_>>().join(" · ")
}

fn what(prompt: &Prompt) -> String {
    let tool = &prompt.request["tool"];
    let title = tool["title"].as_str().or_else(|| tool["kind"].as_str());
    clean(title.unwrap_or("consent"))
        .chars()
        .take(200)
        .collect()
}

/// What comes from an agent must not steer the terminal.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_meanings_and_the_rest_are_options() {
        assert_eq!(body("allow"), json!({ "kind": "allow_once" }));
        assert_eq!(body("deny"), json!({ "kind": "reject_once" }));
        assert_eq!(body("demo:allow"), json!({ "option_id": "demo:allow" }));
    }
}
