//! When a provider promises to answer again, as errors tell it: there is no field
//! for it in the protocol, so it is read where the words of providers put it.

use std::time::Duration;

use chrono::{DateTime, Datelike, Utc};
use hearth_actors::event::Reset;
use serde_json::Value;

/// What is looked at of an error, in bytes.
const LOOK: usize = 16 * 1024;
/// A longer wait is a mistake of ours.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// In front of a point in time: seconds since 1970, or RFC 3339.
const AT: &[&str] = &[
    "resets_at",
    "reset_at",
    "resets at",
    "reset at",
    "try again at",
    "retry at",
    "limit reached|",
];

/// In front of a length of time; a bare number is one of seconds.
const AFTER: &[&str] = &[
    "retry-after-ms",
    "retry_after_ms",
    "resets_in_seconds",
    "retry_after_seconds",
    "retry-after",
    "retry_after",
    "retry after",
    "retrydelay",
    "try again in",
    "retry in",
    "resets in",
    "reset in",
    "reset after",
    "please wait",
];

/// In the data of an error, whatever its shape.
pub(super) fn of_data(data: &Value) -> Option<Reset> {
    of_text(&data.to_string())
}

/// In the words of an error.
pub(super) fn of_text(text: &str) -> Option<Reset> {
    let cut = text.floor_char_boundary(LOOK);
    let text = text[..cut].to_ascii_lowercase();
    let at = AT.iter().find_map(|mark| after(&text, mark, point));
    at.map(Reset::At).or_else(|| {
        let wait = AFTER.iter().find_map(|mark| {
            let unit = if mark.ends_with("ms") { 1e-3 } else { 1.0 };
            after(&text, mark, |rest| length(rest, unit))
        });
        wait.map(Reset::After)
    })
}

/// Reads what follows any of the marks in the text.
fn after<T>(text: &str, mark: &str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
    text.match_indices(mark).find_map(|(start, mark)| {
        let rest = &text[start + mark.len()..];
        read(rest.trim_start_matches([' ', '"', '\'', '\\', ':', '=', '~']))
    })
}

fn point(text: &str) -> Option<DateTime<Utc>> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "-:+.".contains(c)));
    let word = text[..end.unwrap_or(text.len())].trim_end_matches(['.', ':', '-']);
    let at = match word.parse::<i64>() {
        Ok(number) if number > 100_000_000_000 => DateTime::from_timestamp_millis(number),
        Ok(number) => DateTime::from_timestamp(number, 0),
        Err(_) => Some(
            DateTime::parse_from_rfc3339(&word.to_ascii_uppercase())
                .ok()?
                .to_utc(),
        ),
    };
    at.filter(|at| (2020..2100).contains(&at.year()))
}

/// `34.07s`, `2h 5m`, `20 seconds`, `90`: the sum of what stands together.
fn length(text: &str, unit: f64) -> Option<Duration> {
    let (mut rest, mut seconds, mut found) = (text, 0.0, false);
    loop {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'));
        let (number, behind) = rest.split_at(digits.unwrap_or(rest.len()));
        let Ok(number) = number.trim_end_matches('.').parse::<f64>() else {
            break;
        };
        let behind = behind.trim_start();
        let letters = behind.find(|c: char| !c.is_ascii_alphabetic());
        let (word, behind) = behind.split_at(letters.unwrap_or(behind.len()));
        let factor = match word {
            "ms" | "millisecond" | "milliseconds" => 1e-3,
            "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86_400.0,
            _ if !found => {
                seconds = number * unit;
                found = true;
                break;
            }
            _ => break,
        };
        seconds += number * factor;
        found = true;
        rest = behind.trim_start_matches([' ', ',']);
        rest = rest.strip_prefix("and ").unwrap_or(rest);
    }
    let wait = Duration::try_from_secs_f64(seconds).ok()?;
    (found && wait <= LONGEST).then_some(wait)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seconds(text: &str) -> Option<f64> {
        match of_text(text)? {
            Reset::After(wait) => Some(wait.as_secs_f64()),
            Reset::At(at) => panic!("{at}"),
        }
    }

    #[test]
    fn lengths_are_read_as_providers_write_them() {
        for (text, wanted) in [
            (
                "Rate limit reached for m in organization o. Please try again in 20s.",
                20.0,
            ),
            ("Please try again in 6m0s. Visit …", 360.0),
            ("Please retry in 34.074824224s.", 34.074_824_224),
            (
                "The usage limit has been reached. Try again in 2h 5m..",
                7500.0,
            ),
            ("Your quota will reset after 3h23m16s.", 12_196.0),
            ("retry after 1 hour and 30 minutes", 5400.0),
            ("Retry-After: 120", 120.0),
            (r#"{"retryDelay":"34s"}"#, 34.0),
            (r#"{\"retry_after_ms\": 1500}"#, 1.5),
            ("Please wait 12 seconds before retrying, or 3 days", 12.0),
            ("try again in 0.5 days", 43_200.0),
        ] {
            assert_eq!(seconds(text), Some(wanted), "{text}");
        }
    }

    #[test]
    fn points_are_read_too_and_win() {
        let at = |text: &str| match of_text(text) {
            Some(Reset::At(at)) => at.to_rfc3339(),
            other => panic!("{text}: {other:?}"),
        };
        let wanted = "2025-01-01T00:00:00+00:00";
        assert_eq!(at("Claude AI usage limit reached|1735689600"), wanted);
        assert_eq!(at("it resets at 2025-01-01T00:00:00Z."), wanted);
        assert_eq!(at("try again in 5s, resets_at: 1735689600000"), wanted);
        let data = json!({"error": {"type": "usage_limit_reached", "resets_at": 1_735_689_600,
            "resets_in_seconds": 77}});
        assert!(matches!(of_data(&data), Some(Reset::At(at)) if at.to_rfc3339() == wanted));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "try again in a moment",
            "please try again later",
            "it resets at 3pm",
            "resets_at: 17",
            "try again in 99999999999999 days",
            "the model refuses: 429 Too Many Requests",
            "retry in ….5",
        ] {
            assert_eq!(of_text(text), None, "{text}");
        }
    }
}
