//! Tasks with the outcome of their latest attempt.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{FromRow, PgPool};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Cursor, Slice};

/// One prompt to run, and how its latest attempt went.
#[derive(Clone, Debug, PartialEq, FromRow, Serialize, Deserialize, ToSchema)]
pub struct Task {
    /// Its id.
    pub id: Uuid,
    /// Its project.
    pub project_id: Uuid,
    /// The task that created it.
    pub parent_task_id: Option<Uuid>,
    /// Its workspace.
    pub session_id: Option<Uuid>,
    /// Its tab; none when the tab was deleted.
    pub chat_id: Option<Uuid>,
    /// `pending`, `running`, `blocked`, `completed`, `failed` or `cancelled`.
    pub state: String,
    /// The prompt.
    pub input: String,
    /// The beginning of the answer.
    pub output_summary: Option<String>,
    /// Who runs it.
    pub agent: Option<String>,
    /// Wanted model.
    pub model: Option<String>,
    /// Wanted mode.
    pub mode_id: Option<String>,
    /// Wanted thinking option.
    pub thinking_option_id: Option<String>,
    /// `pty` where it was run by a program of a single turn at a terminal; null else.
    pub execution_path: Option<String>,
    /// Where it ran.
    pub worktree_path: Option<String>,
    /// Tokens it cost.
    pub cost_tokens: Option<i32>,
    /// Parked until then at least: holds no slot.
    pub not_before: Option<DateTime<Utc>>,
    /// Why it is parked: `back_off`, `cool_down`, `pool_full`, `overload`, `quota`,
    /// `budget`, `disk_low` or `set_up`.
    pub parked_reason: Option<String>,
    /// Until when; null where nobody knows.
    pub parked_until: Option<DateTime<Utc>>,
    /// More about it, for a person.
    pub parked_detail: Option<String>,
    /// What it and the tasks it asks for may spend, where it was bounded itself.
    #[schema(value_type = Option<Object>)]
    pub budget: Option<serde_json::Value>,
    /// The task that this one repeats.
    pub retry_of: Option<Uuid>,
    /// Attempts so far; one that was given back before its prompt counts too.
    pub attempts: i32,
    /// The named reason why the latest attempt ended, such as `ok` or `agent_crashed`.
    pub outcome: Option<String>,
    /// Why, in a sentence.
    pub outcome_detail: Option<String>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it first ran.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
}

impl Task {
    /// Its place in lists.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor {
            at: self.created_at,
            id: self.id,
        }
    }
}

/// One attempt at a task.
#[derive(Clone, Debug, PartialEq, FromRow, Serialize, Deserialize, ToSchema)]
pub struct Turn {
    /// Its id.
    pub id: Uuid,
    /// 1 for the first.
    pub attempt: i32,
    /// Who ran it.
    pub agent: String,
    /// The user's message.
    pub user_message_id: Uuid,
    /// The assistant's message.
    pub assistant_message_id: Uuid,
    /// When a node took it.
    pub claimed_at: DateTime<Utc>,
    /// When the agent got the prompt.
    pub prompted_at: Option<DateTime<Utc>>,
    /// When the agent said its first word.
    pub first_token_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// The named reason why it ended.
    pub outcome: Option<String>,
    /// Why, in a sentence.
    pub outcome_detail: Option<String>,
    /// Tokens in, cache included.
    pub input_tokens: i64,
    /// Tokens out, reasoning included.
    pub output_tokens: i64,
    /// US dollars.
    pub cost: f64,
    /// The state of the files before it.
    pub checkpoint_id: Option<Uuid>,
    /// What the agent was told in front of the prompt, because its context had not
    /// seen it: `reason` (`joined`, `fresh`, `again`, `missed` or `alone`), `why`,
    /// `from_message`, `to_message`, `messages`, `children`, `left_out`, `bytes`.
    #[schema(value_type = Option<Object>)]
    pub told: Option<Value>,
}

/// Which tasks to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter<'a> {
    /// Only in this state.
    pub state: Option<&'a str>,
    /// Only of this project.
    pub project: Option<Uuid>,
    /// Only of this session.
    pub session: Option<Uuid>,
}

