//! Where tasks wait: claims and releases.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use hearth_actors::event::{Frame, FrameKind};
use hearth_actors::handover::ContextNote;
use hearth_actors::ids::{AgentName, ChatId, SessionKey};
use hearth_actors::limits::{AgentRest, Parked};
use hearth_actors::model::{Assignment, Fence, Policy, Resume, TurnEnd, Usage, WorktreeSpec};
use hearth_actors::outcome::Outcome;
use hearth_actors::ports::{Claim, QueueError, TaskQueue};
use hearth_actors::rules::routing::Origin;
use serde_json::Value;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row};
use uuid::Uuid;

use super::Store;
use super::detached::answers;
use super::error::{is_in_doubt, queue_error};
use super::finish::finish_on;
use super::frames::in_order;
use super::lease::live_turn;
use super::limits::millis;
use super::text::clean;
use super::worktree_row::WorktreeRow;

/// Two looks at the queue, which both end with taking what they found.
const CLAIM_OLDEST: &str = concat!(
    include_str!("sql/claim_oldest.sql"),
    include_str!("sql/claim_take.sql")
);
const CLAIM_ANYWHERE: &str = concat!(
    include_str!("sql/claim_anywhere.sql"),
    include_str!("sql/claim_take.sql")
);
const RELEASE: &str = include_str!("sql/release.sql");

/// Entries whose time has come wait like all others from now on. At most 1 000
/// at once, so that the statement stays short; the next claim takes the rest.
const UNPARK: &str = "\
    update hearth.queue set not_before = null
    where task_id in (
        select task_id from hearth.queue
        where waiting and not_before is not null and not_before <= clock_timestamp()
        order by not_before limit 1000
        for no key update skip locked)";

/// By the index of its workspace's entries, however many others of the agent wait.
const WAITS: &str = "\
    select exists (
        select 1 from hearth.queue q
        where q.session_id = (select c.session_id from chats c where c.id = $2)
            and q.waiting and q.not_before is null
            and q.chat_id = $2 and q.agent = any($1))";

/// How many of the oldest entries a claim looks at, and else at how many free
/// sessions, at least. It bounds the order: what is claimed comes by
/// `queue_seq` as long as fewer entries of busy sessions than this stand in
/// front. Each costs a few index probes, and only where they wait.
const LOOK: i64 = 32;

#[async_trait]
impl TaskQueue for Store {
    async fn claim(&self, credit: usize, agents: &[AgentName]) -> Result<Claim, QueueError> {
        let mut claim = self.claim_once(credit, agents).await?;
        if claim.next_due != Some(Duration::ZERO) {
            return Ok(claim);
        }
        if claim.assignments.len() >= credit {
            // They are older than what waits: the next claim finds them in their places.
            claim.left |= self.unpark_due().await.is_ok();
            return Ok(claim);
        }
        // What has been claimed is ours whatever happens now.
        match self
            .claim_due(credit - claim.assignments.len(), agents)
            .await
        {
            Ok(rest) => Ok(join(claim, rest)),
            Err(error) if claim.assignments.is_empty() => Err(error),
            Err(_) => Ok(claim),
        }
    }

    async fn release(
        &self,
        fence: &Fence,
        parked: Option<&Parked>,
    ) -> Result<Vec<Frame>, QueueError> {
        let mut connection = self.pool.acquire().await.map_err(queue_error)?;
        let released = release_on(&mut connection, fence, parked).await;
        drop(connection);
        match released.map_err(queue_error)? {
            Some(row) => Ok(row.frame().into_iter().collect()),
            None => self.finish_if_cancelled(fence).await,
        }
    }

    async fn waits(&self, key: &SessionKey) -> Result<bool, QueueError> {
        sqlx::query_scalar(WAITS)
            .bind(self.claimable(std::slice::from_ref(&key.agent)))
            .bind(key.chat.0)
            .fetch_one(&self.pool)
            .await
            .map_err(queue_error)
    }
}

/// A task that was given back, and the frame that tells so, if it has one.
#[derive(FromRow)]
pub(super) struct Released {
    session_id: Uuid,
    chat_id: Option<Uuid>,
    task_id: Uuid,
    message_id: Uuid,
    seq: Option<i64>,
    at: Option<DateTime<Utc>>,
    data: Option<Value>,
}

impl Released {
    fn frame(self) -> Option<Frame> {
        Some(Frame {
            seq: self.seq?,
            kind: FrameKind::TaskUpdated,
            session_id: self.session_id.into(),
            chat_id: self.chat_id.map(Into::into),
            task_id: Some(self.task_id.into()),
            message_id: Some(self.message_id.into()),
            at: self.at?,
            data: self.data?,
        })
    }
}

