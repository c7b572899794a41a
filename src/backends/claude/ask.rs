//! Requests for consent, and questions: what is asked, and what an answer looks like.
//!
//! A lasting consent is not on offer: it would change claude's own rules, which know
//! nothing of the policy of a later message. Several questions of one request are put
//! one after the other.

use hearth_actors::event::{Answer, Ask, AskKind, AskOption, Tool};
use serde_json::{Value, json};

use super::tool;
use crate::backends::cap::{capped, capped_text};

/// The tool by which claude asks questions.
const QUESTIONS: &str = "AskUserQuestion";
/// Most choices kept of one question; claude offers four at most.
const MAX_CHOICES: usize = 50;
/// Most questions of one request.
const MAX_QUESTIONS: usize = 16;
/// Ids of options.
const ALLOW: &str = "allow";
const REJECT: &str = "reject";
const DECLINE: &str = "hearth:decline";
const WORDS: &str = "text";
/// What the model reads when nobody allowed it.
const REFUSED: &str = "The user refused this. Go on without it, or say why it is needed.";
const UNANSWERED: &str = "The user did not answer. Go on without an answer.";

/// A request that waits.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Open {
    request: String,
    call: String,
    tool: String,
    input: Value,
    questions: Vec<Question>,
    /// Answers so far, by question.
    answers: Vec<(String, String)>,
    asked: Ask,
}

#[derive(Clone, Debug, PartialEq)]
struct Question {
    /// As the program knows it.
    key: String,
    text: String,
    choices: Vec<(String, String)>,
}

/// What an answer leads to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Next {
    /// The program is answered.
    Done(Value),
    /// The next question of the request.
    Ask(Box<Open>),
}

/// Reads a `can_use_tool` request. None when it names no tool.
pub(super) fn read(request: &str, body: &Value) -> Option<Open> {
    let name = body["tool_name"].as_str()?;
    let call = body["tool_use_id"].as_str().unwrap_or(request);
    let mut open = Open {
        request: request.to_owned(),
        call: call.to_owned(),
        tool: name.to_owned(),
        input: body["input"].clone(),
        questions: questions(name, &body["input"]),
        answers: Vec::new(),
        asked: Ask {
            id: String::new(),
            tool: Tool::default(),
            question: None,
            options: Vec::new(),
        },
    };
    open.asked = open.ask(body["agent_id"].is_string());
    Some(open)
}

impl Open {
    /// What is asked now.
    pub(super) fn asked(&self) -> &Ask {
        &self.asked
    }

    /// The program's id of the request.
    pub(super) fn request(&self) -> &str {
        &self.request
    }

    /// What comes of the answer; none when it is not one of those on offer.
    pub(super) fn answered(&self, answer: &Answer) -> Option<Next> {
        let question = self.questions.get(self.answers.len());
        let reply = match (question, answer) {
            (Some(_), Answer::Cancelled) => deny(UNANSWERED),
            (None, Answer::Cancelled) => deny(REFUSED),
            (Some(_), Answer::Option(id)) if id == DECLINE => deny(UNANSWERED),
            (Some(question), Answer::Option(label)) => {
                let known = question.choices.iter().any(|(choice, _)| choice == label);
                return known.then(|| self.with(question, label));
            }
            (Some(question), Answer::Text(words)) => return Some(self.with(question, words)),
            (None, Answer::Option(id)) if id == ALLOW => {
                json!({"behavior": "allow", "updatedInput": self.input})
            }
            (None, Answer::Option(id)) if id == REJECT => deny(REFUSED),
            (None, Answer::Option(_)) => return None,
            (None, Answer::Text(words)) => deny(words),
        };
        Some(Next::Done(reply))
    }

    fn with(&self, question: &Question, words: &str) -> Next {
        let mut next = self.clone();
        next.answers.push((question.key.clone(), words.to_owned()));
        if next.answers.len() < next.questions.len() {
            next.asked = next.ask(false);
            return Next::Ask(Box::new(next));
        }
        let answers = next.answers.into_iter();
        let answers: serde_json::Map<String, Value> = answers
            .map(|(question, words)| (question, words.into()))
            .collect();
        if !next.input.is_object() {
            next.input = json!({});
        }
        next.input["answers"] = answers.into();
        Next::Done(json!({"behavior": "allow", "updatedInput": next.input}))
    }

    fn ask(&self, by_subagent: bool) -> Ask {
        let place = self.answers.len();
        let Some(question) = self.questions.get(place) else {
            return Ask {
                id: self.request.clone(),
                tool: Tool {
                    id: capped_text(&self.call),
                    title: Some(self.title(by_subagent)),
                    kind: Some(tool::kind(&self.tool).to_owned()),
                    status: None,
                    input: Some(capped(self.input.clone())),
                    output: None,
                    locations: tool::locations(&self.input),
                },
                question: None,
                options: vec![
                    option(ALLOW, "Allow once", AskKind::AllowOnce),
                    option(REJECT, "Reject", AskKind::RejectOnce),
                    option(WORDS, "Reject, and say this", AskKind::Text),
                ],
            };
        };
        let choices = question.choices.iter().take(MAX_CHOICES);
        let mut options: Vec<AskOption> = choices
            .map(|(id, label)| option(id, label, AskKind::Choice))
            .collect();
        options.push(option(WORDS, "Your words", AskKind::Text));
        options.push(option(DECLINE, "Do not answer", AskKind::RejectOnce));
        Ask {
            id: format!("{}:{place}", self.request),
            tool: Tool {
                id: capped_text(&self.call),
                ..Tool::default()
            },
            question: Some(capped_text(&question.text)),
            options,
        }
    }

