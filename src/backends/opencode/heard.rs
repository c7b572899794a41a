//! Events of opencode's stream (`GET /event`), as far as Hearth needs them.
//!
//! Read tolerantly: what a field is missing for is passed over, as are kinds that
//! nobody has heard of. Stored messages (`GET /session/:id/message`) are read into
//! the same words, so that a reader who lost the stream catches up by them.

use hearth_actors::event::AgentFault;
use hearth_actors::model::Usage;
use serde_json::Value;

use super::fault;
use super::question::Questions;

/// Patterns of one request that are kept: people read them.
const PATTERNS: usize = 20;

/// One thing that was heard about one session.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    /// opencode's id of the session.
    pub session: String,
    /// What.
    pub what: What,
}

/// What was heard.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A message of the user is stored; comes again when it is summed up.
    User(User),
    /// An answer to a user's message: one for each step of the model.
    Assistant(Assistant),
    /// A part of a message, whole.
    Part(Part),
    /// More text of a part.
    Delta(Delta),
    /// The session works.
    Busy,
    /// It tries the model again: which try, and why.
    Retry(u64, String),
    /// It does not work. Says nothing about which turn ended.
    Idle,
    /// An error, of whichever turn.
    Failed(Stop),
    /// A tool wants consent.
    Asks(Box<Asking>),
    /// A tool wants answers.
    Questions(Box<Questions>),
    /// A request was answered, by whomever.
    Answered(String),
    /// Its list of things to do.
    Todo(Value),
}

/// A message of the user, or one that opencode put in the place of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub id: String,
    /// When it was stored: milliseconds since 1970, by the server's clock.
    pub created: i64,
}

/// An answer of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Assistant {
    /// Its id.
    pub id: String,
    /// The user's message that it answers: the only link to a turn.
    pub parent: String,
    /// It will not change any more.
    pub completed: bool,
    /// Why the model stopped; `tool-calls` means that another step follows.
    pub finish: Option<String>,
    /// How it failed.
    pub failed: Option<Stop>,
    /// It sums up the conversation to make room in the model's context: words for the
    /// model, not for people.
    pub is_summary: bool,
}

/// What an error means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The turn was aborted.
    Aborted,
    /// Anything else.
    Fault(AgentFault),
}

/// A part of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Its id.
    pub id: String,
    /// The message's.
    pub message: String,
    /// What it holds.
    pub body: Body,
}

/// What a part holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Answer, as far as it goes.
    Text(String),
    /// Reasoning, as far as it goes.
    Reasoning(String),
    /// A tool call: the part as it came.
    Tool(Value),
    /// The model is asked: for the first time in a message, or again.
    StepStart,
    /// What a step of the model cost.
    StepFinish(Usage),
}

/// More text of a part, whose kind the part itself told first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// The message's id.
    pub message: String,
    /// The part's.
    pub part: String,
    /// The text.
    pub text: String,
}

/// A request for consent.
#[derive(Clone, Debug, PartialEq)]
pub struct Asking {
    /// Its id, for the answer.
    pub id: String,
    /// The message whose tool asks.
    pub message: String,
    /// The id of the call.
    pub call: String,
    /// `edit`, `bash`, …
    pub permission: String,
    /// What it is about, in opencode's short form.
    pub patterns: Vec<String>,
    /// The same at length, such as a path and a diff; empty for some tools.
    pub metadata: Value,
}

impl Heard {
    /// Reads one event. None for what Hearth has no use for.
    #[must_use]
    pub fn read(mut event: Value) -> Option<Self> {
        let kind = event["type"].as_str()?.to_owned();
        let properties = event.get_mut("properties")?.take();
        let (session, what) = match kind.as_str() {
            "message.updated" => message(&properties["info"])?,
            "message.part.updated" => part(properties)?,
            "message.part.delta" => delta(&properties)?,
            "session.status" => (
                text(&properties, "sessionID")?,
                status(&properties["status"])?,
            ),
            "session.idle" => (text(&properties, "sessionID")?, What::Idle),
            "session.error" => {
                let stop = fault::read(&properties["error"])?;
                (text(&properties, "sessionID")?, What::Failed(stop))
            }
            "permission.asked" => asking(properties)?,
            "question.asked" => questions(&properties)?,
            "permission.replied" | "question.replied" | "question.rejected" => {
                let request = text(&properties, "requestID")?;
                (text(&properties, "sessionID")?, What::Answered(request))
            }
            "todo.updated" => {
                let session = text(&properties, "sessionID")?;
                (session, What::Todo(properties["todos"].clone()))
            }
            _ => return None,
        };
        Some(Self { session, what })
    }

    /// Reads a request that waits, for consent or for answers, as the server lists it.
    #[must_use]
    pub fn request(listed: Value) -> Option<Self> {
        let (session, what) = questions(&listed).or_else(|| asking(listed))?;
        Some(Self { session, what })
    }

