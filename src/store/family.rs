//! Tasks that tasks ask for: how deep, how many, and how free.

use std::collections::BTreeSet;

use hearth_actors::ids::TaskId;
use hearth_actors::model::Policy;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::drafts::Draft;
use super::{Store, StoreError};

/// How far a task may go in asking for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FamilyLimits {
    /// Generations below the first task.
    pub depth: u32,
    /// Children of one task.
    pub children: u32,
}

impl Default for FamilyLimits {
    /// 3 generations, 8 children each.
    fn default() -> Self {
        Self {
            depth: 3,
            children: 8,
        }
    }
}

/// Generations above task $1, up to $2.
const GENERATION: &str = "\
    with recursive line as (
        select t.id, t.parent_task_id, 1 as generation from tasks t where t.id = $1
        union all
        select t.id, t.parent_task_id, l.generation + 1
        from line l join tasks t on t.id = l.parent_task_id where l.generation <= $2)
    select max(generation) from line";

impl Store {
    /// Who runs a task, and how freely if that was settled when it was created;
    /// otherwise its agent's own policy applies. None when there is no such task.
    ///
    /// # Errors
    /// The database's.
    pub async fn policy_of(
        &self,
        task: TaskId,
    ) -> Result<Option<(Option<String>, Option<Policy>)>, StoreError> {
        let row: Option<(Option<String>, Option<String>)> = sqlx::query_as(
            // Nobody watches a task that came without a message.
            "select nullif(q.agent, ''),
                coalesce(q.policy, case when q.user_message_id is null then 'deny' end)
             from hearth.queue q where q.task_id = $1",
        )
        .bind(task.0)
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|(agent, policy)| (agent, policy.as_deref().and_then(Policy::parse))))
    }
}

/// Why a transaction over several sessions did not happen.
#[derive(Debug)]
pub(super) enum Unlocked {
    /// Another session belongs to it by now: lock all of them from the start.
    Again,
    /// As it says.
    Failed(StoreError),
}

impl From<StoreError> for Unlocked {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

impl From<sqlx::Error> for Unlocked {
    fn from(error: sqlx::Error) -> Self {
        // Of two that wait for each other the database ends one.
        let state = error.as_database_error().and_then(|error| error.code());
        if state.as_deref() == Some("40P01") {
            Self::Again
        } else {
            Self::Failed(error.into())
        }
    }
}

impl From<Unlocked> for StoreError {
    fn from(unlocked: Unlocked) -> Self {
        match unlocked {
            Unlocked::Failed(error) => error,
            Unlocked::Again => {
                Self::Unavailable("the family of the task does not stand still".into())
            }
        }
    }
}

/// How often such a transaction is tried.
pub(super) struct Tries(u32);

impl Tries {
    pub(super) fn new() -> Self {
        Self(8)
    }

    pub(super) fn again(&mut self) -> bool {
        self.0 = self.0.saturating_sub(1);
        self.0 > 0
    }
}

/// Gates are locked before anything else and in one order: what is cancelled here
/// takes the streams of its parents, for which the end of a child may wait that
/// holds another gate.
const LOCK_BOTH: &str = "\
    select 1 from hearth.gates g
    where g.session_id in (
        select q.session_id from hearth.queue q where q.task_id = $1
        union all select $2::uuid
        union all select c.session_id from chats c where c.id = $3)
    order by g.session_id for no key update";
const LOCK_GATES: &str = "\
    select g.session_id from hearth.gates g where g.session_id = any($1)
    order by g.session_id for no key update";
const PARENT: &str = "\
    select t.state, exists (
        select 1 from hearth.turns u
        where u.task_id = t.id and u.ended_at is null and u.cancel_requested_at is not null)
    from hearth.queue q join tasks t on t.id = q.task_id
    where q.task_id = $1 for no key update of q";

