//! Taking the gate, with everything that planning needs.

use std::path::PathBuf;

use hearth_actors::ids::ChatId;
use hearth_actors::model::Checkpoint;
use hearth_actors::operation::{Asked, Begun, Owner, Started};
use hearth_actors::ports::OperationsError;
use hearth_actors::review::{GoingBack, Order, Work};
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use sqlx::{Acquire as _, FromRow};
use uuid::Uuid;

use super::named::{self, Named};
use super::restore::{later_chats, target};
use super::{adopt, alive, busy, leave, operations_error};
use crate::store::Store;
use crate::store::text::clean;
use crate::store::worktree_row::WorktreeRow;

/// A session that plain SQL made has no gate or stream before its first task.
const MAKE_GATE: &str = "\
    with gate as (
        insert into hearth.gates(session_id) select id from sessions where id = $1
        on conflict do nothing)
    insert into hearth.streams(session_id) select id from sessions where id = $1
    on conflict do nothing";
const GATE: &str = "\
    select g.turn_id, g.operation, g.arena, g.node, g.deleted_at is not null as deleted,
        pr.path as project_path
    from hearth.gates g
        join sessions s on s.id = g.session_id
        join projects pr on pr.id = s.project_id
    where g.session_id = $1
    for no key update of g";
const WORKTREE: &str = "\
    select w.id as worktree_id, w.path as worktree_path, w.branch, w.base_commit,
        coalesce(hw.baseline, w.base_commit) as baseline, hw.last_tree
    from worktrees w left join hearth.worktrees hw on hw.worktree_id = w.id
    where w.session_id = $1 and w.status = 'active'";
const HOLDER: &str = "\
    select format('%s of %s', o.kind, to_char(o.created_at at time zone 'utc', 'HH24:MI:SS \"UTC\"'))
    from hearth.operations o where o.id = $1";
const TAKE: &str = "\
    with made as (
        insert into hearth.operations (id, session_id, kind, asked, node, incarnation, caller)
        values ($1, $2, $3, $4, $5, $6, $7)
        returning id, session_id)
    update hearth.gates g set operation = made.id, node = $5
    from made where g.session_id = made.session_id";

#[derive(FromRow)]
struct Here {
    #[sqlx(flatten)]
    worktree: WorktreeRow,
    last_tree: Option<String>,
}

#[derive(FromRow)]
struct Gate {
    turn_id: Option<Uuid>,
    operation: Option<Uuid>,
    arena: Option<Uuid>,
    node: Option<Uuid>,
    deleted: bool,
    project_path: String,
}

impl Store {
    pub(super) async fn begin_operation(&self, asked: &Asked) -> Result<Begun, OperationsError> {
        let incarnation = self.incarnation();
        let mut connection = self.pool.acquire().await.map_err(operations_error)?;
        let mut tx = connection.begin().await.map_err(operations_error)?;
        alive(&mut tx, self.node.0, incarnation).await?;
        let winner = match &asked.order {
            Order::Adopt { arena, task, .. } => {
                Some(adopt::winner(&mut tx, asked.session, *arena, *task).await?)
            }
            _ => None,
        };
        let gate = self.free_gate(&mut tx, asked).await?;
        let here: Option<Here> = sqlx::query_as(WORKTREE)
            .bind(asked.session.0)
            .fetch_optional(&mut *tx)
            .await
            .map_err(operations_error)?;
        let looked_at = here.as_ref().is_some_and(|here| here.last_tree.is_some());
        let Some(worktree) = here.and_then(|here| here.worktree.worktree()) else {
            return Err(OperationsError::Wrong {
                code: "no_worktree",
                what: format!(
                    "session {} has no worktree: nothing has run in it yet",
                    asked.session
                ),
            });
        };
        if looked_at && matches!(asked.order, Order::Compare { .. }) {
            return Ok(Begun::Nothing {
                already: Vec::new(),
                left_alone: Vec::new(),
            });
        }
        let mut checkpoint = None;
        let whole = asked.order.is_whole();
        if let Some(leave) = asked.order.leaves() {
            leave::may_leave(&mut tx, asked.session.0, leave).await?;
        }
        let found = match asked.order.goes_back() {
            None if whole => Named::default(),
            Some(back) => {
                if let Some(task) = back.retries {
                    self.may_retry(&mut tx, &back, task).await?;
                }
                checkpoint = Some(may_restore(&mut tx, asked, &back).await?);
                Named::default()
            }
            None => {
                let (session, of) = winner.unwrap_or((asked.session, worktree.id));
                named::changes(&mut tx, session, of, &asked.order).await?
            }
        };
        if found.changes.is_empty() && checkpoint.is_none() && !whole {
            return Ok(Begun::Nothing {
                already: found.already,
                left_alone: found.left_alone,
            });
        }
        let order = asked
            .order
            .naming(found.changes.iter().map(|change| change.id).collect());
        sqlx::query(TAKE)
            .bind(asked.id.0)
            .bind(asked.session.0)
            .bind(order.kind())
            .bind(Json(&order))
            .bind(self.node.0)
            .bind(incarnation)
            .bind(clean(&asked.caller))
            .execute(&mut *tx)
            .await
            .map_err(operations_error)?;
        tx.commit().await.map_err(operations_error)?;
        Ok(Begun::Work(Box::new(Started {
            owner: Owner {
                id: asked.id,
                session: asked.session,
                node: self.node,
                incarnation,
            },
            work: Work {
                id: asked.id,
                order,
                session: asked.session,
                worktree,
                project_path: PathBuf::from(gate.project_path),
                changes: found.changes,
                checkpoint,
            },
            already: found.already,
            left_alone: found.left_alone,
        })))
    }

