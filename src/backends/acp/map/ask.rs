//! Permission requests: what is asked, and what an answer looks like.

use hearth_actors::event::{Answer, Ask, AskKind, AskOption};
use serde_json::{Value, json};

use super::tool;
use crate::backends::acp::quirks::Quirks;
use crate::backends::cap::capped_text;

/// Most options kept of one request.
const MAX_OPTIONS: usize = 20;

/// Reads a `session/request_permission`. None when nothing could be answered:
/// no tool, or no option of a known meaning.
pub(in crate::backends::acp) fn read(
    id: String,
    mut params: Value,
    quirks: &Quirks,
) -> Option<Ask> {
    let mut call = params.get_mut("toolCall")?.take();
    let tool = tool::read(&mut call, quirks)?;
    let options: Vec<AskOption> = params["options"]
        .as_array()?
        .iter()
        .filter_map(option)
        .take(MAX_OPTIONS)
        .collect();
    (!options.is_empty()).then_some(Ask {
        id,
        tool,
        question: None,
        options,
    })
}

/// The result that answers a request.
pub(in crate::backends::acp) fn reply(answer: &Answer) -> Value {
    match answer {
        Answer::Option(id) => json!({"outcome": {"outcome": "selected", "optionId": id}}),
        // No permission takes words.
        Answer::Cancelled | Answer::Text(_) => json!({"outcome": {"outcome": "cancelled"}}),
    }
}

/// The meaning is in `kind`; ids and positions differ from agent to agent.
fn option(option: &Value) -> Option<AskOption> {
    let kind = match option["kind"].as_str()? {
        "allow_once" => AskKind::AllowOnce,
        "allow_always" => AskKind::AllowAlways,
        "reject_once" => AskKind::RejectOnce,
        "reject_always" => AskKind::RejectAlways,
        _ => return None,
    };
    let id = option["optionId"].as_str()?;
    Some(AskOption {
        id: id.to_owned(),
        label: capped_text(option["name"].as_str().unwrap_or(id)),
        kind,
    })
}