macro_rules! select_tasks {
    ($rest:literal) => {
        concat!(
            "select t.id, t.project_id, t.parent_task_id, t.session_id, t.chat_id, t.state,
                t.input, t.output_summary, t.agent, t.model, t.mode_id, t.thinking_option_id,
                t.execution_path, t.worktree_path, t.cost_tokens, nullif(q.not_before, 'infinity') as not_before,
                q.retry_of, q.budget,
                p.reason as parked_reason, p.until as parked_until, p.detail as parked_detail,
                coalesce(q.attempts, last.attempt, 0) as attempts, last.outcome, last.outcome_detail,
                t.created_at, t.started_at, t.ended_at
             from tasks t
             left join hearth.queue q on q.task_id = t.id
             left join lateral (
                select attempt, outcome, outcome_detail from hearth.turns
                where task_id = t.id order by attempt desc limit 1
             ) last on true
             left join lateral (
                select q.parked_reason as reason, q.parked_until as until, q.parked_detail as detail
                where q.waiting and (q.not_before > clock_timestamp()
                    or q.parked_reason = 'pool_full' and q.not_before is not null)
             ) p on true ",
            $rest
        )
    };
}

/// Newest first.
///
/// # Errors
/// The database's.
pub async fn list(pool: &PgPool, filter: &Filter<'_>, slice: &Slice) -> sqlx::Result<Vec<Task>> {
    sqlx::query_as(select_tasks!(
        "where ($1::text is null or t.state = $1)
            and ($2::uuid is null or t.project_id = $2)
            and ($3::uuid is null or t.session_id = $3)
            and ($4::timestamptz is null or (t.created_at, t.id) < ($4, $5::uuid))
         order by t.created_at desc, t.id desc limit $6"
    ))
    .bind(filter.state)
    .bind(filter.project)
    .bind(filter.session)
    .bind(slice.at())
    .bind(slice.id())
    .bind(slice.limit)
    .fetch_all(pool)
    .await
}

/// One task.
///
/// # Errors
/// The database's.
pub async fn get(pool: &PgPool, id: Uuid) -> sqlx::Result<Option<Task>> {
    sqlx::query_as(select_tasks!("where t.id = $1"))
        .bind(id)
        .fetch_optional(pool)
        .await
}

/// The attempts at a task, first to last.
///
/// # Errors
/// The database's.
pub async fn turns(pool: &PgPool, task: Uuid) -> sqlx::Result<Vec<Turn>> {
    sqlx::query_as(
        "select id, attempt, agent, user_message_id, assistant_message_id, claimed_at,
            prompted_at, first_token_at, ended_at, outcome, outcome_detail, input_tokens,
            output_tokens, cost, checkpoint_id, told
         from hearth.turns where task_id = $1 order by attempt",
    )
    .bind(task)
    .fetch_all(pool)
    .await
}

/// Where the frames of a task are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromRow)]
pub struct StreamPlace {
    /// Whose stream they are in.
    pub session_id: Uuid,
    /// The seq before the first one that is kept; the end of the stream when
    /// there is none yet.
    pub first: i64,
    /// It is older than frames that are no longer kept, so that some of its own
    /// may be among them.
    pub maybe_pruned: bool,
}

/// Where the frames of a task are; none when there is no such task.
///
/// # Errors
/// The database's.
pub async fn stream_place(pool: &PgPool, task: Uuid) -> sqlx::Result<Option<StreamPlace>> {
    sqlx::query_as(
        "select t.session_id, coalesce(q.stream_from,
            (select min(f.seq) - 1 from hearth.frames f
                where f.session_id = t.session_id and f.task_id = t.id),
            s.last_seq, 0) as first,
            coalesce(t.created_at <= s.pruned_at, false) as maybe_pruned
         from tasks t left join hearth.streams s on s.session_id = t.session_id
            left join hearth.queue q on q.task_id = t.id and q.session_id = t.session_id
         where t.id = $1 and t.session_id is not null",
    )
    .bind(task)
    .fetch_optional(pool)
    .await
}

/// The task whose turn that agent runs in that chat, if it runs one.
///
/// # Errors
/// The database's.
pub async fn worked_on(pool: &PgPool, chat: Uuid, agent: &str) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar(
        "select t.task_id from chats c
         join hearth.turns t on t.session_id = c.session_id and t.ended_at is null
         join hearth.queue q on q.task_id = t.task_id
         where c.id = $1 and q.chat_id = c.id and t.agent = $2",
    )
    .bind(chat)
    .bind(agent)
    .fetch_optional(pool)
    .await
}

/// Whether nothing will happen to the task any more; also when it is gone.
///
/// # Errors
/// The database's.
pub async fn is_over(pool: &PgPool, task: Uuid) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select not exists (
            select from tasks where id = $1 and state in ('pending', 'running', 'blocked'))",
    )
    .bind(task)
    .fetch_one(pool)
    .await
}
