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
use super::run::summary::quote;
use super::{discover, print};
use crate::http::render::ago;
use crate::store::rows::prompts::{Choice, Prompt};
use crate::text::{MAX_TITLE, clean, cut_line};

/// Prompts that are fetched; more are not shown.
const MAX_ROWS: usize = 1000;
/// Words for what an option means.
const WORDS: [(&str, &str); 4] = [
    ("allow", "allow_once"),
    ("deny", "reject_once"),
    ("always", "allow_always"),
    ("never", "reject_always"),
];

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
    let asked = open.iter().find(|prompt| prompt.id == id);
    let body = match asked {
        Some(asked) => body(asked, args)?,
        None => body(&client.get(&format!("/api/prompts/{id}")).await?, args)?,
    };
    let prompt = send(&client, id, &body).await?;
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

pub(super) async fn open(client: &Client) -> Result<Vec<Prompt>, Failure> {
    client.list("/api/prompts?state=open", MAX_ROWS).await
}

/// What is typed after the id: a choice, or words where they are wanted.
fn body(asked: &Prompt, args: &Answer) -> Result<Value, Failure> {
    let body = match (&args.answer, &args.text) {
        (_, Some(words)) => takes_words(&asked.options).then(|| json!({ "text": words })),
        (Some(answer), None) => choice(&asked.options, answer),
        (None, None) => None,
    };
    body.ok_or_else(|| {
        let said = match (&args.answer, &args.text) {
            (_, Some(_)) => "words of your own are".to_owned(),
            (answer, None) => format!(
                "`{}` is",
                answer.as_deref().unwrap_or_default().escape_debug()
            ),
        };
        Failure::new(
            Exit::Usage,
            format!("{said} no answer to: {}", what(asked)),
            format!("hearth answer {} {}", short(asked.id), how(&asked.options)),
        )
    })
}

/// One of the options by its id or by what a person reads, or a word for a
/// meaning that is on offer; never words of one's own.
pub(super) fn choice(offered: &[Choice], answer: &str) -> Option<Value> {
    let is = |option: &&Choice| {
        option.kind != "text" && (option.id == answer || option.label.eq_ignore_ascii_case(answer))
    };
    let meant = WORDS.iter().find(|(word, _)| *word == answer);
    let meant = meant.filter(|(_, kind)| has(offered, kind));
    if let Some((_, kind)) = meant {
        return Some(json!({ "kind": kind }));
    }
    let option = offered.iter().find(is)?;
    Some(json!({ "option_id": option.id }))
}

/// Words of one's own are wanted.
pub(super) fn takes_words(offered: &[Choice]) -> bool {
    has(offered, "text")
}

/// All that may stand behind the id on the command line.
pub(super) fn how(offered: &[Choice]) -> String {
    let choices = offered.iter().filter(|option| option.kind == "choice");
    let choices = choices.map(|option| quote(&clean(&option.id)));
    let meanings = WORDS.iter().filter(|(_, kind)| has(offered, kind));
    let meanings = meanings.map(|(word, _)| (*word).to_owned());
    let named: Vec<String> = choices.chain(meanings).collect();
    match (named.is_empty(), takes_words(offered)) {
        (_, false) => named.join("|"),
        (true, true) => "--text \"…\"".into(),
        (false, true) => format!("{}|--text \"…\"", named.join("|")),
    }
}

fn has(offered: &[Choice], kind: &str) -> bool {
    offered.iter().any(|option| option.kind == kind)
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
        let offered = offer(&prompt.options);
        if !offered.is_empty() {
            let _ = writeln!(out, "  {offered}");
        }
        let how = how(&prompt.options);
        let _ = writeln!(out, "    hearth answer {} {how}", short(prompt.id));
    }
    out
}

/// What the choices mean, where their ids do not say it.
fn offer(options: &[Choice]) -> String {
    let choices = options.iter().filter(|option| option.kind == "choice");
    let choices = choices.filter(|option| option.id != option.label);
    let choices: Vec<String> = choices
        .map(|option| format!("{}: {}", clean(&option.id), clean(&option.label)))
        .collect();
    choices.join(" · ")
}

