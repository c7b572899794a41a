//! Tasks: prompts to run.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::follow::task_follow;
use super::{Context, Effect, Tool, each_row, excerpt, page, text};
use crate::mcp::api::{Ask, Fault};

pub(super) fn tools() -> Vec<Tool> {
    vec![
        Tool::new(
            "task_create",
            "Create a task",
            "Gives an agent a prompt to run, in a chat, a session or a project, and returns at once with the task's id. It runs as soon as its session is free. An agent of this service names no chat, and no session and project but those it works in; if it names none, its task works in the same project, in a worktree of its own.",
            Effect::Adds,
            task_create,
        )
        .for_agents(),
        Tool::new(
            "task_list",
            "List tasks",
            "Tasks with the outcome of their latest attempt, newest first. Long prompts and answers are cut; task_status has them whole.",
            Effect::Reads,
            task_list,
        )
        .for_agents(),
        Tool::new(
            "task_status",
            "Status of a task",
            "One task with all its attempts, and the open prompts that it waits for.",
            Effect::Reads,
            task_status,
        )
        .for_agents(),
        Tool::new(
            "task_follow",
            "Follow a task",
            "Waits until the task ends or asks for consent, or until the time is over, and returns what the agent said and did since `after`. Call it again with `after` set to the `cursor` that it returned until `done` is true. Tells of progress meanwhile, if asked to.",
            Effect::Reads,
            task_follow,
        ),
        Tool::new(
            "task_cancel",
            "Cancel a task",
            "Ends a task: at once while it waits, within seconds while it runs. What it changed stays in its worktree.",
            Effect::Changes,
            task_cancel,
        ),
    ]
}

/// A prompt to run.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewTask {
    /// The prompt: 1 to 64 000 characters.
    input: String,
    /// Says it in this chat, whose agent remembers what was said there before.
    chat_id: Option<Uuid>,
    /// Runs it in this session's worktree, with a fresh context.
    session_id: Option<Uuid>,
    /// Runs it in this project, in a worktree of its own.
    project_id: Option<Uuid>,
    /// Who runs it; the service's default agent if not given.
    agent: Option<String>,
    /// Wanted model.
    model: Option<String>,
    /// Wanted mode.
    mode_id: Option<String>,
    /// Wanted thinking option.
    thinking_option_id: Option<String>,
    /// Values of the agent's own options, by their ids: texts or booleans.
    #[serde(default)]
    feature_values: BTreeMap<String, Value>,
    /// What the agent may do unasked: only tighter than its own setting. If not
    /// given, its own setting in a chat, and `deny` elsewhere.
    policy: Option<Policy>,
    /// What all its turns may spend: only tighter than the settings.
    budget: Option<Budget>,
    /// In a chat where a turn runs: `queue` waits for it, `interrupt` cancels it.
    when_busy: Option<WhenBusy>,
    /// The same key creates nothing twice.
    idempotency_key: Option<String>,
}

/// What a task may spend.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Budget {
    /// Tokens in and out together.
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<i64>,
    /// US dollars, above 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<f64>,
    /// Milliseconds of its turns, without waiting for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    wall_ms: Option<i64>,
    /// Prompted turns, repeated attempts too.
    #[serde(skip_serializing_if = "Option::is_none")]
    turns: Option<i64>,
}

/// What an agent may do unasked.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Policy {
    Deny,
    Ask,
    AllowEdits,
    AllowAll,
}

/// What happens where a turn runs.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum WhenBusy {
    Queue,
    Interrupt,
}

async fn task_create(context: Context, args: NewTask) -> Result<Value, Fault> {
    let places = [args.chat_id, args.session_id, args.project_id];
    let wrong = |detail: &str| Err(Fault::new("invalid_arguments", detail));
    let mut body = json!({});
    let mut set = |name: &str, value: Value| {
        if !value.is_null() {
            body[name] = value;
        }
    };
    set("agent", args.agent.into());
    set("model", args.model.into());
    set("mode_id", args.mode_id.into());
    set("thinking_option_id", args.thinking_option_id.into());
    set("feature_values", json!(args.feature_values));
    set("policy", json!(args.policy));
    set("budget", json!(args.budget));
    let path = match places {
        [Some(chat), None, None] => {
            set("content", args.input.into());
            set("when_busy", json!(args.when_busy));
            format!("chats/{chat}/messages")
        }
        _ if args.when_busy.is_some() => {
            return wrong("`when_busy` is for a chat: leave it out, or give `chat_id` alone");
        }
        [None, session, project] if session.is_none() || project.is_none() => {
            let project = match (project, session) {
                (Some(project), _) => project.to_string(),
                (None, Some(session)) => {
                    let session = session.to_string();
                    let session = context.get(&["api", "sessions", &session], &[]).await?;
                    session["project_id"]
                        .as_str()
                        .unwrap_or_default()
                        .to_owned()
                }
                (None, None) => match context.caller.project_id {
                    Some(project) => project.to_string(),
                    None => {
                        return wrong("say where: give `chat_id`, `session_id` or `project_id`");
                    }
                },
            };
            set("input", args.input.into());
            set("project_id", project.into());
            set("session_id", json!(session));
            "tasks".into()
        }
        _ => return wrong("give only one of `chat_id`, `session_id` and `project_id`"),
    };
    let path: Vec<&str> = ["api"].into_iter().chain(path.split('/')).collect();
    let ask = Ask {
        key: args.idempotency_key,
        ..Ask::post(&path, body)
    };
    context.api.ask(ask).await
}

/// Which tasks.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TasksArgs {
    /// Only in this state: `pending`, `running`, `blocked`, `completed`, `failed` or `cancelled`.
    state: Option<String>,
    /// Only of this project.
    project_id: Option<Uuid>,
    /// Only of this session.
    session_id: Option<Uuid>,
    /// Rows in the page, 1 to 200; 50 if not given.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

async fn task_list(context: Context, args: TasksArgs) -> Result<Value, Fault> {
    let mut query = page(args.limit, args.cursor);
    query.push(("state", args.state));
    query.push(("project_id", text(args.project_id)));
    query.push(("session_id", text(args.session_id)));
    let tasks = context.get(&["api", "tasks"], &query).await?;
    Ok(each_row(tasks, |task| {
        excerpt(task, "input");
        excerpt(task, "output_summary");
    }))
}

/// One task.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OneTask {
    /// The task.
    task_id: Uuid,
}

async fn task_status(context: Context, args: OneTask) -> Result<Value, Fault> {
    let mut task = context.task(args.task_id).await?;
    task["open_prompts"] = context.open_prompts(args.task_id, &task).await?;
    Ok(task)
}

async fn task_cancel(context: Context, args: OneTask) -> Result<Value, Fault> {
    let id = args.task_id.to_string();
    let path = ["api", "tasks", &id, "cancel"];
    context.post(&path, json!({})).await
}

impl Context {
    pub(super) async fn task(&self, id: Uuid) -> Result<Value, Fault> {
        self.get(&["api", "tasks", &id.to_string()], &[]).await
    }

    /// What a blocked task waits for; nothing of another one.
    pub(super) async fn open_prompts(&self, id: Uuid, task: &Value) -> Result<Value, Fault> {
        if task["state"] != "blocked" {
            return Ok(json!([]));
        }
        let query = [("state", Some("open".into())), ("task_id", text(Some(id)))];
        let mut page = self.get(&["api", "prompts"], &query).await?;
        Ok(page["items"].take())
    }
}
