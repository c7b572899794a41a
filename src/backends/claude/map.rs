//! From claude's frames to Hearth's words, for one session.
//!
//! | heard in the running turn | said |
//! |---|---|
//! | pieces of text and thinking, then the whole block | [`Said::Text`], [`Said::Reasoning`], each once: `answer` |
//! | a call that begins, then its arguments, then its result | [`Said::Tool`], to be upserted by id |
//! | the same of a subagent | its calls with its name in front; its text as [`Said::Raw`] `subagent` |
//! | `api_retry`, `task_…` and other news | [`Said::Raw`] |
//! | a change of the mode, at any time | [`Said::Mode`] |
//! | what ends the turn, see `turn` | [`Said::Usage`], then [`Said::TurnEnded`] |
//!
//! A turn that nobody asked for (a subagent in the background is done, where those are
//! allowed) is kept and told with the next prompt's words: [`Said::Raw`]
//! `unsolicited_turn`, and what it spent; what is left of it at the end of the process
//! is [`Mapper::left`]. Frames of other turns say nothing.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use hearth_actors::event::{AgentStop, Said};
use hearth_actors::model::Usage;
use serde_json::{Value, json};

use super::answer::Answer;
use super::turn::Guard;
use super::wire::{Assistant, Block, Event, Frame, Stream, TurnResult, User, UserContent};
use super::{fault, tool};
use crate::backends::cap::{capped, head};

/// Most of an unsolicited turn's text that is kept, in bytes.
const KEPT: usize = 32 * 1024;
/// Most subagents of a turn that are told apart by name.
const MAX_SUBAGENTS: usize = 1000;
/// News that every turn has and that say nothing to anybody.
const DULL: &[&str] = &["background_tasks_changed", "hook_started", "hook_response"];

/// The mapping of one session: what it must remember from frame to frame.
#[derive(Debug, Default)]
pub struct Mapper {
    guard: Option<Guard>,
    answer: Answer,
    /// Names of the turn's subagents, by the calls that started them.
    subagents: BTreeMap<String, String>,
    /// Something came of the prompt.
    worked: bool,
    /// What the program called the turn's last error.
    error: Option<String>,
    /// It tells what becomes of its prompts.
    tells_lifecycle: bool,
    mode: Option<String>,
    /// US dollars as of the last result.
    total_cost: Option<f64>,
    unsolicited: Option<Unsolicited>,
}

/// A turn that nobody asked for.
#[derive(Debug, Default)]
pub struct Unsolicited {
    text: String,
    calls: usize,
    usage: Usage,
    over: bool,
}

impl Mapper {
    /// A turn begins, whose prompt is stamped with this uuid. Call it before the
    /// prompt is written.
    pub fn begin(&mut self, prompt: &str) {
        self.guard = Some(Guard::new(prompt));
        self.answer = Answer::default();
        self.subagents.clear();
        self.worked = false;
        self.error = None;
    }

