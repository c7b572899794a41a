//! One entry a line, as the program writes them.

use std::borrow::Cow;

use serde_json::Value;

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lines {
    /// Its entries.
    pub entries: Vec<Value>,
    /// Whole lines that are no entry.
    pub unreadable: usize,
}

/// Reads a file. A last line without its end is one that was being written when its
/// writer died: it is left out unless it is whole.
#[must_use]
pub fn read(bytes: &[u8]) -> Lines {
    let mut lines = Lines::default();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let text = String::from_utf8_lossy(line);
        let text = text.trim();
        match parse(text) {
            _ if text.is_empty() => {}
            Some(entry) => lines.entries.push(entry),
            None if line.ends_with(b"\n") => lines.unreadable += 1,
            None => {}
        }
    }
    lines
}

/// The entries as a file.
#[must_use]
pub fn print<'a>(entries: impl IntoIterator<Item = &'a Value>) -> Vec<u8> {
    let mut text = Vec::new();
    for entry in entries {
        // Neither a value nor memory refuses to be written.
        let _ = serde_json::to_writer(&mut text, entry);
        text.push(b'\n');
    }
    text
}

/// An entry. JavaScript cuts texts between the halves of a character and writes the
/// half that is left, which is no text elsewhere: U+FFFD stands for it then.
#[must_use]
pub fn parse(line: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(line)
        .or_else(|_| serde_json::from_str(&whole_characters(line)))
        .ok()?;
    value.is_object().then_some(value)
}

/// JSON without escapes of half characters (surrogates that have no partner).
#[must_use]
pub fn whole_characters(json: &str) -> Cow<'_, str> {
    let mut mended = String::new();
    let mut kept = 0;
    let mut at = 0;
    while let Some(found) = json[at..].find('\\') {
        at += found;
        let next = match half(json, at) {
            Some(first) if is_high(first) => match half(json, at + 6) {
                Some(second) if !is_high(second) => {
                    at += 12;
                    continue;
                }
                _ => true,
            },
            Some(_) => true,
            None => false,
        };
        if next {
            mended.push_str(&json[kept..at]);
            mended.push_str("\\ufffd");
            at += 6;
            kept = at;
        } else {
            // The backslash and what it escapes, whatever its length.
            at += 1;
            at += json[at..].chars().next().map_or(0, char::len_utf8);
        }
    }
    if kept == 0 {
        return Cow::Borrowed(json);
    }
    mended.push_str(&json[kept..]);
    Cow::Owned(mended)
}

/// The surrogate that is escaped at this place, if one is.
fn half(json: &str, at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix("\\u")?;
    let unit = u16::from_str_radix(digits, 16).ok()?;
    (0xd800..=0xdfff).contains(&unit).then_some(unit)
}

fn is_high(unit: u16) -> bool {
    unit < 0xdc00
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::backends::claude::wire::Frame;

    #[test]
    fn a_cut_last_line_is_left_out_and_a_bad_one_counted() {
        let lines = read(b"{\"a\":1}\n\nnonsense\n[1]\n{\"b\":2}\n{\"c\":");
        assert_eq!(lines.entries, [json!({"a": 1}), json!({"b": 2})]);
        assert_eq!(lines.unreadable, 2);
        assert_eq!(read(b"{\"a\":1}").entries, [json!({"a": 1})]);
    }

    #[test]
    fn half_a_character_does_not_cost_a_frame() {
        let mirrored = r#"{"type":"transcript_mirror","filePath":"/f","entries":[{"t":"\ud83d"}]}"#;
        let frame = Frame::read(mirrored);
        let whole = json!({"t": "\u{fffd}"});
        assert!(
            matches!(&frame, Some(Frame::Mirror { entries, .. }) if *entries == [whole]),
            "{frame:?}"
        );
        assert!(Frame::read(r#"{"type":"nobody knows","t":"\ud83d"}"#).is_none());
    }

    #[test]
    fn half_a_character_does_not_cost_the_entry() {
        for (line, text) in [
            (r#"{"t":"\ud83d"}"#, "\u{fffd}"),
            (r#"{"t":"x\udc4dy"}"#, "x\u{fffd}y"),
            (r#"{"t":"\ud83d\ud83d\udc4d"}"#, "\u{fffd}👍"),
            (r#"{"t":"\ud83d\\udc4d"}"#, "\u{fffd}\\udc4d"),
            (r#"{"t":"\\\ud83d"}"#, "\\\u{fffd}"),
            (r#"{"t":"\ud83dé\"\ud83d"}"#, "\u{fffd}é\"\u{fffd}"),
        ] {
            assert_eq!(parse(line), Some(json!({ "t": text })), "{line}");
        }
        assert_eq!(parse(r#"{"t":"\ud83d"#), None);
        assert_eq!(parse("\\"), None);
    }

    proptest! {
        #[test]
        fn mending_never_fails(text in "[\\\\ud8dcé\"3]{0,40}") {
            let mended = whole_characters(&text);
            prop_assert!(!mended.contains("\\ud83d\""));
            let _ = parse(&text);
        }

        #[test]
        fn what_is_printed_is_read(texts in prop::collection::vec("\\PC{0,20}[\n\u{0}👍]?", 0..8), cut in 0usize..20) {
            let entries: Vec<Value> = texts.iter().map(|text| json!({"t": text})).collect();
            let mut bytes = print(&entries);
            prop_assert_eq!(&read(&bytes).entries, &entries);
            // A writer that died in the middle of one more.
            let more = print(&[json!({"t": "the last one of all"})]);
            bytes.extend(&more[..cut]);
            let lines = read(&bytes);
            prop_assert_eq!(lines.entries, entries);
            prop_assert_eq!(lines.unreadable, 0);
        }
    }
}
