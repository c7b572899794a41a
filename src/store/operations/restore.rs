//! What a restore does to the rows of its session: transcripts follow the files.

use chrono::{DateTime, Utc};
use hearth_actors::event::{Frame, FrameKind};
use hearth_actors::ids::TaskId;
use hearth_actors::ports::OperationsError;
use hearth_actors::review::Plan;
use serde_json::json;
use sqlx::FromRow;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::complete::Draft;
use super::{operations_error, refused};
use crate::store::cancel::{CancelRequest, cancel};

/// Ids of trimmed messages in a frame; more are counted.
const MAX_TRIMMED: usize = 1000;
/// The agents' contexts hold what is no longer there.
const WHY: &str = "the chat was restored to an earlier checkpoint";

/// Of checkpoint $2 in session $1; $3, where given, is its chat. What came at
/// `moment` or later is later than the checkpoint.
const TARGET: &str = "\
    select c.id, c.chat_id, c.commit_sha, t.user_message_id, t.id is not null as of_turn,
        coalesce(t.claimed_at, c.created_at) as moment
    from checkpoints c left join hearth.turns t on t.checkpoint_id = c.id
    where c.id = $2 and c.session_id = $1 and c.chat_id = $3
    order by t.claimed_at limit 1";
/// Other chats of the session whose agents were prompted since.
const LATER: &str = "\
    select distinct k.chat_id from tasks k join hearth.turns t on t.task_id = k.id
    where k.session_id = $1 and k.chat_id is not null and k.chat_id <> $2
        and t.prompted_at is not null and t.claimed_at >= $3
    order by 1";
/// Tasks of chat $2 whose turns since $3 asked, and that wait for the answer, or for
/// the turn that is told it.
const DETACHED: &str = "\
    select k.id from tasks k
    where k.session_id = $1 and k.chat_id = $2
        and (k.state = 'blocked' or (k.state = 'pending' and exists (
            select from hearth.queue q where q.task_id = k.id and q.goes_on is not null)))
        and not exists (
            select from hearth.turns t where t.task_id = k.id and t.ended_at is null)
        and exists (
            select from hearth.turns t where t.task_id = k.id and t.claimed_at >= $3)
    order by k.id";
const TRIM: &str = include_str!("../sql/trim_chat.sql");
const MARK: &str = "\
    insert into messages (session_id, chat_id, role, content, status)
    values ($1, $2, 'system', $3, 'complete') returning id";

/// What the files were before: a checkpoint of no turn.
const UNDO: &str = "\
    insert into checkpoints (id, chat_id, session_id, worktree_id, commit_sha, label)
    values ($1, $2, $3, $4, $5, 'before a restore')
    on conflict (id) do nothing";

/// Where a restore goes back to.
#[derive(FromRow)]
pub(super) struct Target {
    id: Uuid,
    chat_id: Uuid,
    pub(super) commit_sha: String,
    user_message_id: Option<Uuid>,
    of_turn: bool,
    moment: DateTime<Utc>,
}

pub(super) async fn target(
    connection: &mut PgConnection,
    session: Uuid,
    checkpoint: Uuid,
    chat: Uuid,
) -> Result<Option<Target>, OperationsError> {
    sqlx::query_as(TARGET)
        .bind(session)
        .bind(checkpoint)
        .bind(chat)
        .fetch_optional(connection)
        .await
        .map_err(operations_error)
}

pub(super) async fn later_chats(
    connection: &mut PgConnection,
    session: Uuid,
    target: &Target,
) -> Result<Vec<Uuid>, OperationsError> {
    sqlx::query_scalar(LATER)
        .bind(session)
        .bind(target.chat_id)
        .bind(target.moment)
        .fetch_all(connection)
        .await
        .map_err(operations_error)
}

/// Trims the chat from the turn of the checkpoint on, and marks the other chats
/// that worked on the files since. What one that belongs to no turn was taken
/// of is still there, so that nothing is trimmed.
pub(super) async fn go_back(
    connection: &mut PgConnection,
    session: Uuid,
    target: &Target,
) -> Result<Vec<Draft>, OperationsError> {
    let mut drafts = Vec::new();
    if target.of_turn {
        let trimmed: Vec<Uuid> = sqlx::query_scalar(TRIM)
            .bind(session)
            .bind(target.chat_id)
            .bind(target.moment)
            .fetch_all(&mut *connection)
            .await
            .map_err(operations_error)?;
        drafts.push(Draft {
            kind: FrameKind::MessagesTrimmed,
            chat: Some(target.chat_id),
            message: target.user_message_id,
            data: json!({
                "checkpoint_id": target.id,
                "trimmed": trimmed.len(),
                "message_ids": trimmed.iter().take(MAX_TRIMMED).collect::<Vec<_>>(),
            }),
        });
    }
    for chat in later_chats(connection, session, target).await? {
        let content = format!(
            "The files of this session were restored to checkpoint {} of another chat: what was changed after it is gone.",
            target.id
        );
        let message: Uuid = sqlx::query_scalar(MARK)
            .bind(session)
            .bind(chat)
            .bind(&content)
            .fetch_one(&mut *connection)
            .await
            .map_err(operations_error)?;
        drafts.push(Draft {
            kind: FrameKind::MessageComplete,
            chat: Some(chat),
            message: Some(message),
            data: json!({ "status": "complete", "role": "system", "content": content }),
        });
    }
    Ok(drafts)
}

/// Ends the tasks that wait for an answer to what a trimmed turn asked, or that have
/// it and wait for their turn: nobody could go on behind it.
pub(super) async fn end_detached(
    connection: &mut PgConnection,
    session: Uuid,
    target: &Target,
) -> Result<Vec<Frame>, OperationsError> {
    if !target.of_turn {
        return Ok(Vec::new());
    }
    let waiting: Vec<Uuid> = sqlx::query_scalar(DETACHED)
        .bind(session)
        .bind(target.chat_id)
        .bind(target.moment)
        .fetch_all(&mut *connection)
        .await
        .map_err(operations_error)?;
    let mut frames = Vec::new();
    for task in waiting {
        match cancel(connection, TaskId(task)).await {
            Ok(CancelRequest::Cancelled(told)) => frames.extend(told),
            Ok(CancelRequest::Requested(_) | CancelRequest::Ended) => {}
            Err(error) => return Err(refused(error.into())),
        }
    }
    Ok(frames)
}

/// Records what the worktree was before, so that there is a way forth again.
pub(super) async fn keep_undo(
    connection: &mut PgConnection,
    session: Uuid,
    target: &Target,
    plan: &Plan,
) -> Result<(), OperationsError> {
    let Some(undo) = &plan.undo else {
        return Ok(());
    };
    sqlx::query(UNDO)
        .bind(undo.id.0)
        .bind(target.chat_id)
        .bind(session)
        .bind(plan.worktree.id.0)
        .bind(&undo.commit)
        .execute(connection)
        .await
        .map_err(operations_error)?;
    Ok(())
}

/// Lets every agent of the chat begin a context of its own.
pub(super) async fn forget_contexts(
    connection: &mut PgConnection,
    target: &Target,
) -> Result<(), OperationsError> {
    sqlx::query("select hearth.reset_contexts($1, $2)")
        .bind(target.chat_id)
        .bind(WHY)
        .execute(connection)
        .await
        .map_err(operations_error)?;
    Ok(())
}
