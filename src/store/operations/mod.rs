//! The journal of operations: who works on a session's files while no turn does.
//!
//! Each call is one transaction that begins with the node's row, to see that
//! this life is the newest one, and goes on in the store's lock order: the
//! operation's row comes behind its gate.

mod adopt;
mod begin;
mod compare;
mod complete;
mod leave;
mod named;
mod restore;

use async_trait::async_trait;
use hearth_actors::event::Frame;
use hearth_actors::ids::{OperationId, SessionId};
use hearth_actors::model::Diff;
use hearth_actors::operation::{Abandoned, Asked, Begun, LeftBehind, OperationState, Owner};
use hearth_actors::ports::{Operations, OperationsError};
use hearth_actors::review::{Conflict, Plan, Step};
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use sqlx::{Acquire as _, FromRow};
use uuid::Uuid;

use super::error::{is_cancelled, is_transient};
use super::life::LIFE;
use super::text::{clean, clean_value};
use super::worktree_row::WorktreeRow;
use super::{Interrupted, Store, StoreError};

/// Files that a result lists; more are counted.
const MAX_FILES: usize = 1000;
/// Conflicts that a result lists.
const MAX_CONFLICTS: usize = 200;
/// Longest reason, in characters.
const MAX_DETAIL: usize = 2000;
/// Operations of earlier lives that are looked for: there is at most one open a session.
const MAX_LEFT: i64 = 1000;
/// Interrupted tasks whose files go back before others work, and worktrees that are
/// looked at: later looks, and next turns, find the rest.
const INTERRUPTED_AT_ONCE: i64 = 100;

/// As [`LIFE`], without its lock, which renewals would wait for: what has begun is
/// taken over by its own row.
const STILL: &str = "\
    select true from hearth.nodes n
    where n.id = $1 and n.incarnation = $2 and n.lease_until > clock_timestamp()";
const INTEND: &str = "\
    update hearth.operations o set plan = $4, state = 'intended',
        intended_at = coalesce(o.intended_at, clock_timestamp())
    where o.id = $1 and o.node = $2 and o.incarnation = $3
        and o.state in ('planning', 'intended')";
const LOCK_GATE: &str = "\
    select g.session_id from hearth.gates g where g.session_id = $1 for no key update";
const ABANDON: &str = "\
    with ended as (
        update hearth.operations o set state = 'abandoned', ended_at = clock_timestamp(),
            detail = $4, result = $5
        where o.id = $1 and o.node = $2 and o.incarnation = $3 and o.ended_at is null
        returning o.id, o.session_id),
    opened as (
        update hearth.gates g set operation = null
        from ended where g.session_id = ended.session_id and g.operation = ended.id)
    select true from ended";
const LEFT_BEHIND: &str = "\
    select o.id, o.session_id from hearth.operations o
    where o.node = $1 and o.incarnation < $2 and not o.settled
    order by o.created_at, o.id limit $3";
const TAKE_OVER: &str = "\
    with taken as (
        update hearth.operations o set incarnation = $2
        where o.id = $3 and o.node = $1 and not o.settled
        returning o.id, o.session_id, o.state, o.asked, o.plan)
    select t.id, t.session_id, t.state, t.asked, t.plan,
        w.id as worktree_id, w.path as worktree_path, w.branch, w.base_commit,
        coalesce(hw.baseline, w.base_commit) as baseline
    from taken t
        left join worktrees w on w.session_id = t.session_id and w.status = 'active'
        left join hearth.worktrees hw on hw.worktree_id = w.id";

#[async_trait]
impl Operations for Store {
    async fn begin(&self, asked: &Asked) -> Result<Begun, OperationsError> {
        self.begin_operation(asked).await
    }

    async fn intend(&self, owner: &Owner, plan: &Plan) -> Result<(), OperationsError> {
        let mut connection = self.pool.acquire().await.map_err(operations_error)?;
        let mut tx = connection.begin().await.map_err(operations_error)?;
        check_life(&mut tx, owner).await?;
        let intended = sqlx::query(INTEND)
            .bind(owner.id.0)
            .bind(owner.node.0)
            .bind(owner.incarnation)
            .bind(Json(stored(plan)?))
            .execute(&mut *tx)
            .await
            .map_err(operations_error)?
            .rows_affected();
        tx.commit().await.map_err(operations_error)?;
        if intended == 0 {
            return Err(OperationsError::Fenced);
        }
        Ok(())
    }

