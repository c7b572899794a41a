//! What people and programs ask for: messages and tasks. Each call validates and
//! is one transaction.

use std::collections::BTreeMap;

use hearth_actors::event::Frame;
use hearth_actors::ids::{AgentName, ChatId, MessageId, ProjectId, SessionId, SessionKey, TaskId};
use hearth_actors::limits::Budget;
use hearth_actors::model::Policy;
use serde_json::Value;
use sqlx::{Connection, FromRow};
use uuid::Uuid;

use super::drafts::Draft;
use super::family::{Tries, Unlocked, admit};
use super::frames::in_order;
use super::{Store, StoreError};

/// A user's message to an agent.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// The tab.
    pub chat: ChatId,
    /// What the user says.
    pub content: String,
    /// Who answers.
    pub agent: AgentName,
    /// Wanted model.
    pub model: Option<String>,
    /// Wanted mode.
    pub mode: Option<String>,
    /// Wanted thinking option.
    pub thinking: Option<String>,
    /// Wanted values of the agent's own options, by their ids.
    pub features: BTreeMap<String, Value>,
    /// What the agent may do unasked.
    pub policy: Option<Policy>,
    /// What it may spend.
    pub budget: Option<Budget>,
    /// Cancels the chat's running turn and goes to the head of the session;
    /// otherwise the message queues.
    pub interrupt: bool,
    /// Interrupted in mid-turn by a stop or crash of Hearth, it is tried again
    /// once, on the files as they were before; otherwise it waits in the inbox.
    pub retry_interrupted: bool,
    /// The task this one tries again.
    pub retry_of: Option<TaskId>,
    /// The same key in the same chat creates nothing twice.
    pub idempotency_key: Option<String>,
}

/// A task that is not a message of a chat.
#[derive(Clone, Debug)]
pub struct NewTask {
    /// Where it works.
    pub project: ProjectId,
    /// The prompt.
    pub input: String,
    /// Who runs it; the default agent if none.
    pub agent: Option<AgentName>,
    /// Wanted model.
    pub model: Option<String>,
    /// Wanted mode.
    pub mode: Option<String>,
    /// Wanted thinking option.
    pub thinking: Option<String>,
    /// Wanted values of the agent's own options, by their ids.
    pub features: BTreeMap<String, Value>,
    /// Its workspace; a hidden one if none.
    pub session: Option<SessionId>,
    /// Its tab; the session's default chat if none.
    pub chat: Option<ChatId>,
    /// The task that asked for it.
    pub parent: Option<TaskId>,
    /// What the agent may do unasked.
    pub policy: Option<Policy>,
    /// What it, and the tasks it asks for, may spend.
    pub budget: Option<Budget>,
    /// As of [`NewMessage`].
    pub retry_interrupted: bool,
    /// The same key in the same chat (else project) creates nothing twice.
    pub idempotency_key: Option<String>,
}

/// A committed task.
#[derive(Clone, Debug, PartialEq)]
pub struct Created {
    /// The queue entry.
    pub task: TaskId,
    /// The user's message.
    pub message: MessageId,
    /// Its tab.
    pub chat: ChatId,
    /// Its workspace.
    pub session: SessionId,
    /// An earlier request with the same idempotency key made it.
    pub repeated: bool,
    /// To be published.
    pub frames: Vec<Frame>,
}

impl Store {
    /// Commits a user's message and the task that answers it.
    ///
    /// # Errors
    /// [`StoreError::Invalid`], [`StoreError::NotFound`] for the chat,
    /// [`StoreError::KeyReused`], [`StoreError::Unavailable`].
    pub async fn create_message(&self, message: &NewMessage) -> Result<Created, StoreError> {
        let draft = Draft {
            scope: message.chat.0,
            project: None,
            session: None,
            chat: Some(message.chat.0),
            parent: None,
            input: &message.content,
            input_field: "content",
            agent: Some(&message.agent),
            model: message.model.as_deref(),
            mode: message.mode.as_deref(),
            thinking: message.thinking.as_deref(),
            features: &message.features,
            policy: message.policy,
            budget: message.budget,
            interrupt: message.interrupt,
            retry_interrupted: message.retry_interrupted,
            retry_of: message.retry_of,
            key: message.idempotency_key.as_deref(),
        };
        self.create(draft).await
    }

