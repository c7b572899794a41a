//! What needs a person.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Context, Effect, Tool, page, text};
use crate::mcp::api::Fault;

pub(super) fn tools() -> Vec<Tool> {
    vec![
        Tool::new(
            "inbox_list",
            "List the inbox",
            "Everything that needs a person, newest first: tasks that failed, were interrupted or are parked, open prompts, notices.",
            Effect::Reads,
            inbox_list,
        ),
        Tool::new(
            "inbox_retry",
            "Retry a task",
            "Queues a failed task of the inbox again: same chat, agent and prompt, on the files as they are now. A parked one is tried now.",
            Effect::Adds,
            inbox_retry,
        ),
        Tool::new(
            "prompt_answer",
            "Answer a prompt",
            "Answers an agent's request for consent, or its question. The first answer wins. Ask the person first: what is allowed is done.",
            Effect::Changes,
            prompt_answer,
        ),
    ]
}

/// Which items.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct InboxArgs {
    /// Only of this session.
    session_id: Option<Uuid>,
    /// Rows in the page, 1 to 200; 50 if not given.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

async fn inbox_list(context: Context, args: InboxArgs) -> Result<Value, Fault> {
    let mut query = page(args.limit, args.cursor);
    query.push(("session_id", text(args.session_id)));
    context.get(&["api", "inbox"], &query).await
}

/// An item of the inbox.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OneItem {
    /// `task:…` as the inbox lists it.
    id: String,
}

async fn inbox_retry(context: Context, args: OneItem) -> Result<Value, Fault> {
    let path = ["api", "inbox", &args.id, "retry"];
    context.post(&path, json!({})).await
}

/// An answer: one of the three.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AnswerArgs {
    /// The prompt.
    prompt_id: Uuid,
    /// The id of one of the prompt's options.
    option_id: Option<String>,
    /// The first option of this meaning.
    kind: Option<Kind>,
    /// The answer to a question that takes words: 1 to 4000 characters.
    text: Option<String>,
}

/// What an answer means.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Kind {
    AllowOnce,
    AllowAlways,
    RejectOnce,
    RejectAlways,
}

async fn prompt_answer(context: Context, args: AnswerArgs) -> Result<Value, Fault> {
    let mut body = json!({});
    if let Some(option) = args.option_id {
        body["option_id"] = option.into();
    }
    if let Some(kind) = args.kind {
        body["kind"] = json!(kind);
    }
    if let Some(text) = args.text {
        body["text"] = text.into();
    }
    let id = args.prompt_id.to_string();
    context.post(&["api", "prompts", &id, "answer"], body).await
}
