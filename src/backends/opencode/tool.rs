//! Tool calls, from opencode's words to Hearth's.

use hearth_actors::event::{Ask, AskKind, AskOption, Tool, ToolStatus};
use serde_json::Value;

use super::heard::Asking;
use crate::backends::cap::{capped, capped_text, titled};

/// The options of a request for consent.
pub(super) const ONCE: &str = "once";
pub(super) const REJECT: &str = "reject";

/// What says best what a request is about, the first that is there.
const ABOUT: &[&str] = &[
    "filepath",
    "command",
    "url",
    "pattern",
    "query",
    "path",
    "parentDir",
    "tool",
];

/// Reads a part of the type `tool`. None without a call's id.
pub(super) fn read(part: &mut Value) -> Option<Tool> {
    let name = part["tool"].as_str().unwrap_or_default().to_owned();
    let id = part["callID"].as_str().map(capped_text)?;
    let state = part.get_mut("state")?;
    let status = match state["status"].as_str()? {
        "pending" => ToolStatus::Pending,
        "running" => ToolStatus::InProgress,
        "completed" => ToolStatus::Completed,
        "error" => ToolStatus::Failed,
        _ => return None,
    };
    let title = state["title"].as_str().filter(|title| !title.is_empty());
    let title = capped_text(title.unwrap_or(&name));
    let path = state["input"]["filePath"].as_str().map(capped_text);
    let live = state
        .get_mut("metadata")
        .and_then(|data| data.get_mut("output"))
        .map(Value::take);
    let output = match status {
        ToolStatus::Failed => take(state, "error"),
        _ => take(state, "output").or(live.filter(says)),
    };
    Some(Tool {
        id,
        title: Some(title),
        kind: Some(kind(&name).to_owned()),
        status: Some(status),
        input: take(state, "input").map(capped),
        output: output.map(capped),
        locations: path.into_iter().collect(),
    })
}

/// The request, with what may be answered: once, or not. opencode's own `always`
/// is left out: it would hold for every session of the directory.
pub(super) fn ask(asking: Asking) -> Ask {
    let Asking {
        id,
        call,
        permission,
        patterns,
        metadata,
        ..
    } = asking;
    let path = metadata["filepath"].as_str().map(capped_text);
    // Who consents must read what to: the permission's name alone says nothing.
    let named = patterns.iter().filter(|pattern| *pattern != "*");
    let named: Vec<&str> = named.map(String::as_str).collect();
    let title = if ABOUT.iter().any(|field| metadata[*field].is_string()) || named.is_empty() {
        titled(&permission, ABOUT, &metadata)
    } else {
        capped_text(&format!("{permission} {}", named.join(", ")))
    };
    let option = |id: &str, label: &str, kind| AskOption {
        id: id.into(),
        label: label.into(),
        kind,
    };
    Ask {
        id,
        tool: Tool {
            id: call,
            title: Some(title),
            kind: Some(kind(&permission).to_owned()),
            status: None,
            input: Some(metadata).filter(says).map(capped),
            output: None,
            locations: path.into_iter().collect(),
        },
        question: None,
        options: vec![
            option(ONCE, "Allow once", AskKind::AllowOnce),
            option(REJECT, "Reject", AskKind::RejectOnce),
        ],
    }
}

/// The vocabulary of [`Tool::kind`] for opencode's tools and permissions.
fn kind(name: &str) -> &'static str {
    match name {
        "bash" => "execute",
        "edit" | "write" | "patch" | "apply_patch" | "multiedit" => "edit",
        "read" | "list" => "read",
        "glob" | "grep" | "codesearch" => "search",
        "webfetch" | "websearch" => "fetch",
        "todowrite" | "todoread" => "think",
        _ => "other",
    }
}

fn take(state: &mut Value, field: &str) -> Option<Value> {
    state.get_mut(field).map(Value::take).filter(says)
}

/// A field that says something: calls are announced with empty ones.
fn says(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Object(fields) => !fields.is_empty(),
        Value::String(text) => !text.is_empty(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_is_asked_for_consent_reads_what_to() {
        for (permission, pattern, metadata, title) in [
            (
                "bash",
                "rm *",
                json!({"command": "rm -rf build"}),
                "bash rm -rf build",
            ),
            (
                "edit",
                "a.txt",
                json!({"filepath": "/w/a.txt", "diff": "+x"}),
                "edit /w/a.txt",
            ),
            (
                "webfetch",
                "*",
                json!({"url": "http://a.example"}),
                "webfetch http://a.example",
            ),
            ("read", ".env", json!({}), "read .env"),
            (
                "doom_loop",
                "bash",
                json!({"tool": "bash", "input": {}}),
                "doom_loop bash",
            ),
            ("github_search", "*", json!({}), "github_search"),
        ] {
            let ask = ask(Asking {
                id: "per_1".into(),
                message: "msg_1".into(),
                call: "call_1".into(),
                permission: permission.into(),
                patterns: vec![pattern.into()],
                metadata,
            });
            assert_eq!(ask.tool.title.as_deref(), Some(title));
        }
    }
}
