//! Lines of Claude Code's `stream-json`, as far as Hearth reads them.
//!
//! Read tolerantly: unknown kinds, fields and blocks are passed over, and what a
//! needed field is missing for counts as unknown.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::transcript::lines::whole_characters;

mod message;

pub use message::{Assistant, Block, Delta, Message, MessageId, User, UserContent, UserMessage};

/// The kind of lines that bring entries of a transcript.
const MIRROR: &str = "transcript_mirror";

/// One line of the program.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// A turn begins, whether a prompt asked for it or not. Comes once a turn.
    Init {
        /// The mode it begins with.
        mode: Option<String>,
    },
    /// The permission mode changed.
    Mode(String),
    /// Other news of its own: `api_retry`, `task_started`, …
    News {
        /// The program's word.
        kind: String,
        /// The whole frame.
        value: Value,
    },
    /// What became of a prompt that was stamped with this uuid.
    Lifecycle {
        /// The prompt's uuid.
        prompt: String,
        /// `queued`, `started`, `completed` or `cancelled`.
        state: String,
    },
    /// A piece of an answer that is being said.
    Stream(Stream),
    /// One block of an answer, whole.
    Assistant(Assistant),
    /// Results of tools, or words that the program says in the user's name.
    User(User),
    /// A turn ended.
    Result(Box<TurnResult>),
    /// The answer to a request of Hearth's.
    Reply {
        /// The request's id.
        id: String,
        /// What it answers, or its error.
        outcome: Result<Value, String>,
    },
    /// A request to Hearth.
    Request {
        /// Its id, for the answer.
        id: String,
        /// What is asked for; its `subtype` is the kind.
        request: Value,
    },
    /// A request to Hearth is withdrawn.
    Withdrawn(String),
    /// Entries that were appended to a file of the transcript.
    Mirror {
        /// Absolute path of the file.
        file: String,
        /// The entries, in order.
        entries: Vec<Value>,
    },
    /// Something of the transcript, or what may have been, that cannot be read.
    Unread,
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Stream {
    /// The event of the Messages API.
    pub event: Event,
    /// The call of the subagent that says it.
    #[serde(default)]
    pub parent_tool_use_id: Option<String>,
    /// With the end of a message: what of it does not count.
    #[serde(default)]
    pub abandoned_blocks: Option<Abandoned>,
}

/// Which blocks of a message do not count: the connection broke, or the turn was
/// interrupted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Abandoned {
    /// The first of them.
    pub from_block_index: usize,
}

/// An event of the Messages API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// An answer begins.
    MessageStart {
        /// Which.
        message: MessageId,
    },
    /// A block of it begins.
    ContentBlockStart {
        /// Its place.
        index: usize,
        /// Its kind.
        content_block: Block,
    },
    /// More of a block.
    ContentBlockDelta {
        /// Its place.
        index: usize,
        /// What is more.
        delta: Delta,
    },
    /// The answer is over.
    MessageStop,
    /// Of no use here.
    #[serde(other)]
    Other,
}

/// How a turn ended. `subtype` is no proof: `success` can be an error.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct TurnResult {
    /// `success`, `error_during_execution`, `error_max_turns`, …
    pub subtype: String,
    /// It is an error, whatever the subtype says.
    pub is_error: bool,
    /// The last words of the answer, or the words of the error.
    pub result: Option<String>,
    /// Errors in words.
    pub errors: Vec<String>,
    /// Why it ended: `completed`, `api_error`, `aborted_streaming`, …
    pub terminal_reason: Option<String>,
    /// Why the model stopped.
    pub stop_reason: Option<String>,
    /// The HTTP status of the API's error.
    pub api_error_status: Option<u16>,
    /// The API's own word for it.
    pub api_error_type: Option<String>,
    /// The prompt that it answers.
    pub user_message_uuid: Option<String>,
    /// All prompts that it answers.
    pub user_message_uuids: Vec<String>,
    /// US dollars of this session as far as this process knows, at list prices.
    pub total_cost_usd: Option<f64>,
    /// Spent since the last result, by model, subagents included.
    pub model_usage_since_last_result: Option<BTreeMap<String, ModelUsage>>,
}

