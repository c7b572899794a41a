//! The end of an operation that was carried out: one transaction.

use hearth_actors::event::{Frame, FrameKind};
use hearth_actors::model::Diff;
use hearth_actors::operation::{OperationState, Owner};
use hearth_actors::ports::OperationsError;
use hearth_actors::review::{Order, Plan};
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use sqlx::{Acquire as _, FromRow};
use uuid::Uuid;

use super::{
    LOCK_GATE, adopt, check_life, compare, files, leave, operations_error, refused, restore,
};
use crate::store::Store;
use crate::store::finish::{bind_changes, covered_to, notes};
use crate::store::frames::{FrameRow, in_order};
use crate::store::retry::queue_again;
use crate::store::text::json as json_text;

const OPERATION: &str = "\
    select o.state, o.asked, o.first_seq, o.last_seq from hearth.operations o
    where o.id = $1 and o.node = $2 and o.incarnation = $3
    for no key update";
const STATUS: &str = "\
    update pending_changes set status = $2 where id = any($1) and status = $3";
const APPLIED: &str = "\
    update hearth.changes c set applied = a.steps, applied_at = statement_timestamp()
    from unnest($1::uuid[], $2::jsonb[]) a(id, steps) where c.change_id = a.id";
const BASELINE: &str = "\
    insert into hearth.worktrees as w (worktree_id, baseline, last_tree) values ($1, $2, $3)
    on conflict (worktree_id) do update set baseline = excluded.baseline,
        last_tree = excluded.last_tree, updated_at = clock_timestamp()";
const CHANGES: &str = concat!(
    include_str!("../sql/operation_changes.sql"),
    include_str!("../sql/changes.sql"),
    include_str!("../sql/operation_changes_end.sql")
);
const FRAMES: &str = "\
    with drafts as materialized (
        select * from unnest($2::text[], $3::uuid[], $4::uuid[], $5::jsonb[]) with ordinality
            d(kind, chat_id, message_id, data, n)),
    stream as (
        update hearth.streams s set last_seq = s.last_seq + (select count(*) from drafts)
        where s.session_id = $1
        returning s.last_seq - (select count(*) from drafts) as base, clock_timestamp() as at)
    insert into hearth.frames (session_id, seq, kind, chat_id, message_id, data, at)
    select $1, stream.base + d.n, d.kind, d.chat_id, d.message_id, d.data, stream.at
    from stream cross join drafts d
    returning seq, kind, session_id, chat_id, task_id, message_id, at, data";
const TOLD: &str = "\
    select seq, kind, session_id, chat_id, task_id, message_id, at, data from hearth.frames
    where session_id = $1 and seq between $2 and $3";
const END: &str = "\
    with opened as (
        update hearth.gates g set operation = null
        where g.session_id = $2 and g.operation = $1)
    update hearth.operations set state = 'done', ended_at = clock_timestamp(), result = $3,
        first_seq = $4, last_seq = $5
    where id = $1";

/// A frame of the session before it has a seq.
pub(super) struct Draft {
    pub(super) kind: FrameKind,
    pub(super) chat: Option<Uuid>,
    pub(super) message: Option<Uuid>,
    pub(super) data: Value,
}

#[derive(FromRow)]
struct OperationRow {
    state: String,
    asked: Json<Order>,
    first_seq: Option<i64>,
    last_seq: Option<i64>,
}

#[derive(FromRow)]
struct Counts {
    gone: i64,
    added: Vec<Uuid>,
}

impl Store {
    pub(super) async fn complete_operation(
        &self,
        owner: &Owner,
        plan: &Plan,
        diff: &Diff,
    ) -> Result<Vec<Frame>, OperationsError> {
        let mut connection = self.pool.acquire().await.map_err(operations_error)?;
        let mut tx = connection.begin().await.map_err(operations_error)?;
        check_life(&mut tx, owner).await?;
        adopt::lock(&mut tx, owner.id.0)
            .await
            .map_err(operations_error)?;
        sqlx::query(LOCK_GATE)
            .bind(owner.session.0)
            .execute(&mut *tx)
            .await
            .map_err(operations_error)?;
        let row: Option<OperationRow> = sqlx::query_as(OPERATION)
            .bind(owner.id.0)
            .bind(owner.node.0)
            .bind(owner.incarnation)
            .fetch_optional(&mut *tx)
            .await
            .map_err(operations_error)?;
        let row = row.ok_or(OperationsError::Fenced)?;
        match OperationState::parse(&row.state) {
            Some(OperationState::Intended) => {}
            Some(OperationState::Done) => {
                let frames = told(&mut tx, owner, &row).await?;
                // Dropped, it would hold the gate's lock until its connection is tidied.
                tx.rollback().await.map_err(operations_error)?;
                return Ok(frames);
            }
            _ => return Err(OperationsError::Fenced),
        }
        let order = row.asked.0;
        if let Some(leave) = order.leaves() {
            let frames = leave::left(&mut tx, owner, leave, plan).await?;
            tx.commit().await.map_err(operations_error)?;
            return Ok(frames);
        }
        let session = owner.session.0;
        let mut drafts = Vec::new();
        let mut target = None;
        let mut frames = Vec::new();
        let back = order.goes_back();
        if let Some(back) = &back {
            target = restore::target(&mut tx, session, back.checkpoint.0, back.chat.0).await?;
            if let Some(target) = &target {
                frames = restore::end_detached(&mut tx, session, target).await?;
                drafts = restore::go_back(&mut tx, session, target).await?;
                restore::keep_undo(&mut tx, session, target, plan).await?;
            }
        }
        sqlx::query(BASELINE)
            .bind(plan.worktree.id.0)
            .bind(&plan.baseline)
            .bind(&diff.tree)
            .execute(&mut *tx)
            .await
            .map_err(operations_error)?;
        settle_changes(&mut tx, &order, plan).await?;
        let counts = follow(&mut tx, session, plan, diff).await?;
        if let Order::Compare { task } = &order {
            compare::stamp(&mut tx, *task, &counts.added).await?;
        }
        if let Some(target) = &target {
            restore::forget_contexts(&mut tx, target).await?;
        }
        drafts.push(Draft {
            kind: FrameKind::PendingChangesUpdated,
            chat: None,
            message: None,
            data: news(owner, &order, diff, &counts),
        });
        let said = say(&mut tx, session, drafts).await?;
        let seqs = said.first().zip(said.last());
        sqlx::query(END)
            .bind(owner.id.0)
            .bind(session)
            .bind(Json(json!({
                "files": files(&plan.steps), "files_total": plan.steps.len(),
                "notes": plan.notes,
            })))
            .bind(seqs.map(|(first, _)| first.seq))
            .bind(seqs.map(|(_, last)| last.seq))
            .execute(&mut *tx)
            .await
            .map_err(operations_error)?;
        frames.extend(said);
        if let Order::Adopt { arena, task, .. } = &order {
            frames.extend(adopt::decide(&mut tx, session, *arena, *task, plan).await?);
        }
        if let Some(back) = back
            && let Some(task) = back.retries
        {
            let queued = queue_again(&mut tx, task, back.unasked).await;
            frames.extend(queued.map_err(refused)?);
        }
        tx.commit().await.map_err(operations_error)?;
        Ok(frames)
    }
}

