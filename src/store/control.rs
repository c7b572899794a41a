//! What people and programs ask for: messages, tasks, cancels. Each call
//! validates and is one transaction.

use hearth_actors::event::Frame;
use hearth_actors::ids::{AgentName, ChatId, MessageId, ProjectId, SessionId, TaskId};
use hearth_actors::model::Policy;
use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, FromRow};
use uuid::Uuid;

use super::frames::{FrameRow, in_order};
use super::text::clean;
use super::{Store, StoreError};

const CREATE: &str = include_str!("sql/create_task.sql");
const CANCEL: &str = include_str!("sql/cancel.sql");
const CANCELLED_FRAME: &str = include_str!("sql/cancelled_frame.sql");

/// Longest prompt, in Unicode scalar values.
pub const MAX_INPUT_CHARS: usize = 64_000;
/// Longest idempotency key, in bytes.
pub const MAX_KEY_BYTES: usize = 255;

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
    /// What the agent may do unasked.
    pub policy: Option<Policy>,
    /// Cancels the chat's running turn and goes to the head of the session;
    /// otherwise the message queues.
    pub interrupt: bool,
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
    /// Its workspace; a hidden one if none.
    pub session: Option<SessionId>,
    /// Its tab; the session's default chat if none.
    pub chat: Option<ChatId>,
    /// The task that asked for it.
    pub parent: Option<TaskId>,
    /// What the agent may do unasked.
    pub policy: Option<Policy>,
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

/// What became of a cancel.
#[derive(Clone, Debug, PartialEq)]
pub enum CancelRequest {
    /// It had not started: it is cancelled now. The frames are to be published.
    Cancelled(Vec<Frame>),
    /// It runs: its owner has been told.
    Requested,
    /// It had ended before.
    Ended,
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
            policy: message.policy,
            interrupt: message.interrupt,
            retry_of: message.retry_of,
            key: message.idempotency_key.as_deref(),
        };
        self.create(draft).await
    }

    /// Commits a task. Its user message appears when its turn begins.
    ///
    /// # Errors
    /// As [`Store::create_message`]; [`StoreError::NotFound`] for the project,
    /// session, chat or parent.
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
            mode: None,
            thinking: None,
            policy: task.policy,
            interrupt: false,
            retry_of: None,
            key: task.idempotency_key.as_deref(),
        };
        self.create(draft).await
    }

    /// Cancels a task, or tells the owner of its turn to.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Unavailable`].
    pub async fn request_cancel(&self, task: TaskId) -> Result<CancelRequest, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let mut tx = connection.begin().await?;
        let outcome = cancel(&mut tx, task).await?;
        tx.commit().await?;
        Ok(outcome)
    }

    async fn create(&self, draft: Draft<'_>) -> Result<Created, StoreError> {
        draft.validate()?;
        let mut connection = self.pool.acquire().await?;
        let mut tx = connection.begin().await?;
        let task = TaskId::new();
        if let Some(earlier) = draft.claim_key(&mut tx, task).await? {
            tx.rollback().await?;
            return self.created(earlier, true, Vec::new()).await;
        }
        draft.check_references(&mut tx).await?;
        if draft.interrupt {
            draft.interrupt_chat(&mut tx).await?;
        }
        let rows = draft.insert(&mut tx, task).await?;
        tx.commit().await?;
        self.created(task, false, in_order(rows)).await
    }

    async fn created(
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

#[derive(FromRow)]
struct CancelRow {
    found: bool,
    cancelled: bool,
    requested: bool,
}

/// Both kinds of request as the transaction needs them.
struct Draft<'a> {
    scope: Uuid,
    project: Option<Uuid>,
    session: Option<Uuid>,
    chat: Option<Uuid>,
    parent: Option<Uuid>,
    input: &'a str,
    input_field: &'static str,
    agent: Option<&'a AgentName>,
    model: Option<&'a str>,
    mode: Option<&'a str>,
    thinking: Option<&'a str>,
    policy: Option<Policy>,
    interrupt: bool,
    retry_of: Option<TaskId>,
    key: Option<&'a str>,
}

