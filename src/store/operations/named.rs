//! The changes that an order names.

use hearth_actors::ids::{ChangeId, SessionId, WorktreeId};
use hearth_actors::ports::OperationsError;
use hearth_actors::review::{FileState, Order, Recorded, Step};
use sqlx::FromRow;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::operations_error;

/// Those with an id in $2, or all in the state $3 of the worktree $4 when $2 is
/// null.
const CHANGES: &str = "\
    select p.id, p.session_id, p.file_path, p.status, c.change_id is not null as derived,
        c.worktree_id, c.old_path, c.before_blob, c.before_mode, c.after_blob, c.after_mode,
        coalesce(c.is_secret, false) as is_secret, c.applied,
        p.status = 'applied' and exists (
            select from pending_changes l left join hearth.changes lc on lc.change_id = l.id
            where l.session_id = p.session_id and l.status = 'applied'
                and (coalesce(lc.applied_at, l.created_at), l.id)
                    > (coalesce(c.applied_at, p.created_at), p.id)
                and array[l.file_path, lc.old_path] && array[p.file_path, c.old_path]
                and l.id <> all(coalesce($2, '{}'))) as covered
    from pending_changes p left join hearth.changes c on c.change_id = p.id
    where p.session_id = $1 and case when $2::uuid[] is null
        then p.status = $3 and c.worktree_id = $4 else p.id = any($2) end
    order by p.created_at, p.id";

/// What an order comes to.
#[derive(Default)]
pub(super) struct Named {
    /// What is to be done.
    pub(super) changes: Vec<Recorded>,
    /// What is as it should be.
    pub(super) already: Vec<ChangeId>,
    /// Secret-named files that nobody asked for.
    pub(super) left_alone: Vec<String>,
}

#[derive(FromRow)]
struct ChangeRow {
    id: Uuid,
    file_path: String,
    status: String,
    derived: bool,
    worktree_id: Option<Uuid>,
    old_path: Option<String>,
    before_blob: Option<String>,
    before_mode: Option<i32>,
    after_blob: Option<String>,
    after_mode: Option<i32>,
    is_secret: bool,
    applied: Option<Json<Vec<Step>>>,
    covered: bool,
}

/// The state that a change must be in, and the one in which nothing is to be
/// done.
fn states(order: &Order) -> (&'static str, &'static str) {
    match order {
        Order::Reject { .. } => ("pending", "rejected"),
        Order::Rewind { .. } => ("applied", "reverted"),
        // No row is ever in the latter: the winner's own rows stay as they are.
        Order::Adopt { .. } => ("pending", "adopted"),
        Order::Apply { .. }
        | Order::Restore { .. }
        | Order::Retry { .. }
        | Order::Compare { .. }
        | Order::Stash
        | Order::Archive(_) => ("pending", "applied"),
    }
}

pub(super) async fn changes(
    connection: &mut PgConnection,
    session: SessionId,
    worktree: WorktreeId,
    order: &Order,
) -> Result<Named, OperationsError> {
    let (wanted, done) = states(order);
    let mut ids: Vec<Uuid> = order.changes().iter().map(|id| id.0).collect();
    ids.sort_unstable();
    ids.dedup();
    let all = ids.is_empty();
    let rows: Vec<ChangeRow> = sqlx::query_as(CHANGES)
        .bind(session.0)
        .bind((!all).then_some(&ids))
        .bind(wanted)
        .bind(worktree.0)
        .fetch_all(connection)
        .await
        .map_err(operations_error)?;
    if let Some(id) = ids.iter().find(|id| rows.iter().all(|row| row.id != **id)) {
        return Err(OperationsError::Wrong {
            code: "unknown_change",
            what: format!("session {session} has no change {id}"),
        });
    }
    let secrets = matches!(order, Order::Apply { secrets: false, .. });
    let mut named = Named::default();
    for row in rows {
        if row.status == done {
            named.already.push(row.id.into());
        } else if row.status != wanted {
            return Err(row.wrong_state(wanted));
        } else if !row.derived || row.worktree_id != Some(worktree.0) {
            return Err(row.elsewhere());
        } else if all && secrets && row.is_secret {
            named.left_alone.push(row.file_path);
        } else {
            named.changes.push(row.recorded());
        }
    }
    Ok(named)
}

impl ChangeRow {
    fn wrong_state(&self, wanted: &str) -> OperationsError {
        OperationsError::Wrong {
            code: if wanted == "applied" {
                "not_applied"
            } else {
                "not_pending"
            },
            what: format!(
                "the change {} of {} is {}, not {wanted}: a newer change of the file, if there is one, is in the list",
                self.id, self.file_path, self.status
            ),
        }
    }

    fn elsewhere(&self) -> OperationsError {
        OperationsError::Wrong {
            code: "not_reviewable",
            what: format!(
                "the change {} of {} was not found in the session's worktree: Hearth cannot tell what it did",
                self.id, self.file_path
            ),
        }
    }

    fn recorded(self) -> Recorded {
        Recorded {
            id: self.id.into(),
            path: self.file_path,
            old_path: self.old_path,
            before: state(self.before_blob, self.before_mode),
            after: state(self.after_blob, self.after_mode),
            secret: self.is_secret,
            applied: self.applied.map(|Json(steps)| steps).unwrap_or_default(),
            covered: self.covered,
        }
    }
}

fn state(blob: Option<String>, mode: Option<i32>) -> Option<FileState> {
    Some(FileState {
        blob: blob?,
        mode: u32::try_from(mode?).ok()?,
    })
}