/// Refuses a child too many or too deep, and one of a task that is over or being
/// cancelled. Children of one parent that are created at the same time, and the
/// end of the parent, wait here for each other.
pub(super) async fn admit(
    tx: &mut PgConnection,
    parent: Uuid,
    draft: &Draft<'_>,
    limits: FamilyLimits,
) -> Result<(), Unlocked> {
    sqlx::query(LOCK_BOTH)
        .bind(parent)
        .bind(draft.session)
        .bind(draft.chat)
        .execute(&mut *tx)
        .await?;
    let state: Option<(String, bool)> = sqlx::query_as(PARENT)
        .bind(parent)
        .fetch_optional(&mut *tx)
        .await?;
    let over = match &state {
        Some((_, true)) => Some("is being cancelled"),
        Some((state, _)) => match state.as_str() {
            "cancelled" => Some("was cancelled"),
            "completed" | "failed" => Some("has ended"),
            _ => None,
        },
        None => None,
    };
    if let Some(over) = over {
        return Err(too_many(format!(
            "task {parent} {over}: it can ask for no more tasks"
        )));
    }
    let children: i64 = sqlx::query_scalar("select count(*) from tasks where parent_task_id = $1")
        .bind(parent)
        .fetch_one(&mut *tx)
        .await?;
    if children >= i64::from(limits.children) {
        return Err(too_many(format!(
            "task {parent} has asked for {children} tasks, which is the limit: \
             do the rest in the task itself, or raise HEARTH_TASKS_MAX_CHILDREN"
        )));
    }
    let most = i32::try_from(limits.depth).unwrap_or(i32::MAX);
    let generation: Option<i32> = sqlx::query_scalar(GENERATION)
        .bind(parent)
        .bind(most)
        .fetch_one(tx)
        .await?;
    if generation.unwrap_or(0) > most {
        return Err(too_many(format!(
            "task {parent} is {most} generations below the first one, which is the limit: \
             do the work in the task itself, or raise HEARTH_TASKS_MAX_DEPTH"
        )));
    }
    Ok(())
}

fn too_many(why: String) -> Unlocked {
    Unlocked::Failed(StoreError::TooManyTasks(why))
}

/// Tasks below `task` that wait, with their sessions, in the order of these.
const WAITING_BELOW: &str = "\
    with recursive below as (
        select t.id, t.state, t.session_id from tasks t where t.parent_task_id = $1
        union
        select t.id, t.state, t.session_id
        from below b join tasks t on t.parent_task_id = b.id)
    select id, session_id from below where state = 'pending' order by session_id, id";

/// Locks the gates of `task` and of all that waits below it, and tells what does.
pub(super) async fn lock_waiting_below(
    tx: &mut PgConnection,
    task: Uuid,
) -> Result<Vec<Uuid>, Unlocked> {
    let own: Option<Uuid> =
        sqlx::query_scalar("select session_id from hearth.queue where task_id = $1")
            .bind(task)
            .fetch_optional(&mut *tx)
            .await?;
    let before: Vec<(Uuid, Option<Uuid>)> = sqlx::query_as(WAITING_BELOW)
        .bind(task)
        .fetch_all(&mut *tx)
        .await?;
    let sessions: BTreeSet<Uuid> = before.iter().filter_map(|(_, of)| *of).chain(own).collect();
    sqlx::query(LOCK_GATES)
        .bind(sessions.iter().copied().collect::<Vec<_>>())
        .execute(&mut *tx)
        .await?;
    // What came while the locks were waited for.
    let waiting: Vec<(Uuid, Option<Uuid>)> = sqlx::query_as(WAITING_BELOW)
        .bind(task)
        .fetch_all(tx)
        .await?;
    let known = |of: &Option<Uuid>| of.is_none_or(|of| sessions.contains(&of));
    if waiting.iter().all(|(_, of)| known(of)) {
        Ok(waiting.into_iter().map(|(id, _)| id).collect())
    } else {
        Err(Unlocked::Again)
    }
}