    /// A turn began and has not ended.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.guard.as_ref().is_some_and(|guard| !guard.is_over())
    }

    /// The program works on the turn's prompt.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.guard.as_ref().is_some_and(Guard::is_live)
    }

    /// The program ended: what of a turn that nobody asked for is not told yet.
    pub fn left(&mut self) -> Option<Unsolicited> {
        self.unsolicited
            .take()
            .filter(|left| !left.said().is_empty())
    }

    /// What was left of the session's last process, to be told with the next prompt's
    /// words.
    pub fn take_up(&mut self, left: Unsolicited) {
        self.unsolicited = Some(Unsolicited { over: true, ..left });
    }

    /// One frame, as words. Those that are no one's in particular ([`Said::Mode`])
    /// come outside turns too.
    pub fn heard(&mut self, frame: Frame) -> Vec<Said> {
        match frame {
            Frame::Init { mode } => {
                self.turn_begins();
                mode.and_then(|mode| self.mode_is(mode))
                    .into_iter()
                    .collect()
            }
            Frame::Mode(mode) => self.mode_is(mode).into_iter().collect(),
            Frame::Lifecycle { prompt, state } => {
                self.tells_lifecycle = true;
                let was_live = self.is_live();
                let guard = self.guard.as_mut();
                if guard.is_some_and(|guard| guard.lifecycle(&prompt, &state)) {
                    return vec![Said::TurnEnded(AgentStop::Cancelled)];
                }
                if !was_live && self.is_live() {
                    return self.unsolicited_said();
                }
                Vec::new()
            }
            Frame::Result(result) => self.result(&result),
            frame if self.is_live() => self.words(frame),
            frame => {
                self.aside(frame);
                Vec::new()
            }
        }
    }

    /// These prompts were taken back by an interrupt.
    pub fn cancelled(&mut self, prompts: &[&str]) -> Option<Said> {
        let guard = self.guard.as_mut()?;
        guard
            .cancelled(prompts)
            .then_some(Said::TurnEnded(AgentStop::Cancelled))
    }

    /// Ends the turn from outside, if it has not ended.
    pub fn give_up(&mut self, stop: AgentStop) -> Option<Said> {
        let guard = self.guard.as_mut()?;
        guard.give_up().then_some(Said::TurnEnded(stop))
    }

    fn mode_is(&mut self, mode: String) -> Option<Said> {
        let is_new = self.mode.as_ref() != Some(&mode);
        self.mode = Some(mode.clone());
        is_new.then_some(Said::Mode(mode))
    }

    fn turn_begins(&mut self) {
        if self.tells_lifecycle {
            if !self.is_live() {
                self.unsolicited.get_or_insert_default().over = false;
            }
        } else if let Some(guard) = &mut self.guard {
            guard.begun();
        }
    }

    fn words(&mut self, frame: Frame) -> Vec<Said> {
        let said = match frame {
            Frame::Stream(stream) => self.stream(stream),
            Frame::Assistant(message) => self.assistant(message),
            Frame::User(user) if !user.is_replay => results(user),
            Frame::News { kind, value } => self.news(kind, value),
            _ => Vec::new(),
        };
        self.worked |= said.iter().any(Said::is_work);
        said
    }

    fn stream(&mut self, stream: Stream) -> Vec<Said> {
        if stream.parent_tool_use_id.is_some() {
            return Vec::new();
        }
        match stream.event {
            Event::MessageStart { message } => {
                self.answer.begin(&message.id);
                Vec::new()
            }
            Event::ContentBlockStart {
                index,
                content_block,
            } => {
                let call = self.answer.block(index, &content_block);
                call.map(|(id, name)| Said::Tool(tool::announced(id, name, None)))
                    .into_iter()
                    .collect()
            }
            Event::ContentBlockDelta { index, delta } => self.answer.delta(index, &delta),
            Event::MessageStop => match stream.abandoned_blocks {
                Some(gone) => failed(self.answer.abandon(gone.from_block_index)),
                None => Vec::new(),
            },
            Event::Other => Vec::new(),
        }
    }

    fn assistant(&mut self, said: Assistant) -> Vec<Said> {
        if said.error.is_some() {
            // Its words come again as those of the result.
            self.error = said.error;
            return Vec::new();
        }
        let of = said.parent_tool_use_id.as_deref();
        let agent = of.map(|call| self.subagent(call));
        let mut words = Vec::new();
        for block in said.message.content {
            match (&agent, of) {
                (Some(agent), Some(call)) => {
                    if let Block::Text { text } = &block {
                        words.push(Said::Raw {
                            kind: "subagent".into(),
                            value: capped(json!({"tool": call, "agent": agent, "text": text})),
                        });
                    }
                }
                _ => words.extend(self.answer.whole(&said.message.id, &block)),
            }
            if let Block::ToolUse { id, name, input } = block {
                if let Some(name) = tool::subagent(&name, &input)
                    && self.subagents.len() < MAX_SUBAGENTS
                {
                    self.subagents.insert(id.clone(), name);
                }
                words.push(Said::Tool(tool::called(
                    &id,
                    &name,
                    input,
                    agent.as_deref(),
                )));
            }
        }
        words
    }

    fn subagent(&self, call: &str) -> String {
        let name = self.subagents.get(call).map(String::as_str);
        name.unwrap_or("subagent").to_owned()
    }

    fn news(&mut self, kind: String, mut value: Value) -> Vec<Said> {
        let mut said = Vec::new();
        if kind == "api_retry" {
            said = failed(self.answer.retried());
        }
        if DULL.contains(&kind.as_str()) {
            return said;
        }
        if let Some(fields) = value.as_object_mut() {
            for field in ["type", "subtype", "uuid", "session_id"] {
                fields.remove(field);
            }
        }
        let value = capped(value);
        said.push(Said::Raw { kind, value });
        said
    }

    fn result(&mut self, result: &TurnResult) -> Vec<Said> {
        let usage = self.spent(result);
        let mine = self
            .guard
            .as_mut()
            .is_some_and(|guard| guard.result(result));
        if !mine {
            if let Some(other) = &mut self.unsolicited {
                add(&mut other.usage, usage);
                other.over = true;
            }
            return Vec::new();
        }
        let mut said: Vec<Said> = (usage != Usage::default())
            .then_some(Said::Usage(usage))
            .into_iter()
            .collect();
        let stop = fault::stop(result, self.worked, self.error.as_deref());
        said.push(Said::TurnEnded(stop));
        said
    }

    /// What the turn spent. The result counts per turn, also right after a restart,
    /// where totals begin at what the program last wrote down; without that count the
    /// cost is the difference of totals.
    fn spent(&mut self, result: &TurnResult) -> Usage {
        let before = match result.total_cost_usd {
            Some(total) => self.total_cost.replace(total),
            None => self.total_cost,
        };
        let Some(models) = &result.model_usage_since_last_result else {
            let total = result.total_cost_usd.unwrap_or_default();
            return Usage {
                cost: before.map_or(0.0, |before| (total - before).max(0.0)),
                ..Usage::default()
            };
        };
        let mut sum = Usage::default();
        for model in models.values() {
            let cached = model.cache_read_input_tokens + model.cache_creation_input_tokens;
            add(
                &mut sum,
                Usage {
                    input_tokens: model.input_tokens + cached,
                    output_tokens: model.output_tokens,
                    cost: model.cost_usd,
                },
            );
        }
        sum
    }

    /// What is said while no prompt of ours is worked on.
    fn aside(&mut self, frame: Frame) {
        let Some(other) = self.unsolicited.as_mut().filter(|other| !other.over) else {
            return;
        };
        let Frame::Assistant(said) = frame else {
            return;
        };
        for block in said.message.content {
            match block {
                Block::Text { text } if said.parent_tool_use_id.is_none() => {
                    let room = KEPT.saturating_sub(other.text.len());
                    other.text.push_str(head(&text, room));
                }
                Block::ToolUse { .. } => other.calls += 1,
                _ => {}
            }
        }
    }

    fn unsolicited_said(&mut self) -> Vec<Said> {
        let other = self.unsolicited.take();
        other.map_or_else(Vec::new, |other| other.said())
    }
}