fn what(prompt: &Prompt) -> String {
    let tool = &prompt.request["tool"];
    let title = prompt.request["question"].as_str();
    let title = title.or_else(|| tool["title"].as_str());
    let title = title.or_else(|| tool["kind"].as_str());
    cut_line(title.unwrap_or("consent"), MAX_TITLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(options: &[(&str, &str, &str)]) -> Prompt {
        let option = |(id, label, kind): &(&str, &str, &str)| json!({ "id": id, "label": label, "kind": kind });
        let options: Vec<Value> = options.iter().map(option).collect();
        serde_json::from_value(json!({
            "id": "01990000-0000-7000-8000-00005f0c11ab", "task_id": Uuid::nil(),
            "turn_id": Uuid::nil(), "session_id": Uuid::nil(), "chat_id": Uuid::nil(),
            "agent": "demo", "kind": "question", "request": { "question": "which?" },
            "options": options, "state": "open", "answer": null, "answered_by": null,
            "reason": null, "created_at": "2026-01-01T00:00:00Z", "expires_at": null,
            "detached_at": null, "resolved_at": null,
        }))
        .expect("a prompt")
    }

    fn typed(answer: &str) -> Answer {
        Answer {
            prompt: String::new(),
            answer: Some(answer.into()),
            text: None,
        }
    }

    fn words(text: &str) -> Answer {
        Answer {
            prompt: String::new(),
            answer: None,
            text: Some(text.into()),
        }
    }

    #[test]
    fn only_what_is_on_offer_is_an_answer() {
        let consent = asked(&[
            ("demo:allow", "Allow", "allow_once"),
            ("no", "Reject", "reject_once"),
        ]);
        let said =
            |asked: &Prompt, args: Answer| body(asked, &args).map_err(|failure| failure.cure);
        let kind = |kind: &str| Ok(json!({ "kind": kind }));
        assert_eq!(said(&consent, typed("allow")), kind("allow_once"));
        assert_eq!(said(&consent, typed("deny")), kind("reject_once"));
        let option = Ok(json!({ "option_id": "demo:allow" }));
        assert_eq!(said(&consent, typed("demo:allow")), option);
        assert_eq!(said(&consent, typed("ALLOW")), option, "by its label");
        let offered = Err(Some("hearth answer 5f0c11ab allow|deny".to_owned()));
        assert_eq!(said(&consent, typed("always")), offered);
        assert_eq!(said(&consent, typed("x")), offered);
        assert_eq!(said(&consent, words("allow")), offered);

        let question = asked(&[
            ("r", "Red", "choice"),
            ("deep blue", "deep blue", "choice"),
            ("text", "Your words", "text"),
            ("hearth:decline", "Do not answer", "reject_once"),
        ]);
        assert_eq!(
            said(&question, typed("red")),
            Ok(json!({ "option_id": "r" }))
        );
        assert_eq!(said(&question, typed("deny")), kind("reject_once"));
        let offered = "hearth answer 5f0c11ab r|'deep blue'|deny|--text \"…\"";
        let offered = Err(Some(offered.to_owned()));
        assert_eq!(said(&question, typed("allow")), offered);
        assert_eq!(said(&question, typed("some words")), offered);
        assert_eq!(
            said(&question, words("allow")),
            Ok(json!({ "text": "allow" }))
        );
    }

    #[test]
    fn a_list_says_what_may_be_typed() {
        let open = [
            asked(&[("r", "Red", "choice"), ("blue", "blue", "choice")]),
            asked(&[("text", "Your words", "text"), ("-", "No", "reject_once")]),
        ];
        let now = "2026-01-01T00:05:00Z".parse().expect("a time");
        insta::assert_snapshot!(text(&open, now));
        assert_eq!(text(&[], now), "nobody asks anything\n");
    }
}
