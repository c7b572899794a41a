//! Errors of agents, classed by what Hearth does about them.

use hearth_actors::event::{AgentFault, FaultClass};
use serde_json::Value;

use super::super::quirks::OWN_TEXTS;
use crate::backends::cap::capped_text;
use crate::backends::provider::by_words;

/// The code of the protocol for "log in first".
pub(in crate::backends::acp) const AUTH_REQUIRED: i64 = -32000;

/// Classes a JSON-RPC error.
pub(in crate::backends::acp) fn from_rpc(
    code: i64,
    message: &str,
    data: Option<&Value>,
) -> AgentFault {
    let message = describe(message, data);
    let class = match code {
        AUTH_REQUIRED | 401 | 403 => FaultClass::Auth,
        429 => by_words(&message, FaultClass::Overload),
        400 | 422 => by_words(&message, FaultClass::BadRequest),
        _ => by_words(&message, FaultClass::Other),
    };
    AgentFault { class, message }
}

/// An error that came as ordinary text. It is a suspicion: the words may be the
/// model's own, so that nothing is concluded from them but that a person must
/// look.
pub(super) fn from_text(text: &str) -> AgentFault {
    other(&capped_text(&format!(
        "suspected failure: the agent ended the turn as done, but its last words report an error: {}",
        text.trim()
    )))
}

/// An error that the agent itself tells as text, in words that are its own: all
/// that it said in the turn begins and ends as such errors do, and no model was
/// paid for it. None when that is not so.
pub(super) fn from_own_text(text: &str) -> Option<AgentFault> {
    let inner = OWN_TEXTS.iter().find_map(|(start, end)| {
        let inner = text.trim().strip_prefix(start)?.strip_suffix(end)?;
        Some(inner.trim().trim_end_matches('.'))
    })?;
    let message = capped_text(inner);
    let class = by_words(&message, FaultClass::Other);
    Some(AgentFault { class, message })
}

/// An error Hearth itself found.
pub(in crate::backends::acp) fn other(message: &str) -> AgentFault {
    AgentFault {
        class: FaultClass::Other,
        message: message.to_owned(),
    }
}

/// The message and what the agent hid in `data`, where most put the reason.
pub(in crate::backends::acp) fn describe(message: &str, data: Option<&Value>) -> String {
    let detail = data.and_then(|data| {
        ["details", "message", "error", "reason"]
            .iter()
            .find_map(|field| data[*field].as_str())
            .or(data.as_str())
    });
    capped_text(&match detail {
        Some(detail) if !message.contains(detail) => format!("{message}: {detail}"),
        _ => message.to_owned(),
    })
}
