//! From the agent's words to Hearth's: pure, one line of the wire at a time.
//!
//! | wire | said |
//! |---|---|
//! | `agent_message_chunk`, `agent_thought_chunk` | [`Said::Text`], [`Said::Reasoning`]; an empty one only its usage |
//! | `user_message_chunk` | nothing: Hearth wrote it |
//! | `tool_call`, `tool_call_update` | [`Said::Tool`], to be upserted by id |
//! | `available_commands_update` | [`Said::Commands`] |
//! | `current_mode_update`, a `mode` option that changed | [`Said::Mode`] |
//! | `usage_update` | [`Said::Usage`], when it tells of spending |
//! | any other update or notification | [`Said::Raw`] |
//!
//! Chunks are the many and commands the large lines (one agent's reaches half a
//! megabyte of `_meta`). Both are read into types that skip what is not wanted;
//! all other updates go through [`Value`].

pub(super) mod ask;
pub(super) mod fault;
pub(super) mod question;
mod shape;
#[cfg(test)]
mod tests;
mod tool;
pub(super) mod usage;

use hearth_actors::event::{AgentFault, AgentStop, Said};
use serde_json::Value;

use super::quirks::{ERROR_TEXTS, MODE_NOTIFICATION, MODE_TEXT, Quirk, Quirks};
use crate::backends::cap::{TEXT_PIECE, capped, capped_text, pieces};
use crate::backends::reset;
use shape::{ChunkUpdate, CommandsUpdate, Line};
use usage::Meter;

/// What a line of the agent is.
#[derive(Debug, PartialEq)]
pub(super) enum Mapped {
    /// Words of the session, in order; may be none.
    Said(Vec<Said>),
    /// A request, a response or a notification the connection must see.
    Protocol,
    /// Not a JSON object.
    Noise,
}

/// What the agent said and did in a turn so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Heard {
    /// Nothing of the turn's own.
    #[default]
    Nothing,
    /// One piece of text that looks like an error.
    ErrorText,
    /// Anything else.
    Something,
}

/// The mapping of one link: what it must remember from line to line.
#[derive(Debug, Default)]
pub(super) struct Mapper {
    quirks: Quirks,
    meter: Meter,
    /// The latest chunk of the turn that looks like an error posing as text.
    error_text: Option<String>,
    /// What the agent said and did in the turn.
    heard: Heard,
    /// The config options as the latest line told them, until they are taken.
    pub(super) options: Option<Value>,
}

impl Mapper {
    /// What the agent is known for, once it has said its name.
    pub(super) fn set_quirks(&mut self, quirks: Quirks) {
        self.quirks = quirks;
    }

    /// Maps one line. `session` is the link's own session, once it is known:
    /// updates of others are kept raw.
    pub(super) fn line(&mut self, line: &str, session: Option<&str>) -> Mapped {
        let mapped = self.read(line, session);
        if let Mapped::Said(said) = &mapped {
            said.iter().for_each(|said| self.hear(said));
        }
        mapped
    }

    fn read(&mut self, line: &str, session: Option<&str>) -> Mapped {
        if line.contains("_chunk\"")
            && let Ok(chunk) = serde_json::from_str::<Line<'_, ChunkUpdate<'_>>>(line)
            && let Some(said) = self.chunk(chunk, session)
        {
            return Mapped::Said(said);
        }
        if line.contains("\"available_commands_update\"")
            && let Ok(commands) = serde_json::from_str::<Line<'_, CommandsUpdate<'_>>>(line)
            && commands.is_update()
            && commands.params.update.kind == "available_commands_update"
        {
            return Mapped::Said(vec![commands.params.update.into_said()]);
        }
        match serde_json::from_str::<Value>(line) {
            Ok(Value::Object(message)) => self.message(message, session),
            _ => Mapped::Noise,
        }
    }

    /// Counts what the agent says and does, by whatever way it came.
    pub(super) fn hear(&mut self, said: &Said) {
        self.heard = match said {
            Said::Text(_) if self.error_text.is_some() && self.heard == Heard::Nothing => {
                Heard::ErrorText
            }
            Said::Text(_)
            | Said::Reasoning(_)
            | Said::Tool(_)
            | Said::Permission(_)
            | Said::Usage(_) => Heard::Something,
            _ => self.heard,
        };
    }

    /// The words for the response of a prompt: usage first, the end last.
    pub(super) fn turn_end(&mut self, response: &Value) -> Vec<Said> {
        let stop = match response.get("stopReason").and_then(Value::as_str) {
            Some("end_turn") => self.end_turn(response),
            Some("cancelled") => AgentStop::Cancelled,
            Some(word) => AgentStop::Limit(capped_text(word)),
            None => AgentStop::Error(fault::other(
                "the agent's answer to the prompt has no stopReason",
            )),
        };
        let usage = match &stop {
            AgentStop::EndTurn | AgentStop::Limit(_) => {
                self.meter.response(response, true, &self.quirks)
            }
            _ => self.meter.response(response, false, &self.quirks),
        };
        self.forget_turn();
        usage
            .map(Said::Usage)
            .into_iter()
            .chain([Said::TurnEnded(stop)])
            .collect()
    }

    /// The words for an error in the place of that response.
    pub(super) fn turn_failed(&mut self, fault: AgentFault, data: Option<&Value>) -> Vec<Said> {
        let usage = self.meter.failed().map(Said::Usage);
        let stop = if self.heard == Heard::Nothing && usage.is_none() {
            let reset = data.and_then(reset::of_data);
            let reset = reset.or_else(|| reset::of_text(&fault.message));
            AgentStop::Refused { fault, reset }
        } else {
            AgentStop::Error(fault)
        };
        self.forget_turn();
        let end = Said::TurnEnded(stop);
        usage.into_iter().chain([end]).collect()
    }

