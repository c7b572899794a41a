//! The promises that the tree relies on, kept by the real store.

use async_trait::async_trait;
use hearth::store::Store;
use hearth_actors::event::Frame;
use hearth_actors::ids::{
    ChangeId, ChatId, CheckpointId, MessageId, ProjectId, PromptId, SessionId, TaskId,
};
use hearth_actors::limits::Budget;
use hearth_actors::model::{Assignment, Operation, PendingChange};
use hearth_actors::outcome::{Outcome, TaskState};
use hearth_actors::ports::{Journal, Limits, NodeLease, Operations, SetUpRows, TaskQueue};
use hearth_actors::prompt::{PromptState, Settled};
use hearth_actors::set_up::{Consent, SetUp};
use hearth_actors::testing::contract_store::StoreUnderTest;
use sqlx::postgres::PgConnectOptions;
use uuid::Uuid;

use super::pg;

/// The store with its database.
pub(super) struct RealStore {
    pub(super) store: Store,
    pub(super) connect: PgConnectOptions,
}

impl RealStore {
    /// On a fresh database.
    pub(super) async fn fresh() -> Self {
        let connect = pg::database().await;
        let store = pg::store_on(connect.clone(), hearth_actors::ids::NodeId::new()).await;
        Self { store, connect }
    }

    /// A project whose path nobody else has.
    pub(super) async fn insert_project(&self) -> Uuid {
        sqlx::query_scalar("insert into projects (name, path) values ('p', '/p/' || gen_random_uuid()) returning id")
            .fetch_one(self.store.pool())
            .await
            .expect("insert project")
    }
}

#[async_trait]
impl StoreUnderTest for RealStore {
    fn queue(&self) -> &dyn TaskQueue {
        &self.store
    }

    fn lease(&self) -> &dyn NodeLease {
        &self.store
    }

    fn journal(&self) -> &dyn Journal {
        &self.store
    }

    fn limits(&self) -> &dyn Limits {
        &self.store
    }

    async fn set_budget(&self, session: SessionId, budget: Budget) {
        let set = self.store.set_session_budget(session, &budget).await;
        set.expect("the session exists");
    }

    async fn set_task_budget(&self, task: TaskId, budget: Budget) {
        sqlx::query("update hearth.queue set budget = $2 where task_id = $1")
            .bind(task.0)
            .bind(sqlx::types::Json(budget))
            .execute(self.store.pool())
            .await
            .expect("the task exists");
    }

    fn operations(&self) -> &dyn Operations {
        &self.store
    }

    fn set_ups(&self) -> &dyn SetUpRows {
        &self.store
    }

    async fn project_of(&self, session: SessionId) -> ProjectId {
        sqlx::query_scalar::<_, Uuid>("select project_id from sessions where id = $1")
            .bind(session.0)
            .fetch_one(self.store.pool())
            .await
            .expect("the session exists")
            .into()
    }

    async fn decide_set_up(&self, project: ProjectId, this: &SetUp, consent: Consent) {
        let decided = self.store.decide_set_up(project, this, consent).await;
        decided.expect("written");
    }

    async fn twin(&self) -> Box<dyn StoreUnderTest> {
        let store = pg::store_on(self.connect.clone(), self.store.node()).await;
        Box::new(Self {
            store,
            connect: self.connect.clone(),
        })
    }

    async fn insert_session(&self) -> SessionId {
        let project = self.insert_project().await;
        sqlx::query_scalar::<_, Uuid>(
            "insert into sessions (project_id, name) values ($1, 's') returning id",
        )
        .bind(project)
        .fetch_one(self.store.pool())
        .await
        .expect("insert session")
        .into()
    }

    async fn insert_chat(&self, session: SessionId) -> ChatId {
        sqlx::query_scalar::<_, Uuid>(
            "insert into chats (session_id, name) values ($1, 'c') returning id",
        )
        .bind(session.0)
        .fetch_one(self.store.pool())
        .await
        .expect("insert chat")
        .into()
    }