/// Gives a turn back on `connection`, which may be in a transaction. None when
/// the fence is old, or a cancel came first.
pub(super) async fn release_on(
    connection: &mut PgConnection,
    fence: &Fence,
    parked: Option<&Parked>,
) -> sqlx::Result<Option<Released>> {
    sqlx::query_as(RELEASE)
        .bind(fence.turn.0)
        .bind(fence.attempt)
        .bind(fence.node.0)
        .bind(fence.incarnation)
        .bind(parked.map_or(0, |parked| millis(parked.after)))
        .bind(parked.map(|parked| parked.reason.as_str()))
        .bind(parked.is_some_and(|parked| parked.open_ended))
        .bind(parked.and_then(|parked| parked.detail.as_deref().map(clean)))
        .fetch_optional(connection)
        .await
}

impl Store {
    /// The oldest entries; the whole queue only when these are of busy sessions.
    async fn claim_once(&self, credit: usize, agents: &[AgentName]) -> Result<Claim, QueueError> {
        self.settle_claims().await.map_err(queue_error)?;
        let look = Look::of(credit);
        let near = self.look(CLAIM_OLDEST, credit, look, agents).await?;
        let hidden = near.looked_at >= look.0;
        let mut claim = near.claim;
        if !hidden || claim.assignments.len() >= credit {
            claim.more |= hidden;
            claim.left |= hidden;
            return Ok(claim);
        }
        let left = credit - claim.assignments.len();
        match self.look(CLAIM_ANYWHERE, left, look, agents).await {
            Ok(far) => {
                let mut claim = join(claim, far.claim);
                claim.left = true;
                Ok(claim)
            }
            Err(error) if claim.assignments.is_empty() => Err(error),
            Err(_) => {
                claim.left = true;
                Ok(claim)
            }
        }
    }

    async fn look(
        &self,
        sql: &'static str,
        credit: usize,
        look: Look,
        agents: &[AgentName],
    ) -> Result<Looked, QueueError> {
        let credit = i64::try_from(credit).unwrap_or(i64::MAX / 4);
        let sent = self.new_claim();
        let answer: sqlx::Result<Vec<ClaimRow>> = sqlx::query_as(sql)
            .bind(self.node.0)
            .bind(self.incarnation())
            .bind(self.claimable(agents))
            .bind(credit)
            .bind(look.0)
            .bind(self.default_agent.as_ref().map(AgentName::as_str))
            .bind(sent.id)
            .fetch_all(&self.claims)
            .await;
        if answer
            .as_ref()
            .err()
            .is_none_or(|error| !is_in_doubt(error))
        {
            sent.answered();
        }
        self.read_claim(answer.map_err(queue_error)?, credit)
    }

    async fn claim_due(&self, credit: usize, agents: &[AgentName]) -> Result<Claim, QueueError> {
        self.unpark_due().await?;
        self.claim_once(credit, agents).await
    }

    async fn unpark_due(&self) -> Result<(), QueueError> {
        sqlx::query(UNPARK)
            .execute(&self.claims)
            .await
            .map_err(queue_error)?;
        Ok(())
    }

    /// The words of `hearth.queue.agent` that may be claimed: a task without an
    /// agent has the empty one.
    fn claimable(&self, agents: &[AgentName]) -> Vec<String> {
        let default = self
            .default_agent
            .as_ref()
            .filter(|default| agents.contains(default));
        agents
            .iter()
            .map(AgentName::to_string)
            .chain(default.map(|_| String::new()))
            .collect()
    }

    fn read_claim(&self, rows: Vec<ClaimRow>, credit: i64) -> Result<Looked, QueueError> {
        let Some(first) = rows.first() else {
            return Ok(Looked::default());
        };
        if !first.leased {
            return Err(QueueError::LeaseLost);
        }
        let (heads, looked_at) = (first.heads, first.entries);
        let next_due = first
            .next_due_ms
            .map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or_default()));
        let mut claimed: Vec<Claimed> = rows.into_iter().filter_map(|row| row.claimed).collect();
        claimed.sort_by_key(|task| task.queue_seq);
        Ok(Looked {
            looked_at,
            claim: Claim {
                more: heads > credit,
                left: usize::try_from(looked_at).is_ok_and(|entries| entries > claimed.len()),
                assignments: claimed
                    .into_iter()
                    .map(|task| task.assignment(self))
                    .collect(),
                next_due,
            },
        })
    }

    /// A cancel that came before a release wins: the turn ends instead.
    async fn finish_if_cancelled(&self, fence: &Fence) -> Result<Vec<Frame>, QueueError> {
        let end = TurnEnd {
            outcome: Outcome::Cancelled,
            detail: None,
            diff: None,
            usage: Usage::default(),
            taken: None,
        };
        let mut connection = self.pool.acquire().await.map_err(queue_error)?;
        let turn = live_turn(&mut connection, fence)
            .await
            .map_err(queue_error)?;
        if let Some(turn) = turn.filter(|turn| turn.cancelled) {
            let rows = finish_on(&mut connection, &turn.turn_ref(), &end)
                .await
                .map_err(queue_error)?;
            return Ok(in_order(rows));
        }
        Ok(Vec::new())
    }
}

