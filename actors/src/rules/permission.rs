//! What a policy says to an agent's request.

use serde_json::{Value, json};

use crate::event::{Answer, Ask, AskKind, AskOption};
use crate::model::Policy;

/// Most prompts of one turn that may be open at a time; beyond it requests are
/// refused, so that an agent cannot fill the inbox.
pub const MAX_OPEN: usize = 32;

/// Longest request that is stored and shown, in bytes of JSON.
pub const REQUEST_BYTES: usize = 64 * 1024;
/// Most requests of one turn that are written down although nobody was asked.
pub const MAX_DECIDED: usize = 100;
/// Longest title of a longer request, in characters.
const TITLE_CHARS: usize = 500;
/// Longest question of a longer request, in characters.
const QUESTION_CHARS: usize = 4000;
/// Most paths of a longer request.
const LOCATIONS: usize = 50;

/// What to do with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Answer at once.
    Answer(Answer),
    /// Ask a human.
    Human,
}

/// Decides by the meaning of the options, never by their ids or order; a single
/// consent is preferred to a lasting one, because a lasting one would change
/// the agent's own settings.
#[must_use]
pub fn decide(policy: Policy, ask: &Ask) -> Decision {
    if ask.question.is_some() {
        // No policy knows the words.
        return match policy {
            Policy::Deny => Decision::Answer(reject(ask)),
            _ => Decision::Human,
        };
    }
    let edits = matches!(ask.tool.kind.as_deref(), Some("edit" | "delete" | "move"));
    match policy {
        Policy::AllowAll => Decision::Answer(allow(ask)),
        Policy::AllowEdits if edits => Decision::Answer(allow(ask)),
        Policy::AllowEdits | Policy::Ask => Decision::Human,
        Policy::Deny => Decision::Answer(reject(ask)),
    }
}

/// The stricter of the agent's policy and the one a task asked for, because
/// callers of the API may only tighten.
#[must_use]
pub fn tightened(agent: Policy, task: Option<Policy>) -> Policy {
    task.map_or(agent, |task| task.min(agent))
}

/// The answer that allows, else the withdrawal.
#[must_use]
pub fn allow(ask: &Ask) -> Answer {
    answer_of(first_of(
        &ask.options,
        [AskKind::AllowOnce, AskKind::AllowAlways],
    ))
}

/// The answer that refuses, else the withdrawal.
#[must_use]
pub fn reject(ask: &Ask) -> Answer {
    answer_of(refusal(&ask.options))
}

/// The option that refuses, if one does.
#[must_use]
pub fn refusal(options: &[AskOption]) -> Option<&AskOption> {
    first_of(options, [AskKind::RejectOnce, AskKind::RejectAlways])
}

/// The option with this id, if it is on offer.
#[must_use]
pub fn option<'a>(options: &'a [AskOption], id: &str) -> Option<&'a AskOption> {
    options.iter().find(|option| option.id == id)
}

/// The option of this meaning, if one is on offer; the first of several.
#[must_use]
pub fn option_of(options: &[AskOption], kind: AskKind) -> Option<&AskOption> {
    options.iter().find(|option| option.kind == kind)
}

/// What is told to the agent when a human, or a policy, chose `option`.
#[must_use]
pub fn answer_of(option: Option<&AskOption>) -> Answer {
    match option {
        Some(option) if option.kind == AskKind::Text => Answer::Text(option.label.clone()),
        Some(option) => Answer::Option(option.id.clone()),
        None => Answer::Cancelled,
    }
}

/// Whether `answer` is one of those on offer: an option as it is, or words where
/// they are wanted.
#[must_use]
pub fn fits(options: &[AskOption], answer: &AskOption) -> bool {
    options.iter().any(|option| {
        option.id == answer.id
            && option.kind == answer.kind
            && (option.kind == AskKind::Text || option.label == answer.label)
    })
}

/// What people see of a request: `{"tool": …}`, with the `question` if it is one.
/// Of a tool that is longer than
/// [`REQUEST_BYTES`], arguments and output are left out and `truncated` says so.
#[must_use]
pub fn shown(ask: &Ask) -> Value {
    let mut whole = json!({ "tool": ask.tool });
    if let Some(question) = &ask.question {
        whole["question"] = json!(question);
    }
    if whole.to_string().len() <= REQUEST_BYTES {
        return whole;
    }
    let mut tool = ask.tool.clone();
    tool.input = None;
    tool.output = None;
    let cut = |text: &str| text.chars().take(TITLE_CHARS).collect::<String>();
    tool.id = cut(&tool.id);
    tool.title = tool.title.as_deref().map(cut);
    tool.kind = tool.kind.as_deref().map(cut);
    tool.locations.truncate(LOCATIONS);
    for path in &mut tool.locations {
        *path = cut(path);
    }
    let mut short = json!({ "tool": tool, "truncated": true });
    if let Some(question) = &ask.question {
        let question: String = question.chars().take(QUESTION_CHARS).collect();
        short["question"] = json!(question);
    }
    short
}

fn first_of(options: &[AskOption], kinds: [AskKind; 2]) -> Option<&AskOption> {
    kinds.iter().find_map(|kind| option_of(options, *kind))
}
