//! opencode's `question` tool: what it asks, and how answers go back.
//!
//! One request may hold several questions. Each is put to people by itself; the
//! request is answered when the last of them is, or refused with the first refusal.

use hearth_actors::event::{Answer, Ask, AskKind, AskOption, Tool};
use serde_json::Value;

use crate::backends::cap::capped_text;

/// Most questions of one request, and most choices of one question, that are put to
/// people; a request with more is refused.
const MOST: usize = 20;
/// The way out that every question has.
const DECLINE: &str = "hearth:decline";
/// Between a request's id and a question's number.
const MARK: char = '#';

/// A request of the tool.
#[derive(Clone, Debug, PartialEq)]
pub struct Questions {
    /// Its id, for the answer.
    pub id: String,
    /// The message whose tool asks.
    pub message: String,
    /// The id of the call.
    pub call: String,
    /// What is asked.
    pub questions: Vec<Question>,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    text: String,
    labels: Vec<String>,
    /// Other answers than those are welcome.
    open: bool,
}

/// What the server is told of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// These answers: the labels chosen, or words, for each question.
    Answers(Vec<Vec<String>>),
    /// Nobody answers.
    Rejected,
}

impl Questions {
    /// Reads `{id, questions: [{question, options: [{label}], custom?}], tool}`. None
    /// where that is not what it is.
    pub(super) fn read(asked: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let questions = asked["questions"].as_array()?.iter().map(|question| {
            let options = question["options"].as_array();
            let labels = options.into_iter().flatten();
            Some(Question {
                text: text(&question["question"])?,
                labels: labels.filter_map(|option| text(&option["label"])).collect(),
                open: question["custom"] != false,
            })
        });
        Some(Self {
            id: text(&asked["id"])?,
            message: text(&asked["tool"]["messageID"])?,
            call: text(&asked["tool"]["callID"])?,
            questions: questions.collect::<Option<_>>()?,
        })
    }

    /// What people are asked. None for what no one could answer.
    pub(super) fn asks(&self) -> Option<Vec<Ask>> {
        let fits = |question: &Question| {
            question.labels.len() <= MOST && (question.open || !question.labels.is_empty())
        };
        let all = &self.questions;
        let askable = !all.is_empty() && all.len() <= MOST && all.iter().all(fits);
        askable.then(|| {
            let asks = all.iter().enumerate();
            asks.map(|(number, question)| self.ask(number, question))
                .collect()
        })
    }

    fn ask(&self, number: usize, question: &Question) -> Ask {
        let option = |id: String, label: &str, kind| AskOption {
            id,
            label: capped_text(label),
            kind,
        };
        let labels = question.labels.iter().enumerate();
        let choices =
            labels.map(|(at, label)| option(format!("choice-{at}"), label, AskKind::Choice));
        let words = option("text".into(), "Your words", AskKind::Text);
        let decline = option(DECLINE.into(), "Do not answer", AskKind::RejectOnce);
        Ask {
            id: format!("{}{MARK}{number}", self.id),
            tool: Tool {
                id: self.call.clone(),
                ..Tool::default()
            },
            question: Some(capped_text(&question.text)),
            options: choices
                .chain(question.open.then_some(words))
                .chain([decline])
                .collect(),
        }
    }
}

/// A request that waits.
#[derive(Debug)]
pub(super) struct Open {
    labels: Vec<Vec<String>>,
    answers: Vec<Option<String>>,
}

impl Open {
    pub(super) fn new(asked: &Questions) -> Self {
        let questions = asked.questions.iter();
        Self {
            labels: questions.map(|one| one.labels.clone()).collect(),
            answers: vec![None; asked.questions.len()],
        }
    }

