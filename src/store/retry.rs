//! Trying a failed task again: a new task, made once, however often it is asked
//! for, on the files as they are or as they were before its first turn.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use hearth_actors::event::Frame;
use hearth_actors::ids::{AgentName, ChatId, CheckpointId, OperationId, SessionId, TaskId};
use hearth_actors::limits::Budget;
use hearth_actors::model::Policy;
use hearth_actors::operation::Asked;
use hearth_actors::ports::OperationsError;
use hearth_actors::review::{GoingBack, Order};
use serde_json::Value;
use sqlx::FromRow;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::control::Created;
use super::drafts::Draft;
use super::frames::in_order;
use super::operations::operations_error;
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
/// that tries one again is not. The files go back to before its first attempt, so
/// that what worked on them since then, between two attempts too, would be lost.
/// $1 is this node: turns of another one are its own to try again, as long as it
/// lives.
macro_rules! wanted {
    ($rest:literal) => {
        concat!(
            "select k.id as task_id, k.session_id, k.chat_id, last.claimed_at,
                c.id as checkpoint_id
             from hearth.turns last
                join hearth.queue q on q.task_id = last.task_id
                join tasks k on k.id = last.task_id
                join lateral (
                    select f.claimed_at, f.checkpoint_id from hearth.turns f
                    where f.task_id = k.id and f.prompted_at is not null
                    order by f.attempt limit 1) first on true
                left join checkpoints c on c.id = first.checkpoint_id
             where last.outcome not in ('ok', 'cancelled') and not last.settled
                and last.outcome = 'interrupted' and k.state = 'failed'
                and q.on_interrupt = 'retry' and q.retry_of is null and not q.waiting
                and (last.node = $1 or not exists (
                    select from hearth.nodes n
                    where n.id = last.node and n.lease_until > clock_timestamp()))
                and not exists (
                    select from hearth.turns l where l.task_id = k.id and l.attempt > last.attempt)
                and not exists (select from hearth.queue r where r.retry_of = k.id)
                and not exists (select from hearth.dismissed_tasks d where d.task_id = k.id)
                and not exists (
                    select from hearth.turns l
                    where l.session_id = q.session_id and l.task_id <> k.id
                        and l.claimed_at > first.claimed_at and l.prompted_at is not null)
                and not exists (
                    select from hearth.operations o
                    where o.session_id = q.session_id and o.state = 'done' and o.kind <> 'compare'
                        and o.ended_at > first.claimed_at) ",
            $rest
        )
    };
}

/// Behind ($2, $3).
const WANTED: &str = wanted!(
    "and ($2::timestamptz is null or (last.claimed_at, k.id) > ($2, $3::uuid))
     order by last.claimed_at, k.id limit $4"
);
const STILL_WANTED: &str = wanted!("and k.id = $2");

/// An interrupted task that is to be tried again by itself.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Interrupted {
    /// Which.
    pub task_id: Uuid,
    /// Its workspace.
    pub session_id: Option<Uuid>,
    /// Its tab.
    pub chat_id: Option<Uuid>,
    /// What the files were before its first turn, if that is still kept.
    pub checkpoint_id: Option<Uuid>,
    /// When its last turn began.
    pub claimed_at: DateTime<Utc>,
}

impl Interrupted {
    /// Brings its files back and queues it; none if what they were is not kept.
    #[must_use]
    pub fn order(&self) -> Option<Asked> {
        Some(Asked {
            id: OperationId::new(),
            session: SessionId(self.session_id?),
            order: Order::Retry {
                checkpoint: CheckpointId(self.checkpoint_id?),
                chat: ChatId(self.chat_id?),
                task: TaskId(self.task_id),
            },
            caller: "on_interrupt".into(),
        })
    }
}

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
    /// nobody has tried or dismissed yet: at most `limit`, the oldest turns first,
    /// behind `after`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn wanted_retries(
        &self,
        after: Option<&Interrupted>,
        limit: i64,
    ) -> Result<Vec<Interrupted>, StoreError> {
        let tasks = sqlx::query_as(WANTED)
            .bind(self.node.0)
            .bind(after.map(|last| last.claimed_at))
            .bind(after.map(|last| last.task_id))
            .bind(limit)
            .fetch_all(&self.pool)
            .await?;
        Ok(tasks)
    }

    /// Behind its session's locked gate, where nothing can be claimed: whether
    /// `task` is to be tried again with its files.
    pub(super) async fn may_retry(
        &self,
        connection: &mut PgConnection,
        back: &GoingBack,
        task: TaskId,
    ) -> Result<(), OperationsError> {
        if !back.unasked {
            return may_be_retried(connection, back, task).await;
        }
        let wanted: Option<Interrupted> = sqlx::query_as(STILL_WANTED)
            .bind(self.node.0)
            .bind(task.0)
            .fetch_optional(connection)
            .await
            .map_err(operations_error)?;
        wanted.map(drop).ok_or_else(|| {
            not_retryable(format!(
                "task {task} is not to be tried again by itself: something worked on the files of \
             its session since it began, or somebody has seen to it"
            ))
        })
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
        let mut connection = self.pool.acquire().await?;
        let row = row(&mut connection, task).await?;
        drop(connection);
        // It does not change any more.
        if row.state != "failed" {
            return Ok(Retry::NotFailed(row.state));
        }
        let (agent, features) = row.wishes();
        let draft = row.draft(task, agent.as_ref(), &features);
        self.create(draft).await.map(Retry::Created)
    }
}

