//! From opencode's events to Hearth's words, for one session.
//!
//! | heard of the running turn | said |
//! |---|---|
//! | `message.part.delta` | [`Said::Text`] or [`Said::Reasoning`], as its part is |
//! | `message.part.updated` with text | what the deltas have not said of it: usually nothing |
//! | … with the start of a step that had begun | nothing; the text that follows is told once, see [`super::once`] |
//! | … with a tool call | [`Said::Tool`], to be upserted by id |
//! | … with the end of a step | [`Said::Usage`], once a step |
//! | `permission.asked`, `question.asked` | [`Said::Permission`] |
//! | `session.status` retry, `todo.updated` | [`Said::Raw`] |
//! | what ends the turn, see [`super::turn`] | [`Said::TurnEnded`] |
//! | a summary that makes room in the model's context | [`Said::Raw`] at its start, and its usage |
//!
//! Events of other turns, such as the late words of an aborted one, say nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use hearth_actors::event::{AgentStop, Answer, Said, Tool, ToolStatus};
use serde_json::{Value, json};

use super::heard::{Body, Delta, Heard, Part, What};
use super::once::Once;
use super::question::{self, Open, Reply};
use super::tool;
use super::turn::Guard;
use crate::backends::cap::{capped, capped_text, pieces};
use crate::backends::reset;

/// The mapping of one session: what it must remember from event to event.
#[derive(Debug)]
pub struct Mapper {
    session: String,
    guard: Option<Guard>,
    /// Text parts of the running turn, by id.
    texts: BTreeMap<String, Told>,
    /// What was last said of its tool calls, hashed, and how far they were, by their
    /// ids: what is stored comes again with each gap, and may be older.
    tools: BTreeMap<String, (Stage, u64)>,
    /// Steps of it that began or ended, by the ids of the parts that say so.
    steps: BTreeSet<String>,
    answer: Once,
    reasoning: Once,
    /// Requests of it. They are told once, however often they are heard of.
    asked: BTreeMap<String, Asked>,
    /// The agent did something in the turn.
    worked: bool,
    chores: Chores,
}

/// What the server must be told of what was heard.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chores {
    /// The turn was ended although the server goes on trying: it must be aborted
    /// before another one begins.
    pub(super) abort: bool,
    /// Requests of the question tool that cannot be put to anybody.
    pub(super) reject: Vec<String>,
}

/// A request.
#[derive(Debug)]
enum Asked {
    Consent,
    Questions(Open),
    Settled,
}

/// What an answer becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// Consent to this request, or not.
    Consent(String, bool),
    /// The end of this request of the question tool.
    Questions(String, Reply),
    /// More answers are waited for.
    Partly,
}

/// How far a tool call is; it never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Announced,
    Running,
    Over,
}

/// How much of a text part was said.
#[derive(Debug)]
struct Told {
    is_reasoning: bool,
    bytes: usize,
    /// Deltas of it were lost, so that the next ones are of unknown place: it waits
    /// for the whole part.
    torn: bool,
    /// The model was asked again: nothing more of it counts.
    broken: bool,
}

impl Mapper {
    /// The mapping of opencode's session of this id.
    #[must_use]
    pub fn new(session: &str) -> Self {
        Self {
            session: session.to_owned(),
            guard: None,
            texts: BTreeMap::new(),
            tools: BTreeMap::new(),
            steps: BTreeSet::new(),
            answer: Once::default(),
            reasoning: Once::default(),
            asked: BTreeMap::new(),
            worked: false,
            chores: Chores::default(),
        }
    }

    /// A turn begins, whose user message will have the id `message`. Call it
    /// before the prompt is sent.
    pub fn begin(&mut self, message: &str) {
        let session = std::mem::take(&mut self.session);
        *self = Self::new(&session);
        self.guard = Some(Guard::new(message));
    }

    /// opencode's id of the session.
    #[cfg(test)]
    pub(super) fn session(&self) -> &str {
        &self.session
    }