    fn title(&self, by_subagent: bool) -> String {
        let title = tool::title(&self.tool, &self.input);
        if by_subagent {
            return capped_text(&format!("subagent: {title}"));
        }
        title
    }
}

fn deny(words: &str) -> Value {
    json!({"behavior": "deny", "message": words})
}

fn option(id: &str, label: &str, kind: AskKind) -> AskOption {
    AskOption {
        id: id.to_owned(),
        label: label.to_owned(),
        kind,
    }
}

fn questions(tool: &str, input: &Value) -> Vec<Question> {
    if tool != QUESTIONS {
        return Vec::new();
    }
    let asked = input["questions"].as_array().into_iter().flatten();
    asked.take(MAX_QUESTIONS).filter_map(question).collect()
}

fn question(asked: &Value) -> Option<Question> {
    let choices = asked["options"].as_array().into_iter().flatten();
    let choices = choices.filter_map(|choice| {
        let label = choice["label"].as_str()?;
        let shown = match choice["description"].as_str() {
            Some(about) if !about.is_empty() => format!("{label}: {about}"),
            _ => label.to_owned(),
        };
        Some((label.to_owned(), capped_text(&shown)))
    });
    let text = asked["question"].as_str()?;
    let text = if asked["multiSelect"] == true {
        // Labels are answered as words with commas between them.
        format!("{text} (several may be chosen: write them with commas between)")
    } else {
        text.to_owned()
    };
    Some(Question {
        key: asked["question"].as_str()?.to_owned(),
        text,
        choices: choices.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write() -> Open {
        let body = json!({"subtype": "can_use_tool", "tool_name": "Write", "tool_use_id": "t1",
            "input": {"file_path": "/w/a.txt", "content": "hi"}});
        read("r1", &body).expect("a request")
    }

    #[test]
    fn consent_is_given_once_refused_or_refused_with_words() {
        let open = write();
        let ask = open.asked();
        assert_eq!((ask.id.as_str(), ask.tool.id.as_str()), ("r1", "t1"));
        assert_eq!(ask.tool.kind.as_deref(), Some("edit"));
        assert_eq!(ask.tool.locations, ["/w/a.txt"]);
        let kinds: Vec<AskKind> = ask.options.iter().map(|option| option.kind).collect();
        assert_eq!(
            kinds,
            [AskKind::AllowOnce, AskKind::RejectOnce, AskKind::Text]
        );
        let told = |answer| match open.answered(&answer) {
            Some(Next::Done(told)) => told,
            other => panic!("{other:?}"),
        };
        let allowed = told(Answer::Option(ALLOW.into()));
        assert_eq!(allowed["behavior"], "allow");
        assert_eq!(allowed["updatedInput"]["content"], "hi");
        let refused = told(Answer::Option(REJECT.into()));
        assert_eq!(
            (&refused["behavior"], &refused["message"]),
            (&json!("deny"), &json!(REFUSED))
        );
        assert_eq!(
            told(Answer::Text("not there".into()))["message"],
            "not there"
        );
        assert_eq!(told(Answer::Cancelled)["behavior"], "deny");
        assert_eq!(open.answered(&Answer::Option("other".into())), None);
    }

    #[test]
    fn questions_are_put_one_after_the_other() {
        let body = json!({"tool_name": QUESTIONS, "tool_use_id": "t1", "input": {"questions": [
            {"question": "Which?", "options": [{"label": "A", "description": "a"}, {"label": "B"}]},
            {"question": "How many?", "multiSelect": true, "options": [{"label": "1"}]},
        ]}});
        let first = read("r1", &body).expect("a request");
        assert_eq!(first.asked().question.as_deref(), Some("Which?"));
        let labels: Vec<&str> = first
            .asked()
            .options
            .iter()
            .map(|option| option.label.as_str())
            .collect();
        assert_eq!(labels, ["A: a", "B", "Your words", "Do not answer"]);
        assert_eq!(first.answered(&Answer::Option("C".into())), None);
        let Some(Next::Ask(second)) = first.answered(&Answer::Option("B".into())) else {
            panic!("there is another question");
        };
        assert_ne!(second.asked().id, first.asked().id);
        let told = second.answered(&Answer::Text("1, 2".into()));
        let input = json!({"questions": body["input"]["questions"],
            "answers": {"Which?": "B", "How many?": "1, 2"}});
        assert_eq!(
            told,
            Some(Next::Done(
                json!({"behavior": "allow", "updatedInput": input})
            ))
        );
        let declined = first.answered(&Answer::Option(DECLINE.into()));
        assert_eq!(declined, Some(Next::Done(deny(UNANSWERED))));
    }
}
