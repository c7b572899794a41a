//! From frames to what a person sees: pure, so that it can be tested.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use hearth_actors::handover::Told;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::questions::Question;
use crate::cli::frames::Event;
use crate::store::rows::prompts::Choice;
use crate::text::{MAX_TITLE, clean, cut_line, one_line};

/// Something to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Show {
    /// The agent's words, for standard output.
    Text(String),
    /// One line of progress.
    Line(String),
    /// What is being waited for now.
    Phase(String),
    /// A human's consent is wanted.
    Asked(Question),
    /// A request for consent was settled, and how.
    Settled(Uuid, String),
    /// The turn is over.
    Over(Over),
}

/// How the turn ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Over {
    /// `completed`, `failed` or `cancelled`.
    pub(in crate::cli) state: String,
    /// The named reason.
    pub(in crate::cli) outcome: Option<String>,
    /// Why, in a sentence.
    pub(in crate::cli) detail: Option<String>,
}

/// What is known of the turn so far.
pub(in crate::cli) struct Progress {
    agent: String,
    tools: BTreeMap<String, Tool>,
    /// The last word was answer text without a line break.
    mid_line: bool,
    notes: Notes,
    /// Prompts that were told to be settled: a restart tells it again.
    settled: BTreeSet<Uuid>,
}

/// What the service noticed in the worktree beside the changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Notes {
    /// Changed files that are not listed.
    pub(in crate::cli) omitted: u64,
    /// One sentence each, for a person.
    pub(in crate::cli) warnings: Vec<String>,
}

#[derive(Default)]
struct Tool {
    title: String,
    shown: bool,
}

impl Progress {
    pub(in crate::cli) fn new(agent: &str) -> Self {
        Self {
            agent: agent.to_owned(),
            tools: BTreeMap::new(),
            mid_line: false,
            notes: Notes::default(),
            settled: BTreeSet::new(),
        }
    }

    pub(in crate::cli) fn notes(&self) -> &Notes {
        &self.notes
    }

    /// Folds one event in.
    pub(in crate::cli) fn on(&mut self, event: &Event) -> Vec<Show> {
        let data = &event.data;
        match event.kind.as_str() {
            "task_updated" => self.task(data),
            "message_started" => self.started(&data["told"]),
            "delta" => self.text(data),
            "reasoning_delta" => vec![Show::Phase("thinking".into())],
            "tool_call" => self.tool_call(data),
            "tool_result" => self.tool_result(data),
            "pending_changes_updated" => {
                // An older service says nothing there.
                self.notes = Notes::deserialize(data).unwrap_or_default();
                Vec::new()
            }
            "snapshot" => vec![Show::Line(
                "what came earlier is kept as messages only, not as it was streamed".into(),
            )],
            "permission_requested" => self.permission(data),
            "permission_resolved" => match prompt_of(data) {
                Some(prompt) if !self.settled.insert(prompt) => Vec::new(),
                _ => resolved(data),
            },
            _ => Vec::new(),
        }
    }