    async fn insert_task(
        &self,
        session: Option<SessionId>,
        chat: Option<ChatId>,
        agent: &str,
    ) -> TaskId {
        let project = self.insert_project().await;
        sqlx::query_scalar::<_, Uuid>(
            "insert into tasks (project_id, session_id, chat_id, agent, input)
             values ($1, $2, $3, $4, 'say hello') returning id",
        )
        .bind(project)
        .bind(session.map(|session| session.0))
        .bind(chat.map(|chat| chat.0))
        .bind(agent)
        .fetch_one(self.store.pool())
        .await
        .expect("insert task")
        .into()
    }

    async fn insert_child(&self, parent: TaskId, agent: &str) -> TaskId {
        let project = self.insert_project().await;
        sqlx::query_scalar::<_, Uuid>(
            "insert into tasks (project_id, parent_task_id, agent, input)
             values ($1, $2, $3, 'say hello') returning id",
        )
        .bind(project)
        .bind(parent.0)
        .bind(agent)
        .fetch_one(self.store.pool())
        .await
        .expect("insert task")
        .into()
    }

    async fn reset_contexts(&self, chat: ChatId, why: &str) {
        sqlx::query("select hearth.reset_contexts($1, $2)")
            .bind(chat.0)
            .bind(why)
            .execute(self.store.pool())
            .await
            .expect("reset");
    }

    async fn trim(&self, chat: ChatId, from: MessageId) {
        sqlx::query(
            "delete from messages where chat_id = $1
                and created_at >= (select created_at from messages where id = $2)",
        )
        .bind(chat.0)
        .bind(from.0)
        .execute(self.store.pool())
        .await
        .expect("trim");
    }

    async fn wants_retry(&self, task: TaskId) {
        sqlx::query("update hearth.queue set on_interrupt = 'retry' where task_id = $1")
            .bind(task.0)
            .execute(self.store.pool())
            .await
            .expect("the task exists");
    }

    async fn dismiss(&self, task: TaskId) {
        hearth::store::rows::inbox::dismiss_task(self.store.pool(), task.0)
            .await
            .expect("dismissed");
    }

    async fn request_cancel(&self, task: TaskId) {
        self.store
            .request_cancel(task)
            .await
            .expect("the task exists");
    }

    async fn task_state(&self, task: TaskId) -> TaskState {
        let state: String = sqlx::query_scalar("select state from tasks where id = $1")
            .bind(task.0)
            .fetch_one(self.store.pool())
            .await
            .expect("the task exists");
        TaskState::parse(&state).expect("a known state")
    }

    async fn outcome(&self, task: TaskId) -> Option<Outcome> {
        let outcome: Option<String> = sqlx::query_scalar(
            "select outcome from hearth.turns where task_id = $1 and ended_at is not null
             order by attempt desc limit 1",
        )
        .bind(task.0)
        .fetch_optional(self.store.pool())
        .await
        .expect("read");
        outcome.map(|outcome| Outcome::parse(&outcome).expect("a known outcome"))
    }

    async fn answer_detached(&self, prompt: PromptId, settled: &Settled) -> Vec<Frame> {
        let answered = self.store.answer_detached(prompt, settled).await;
        answered.expect("answered")
    }

    async fn frames(&self, session: SessionId) -> Vec<Frame> {
        self.store
            .read_frames(session, 0, i64::MAX)
            .await
            .expect("read")
    }

    async fn changes(&self, session: SessionId) -> Vec<PendingChange> {
        let rows: Vec<(Uuid, String, String, Option<Uuid>)> = sqlx::query_as(
            "select id, file_path, operation, task_id from pending_changes
             where session_id = $1 and status = 'pending' order by file_path",
        )
        .bind(session.0)
        .fetch_all(self.store.pool())
        .await
        .expect("read");
        let change = |(id, path, operation, task): (Uuid, String, String, _)| PendingChange {
            id: ChangeId(id),
            path,
            operation: match operation.as_str() {
                "create" => Operation::Create,
                "edit" => Operation::Edit,
                _ => Operation::Delete,
            },
            task: Option::map(task, TaskId),
        };
        rows.into_iter().map(change).collect()
    }

