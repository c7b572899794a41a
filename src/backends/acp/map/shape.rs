//! The updates that are read without [`serde_json::Value`]: chunks, because
//! they are many, and command lists, because they are long.

use std::borrow::Cow;

use hearth_actors::event::Said;
use serde::Deserialize;
use serde_json::Value;

use crate::backends::cap;

/// A `session/update`, read only as far as one kind of update needs.
#[derive(Deserialize)]
pub(super) struct Line<'a, U> {
    #[serde(borrow)]
    pub(super) method: Cow<'a, str>,
    #[serde(default)]
    id: Option<serde::de::IgnoredAny>,
    #[serde(borrow)]
    pub(super) params: Params<'a, U>,
}

impl<U> Line<'_, U> {
    pub(super) fn is_update(&self) -> bool {
        self.id.is_none() && self.method == "session/update"
    }
}

#[derive(Deserialize)]
pub(super) struct Params<'a, U> {
    #[serde(borrow, rename = "sessionId")]
    pub(super) session_id: Cow<'a, str>,
    pub(super) update: U,
}

#[derive(Deserialize)]
pub(super) struct ChunkUpdate<'a> {
    #[serde(borrow, rename = "sessionUpdate")]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) content: Content<'a>,
    #[serde(default, rename = "_meta")]
    pub(super) meta: Option<ChunkMeta>,
}

#[derive(Deserialize)]
pub(super) struct Content<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) text: Option<Cow<'a, str>>,
}

/// The part of a chunk's `_meta` that counts.
#[derive(Deserialize)]
pub(super) struct ChunkMeta {
    #[serde(default)]
    pub(super) usage: Option<Value>,
}

#[derive(Deserialize)]
pub(super) struct CommandsUpdate<'a> {
    #[serde(borrow, rename = "sessionUpdate")]
    pub(super) kind: Cow<'a, str>,
    #[serde(rename = "availableCommands")]
    commands: Vec<CommandLine>,
}

#[derive(Deserialize)]
struct CommandLine {
    name: String,
    #[serde(default)]
    description: Option<String>,
}

impl CommandsUpdate<'_> {
    pub(super) fn into_said(self) -> Said {
        let commands = self.commands.into_iter();
        Said::Commands(cap::commands(commands.map(|command| {
            (command.name, command.description.unwrap_or_default())
        })))
    }
}
