//! opencode's errors, classed by what Hearth does about them.

use hearth_actors::event::{AgentFault, FaultClass};
use serde_json::Value;

use super::heard::Stop;
use crate::backends::cap::capped_text;

/// Reads `{name, data: {message, statusCode?}}`. The status decides where there is
/// one: opencode keeps the provider's.
pub(super) fn read(error: &Value) -> Option<Stop> {
    let name = error["name"].as_str()?;
    if name == "MessageAbortedError" {
        return Some(Stop::Aborted);
    }
    let data = &error["data"];
    let message = data["message"].as_str().unwrap_or(name);
    let class = match data["statusCode"].as_u64() {
        _ if name == "ProviderAuthError" => FaultClass::Auth,
        Some(401 | 403) => FaultClass::Auth,
        Some(402) => FaultClass::Quota,
        Some(429 | 500..=599) => FaultClass::Overload,
        _ => FaultClass::Other,
    };
    // Some messages end with a stack trace.
    let first = message.split("\n    at ").next().unwrap_or(message);
    Some(Stop::Fault(AgentFault {
        class,
        message: capped_text(&format!("{name}: {first}")),
    }))
}
