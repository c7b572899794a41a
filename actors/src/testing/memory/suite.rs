//! What the contract suite sees of the store in memory.

use async_trait::async_trait;

use super::MemoryStore;
use crate::arena::CheckCommand;
use crate::event::Frame;
use crate::ids::{
    AgentName, ArenaId, ChangeId, ChatId, CheckpointId, MessageId, ProjectId, PromptId, SessionId,
    SessionKey, TaskId,
};
use crate::limits::Budget;
use crate::model::{Assignment, PendingChange};
use crate::outcome::{Outcome, TaskState};
use crate::ports::{Arenas, Journal, Limits, NodeLease, Operations, SetUpRows, TaskQueue};
use crate::prompt::{PromptState, Settled};
use crate::rules::routing::Origin;
use crate::set_up::{Consent, SetUp, TearDown};
use crate::testing::contract_arenas::ArenasUnderTest;
use crate::testing::contract_store::{AGENT, StoreUnderTest};

#[async_trait]
impl StoreUnderTest for MemoryStore {
    fn queue(&self) -> &dyn TaskQueue {
        self
    }

    fn lease(&self) -> &dyn NodeLease {
        self
    }

    fn journal(&self) -> &dyn Journal {
        self
    }

    fn limits(&self) -> &dyn Limits {
        self
    }

    async fn set_budget(&self, session: SessionId, budget: Budget) {
        self.with(|rows| rows.budgets.insert(session, budget));
    }

    async fn set_task_budget(&self, task: TaskId, budget: Budget) {
        self.with(|rows| rows.tasks.get_mut(&task).expect("the task").budget = Some(budget));
    }

    fn operations(&self) -> &dyn Operations {
        self
    }

    fn set_ups(&self) -> &dyn SetUpRows {
        self
    }

    async fn project_of(&self, _session: SessionId) -> ProjectId {
        ProjectId::default()
    }

    async fn decide_set_up(&self, _project: ProjectId, this: &SetUp, consent: Consent) {
        let tear_down = this.tear_down.clone().map(|script| TearDown {
            script,
            timeout: this.timeout,
        });
        Self::decide_set_up(self, &this.hash, consent, tear_down);
    }

    async fn twin(&self) -> Box<dyn StoreUnderTest> {
        Box::new(self.second_process())
    }

    async fn insert_session(&self) -> SessionId {
        SessionId::new()
    }

    async fn insert_chat(&self, session: SessionId) -> ChatId {
        let chat = ChatId::new();
        self.with(|rows| rows.chats.insert(chat, session));
        chat
    }

    async fn insert_task(
        &self,
        session: Option<SessionId>,
        chat: Option<ChatId>,
        agent: &str,
    ) -> TaskId {
        let of_chat = chat.and_then(|chat| self.with(|rows| rows.chats.get(&chat).copied()));
        let session = session.or(of_chat).unwrap_or_default();
        let default_chat = || {
            let known = self.with(|rows| {
                let mut chats = rows.chats.iter();
                chats.find(|(_, of)| **of == session).map(|(chat, _)| *chat)
            });
            known.unwrap_or_default()
        };
        let chat = chat.unwrap_or_else(default_chat);
        self.with(|rows| rows.chats.insert(chat, session));
        let agent = AgentName::from(if agent.is_empty() { AGENT } else { agent });
        self.insert(session, SessionKey { chat, agent }, "say hello")
    }

    async fn insert_child(&self, parent: TaskId, agent: &str) -> TaskId {
        let key = SessionKey {
            chat: ChatId::new(),
            agent: agent.into(),
        };
        let child = self.insert(SessionId::new(), key, "say hello");
        self.with(|rows| {
            if let Some(row) = rows.tasks.get_mut(&child) {
                row.parent = Some(parent);
                row.origin = Origin {
                    child: true,
                    ..Origin::default()
                };
            }
        });
        child
    }

    async fn reset_contexts(&self, chat: ChatId, why: &str) {
        self.with(|rows| rows.reset_contexts(chat, why));
    }

    async fn trim(&self, chat: ChatId, from: MessageId) {
        self.with(|rows| rows.trim(chat, from));
    }

    async fn wants_retry(&self, task: TaskId) {
        self.with(|rows| rows.to_retry.insert(task));
    }

    async fn dismiss(&self, task: TaskId) {
        self.with(|rows| rows.dismissed.insert(task));
    }

    async fn request_cancel(&self, task: TaskId) {
        MemoryStore::request_cancel(self, task);
    }

    async fn task_state(&self, task: TaskId) -> TaskState {
        self.with(|rows| rows.tasks[&task].state)
    }

    async fn outcome(&self, task: TaskId) -> Option<Outcome> {
        self.with(|rows| rows.tasks[&task].outcomes.last().copied())
    }

    async fn frames(&self, session: SessionId) -> Vec<Frame> {
        self.with(|rows| rows.frames.get(&session).cloned().unwrap_or_default())
    }

    async fn changes(&self, session: SessionId) -> Vec<PendingChange> {
        self.with(|rows| {
            let pending = rows.pending(session).into_iter();
            pending
                .map(|(path, (id, _))| PendingChange {
                    operation: rows.changes[&id].file.operation,
                    task: rows.changes[&id].task,
                    id,
                    path,
                })
                .collect()
        })
    }

    async fn status(&self, change: ChangeId) -> Option<String> {
        self.with(|rows| Some(rows.changes.get(&change)?.status.to_owned()))
    }

    async fn checkpoint_id(&self, turn: &Assignment) -> Option<CheckpointId> {
        self.with(|rows| {
            let row = rows.turns.get(&turn.fence.turn)?;
            Some(row.checkpoint.as_ref()?.id)
        })
    }

    async fn checkpoint(&self, turn: &Assignment) -> Option<String> {
        self.with(|rows| {
            let row = rows.turns.get(&turn.fence.turn)?;
            Some(row.checkpoint.as_ref()?.commit.clone())
        })
    }

    async fn prompt(&self, prompt: PromptId) -> Option<PromptState> {
        self.with(|rows| {
            let row = rows.prompts.get(&prompt)?;
            let settled = row.settled.as_ref();
            Some(settled.map_or(PromptState::Open, |settled| settled.state))
        })
    }

    async fn answer_detached(&self, prompt: PromptId, settled: &Settled) -> Vec<Frame> {
        self.with(|rows| rows.answer_detached(prompt, settled))
    }

    async fn open_notices(&self) -> usize {
        self.with(|rows| rows.open_circuits.len() + rows.resting_agents.len())
    }

    async fn message(&self, message: MessageId) -> Option<(String, String)> {
        self.with(|rows| {
            let row = rows.messages.get(&message)?;
            Some((row.status.to_owned(), row.content.clone()))
        })
    }
}

#[async_trait]
impl ArenasUnderTest for MemoryStore {
    fn arenas(&self) -> &dyn Arenas {
        self
    }

    async fn create(
        &self,
        source: Option<SessionId>,
        many: usize,
        check: Option<CheckCommand>,
    ) -> Option<(ArenaId, Vec<TaskId>)> {
        let key = || SessionKey {
            chat: ChatId::new(),
            agent: AGENT.into(),
        };
        let keys: Vec<SessionKey> = (0..many).map(|_| key()).collect();
        self.create_arena(source, &keys, check)
    }

    async fn cancel_arena(&self, arena: ArenaId) {
        MemoryStore::cancel_arena(self, arena);
    }
}
