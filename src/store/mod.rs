//! Stand-in until the store room arrives.
pub mod rows;
use hearth_actors::event::Frame;
use hearth_actors::ids::*;
use hearth_actors::model::Policy;
use sqlx::PgPool;
/// x
#[derive(Clone)]
pub struct Store {
    /// x
    pub pool: PgPool,
}
/// x
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// x
    #[error("unavailable")]
    Unavailable(#[source] hearth_actors::ports::Source),
    /// x
    #[error("{0}")]
    Refused(String),
    /// x
    #[error("no {what} has the id {id}")]
    NotFound {
        /// x
        what: &'static str,
        /// x
        id: String,
    },
    /// x
    #[error("{field}: {problem}")]
    Invalid {
        /// x
        field: &'static str,
        /// x
        problem: String,
    },
    /// x
    #[error("key")]
    KeyReused,
}
impl Store {
    /// x
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }
    /// x
    pub async fn read_frames(
        &self,
        _s: SessionId,
        _a: i64,
        _l: i64,
    ) -> Result<Vec<Frame>, StoreError> {
        Ok(Vec::new())
    }
    /// x
    pub async fn last_seq(&self, _s: SessionId) -> Result<Option<i64>, StoreError> {
        Ok(Some(0))
    }
}
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
    /// x
    pub async fn create_message(&self, _m: &NewMessage) -> Result<Created, StoreError> {
        Err(StoreError::KeyReused)
    }
    /// x
    pub async fn create_task(&self, _m: &NewTask) -> Result<Created, StoreError> {
        Err(StoreError::KeyReused)
    }
    /// x
    pub async fn request_cancel(&self, _t: TaskId) -> Result<CancelRequest, StoreError> {
        Ok(CancelRequest::Ended)
    }
}
impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable(error.into())
    }
}
