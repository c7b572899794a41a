//! One table's keys, read with all complaints collected.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::{Table, Value};

use super::{ConfigError, error};

/// Longest duration that a setting may ask for: a week. Longer is a slip of units.
const MAX_MILLIS: i64 = 7 * 24 * 60 * 60 * 1000;

/// A table and the place to complain to.
pub(super) struct Fields<'a> {
    path: String,
    table: &'a Table,
    errors: &'a mut Vec<ConfigError>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(path: &str, table: &'a Table, errors: &'a mut Vec<ConfigError>) -> Self {
        Self {
            path: path.into(),
            table,
            errors,
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    pub(super) fn problem(
        &mut self,
        key: &str,
        problem: impl Into<String>,
        cure: impl Into<String>,
    ) {
        self.errors
            .push(error(&format!("{}.{key}", self.path), problem, cure));
    }

    /// Complains about each key that is not in `known`.
    pub(super) fn refuse_unknown(&mut self, known: &[&str]) {
        for key in self.table.keys() {
            if !known.contains(&key.as_str()) {
                self.problem(key, "is not a known key", suggestion(key, known));
            }
        }
    }

    /// Complains about each key of `known` beside `only`.
    pub(super) fn refuse_others(&mut self, only: &str, known: &[&str]) {
        for key in self.table.keys().filter(|key| *key != only) {
            if known.contains(&key.as_str()) {
                self.problem(
                    key,
                    format!("has no effect beside {only}"),
                    format!("remove it, or remove {only}"),
                );
            }
        }
    }

    /// A text that is not empty.
    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        match self.table.get(key)? {
            Value::String(text) if text.trim().is_empty() => {
                self.problem(key, "is empty", "write a value or remove the key");
                None
            }
            Value::String(text) => Some(text.clone()),
            other => self.wrong(key, other, "a text in quotes"),
        }
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, key: &str) -> Option<Vec<String>> {
        let value = self.table.get(key)?;
        let texts = value.as_array().and_then(|items| {
            items
                .iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect()
        });
        texts.or_else(|| self.wrong(key, value, "a list of texts, such as [\"--acp\"]"))
    }

    /// A list of texts, each one of `known`.
    pub(super) fn known_texts(&mut self, key: &str, known: &[&str]) -> Option<Vec<String>> {
        let texts = self.texts(key)?;
        for text in &texts {
            if !known.contains(&text.as_str()) {
                self.problem(
                    key,
                    format!("\"{text}\" is not known"),
                    suggestion(text, known),
                );
            }
        }
        Some(texts)
    }

    /// A table of texts.
    pub(super) fn text_map(&mut self, key: &str) -> Option<BTreeMap<String, String>> {
        let value = self.table.get(key)?;
        let map = value.as_table().and_then(|table| {
            table
                .iter()
                .map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
                .collect()
        });
        map.or_else(|| self.wrong(key, value, "a table of texts, such as { NAME = \"value\" }"))
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        self.problem(
            key,
            format!("\"{text}\" is not known"),
            suggestion(&text, &known),
        );
        None
    }

    /// Whole milliseconds, from 1 to a week.
    pub(super) fn millis(&mut self, key: &str) -> Option<Duration> {
        match self.table.get(key)? {
            Value::Integer(millis @ 1..=MAX_MILLIS) => {
                Some(Duration::from_millis(millis.unsigned_abs()))
            }
            other => self.wrong(
                key,
                other,
                "a number of milliseconds from 1 to 604800000 (a week)",
            ),
        }
    }

    /// A whole number from `least` to `most`.
    pub(super) fn count(&mut self, key: &str, least: u32, most: u32) -> Option<u32> {
        let value = self.table.get(key)?;
        let number = value
            .as_integer()
            .and_then(|number| u32::try_from(number).ok());
        match number.filter(|number| (least..=most).contains(number)) {
            Some(number) => Some(number),
            None => self.wrong(key, value, &format!("a number from {least} to {most}")),
        }
    }

    /// A table below this one.
    pub(super) fn table(&mut self, key: &str) -> Option<Fields<'_>> {
        match self.table.get(key)? {
            Value::Table(table) => Some(Fields {
                path: format!("{}.{key}", self.path),
                table,
                errors: self.errors,
            }),
            other => {
                self.wrong::<()>(key, other, "a table");
                None
            }
        }
    }

    fn wrong<T>(&mut self, key: &str, value: &Value, wanted: &str) -> Option<T> {
        let problem = match value {
            Value::Integer(number) => format!("is {number}"),
            Value::Array(_) | Value::Table(_) => "holds something else".to_owned(),
            other => format!("is a {}", other.type_str()),
        };
        self.problem(key, problem, format!("write {wanted}"));
        None
    }
}

/// The nearest known word if one is near, else all of them.
fn suggestion(word: &str, known: &[&str]) -> String {
    match known
        .iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .min()
    {
        Some((distance, nearest)) if distance <= 2 => format!("did you mean \"{nearest}\"?"),
        _ => format!("use one of {}", known.join(", ")),
    }
}

/// Edits between two short words (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, from) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, to) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}
