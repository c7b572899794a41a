//! How a turn ended, by its result, in Hearth's words.

use hearth_actors::event::{AgentFault, AgentStop, FaultClass};

use super::wire::TurnResult;
use crate::backends::cap::capped_text;
use crate::backends::reset;

/// The end that `result` tells. `worked` says whether anything came of the prompt;
/// `error` is what the program called the error.
pub(super) fn stop(result: &TurnResult, worked: bool, error: Option<&str>) -> AgentStop {
    let reason = result.terminal_reason.as_deref().unwrap_or_default();
    if !result.is_error {
        return match result.stop_reason.as_deref() {
            Some(word @ ("refusal" | "max_tokens")) => AgentStop::Limit(word.to_owned()),
            _ => AgentStop::EndTurn,
        };
    }
    if reason.starts_with("aborted") {
        return AgentStop::Cancelled;
    }
    if let Some(limit) = result.subtype.strip_prefix("error_max_") {
        return AgentStop::Limit(format!("max_{limit}"));
    }
    let fault = AgentFault {
        class: class(result, error),
        message: capped_text(&message(result)),
    };
    if reason == "api_error" && !worked {
        let reset = reset::of_text(&fault.message);
        AgentStop::Refused { fault, reset }
    } else {
        AgentStop::Error(fault)
    }
}

/// An error Hearth itself found.
pub(super) fn other(message: &str) -> AgentFault {
    AgentFault {
        class: FaultClass::Other,
        message: message.to_owned(),
    }
}

fn message(result: &TurnResult) -> String {
    match result.result.as_deref() {
        Some(text) if !text.is_empty() => text.to_owned(),
        _ if !result.errors.is_empty() => result.errors.join("; "),
        _ => format!("claude ended the turn with {}", result.subtype),
    }
}

/// By the API's status, else by the program's own words for what has none.
fn class(result: &TurnResult, error: Option<&str>) -> FaultClass {
    let kind = result.api_error_type.as_deref().unwrap_or_default();
    let text = message(result).to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    match result.api_error_status {
        Some(401 | 403) => return FaultClass::Auth,
        Some(402) => return FaultClass::Quota,
        Some(_) if kind == "billing_error" => return FaultClass::Quota,
        Some(429) if says(&["usage limit", "quota", "credit"]) => return FaultClass::Quota,
        Some(408 | 429 | 500..=599) => return FaultClass::Overload,
        Some(400..=499) if says(&["credit balance"]) => return FaultClass::Quota,
        Some(400..=499) => return FaultClass::BadRequest,
        _ => {}
    }
    match error {
        Some("authentication_failed" | "oauth_org_not_allowed") => FaultClass::Auth,
        Some("billing_error") => FaultClass::Quota,
        Some("rate_limit" | "overloaded" | "server_error") => FaultClass::Overload,
        Some("invalid_request") => FaultClass::BadRequest,
        _ if says(&["not logged in", "/login", "invalid api key"]) => FaultClass::Auth,
        _ if says(&["usage limit", "credit balance", "hit your limit"]) => FaultClass::Quota,
        _ if says(&["timed out", "timeout", "connection", "unable to connect"]) => {
            FaultClass::Overload
        }
        _ => FaultClass::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(status: Option<u16>, text: &str) -> TurnResult {
        TurnResult {
            subtype: "success".into(),
            is_error: true,
            terminal_reason: Some("api_error".into()),
            result: Some(text.into()),
            api_error_status: status,
            ..TurnResult::default()
        }
    }

    #[test]
    fn errors_are_classed_by_what_is_done_about_them() {
        for (status, text, error, class) in [
            (Some(401), "Failed to authenticate.", None, FaultClass::Auth),
            (Some(400), "API Error: 400 no", None, FaultClass::BadRequest),
            (Some(500), "API Error: 500", None, FaultClass::Overload),
            (Some(529), "API Error: 529", None, FaultClass::Overload),
            (Some(429), "API Error: 429", None, FaultClass::Overload),
            (
                Some(429),
                "Claude AI usage limit reached|1735689600",
                None,
                FaultClass::Quota,
            ),
            (
                Some(400),
                "Your credit balance is too low",
                None,
                FaultClass::Quota,
            ),
            (
                None,
                "Not logged in · Please run /login",
                None,
                FaultClass::Auth,
            ),
            (
                None,
                "API Error: Request timed out.",
                None,
                FaultClass::Overload,
            ),
            (None, "odd", Some("authentication_failed"), FaultClass::Auth),
            (None, "odd", Some("unknown"), FaultClass::Other),
        ] {
            let fault = AgentFault {
                class,
                message: text.into(),
            };
            let result = api(status, text);
            let AgentStop::Refused { fault: told, reset } = stop(&result, false, error) else {
                panic!("nothing came of {text}");
            };
            assert_eq!((&told, reset.is_some()), (&fault, text.contains('|')));
            assert_eq!(stop(&result, true, error), AgentStop::Error(fault));
        }
    }

    #[test]
    fn success_is_an_end_only_without_an_error() {
        let mut result = TurnResult {
            subtype: "success".into(),
            stop_reason: Some("end_turn".into()),
            terminal_reason: Some("completed".into()),
            ..TurnResult::default()
        };
        assert_eq!(stop(&result, true, None), AgentStop::EndTurn);
        result.stop_reason = Some("refusal".into());
        assert_eq!(
            stop(&result, true, None),
            AgentStop::Limit("refusal".into())
        );
        let limit = TurnResult {
            subtype: "error_max_turns".into(),
            is_error: true,
            terminal_reason: Some("max_turns".into()),
            ..TurnResult::default()
        };
        assert_eq!(
            stop(&limit, true, None),
            AgentStop::Limit("max_turns".into())
        );
        for reason in ["aborted_streaming", "aborted_tools"] {
            let aborted = TurnResult {
                subtype: "error_during_execution".into(),
                is_error: true,
                terminal_reason: Some(reason.into()),
                ..TurnResult::default()
            };
            assert_eq!(stop(&aborted, true, None), AgentStop::Cancelled);
        }
        let broken = TurnResult {
            subtype: "error_during_execution".into(),
            is_error: true,
            errors: vec!["no".into(), "never".into()],
            ..TurnResult::default()
        };
        let AgentStop::Error(fault) = stop(&broken, false, None) else {
            panic!("no API refused it");
        };
        assert_eq!(fault.message, "no; never");
    }
}
