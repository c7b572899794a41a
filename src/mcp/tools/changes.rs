//! Review: what agents changed, and the way back.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Context, Effect, Tool, each_row, page};
use crate::mcp::api::Fault;

pub(super) fn tools() -> Vec<Tool> {
    vec![
        Tool::new(
            "changes_list",
            "List changes",
            "What agents changed in a session's worktree: a row a file, oldest first, without its diff. Those that wait for review, unless `status` says otherwise.",
            Effect::Reads,
            changes_list,
        ),
        Tool::new(
            "change_show",
            "Show a change",
            "One changed file with its diff.",
            Effect::Reads,
            change_show,
        ),
        Tool::new(
            "changes_apply",
            "Apply changes",
            "Puts changes into the project's own checkout, all or none of them: a conflict is reported and changes nothing.",
            Effect::Changes,
            changes_apply,
        ),
        Tool::new(
            "changes_reject",
            "Reject changes",
            "Undoes changes in the session's worktree.",
            Effect::Changes,
            changes_reject,
        ),
        Tool::new(
            "operation_show",
            "Show an operation",
            "How far an apply, reject or restore is that was answered with `underway`, or what it did.",
            Effect::Reads,
            operation_show,
        ),
        Tool::new(
            "checkpoints_list",
            "List checkpoints",
            "The states of a session's worktree before each turn.",
            Effect::Reads,
            checkpoints_list,
        ),
        Tool::new(
            "checkpoint_restore",
            "Restore a checkpoint",
            "Puts the session's files back to what they were before a turn, and takes the messages from there on out of that chat.",
            Effect::Changes,
            checkpoint_restore,
        ),
    ]
}

/// Which changes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ChangesArgs {
    /// Whose worktree.
    session_id: Uuid,
    /// Only in this state: `pending` if not given, `applied`, `rejected`, `reverted` or `all`.
    status: Option<String>,
    /// Rows in the page, 1 to 200; 50 if not given.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

async fn changes_list(context: Context, args: ChangesArgs) -> Result<Value, Fault> {
    let session = args.session_id.to_string();
    let path = ["api", "sessions", &session, "pending"];
    let mut query = page(args.limit, args.cursor);
    query.push(("status", args.status));
    let changes = context.get(&path, &query).await?;
    Ok(each_row(changes, |change| {
        change.remove("diff");
    }))
}

/// One change.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OneChange {
    /// The change.
    change_id: Uuid,
}

async fn change_show(context: Context, args: OneChange) -> Result<Value, Fault> {
    let id = args.change_id.to_string();
    context.get(&["api", "pending", &id], &[]).await
}

/// Changes to apply.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ApplyArgs {
    /// Whose worktree.
    session_id: Uuid,
    /// Only these; all that are pending if not given.
    change_ids: Option<Vec<Uuid>>,
    /// Files on the secret list too.
    secrets: Option<bool>,
}

async fn changes_apply(context: Context, args: ApplyArgs) -> Result<Value, Fault> {
    let mut body = chosen(args.change_ids);
    if let Some(secrets) = args.secrets {
        body["secrets"] = secrets.into();
    }
    let session = args.session_id.to_string();
    let path = ["api", "sessions", &session, "pending", "apply"];
    context.post(&path, body).await
}

/// Changes to reject.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RejectArgs {
    /// Whose worktree.
    session_id: Uuid,
    /// Only these; all that are pending if not given.
    change_ids: Option<Vec<Uuid>>,
}

async fn changes_reject(context: Context, args: RejectArgs) -> Result<Value, Fault> {
    let session = args.session_id.to_string();
    let path = ["api", "sessions", &session, "pending", "reject"];
    context.post(&path, chosen(args.change_ids)).await
}

fn chosen(changes: Option<Vec<Uuid>>) -> Value {
    changes.map_or_else(|| json!({}), |changes| json!({ "change_ids": changes }))
}

/// One operation.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OneOperation {
    /// The operation.
    operation_id: Uuid,
}

async fn operation_show(context: Context, args: OneOperation) -> Result<Value, Fault> {
    let id = args.operation_id.to_string();
    context.get(&["api", "operations", &id], &[]).await
}

/// Which checkpoints.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CheckpointsArgs {
    /// Whose worktree.
    session_id: Uuid,
    /// Rows in the page, 1 to 200; 50 if not given.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

async fn checkpoints_list(context: Context, args: CheckpointsArgs) -> Result<Value, Fault> {
    let session = args.session_id.to_string();
    let path = ["api", "sessions", &session, "checkpoints"];
    let query = page(args.limit, args.cursor);
    context.get(&path, &query).await
}

/// A checkpoint to go back to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RestoreArgs {
    /// Whose worktree.
    session_id: Uuid,
    /// Where to go back to.
    checkpoint_id: Uuid,
    /// Yes to what the first try was refused for: other chats of the session
    /// worked on these files since.
    consent: Option<bool>,
}

async fn checkpoint_restore(context: Context, args: RestoreArgs) -> Result<Value, Fault> {
    let (session, checkpoint) = (args.session_id.to_string(), args.checkpoint_id.to_string());
    let path = [
        "api",
        "sessions",
        &session,
        "checkpoints",
        &checkpoint,
        "restore",
    ];
    let body = args
        .consent
        .map_or_else(|| json!({}), |consent| json!({ "consent": consent }));
    context.post(&path, body).await
}
