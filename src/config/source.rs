//! One setting from three places: a flag wins over the environment, which wins
//! over the file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::problem::{Problem, nearest};

/// What the names of Hearth's own variables begin with.
const PREFIXES: [&str; 4] = ["HEARTH_", "AGENT_POOL_", "CLAUDE_SDK_", "LIFECYCLE_"];

/// Variables that are no settings, and read elsewhere.
const OTHERS: [&str; 9] = [
    "HEARTH_CONFIG",
    "HEARTH_DEMO_WITHOUT",
    "HEARTH_LOG",
    "HEARTH_LOG_FORMAT",
    "HEARTH_OWNER",
    "HEARTH_PG_BIN",
    "HEARTH_PG_USER",
    "HEARTH_TASK",
    "HEARTH_URL",
];

/// Where a value came from, and what it said.
pub(super) struct Found {
    /// For the reader of an error.
    pub(super) place: String,
    /// The value as the file has it; flags and variables are strings.
    pub(super) value: toml::Value,
}

/// The three places, and what was found wrong in them so far.
pub(super) struct Sources<'a> {
    /// Flags that were given, by the key they set.
    pub(super) flags: &'a BTreeMap<&'static str, String>,
    /// The environment.
    pub(super) env: &'a BTreeMap<String, String>,
    file: toml::Table,
    file_name: String,
    known: BTreeSet<&'static str>,
    /// Variables that were asked for.
    variables: BTreeSet<String>,
    pub(super) problems: Vec<Problem>,
}

impl<'a> Sources<'a> {
    pub(super) fn new(
        flags: &'a BTreeMap<&'static str, String>,
        env: &'a BTreeMap<String, String>,
        file: Option<&Path>,
    ) -> Self {
        let mut sources = Self {
            flags,
            env,
            file: toml::Table::new(),
            file_name: file.map_or_else(|| "hearth.toml".into(), file_name),
            known: BTreeSet::new(),
            variables: OTHERS.map(str::to_owned).into(),
            problems: Vec::new(),
        };
        if let Some(path) = file {
            sources.read_file(path);
        }
        sources
    }

    fn read_file(&mut self, path: &Path) {
        let place = path.display().to_string();
        match std::fs::read_to_string(path) {
            Err(error) => self.problems.push(Problem::new(
                place,
                format!("cannot be read: {error}"),
                "make it readable, or name another file with --config",
            )),
            Ok(text) => match text.parse::<toml::Table>() {
                Ok(table) => self.file = table,
                Err(error) => self.problems.push(Problem::new(
                    place,
                    format!("is not TOML: {}", error.to_string().trim_end()),
                    "correct the line shown above",
                )),
            },
        }
    }

    /// The text of a variable; an empty one counts as unset.
    pub(super) fn var(&self, name: &str) -> Option<&'a str> {
        self.env
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// The setting `key` of the file, or of the variable `env`.
    pub(super) fn find(&mut self, key: &'static str, env: &str) -> Option<Found> {
        self.known.insert(key);
        self.variables.insert(env.to_owned());
        if let Some(value) = self.flags.get(key) {
            return Some(Found {
                place: format!("--{}", key.replace('_', "-")),
                value: toml::Value::String(value.clone()),
            });
        }
        if let Some(value) = self.var(env) {
            return Some(Found {
                place: env.to_owned(),
                value: toml::Value::String(value.to_owned()),
            });
        }
        let place = format!("{}: {key}", self.file_name);
        lookup(&self.file, key).map(|value| Found {
            place,
            value: value.clone(),
        })
    }

    /// `parse` says what it wanted when the value is not it.
    pub(super) fn get<T>(
        &mut self,
        key: &'static str,
        env: &str,
        parse: impl FnOnce(&toml::Value) -> Result<T, String>,
    ) -> Option<T> {
        let found = self.find(key, env)?;
        match parse(&found.value) {
            Ok(value) => Some(value),
            Err(wanted) => {
                self.problems.push(Problem::new(
                    found.place,
                    format!("{} is not {wanted}", shown(key, &found.value)),
                    format!("give {wanted}"),
                ));
                None
            }
        }
    }

    /// What to call the file in an error.
    pub(super) fn file_name(&self) -> &str {
        &self.file_name
    }

    /// Takes a whole table out of the file, to be parsed elsewhere.
    pub(super) fn take_table(&mut self, key: &str) -> toml::Table {
        match self.file.remove(key) {
            None => toml::Table::new(),
            Some(toml::Value::Table(table)) => table,
            Some(_) => {
                self.problems.push(Problem::new(
                    format!("{}: {key}", self.file_name),
                    "is not a table",
                    format!("write [{key}.NAME] sections"),
                ));
                toml::Table::new()
            }
        }
    }

    /// Refuses what the file says and nobody asked for, and variables of Hearth's that
    /// were probably meant to be others.
    pub(super) fn refuse_unknown(&mut self) {
        let mut paths = Vec::new();
        leaves(&self.file, "", &self.known, &mut paths);
        for path in paths {
            let cure = match nearest(&path, self.known.iter().copied()) {
                Some(known) => format!("did you mean `{known}`?"),
                None => "remove it".into(),
            };
            self.problems.push(Problem::new(
                format!("{}: {path}", self.file_name),
                "no such setting",
                cure,
            ));
        }
        self.refuse_misspelt();
    }