    /// Commits a task. Its user message appears when its turn begins.
    ///
    /// # Errors
    /// As [`Store::create_message`]; [`StoreError::NotFound`] for the project,
    /// session, chat or parent; [`StoreError::TooManyTasks`] for a child too many.
    pub async fn create_task(&self, task: &NewTask) -> Result<Created, StoreError> {
        let draft = Draft {
            scope: task.chat.map_or(task.project.0, |chat| chat.0),
            project: Some(task.project.0),
            session: task.session.map(|session| session.0),
            chat: task.chat.map(|chat| chat.0),
            parent: task.parent.map(|parent| parent.0),
            input: &task.input,
            input_field: "input",
            agent: task.agent.as_ref(),
            model: task.model.as_deref(),
            mode: task.mode.as_deref(),
            thinking: task.thinking.as_deref(),
            features: &task.features,
            policy: task.policy,
            budget: task.budget,
            interrupt: false,
            retry_interrupted: task.retry_interrupted,
            retry_of: None,
            key: task.idempotency_key.as_deref(),
        };
        self.create(draft).await
    }

    /// Lets the parked tasks of a chat and agent be claimed at once. If the agent
    /// rests, the first of them tries whether it answers.
    ///
    /// # Errors
    /// The database's.
    pub async fn unpark(&self, key: &SessionKey) -> Result<(), StoreError> {
        sqlx::query(
            "with rest as (
                update hearth.agent_rests set until = clock_timestamp()
                where node = $3 and agent = $2 and until > clock_timestamp())
             update hearth.queue set not_before = null
             where chat_id = $1 and agent = $2 and waiting and not_before < 'infinity'",
        )
        .bind(key.chat.0)
        .bind(key.agent.as_str())
        .bind(self.node.0)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    pub(super) async fn create(&self, draft: Draft<'_>) -> Result<Created, StoreError> {
        draft.validate()?;
        let mut tries = Tries::new();
        loop {
            match self.create_once(&draft).await {
                Err(Unlocked::Again) if tries.again() => {}
                created => return Ok(created?),
            }
        }
    }

    async fn create_once(&self, draft: &Draft<'_>) -> Result<Created, Unlocked> {
        let mut connection = self.pool.acquire().await?;
        let mut tx = connection.begin().await?;
        let task = TaskId::new();
        if let Some(earlier) = draft.claim_key(&mut tx, task).await? {
            tx.rollback().await?;
            // Who waits for a second connection while it has one waits for others who do.
            drop(connection);
            return Ok(self.created(earlier, true, Vec::new()).await?);
        }
        draft.check_references(&mut tx).await?;
        // A person's retry takes the place of what its parent asked for already.
        if let Some(parent) = draft.parent.filter(|_| draft.retry_of.is_none()) {
            admit(&mut tx, parent, draft, self.family).await?;
        }
        if let Some(budget) = &draft.budget {
            self.check_task_budget(&mut tx, budget, draft.parent)
                .await?;
        }
        let mut frames = if draft.interrupt {
            draft.interrupt_chat(&mut tx).await?
        } else {
            Vec::new()
        };
        frames.extend(in_order(draft.insert(&mut tx, task).await?));
        tx.commit().await?;
        drop(connection);
        Ok(self.created(task, false, frames).await?)
    }

    pub(super) async fn created(
        &self,
        task: TaskId,
        repeated: bool,
        frames: Vec<Frame>,
    ) -> Result<Created, StoreError> {
        let row: Option<Place> = sqlx::query_as(
            "select q.session_id, q.chat_id, coalesce(q.user_message_id, q.task_id) as message_id
             from hearth.queue q where q.task_id = $1 and q.chat_id is not null",
        )
        .bind(task.0)
        .fetch_optional(&self.pool)
        .await?;
        let row = row.ok_or(StoreError::NotFound {
            what: "task",
            id: task.to_string(),
        })?;
        Ok(Created {
            task,
            message: row.message_id.into(),
            chat: row.chat_id.into(),
            session: row.session_id.into(),
            repeated,
            frames,
        })
    }
}

#[derive(FromRow)]
struct Place {
    session_id: Uuid,
    chat_id: Uuid,
    message_id: Uuid,
}