impl Draft<'_> {
    fn validate(&self) -> Result<(), StoreError> {
        let chars = self.input.chars().count();
        if chars == 0 || chars > MAX_INPUT_CHARS {
            return Err(StoreError::Invalid {
                field: self.input_field,
                problem: format!("has {chars} characters, may have 1 to {MAX_INPUT_CHARS}"),
            });
        }
        if self
            .agent
            .is_some_and(|agent| agent.as_str().trim().is_empty())
        {
            return Err(StoreError::Invalid {
                field: "agent",
                problem: "is empty: name a configured agent".into(),
            });
        }
        if self
            .key
            .is_some_and(|key| key.is_empty() || key.len() > MAX_KEY_BYTES)
        {
            return Err(StoreError::Invalid {
                field: "Idempotency-Key",
                problem: format!("may have 1 to {MAX_KEY_BYTES} bytes"),
            });
        }
        Ok(())
    }

    /// Tells a repeat of this request from another one under the same key.
    fn digest(&self) -> String {
        let said = format!(
            "{:?}",
            (
                (
                    self.project,
                    self.session,
                    self.chat,
                    self.parent,
                    self.input,
                    self.agent
                ),
                (
                    self.model,
                    self.mode,
                    self.thinking,
                    self.policy,
                    self.interrupt,
                    self.retry_of
                ),
            )
        );
        Sha256::digest(said)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// Takes the idempotency key for `task`, or returns the task that has it. A
    /// simultaneous request with the same key waits here for our commit.
    async fn claim_key(
        &self,
        tx: &mut PgConnection,
        task: TaskId,
    ) -> Result<Option<TaskId>, StoreError> {
        let Some(key) = self.key else { return Ok(None) };
        let taken = sqlx::query(
            "insert into hearth.requests (scope, key, digest, task_id) values ($1, $2, $3, $4)
             on conflict do nothing",
        )
        .bind(self.scope)
        .bind(clean(key))
        .bind(self.digest())
        .bind(task.0)
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if taken == 1 {
            return Ok(None);
        }
        let (digest, earlier): (String, Uuid) = sqlx::query_as(
            "select digest, task_id from hearth.requests where scope = $1 and key = $2",
        )
        .bind(self.scope)
        .bind(clean(key))
        .fetch_one(tx)
        .await?;
        if digest == self.digest() {
            Ok(Some(earlier.into()))
        } else {
            Err(StoreError::KeyReused)
        }
    }

    /// Says which of the named rows is missing, before a foreign key does.
    async fn check_references(&self, tx: &mut PgConnection) -> Result<(), StoreError> {
        let missing: Option<(String, Uuid)> = sqlx::query_as(
            "select what, id from (values
                ('project', $1::uuid, exists (select 1 from projects where id = $1)),
                ('session', $2::uuid, exists (
                    select 1 from sessions s left join hearth.gates g on g.session_id = s.id
                    where s.id = $2 and g.deleted_at is null)),
                ('chat', $3::uuid, exists (
                    select 1 from chats c left join hearth.gates g on g.session_id = c.session_id
                    where c.id = $3 and g.deleted_at is null
                        and ($2::uuid is null or c.session_id = $2))),
                ('task', $4::uuid, exists (select 1 from tasks where id = $4))
             ) named(what, id, found)
             where id is not null and not found limit 1",
        )
        .bind(self.project)
        .bind(self.session)
        .bind(self.chat)
        .bind(self.parent.or(self.retry_of.map(|task| task.0)))
        .fetch_optional(tx)
        .await?;
        match missing {
            None => Ok(()),
            Some((what, id)) => Err(StoreError::NotFound {
                what: match what.as_str() {
                    "project" => "project",
                    "session" => "session",
                    "chat" => "chat",
                    _ => "task",
                },
                id: id.to_string(),
            }),
        }
    }

    /// Ends what runs in this chat; other queued tasks stay.
    async fn interrupt_chat(&self, tx: &mut PgConnection) -> Result<(), StoreError> {
        let running: Option<Uuid> = sqlx::query_scalar(
            "select t.id from tasks t where t.chat_id = $1 and t.state in ('running', 'blocked')",
        )
        .bind(self.chat)
        .fetch_optional(&mut *tx)
        .await?;
        if let Some(task) = running {
            cancel(tx, task.into()).await?;
        }
        Ok(())
    }

    async fn insert(&self, tx: &mut PgConnection, task: TaskId) -> sqlx::Result<Vec<FrameRow>> {
        sqlx::query(
            "insert into tasks (id, project_id, session_id, chat_id, parent_task_id, input, agent,
                model, mode_id, thinking_option_id)
             select $1, coalesce($2, (select s.project_id from chats c join sessions s
                    on s.id = c.session_id where c.id = $4)), $3, $4, $5, $6, $7, $8, $9, $10",
        )
        .bind(task.0)
        .bind(self.project)
        .bind(self.session)
        .bind(self.chat)
        .bind(self.parent)
        .bind(clean(self.input))
        .bind(self.agent.map(|agent| clean(agent.as_str())))
        .bind(self.model.map(clean))
        .bind(self.mode.map(clean))
        .bind(self.thinking.map(clean))
        .execute(&mut *tx)
        .await?;
        sqlx::query_as(CREATE)
            .bind(task.0)
            .bind(self.policy.map(policy_word))
            .bind(self.interrupt)
            .bind(self.retry_of.map(|task| task.0))
            .bind(MessageId::new().0)
            .fetch_all(tx)
            .await
    }
}

async fn cancel(tx: &mut PgConnection, task: TaskId) -> Result<CancelRequest, StoreError> {
    // The gate first: a claim of this task has either committed or will skip it.
    sqlx::query(
        "select 1 from hearth.gates g join hearth.queue q on q.session_id = g.session_id
         where q.task_id = $1 for no key update of g",
    )
    .bind(task.0)
    .execute(&mut *tx)
    .await?;
    let row: CancelRow = sqlx::query_as(CANCEL)
        .bind(task.0)
        .fetch_one(&mut *tx)
        .await?;
    if !row.found {
        return Err(StoreError::NotFound {
            what: "task",
            id: task.to_string(),
        });
    }
    if row.requested {
        return Ok(CancelRequest::Requested);
    }
    if !row.cancelled {
        return Ok(CancelRequest::Ended);
    }
    let rows = sqlx::query_as(CANCELLED_FRAME)
        .bind(task.0)
        .fetch_all(tx)
        .await?;
    Ok(CancelRequest::Cancelled(in_order(rows)))
}

fn policy_word(policy: Policy) -> &'static str {
    match policy {
        Policy::Deny => "deny",
        Policy::Ask => "ask",
        Policy::AllowEdits => "allow_edits",
        Policy::AllowAll => "allow_all",
    }
}