    fn refuse_misspelt(&mut self) {
        let strange = self
            .env
            .keys()
            .filter(|name| !self.variables.contains(*name));
        let misspelt = strange.filter_map(|name| {
            let (prefix, rest) = PREFIXES
                .iter()
                .find_map(|prefix| Some((prefix, name.strip_prefix(prefix)?)))?;
            let known = self.variables.iter();
            let meant = nearest(rest, known.filter_map(|name| name.strip_prefix(prefix)))?;
            let cure = format!("did you mean {prefix}{meant}?");
            Some(Problem::new(name.clone(), "no such setting", cure))
        });
        self.problems.extend(misspelt.collect::<Vec<_>>());
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(
        || path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}

fn lookup<'t>(table: &'t toml::Table, key: &str) -> Option<&'t toml::Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((head, rest)) => lookup(table.get(head)?.as_table()?, rest),
    }
}

/// Paths of all values that are not tables and not known.
fn leaves(table: &toml::Table, prefix: &str, known: &BTreeSet<&str>, out: &mut Vec<String>) {
    for (name, value) in table {
        let path = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        let is_section = known.iter().any(|key| {
            key.strip_prefix(&path)
                .is_some_and(|rest| rest.starts_with('.'))
        });
        match value {
            toml::Value::Table(inner) if is_section => leaves(inner, &path, known, out),
            _ if known.contains(path.as_str()) => {}
            _ => out.push(path),
        }
    }
}

/// Secrets are never repeated.
fn shown(key: &str, value: &toml::Value) -> String {
    match (key, value) {
        ("token" | "database_url", _) => "this (not shown)".into(),
        (_, toml::Value::String(text)) => format!("`{text}`"),
        (_, other) => format!("`{other}`"),
    }
}

// --- kinds of values -----------------------------------------------------------

pub(super) fn text(value: &toml::Value) -> Result<String, String> {
    match value {
        toml::Value::String(text) if !text.is_empty() => Ok(text.clone()),
        _ => Err("a text".into()),
    }
}

pub(super) fn flag(value: &toml::Value) -> Result<bool, String> {
    let known = match value {
        toml::Value::Boolean(on) => Some(*on),
        toml::Value::String(word) => match word.to_ascii_lowercase().as_str() {
            "1" | "true" | "on" | "yes" => Some(true),
            "0" | "false" | "off" | "no" => Some(false),
            _ => None,
        },
        _ => None,
    };
    known.ok_or_else(|| "true or false (1 or 0)".into())
}

/// A whole number from `low` to `high`.
pub(super) fn number(low: u64, high: u64) -> impl FnOnce(&toml::Value) -> Result<u64, String> {
    move |value| {
        let found = match value {
            toml::Value::Integer(number) => u64::try_from(*number).ok(),
            toml::Value::String(digits) => digits.trim().parse().ok(),
            _ => None,
        };
        found
            .filter(|number| (low..=high).contains(number))
            .ok_or_else(|| format!("a whole number from {low} to {high}"))
    }
}

/// US dollars, more than none.
pub(super) fn amount(value: &toml::Value) -> Result<f64, String> {
    let found = match value {
        toml::Value::Float(number) => Some(*number),
        toml::Value::Integer(number) => i32::try_from(*number).ok().map(f64::from),
        toml::Value::String(digits) => digits.trim().parse().ok(),
        _ => None,
    };
    found
        .filter(|number| *number > 0.0 && *number <= 1e9)
        .ok_or_else(|| "an amount in US dollars above 0, such as 2.5".into())
}

/// Milliseconds from `low` to ten years.
pub(super) fn millis(low: u64) -> impl FnOnce(&toml::Value) -> Result<Duration, String> {
    const TEN_YEARS_MS: u64 = 10 * 365 * 24 * 60 * 60 * 1000;
    move |value| {
        number(low, TEN_YEARS_MS)(value)
            .map(Duration::from_millis)
            .map_err(|wanted| format!("{wanted} (milliseconds)"))
    }
}

pub(super) fn absolute_path(value: &toml::Value) -> Result<PathBuf, String> {
    text(value)
        .ok()
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .ok_or_else(|| "an absolute path".into())
}

/// An array of texts in the file; `separator` splits a variable.
pub(super) fn list(separator: char) -> impl FnOnce(&toml::Value) -> Result<Vec<String>, String> {
    move |value| {
        let wanted = || format!("a list of texts (in a variable: separated by `{separator}`)");
        match value {
            toml::Value::String(joined) => Ok(joined
                .split(separator)
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(str::to_owned)
                .collect()),
            toml::Value::Array(items) => items
                .iter()
                .map(|item| text(item).map_err(|_| wanted()))
                .collect(),
            _ => Err(wanted()),
        }
    }
}