    async fn complete(
        &self,
        owner: &Owner,
        plan: &Plan,
        diff: &Diff,
    ) -> Result<Vec<Frame>, OperationsError> {
        self.complete_operation(owner, plan, diff).await
    }

    async fn abandon(&self, owner: &Owner, why: &Abandoned) -> Result<(), OperationsError> {
        let mut connection = self.pool.acquire().await.map_err(operations_error)?;
        let mut tx = connection.begin().await.map_err(operations_error)?;
        check_life(&mut tx, owner).await?;
        sqlx::query(LOCK_GATE)
            .bind(owner.session.0)
            .execute(&mut *tx)
            .await
            .map_err(operations_error)?;
        let ended: Option<bool> = sqlx::query_scalar(ABANDON)
            .bind(owner.id.0)
            .bind(owner.node.0)
            .bind(owner.incarnation)
            .bind(shortened(&why.why))
            .bind(Json(json!({ "conflicts": conflicts(&why.conflicts) })))
            .fetch_optional(&mut *tx)
            .await
            .map_err(operations_error)?;
        if ended.is_none() {
            let state: Option<String> =
                sqlx::query_scalar("select state from hearth.operations where id = $1")
                    .bind(owner.id.0)
                    .fetch_optional(&mut *tx)
                    .await
                    .map_err(operations_error)?;
            if state.is_some_and(|state| state != OperationState::Abandoned.as_str()) {
                return Err(OperationsError::Fenced);
            }
        }
        tx.commit().await.map_err(operations_error)
    }

    async fn settled(&self, id: OperationId) -> Result<(), OperationsError> {
        sqlx::query(
            "update hearth.operations set settled = true, plan = null
             where id = $1 and ended_at is not null",
        )
        .bind(id.0)
        .execute(&self.pool)
        .await
        .map_err(operations_error)?;
        Ok(())
    }

    async fn left_behind(&self) -> Result<Vec<(OperationId, SessionId)>, OperationsError> {
        let incarnation = self.incarnation();
        let mut connection = self.pool.acquire().await.map_err(operations_error)?;
        newest(&mut connection, STILL, self.node.0, incarnation).await?;
        let rows: Vec<(Uuid, Uuid)> = sqlx::query_as(LEFT_BEHIND)
            .bind(self.node.0)
            .bind(incarnation)
            .bind(MAX_LEFT)
            .fetch_all(&mut *connection)
            .await
            .map_err(operations_error)?;
        let left = rows.into_iter();
        Ok(left
            .map(|(id, session)| (OperationId(id), SessionId(session)))
            .collect())
    }

    async fn interrupted(&self) -> Result<Vec<Asked>, OperationsError> {
        let wanted = self.wanted_retries(None, INTERRUPTED_AT_ONCE).await;
        let wanted = wanted.map_err(refused)?;
        let mut orders: Vec<Asked> = wanted.iter().filter_map(Interrupted::order).collect();
        match self.uncompared(INTERRUPTED_AT_ONCE).await {
            Ok(uncompared) => orders.extend(uncompared),
            // The next turns look; what is to be tried again may not wait for this.
            Err(error) => tracing::warn!(%error, "worktrees that nobody compared were not found"),
        }
        Ok(orders)
    }

    async fn take_over(&self, id: OperationId) -> Result<Option<LeftBehind>, OperationsError> {
        let incarnation = self.incarnation();
        let mut connection = self.pool.acquire().await.map_err(operations_error)?;
        let mut tx = connection.begin().await.map_err(operations_error)?;
        alive(&mut tx, self.node.0, incarnation).await?;
        let row: Option<LeftRow> = sqlx::query_as(TAKE_OVER)
            .bind(self.node.0)
            .bind(incarnation)
            .bind(id.0)
            .fetch_optional(&mut *tx)
            .await
            .map_err(operations_error)?;
        tx.commit().await.map_err(operations_error)?;
        let left = row.and_then(|row| {
            row.left_behind(self, incarnation)
                .inspect_err(|why| {
                    tracing::error!(operation = %id, why, "an operation cannot be read: its session stays closed");
                })
                .ok()
        });
        Ok(left)
    }
}