    /// Requests of the turn that nobody has answered: after an abort each must be
    /// rejected, or a late consent still runs its tool.
    #[must_use]
    pub fn open_requests(&self) -> Vec<String> {
        let open = self.asked.iter();
        let open = open.filter(|(_, asked)| !matches!(asked, Asked::Settled));
        open.map(|(request, _)| request.clone()).collect()
    }

    /// What is to be done about the events so far; each chore comes once.
    pub(super) fn chores(&mut self) -> Chores {
        std::mem::take(&mut self.chores)
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
        self.chores.abort |= end.is_some() && matches!(heard.what, What::Retry(..));
        let mut said = self.words(heard.what);
        self.worked |= said.iter().any(Said::is_work);
        if let Some(stop) = end {
            self.step_over(&mut said);
            said.push(Said::TurnEnded(self.refused(stop)));
        }
        said
    }

    /// An error before anything was done is a refusal, which may be tried again.
    fn refused(&self, stop: AgentStop) -> AgentStop {
        match stop {
            AgentStop::Error(fault) if !self.worked => AgentStop::Refused {
                reset: reset::of_text(&fault.message),
                fault,
            },
            other => other,
        }
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

    /// Ends the turn from outside, if it has not ended, which is told: its prompt was
    /// refused, or its server is gone.
    pub fn give_up(&mut self) -> bool {
        self.guard.take().is_some_and(|guard| !guard.is_over())
    }

    /// A turn began and has not ended.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.guard.as_ref().is_some_and(|guard| !guard.is_over())
    }

    /// The model has begun to answer in the turn: what is idle from here on is over.
    pub(super) fn is_answered(&self) -> bool {
        self.guard.as_ref().is_some_and(Guard::is_answered)
    }

    /// What a person's answer to `ask` becomes. None when nobody waits for it: it was
    /// answered, or its turn has ended.
    pub(super) fn answer(&mut self, ask: &str, answer: &Answer) -> Option<Answered> {
        if !self.is_open() {
            return None;
        }
        let (request, number) = question::named(ask).unwrap_or((ask, 0));
        let asked = self.asked.get_mut(request)?;
        let answered = match (&mut *asked, answer) {
            (Asked::Settled, _) => return None,
            (Asked::Questions(open), answer) => match open.answer(number, answer).ok()? {
                Some(reply) => Answered::Questions(request.to_owned(), reply),
                None => return Some(Answered::Partly),
            },
            (Asked::Consent, Answer::Option(id)) if id == tool::ONCE => {
                Answered::Consent(request.to_owned(), true)
            }
            (Asked::Consent, Answer::Option(id)) if id != tool::REJECT => return None,
            (Asked::Consent, Answer::Text(_)) => return None,
            (Asked::Consent, _) => Answered::Consent(request.to_owned(), false),
        };
        *asked = Asked::Settled;
        Some(answered)
    }

