//! Which events belong to the running turn, and which one ends it.
//!
//! opencode's `session.idle` and `session.error` name no turn, come twice after an
//! abort, and may come after the next prompt was sent. What names the turn is the
//! id that Hearth gives the user's message and that each answer carries as its
//! parent: nothing counts before that message was seen. Where the model's context is
//! full, opencode puts messages of its own behind it, which sum up, repeat or go on,
//! and whose answers are the turn's as well.
//!
//! An answer that is complete is no end, whatever it says: after any of them opencode
//! may make room or ask the model again. The end is the idle behind the last.

use std::collections::{BTreeMap, BTreeSet};

use hearth_actors::event::AgentStop;

use super::fault;
use super::heard::{Assistant, Stop, User, What};

/// How the ids of Hearth's own messages begin; opencode takes any behind `msg`.
pub(super) const OWN: &str = "msg_hearth_";

/// The guard of one turn.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    message: String,
    /// When the server stored the message; none until it was seen.
    since: Option<i64>,
    seen: bool,
    /// The message, and those that opencode put behind it.
    parents: BTreeSet<String>,
    answers: BTreeMap<String, Answer>,
    /// The id of the latest answer.
    newest: Option<String>,
    /// The session does not work, as far as was heard since its latest answer began.
    idle: bool,
    over: bool,
}

#[derive(Clone, Debug, Default)]
struct Answer {
    completed: bool,
    finish: Option<String>,
    is_summary: bool,
}

impl Guard {
    /// The turn whose user message has the id `message`.
    pub(super) fn new(message: &str) -> Self {
        Self {
            message: message.to_owned(),
            since: None,
            seen: false,
            parents: BTreeSet::from([message.to_owned()]),
            answers: BTreeMap::new(),
            newest: None,
            idle: false,
            over: false,
        }
    }

    /// Whether the message with this id is an answer of this turn.
    pub(super) fn owns(&self, message: &str) -> bool {
        self.answers.contains_key(message)
    }

    /// Whether it is one that people have no use for.
    pub(super) fn hides(&self, message: &str) -> bool {
        let answer = self.answers.get(message);
        answer.is_some_and(|answer| answer.is_summary)
    }

    /// The turn runs: it began, and nothing has ended it.
    pub(super) fn is_live(&self) -> bool {
        self.seen && !self.over
    }

