//! What the handlers share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use hearth_actors::event::AskOption;
use hearth_actors::ids::{ChatId, PromptId, SessionId, SessionKey, TaskId};
use hearth_actors::model::Policy;
use hearth_actors::operation::{Asked, Done};
use hearth_actors::ports::{OperationsError, ReapError, ReapFiles, SetUpFiles};
use hearth_actors::prompt::AnsweredBy;
use hearth_actors::reap::Report;
use hearth_actors::tree::board::{Board, TreeNode};
use hearth_actors::tree::handle::{Refusal, TreeHandle};
use hearth_actors::tree::hub::Hub;
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::checkpoints::History;
use super::hosts::HostRules;
use super::stream::Admission;
use super::tickets::{self, Tickets};
use crate::access::Token;
use crate::metrics::Metrics;
use crate::store::Store;

/// Requests handled at a time, streams not counted once they flow.
const MAX_REQUESTS: usize = 256;

/// How our own command line names itself: `<this><version>` in `User-Agent`.
pub const CLI_AGENT: &str = "hearth-cli/";

/// What the handlers share. Cheap to clone.
pub type AppState = Arc<Shared>;

/// The parts behind [`AppState`], and what bounds their use.
pub struct Shared {
    parts: Parts,
    /// Bounds open streams.
    pub(super) streams: Arc<Admission>,
    /// What pages open streams with.
    pub(super) tickets: Tickets,
    /// Bounds requests in flight.
    pub(super) requests: Arc<Semaphore>,
    /// Somebody asked that the service stops.
    pub(super) draining: AtomicBool,
}

/// What one service is made of.
pub struct Parts {
    /// The memory.
    pub store: Store,
    /// The supervision tree.
    pub tree: Arc<dyn Tree>,
    /// Opens the API.
    pub token: Token,
    /// Which Host headers are ours.
    pub hosts: HostRules,
    /// Settings that may change meanwhile, as they are set at this moment.
    pub known: watch::Receiver<Arc<Known>>,
    /// Runs tasks that name nobody.
    pub default_agent: Option<String>,
    /// What was counted.
    pub metrics: Metrics,
    /// Asks the service to stop.
    pub stop: mpsc::Sender<Stop>,
    /// Finds out about agents.
    pub looks: Arc<dyn Looks>,
    /// Looks at a directory before it becomes a project.
    pub repositories: Arc<dyn Repositories>,
    /// Looks back at checkpoints.
    pub history: Arc<dyn History>,
    /// Tells what would be lost with a worktree.
    pub files: Arc<dyn ReapFiles>,
    /// Reads what projects want done in their worktrees.
    pub set_ups: Arc<dyn SetUpFiles>,
    /// Projects lie below one of these; empty means anywhere.
    pub project_roots: Vec<PathBuf>,
    /// How the service is.
    pub health: watch::Receiver<Health>,
    /// Ends the streams, so that a stop need not wait for their readers.
    pub closing: CancellationToken,
    /// Whose process calls.
    pub peers: Arc<dyn Peers>,
    /// What bounds connections and streams.
    pub limits: Limits,
}

/// Who can be asked, and what else a new reading of the settings changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Agents that tasks may name, and what each may do unasked.
    pub agents: BTreeMap<String, Policy>,
    /// Agents by another name, and whom they stand for.
    pub aliases: BTreeMap<String, String>,
    /// How long a stop waits for turns, where nobody says otherwise.
    pub grace: Duration,
}

impl Parts {
    /// What is set now.
    #[must_use]
    pub fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.borrow())
    }
}

/// A wish to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// How long turns that run may go on.
    pub grace: Duration,
}

/// What bounds connections and streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at a time (512): as many as streams and requests together.
    pub connections: usize,
    /// Those of one address (448): all that one may have of streams, and all
    /// requests. Every caller of this machine is one address.
    pub connections_per_caller: usize,
    /// From a connection's begin, or from its last answer, to the whole head of
    /// its next request (30 s).
    pub head_deadline: Duration,
    /// Streams open at a time (256): each holds a connection.
    pub streams: usize,
    /// Those of one address (192), so that one machine cannot take them all.
    pub streams_per_caller: usize,
    /// A connection whose reader takes nothing for so long is cut (30 s).
    pub write_deadline: Duration,
    /// How long a ticket can be used (30 s).
    pub ticket_ttl: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            connections_per_caller: 448,
            head_deadline: Duration::from_secs(30),
            streams: 256,
            streams_per_caller: 192,
            write_deadline: Duration::from_secs(30),
            ticket_ttl: tickets::TTL,
        }
    }
}

impl Shared {
    /// The state of one service.
    #[must_use]
    pub fn new(parts: Parts) -> AppState {
        Arc::new(Self {
            streams: Arc::new(Admission::new(
                parts.limits.streams,
                parts.limits.streams_per_caller,
            )),
            tickets: Tickets::new(parts.limits.ticket_ttl),
            requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
            draining: AtomicBool::new(false),
            parts,
        })
    }
}

/// Handlers read the parts as fields of the state.
impl Deref for Shared {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

/// How the service is, as the wiring tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether tasks are accepted and run.
    pub readiness: Readiness,
    /// When this process began.
    pub started_at: DateTime<Utc>,
    /// Why the last life of the tree or of the service ended, if it is known.
    pub last_restart: Option<String>,
    /// What a person should know: an agent that is missing, …
    pub warnings: Vec<String>,
    /// `enforced: ` what the kernel holds agents to, or `not enforced: ` why.
    pub kernel_limits: String,
}

