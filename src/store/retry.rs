//! Trying a failed task again: a new task, made once, however often it is asked
//! for, on the files as they are or as they were before its first turn.

use hearth_actors::ids::{AgentName, TaskId};
use hearth_actors::limits::Budget;
use hearth_actors::model::Policy;
use serde_json::Value;
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use super::control::Created;
use super::drafts::Draft;
use super::queue::features;
use super::{Store, StoreError};

/// Under it the new task is found again. The old task's id is its scope, which
/// no other request has: theirs are chats and projects.
const KEY: &str = "retry";

const TASK: &str = "\
    select t.state, t.project_id, t.session_id, t.chat_id, t.parent_task_id, t.input, t.agent,
        t.model, t.mode_id, t.thinking_option_id, t.feature_values,
        coalesce(q.policy, case when q.user_message_id is null then 'deny' end) as policy, q.budget
    from tasks t left join hearth.queue q on q.task_id = t.id
    where t.id = $1";

/// What the files were before task $1 was prompted first; `retried` if it was
/// tried again already.
const BEFORE: &str = "\
    select k.state, k.session_id, k.chat_id, first.checkpoint_id, first.id is not null as prompted,
        exists (select 1 from hearth.queue r where r.retry_of = k.id) as retried
    from tasks k left join lateral (
        select t.id, c.id as checkpoint_id from hearth.turns t
            left join checkpoints c on c.id = t.checkpoint_id
        where t.task_id = k.id and t.prompted_at is not null order by t.attempt limit 1) first on true
    where k.id = $1";
/// Interrupted tasks that are to be tried again by themselves, once each: a task
/// that tries one again is not. What worked on the files since would be lost.
const WANTED: &str = "\
    select k.id from hearth.queue q join tasks k on k.id = q.task_id
        join lateral (
            select t.outcome, t.claimed_at from hearth.turns t
            where t.task_id = k.id order by t.attempt desc limit 1) last on true
    where q.on_interrupt = 'retry' and q.retry_of is null and not q.waiting
        and k.state = 'failed' and last.outcome = 'interrupted'
        and not exists (select 1 from hearth.queue r where r.retry_of = k.id)
        and not exists (select 1 from hearth.dismissed_tasks d where d.task_id = k.id)
        and not exists (
            select 1 from hearth.turns l
            where l.session_id = q.session_id and l.task_id <> k.id
                and l.claimed_at > last.claimed_at and l.prompted_at is not null)
    order by last.claimed_at limit 100";

/// A task that waits for a time or a budget is looked at again.
const NOW: &str = "\
    update hearth.queue set not_before = null
    where task_id = $1 and waiting and not_before < 'infinity'
    returning task_id";

/// What the files of a task were before it.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Before {
    /// The task's.
    pub state: String,
    /// Its workspace.
    pub session_id: Option<Uuid>,
    /// Its tab.
    pub chat_id: Option<Uuid>,
    /// The checkpoint, if it is still kept.
    pub checkpoint_id: Option<Uuid>,
    /// An agent was prompted: it may have changed files.
    pub prompted: bool,
    /// It was tried again already.
    pub retried: bool,
}

/// What became of a retry.
#[derive(Clone, Debug, PartialEq)]
pub enum Retry {
    /// A new task waits; `repeated` if an earlier retry made it.
    Created(Created),
    /// The task is not one that failed: this is its state.
    NotFailed(String),
}

#[derive(FromRow)]
struct Row {
    state: String,
    project_id: Uuid,
    session_id: Option<Uuid>,
    chat_id: Option<Uuid>,
    parent_task_id: Option<Uuid>,
    input: String,
    agent: Option<String>,
    model: Option<String>,
    mode_id: Option<String>,
    thinking_option_id: Option<String>,
    feature_values: Option<Value>,
    policy: Option<String>,
    budget: Option<Json<Budget>>,
}

impl Store {
    /// Who is to run the task, if it names somebody; none if there is no such
    /// task.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn agent_of(&self, task: TaskId) -> Result<Option<Option<String>>, StoreError> {
        let agent = sqlx::query_scalar("select agent from tasks where id = $1")
            .bind(task.0)
            .fetch_optional(&self.pool)
            .await?;
        Ok(agent)
    }

    /// What a task's files were before its first turn; none if there is no such
    /// task.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn before(&self, task: TaskId) -> Result<Option<Before>, StoreError> {
        let before = sqlx::query_as(BEFORE)
            .bind(task.0)
            .fetch_optional(&self.pool)
            .await?;
        Ok(before)
    }

    /// Interrupted tasks whose creator wanted them to be tried again, and which
    /// nobody has tried or dismissed yet.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn wanted_retries(&self) -> Result<Vec<TaskId>, StoreError> {
        let tasks: Vec<Uuid> = sqlx::query_scalar(WANTED).fetch_all(&self.pool).await?;
        Ok(tasks.into_iter().map(TaskId).collect())
    }

    /// Lets a parked task be claimed as soon as its turn comes; what parked it may
    /// do so again. None if the task is not parked.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn try_now(&self, task: TaskId) -> Result<Option<Created>, StoreError> {
        let waited: Option<Uuid> = sqlx::query_scalar(NOW)
            .bind(task.0)
            .fetch_optional(&self.pool)
            .await?;
        match waited {
            Some(_) => self.created(task, true, Vec::new()).await.map(Some),
            None => Ok(None),
        }
    }

    /// Queues the failed `task` again, at the end of its session's queue: same
    /// chat, agent, prompt and policy. A second call finds the first one's task.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the task, or for its session if that is gone.
    pub async fn retry(&self, task: TaskId) -> Result<Retry, StoreError> {
        let row: Option<Row> = sqlx::query_as(TASK)
            .bind(task.0)
            .fetch_optional(&self.pool)
            .await?;
        let Some(row) = row else {
            return Err(StoreError::NotFound {
                what: "task",
                id: task.to_string(),
            });
        };
        // It does not change any more.
        if row.state != "failed" {
            return Ok(Retry::NotFailed(row.state));
        }
        let agent = row.agent.as_deref().map(AgentName::from);
        let features = features(row.feature_values);
        let draft = Draft {
            scope: task.0,
            project: Some(row.project_id),
            session: row.session_id,
            chat: row.chat_id,
            parent: row.parent_task_id,
            input: &row.input,
            input_field: "input",
            agent: agent.as_ref(),
            model: row.model.as_deref(),
            mode: row.mode_id.as_deref(),
            thinking: row.thinking_option_id.as_deref(),
            features: &features,
            policy: row.policy.as_deref().and_then(Policy::parse),
            budget: row.budget.map(|budget| budget.0),
            interrupt: false,
            retry_interrupted: false,
            retry_of: Some(task),
            key: Some(KEY),
        };
        self.create(draft).await.map(Retry::Created)
    }
}
