//! Postgres stores no NUL: neither in `text` nor in a string of `jsonb`. What
//! agents say may contain one, and must not end their turn.

use std::borrow::Cow;

use serde_json::Value;

/// Stands for a NUL, as it does for any character that cannot be shown.
const REPLACEMENT: &str = "\u{fffd}";

/// The text without NULs.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', REPLACEMENT))
    } else {
        Cow::Borrowed(text)
    }
}

/// The value as JSON text that `jsonb` takes.
pub(super) fn json(value: &Value) -> String {
    let text = value.to_string();
    // Also true of an escaped backslash before `u0000`, which costs a walk and
    // changes nothing.
    if text.contains("\\u0000") {
        clean_value(value).to_string()
    } else {
        text
    }
}

/// The value without NULs in keys and strings. The depth is bounded by what
/// made the value: serde's reader stops at 128.
pub(super) fn clean_value(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(clean(text).into_owned()),
        Value::Array(items) => items.iter().map(clean_value).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| (clean(key).into_owned(), clean_value(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{clean, clean_value, json as to_json};

    #[test]
    fn a_nul_becomes_a_replacement_character_anywhere() {
        let value = json!({"a\0": ["x\0y", {"deep": "\0"}], "n": 1});
        let expected = json!({"a\u{fffd}": ["x\u{fffd}y", {"deep": "\u{fffd}"}], "n": 1});
        assert_eq!(clean_value(&value), expected);
        assert_eq!(to_json(&value), expected.to_string());
        assert_eq!(clean("a\0b"), "a\u{fffd}b");
    }

    #[test]
    fn an_escaped_backslash_is_no_nul() {
        let value = json!({"path": "C:\\u0000"});
        assert_eq!(to_json(&value), value.to_string());
    }
}
