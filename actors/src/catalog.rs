//! What an agent offers, in its own words: shared by those who ask it, those
//! who store it and those who show it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::Command;
use crate::model::Policy;

/// Everything an agent said about itself when it started and since.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Catalog {
    /// The name it reports, which may differ from the configured one.
    pub name: Option<String>,
    /// Its name for people.
    pub title: Option<String>,
    /// The version it reports.
    pub version: Option<String>,
    /// What it can do, as its protocol says it.
    pub capabilities: Value,
    /// Ways to log in.
    pub logins: Vec<Choice>,
    /// Modes, and which a session starts with.
    pub modes: Offered,
    /// Models, and which a session starts with.
    pub models: Offered,
    /// Thinking options, and which a session starts with.
    pub thinking: Offered,
    /// Further options of its own.
    pub options: Vec<ConfigOption>,
    /// Slash commands.
    pub commands: Vec<Command>,
}

/// The choices of one setting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Offered {
    /// What a session starts with.
    pub initial: Option<String>,
    /// What may be chosen; empty where it cannot be.
    pub choices: Vec<Choice>,
}

/// One thing that may be chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// What is said to choose it.
    pub id: String,
    /// What a person reads.
    pub name: String,
    /// A line about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// It lets the agent do unasked what this policy does: one that allows less has
    /// no use for it. None where it loosens nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<Policy>,
}

/// An option that is neither mode, model nor thinking.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConfigOption {
    /// What is said to name it.
    pub id: String,
    /// What a person reads.
    pub name: String,
    /// What a session starts with: a text or a boolean.
    pub initial: Value,
    /// What may be chosen; empty for a boolean.
    pub choices: Vec<Choice>,
}

/// Most choices, options and commands that are kept of one agent; the longest
/// list seen, of one with every provider set up, had some hundreds.
pub const MAX_ITEMS: usize = 1000;

/// Ids that a refusal names at most.
const NAMED: usize = 20;

/// The id that a wish means: an id, or a name as people read it.
#[must_use]
pub fn resolve<'a>(choices: &'a [Choice], wish: &str) -> Option<&'a str> {
    find(choices, wish).map(|choice| choice.id.as_str())
}

/// The choice that a wish means, in the same way.
#[must_use]
pub fn find<'a>(choices: &'a [Choice], wish: &str) -> Option<&'a Choice> {
    let by_id = choices.iter().find(|choice| choice.id == wish);
    by_id.or_else(|| {
        choices
            .iter()
            .find(|choice| choice.name.eq_ignore_ascii_case(wish))
    })
}

/// The ids on offer, for a refusal.
#[must_use]
pub fn named(choices: &[Choice]) -> String {
    let ids: Vec<&str> = choices
        .iter()
        .take(NAMED)
        .map(|choice| choice.id.as_str())
        .collect();
    match choices.len() - ids.len() {
        0 => ids.join(", "),
        more => format!("{} and {more} more", ids.join(", ")),
    }
}

impl Offered {
    /// Adds what another session of the same agent was offered.
    pub fn join(&mut self, other: Self) {
        for choice in other.choices {
            let known = self.choices.iter().any(|known| known.id == choice.id);
            if !known && self.choices.len() < MAX_ITEMS {
                self.choices.push(choice);
            }
        }
        if self.initial.is_none() {
            self.initial = other.initial;
        }
    }
}

impl Catalog {
    /// What is known after a live session told `newer`: projects may add models
    /// and commands of their own, so nothing that was known is taken away.
    #[must_use]
    pub fn joined(mut self, newer: Self) -> Self {
        self.modes.join(newer.modes);
        self.models.join(newer.models);
        self.thinking.join(newer.thinking);
        for option in newer.options {
            let known = self.options.iter().any(|known| known.id == option.id);
            if !known && self.options.len() < MAX_ITEMS {
                self.options.push(option);
            }
        }
        for command in newer.commands {
            let known = self
                .commands
                .iter()
                .position(|known| known.name == command.name);
            match known {
                Some(at) => self.commands[at] = command,
                None if self.commands.len() < MAX_ITEMS => self.commands.push(command),
                None => {}
            }
        }
        Self {
            name: newer.name.or(self.name),
            title: newer.title.or(self.title),
            version: newer.version.or(self.version),
            capabilities: newer.capabilities,
            logins: newer.logins,
            ..self
        }
    }
}
