//! Which events belong to the running turn, and which one ends it.
//!
//! opencode's `session.idle` and `session.error` name no turn, come twice after an
//! abort, and may come after the next prompt was sent. What names the turn is the
//! id that Hearth gives the user's message and that each answer carries as its
//! parent: nothing counts before that message was seen, and no turn ends by an
//! idle alone.

use std::collections::BTreeMap;

use hearth_actors::event::AgentStop;

use super::fault;
use super::heard::{Assistant, Stop, What};

/// What `finish` says when another step of the model follows.
const MORE: &str = "tool-calls";

/// The guard of one turn.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    message: String,
    seen: bool,
    answers: BTreeMap<String, Answer>,
    /// The id of the latest answer.
    newest: Option<String>,
    over: bool,
}

#[derive(Clone, Debug, Default)]
struct Answer {
    completed: bool,
}

impl Guard {
    /// The turn whose user message has the id `message`.
    pub(super) fn new(message: &str) -> Self {
        Self {
            message: message.to_owned(),
            seen: false,
            answers: BTreeMap::new(),
            newest: None,
            over: false,
        }
    }

    /// Whether the message with this id is an answer of this turn.
    pub(super) fn owns(&self, message: &str) -> bool {
        self.answers.contains_key(message)
    }

    /// The turn runs: it began, and nothing has ended it.
    pub(super) fn is_live(&self) -> bool {
        self.seen && !self.over
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// One event of the turn's session; the end comes once.
    pub(super) fn step(&mut self, what: &What) -> Option<AgentStop> {
        if self.over {
            return None;
        }
        let end = match what {
            What::User(id) => {
                self.seen |= *id == self.message;
                None
            }
            What::Assistant(answer) if answer.parent == self.message => self.answered(answer),
            What::Idle if self.seen => self.all_answered().then_some(AgentStop::EndTurn),
            // An abort that no answer tells of may be the end of the turn before.
            What::Failed(Stop::Fault(fault)) if self.seen && self.answers.is_empty() => {
                Some(AgentStop::Error(fault.clone()))
            }
            What::Retry(attempt, why) if self.seen => {
                fault::too_often(*attempt, why).map(AgentStop::Error)
            }
            _ => None,
        };
        self.over = end.is_some();
        end
    }

    fn answered(&mut self, answer: &Assistant) -> Option<AgentStop> {
        self.seen = true;
        if !self.answers.contains_key(&answer.id) {
            self.newest = Some(answer.id.clone());
        }
        let known = self.answers.entry(answer.id.clone()).or_default();
        known.completed |= answer.completed;
        if !answer.completed {
            return None;
        }
        match (&answer.failed, answer.finish.as_deref()) {
            (Some(stop), _) => Some(stopped(stop)),
            (None, Some(MORE)) => None,
            (None, Some("stop")) => Some(AgentStop::EndTurn),
            (None, Some(word)) => Some(AgentStop::Limit(word.to_owned())),
            // So ends what was aborted while it waited to try again.
            (None, None) => Some(AgentStop::Cancelled),
        }
    }

    /// A rejected tool ends the turn like this: its last step wanted more.
    fn all_answered(&self) -> bool {
        self.newest.is_some() && self.answers.values().all(|answer| answer.completed)
    }
}

fn stopped(stop: &Stop) -> AgentStop {
    match stop {
        Stop::Aborted => AgentStop::Cancelled,
        Stop::Fault(fault) => AgentStop::Error(fault.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::heard::Heard;
    use super::*;

    fn error(name: &str, message: &str) -> What {
        let error = json!({"name": name, "data": {"message": message}});
        let properties = json!({"sessionID": "s", "error": error});
        let event = json!({"type": "session.error", "properties": properties});
        Heard::read(event).expect("an error").what
    }

    fn answer(completed: bool) -> What {
        What::Assistant(Assistant {
            id: "a".into(),
            parent: "m".into(),
            completed,
            finish: completed.then(|| "stop".to_owned()),
            failed: None,
        })
    }

    #[test]
    fn the_late_words_of_an_aborted_turn_do_not_end_the_next() {
        let mut guard = Guard::new("m");
        let late = [
            error("MessageAbortedError", "Aborted"),
            error(
                "UnknownError",
                "Error: All fibers interrupted without error",
            ),
            What::Idle,
        ];
        for what in &late {
            assert_eq!(guard.step(what), None, "before it began");
        }
        assert_eq!(guard.step(&What::User("m".into())), None);
        for what in &late {
            assert_eq!(guard.step(what), None, "before it was answered");
        }
        assert_eq!(guard.step(&answer(false)), None);
        for what in &late {
            assert_eq!(guard.step(what), None, "while it is answered");
        }
        assert_eq!(guard.step(&answer(true)), Some(AgentStop::EndTurn));
        assert_eq!(guard.step(&answer(true)), None, "once");
    }

    #[test]
    fn an_error_before_any_answer_ends_the_turn_that_began() {
        let unknown = error("UnknownError", "Model not found: mock/none.");
        let mut guard = Guard::new("m");
        assert_eq!(guard.step(&unknown), None);
        assert_eq!(guard.step(&What::User("m".into())), None);
        let end = guard.step(&unknown);
        assert!(matches!(end, Some(AgentStop::Error(_))), "{end:?}");
    }
}
