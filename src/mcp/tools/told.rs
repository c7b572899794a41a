//! From the frames of a task to what one call of `task_follow` returns: pure, so
//! that it can be tested.

use serde::Serialize;
use serde_json::Value;

use crate::mcp::api::Event;
use crate::text::one_line;

/// Bytes of text in one answer: a model reads it. One frame may go beyond, by
/// its own bound of 128 KiB.
const MAX_TEXT: usize = 32 * 1024;
/// Tool calls in one answer.
const MAX_STEPS: usize = 100;

/// What was told so far.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Told {
    /// What the agent said.
    pub(super) text: String,
    /// The tools that it used, in order.
    pub(super) steps: Vec<Step>,
    /// Seq of the last frame that is in it.
    pub(super) cursor: i64,
    /// What came earlier is not kept as frames any more, so that `text` holds
    /// whole messages of the chat in its place.
    pub(super) from_messages: bool,
    #[serde(skip)]
    last: String,
}

/// One use of a tool.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Step {
    #[serde(skip)]
    id: String,
    /// What is done.
    title: String,
    /// `pending`, `in_progress`, `completed` or `failed`.
    status: String,
}

/// Whether to read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Yes.
    More,
    /// The task waits for an answer.
    Asks,
    /// The task ended.
    Ended,
    /// The answer is full; this event is not in it.
    Full,
}

impl Told {
    /// Nothing yet, behind that seq.
    pub(super) fn after(cursor: i64) -> Self {
        Self {
            cursor,
            ..Self::default()
        }
    }

    /// What is going on, in a few words.
    pub(super) fn last(&self) -> &str {
        &self.last
    }

    /// Takes one event in.
    pub(super) fn on(&mut self, event: &Event) -> Next {
        let data = &event.data;
        let next = match event.kind.as_str() {
            "delta" => {
                let text = data["text"].as_str().unwrap_or_default();
                if !self.text.is_empty() && self.text.len() + text.len() > MAX_TEXT {
                    return Next::Full;
                }
                self.text.push_str(text);
                self.note(text);
                Next::More
            }
            "tool_call" | "tool_result" => {
                if !self.step(data) {
                    return Next::Full;
                }
                Next::More
            }
            "reasoning_delta" => {
                self.note("thinking");
                Next::More
            }
            "permission_requested" => {
                self.note("waiting for an answer");
                Next::Asks
            }
            "snapshot" => {
                self.bridge(data);
                Next::More
            }
            "task_updated" => match data["state"].as_str() {
                Some(state @ ("completed" | "failed" | "cancelled")) => {
                    self.note(state);
                    Next::Ended
                }
                Some(state) => {
                    self.note(state);
                    Next::More
                }
                None => Next::More,
            },
            _ => Next::More,
        };
        if let Some(seq) = data["seq"].as_i64() {
            self.cursor = self.cursor.max(seq);
        }
        next
    }

    /// False when there is no room for another one.
    fn step(&mut self, data: &Value) -> bool {
        let text = |name: &str| data[name].as_str();
        let id = text("id").unwrap_or_default();
        let known = self.steps.iter().position(|step| step.id == id);
        let at = match known {
            Some(at) => at,
            None if self.steps.len() >= MAX_STEPS => return false,
            None => {
                self.steps.push(Step {
                    id: id.to_owned(),
                    title: "tool".into(),
                    status: "pending".into(),
                });
                self.steps.len() - 1
            }
        };
        let step = &mut self.steps[at];
        if let Some(title) = text("title").or_else(|| text("kind").filter(|_| known.is_none())) {
            step.title = one_line(title);
        }
        if let Some(status) = text("status") {
            step.status = status.to_owned();
        }
        self.last = step.title.clone();
        true
    }

    /// Messages in place of frames that are no longer kept.
    fn bridge(&mut self, data: &Value) {
        self.from_messages = true;
        let wanted = data["tasks"][0]["message_id"].as_str();
        let messages = data["messages"].as_array().into_iter().flatten();
        for message in messages.filter(|message| message["id"].as_str() == wanted) {
            let text = message["content"].as_str().unwrap_or_default();
            let room = MAX_TEXT.saturating_sub(self.text.len());
            let end = (0..=room.min(text.len()))
                .rev()
                .find(|end| text.is_char_boundary(*end));
            self.text.push_str(&text[..end.unwrap_or(0)]);
        }
    }

    fn note(&mut self, text: &str) {
        if !text.trim().is_empty() {
            self.last = one_line(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(kind: &str, seq: i64, mut data: Value) -> Event {
        data["seq"] = seq.into();
        Event {
            kind: kind.into(),
            data,
        }
    }

    #[test]
    fn a_turn_is_told_until_it_changes() {
        let mut told = Told::after(4);
        let turn = [
            (
                event("task_updated", 5, json!({ "state": "running" })),
                Next::More,
            ),
            (event("delta", 6, json!({ "text": "I will " })), Next::More),
            (
                event(
                    "tool_call",
                    7,
                    json!({ "id": "1", "title": "write a\nb", "status": "pending" }),
                ),
                Next::More,
            ),
            (
                event(
                    "tool_result",
                    8,
                    json!({ "id": "1", "kind": "edit", "status": "completed" }),
                ),
                Next::More,
            ),
            (event("delta", 9, json!({ "text": "write." })), Next::More),
            (
                event(
                    "task_updated",
                    10,
                    json!({ "child": { "state": "completed" } }),
                ),
                Next::More,
            ),
            (
                event("permission_requested", 11, json!({ "id": "p" })),
                Next::Asks,
            ),
        ];
        for (event, next) in turn {
            assert_eq!(told.on(&event), next, "{event:?}");
        }
        let steps = json!([{ "title": "write a b", "status": "completed" }]);
        let told = serde_json::to_value(told).unwrap();
        let all = json!({ "text": "I will write.", "steps": steps, "cursor": 11, "from_messages": false });
        assert_eq!(told, all);
    }

    #[test]
    fn a_full_answer_ends_before_what_does_not_fit_and_loses_nothing() {
        let word = "x".repeat(1000);
        let mut text = String::new();
        let (mut told, mut answers) = (Told::after(0), 1);
        for seq in 1..=100 {
            let event = event("delta", seq, json!({ "text": word }));
            if told.on(&event) == Next::Full {
                assert_eq!(told.cursor, seq - 1);
                assert!(told.text.len() <= MAX_TEXT);
                text += &told.text;
                answers += 1;
                told = Told::after(told.cursor);
                assert_eq!(told.on(&event), Next::More);
            }
        }
        text += &told.text;
        assert_eq!((text.len(), answers), (100_000, 4));
        let steps = (1..=101).map(|seq| event("tool_call", seq, json!({ "id": seq.to_string() })));
        let mut told = Told::after(0);
        let full = steps
            .map(|step| told.on(&step))
            .position(|next| next == Next::Full);
        assert_eq!(full, Some(100));
    }

    #[test]
    fn where_frames_are_gone_the_message_stands_for_them() {
        let snapshot = event(
            "snapshot",
            50,
            json!({
                "messages": [{ "id": "a", "content": "before" }, { "id": "b", "content": "the answer" }],
                "tasks": [{ "id": "t", "message_id": "b", "state": "running" }],
            }),
        );
        let mut told = Told::after(0);
        assert_eq!(told.on(&snapshot), Next::More);
        assert_eq!(
            (told.text.as_str(), told.cursor, told.from_messages),
            ("the answer", 50, true)
        );
    }
}
