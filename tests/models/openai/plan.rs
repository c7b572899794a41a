//! From a request to what will be said: pure.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::script::Script;

/// Bytes of one piece of a big answer.
const BIG_PIECE: usize = 16 * 1024;

/// How the answer goes wrong, if it does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ending {
    Well,
    /// Refused, so many times or always.
    Error {
        status: u16,
        times: Option<usize>,
        retry_after: Option<u64>,
        /// Type and words; the model's usual ones if none.
        refusal: Option<(String, String)>,
    },
    /// The connection breaks before this piece, so many times or always.
    Cut(usize, Option<usize>),
    Hang,
}

/// One answer.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) prompt: String,
    pub(crate) model: Value,
    pub(crate) aside: bool,
    pub(crate) delay: Duration,
    pub(crate) gap: Duration,
    pub(crate) meet: Option<usize>,
    pub(crate) usage: (i64, i64),
    pub(crate) ending: Ending,
    pub(super) reasoning: Vec<String>,
    pub(super) text: Vec<String>,
    pub(super) call: Option<Value>,
}

impl Plan {
    pub(crate) fn of(body: &Value) -> Self {
        let messages = body["messages"].as_array().cloned().unwrap_or_default();
        let last = messages
            .iter()
            .rposition(|message| message["role"] == "user");
        let prompt = last
            .map(|last| text_of(&messages[last]))
            .unwrap_or_default();
        let offered = body["tools"].as_array().cloned().unwrap_or_default();
        // Titles and summaries quote the prompt; its directives are not for them.
        let aside = offered.is_empty();
        let script = if aside {
            Script {
                text: Some("A title".into()),
                ..Script::default()
            }
        } else {
            Script::read(&prompt)
        };
        let results = messages[last.map_or(0, |last| last + 1)..]
            .iter()
            .filter(|message| message["role"] == "tool")
            .count();
        let call = script.tools.get(results).map(|(tool, arguments)| {
            call(
                tool,
                arguments,
                &offered,
                format!("call_{}_{results}", messages.len()),
            )
        });
        let text = match (&call, &script) {
            (Some(_), _) => Vec::new(),
            (
                None,
                Script {
                    big: Some(bytes), ..
                },
            ) => cut(&big(*bytes), BIG_PIECE),
            (
                None,
                Script {
                    slow: Some((count, _)),
                    text: None,
                    ..
                },
            ) => (1..=*count).map(|tick| format!("tick{tick} ")).collect(),
            (None, script) => {
                let plain = if results > 0 {
                    "The tool is done."
                } else {
                    "Hello from the model."
                };
                let text = script.text.as_deref().unwrap_or(plain);
                let slow = script.slow.map(|(count, _)| count);
                let pieces = script.deltas.or(slow).unwrap_or(4);
                cut(text, text.len().div_ceil(pieces))
            }
        };
        let reasoning = match &script.reason {
            Some(words) if results == 0 => cut(words, words.len().div_ceil(3)),
            _ => Vec::new(),
        };
        let said: usize = text.iter().chain(&reasoning).map(String::len).sum();
        let count = |bytes: usize| i64::try_from(bytes / 4 + 1).unwrap_or(i64::MAX);
        let usage = script
            .usage
            .unwrap_or_else(|| (count(body["messages"].to_string().len()), count(said)));
        Self {
            prompt,
            model: body["model"].clone(),
            aside,
            delay: Duration::from_millis(script.delay_ms),
            gap: Duration::from_millis(script.slow.map_or(0, |(_, gap)| gap)),
            meet: script.meet,
            usage,
            ending: ending(&script),
            reasoning,
            text,
            call,
        }
    }

    /// The pieces of a streamed answer; the first says who speaks.
    pub(crate) fn deltas(&self) -> Vec<Value> {
        let mut deltas = vec![json!({"role": "assistant", "content": ""})];
        let reasoning = self.reasoning.iter();
        deltas.extend(reasoning.map(|piece| json!({ "reasoning_content": piece })));
        deltas.extend(self.text.iter().map(|piece| json!({ "content": piece })));
        if let Some(call) = &self.call {
            let mut call = call.clone();
            call["index"] = json!(0);
            deltas.push(json!({ "tool_calls": [call] }));
        }
        deltas
    }

