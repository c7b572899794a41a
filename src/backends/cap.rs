//! Limits on what is kept of an agent's words.

use hearth_actors::catalog::MAX_ITEMS;
use hearth_actors::event::Command;
use serde_json::{Value, json};

/// Most bytes of JSON kept of a tool's input, output or a raw message: enough
/// to review a large edit, small enough for a row and a frame.
pub(super) const MAX_VALUE: usize = 64 * 1024;

/// Most bytes of a text that names or describes something.
const MAX_LABEL: usize = 2 * 1024;

/// Longest piece of answer text in one event, so that a bounded channel of
/// events is bounded in bytes.
pub(super) const TEXT_PIECE: usize = 64 * 1024;

/// The value itself, or what replaces one that is too large: its size and its
/// first bytes, marked as cut.
pub(super) fn capped(value: Value) -> Value {
    let text = value.to_string();
    if text.len() <= MAX_VALUE {
        return value;
    }
    json!({
        "truncated": true,
        "bytes": text.len(),
        "head": head(&text, MAX_VALUE / 2),
    })
}

/// The text, cut with a mark if it is long.
pub(super) fn capped_text(text: &str) -> String {
    if text.len() <= MAX_LABEL {
        return text.to_owned();
    }
    format!("{}…", head(text, MAX_LABEL))
}

/// A call for people: its name, and the first of the fields that is there.
pub(super) fn titled(name: &str, fields: &[&str], of: &Value) -> String {
    match fields.iter().find_map(|field| of[*field].as_str()) {
        Some(about) => capped_text(&format!("{name} {about}")),
        None => capped_text(name),
    }
}

/// Slash commands by name and description, as many and as much of each as is kept.
pub(super) fn commands<N, D>(offered: impl Iterator<Item = (N, D)>) -> Vec<Command>
where
    N: AsRef<str>,
    D: AsRef<str>,
{
    let kept = offered.take(MAX_ITEMS).map(|(name, about)| Command {
        name: capped_text(name.as_ref()),
        description: capped_text(about.as_ref()),
    });
    kept.collect()
}

/// The longest start of at most `limit` bytes that ends between characters.
pub(super) fn head(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

/// The text in pieces of at most [`TEXT_PIECE`] bytes.
pub(super) fn pieces(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let piece = head(text, TEXT_PIECE);
        text = &text[piece.len()..];
        (!piece.is_empty()).then_some(piece)
    })
}