    /// The session was continued: its past is over and was counted.
    pub(super) fn continued(&mut self) {
        self.forget_turn();
        self.meter.continued();
    }

    fn forget_turn(&mut self) {
        self.error_text = None;
        self.heard = Heard::Nothing;
    }

    fn end_turn(&self, response: &Value) -> AgentStop {
        match &self.error_text {
            Some(text)
                if self.quirks.has(Quirk::ErrorsAsText)
                    && self.heard == Heard::ErrorText
                    && self.meter.is_unpaid(response, &self.quirks)
                    && let Some(fault) = fault::from_own_text(text) =>
            {
                let reset = reset::of_text(&fault.message);
                AgentStop::Refused { fault, reset }
            }
            Some(text) if self.quirks.has(Quirk::ErrorsAsText) => {
                AgentStop::Error(fault::from_text(text))
            }
            _ => AgentStop::EndTurn,
        }
    }

    fn chunk(
        &mut self,
        line: Line<'_, ChunkUpdate<'_>>,
        session: Option<&str>,
    ) -> Option<Vec<Said>> {
        let update = line.is_update().then_some(line.params.update)?;
        if session.is_some_and(|own| own != line.params.session_id) {
            return None;
        }
        let make: fn(String) -> Said = match update.kind.as_ref() {
            "agent_message_chunk" => Said::Text,
            "agent_thought_chunk" => Said::Reasoning,
            "user_message_chunk" => return Some(Vec::new()),
            _ => return None,
        };
        let text = (update.content.kind == "text").then_some(update.content.text?)?;
        let mut said = Vec::with_capacity(1);
        if let Some(usage) = update.meta.as_ref().and_then(|meta| self.meter.chunk(meta)) {
            said.push(Said::Usage(usage));
        }
        if text.is_empty() {
            return Some(said);
        }
        if let Some(mode) = text.strip_prefix(MODE_TEXT)
            && self.quirks.has(Quirk::ModeAsText)
        {
            return Some(vec![Said::Mode(mode.trim().to_owned())]);
        }
        if self.quirks.has(Quirk::ErrorsAsText) {
            self.error_text = ERROR_TEXTS
                .iter()
                .any(|start| text.starts_with(start))
                .then(|| capped_text(&text));
        }
        if text.len() <= TEXT_PIECE {
            said.push(make(text.into_owned()));
        } else {
            said.extend(pieces(&text).map(|piece| make(piece.to_owned())));
        }
        Some(said)
    }

    fn message(
        &mut self,
        mut message: serde_json::Map<String, Value>,
        session: Option<&str>,
    ) -> Mapped {
        let Some(Value::String(method)) = message.get("method") else {
            return Mapped::Protocol;
        };
        if message.get("id").is_some() {
            return Mapped::Protocol;
        }
        let method = method.clone();
        let params = message.remove("params").unwrap_or_default();
        if method != "session/update" {
            return Mapped::Said(self.notification(&method, params));
        }
        let foreign = session.is_some_and(|own| params["sessionId"].as_str() != Some(own));
        let Value::Object(mut params) = params else {
            return Mapped::Said(vec![raw("session/update", params)]);
        };
        let update = params.remove("update").unwrap_or_default();
        Mapped::Said(if foreign {
            vec![raw("session/update of another session", update)]
        } else {
            self.update(update)
        })
    }

    fn update(&mut self, mut update: Value) -> Vec<Said> {
        let kind = update["sessionUpdate"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        match kind.as_str() {
            "tool_call" | "tool_call_update" => match tool::read(&mut update, &self.quirks) {
                Some(tool) => vec![Said::Tool(tool)],
                None => vec![raw(&kind, update)],
            },
            "current_mode_update" => match update["currentModeId"].as_str() {
                Some(mode) => vec![Said::Mode(mode.to_owned())],
                None => vec![raw(&kind, update)],
            },
            "config_option_update" => {
                let mode = option_value(&update["configOptions"], "mode").map(str::to_owned);
                self.options = Some(update.clone());
                vec![mode.map_or_else(|| raw(&kind, update), Said::Mode)]
            }
            "usage_update" => self
                .meter
                .update(&update, &self.quirks)
                .map(Said::Usage)
                .into_iter()
                .collect(),
            _ => vec![raw(&kind, update)],
        }
    }

    fn notification(&self, method: &str, params: Value) -> Vec<Said> {
        if method == MODE_NOTIFICATION
            && self.quirks.has(Quirk::ModeNotification)
            && let Some(mode) = params["currentModeId"].as_str()
        {
            return vec![Said::Mode(mode.to_owned())];
        }
        vec![raw(method, params)]
    }
}

/// Something without a word of its own, without the bulk of its `_meta`.
pub(super) fn raw(kind: &str, mut value: Value) -> Said {
    if let Value::Object(fields) = &mut value {
        fields.remove("sessionUpdate");
    }
    Said::Raw {
        kind: capped_text(kind),
        value: capped(value),
    }
}

/// The current value of the option of that category.
fn option_value<'a>(options: &'a Value, category: &str) -> Option<&'a str> {
    let option = options
        .as_array()?
        .iter()
        .find(|option| option["category"].as_str().or(option["id"].as_str()) == Some(category))?;
    option["currentValue"].as_str()
}
