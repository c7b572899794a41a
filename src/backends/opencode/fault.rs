//! opencode's errors, classed by what Hearth does about them.

use hearth_actors::event::{AgentFault, FaultClass};
use serde_json::Value;

use super::heard::Stop;
use crate::backends::cap::capped_text;
use crate::backends::provider::by_words;

/// Failures in a row that opencode may try again by itself, which it would for
/// ever: the third comes some 7 s behind the first. From there on it is Hearth that
/// waits, where people see it.
const TRIES: u64 = 3;

/// How an abort is told that came before the model was asked.
const INTERRUPTED: &str = "All fibers interrupted";

/// Reads `{name, data: {message, statusCode?}}`. The status decides where there is
/// one: opencode keeps the provider's.
pub(super) fn read(error: &Value) -> Option<Stop> {
    let name = error["name"].as_str()?;
    let data = &error["data"];
    let message = data["message"].as_str().unwrap_or(name);
    if name == "MessageAbortedError" || message.contains(INTERRUPTED) {
        return Some(Stop::Aborted);
    }
    let class = match data["statusCode"].as_u64() {
        _ if name == "ProviderAuthError" => FaultClass::Auth,
        Some(401 | 403) => FaultClass::Auth,
        Some(402) => FaultClass::Quota,
        Some(429 | 500..=599) => by_words(message, FaultClass::Overload),
        Some(400..=499) => by_words(message, FaultClass::BadRequest),
        _ => FaultClass::Other,
    };
    // Some messages end with a stack trace.
    let first = message.split("\n    at ").next().unwrap_or(message);
    Some(Stop::Fault(AgentFault {
        class,
        message: capped_text(&format!("{name}: {first}")),
    }))
}

/// The error behind a try that opencode announces, if it should not be waited for:
/// it is one too many, or only time or money helps.
pub(super) fn too_often(attempt: u64, why: &str) -> Option<AgentFault> {
    let class = by_words(why, FaultClass::Overload);
    let hopeless = matches!(class, FaultClass::Quota | FaultClass::Auth);
    (hopeless || attempt >= TRIES).then(|| AgentFault {
        class,
        message: capped_text(&format!("after {attempt} tries: {why}")),
    })
}
