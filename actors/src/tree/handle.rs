//! What the rest of the service may ask of the tree.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, RpcReplyPort};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::event::AskOption;
use crate::ids::{ChatId, PromptId, SessionId, SessionKey, TaskId};
use crate::operation::{Asked, Done};
use crate::ports::{OperationsError, Ports, ReapError};
use crate::prompt::AnsweredBy;
use crate::reap::Report;
use crate::rules::evict::Stays;
use crate::tree::addr::{Addr, Depth};
use crate::tree::board::{Board, TreeNode};
use crate::tree::hub::Hub;
use crate::tree::pool;
use crate::tree::root::{self, Root, Status};
use crate::tree::session;
use crate::tree::shared::{Limits, Shared, TreeSettings};

/// Longest wait for an answer of an actor.
const ANSWER_BOUND: Duration = Duration::from_secs(20);
/// Longest wait for a look of the reaper, which may remove whole worktrees.
const REAP_BOUND: Duration = Duration::from_secs(600);

/// The tree, seen from outside. Cheap to clone.
#[derive(Clone)]
pub struct TreeHandle {
    shared: Arc<Shared>,
    root: Addr<root::Msg>,
    status: watch::Receiver<Status>,
}

/// Why the tree did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// No warm session has that key.
    #[error("no warm session {0}")]
    NotWarm(SessionKey),
    /// A turn runs in it.
    #[error("a turn is running in it")]
    TurnRunning,
    /// It is starting.
    #[error("it is starting")]
    Starting,
    /// A human has not answered it yet.
    #[error("it waits for an answer of a human")]
    OpenPrompt,
    /// It is going away already.
    #[error("it is stopping")]
    Stopping,
    /// Its turn is over, and not all of it is stored.
    #[error("the end of its turn is being stored")]
    UnstoredOutput,
    /// A message waits for it.
    #[error("a message waits for it")]
    QueuedMessage,
    /// Its agent left work running.
    #[error("its agent left processes running in the background; a restart ends them")]
    BackgroundWork,
    /// Its context would be lost.
    #[error(
        "its agent cannot continue its context in another process; a restart begins a fresh one"
    )]
    NotResumable,
    /// It cannot be told whether it may go.
    #[error("it could not be found out whether something still needs it; try again")]
    Unknown,
    /// Nothing waits for that answer here, or not for such a one.
    #[error("nothing waits for this answer")]
    NoPrompt,
    /// It cools down after too many crashes.
    #[error("it cools down after too many crashes")]
    Cooling,
    /// The tree is stopping or did not answer in time.
    #[error("the supervision tree does not answer: {0}")]
    Unavailable(String),
}

impl From<Stays> for Refusal {
    fn from(stays: Stays) -> Self {
        match stays {
            Stays::TurnRunning => Self::TurnRunning,
            Stays::UnstoredOutput => Self::UnstoredOutput,
            Stays::OpenPrompt => Self::OpenPrompt,
            Stays::QueuedMessage => Self::QueuedMessage,
            Stays::BackgroundWork => Self::BackgroundWork,
            Stays::NotResumable => Self::NotResumable,
            Stays::Starting => Self::Starting,
            Stays::Stopping => Self::Stopping,
            Stays::Unknown => Self::Unknown,
        }
    }
}

impl TreeHandle {
    /// Starts the tree. It claims nothing before its node's lease is won, which
    /// [`TreeHandle::status`] tells.
    ///
    /// # Errors
    /// When the root actor cannot be started.
    pub async fn start(ports: Ports, settings: TreeSettings) -> Result<Self, String> {
        let shared = Arc::new(Shared::new(ports, settings));
        let (status, watched) = watch::channel(Status::Starting);
        let depth = Depth::default();
        let arguments = root::Arguments {
            shared: shared.clone(),
            status,
            depth: depth.clone(),
        };
        let (actor, _) = Actor::spawn(None, Root, arguments)
            .await
            .map_err(|error| error.to_string())?;
        Ok(Self {
            shared,
            root: Addr::new(actor, depth),
            status: watched,
        })
    }

    /// Starting, ready, stopped or failed; changes are told.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Something may be claimable: look. Carries no data and coalesces.
    pub fn wakeup(&self) {
        self.root.cast(root::Msg::Wake);
    }

    /// Something may have to be done about an arena: look. Coalesces.
    pub fn look_at_arenas(&self) {
        self.root.cast(root::Msg::LookAtArenas);
    }

    /// Somebody set a budget: turns that it may bound look at what they used.
    pub fn look_at_budgets(&self) {
        self.tell(pool::Msg::BudgetSet);
    }

    /// Ends the running turn of `task`, if this node runs it. Its frames tell
    /// when it is over: within 6 s whatever the agent does.
    pub fn cancel(&self, task: TaskId) {
        self.tell(pool::Msg::Cancel(task));
    }

    /// Answers a prompt of `task` with one of its options; of one that takes words,
    /// the label is what they are. Returns when its row says how
    /// it was settled, by this answer or by an earlier one.
    ///
    /// # Errors
    /// [`Refusal::NoPrompt`] when no session here waits for such an answer;
    /// [`Refusal::Unavailable`] when it is not known yet what became of it.
    pub async fn answer(
        &self,
        task: TaskId,
        prompt: PromptId,
        answer: AskOption,
        by: AnsweredBy,
    ) -> Result<(), Refusal> {
        self.ask(|told| {
            let reply = session::Reply {
                prompt,
                answer,
                by,
                told,
            };
            pool::Msg::Answer(task, reply)
        })
        .await
    }