/// Whether tasks are accepted and run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// Still reconciling what the last life left.
    Starting,
    /// Yes.
    Ready,
    /// A stop was asked for.
    Stopping,
}

/// What the routes ask of the supervision tree.
#[async_trait]
pub trait Tree: Send + Sync {
    /// Something may be claimable.
    fn wakeup(&self);
    /// Something may have to be done about an arena.
    fn look_at_arenas(&self);
    /// Somebody set a budget: turns that it may bound look at what they used.
    fn look_at_budgets(&self);
    /// Ends the running turn of `task`.
    fn cancel(&self, task: TaskId);
    /// Answers a prompt of `task` with one of its options, and waits until its row
    /// tells how it was settled.
    async fn answer(
        &self,
        task: TaskId,
        prompt: PromptId,
        answer: AskOption,
        by: AnsweredBy,
    ) -> Result<(), Refusal>;
    /// Stops the idle warm session of `key`.
    async fn evict(&self, key: SessionKey) -> Result<(), Refusal>;
    /// Stops the warm session of `key` and forgets its crashes.
    async fn restart(&self, key: SessionKey) -> Result<(), Refusal>;
    /// Carries out an order on a session's files; none when it was not over
    /// within `patience` and goes on.
    async fn operate(
        &self,
        asked: Asked,
        patience: Duration,
    ) -> Option<Result<Done, OperationsError>>;
    /// Ends whatever runs in the chat and stops its agents.
    fn close_chat(&self, chat: ChatId);
    /// The same for all chats of the session.
    fn close_session(&self, session: SessionId);
    /// Looks for worktrees that nobody needs; removes them unless it is only to look.
    async fn reap(&self, dry_run: bool) -> Result<Report, ReapError>;
    /// The snapshots of all actors.
    fn board(&self) -> &Board;
    /// All of them as a tree, with what is looked up only when asked for.
    async fn snapshot(&self) -> Option<TreeNode> {
        self.board().tree()
    }
    /// Live frames.
    fn hub(&self) -> &Hub;
}

#[async_trait]
impl Tree for TreeHandle {
    fn wakeup(&self) {
        Self::wakeup(self);
    }

    fn look_at_arenas(&self) {
        Self::look_at_arenas(self);
    }

    fn look_at_budgets(&self) {
        Self::look_at_budgets(self);
    }

    fn cancel(&self, task: TaskId) {
        Self::cancel(self, task);
    }

    async fn answer(
        &self,
        task: TaskId,
        prompt: PromptId,
        answer: AskOption,
        by: AnsweredBy,
    ) -> Result<(), Refusal> {
        Self::answer(self, task, prompt, answer, by).await
    }

    async fn evict(&self, key: SessionKey) -> Result<(), Refusal> {
        Self::evict(self, key).await
    }

    async fn restart(&self, key: SessionKey) -> Result<(), Refusal> {
        Self::restart(self, key).await
    }

    async fn operate(
        &self,
        asked: Asked,
        patience: Duration,
    ) -> Option<Result<Done, OperationsError>> {
        Self::operate(self, asked, patience).await
    }

    fn close_chat(&self, chat: ChatId) {
        Self::close_chat(self, chat);
    }

    fn close_session(&self, session: SessionId) {
        Self::close_session(self, session);
    }

    async fn reap(&self, dry_run: bool) -> Result<Report, ReapError> {
        Self::reap(self, dry_run).await
    }

    fn board(&self) -> &Board {
        Self::board(self)
    }

    async fn snapshot(&self) -> Option<TreeNode> {
        Self::snapshot(self).await
    }

    fn hub(&self) -> &Hub {
        Self::hub(self)
    }
}

/// What access asks of the process room.
#[async_trait]
pub trait Peers: Send + Sync {
    /// Whose process holds the other end of a connection within this machine:
    /// `peer` is its end, `local` ours.
    async fn origin(&self, peer: SocketAddr, local: SocketAddr) -> Origin;
}

/// Whose process calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// One of an agent of this service, and whose; none for one that works for
    /// no chat.
    Agent(Option<SessionKey>),
    /// None of those.
    Elsewhere,
    /// Its end is closed already, so that nobody can tell.
    Gone,
}

/// What the routes ask about agents.
pub trait Looks: Send + Sync {
    /// The agents that can be looked at, ordered.
    fn names(&self) -> Vec<String>;
    /// Looks at these soon; each is one of the names.
    fn ask(&self, names: &[String]);
    /// Those that are being looked at or will be.
    fn pending(&self) -> Vec<String>;
}

/// What registration asks of the worktrees.
#[async_trait]
pub trait Repositories: Send + Sync {
    /// Looks at the checkout that `path` lies in.
    ///
    /// # Errors
    /// Why it cannot be worked in, and the cure, for a person.
    async fn inspect(&self, path: &Path) -> Result<Repository, String>;
}

/// A checkout that can become a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// Its root, without symlinks.
    pub root: PathBuf,
    /// It has changes that no commit holds.
    pub dirty: bool,
    /// Their paths, as far as they are known; a new folder ends with `/`.
    pub uncommitted: Vec<String>,
}
