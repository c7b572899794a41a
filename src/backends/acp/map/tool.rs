//! Tool calls, as far as one message tells of them.

use hearth_actors::event::{Tool, ToolStatus};
use serde_json::Value;

use crate::backends::acp::quirks::{Quirk, Quirks, kind_in_title};
use crate::backends::cap::{capped, capped_text};

/// Most paths kept of one tool call.
const MAX_LOCATIONS: usize = 100;

/// Reads a `tool_call`, a `tool_call_update` or the `toolCall` of a permission
/// request. None without an id, which nothing could be upserted by.
pub(super) fn read(update: &mut Value, quirks: &Quirks) -> Option<Tool> {
    let said = update["kind"].as_str().filter(|kind| *kind != "other");
    let title = update["title"].as_str().unwrap_or_default();
    let in_title = quirks
        .has(Quirk::KindInTitle)
        .then(|| kind_in_title(title))
        .flatten();
    let word = said.or(in_title).or(update["kind"].as_str()).map(kind);
    Some(Tool {
        id: capped_text(update["toolCallId"].as_str()?),
        title: text(update, "title"),
        kind: word,
        status: update["status"].as_str().and_then(status),
        input: take(update, "rawInput"),
        output: take(update, "rawOutput").or_else(|| take(update, "content")),
        locations: locations(&update["locations"]),
    })
}

/// The vocabulary of [`Tool::kind`]; what it lacks is `other`.
fn kind(word: &str) -> String {
    match word {
        "read" | "edit" | "delete" | "move" | "search" | "execute" | "think" | "fetch" => word,
        _ => "other",
    }
    .to_owned()
}

fn status(word: &str) -> Option<ToolStatus> {
    match word {
        "pending" => Some(ToolStatus::Pending),
        "in_progress" => Some(ToolStatus::InProgress),
        "completed" => Some(ToolStatus::Completed),
        "failed" => Some(ToolStatus::Failed),
        _ => None,
    }
}

/// A field that says something: agents announce calls with empty ones.
fn take(update: &mut Value, field: &str) -> Option<Value> {
    let value = update.get_mut(field)?.take();
    let empty = match &value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    (!empty).then(|| capped(value))
}

fn text(update: &Value, field: &str) -> Option<String> {
    update[field].as_str().map(capped_text)
}

fn locations(value: &Value) -> Vec<String> {
    let paths = value.as_array().into_iter().flatten();
    paths
        .filter_map(|location| location["path"].as_str())
        .take(MAX_LOCATIONS)
        .map(capped_text)
        .collect()
}
