//! Calls of tools, from claude's words to Hearth's.

use hearth_actors::event::{Tool, ToolStatus};
use serde_json::Value;

use crate::backends::cap::{capped, capped_text, titled};

/// Where tools say which file they touch.
const PATHS: &[&str] = &["file_path", "notebook_path", "path"];
/// What says best what a call does, the first that is there.
const ABOUT: &[&str] = &[
    "file_path",
    "notebook_path",
    "command",
    "pattern",
    "url",
    "query",
    "path",
    "skill",
    "description",
];

/// A call that is announced: its arguments are still to come.
pub(super) fn announced(id: &str, name: &str, of: Option<&str>) -> Tool {
    Tool {
        id: capped_text(id),
        title: Some(by_whom(name, of)),
        kind: Some(kind(name).to_owned()),
        status: Some(ToolStatus::Pending),
        ..Tool::default()
    }
}

/// A call with its arguments. `of` names the subagent whose call it is.
pub(super) fn called(id: &str, name: &str, input: Value, of: Option<&str>) -> Tool {
    Tool {
        id: capped_text(id),
        title: Some(by_whom(&title(name, &input), of)),
        kind: Some(kind(name).to_owned()),
        status: Some(ToolStatus::InProgress),
        locations: locations(&input),
        input: Some(capped(input)),
        output: None,
    }
}

/// The result of a call.
pub(super) fn ended(id: &str, content: Value, failed: bool) -> Tool {
    let status = if failed {
        ToolStatus::Failed
    } else {
        ToolStatus::Completed
    };
    Tool {
        id: capped_text(id),
        status: Some(status),
        output: (!content.is_null()).then(|| capped(content)),
        ..Tool::default()
    }
}

/// It starts a subagent; its name for people.
pub(super) fn subagent(name: &str, input: &Value) -> Option<String> {
    let text = |field: &str| input[field].as_str().filter(|text| !text.is_empty());
    matches!(name, "Task" | "Agent").then(|| {
        capped_text(
            text("description")
                .or(text("subagent_type"))
                .unwrap_or("subagent"),
        )
    })
}

pub(super) fn title(name: &str, input: &Value) -> String {
    titled(name, ABOUT, input)
}

pub(super) fn locations(input: &Value) -> Vec<String> {
    let path = PATHS.iter().find_map(|field| input[*field].as_str());
    path.map(capped_text).into_iter().collect()
}

/// The vocabulary of [`Tool::kind`] for claude's tools.
pub(super) fn kind(name: &str) -> &'static str {
    match name {
        "Write" | "Edit" | "MultiEdit" | "NotebookEdit" => "edit",
        "Bash" | "BashOutput" | "KillShell" | "Monitor" => "execute",
        "Read" | "LS" | "NotebookRead" => "read",
        "Glob" | "Grep" | "ToolSearch" => "search",
        "WebFetch" | "WebSearch" => "fetch",
        "Task" | "Agent" | "TodoWrite" | "TaskCreate" | "TaskUpdate" | "TaskList" | "TaskGet"
        | "EnterPlanMode" | "ExitPlanMode" | "Skill" => "think",
        _ => "other",
    }
}

fn by_whom(title: &str, of: Option<&str>) -> String {
    match of {
        Some(agent) => capped_text(&format!("{agent}: {title}")),
        None => title.to_owned(),
    }
}