    /// Locks the gate until the end of the transaction.
    async fn free_gate(
        &self,
        connection: &mut PgConnection,
        asked: &Asked,
    ) -> Result<Gate, OperationsError> {
        sqlx::query(MAKE_GATE)
            .bind(asked.session.0)
            .execute(&mut *connection)
            .await
            .map_err(operations_error)?;
        let gate: Option<Gate> = sqlx::query_as(GATE)
            .bind(asked.session.0)
            .fetch_optional(&mut *connection)
            .await
            .map_err(operations_error)?;
        let Some(gate) = gate.filter(|gate| !gate.deleted) else {
            return Err(OperationsError::Wrong {
                code: "not_found",
                what: format!("there is no session {}", asked.session),
            });
        };
        if gate.turn_id.is_some() {
            return Err(busy(asked.session, "a turn"));
        }
        if let Some(arena) = gate.arena {
            return Err(busy(asked.session, &format!("arena {arena}")));
        }
        if let Some(operation) = gate.operation {
            let holder: Option<String> = sqlx::query_scalar(HOLDER)
                .bind(operation)
                .fetch_optional(&mut *connection)
                .await
                .map_err(operations_error)?;
            let holder = holder.map_or_else(
                || format!("operation {operation}"),
                |what| format!("the {what}"),
            );
            return Err(busy(asked.session, &holder));
        }
        if gate.node.is_some_and(|node| node != self.node.0) {
            return Err(OperationsError::Wrong {
                code: "other_node",
                what: format!(
                    "the files of session {} are on another node: ask it there",
                    asked.session
                ),
            });
        }
        Ok(gate)
    }
}

/// The checkpoint of that chat, unless others' later turns would lose files that
/// nobody said they may lose.
async fn may_restore(
    connection: &mut PgConnection,
    asked: &Asked,
    back: &GoingBack,
) -> Result<Checkpoint, OperationsError> {
    let (id, chat) = (back.checkpoint, back.chat);
    let Some(target) = target(connection, asked.session.0, id.0, chat.0).await? else {
        return Err(OperationsError::Wrong {
            code: "not_found",
            what: format!("session {} has no checkpoint {id}", asked.session),
        });
    };
    if !back.consent {
        let chats = later_chats(connection, asked.session.0, &target).await?;
        if !chats.is_empty() {
            let chats = chats.into_iter().map(ChatId).collect();
            return Err(OperationsError::NeedsConsent(chats));
        }
    }
    Ok(Checkpoint {
        id,
        commit: target.commit_sha,
        // The commit names it; nobody else needs it here.
        tree: String::new(),
    })
}