/// What was spent with one model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ModelUsage {
    /// Tokens in, without what the cache gave or took.
    pub input_tokens: i64,
    /// Tokens out.
    pub output_tokens: i64,
    /// Tokens in from the cache.
    pub cache_read_input_tokens: i64,
    /// Tokens in to the cache.
    pub cache_creation_input_tokens: i64,
    /// US dollars at list prices.
    #[serde(rename = "costUSD")]
    pub cost_usd: f64,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    subtype: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Lifecycle {
    command_uuid: String,
    state: String,
}

#[derive(Deserialize)]
struct Reply {
    response: Response,
}

#[derive(Deserialize)]
struct Response {
    subtype: String,
    request_id: String,
    #[serde(default)]
    response: Value,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Deserialize)]
struct Request {
    request_id: String,
    #[serde(default)]
    request: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mirror {
    file_path: String,
    entries: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct System {
    #[serde(default)]
    permission_mode: Option<String>,
}

impl Frame {
    /// Reads one line. None for what is no frame or of no use. Half a character in it,
    /// as of a text that was cut, does not cost the frame; values nested more than 128
    /// deep do.
    #[must_use]
    pub fn read(line: &str) -> Option<Self> {
        let mended = || match whole_characters(line) {
            Cow::Owned(mended) => Self::read_whole(&mended),
            Cow::Borrowed(_) => None,
        };
        let frame = Self::read_whole(line).or_else(mended);
        let lost = || match serde_json::from_str::<Head<'_>>(line) {
            Ok(head) => head.kind == MIRROR,
            Err(_) => line.starts_with('{'),
        };
        frame.or_else(|| lost().then_some(Self::Unread))
    }

    fn read_whole(line: &str) -> Option<Self> {
        let head: Head<'_> = serde_json::from_str(line).ok()?;
        let frame = match &*head.kind {
            "stream_event" => Self::Stream(parsed(line)?),
            "assistant" => Self::Assistant(parsed(line)?),
            "user" => Self::User(parsed(line)?),
            "result" => Self::Result(Box::new(parsed(line)?)),
            "system" => system(line, head.subtype.as_deref()?)?,
            "command_lifecycle" => {
                let Lifecycle {
                    command_uuid,
                    state,
                } = parsed(line)?;
                Self::Lifecycle {
                    prompt: command_uuid,
                    state,
                }
            }
            MIRROR => {
                let Mirror { file_path, entries } = parsed(line)?;
                Self::Mirror {
                    file: file_path,
                    entries,
                }
            }
            "control_response" => {
                let Reply { response } = parsed(line)?;
                Self::Reply {
                    id: response.request_id,
                    outcome: match &*response.subtype {
                        "success" => Ok(response.response),
                        _ => Err(response.error.unwrap_or(response.subtype)),
                    },
                }
            }
            "control_request" => {
                let Request {
                    request_id,
                    request,
                } = parsed(line)?;
                Self::Request {
                    id: request_id,
                    request,
                }
            }
            "control_cancel_request" => Self::Withdrawn(parsed::<Request>(line)?.request_id),
            _ => return None,
        };
        Some(frame)
    }
}

/// Whether a line brings entries of a transcript, by its beginning.
pub(super) fn is_mirror(line: &[u8]) -> bool {
    line.starts_with(format!("{{\"type\":\"{MIRROR}\"").as_bytes())
}

fn system(line: &str, subtype: &str) -> Option<Frame> {
    Some(match subtype {
        "init" => Frame::Init {
            mode: parsed::<System>(line)?.permission_mode,
        },
        "status" => Frame::Mode(parsed::<System>(line)?.permission_mode?),
        // Once an event of the stream: it would drown the rest.
        "thinking_tokens" | "session_state_changed" => return None,
        kind => Frame::News {
            kind: kind.to_owned(),
            value: parsed(line)?,
        },
    })
}

fn parsed<'a, T: Deserialize<'a>>(line: &'a str) -> Option<T> {
    serde_json::from_str(line).ok()
}