    pub(crate) fn finish(&self) -> &'static str {
        if self.call.is_some() {
            "tool_calls"
        } else {
            "stop"
        }
    }

    pub(crate) fn usage_report(&self) -> Value {
        let (input, output) = self.usage;
        json!({
            "prompt_tokens": input,
            "completion_tokens": output,
            "total_tokens": input + output,
        })
    }

    /// The answer in one piece.
    pub(crate) fn whole(&self, number: usize) -> Value {
        let mut message = json!({"role": "assistant", "content": self.text.concat()});
        if !self.reasoning.is_empty() {
            message["reasoning_content"] = self.reasoning.concat().into();
        }
        if let Some(call) = &self.call {
            message["tool_calls"] = json!([call]);
        }
        json!({
            "id": format!("completion-{number}"),
            "object": "chat.completion",
            "created": 0,
            "model": self.model,
            "choices": [{"index": 0, "message": message, "finish_reason": self.finish()}],
            "usage": self.usage_report(),
        })
    }
}

fn ending(script: &Script) -> Ending {
    match (script.error, script.cut) {
        (Some((status, times)), _) => Ending::Error {
            status,
            times,
            retry_after: script.retry_after,
            refusal: script.refusal.clone(),
        },
        // The piece that says who speaks does not count.
        (None, Some((pieces, times))) => Ending::Cut(pieces + 1, times),
        (None, None) if script.hang => Ending::Hang,
        (None, None) => Ending::Well,
    }
}

/// The call as the agent's own tools want it: every agent has other names for
/// the same tool and the same argument.
fn call(tool: &str, arguments: &str, offered: &[Value], id: String) -> Value {
    const TOOLS: &[(&str, &[&str])] = &[
        ("write", &["write", "write_file", "Write"]),
        ("shell", &["shell", "bash", "run_shell_command", "Bash"]),
    ];
    const ARGUMENTS: &[&[&str]] = &[
        &["path", "file_path", "filePath"],
        &["content", "file_text"],
        &["command"],
    ];
    let names = TOOLS.iter().find(|(name, _)| *name == tool);
    let function = offered
        .iter()
        .map(|tool| &tool["function"])
        .find(|function| {
            let name = function["name"].as_str().unwrap_or_default();
            names.map_or(name == tool, |(_, names)| names.contains(&name))
        })
        .unwrap_or_else(|| {
            let names: Vec<_> = offered
                .iter()
                .map(|tool| &tool["function"]["name"])
                .collect();
            panic!("the agent offers no tool for {tool}, only {names:?}")
        });
    let parameters = &function["parameters"];
    let given: Map<String, Value> = serde_json::from_str(arguments)
        .unwrap_or_else(|error| panic!("arguments {arguments:?}: {error}"));
    let mut named: Map<String, Value> = given
        .into_iter()
        .map(|(name, value)| {
            let group = ARGUMENTS
                .iter()
                .find(|group| group.contains(&name.as_str()));
            let known = group.into_iter().copied().flatten();
            let own = known
                .copied()
                .find(|name| parameters["properties"].get(name).is_some());
            (own.map_or(name, str::to_owned), value)
        })
        .collect();
    for required in parameters["required"].as_array().into_iter().flatten() {
        let name = required.as_str().unwrap_or_default();
        let fallback = match parameters["properties"][name]["type"].as_str() {
            Some("boolean") => json!(false),
            Some("integer" | "number") => json!(1),
            _ => json!("for a test"),
        };
        named.entry(name).or_insert(fallback);
    }
    json!({"id": id, "type": "function", "function": {
        "name": function["name"],
        "arguments": Value::Object(named).to_string(),
    }})
}

/// So many bytes of numbers that count up: agents take what repeats itself for a
/// model that has lost its way.
pub(crate) fn big(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 8);
    let mut number = 0;
    while text.len() < bytes {
        text.push_str(&format!("{number:x} "));
        number += 1;
    }
    text.truncate(bytes);
    text
}

/// The text of a message, whether it is one string or parts.
fn text_of(message: &Value) -> String {
    match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts = parts.iter().filter_map(|part| part["text"].as_str());
            texts.collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

/// The text in pieces of at most `size` bytes; the tests' texts are ASCII.
fn cut(text: &str, size: usize) -> Vec<String> {
    let pieces = text.as_bytes().chunks(size.max(1));
    pieces
        .map(|piece| String::from_utf8_lossy(piece).into_owned())
        .collect()
}
