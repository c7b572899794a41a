//! From opencode's events to Hearth's words, for one session.
//!
//! | heard of the running turn | said |
//! |---|---|
//! | `message.part.delta` | [`Said::Text`] or [`Said::Reasoning`], as its part is |
//! | `message.part.updated` with text | what the deltas have not said of it: usually nothing |
//! | … with a tool call | [`Said::Tool`], to be upserted by id |
//! | … with the end of a step | [`Said::Usage`], once a step |
//! | `permission.asked` | [`Said::Permission`] |
//! | `session.status` retry, `todo.updated` | [`Said::Raw`] |
//! | what ends the turn, see [`super::turn`] | [`Said::TurnEnded`] |
//!
//! Events of other turns, such as the late words of an aborted one, say nothing.

use std::collections::{BTreeMap, BTreeSet};

use hearth_actors::event::{AgentStop, Said};
use serde_json::{Value, json};

use super::heard::{Body, Delta, Heard, Part, What};
use super::tool;
use super::turn::Guard;
use crate::backends::cap::{capped, capped_text, pieces};

/// The mapping of one session: what it must remember from event to event.
#[derive(Debug)]
pub struct Mapper {
    session: String,
    guard: Option<Guard>,
    /// Text parts of the running turn, by id.
    texts: BTreeMap<String, Told>,
    /// Steps of it whose cost was told.
    counted: BTreeSet<String>,
    /// Requests of it that wait for an answer.
    asked: BTreeSet<String>,
}

/// How much of a text part was said.
#[derive(Debug)]
struct Told {
    is_reasoning: bool,
    bytes: usize,
    /// Deltas of it were lost, so that the next ones are of unknown place: it waits
    /// for the whole part.
    torn: bool,
}

impl Mapper {
    /// The mapping of opencode's session of this id.
    #[must_use]
    pub fn new(session: &str) -> Self {
        Self {
            session: session.to_owned(),
            guard: None,
            texts: BTreeMap::new(),
            counted: BTreeSet::new(),
            asked: BTreeSet::new(),
        }
    }

    /// A turn begins, whose user message will have the id `message`. Call it
    /// before the prompt is sent.
    pub fn begin(&mut self, message: &str) {
        self.guard = Some(Guard::new(message));
        self.texts.clear();
        self.counted.clear();
        self.asked.clear();
    }

    /// Requests of the turn that nobody has answered: after an abort each must be
    /// rejected, or a late consent still runs its tool.
    #[must_use]
    pub fn open_requests(&self) -> Vec<String> {
        self.asked.iter().cloned().collect()
    }

    /// One event, as words of the running turn.
    pub fn heard(&mut self, heard: Heard) -> Vec<Said> {
        if heard.session != self.session {
            return Vec::new();
        }
        let Some(guard) = &mut self.guard else {
            return Vec::new();
        };
        let end = guard.step(&heard.what);
        let mut said = self.words(heard.what);
        said.extend(end.map(Said::TurnEnded));
        said
    }

    /// The stream was lost and is there again: what the messages of the session, as
    /// the server stores them, say beyond what was said. It stores no deltas, so that
    /// a text that is being said comes with its end.
    pub fn caught_up(&mut self, messages: Vec<Value>) -> Vec<Said> {
        let heard = messages.into_iter().flat_map(Heard::stored);
        let said = heard.flat_map(|heard| self.heard(heard)).collect();
        self.texts.values_mut().for_each(|told| told.torn = true);
        said
    }

    /// Ends the turn from outside, if it has not ended: its prompt was refused, or
    /// its server is gone.
    pub fn give_up(&mut self, stop: AgentStop) -> Option<Said> {
        let open = self.guard.take().is_some_and(|guard| !guard.is_over());
        open.then_some(Said::TurnEnded(stop))
    }

    /// A turn began and has not ended.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.guard.as_ref().is_some_and(|guard| !guard.is_over())
    }

    /// The request waits for an answer, in a turn that has not ended.
    #[must_use]
    pub fn awaits(&self, request: &str) -> bool {
        self.is_open() && self.asked.contains(request)
    }

    fn words(&mut self, what: What) -> Vec<Said> {
        match what {
            What::Part(part) if self.owns(&part.message) => self.part(part),
            What::Delta(delta) if self.owns(&delta.message) => self.delta(&delta),
            What::Asks(asking) if self.owns(&asking.message) => {
                self.asked.insert(asking.id.clone());
                vec![Said::Permission(tool::ask(*asking))]
            }
            What::Answered(request) => {
                self.asked.remove(&request);
                Vec::new()
            }
            What::Retry(attempt, why) if self.is_live() => vec![Said::Raw {
                kind: "retry".into(),
                value: json!({ "attempt": attempt, "why": capped_text(&why) }),
            }],
            What::Todo(todos) if self.is_live() => vec![Said::Raw {
                kind: "todo".into(),
                value: capped(todos),
            }],
            _ => Vec::new(),
        }
    }

    fn owns(&self, message: &str) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.owns(message))
    }

    fn is_live(&self) -> bool {
        self.guard.as_ref().is_some_and(Guard::is_live)
    }

    fn part(&mut self, part: Part) -> Vec<Said> {
        match part.body {
            Body::Text(text) => self.whole(part.id, &text, false),
            Body::Reasoning(text) => self.whole(part.id, &text, true),
            Body::Tool(mut call) => tool::read(&mut call).map(Said::Tool).into_iter().collect(),
            Body::StepFinish(usage) => {
                let first = self.counted.insert(part.id);
                first.then_some(Said::Usage(usage)).into_iter().collect()
            }
        }
    }

    /// The text so far: what of it was not said yet. opencode cuts blanks off the
    /// end of a finished part, which then is shorter than what was said.
    fn whole(&mut self, id: String, text: &str, is_reasoning: bool) -> Vec<Said> {
        let told = self.texts.entry(id).or_insert(Told {
            is_reasoning,
            bytes: 0,
            torn: false,
        });
        let rest = text.get(told.bytes..).unwrap_or_default();
        told.bytes += rest.len();
        words(rest, told.is_reasoning)
    }

    fn delta(&mut self, delta: &Delta) -> Vec<Said> {
        // The part itself comes first; without it, it comes whole at its end.
        let Some(told) = self.texts.get_mut(&delta.part).filter(|told| !told.torn) else {
            return Vec::new();
        };
        told.bytes += delta.text.len();
        words(&delta.text, told.is_reasoning)
    }
}

fn words(text: &str, is_reasoning: bool) -> Vec<Said> {
    let say = if is_reasoning {
        Said::Reasoning
    } else {
        Said::Text
    };
    pieces(text).map(|piece| say(piece.to_owned())).collect()
}