    fn words(&mut self, what: What) -> Vec<Said> {
        match what {
            What::Part(part) if self.hides(&part.message) => self.hidden(part),
            What::Part(part) if self.owns(&part.message) => self.part(part),
            What::Delta(delta) if self.owns(&delta.message) => self.delta(&delta),
            What::Asks(asking) if self.owns(&asking.message) => {
                if self.asked.contains_key(&asking.id) {
                    return Vec::new();
                }
                self.asked.insert(asking.id.clone(), Asked::Consent);
                vec![Said::Permission(tool::ask(*asking))]
            }
            What::Questions(asking) if self.owns(&asking.message) => {
                if self.asked.contains_key(&asking.id) {
                    return Vec::new();
                }
                let Some(asks) = asking.asks() else {
                    self.chores.reject.push(asking.id.clone());
                    self.asked.insert(asking.id, Asked::Settled);
                    return Vec::new();
                };
                let open = Asked::Questions(Open::new(&asking));
                self.asked.insert(asking.id, open);
                asks.into_iter().map(Said::Permission).collect()
            }
            What::Answered(request) => {
                if let Some(asked) = self.asked.get_mut(&request) {
                    *asked = Asked::Settled;
                }
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

    fn hides(&self, message: &str) -> bool {
        let guard = self.guard.as_ref();
        guard.is_some_and(|guard| guard.hides(message))
    }

    fn is_live(&self) -> bool {
        self.guard.as_ref().is_some_and(Guard::is_live)
    }

    fn part(&mut self, part: Part) -> Vec<Said> {
        match part.body {
            Body::Text(text) => self.whole(part.id, &text, false),
            Body::Reasoning(text) => self.whole(part.id, &text, true),
            Body::Tool(mut call) => {
                let tool = tool::read(&mut call).filter(|tool| self.is_news(tool));
                tool.map(Said::Tool).into_iter().collect()
            }
            Body::StepStart => {
                if self.steps.insert(part.id) {
                    self.texts.values_mut().for_each(|told| told.broken = true);
                    self.answer.again();
                    self.reasoning.again();
                }
                Vec::new()
            }
            Body::StepFinish(usage) => {
                if !self.steps.insert(part.id) {
                    return Vec::new();
                }
                let mut said = Vec::new();
                self.step_over(&mut said);
                said.push(Said::Usage(usage));
                said
            }
        }
    }

    /// Of a summary people are told that it is made, and what it costs.
    fn hidden(&mut self, part: Part) -> Vec<Said> {
        let said = match part.body {
            Body::StepStart => Said::Raw {
                kind: "compaction".into(),
                value: json!({ "message": part.message }),
            },
            Body::StepFinish(usage) => Said::Usage(usage),
            _ => return Vec::new(),
        };
        let is_first = self.steps.insert(part.id);
        is_first.then_some(said).into_iter().collect()
    }

    fn is_news(&mut self, tool: &Tool) -> bool {
        let mut hasher = DefaultHasher::new();
        format!("{tool:?}").hash(&mut hasher);
        let stage = match tool.status {
            Some(status) if status.is_final() => Stage::Over,
            Some(ToolStatus::InProgress) => Stage::Running,
            _ => Stage::Announced,
        };
        let (news, known) = ((stage, hasher.finish()), self.tools.get(&tool.id));
        let is_news = known.is_none_or(|known| match known.0 {
            Stage::Over => false,
            before => stage >= before && *known != news,
        });
        if is_news {
            self.tools.insert(tool.id.clone(), news);
        }
        is_news
    }

    /// Nothing of the step comes again.
    fn step_over(&mut self, said: &mut Vec<Said>) {
        said.extend(
            self.reasoning
                .end()
                .iter()
                .flat_map(|text| words(text, true)),
        );
        said.extend(self.answer.end().iter().flat_map(|text| words(text, false)));
    }

    /// The text so far: what of it was not said yet. opencode cuts blanks off the
    /// end of a finished part, which then is shorter than what was said.
    fn whole(&mut self, id: String, text: &str, is_reasoning: bool) -> Vec<Said> {
        let told = self.texts.entry(id).or_insert(Told {
            is_reasoning,
            bytes: 0,
            torn: false,
            broken: false,
        });
        let rest = text.get(told.bytes..).unwrap_or_default();
        told.bytes += rest.len();
        if told.broken || rest.is_empty() {
            return Vec::new();
        }
        let is_reasoning = told.is_reasoning;
        self.told(rest, is_reasoning)
    }

    fn delta(&mut self, delta: &Delta) -> Vec<Said> {
        // The part itself comes first; without it, it comes whole at its end.
        let usable = |told: &&mut Told| !told.torn && !told.broken;
        let Some(told) = self.texts.get_mut(&delta.part).filter(usable) else {
            return Vec::new();
        };
        told.bytes += delta.text.len();
        let is_reasoning = told.is_reasoning;
        self.told(&delta.text, is_reasoning)
    }

    fn told(&mut self, text: &str, is_reasoning: bool) -> Vec<Said> {
        let once = match is_reasoning {
            true => &mut self.reasoning,
            false => &mut self.answer,
        };
        words(&once.next(text), is_reasoning)
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