/// How many entries or sessions one look may touch.
#[derive(Clone, Copy)]
struct Look(i64);

impl Look {
    fn of(credit: usize) -> Self {
        Self(LOOK.max(i64::try_from(credit * 2).unwrap_or(i64::MAX / 4)))
    }
}

/// What one look brought, and how much it had to look at.
#[derive(Default)]
struct Looked {
    looked_at: i64,
    claim: Claim,
}

fn join(mut claim: Claim, rest: Claim) -> Claim {
    claim.assignments.extend(rest.assignments);
    Claim {
        assignments: claim.assignments,
        ..rest
    }
}

struct ClaimRow {
    leased: bool,
    heads: i64,
    entries: i64,
    next_due_ms: Option<i64>,
    claimed: Option<Claimed>,
}

impl FromRow<'_, PgRow> for ClaimRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let turn: Option<Uuid> = row.try_get("turn_id")?;
        Ok(Self {
            leased: row.try_get("leased")?,
            heads: row.try_get("heads")?,
            entries: row.try_get("entries")?,
            next_due_ms: row.try_get("next_due_ms")?,
            claimed: turn.map(|_| Claimed::from_row(row)).transpose()?,
        })
    }
}

#[derive(FromRow)]
struct Claimed {
    turn_id: Uuid,
    task_id: Uuid,
    session_id: Uuid,
    attempt: i32,
    incarnation: i64,
    agent: String,
    user_message_id: Uuid,
    assistant_message_id: Uuid,
    queue_seq: i64,
    policy: Option<String>,
    budgeted: bool,
    chat_id: Uuid,
    input: String,
    model: Option<String>,
    mode_id: Option<String>,
    thinking_option_id: Option<String>,
    feature_values: Option<Value>,
    project_id: Uuid,
    project_path: String,
    own_chat: bool,
    is_child: bool,
    is_contestant: bool,
    start_commit: Option<String>,
    #[sqlx(flatten)]
    worktree: WorktreeRow,
    begins_with: Option<String>,
    last_tree: Option<String>,
    agent_session_id: Option<String>,
    config_hash: Option<String>,
    home_id: Option<String>,
    begun: Option<bool>,
    forgotten: Option<String>,
    behind: bool,
    answers: Option<Value>,
    rests_ms: Option<i64>,
    rests_because: Option<String>,
}

/// Anybody may have written the column; what is no object wishes for nothing.
pub(super) fn features(values: Option<Value>) -> BTreeMap<String, Value> {
    match values {
        Some(Value::Object(values)) => values.into_iter().collect(),
        _ => BTreeMap::new(),
    }
}

impl Claimed {
    fn assignment(self, store: &Store) -> Assignment {
        let rests = self.rests();
        let resume = self.resume();
        Assignment {
            fence: Fence {
                task: self.task_id.into(),
                turn: self.turn_id.into(),
                attempt: self.attempt,
                node: store.node,
                incarnation: self.incarnation,
            },
            key: SessionKey {
                chat: ChatId(self.chat_id),
                agent: AgentName::from(self.agent),
            },
            chat: ChatId(self.chat_id),
            origin: Origin {
                own_chat: self.own_chat,
                child: self.is_child,
                contestant: self.is_contestant,
            },
            session: self.session_id.into(),
            input: self.input,
            user_message: self.user_message_id.into(),
            assistant_message: self.assistant_message_id.into(),
            model: self.model,
            mode: self.mode_id,
            thinking: self.thinking_option_id,
            features: features(self.feature_values),
            policy: self.policy.as_deref().and_then(Policy::parse),
            budgeted: self.budgeted || !store.budgets.is_empty(),
            worktree: WorktreeSpec {
                session: self.session_id.into(),
                project: self.project_id.into(),
                project_path: PathBuf::from(self.project_path),
                existing: self.worktree.worktree(),
                start: self.start_commit,
                begins_with: self.begins_with,
            },
            resume,
            last_tree: self.last_tree,
            context: ContextNote {
                begun: self.begun.unwrap_or(true),
                behind: self.behind,
                forgotten: self.forgotten,
            },
            goes_on: answers(self.answers),
            rests,
        }
    }

    fn rests(&self) -> Option<AgentRest> {
        let left = u64::try_from(self.rests_ms?).unwrap_or_default();
        Some(AgentRest {
            left: Duration::from_millis(left),
            because: self.rests_because.clone(),
        })
    }

    fn resume(&self) -> Option<Resume> {
        if self.forgotten.is_some() {
            return None;
        }
        Some(Resume {
            agent_session_id: self.agent_session_id.clone()?,
            home_id: self.home_id.clone()?,
            config_hash: self.config_hash.clone()?,
        })
    }
}
