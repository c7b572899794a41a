//! One operation under way: carries out what its course says.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::ids::{OperationId, SessionId};
use crate::model::{Diff, Worktree};
use crate::operation::{Abandoned, Asked, Begun, Done, OperationState, Owner, Quiet};
use crate::ports::{OperationsError, WorktreeError};
use crate::prompt::Notice;
use crate::review::{Conflict, Order, Plan, Planned, Work};
use crate::rules::operation::{Act, Came, Course, FILE_TRIES, Next};
use crate::rules::risk;
use crate::tree::addr::{Addr, panic_text};
use crate::tree::board::Snapshot;
use crate::tree::pool;
use crate::tree::ready;
use crate::tree::shared::{Shared, with_source};

/// Longest wait for agents to stop: the ladder of one that ignores it.
const QUIET_BOUND: Duration = Duration::from_secs(20);
/// Longest work on a plan, which writes no file.
const PLAN_BOUND: Duration = Duration::from_secs(600);
/// Longer work on files is told to people. It is not cut short: half of it is
/// what must not stay.
const FILES_BOUND: Duration = Duration::from_secs(600);

/// One operation under way.
pub(super) struct Job {
    shared: Arc<Shared>,
    course: Course,
    id: OperationId,
    session: SessionId,
    order: Order,
    asked: Option<Asked>,
    pool: Option<Addr<pool::Msg>>,
    owner: Option<Owner>,
    work: Option<Work>,
    plan: Option<Plan>,
    diff: Option<Diff>,
    done: Done,
    /// Why it ends as not done.
    why: Option<OperationsError>,
    /// It came to its end, or there was nothing to do.
    finished: bool,
    /// An earlier life or worker began it, and may have written files.
    inherited: bool,
    /// Why the files could not be put back.
    left_as_is: Option<String>,
}

impl Job {
    pub(super) fn begin(shared: Arc<Shared>, asked: Asked, pool: Option<Addr<pool::Msg>>) -> Self {
        let course = Course::begin(asked.order.quiets().is_some());
        Self {
            id: asked.id,
            session: asked.session,
            order: asked.order.clone(),
            asked: Some(asked),
            pool,
            owner: None,
            plan: None,
            ..Self::bare(shared, course)
        }
    }

    /// One that an earlier life of the node left behind.
    pub(super) fn resume(shared: Arc<Shared>, id: OperationId, session: SessionId) -> Self {
        Self {
            id,
            session,
            ..Self::bare(shared, Course::resume())
        }
    }

    fn bare(shared: Arc<Shared>, course: Course) -> Self {
        Self {
            shared,
            course,
            id: OperationId(uuid::Uuid::nil()),
            session: SessionId(uuid::Uuid::nil()),
            order: Order::Reject {
                changes: Vec::new(),
            },
            asked: None,
            pool: None,
            owner: None,
            work: None,
            plan: None,
            diff: None,
            done: Done::default(),
            why: None,
            finished: false,
            inherited: false,
            left_as_is: None,
        }
    }

    pub(super) fn id(&self) -> OperationId {
        self.id
    }

    /// It cannot stop agents, and would have to.
    pub(super) fn before_agents(&self) -> bool {
        let stops = self
            .asked
            .as_ref()
            .is_some_and(|asked| asked.order.quiets().is_some());
        stops && self.pool.is_none()
    }

    pub(super) fn session(&self) -> SessionId {
        self.session
    }

    /// Goes the whole way, whatever breaks.
    pub(super) async fn run(mut self) -> Result<Done, OperationsError> {
        let mut wait = Duration::ZERO;
        loop {
            self.show();
            sleep(wait).await;
            let act = self.course.act();
            let came = match AssertUnwindSafe(self.act(act)).catch_unwind().await {
                Ok(came) => came,
                Err(panic) => {
                    let why = panic_text(panic.as_ref());
                    tracing::error!(operation = %self.id, act = act.as_str(), %why, "an operation panicked");
                    self.why = Some(OperationsError::Failed(format!("it broke off: {why}")));
                    Came::Lost
                }
            };
            match self.course.came(came) {
                Next::Do(_, next) => wait = next,
                Next::Over => break,
            }
        }
        self.hide();
        self.end()
    }

