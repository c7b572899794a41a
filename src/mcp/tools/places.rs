//! Where work is done: projects, sessions, worktrees; and by whom.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Context, Effect, PageArgs, Tool, each_row, page, text};
use crate::mcp::api::Fault;

pub(super) fn tools() -> Vec<Tool> {
    vec![
        Tool::new(
            "projects_list",
            "List projects",
            "Registered git repositories, newest first: their ids, names and paths.",
            Effect::Reads,
            projects_list,
        ),
        Tool::new(
            "sessions_list",
            "List sessions",
            "Workspaces, newest first: each has one git worktree and any number of chats.",
            Effect::Reads,
            sessions_list,
        ),
        Tool::new(
            "sessions_create",
            "Create a session",
            "A new workspace of a project, with a git worktree of its own once something runs in it.",
            Effect::Adds,
            sessions_create,
        ),
        Tool::new(
            "worktrees_list",
            "List worktrees",
            "The git worktrees of sessions, with path and branch, newest session first; a session in which nothing has run yet has none.",
            Effect::Reads,
            worktrees_list,
        ),
        Tool::new(
            "agents_list",
            "List agents",
            "Who can be asked: each agent's name, version, modes and models, and the cure for what is wrong with it.",
            Effect::Reads,
            agents_list,
        ),
    ]
}

async fn projects_list(context: Context, args: PageArgs) -> Result<Value, Fault> {
    let query = page(args.limit, args.cursor);
    context.get(&["api", "projects"], &query).await
}

/// Which sessions.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SessionsArgs {
    /// Only of this project.
    project_id: Option<Uuid>,
    /// Rows in the page, 1 to 200; 50 if not given.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

async fn sessions(context: &Context, args: SessionsArgs) -> Result<Value, Fault> {
    let mut query = page(args.limit, args.cursor);
    query.push(("project_id", text(args.project_id)));
    context.get(&["api", "sessions"], &query).await
}

async fn sessions_list(context: Context, args: SessionsArgs) -> Result<Value, Fault> {
    sessions(&context, args).await
}

async fn worktrees_list(context: Context, args: SessionsArgs) -> Result<Value, Fault> {
    let mut page = sessions(&context, args).await?;
    if let Some(rows) = page["items"].as_array_mut() {
        rows.retain(|row| row["worktree_path"].is_string());
        for row in rows {
            *row = json!({
                "session_id": row["id"],
                "session": row["name"],
                "project_id": row["project_id"],
                "path": row["worktree_path"],
                "branch": row["branch"],
                "closed_at": row["closed_at"],
            });
        }
    }
    Ok(page)
}

/// A session to create.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewSession {
    /// Whose workspace it is.
    project_id: Uuid,
    /// What people call it.
    name: Option<String>,
}

async fn sessions_create(context: Context, args: NewSession) -> Result<Value, Fault> {
    let mut body = json!({ "project_id": args.project_id });
    if let Some(name) = args.name {
        body["name"] = name.into();
    }
    context.post(&["api", "sessions"], body).await
}

/// Nothing to choose.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Nothing {}

async fn agents_list(context: Context, _: Nothing) -> Result<Value, Fault> {
    let agents = context.get(&["api", "providers"], &[]).await?;
    // Their slash commands alone can be half a megabyte.
    Ok(each_row(agents, |agent| {
        if let Some(catalog) = agent.get_mut("catalog").and_then(Value::as_object_mut) {
            catalog.remove("commands");
        }
    }))
}
