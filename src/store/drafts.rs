//! A request for a task, and the steps of the transaction that commits it.

use std::collections::BTreeMap;

use hearth_actors::event::Frame;
use hearth_actors::ids::{AgentName, MessageId, TaskId};
use hearth_actors::limits::Budget;
use hearth_actors::model::Policy;
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::StoreError;
use super::cancel::{CancelRequest, cancel_with_below};
use super::family::Unlocked;
use super::frames::FrameRow;
use super::text::clean;

const CREATE: &str = include_str!("sql/create_task.sql");

/// Longest prompt, in Unicode scalar values.
pub const MAX_INPUT_CHARS: usize = 64_000;
/// Longest idempotency key, in bytes.
pub const MAX_KEY_BYTES: usize = 255;

/// Both kinds of request as the transaction needs them.
pub(super) struct Draft<'a> {
    pub(super) scope: Uuid,
    pub(super) project: Option<Uuid>,
    pub(super) session: Option<Uuid>,
    pub(super) chat: Option<Uuid>,
    pub(super) parent: Option<Uuid>,
    pub(super) input: &'a str,
    pub(super) input_field: &'static str,
    pub(super) agent: Option<&'a AgentName>,
    pub(super) model: Option<&'a str>,
    pub(super) mode: Option<&'a str>,
    pub(super) thinking: Option<&'a str>,
    pub(super) features: &'a BTreeMap<String, Value>,
    pub(super) policy: Option<Policy>,
    pub(super) budget: Option<Budget>,
    pub(super) interrupt: bool,
    pub(super) retry_interrupted: bool,
    pub(super) retry_of: Option<TaskId>,
    pub(super) key: Option<&'a str>,
}

impl Draft<'_> {
    pub(super) fn validate(&self) -> Result<(), StoreError> {
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
        let mut said = format!(
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
                    self.retry_interrupted,
                    self.retry_of,
                    self.features
                ),
            )
        );
        if let Some(budget) = &self.budget {
            said.push_str(&format!("{budget:?}"));
        }
        Sha256::digest(said)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// Takes the idempotency key for `task`, or returns the task that has it. A
    /// simultaneous request with the same key waits here for our commit.
    pub(super) async fn claim_key(
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
    pub(super) async fn check_references(&self, tx: &mut PgConnection) -> Result<(), StoreError> {
        let missing: Option<(String, Uuid)> = sqlx::query_as(
            "select what, id from (values
                ('project', $1::uuid, exists (select 1 from projects where id = $1)),
                ('session', $2::uuid, exists (
                    select 1 from sessions s left join hearth.gates g on g.session_id = s.id
                    where s.id = $2 and g.deleted_at is null
                        and ($1::uuid is null or s.project_id = $1))),
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

    /// Ends what runs in this chat, or waits for an answer, and what waits of the
    /// tasks that this asked for; other queued tasks stay. The frames of those are
    /// to be published.
    pub(super) async fn interrupt_chat(
        &self,
        tx: &mut PgConnection,
    ) -> Result<Vec<Frame>, Unlocked> {
        let running: Vec<Uuid> = sqlx::query_scalar(
            "select t.id from tasks t where t.chat_id = $1 and t.state in ('running', 'blocked')",
        )
        .bind(self.chat)
        .fetch_all(&mut *tx)
        .await?;
        let mut told = Vec::new();
        for task in running {
            match cancel_with_below(tx, task.into()).await? {
                CancelRequest::Cancelled(frames) | CancelRequest::Requested(frames) => {
                    told.extend(frames);
                }
                CancelRequest::Ended => {}
            }
        }
        Ok(told)
    }

    pub(super) async fn insert(
        &self,
        tx: &mut PgConnection,
        task: TaskId,
    ) -> sqlx::Result<Vec<FrameRow>> {
        sqlx::query(
            "insert into tasks (id, project_id, session_id, chat_id, parent_task_id, input, agent,
                model, mode_id, thinking_option_id, feature_values)
             select $1, coalesce($2, (select s.project_id from chats c join sessions s
                    on s.id = c.session_id where c.id = $4)), $3, $4, $5, $6, $7, $8, $9, $10, $11",
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
        .bind((!self.features.is_empty()).then_some(Json(self.features)))
        .execute(&mut *tx)
        .await?;
        sqlx::query_as(CREATE)
            .bind(task.0)
            .bind(self.policy.map(Policy::as_str))
            .bind(self.interrupt)
            .bind(self.retry_of.map(|task| task.0))
            .bind(MessageId::new().0)
            .bind(self.budget.filter(|budget| !budget.is_empty()).map(Json))
            .bind(self.retry_interrupted)
            .fetch_all(tx)
            .await
    }
}