/// # Errors
/// [`OperationsError::Fenced`] when a newer life of the node goes on with it.
async fn check_life(connection: &mut PgConnection, owner: &Owner) -> Result<(), OperationsError> {
    newest(connection, STILL, owner.node.0, owner.incarnation).await
}

async fn alive(
    connection: &mut PgConnection,
    node: Uuid,
    incarnation: i64,
) -> Result<(), OperationsError> {
    newest(connection, LIFE, node, incarnation).await
}

async fn newest(
    connection: &mut PgConnection,
    look: &'static str,
    node: Uuid,
    incarnation: i64,
) -> Result<(), OperationsError> {
    let alive: Option<bool> = sqlx::query_scalar(look)
        .bind(node)
        .bind(incarnation)
        .fetch_optional(connection)
        .await
        .map_err(operations_error)?;
    alive.map(drop).ok_or(OperationsError::Fenced)
}

#[derive(FromRow)]
struct LeftRow {
    id: Uuid,
    session_id: Uuid,
    state: String,
    asked: Value,
    plan: Option<Value>,
    #[sqlx(flatten)]
    worktree: WorktreeRow,
}

impl LeftRow {
    fn left_behind(self, store: &Store, incarnation: i64) -> Result<LeftBehind, String> {
        let state = OperationState::parse(&self.state)
            .ok_or_else(|| format!("its state is `{}`", self.state))?;
        let order = serde_json::from_value(self.asked).map_err(|error| error.to_string())?;
        let plan = self.plan.map(serde_json::from_value::<Plan>).transpose();
        let plan = plan.map_err(|error| error.to_string())?;
        let ended = matches!(state, OperationState::Done | OperationState::Abandoned);
        let worktree = self.worktree.worktree();
        let plan = match (plan, worktree) {
            (Some(mut plan), worktree) => {
                // Others may have moved it since: the ref follows the row.
                if let Some(worktree) = worktree.filter(|of| ended && of.id == plan.worktree.id) {
                    plan.baseline = worktree.baseline;
                }
                Some(plan)
            }
            (None, Some(worktree)) => Some(Plan::nothing(self.id.into(), worktree)),
            (None, None) => None,
        };
        Ok(LeftBehind {
            owner: Owner {
                id: self.id.into(),
                session: self.session_id.into(),
                node: store.node,
                incarnation,
            },
            order,
            state,
            plan,
        })
    }
}

/// A plan holds no NUL: no path can.
fn stored(plan: &Plan) -> Result<Value, OperationsError> {
    serde_json::to_value(plan).map_err(|error| OperationsError::Refused(error.to_string()))
}

fn shortened(text: &str) -> String {
    clean(text).chars().take(MAX_DETAIL).collect()
}

/// What `result` keeps of files that were written: path and what happened.
fn files(steps: &[Step]) -> Value {
    let listed = steps.iter().take(MAX_FILES).map(|step| {
        let operation = match (&step.from, &step.to) {
            (None, _) => "create",
            (_, None) => "delete",
            _ => "edit",
        };
        json!({ "path": clean(&step.path), "operation": operation })
    });
    listed.collect()
}

fn conflicts(conflicts: &[Conflict]) -> Value {
    let listed: Vec<_> = conflicts.iter().take(MAX_CONFLICTS).collect();
    clean_value(&serde_json::to_value(listed).unwrap_or_default())
}

/// Trouble that passes is for another try; what was refused stays refused.
pub(super) fn operations_error(error: sqlx::Error) -> OperationsError {
    if is_cancelled(&error) {
        OperationsError::TooLong(error.to_string())
    } else if is_transient(&error) {
        OperationsError::Unavailable(error.into())
    } else {
        OperationsError::Refused(error.to_string())
    }
}

/// The same for what other rooms of the store say.
fn refused(error: StoreError) -> OperationsError {
    match error {
        StoreError::Unavailable(source) | StoreError::InDoubt(source) => {
            OperationsError::Unavailable(source)
        }
        other => OperationsError::Refused(other.to_string()),
    }
}

/// The session's own name for what holds its gate.
fn busy(session: SessionId, holder: &str) -> OperationsError {
    OperationsError::Busy(format!(
        "{holder} works on the files of session {session}: wait until it is over, then repeat this"
    ))
}