/// A person wants it: it failed in that chat, and was not tried again before.
async fn may_be_retried(
    connection: &mut PgConnection,
    back: &GoingBack,
    task: TaskId,
) -> Result<(), OperationsError> {
    let before: Option<Before> = sqlx::query_as(BEFORE)
        .bind(task.0)
        .fetch_optional(connection)
        .await
        .map_err(operations_error)?;
    match before.filter(|before| before.chat_id == Some(back.chat.0)) {
        None => Err(not_retryable(format!("task {task} is not of that chat"))),
        Some(before) if before.retried => {
            Err(not_retryable(format!("task {task} was tried again before")))
        }
        Some(before) if before.state != "failed" => Err(not_retryable(format!(
            "task {task} is {}; only a failed one can be tried again",
            before.state
        ))),
        Some(_) => Ok(()),
    }
}

fn not_retryable(what: String) -> OperationsError {
    OperationsError::Wrong {
        code: "not_retryable",
        what,
    }
}

/// Queues the failed `task` again in the caller's transaction; no frames when it
/// was tried again before. One that nobody asked for is not queued when somebody
/// has dismissed it meanwhile.
pub(super) async fn queue_again(
    tx: &mut PgConnection,
    task: TaskId,
    unasked: bool,
) -> Result<Vec<Frame>, StoreError> {
    if unasked && dismissed(tx, task).await? {
        return Ok(Vec::new());
    }
    let row = row(tx, task).await?;
    let (agent, features) = row.wishes();
    let draft = row.draft(task, agent.as_ref(), &features);
    let made = TaskId::new();
    if draft.claim_key(tx, made).await?.is_some() {
        return Ok(Vec::new());
    }
    Ok(in_order(draft.insert(tx, made).await?))
}

async fn dismissed(connection: &mut PgConnection, task: TaskId) -> Result<bool, StoreError> {
    let dismissed = sqlx::query_scalar(
        "select exists (select from hearth.dismissed_tasks d where d.task_id = $1)",
    )
    .bind(task.0)
    .fetch_one(connection)
    .await?;
    Ok(dismissed)
}

async fn row(connection: &mut PgConnection, task: TaskId) -> Result<Row, StoreError> {
    let row: Option<Row> = sqlx::query_as(TASK)
        .bind(task.0)
        .fetch_optional(connection)
        .await?;
    row.ok_or_else(|| StoreError::NotFound {
        what: "task",
        id: task.to_string(),
    })
}

impl Row {
    fn wishes(&self) -> (Option<AgentName>, BTreeMap<String, Value>) {
        let agent = self.agent.as_deref().map(AgentName::from);
        (agent, features(self.feature_values.clone()))
    }

    /// The same task once more.
    fn draft<'a>(
        &'a self,
        task: TaskId,
        agent: Option<&'a AgentName>,
        features: &'a BTreeMap<String, Value>,
    ) -> Draft<'a> {
        Draft {
            scope: task.0,
            project: Some(self.project_id),
            session: self.session_id,
            chat: self.chat_id,
            parent: self.parent_task_id,
            input: &self.input,
            input_field: "input",
            agent,
            model: self.model.as_deref(),
            mode: self.mode_id.as_deref(),
            thinking: self.thinking_option_id.as_deref(),
            features,
            policy: self.policy.as_deref().and_then(Policy::parse),
            budget: self.budget.as_ref().map(|budget| budget.0),
            interrupt: false,
            retry_interrupted: false,
            retry_of: Some(task),
            key: Some(KEY),
        }
    }
}