    /// What the agent was told of the chat goes in front of the prompt unseen.
    fn started(&mut self, told: &Value) -> Vec<Show> {
        let phase = Show::Phase(format!("prompting {}", self.agent));
        let Ok(told) = Told::deserialize(told) else {
            return vec![phase];
        };
        let counted = |count: usize, what: &str| match count {
            0 => None,
            1 => Some(format!("1 {what}")),
            more => Some(format!("{more} {what}s")),
        };
        let parts = [
            counted(told.messages, "message"),
            counted(told.children, "ended task"),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        let left_out = match told.left_out {
            0 => String::new(),
            more => format!(", {more} older left out"),
        };
        let line = format!(
            "{} is told {} of this chat{left_out}: {}",
            self.agent,
            parts.join(" and "),
            match told.reason.as_str() {
                "joined" => "others worked here before it",
                "fresh" => "its former context is gone",
                "again" => "it was not reached before",
                "alone" => "it keeps nothing between turns",
                _ => "it was away meanwhile",
            }
        );
        let mut shows = self.break_line();
        shows.extend([Show::Line(line), phase]);
        shows
    }

    fn task(&mut self, data: &Value) -> Vec<Show> {
        let text = |key: &str| data[key].as_str().map(clean);
        match data["state"].as_str().unwrap_or_default() {
            "running" => vec![Show::Phase(format!("starting {}", self.agent))],
            "pending" if data["parked"].is_object() => self.parked(&data["parked"]),
            "blocked" => vec![Show::Phase("waiting for an answer".into())],
            state @ ("completed" | "failed" | "cancelled") => {
                let mut shows = self.break_line();
                shows.push(Show::Over(Over {
                    state: state.to_owned(),
                    outcome: text("outcome"),
                    detail: text("detail"),
                }));
                shows
            }
            _ => Vec::new(),
        }
    }

    /// It is tried again later: whoever looks should know why nothing happens.
    fn parked(&mut self, parked: &Value) -> Vec<Show> {
        let text = |key: &str| parked[key].as_str().map(|text| cut_line(text, MAX_TITLE));
        let until = text("until").map_or_else(String::new, |at| format!(" until {}", seconds(&at)));
        let detail = text("detail").map_or_else(String::new, |why| format!(": {why}"));
        let reason = text("reason").unwrap_or_default();
        let mut shows = self.break_line();
        shows.push(Show::Line(format!("parked ({reason}){until}{detail}")));
        shows.push(Show::Phase("parked".into()));
        shows
    }

    fn text(&mut self, data: &Value) -> Vec<Show> {
        let text = keep_lines(data["text"].as_str().unwrap_or_default());
        if text.is_empty() {
            return Vec::new();
        }
        self.mid_line = !text.ends_with('\n');
        vec![Show::Text(text)]
    }

    fn tool_call(&mut self, data: &Value) -> Vec<Show> {
        let id = data["id"].as_str().unwrap_or_default().to_owned();
        if id.is_empty() {
            // A question that no tool asks.
            return Vec::new();
        }
        let tool = self.tools.entry(id).or_default();
        if let Some(title) = data["title"].as_str().or_else(|| data["kind"].as_str()) {
            tool.title = one_line(title);
        }
        vec![Show::Phase(tool.title.clone())]
    }

    fn tool_result(&mut self, data: &Value) -> Vec<Show> {
        let id = data["id"].as_str().unwrap_or_default().to_owned();
        if id.is_empty() {
            return Vec::new();
        }
        let tool = self.tools.entry(id).or_default();
        if std::mem::replace(&mut tool.shown, true) {
            return Vec::new();
        }
        let mark = match data["status"].as_str() {
            Some("failed") => '✗',
            _ => '✓',
        };
        let title = if tool.title.is_empty() {
            "tool"
        } else {
            &tool.title
        };
        let why = match (mark, failure(&data["output"])) {
            ('✗', Some(why)) => format!(": {}", one_line(why)),
            _ => String::new(),
        };
        let line = Show::Line(format!("{mark} {title}{why}"));
        let mut shows = self.break_line();
        shows.extend([line, Show::Phase("working".into())]);
        shows
    }

    fn permission(&mut self, data: &Value) -> Vec<Show> {
        let tool = &data["request"]["tool"];
        let question = data["request"]["question"].as_str();
        let title = question.or_else(|| tool["title"].as_str());
        let title = title.or_else(|| tool["kind"].as_str());
        // Nobody consents to what is cut off.
        let what = title.map_or_else(|| "something".into(), |title| cut_line(title, MAX_TITLE));
        let mut shows = self.break_line();
        let agent = &self.agent;
        let wants = question.map_or(" for consent", |_| "");
        shows.push(Show::Line(format!("? {agent} asks{wants}: {what}")));
        if let Some(prompt) = prompt_of(data) {
            let options = &data["request"]["options"];
            let options: Vec<Choice> = Vec::deserialize(options).unwrap_or_default();
            shows.push(Show::Asked(Question {
                prompt,
                what,
                is_consent: question.is_none(),
                options,
            }));
        }
        shows.push(Show::Phase("waiting for an answer (Ctrl-C cancels)".into()));
        shows
    }

    fn break_line(&mut self) -> Vec<Show> {
        if std::mem::take(&mut self.mid_line) {
            vec![Show::Text("\n".into())]
        } else {
            Vec::new()
        }
    }
}

fn resolved(data: &Value) -> Vec<Show> {
    let state = data["state"].as_str().unwrap_or("settled");
    let working = Show::Phase("working".into());
    if state == "answered" && data["answered_by"] == "policy" {
        // Nobody was asked.
        return vec![working];
    }
    let said = data["answer"]["label"].as_str();
    let how = said.or_else(|| data["reason"].as_str()).unwrap_or_default();
    let how = match (state, how) {
        (state, "") => state.to_owned(),
        ("answered", how) => format!("answer: {}", one_line(how)),
        (state, how) => format!("{state}: {}", one_line(how)),
    };
    let settled = prompt_of(data).map(|prompt| Show::Settled(prompt, how));
    settled.into_iter().chain([working]).collect()
}

fn prompt_of(data: &Value) -> Option<Uuid> {
    data["id"].as_str()?.parse().ok()
}

/// A moment as people read it; as it is where it is none.
fn seconds(at: &str) -> String {
    let read = at.parse::<DateTime<Utc>>();
    read.map_or_else(|_| at.to_owned(), |at| at.format("%F %T UTC").to_string())
}

/// Why a tool failed, in the shapes that agents say it in.
fn failure(output: &Value) -> Option<&str> {
    let says =
        |value: &'_ Value| -> bool { value.as_str().is_some_and(|text| !text.trim().is_empty()) };
    let fields = ["text", "error", "message", "output", "stderr"];
    let inner = || match output {
        Value::Array(parts) => parts.first().map(|part| {
            let content = &part["content"]["text"];
            if content.is_string() {
                content
            } else {
                &part["text"]
            }
        }),
        _ => fields
            .iter()
            .map(|field| &output[*field])
            .find(|value| says(value)),
    };
    let text = if says(output) { Some(output) } else { inner() };
    text.and_then(Value::as_str)
        .filter(|text| !text.trim().is_empty())
}

/// What comes from an agent must not steer the terminal.
fn keep_lines(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(kind: &str, data: Value) -> Event {
        Event {
            kind: kind.into(),
            data,
        }
    }

    #[test]
    fn a_turn_is_told_in_text_and_lines() {
        let mut progress = Progress::new("demo");
        let events = [
            event("task_updated", json!({"state": "running"})),
            event("message_started", json!({})),
            event("reasoning_delta", json!({"text": "hm"})),
            event("delta", json!({"text": "I will\x1b[2J write."})),
            event(
                "tool_call",
                json!({"id": "1", "title": "write\na.txt", "status": "pending"}),
            ),
            event("tool_result", json!({"id": "1", "status": "completed"})),
            event("tool_result", json!({"id": "1", "status": "completed"})),
            event(
                "permission_requested",
                json!({"id": "01990000-0000-7000-8000-000000000001",
                    "request": {"tool": {"title": "rm -rf"}}}),
            ),
            event(
                "permission_resolved",
                json!({"id": "01990000-0000-7000-8000-000000000001", "state": "answered",
                    "answer": {"label": "Allow"}}),
            ),
            event(
                "permission_resolved",
                json!({"id": "01990000-0000-7000-8000-000000000001", "state": "answered",
                    "answer": {"label": "Allow"}}),
            ),
            event(
                "task_updated",
                json!({"state": "pending", "parked": {"reason": "budget",
                    "until": "2026-11-21T17:58:23.10692+00:00", "detail": "x".repeat(300)}}),
            ),
            event(
                "tool_result",
                json!({"id": "3", "status": "failed",
                    "output": [{"type": "content", "content": {"type": "text", "text": "no such\nfile"}}]}),
            ),
            event("tool_result", json!({"id": "2", "status": "failed"})),
            event("tool_call", json!({"id": "", "status": null})),
            event("tool_result", json!({"id": "", "status": "failed"})),
            event("delta", json!({"text": "Done.\n"})),
            event("usage", json!({"cost": 1})),
            event(
                "task_updated",
                json!({"state": "failed", "outcome": "agent_crashed", "detail": "signal 9"}),
            ),
        ];
        let shows: Vec<String> = events
            .iter()
            .flat_map(|event| progress.on(event))
            .map(|show| format!("{show:?}"))
            .collect();
        insta::assert_snapshot!(shows.join("\n"));
    }
}