impl Unsolicited {
    /// As words of the turn that is told of it.
    #[must_use]
    pub fn said(&self) -> Vec<Said> {
        let mut said = Vec::new();
        if !self.text.is_empty() || self.calls > 0 {
            said.push(Said::Raw {
                kind: "unsolicited_turn".into(),
                value: json!({"text": self.text, "tool_calls": self.calls}),
            });
        }
        if self.usage != Usage::default() {
            said.push(Said::Usage(self.usage));
        }
        said
    }
}

fn results(user: User) -> Vec<Said> {
    let UserContent::Blocks(blocks) = user.message.content else {
        return Vec::new();
    };
    let ended = blocks.into_iter().filter_map(|block| match block {
        Block::ToolResult {
            tool_use_id,
            content,
            is_error,
        } => Some(tool::ended(&tool_use_id, content, is_error == Some(true))),
        _ => None,
    });
    ended.map(Said::Tool).collect()
}

/// Calls that were announced and never made.
fn failed(calls: Vec<String>) -> Vec<Said> {
    let calls = calls.iter();
    calls
        .map(|call| Said::Tool(tool::ended(call, Value::Null, true)))
        .collect()
}

fn add(sum: &mut Usage, more: Usage) {
    sum.input_tokens += more.input_tokens;
    sum.output_tokens += more.output_tokens;
    sum.cost += more.cost;
}