    async fn act(&mut self, act: Act) -> Came {
        match act {
            Act::Begin => self.start().await,
            Act::Quiet => self.quiet().await,
            Act::Plan => self.make_plan().await,
            Act::Intend => self.intend().await,
            Act::CarryOut => self.carry_out().await,
            Act::Compare => self.compare().await,
            Act::Complete => self.complete().await,
            Act::TakeBack => self.take_back().await,
            Act::Abandon => self.abandon().await,
            Act::Settle { done } => self.settle(done).await,
            Act::Recall => self.recall().await,
        }
    }

    async fn start(&mut self) -> Came {
        let Some(asked) = &self.asked else {
            return Came::Refused;
        };
        match self.shared.ports.operations.begin(asked).await {
            Ok(Begun::Work(started)) => {
                self.order = started.work.order.clone();
                self.owner = Some(started.owner);
                self.done.already = started.already;
                self.done.left_alone = started.left_alone;
                self.work = Some(started.work);
                Came::Did
            }
            Ok(Begun::Nothing {
                already,
                left_alone,
            }) => {
                self.done.already = already;
                self.done.left_alone = left_alone;
                self.finished = true;
                Came::Refused
            }
            Err(error) => self.failed(error),
        }
    }

    async fn quiet(&mut self) -> Came {
        let Some(quiets) = self.order.quiets() else {
            return Came::Did;
        };
        // Without a pool no agent lives; and while the gate is held, none is started.
        let Some(pool) = &self.pool else {
            return Came::Did;
        };
        let session = self.session;
        let stop = |reply| match quiets {
            Quiet::Chat(chat) => pool::Msg::StopAgents(chat, reply),
            Quiet::Session => pool::Msg::Empty(session, reply),
        };
        if pool.call(stop, QUIET_BOUND).await.is_none() {
            let whose = match quiets {
                Quiet::Chat(chat) => format!("chat {chat}"),
                Quiet::Session => format!("session {session}"),
            };
            return self.failed(OperationsError::Failed(format!(
                "the agents of {whose} did not stop within {QUIET_BOUND:?}"
            )));
        }
        Came::Did
    }

    async fn make_plan(&mut self) -> Came {
        if let Some(came) = self.tear_down().await {
            return came;
        }
        let Some(work) = &self.work else {
            return Came::Refused;
        };
        let planned = timeout(PLAN_BOUND, self.shared.ports.review.plan(work)).await;
        match planned {
            Ok(Ok(Planned::Ready(plan))) => {
                self.plan = Some(plan);
                Came::Did
            }
            Ok(Ok(Planned::Refused(conflicts))) => {
                self.failed(OperationsError::Conflicts(conflicts))
            }
            Ok(Ok(Planned::AtRisk(facts))) => {
                let purpose = self.order.leaves().unwrap_or_default().purpose();
                self.failed(OperationsError::AtRisk(facts, purpose))
            }
            Ok(Err(error)) => self.files_failed(&error),
            Err(_) => self.failed(OperationsError::Failed(format!(
                "what it means for the files was not known within {PLAN_BOUND:?}"
            ))),
        }
    }

    /// Before the plan, which holds all files: a script may write some. Not where the
    /// plan will refuse anyway.
    async fn tear_down(&mut self) -> Option<Came> {
        let leave = self.order.leaves()?;
        let worktree = self.work.as_ref()?.worktree.clone();
        if leave.skip_teardown {
            return None;
        }
        match ready::set_up_by(&self.shared, &worktree, PLAN_BOUND).await {
            Ok(by) => by?,
            Err(why) => return Some(self.failed(OperationsError::Failed(why))),
        };
        let facts = self.shared.facts(&worktree, PLAN_BOUND).await;
        if facts.gone || risk::refuses(&facts, leave) {
            return None;
        }
        let why = ready::tear_down(&self.shared, self.session, &worktree).await?;
        Some(self.failed(OperationsError::TearDown(why)))
    }

    async fn intend(&mut self) -> Came {
        let (Some(owner), Some(plan)) = (&self.owner, &self.plan) else {
            return Came::Refused;
        };
        match self.shared.ports.operations.intend(owner, plan).await {
            Ok(()) => Came::Did,
            Err(error) => self.failed(error),
        }
    }

    async fn carry_out(&mut self) -> Came {
        let Some(plan) = &self.plan else {
            return Came::Refused;
        };
        if let Some(leave) = self.order.leaves() {
            let others = self.shared.ports.processes.leave(&plan.root).await;
            if !others.is_empty() && !leave.force {
                let used = Conflict {
                    change: None,
                    path: plan.root.display().to_string(),
                    reason: format!("in use by {}: end that first", others.join(", ")),
                    hunks: Vec::new(),
                };
                self.failed(OperationsError::Conflicts(vec![used]));
                return Came::InTheWay;
            }
        }
        let review = self.shared.ports.review.clone();
        let written = self.watched(review.carry_out(plan)).await;
        match written {
            Ok(conflicts) if conflicts.is_empty() => Came::Did,
            Ok(conflicts) => {
                self.failed(OperationsError::Conflicts(conflicts));
                Came::InTheWay
            }
            Err(error) => self.files_failed(&error),
        }
    }

