//! Messages and their blocks, whole and in pieces.

use serde::Deserialize;
use serde_json::Value;

/// The id of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct MessageId {
    /// The API's id.
    pub id: String,
}

/// More of a block.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Delta {
    /// Of the answer.
    TextDelta {
        /// The piece.
        text: String,
    },
    /// Of the reasoning.
    ThinkingDelta {
        /// The piece.
        thinking: String,
    },
    /// Arguments of a tool, a signature: the whole block tells them.
    #[serde(other)]
    Other,
}

/// A block of a message.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Block {
    /// Words.
    Text {
        /// They.
        text: String,
    },
    /// Reasoning.
    Thinking {
        /// It.
        thinking: String,
    },
    /// A call of a tool.
    ToolUse {
        /// Its id.
        id: String,
        /// The tool.
        name: String,
        /// The arguments; empty at the beginning of a block.
        #[serde(default)]
        input: Value,
    },
    /// The result of a call.
    ToolResult {
        /// The call's id.
        tool_use_id: String,
        /// What came of it: text, or blocks.
        #[serde(default)]
        content: Value,
        /// It failed or was refused.
        #[serde(default)]
        is_error: Option<bool>,
    },
    /// Of no use here.
    #[serde(other)]
    Other,
}

/// A message of the model: one frame for each block.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Assistant {
    /// The message.
    pub message: Message,
    /// The call of the subagent that says it.
    #[serde(default)]
    pub parent_tool_use_id: Option<String>,
    /// Its text is not the model's but reports this error.
    #[serde(default)]
    pub error: Option<String>,
}

/// Its id and its blocks.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Message {
    /// The API's id.
    #[serde(default)]
    pub id: String,
    /// The block or blocks.
    #[serde(default)]
    pub content: Vec<Block>,
}

/// A message in the user's name.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct User {
    /// What it holds.
    pub message: UserMessage,
    /// The call of the subagent that it is for.
    #[serde(default)]
    pub parent_tool_use_id: Option<String>,
    /// It tells again what was said before.
    #[serde(default, rename = "isReplay")]
    pub is_replay: bool,
}

/// Text or blocks.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct UserMessage {
    /// Them.
    #[serde(default)]
    pub content: UserContent,
}

/// Text or blocks.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum UserContent {
    /// Blocks.
    Blocks(Vec<Block>),
    /// Text, or what nobody knows.
    Other(Value),
}

impl Default for UserContent {
    fn default() -> Self {
        Self::Other(Value::Null)
    }
}