    /// One answer: what is told of the whole request, if that is settled by it.
    ///
    /// # Errors
    /// It is no answer to this question, or a second one.
    pub(super) fn answer(&mut self, number: usize, answer: &Answer) -> Result<Option<Reply>, ()> {
        let slot = self.answers.get(number).ok_or(())?;
        if slot.is_some() {
            return Err(());
        }
        let answer = match answer {
            Answer::Cancelled => return Ok(Some(Reply::Rejected)),
            Answer::Option(id) if id == DECLINE => return Ok(Some(Reply::Rejected)),
            Answer::Text(words) => words.clone(),
            Answer::Option(id) => {
                let at = id.strip_prefix("choice-").and_then(|at| at.parse().ok());
                let at: usize = at.ok_or(())?;
                self.labels[number].get(at).cloned().ok_or(())?
            }
        };
        self.answers[number] = Some(answer);
        let all: Option<Vec<String>> = self.answers.iter().cloned().collect();
        Ok(all.map(|all| Reply::Answers(all.into_iter().map(|one| vec![one]).collect())))
    }
}

/// The request and the number of the question that an [`Ask`] names.
pub(super) fn named(ask: &str) -> Option<(&str, usize)> {
    let (request, number) = ask.rsplit_once(MARK)?;
    Some((request, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(questions: Value) -> Value {
        json!({"id": "que_1", "sessionID": "s", "questions": questions,
            "tool": {"messageID": "m", "callID": "c"}})
    }

    fn colour() -> Value {
        json!({"question": "Which colour?", "options": [{"label": "red"}, {"label": "blue"}]})
    }

    #[test]
    fn a_question_is_put_with_its_choices_own_words_and_a_way_out() {
        let asked = Questions::read(&asked(json!([colour()]))).expect("a request");
        let asks = asked.asks().expect("one to put");
        assert_eq!(asks.len(), 1);
        assert_eq!(asks[0].question.as_deref(), Some("Which colour?"));
        let kinds: Vec<_> = asks[0].options.iter().map(|option| option.kind).collect();
        let wanted = [
            AskKind::Choice,
            AskKind::Choice,
            AskKind::Text,
            AskKind::RejectOnce,
        ];
        assert_eq!(kinds, wanted);
        for (answer, told) in [
            (Answer::Option("choice-1".into()), "blue"),
            (Answer::Text("green".into()), "green"),
        ] {
            let reply = Open::new(&asked).answer(0, &answer);
            let wanted = Reply::Answers(vec![vec![told.to_owned()]]);
            assert_eq!(reply, Ok(Some(wanted)));
        }
        for answer in [Answer::Cancelled, Answer::Option(DECLINE.into())] {
            let reply = Open::new(&asked).answer(0, &answer);
            assert_eq!(reply, Ok(Some(Reply::Rejected)));
        }
        for id in ["choice-2", "red", "choice-x"] {
            let answer = Answer::Option(id.into());
            assert_eq!(Open::new(&asked).answer(0, &answer), Err(()), "{id}");
        }
    }

    #[test]
    fn several_questions_are_answered_together() {
        let asked = Questions::read(&asked(json!([colour(), colour()]))).expect("a request");
        let asks = asked.asks().expect("two to put");
        assert_eq!(named(&asks[1].id), Some(("que_1", 1)));
        let mut open = Open::new(&asked);
        let red = Answer::Option("choice-0".into());
        assert_eq!(open.answer(1, &red), Ok(None));
        assert_eq!(open.answer(1, &red), Err(()), "twice");
        let both = open.answer(0, &Answer::Text("green".into()));
        let wanted = vec![vec!["green".to_owned()], vec!["red".to_owned()]];
        assert_eq!(both, Ok(Some(Reply::Answers(wanted))));
    }

    #[test]
    fn what_no_one_could_answer_is_not_put() {
        let many: Vec<Value> = (0..30).map(|at| json!({"label": at.to_string()})).collect();
        for questions in [
            json!([]),
            json!([{"question": "?", "options": [], "custom": false}]),
            json!([{"question": "?", "options": many}]),
        ] {
            let asked = Questions::read(&asked(questions)).expect("a request");
            assert_eq!(asked.asks(), None);
        }
        assert_eq!(Questions::read(&asked(json!([{"options": []}]))), None);
    }
}
