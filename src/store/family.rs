//! Tasks that tasks ask for: how deep, how many, and how free.

use hearth_actors::ids::TaskId;
use hearth_actors::model::Policy;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

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

/// Refuses a child too many or too deep. Children of one parent that are created
/// at the same time wait here for each other.
pub(super) async fn admit(
    tx: &mut PgConnection,
    parent: Uuid,
    limits: FamilyLimits,
) -> Result<(), StoreError> {
    let state: Option<String> = sqlx::query_scalar(
        "select t.state from hearth.queue q join tasks t on t.id = q.task_id
         where q.task_id = $1 for no key update of q",
    )
    .bind(parent)
    .fetch_optional(&mut *tx)
    .await?;
    if state.as_deref() == Some("cancelled") {
        return Err(StoreError::TooManyTasks(format!(
            "task {parent} was cancelled: it can ask for no more tasks"
        )));
    }
    let children: i64 = sqlx::query_scalar("select count(*) from tasks where parent_task_id = $1")
        .bind(parent)
        .fetch_one(&mut *tx)
        .await?;
    if children >= i64::from(limits.children) {
        return Err(StoreError::TooManyTasks(format!(
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
        return Err(StoreError::TooManyTasks(format!(
            "task {parent} is {most} generations below the first one, which is the limit: \
             do the work in the task itself, or raise HEARTH_TASKS_MAX_DEPTH"
        )));
    }
    Ok(())
}

/// Tasks below `task` that wait, in the order in which sessions are locked.
pub(super) async fn waiting_below(tx: &mut PgConnection, task: Uuid) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar(
        "with recursive below as (
            select t.id, t.state, t.session_id from tasks t where t.parent_task_id = $1
            union
            select t.id, t.state, t.session_id
            from below b join tasks t on t.parent_task_id = b.id)
         select id from below where state = 'pending' order by session_id, id",
    )
    .bind(task)
    .fetch_all(tx)
    .await
}