    /// The model has begun to answer.
    pub(super) fn is_answered(&self) -> bool {
        self.newest.is_some()
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
            What::User(user) => {
                self.prompted(user);
                None
            }
            What::Assistant(answer) if self.parents.contains(&answer.parent) => {
                self.answered(answer)
            }
            What::Idle if self.seen => {
                self.idle = true;
                self.ended()
            }
            What::Busy => {
                self.idle = false;
                None
            }
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

    /// Messages of turns before are told again when they are summed up: their time
    /// tells, and those of Hearth's own have its mark.
    fn prompted(&mut self, user: &User) {
        if user.id == self.message {
            self.seen = true;
            self.since.get_or_insert(user.created);
        } else if self.since.is_some_and(|since| user.created >= since) && !user.id.starts_with(OWN)
        {
            self.parents.insert(user.id.clone());
        }
    }

    fn answered(&mut self, answer: &Assistant) -> Option<AgentStop> {
        self.seen = true;
        if !self.answers.contains_key(&answer.id) {
            self.newest = Some(answer.id.clone());
            self.idle = false;
        }
        let known = self.answers.entry(answer.id.clone()).or_default();
        known.is_summary |= answer.is_summary;
        if !answer.completed {
            return None;
        }
        known.completed = true;
        known.finish = answer.finish.clone().or(known.finish.take());
        match &answer.failed {
            Some(stop) => Some(stopped(stop)),
            // The idle of an abort may come before the last words of its answer.
            None if self.idle => self.ended(),
            None => None,
        }
    }

    /// The session is idle: how the turn ended, if all its answers are complete. The
    /// last step of one with a rejected tool wanted more.
    fn ended(&self) -> Option<AgentStop> {
        let newest = self.answers.get(self.newest.as_ref()?)?;
        if !self.answers.values().all(|answer| answer.completed) {
            return None;
        }
        Some(match newest.finish.as_deref() {
            Some("stop" | "tool-calls" | "unknown") => AgentStop::EndTurn,
            Some(word) => AgentStop::Limit(word.to_owned()),
            // So ends what was aborted while it waited to try again.
            None => AgentStop::Cancelled,
        })
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

    fn user(id: &str, created: i64) -> What {
        let id = id.to_owned();
        What::User(User { id, created })
    }

    fn assistant(id: &str, parent: &str, finish: Option<&str>) -> Assistant {
        Assistant {
            id: id.into(),
            parent: parent.into(),
            completed: finish.is_some(),
            finish: finish.map(str::to_owned),
            failed: None,
            is_summary: false,
        }
    }

    fn answer(id: &str, parent: &str, finish: Option<&str>) -> What {
        What::Assistant(assistant(id, parent, finish))
    }

    /// A turn whose message is seen.
    fn begun() -> Guard {
        let mut guard = Guard::new("msg_hearth_m");
        assert_eq!(guard.step(&user("msg_hearth_m", 100)), None);
        guard
    }

    fn hears(guard: &mut Guard, events: &[What]) {
        for what in events {
            assert_eq!(guard.step(what), None, "{what:?}");
        }
    }

    /// The usage of the first answer filled the model's context.
    #[test]
    fn what_opencode_does_to_make_room_belongs_to_the_turn() {
        let mut guard = begun();
        let summary = What::Assistant(Assistant {
            is_summary: true,
            ..assistant("b", "msg_01", Some("stop"))
        });
        hears(
            &mut guard,
            &[
                answer("a", "msg_hearth_m", Some("stop")),
                user("msg_01", 110),
                answer("b", "msg_01", None),
                summary,
                user("msg_02", 120),
                answer("c", "msg_02", None),
                answer("c", "msg_02", Some("stop")),
            ],
        );
        assert!(guard.hides("b") && guard.owns("c") && !guard.hides("c"));
        assert_eq!(guard.step(&What::Idle), Some(AgentStop::EndTurn));
    }

    #[test]
    fn room_is_made_before_the_prompt_too() {
        let mut guard = begun();
        // The message is never answered itself.
        hears(
            &mut guard,
            &[user("msg_01", 100), answer("b", "msg_01", Some("stop"))],
        );
        let last = answer("c", "msg_02", Some("length"));
        hears(&mut guard, &[user("msg_02", 130), last]);
        let end = guard.step(&What::Idle);
        assert_eq!(end, Some(AgentStop::Limit("length".into())));
    }

    #[test]
    fn messages_of_other_turns_are_no_parents() {
        let mut guard = begun();
        hears(
            &mut guard,
            &[
                user("msg_00", 99),
                answer("x", "msg_00", Some("stop")),
                user("msg_hearth_n", 200),
                answer("y", "msg_hearth_n", Some("stop")),
                What::Idle,
            ],
        );
        assert!(!guard.owns("x") && !guard.owns("y"));
    }

    /// Both make opencode ask the model again.
    #[test]
    fn a_complete_answer_is_no_end_before_the_idle() {
        for finish in ["unknown", "stop", "tool-calls"] {
            let mut guard = begun();
            hears(
                &mut guard,
                &[
                    answer("a", "msg_hearth_m", Some(finish)),
                    What::Busy,
                    answer("b", "msg_hearth_m", None),
                    What::Idle,
                ],
            );
            let end = guard.step(&answer("b", "msg_hearth_m", Some("stop")));
            assert_eq!(end, Some(AgentStop::EndTurn), "the idle came first");
        }
    }

    /// As an answer ends that is aborted, and one that found the context full.
    #[test]
    fn an_answer_without_an_end_of_its_own_is_cancelled_by_the_idle_only() {
        let open = || {
            What::Assistant(Assistant {
                completed: true,
                ..assistant("a", "msg_hearth_m", None)
            })
        };
        let mut guard = begun();
        hears(&mut guard, &[open()]);
        assert_eq!(guard.step(&What::Idle), Some(AgentStop::Cancelled));
        let mut guard = begun();
        hears(&mut guard, &[open(), user("msg_01", 101)]);
        hears(&mut guard, &[answer("b", "msg_01", Some("stop"))]);
        assert_eq!(guard.step(&What::Idle), Some(AgentStop::EndTurn));
    }

    #[test]
    fn the_late_words_of_an_aborted_turn_do_not_end_the_next() {
        let mut guard = Guard::new("msg_hearth_m");
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
        assert_eq!(guard.step(&user("msg_hearth_m", 100)), None);
        for what in &late {
            assert_eq!(guard.step(what), None, "before it was answered");
        }
        assert_eq!(guard.step(&answer("a", "msg_hearth_m", None)), None);
        for what in &late {
            assert_eq!(guard.step(what), None, "while it is answered");
        }
        let last = answer("a", "msg_hearth_m", Some("stop"));
        hears(&mut guard, &[What::Busy, last.clone()]);
        assert_eq!(guard.step(&What::Idle), Some(AgentStop::EndTurn));
        hears(&mut guard, &[What::Idle, last]);
    }

    #[test]
    fn an_error_before_any_answer_ends_the_turn_that_began() {
        let unknown = error("UnknownError", "Model not found: mock/none.");
        let mut guard = Guard::new("msg_hearth_m");
        assert_eq!(guard.step(&unknown), None);
        assert_eq!(guard.step(&user("msg_hearth_m", 100)), None);
        let end = guard.step(&unknown);
        assert!(matches!(end, Some(AgentStop::Error(_))), "{end:?}");
    }
}