    /// Reads one stored message with its parts: what its events would have said,
    /// in an order that they could have come in.
    #[must_use]
    pub fn stored(mut message_with_parts: Value) -> Vec<Self> {
        let parts = message_with_parts.get_mut("parts").map(Value::take);
        let Some((session, what)) = message(&message_with_parts["info"]) else {
            return Vec::new();
        };
        let Some(Value::Array(parts)) = parts else {
            return vec![Self { session, what }];
        };
        let parts = parts.into_iter().filter_map(body_of).map(What::Part);
        // An answer that is over says so last: its parts come before.
        let open = match &what {
            What::Assistant(answer) => What::Assistant(Assistant {
                completed: false,
                finish: None,
                failed: None,
                ..answer.clone()
            }),
            other => other.clone(),
        };
        let all = [open].into_iter().chain(parts).chain([what]);
        all.map(|what| Self {
            session: session.clone(),
            what,
        })
        .collect()
    }
}

fn message(info: &Value) -> Option<(String, What)> {
    let (id, session) = (text(info, "id")?, text(info, "sessionID")?);
    let what = match info["role"].as_str()? {
        "user" => What::User(User {
            id,
            created: info["time"]["created"].as_i64().unwrap_or_default(),
        }),
        "assistant" => What::Assistant(Assistant {
            id,
            parent: text(info, "parentID")?,
            completed: !info["time"]["completed"].is_null(),
            finish: text(info, "finish"),
            failed: fault::read(&info["error"]),
            is_summary: info["summary"] == true,
        }),
        _ => return None,
    };
    Some((session, what))
}

fn part(mut properties: Value) -> Option<(String, What)> {
    let part = properties.get_mut("part")?.take();
    let session = text(&part, "sessionID").or_else(|| text(&properties, "sessionID"))?;
    Some((session, What::Part(body_of(part)?)))
}

fn body_of(mut part: Value) -> Option<Part> {
    let (id, message) = (text(&part, "id")?, text(&part, "messageID")?);
    let body = match part["type"].as_str()? {
        "text" => Body::Text(take_text(&mut part)?),
        "reasoning" => Body::Reasoning(take_text(&mut part)?),
        "step-start" => Body::StepStart,
        "step-finish" => Body::StepFinish(usage(&part)),
        "tool" => Body::Tool(part),
        _ => return None,
    };
    Some(Part { id, message, body })
}

fn delta(properties: &Value) -> Option<(String, What)> {
    if properties["field"] != "text" {
        return None;
    }
    let delta = Delta {
        message: text(properties, "messageID")?,
        part: text(properties, "partID")?,
        text: text(properties, "delta")?,
    };
    Some((text(properties, "sessionID")?, What::Delta(delta)))
}

fn status(status: &Value) -> Option<What> {
    Some(match status["type"].as_str()? {
        "busy" => What::Busy,
        "idle" => What::Idle,
        "retry" => What::Retry(
            status["attempt"].as_u64().unwrap_or_default(),
            text(status, "message").unwrap_or_default(),
        ),
        _ => return None,
    })
}

fn asking(mut properties: Value) -> Option<(String, What)> {
    let metadata = properties.get_mut("metadata").map(Value::take);
    let tool = &properties["tool"];
    let patterns = properties["patterns"].as_array().into_iter().flatten();
    let patterns = patterns.filter_map(Value::as_str).take(PATTERNS);
    let asking = Asking {
        id: text(&properties, "id")?,
        message: text(tool, "messageID")?,
        call: text(tool, "callID")?,
        permission: text(&properties, "permission")?,
        patterns: patterns.map(str::to_owned).collect(),
        metadata: metadata.unwrap_or_default(),
    };
    Some((
        text(&properties, "sessionID")?,
        What::Asks(Box::new(asking)),
    ))
}

fn questions(properties: &Value) -> Option<(String, What)> {
    let asked = Questions::read(properties)?;
    let session = text(properties, "sessionID")?;
    Some((session, What::Questions(Box::new(asked))))
}

/// What one step cost: cache reads and writes folded into the input, reasoning,
/// which opencode counts beside the output, into the output.
fn usage(part: &Value) -> Usage {
    let tokens = &part["tokens"];
    let count = |value: &Value| value.as_i64().unwrap_or_default();
    let cache = &tokens["cache"];
    Usage {
        input_tokens: count(&tokens["input"]) + count(&cache["read"]) + count(&cache["write"]),
        output_tokens: count(&tokens["output"]) + count(&tokens["reasoning"]),
        cost: part["cost"].as_f64().unwrap_or_default(),
    }
}

fn text(value: &Value, field: &str) -> Option<String> {
    value[field].as_str().map(str::to_owned)
}

fn take_text(part: &mut Value) -> Option<String> {
    match part.get_mut("text")?.take() {
        Value::String(text) => Some(text),
        _ => None,
    }
}