    async fn compare(&mut self) -> Came {
        let Some(plan) = &self.plan else {
            return Came::Refused;
        };
        if self.order.leaves().is_some() {
            // Nothing is there to be compared.
            self.diff = Some(Diff::default());
            return Came::Did;
        }
        let worktree = Worktree {
            baseline: plan.baseline.clone(),
            ..plan.worktree.clone()
        };
        let worktrees = self.shared.ports.worktrees.clone();
        match self.watched(worktrees.diff(&worktree)).await {
            Ok(diff) => {
                self.diff = Some(diff);
                Came::Did
            }
            Err(error) => self.files_failed(&error),
        }
    }

    async fn complete(&mut self) -> Came {
        let (Some(owner), Some(plan), Some(diff)) = (&self.owner, &self.plan, &self.diff) else {
            return Came::Refused;
        };
        match self
            .shared
            .ports
            .operations
            .complete(owner, plan, diff)
            .await
        {
            Ok(frames) => {
                self.shared.hub.publish(frames);
                Came::Did
            }
            Err(error) => self.failed(error),
        }
    }

    async fn take_back(&mut self) -> Came {
        let Some(plan) = self.plan.as_ref().filter(|_| self.order.writes()) else {
            return Came::Did;
        };
        let review = self.shared.ports.review.clone();
        let taken = self.watched(review.take_back(plan)).await;
        match taken {
            Ok(left) if left.is_empty() => Came::Did,
            Ok(left) => {
                self.tell_people(
                    "files were changed while they were being put back",
                    &list(&left),
                )
                .await;
                Came::InTheWay
            }
            Err(error) => {
                let why = with_source(&error);
                tracing::warn!(operation = %self.id, %why, "files could not be put back");
                if matches!(error, WorktreeError::Unusable(_)) {
                    if self.course.last_try() {
                        self.tell_people("files cannot be put back; they stay as they are", &why)
                            .await;
                        self.left_as_is = Some(why);
                    }
                    return Came::Stuck;
                }
                if self.course.tries() == FILE_TRIES {
                    self.tell_people(
                        "files cannot be put back; it is tried again and again",
                        &why,
                    )
                    .await;
                }
                Came::Failed
            }
        }
    }

    async fn abandon(&mut self) -> Came {
        let Some(owner) = &self.owner else {
            return Came::Refused;
        };
        let mut why = match &self.why {
            Some(OperationsError::Conflicts(conflicts)) => Abandoned {
                why: "files stand in the way".into(),
                conflicts: conflicts.clone(),
            },
            Some(why) => Abandoned {
                why: with_source(why),
                conflicts: Vec::new(),
            },
            None => Abandoned {
                why: "Hearth stopped before it was carried out".into(),
                conflicts: Vec::new(),
            },
        };
        if let Some(left) = &self.left_as_is {
            why.why = format!("{}; its files could not be put back: {left}", why.why);
        }
        match self.shared.ports.operations.abandon(owner, &why).await {
            Ok(()) => {
                if self.inherited && self.left_as_is.is_none() {
                    self.tell_people("it was interrupted, and its files were put back", &why.why)
                        .await;
                }
                Came::Did
            }
            // The reason stays the first one.
            Err(OperationsError::Fenced) => Came::Fenced,
            Err(OperationsError::Unavailable(_) | OperationsError::TooLong(_)) => Came::Failed,
            Err(error) => {
                tracing::error!(operation = %self.id, %error, "an operation's end was refused");
                Came::Refused
            }
        }
    }

    async fn settle(&mut self, done: bool) -> Came {
        self.finished = done;
        let plan = match (&self.plan, &self.work) {
            (Some(plan), _) => Some(plan.clone()),
            (None, Some(work)) => Some(Plan::nothing(self.id, work.worktree.clone())),
            (None, None) => None,
        };
        if let Some(plan) = plan {
            let review = self.shared.ports.review.clone();
            if let Err(error) = self.watched(review.settle(&plan, done)).await {
                let why = with_source(&error);
                tracing::warn!(operation = %self.id, %why, "its refs could not be put right");
                return Came::Failed;
            }
        }
        match self.shared.ports.operations.settled(self.id).await {
            Ok(()) => Came::Did,
            Err(error) => {
                tracing::debug!(operation = %self.id, %error, "its refs are put right again");
                Came::Failed
            }
        }
    }