    /// Ends whatever runs in `chat` and stops its agents.
    pub fn close_chat(&self, chat: ChatId) {
        self.tell(pool::Msg::CloseChat(chat));
    }

    /// Ends whatever runs in `session` and stops its agents.
    pub fn close_session(&self, session: SessionId) {
        self.tell(pool::Msg::CloseSession(session));
    }

    /// Stops the idle warm session of `key`; the next prompt starts it again.
    ///
    /// # Errors
    /// A [`Refusal`] when it is not idle.
    pub async fn evict(&self, key: SessionKey) -> Result<(), Refusal> {
        self.ask(|reply| pool::Msg::Evict(key, reply)).await
    }

    /// Stops the warm session of `key`, interrupting its turn, and forgets its
    /// crashes; the next prompt starts it again.
    ///
    /// # Errors
    /// A [`Refusal`] when there is none.
    pub async fn restart(&self, key: SessionKey) -> Result<(), Refusal> {
        self.ask(|reply| pool::Msg::Restart(key, reply)).await
    }

    /// Carries out an order on a session's files and waits for its end, at most
    /// for `patience`. None when it was not over by then: it goes on, and the
    /// journal of operations tells its end.
    pub async fn operate(
        &self,
        asked: Asked,
        patience: Duration,
    ) -> Option<Result<Done, OperationsError>> {
        self.root
            .call(|reply| root::Msg::Operate(Box::new(asked), reply), patience)
            .await
    }

    /// Looks for worktrees that nobody needs, and removes what loses nothing; with
    /// `dry_run` it only looks. Waits at most 10 minutes.
    ///
    /// # Errors
    /// It could not look.
    pub async fn reap(&self, dry_run: bool) -> Result<Report, ReapError> {
        self.root
            .call(|reply| root::Msg::Reap(dry_run, reply), REAP_BOUND)
            .await
            .unwrap_or_else(|| {
                let why = "it is starting, stopping, or too busy to answer within 10 minutes";
                Err(ReapError::Unavailable(why.into()))
            })
    }

    /// The snapshots of all actors.
    #[must_use]
    pub fn board(&self) -> &Board {
        &self.shared.board
    }

    /// The whole tree with the memory of each agent's processes, which is looked up
    /// now, on a thread that may block; none before the root is up.
    pub async fn snapshot(&self) -> Option<TreeNode> {
        let (mut tree, own) = (self.shared.board.tree()?, self.clone());
        let weigh = move || {
            own.weigh(&mut tree);
            tree
        };
        tokio::task::spawn_blocking(weigh).await.ok()
    }

    /// Live frames.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.shared.hub
    }

    /// Stops claiming, lets turns finish for `grace`, then stops and awaits
    /// everything. Turns that wait for a human end at once: what they ask stays open.
    pub async fn shutdown(&self, grace: Duration) {
        let bound = grace + Duration::from_secs(40);
        self.root
            .call(|reply| root::Msg::Shutdown(grace, reply), bound)
            .await;
    }

    fn weigh(&self, node: &mut TreeNode) {
        let key = SessionKey::deserialize(&node.snapshot.detail["key"]);
        if let Ok(key) = key {
            let rss = self.shared.ports.processes.rss_bytes(&key);
            for child in node
                .children
                .iter_mut()
                .filter(|child| child.snapshot.kind == "agent")
            {
                child.snapshot.rss_bytes = rss;
            }
        }
        // What the pool weighed last, where people look for it.
        if node.snapshot.kind == "pool" {
            let weights = node.snapshot.detail["weights"].take();
            for child in &mut node.children {
                let bytes = &weights[child.snapshot.name.as_str()];
                if child.snapshot.kind == "session" && bytes.is_u64() {
                    child.snapshot.detail["memory_bytes"] = bytes.clone();
                }
            }
        }
        for child in &mut node.children {
            self.weigh(child);
        }
    }

    fn tell(&self, message: pool::Msg) {
        self.root.cast(root::Msg::Pool(message));
    }

    /// What the pool may hold now.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.shared.limits()
    }

    /// Sets the limits anew, and lets sessions make way whose agent is defined
    /// otherwise by now. Whatever runs goes on.
    pub fn reload(&self, limits: Limits) {
        self.shared.set_limits(limits);
        self.root.cast(root::Msg::Reloaded);
    }

    /// A stop that is under way waits for no turn any more: they are interrupted.
    pub fn hurry(&self) {
        self.root.cast(root::Msg::Hurry);
    }

    /// The tree handles messages: its root and its pool answer within `bound`, or it
    /// has none yet.
    pub async fn answers(&self, bound: Duration) -> bool {
        let asked = self.root.call(root::Msg::Ping, bound).await;
        asked.is_some()
    }

    async fn ask(
        &self,
        message: impl FnOnce(RpcReplyPort<Result<(), Refusal>>) -> pool::Msg,
    ) -> Result<(), Refusal> {
        self.root
            .call(|reply| root::Msg::Pool(message(reply)), ANSWER_BOUND)
            .await
            .unwrap_or_else(|| {
                let why = "it is starting, stopping, or too busy to answer within 20 s";
                Err(Refusal::Unavailable(why.into()))
            })
    }
}
