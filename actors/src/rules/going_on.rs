//! How a turn goes on whose agent's process ended while a human was asked.
//!
//! The agent's own session is resumed and told, in words of Hearth's that the
//! chat shows, what had been asked and what was answered. When it then asks for
//! the very same thing again, it gets that answer, once, and nobody is asked
//! twice. Whatever cannot be proved to be the same is asked anew.

use std::fmt::Write as _;

use serde_json::Value;

use super::permission;
use crate::event::{Ask, AskKind, AskOption};
use crate::prompt::Given;

/// How such a message begins.
pub const MARK: &str = "[Hearth] Your process ended while you waited for an answer.";

/// Longest description of a request in the message, in characters.
const ASKED_CHARS: usize = 300;
/// Longest answer in the message, in characters; asked again, it is given whole.
const ANSWER_CHARS: usize = 1200;
/// Longest quotation of the request that was being worked on, in characters.
const REQUEST_CHARS: usize = 8000;
/// A title of this many bytes may have been cut, and then says too little.
const LONG_TITLE: usize = 1024;

/// What the agent is told. `request` is the prompt of the turn that ended: some
/// agents keep nothing of a turn that did not end well, not even its prompt.
#[must_use]
pub fn message(request: &str, given: &[Given]) -> String {
    let mut text =
        format!("{MARK} This is the same session. You were working on this request:\n\n");
    for line in quoted(request).lines() {
        // Written to memory, which does not fail.
        let _ = writeln!(text, "> {line}");
    }
    text.push_str("\nWhat you had asked, and what was answered:\n\n");
    for (number, given) in (1..).zip(given) {
        let _ = writeln!(text, "{number}. {}", line(given));
    }
    text.push_str(
        "\nAsk for exactly the same again where you still need it: the same request gets the same \
         answer once. Go on with the work from where it stopped; do not start over.",
    );
    text
}

/// The answer to `ask` if it is the same request as the one that `given` tells
/// of, and that answer is on offer again.
#[must_use]
pub fn answer_again(ask: &Ask, given: &Given) -> Option<AskOption> {
    let answer = given.answer.as_ref()?;
    let (now, then) = (permission::shown(ask), &given.request);
    if !is_exact(&now) || !is_exact(then) || essence(now) != essence(then.clone()) {
        return None;
    }
    permission::fits(&ask.options, answer).then(|| answer.clone())
}

/// A request without what differs each time: the call's id, and where it stands.
fn essence(mut request: Value) -> Value {
    if let Some(tool) = request["tool"].as_object_mut() {
        tool.remove("id");
        tool.remove("status");
    }
    request
}

/// Nothing of the request was cut off.
fn is_exact(request: &Value) -> bool {
    let tool = &request["tool"];
    let is_cut = |value: &Value| value["truncated"] == true && value["bytes"].is_number();
    let long_title = tool["title"]
        .as_str()
        .is_some_and(|title| title.len() > LONG_TITLE);
    let long_question = request["question"]
        .as_str()
        .is_some_and(|question| question.len() > LONG_TITLE);
    request["truncated"] != true
        && !is_cut(&tool["input"])
        && !is_cut(&tool["output"])
        && !long_title
        && !long_question
}

fn line(given: &Given) -> String {
    let tool = &given.request["tool"];
    let asked = match given.request["question"].as_str() {
        Some(question) => format!("The question \"{}\": ", cut(question, ASKED_CHARS)),
        None => {
            let title = tool["title"].as_str().or_else(|| tool["kind"].as_str());
            let what = title.unwrap_or("a tool");
            format!("Consent to \"{}\": ", cut(what, ASKED_CHARS))
        }
    };
    asked + &answer(given.answer.as_ref())
}

fn answer(answer: Option<&AskOption>) -> String {
    let Some(option) = answer else {
        return "no answer was given.".into();
    };
    let label = cut(&option.label, ANSWER_CHARS);
    match option.kind {
        AskKind::AllowOnce | AskKind::AllowAlways => format!("allowed ({label})."),
        AskKind::RejectOnce | AskKind::RejectAlways => format!("refused ({label})."),
        AskKind::Choice | AskKind::Text => format!("the answer is \"{label}\"."),
    }
}

/// The beginning of the request, in at most so many characters.
fn quoted(request: &str) -> String {
    let mut start: String = request.chars().take(REQUEST_CHARS).collect();
    if request.chars().count() > REQUEST_CHARS {
        start.push('…');
    }
    start
}

/// On one line, and not too long.
fn cut(text: &str, most: usize) -> String {
    let words = |c: char| if c.is_control() { ' ' } else { c };
    let mut line: String = text.chars().take(most).map(words).collect();
    if text.chars().count() > most {
        line.push('…');
    }
    line
}
