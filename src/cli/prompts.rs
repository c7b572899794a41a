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
    let open = open(&client).await?;
    let ids: Vec<Uuid> = open.iter().map(|prompt| prompt.id).collect();
    let id = pick(&args.prompt, "prompt", &ids, "`hearth prompts`")?;
    let offered = open.iter().find(|prompt| prompt.id == id);
    let offered = offered.map_or(&[][..], |prompt| &prompt.options);
    let prompt = send(&client, id, &body(offered, &args.answer)).await?;
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

/// One of the options by its id or by what a person reads, a word for a meaning,
/// or words of one's own where they are wanted.
pub(super) fn body(offered: &[Choice], answer: &str) -> Value {
    let is = |option: &&Choice| {
        option.kind != "text" && (option.id == answer || option.label.eq_ignore_ascii_case(answer))
    };
    let has = |kind: &str| offered.iter().any(|option| option.kind == kind);
    let kind = match answer {
        "allow" => "allow_once",
        "deny" => "reject_once",
        "always" => "allow_always",
        "never" => "reject_always",
        _ => "",
    };
    if has(kind) {
        json!({ "kind": kind })
    } else if let Some(option) = offered.iter().find(is) {
        json!({ "option_id": option.id })
    } else if has("text") {
        json!({ "text": answer })
    } else if kind.is_empty() {
        json!({ "option_id": answer })
    } else {
        json!({ "kind": kind })
    }
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
    out.push_str("answer with: hearth answer ID allow|deny|always|never|OPTION|\"WORDS\"\n");
    out
}

fn offer(options: &[Choice]) -> String {
    let options = options.iter().map(|option| match option.kind.as_str() {
        "text" => format!("\"…\" ({})", clean(&option.label)),
        _ if option.id == option.label => clean(&option.id),
        _ => format!("{} ({})", clean(&option.id), clean(&option.label)),
    });
    options.collect::<Vec<_>>().join(" · ")
}

fn what(prompt: &Prompt) -> String {
    let tool = &prompt.request["tool"];
    let title = prompt.request["question"].as_str();
    let title = title.or_else(|| tool["title"].as_str());
    let title = title.or_else(|| tool["kind"].as_str());
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
        let choice = |id: &str, label: &str, kind: &str| Choice {
            id: id.into(),
            label: label.into(),
            kind: kind.into(),
        };
        let consent = [
            choice("demo:allow", "Allow", "allow_once"),
            choice("no", "Reject", "reject_once"),
        ];
        assert_eq!(body(&consent, "allow"), json!({ "kind": "allow_once" }));
        assert_eq!(body(&consent, "deny"), json!({ "kind": "reject_once" }));
        assert_eq!(body(&consent, "always"), json!({ "kind": "allow_always" }));
        let option = json!({ "option_id": "demo:allow" });
        assert_eq!(body(&consent, "demo:allow"), option);
        assert_eq!(body(&consent, "x"), json!({ "option_id": "x" }));
        let question = [
            choice("r", "Red", "choice"),
            choice("text", "Your words", "text"),
            choice("hearth:decline", "Do not answer", "reject_once"),
        ];
        assert_eq!(body(&question, "red"), json!({ "option_id": "r" }));
        assert_eq!(body(&question, "deny"), json!({ "kind": "reject_once" }));
        assert_eq!(body(&question, "allow"), json!({ "text": "allow" }));
        let words = json!({ "text": "deep blue" });
        assert_eq!(body(&question, "deep blue"), words);
    }
}