/// The rows that the order names. A change that is taken out of the checkout is
/// `reverted`; its file comes back as a pending change of its own, because it
/// is no part of the baseline any more.
async fn settle_changes(
    connection: &mut PgConnection,
    order: &Order,
    plan: &Plan,
) -> Result<(), OperationsError> {
    let (from, to) = match order {
        Order::Apply { .. } => ("pending", "applied"),
        Order::Reject { .. } => ("pending", "rejected"),
        Order::Rewind { .. } => ("applied", "reverted"),
        _ => return Ok(()),
    };
    let ids: Vec<Uuid> = order.changes().iter().map(|id| id.0).collect();
    sqlx::query(STATUS)
        .bind(&ids)
        .bind(to)
        .bind(from)
        .execute(&mut *connection)
        .await
        .map_err(operations_error)?;
    if matches!(order, Order::Apply { .. }) {
        let ids: Vec<Uuid> = plan.accounts.iter().map(|(id, _)| id.0).collect();
        let steps: Vec<Json<_>> = plan.accounts.iter().map(|(_, steps)| Json(steps)).collect();
        sqlx::query(APPLIED)
            .bind(ids)
            .bind(steps)
            .execute(connection)
            .await
            .map_err(operations_error)?;
    }
    Ok(())
}

/// Lets the pending changes follow what the comparison found.
async fn follow(
    connection: &mut PgConnection,
    session: Uuid,
    plan: &Plan,
    diff: &Diff,
) -> Result<Counts, OperationsError> {
    let query = sqlx::query_as(CHANGES)
        .bind(plan.worktree.id.0)
        .bind(session)
        .bind(covered_to(diff));
    bind_changes(query, &diff.changes)
        .fetch_one(connection)
        .await
        .map_err(operations_error)
}

fn news(owner: &Owner, order: &Order, diff: &Diff, counts: &Counts) -> Value {
    let mut data = notes(diff).unwrap_or_else(|| json!({}));
    data["operation"] = json!({
        "id": owner.id, "kind": order.kind(), "changes": order.changes(),
        "gone": counts.gone, "added": counts.added.len(),
    });
    data
}

async fn say(
    connection: &mut PgConnection,
    session: Uuid,
    drafts: Vec<Draft>,
) -> Result<Vec<Frame>, OperationsError> {
    let kinds: Vec<&str> = drafts.iter().map(|draft| draft.kind.as_str()).collect();
    let chats: Vec<Option<Uuid>> = drafts.iter().map(|draft| draft.chat).collect();
    let messages: Vec<Option<Uuid>> = drafts.iter().map(|draft| draft.message).collect();
    let data: Vec<String> = drafts.iter().map(|draft| json_text(&draft.data)).collect();
    let rows: Vec<FrameRow> = sqlx::query_as(FRAMES)
        .bind(session)
        .bind(kinds)
        .bind(chats)
        .bind(messages)
        .bind(data)
        .fetch_all(connection)
        .await
        .map_err(operations_error)?;
    Ok(in_order(rows))
}

/// What the first completion told.
async fn told(
    connection: &mut PgConnection,
    owner: &Owner,
    row: &OperationRow,
) -> Result<Vec<Frame>, OperationsError> {
    let rows: Vec<FrameRow> = sqlx::query_as(TOLD)
        .bind(owner.session.0)
        .bind(row.first_seq)
        .bind(row.last_seq)
        .fetch_all(connection)
        .await
        .map_err(operations_error)?;
    Ok(in_order(rows))
}
