//! Where tasks wait: claims and releases.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use hearth_actors::ids::{AgentName, ChatId, SessionKey};
use hearth_actors::model::{
    Assignment, Fence, Policy, Resume, TurnEnd, Usage, Worktree, WorktreeSpec,
};
use hearth_actors::outcome::Outcome;
use hearth_actors::ports::{Claim, QueueError, TaskQueue};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};
use uuid::Uuid;

use super::Store;
use super::error::queue_error;
use super::journal::finish_on;
use super::lease::live_turn;

const CLAIM: &str = include_str!("sql/claim.sql");
pub(super) const RELEASE: &str = include_str!("sql/release.sql");

/// Entries whose time has come wait like all others from now on. At most 1 000
/// at once, so that the statement stays short; the next claim takes the rest.
const UNPARK: &str = "\
    update hearth.queue set not_before = null
    where task_id in (
        select task_id from hearth.queue
        where waiting and not_before is not null and not_before <= clock_timestamp()
        order by not_before limit 1000
        for no key update skip locked)";

/// What a claim looks at from each end, at least. Larger finds the oldest head
/// more surely behind a busy session's entries; each costs a few index probes.
const LOOK: i64 = 8;

#[async_trait]
impl TaskQueue for Store {
    async fn claim(&self, credit: usize, agents: &[AgentName]) -> Result<Claim, QueueError> {
        let claim = self.claim_once(credit, agents).await?;
        let some_are_due = claim.next_due == Some(Duration::ZERO);
        if !some_are_due || claim.assignments.len() >= credit {
            return Ok(claim);
        }
        sqlx::query(UNPARK)
            .execute(&self.claims)
            .await
            .map_err(queue_error)?;
        let rest = self
            .claim_once(credit - claim.assignments.len(), agents)
            .await?;
        Ok(join(claim, rest))
    }

    async fn release(&self, fence: &Fence, after: Duration) -> Result<(), QueueError> {
        let released = sqlx::query(RELEASE)
            .bind(fence.turn.0)
            .bind(fence.attempt)
            .bind(fence.node.0)
            .bind(fence.incarnation)
            .bind(i64::try_from(after.as_millis()).unwrap_or(i64::MAX))
            .execute(&self.pool)
            .await
            .map_err(queue_error)?
            .rows_affected();
        if released == 0 {
            self.finish_if_cancelled(fence).await?;
        }
        Ok(())
    }
}

impl Store {
    async fn claim_once(&self, credit: usize, agents: &[AgentName]) -> Result<Claim, QueueError> {
        let credit = i64::try_from(credit).unwrap_or(i64::MAX / 4);
        let rows: Vec<ClaimRow> = sqlx::query_as(CLAIM)
            .bind(self.node.0)
            .bind(self.incarnation())
            .bind(self.claimable(agents))
            .bind(credit)
            .bind(LOOK.max(credit * 2))
            .bind(self.default_agent.as_ref().map(AgentName::as_str))
            .fetch_all(&self.claims)
            .await
            .map_err(queue_error)?;
        self.read_claim(rows, credit)
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

    fn read_claim(&self, rows: Vec<ClaimRow>, credit: i64) -> Result<Claim, QueueError> {
        let Some(first) = rows.first() else {
            return Ok(Claim::default());
        };
        if !first.leased {
            return Err(QueueError::LeaseLost);
        }
        let heads = first.heads;
        let next_due = first
            .next_due_ms
            .map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or_default()));
        let mut claimed: Vec<Claimed> = rows.into_iter().filter_map(|row| row.claimed).collect();
        claimed.sort_by_key(|task| task.queue_seq);
        Ok(Claim {
            more: heads > credit,
            assignments: claimed
                .into_iter()
                .map(|task| task.assignment(self))
                .collect(),
            next_due,
        })
    }

    /// A cancel that came before a release wins: the turn ends instead.
    async fn finish_if_cancelled(&self, fence: &Fence) -> Result<(), QueueError> {
        let end = TurnEnd {
            outcome: Outcome::Cancelled,
            detail: None,
            diff: None,
            usage: Usage::default(),
        };
        let mut connection = self.pool.acquire().await.map_err(queue_error)?;
        let turn = live_turn(&mut connection, fence)
            .await
            .map_err(queue_error)?;
        if let Some(turn) = turn.filter(|turn| turn.cancelled) {
            finish_on(&mut connection, &turn.turn_ref(), &end)
                .await
                .map_err(queue_error)?;
        }
        Ok(())
    }
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
    next_due_ms: Option<i64>,
    claimed: Option<Claimed>,
}

impl FromRow<'_, PgRow> for ClaimRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let turn: Option<Uuid> = row.try_get("turn_id")?;
        Ok(Self {
            leased: row.try_get("leased")?,
            heads: row.try_get("heads")?,
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
    chat_id: Uuid,
    input: String,
    model: Option<String>,
    mode_id: Option<String>,
    thinking_option_id: Option<String>,
    project_id: Uuid,
    project_path: String,
    worktree_id: Option<Uuid>,
    worktree_path: Option<String>,
    branch: Option<String>,
    base_commit: Option<String>,
    baseline: Option<String>,
    last_tree: Option<String>,
    agent_session_id: Option<String>,
    config_hash: Option<String>,
    home_id: Option<String>,
}

impl Claimed {
    fn assignment(self, store: &Store) -> Assignment {
        let worktree = self.worktree();
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
            session: self.session_id.into(),
            input: self.input,
            user_message: self.user_message_id.into(),
            assistant_message: self.assistant_message_id.into(),
            model: self.model,
            mode: self.mode_id,
            thinking: self.thinking_option_id,
            policy: self.policy.as_deref().and_then(parse_policy),
            worktree: WorktreeSpec {
                session: self.session_id.into(),
                project: self.project_id.into(),
                project_path: PathBuf::from(self.project_path),
                existing: worktree,
            },
            resume,
            last_tree: self.last_tree,
        }
    }

    /// A row without branch or base commit (the front end's own) is adopted by
    /// its path alone; the worktrees room finds out the rest.
    fn worktree(&self) -> Option<Worktree> {
        Some(Worktree {
            id: self.worktree_id?.into(),
            path: PathBuf::from(self.worktree_path.as_deref()?),
            branch: self.branch.clone().unwrap_or_default(),
            base_commit: self.base_commit.clone().unwrap_or_default(),
            baseline: self.baseline.clone().unwrap_or_default(),
        })
    }

    fn resume(&self) -> Option<Resume> {
        Some(Resume {
            agent_session_id: self.agent_session_id.clone()?,
            home_id: self.home_id.clone()?,
            config_hash: self.config_hash.clone()?,
        })
    }
}

fn parse_policy(word: &str) -> Option<Policy> {
    match word {
        "deny" => Some(Policy::Deny),
        "ask" => Some(Policy::Ask),
        "allow_edits" => Some(Policy::AllowEdits),
        "allow_all" => Some(Policy::AllowAll),
        _ => None,
    }
}