    async fn status(&self, change: ChangeId) -> Option<String> {
        sqlx::query_scalar("select status from pending_changes where id = $1")
            .bind(change.0)
            .fetch_optional(self.store.pool())
            .await
            .expect("read")
    }

    async fn checkpoint_id(&self, turn: &Assignment) -> Option<CheckpointId> {
        let id: Option<Option<Uuid>> =
            sqlx::query_scalar("select checkpoint_id from hearth.turns where id = $1")
                .bind(turn.fence.turn.0)
                .fetch_optional(self.store.pool())
                .await
                .expect("read");
        id.flatten().map(CheckpointId)
    }

    async fn checkpoint(&self, turn: &Assignment) -> Option<String> {
        sqlx::query_scalar(
            "select c.commit_sha from hearth.turns t join checkpoints c on c.id = t.checkpoint_id
             where t.id = $1",
        )
        .bind(turn.fence.turn.0)
        .fetch_optional(self.store.pool())
        .await
        .expect("read")
    }

    async fn prompt(&self, prompt: PromptId) -> Option<PromptState> {
        let state: Option<String> =
            sqlx::query_scalar("select state from hearth.prompts where id = $1")
                .bind(prompt.0)
                .fetch_optional(self.store.pool())
                .await
                .expect("read");
        state.map(|state| PromptState::parse(&state).expect("a known state"))
    }

    async fn open_notices(&self) -> usize {
        let many: i64 = sqlx::query_scalar(
            "select count(*) from hearth.notices where over_at is null and dismissed_at is null",
        )
        .fetch_one(self.store.pool())
        .await
        .expect("read");
        usize::try_from(many).expect("few")
    }

    async fn message(&self, message: MessageId) -> Option<(String, String)> {
        sqlx::query_as("select status, content from messages where id = $1")
            .bind(message.0)
            .fetch_optional(self.store.pool())
            .await
            .expect("read")
    }
}

hearth_actors::store_contract!(RealStore::fresh());

mod arenas {
    use hearth::store::{CancelArena, NewArena, NewContestant, NewGround, StoreError};
    use hearth_actors::arena::CheckCommand;
    use hearth_actors::ids::{ArenaId, ProjectId};
    use hearth_actors::ports::Arenas;
    use hearth_actors::testing::contract_arenas::{ArenasUnderTest, check};
    use hearth_actors::testing::contract_store::AGENT;

    use super::*;

    #[async_trait]
    impl ArenasUnderTest for RealStore {
        fn arenas(&self) -> &dyn Arenas {
            &self.store
        }

        async fn create(
            &self,
            source: Option<SessionId>,
            many: usize,
            check: Option<CheckCommand>,
        ) -> Option<(ArenaId, Vec<TaskId>)> {
            let ground = match source {
                Some(session) => NewGround::Session(session),
                None => NewGround::Project(ProjectId(self.insert_project().await)),
            };
            let one = NewContestant {
                agent: AGENT.into(),
                model: None,
                mode: None,
                thinking: None,
                features: std::collections::BTreeMap::new(),
                policy: None,
            };
            let new = NewArena {
                ground,
                input: "compete".into(),
                contestants: vec![one; many],
                check,
                budget: None,
                idempotency_key: None,
            };
            let made = match self.store.create_arena(&new).await {
                Err(StoreError::WorktreeBusy(_)) => return None,
                made => made.expect("an arena"),
            };
            let tasks: Vec<Uuid> = sqlx::query_scalar(
                "select task_id from hearth.contestants where arena_id = $1 order by place",
            )
            .bind(made.arena.0)
            .fetch_all(self.store.pool())
            .await
            .expect("read");
            Some((made.arena, tasks.into_iter().map(TaskId).collect()))
        }

        async fn cancel_arena(&self, arena: ArenaId) {
            let cancelled = self.store.cancel_arena(arena).await;
            assert!(matches!(cancelled, Ok(CancelArena::Cancelling(..))));
        }
    }

    #[tokio::test]
    async fn the_rows_keep_the_contract() {
        check(RealStore::fresh).await;
    }
}