    async fn recall(&mut self) -> Came {
        match self.shared.ports.operations.take_over(self.id).await {
            Ok(None) => Came::Found(None),
            Ok(Some(left)) => {
                let is_ours = self.asked.is_some();
                self.owner = Some(left.owner);
                self.order = left.order;
                let wrote = left.state == OperationState::Intended && self.order.writes();
                self.inherited |= !is_ours && wrote;
                if left.plan.is_some() {
                    self.plan = left.plan;
                }
                Came::Found(Some(left.state))
            }
            Err(OperationsError::Fenced) => Came::Fenced,
            Err(OperationsError::Unavailable(_) | OperationsError::TooLong(_)) => Came::Failed,
            Err(error) => {
                self.why = Some(error);
                Came::Refused
            }
        }
    }

    /// Remembers why, and says it in the words of the course.
    fn failed(&mut self, error: OperationsError) -> Came {
        let came = match &error {
            OperationsError::Unavailable(_) | OperationsError::Failed(_) => Came::Failed,
            OperationsError::TooLong(_) => Came::Stuck,
            OperationsError::Fenced => Came::Fenced,
            _ => Came::Refused,
        };
        self.why = Some(error);
        came
    }

    fn files_failed(&mut self, error: &WorktreeError) -> Came {
        let why = with_source(error);
        tracing::warn!(operation = %self.id, act = self.course.act().as_str(), %why, "files could not be used");
        self.failed(OperationsError::Failed(why))
    }

    /// Waits to the end, and tells people when that takes long.
    async fn watched<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        if let Ok(done) = timeout(FILES_BOUND, &mut work).await {
            return done;
        }
        let what = format!(
            "it has been {} for {FILES_BOUND:?}",
            self.course.act().as_str()
        );
        self.tell_people(&what, "it goes on; look at the disk")
            .await;
        work.await
    }

    async fn tell_people(&self, what: &str, why: &str) {
        let notice = Notice::Operation {
            id: self.id,
            session: self.session,
            what: format!("{} of files: {what}", self.order.kind()),
            why: why.to_owned(),
        };
        tracing::warn!(operation = %self.id, what, why, "people are told");
        if let Err(error) = self.shared.ports.journal.notice(&notice).await {
            tracing::warn!(operation = %self.id, %error, "a notice was not written");
        }
    }

    fn end(mut self) -> Result<Done, OperationsError> {
        if !self.finished {
            let why = self.why.take().unwrap_or(OperationsError::Fenced);
            tracing::info!(operation = %self.id, kind = self.order.kind(), %why, "an operation ended as not done");
            return Err(why);
        }
        if let Some(plan) = self.plan.take() {
            tracing::info!(operation = %self.id, kind = self.order.kind(), files = plan.steps.len(), "an operation is done");
            self.done.id = Some(self.id);
            self.done.changes = self.order.changes().to_vec();
            self.done.files = plan.steps;
            self.done.notes = plan.notes;
        }
        Ok(self.done)
    }

    fn show(&self) {
        self.shared.board.put(
            &["root", "operations", &self.id.to_string()],
            Snapshot {
                kind: "operation".into(),
                name: match (&self.asked, &self.owner) {
                    (None, None) => format!("one left behind of {}", self.session),
                    _ => format!("{} of {}", self.order.kind(), self.session),
                },
                state: self.course.act().as_str().into(),
                detail: json!({
                    "session_id": self.session,
                    "kind": self.order.kind(),
                    "changes": self.order.changes().len(),
                    "files": self.plan.as_ref().map(|plan| plan.steps.len()),
                    "tries": self.course.tries(),
                    "inherited": self.inherited,
                    "why": self.why.as_ref().map(ToString::to_string),
                }),
                ..Snapshot::default()
            },
        );
    }

    fn hide(&self) {
        let place = self.id.to_string();
        self.shared.board.remove(&["root", "operations", &place]);
    }
}

fn list(conflicts: &[Conflict]) -> String {
    let shown = conflicts
        .iter()
        .take(20)
        .map(|conflict| format!("{}: {}", conflict.path, conflict.reason));
    shown.collect::<Vec<_>>().join("; ")
}
