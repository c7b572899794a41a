//! What goes on beside requests: signals of the database, nets under them,
//! retention, and how the service says that it is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hearth_actors::ids::{ChatId, OperationId, SessionId, TaskId};
use hearth_actors::tree::Status;
use hearth_actors::tree::handle::TreeHandle;
use tokio::sync::{mpsc, watch};

use crate::http::state::{Health, Readiness};
use crate::metrics::{Metrics, Queue};
use crate::store::rows::waiting::{self, Waiting};
use crate::store::{Signal, Spent, Store};
use crate::worktrees::GitWorktrees;

/// Longest read of one frame to be published: other signals wait meanwhile.
const FRAME_READ: Duration = Duration::from_secs(2);

/// Between two looks for cancels whose notification was lost.
const CANCEL_LOOK: Duration = Duration::from_secs(1);
/// Between two looks for prompts whose time is over and whose agent is gone.
const EXPIRY_LOOK: Duration = Duration::from_secs(1);
/// Between two looks for what was kept long enough.
const RETENTION_LOOK: Duration = Duration::from_secs(60 * 60);
/// A transcript that no chat goes on with is kept this long at least: the chat may be
/// about to say so.
const LONELY_TRANSCRIPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Between two looks at what waits, and the longest of them.
const QUEUE_LOOK: Duration = Duration::from_secs(15);
const QUEUE_BOUND: Duration = Duration::from_secs(5);

/// How long a finished operation can be looked into: as long as checkpoints.
const KEEP_OPERATIONS: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// Turns signals of the database into words for the tree.
pub(super) async fn heed(mut signals: mpsc::Receiver<Signal>, tree: TreeHandle, store: Store) {
    while let Some(signal) = signals.recv().await {
        match signal {
            Signal::Scan => tree.wakeup(),
            Signal::Control(verb) => match verb.split_once(' ') {
                Some(("cancel", id)) => with_id(id, |id| tree.cancel(TaskId(id))),
                Some(("chat_deleted", id)) => with_id(id, |id| tree.close_chat(ChatId(id))),
                Some(("arena", _)) => tree.look_at_arenas(),
                Some(("budget", _)) => tree.look_at_budgets(),
                Some(("frame", place)) => show_frame(place, &tree, &store).await,
                _ => tracing::warn!(%verb, "an unknown control verb"),
            },
        }
    }
}

/// Publishes the frame at `<session> <seq>`, which a trigger wrote, to those who
/// follow the session. One that is not found in time comes with their next read
/// of storage.
async fn show_frame(place: &str, tree: &TreeHandle, store: &Store) {
    let parsed = place.split_once(' ').and_then(|(session, seq)| {
        let session = SessionId(session.parse().ok()?);
        Some((session, seq.parse::<i64>().ok()?))
    });
    let Some((session, seq)) = parsed else {
        tracing::warn!(%place, "a control verb with a bad place of a frame");
        return;
    };
    if !tree.hub().is_followed(session) {
        return;
    }
    let read = store.read_frames(session, seq - 1, 1);
    match tokio::time::timeout(FRAME_READ, read).await {
        Ok(Ok(frames)) => tree.hub().publish(frames),
        Ok(Err(error)) => tracing::debug!(%session, seq, %error, "a frame comes late"),
        Err(_) => tracing::debug!(%session, seq, "a frame comes late: not read in {FRAME_READ:?}"),
    }
}

/// The net under `hearth_control`: a cancel is a row first.
pub(super) async fn look_for_cancels(store: Store, tree: TreeHandle) {
    loop {
        tokio::time::sleep(CANCEL_LOOK).await;
        match store.wanted_cancels().await {
            Ok(tasks) => tasks.into_iter().for_each(|task| tree.cancel(task)),
            Err(error) => tracing::debug!(%error, "cancels could not be looked for"),
        }
    }
}

/// Refuses what nobody answered in time and whose agent is gone.
pub(super) async fn look_for_expired(store: Store, tree: TreeHandle) {
    loop {
        tokio::time::sleep(EXPIRY_LOOK).await;
        match store.expire_detached().await {
            Ok(frames) if frames.is_empty() => {}
            Ok(frames) => {
                tree.hub().publish(frames);
                tree.wakeup();
            }
            Err(error) => tracing::debug!(%error, "expired prompts could not be looked for"),
        }
    }
}

/// Deletes what was kept long enough, in small steps.
pub(super) async fn keep_for_a_time(store: Store, git: GitWorktrees, frames: Duration) {
    loop {
        release_operations(&store, &git, KEEP_OPERATIONS).await;
        match store.prune_frames(frames).await {
            Ok(0) => {}
            Ok(deleted) => tracing::info!(deleted, "frames older than their retention"),
            Err(error) => tracing::warn!(%error, "old frames stay for now"),
        }
        if let Err(error) = store.forget_homed().await {
            tracing::debug!(%error, "leftovers of inserts stay for now");
        }
        match store.prune_settled(frames).await {
            Ok(0) => {}
            Ok(deleted) => tracing::info!(
                deleted,
                "notices, decisions and operations older than the frames' retention"
            ),
            Err(error) => {
                tracing::warn!(%error, "old notices, decisions and operations stay for now")
            }
        }
        match store.prune_transcripts(frames.max(LONELY_TRANSCRIPT)).await {
            Ok(0) => {}
            Ok(deleted) => tracing::info!(deleted, "transcripts that no chat goes on with"),
            Err(error) => tracing::warn!(%error, "transcripts of no chat stay for now"),
        }
        tokio::time::sleep(RETENTION_LOOK.min(frames)).await;
    }
}

/// Lets repositories go of what operations kept that ended longer than `keep` ago
/// and that nobody can take back any more. What a repository cannot let go of
/// stays for the next look.
async fn release_operations(store: &Store, git: &GitWorktrees, keep: Duration) {
    let mut released = 0;
    let mut last = None;
    loop {
        let spent = match store.spent_operations(keep, last.as_ref()).await {
            Ok(spent) => spent,
            Err(error) => {
                tracing::warn!(%error, "old operations stay for now");
                return;
            }
        };
        let mut projects: BTreeMap<PathBuf, Vec<OperationId>> = BTreeMap::new();
        for Spent { id, project, .. } in &spent {
            projects.entry(project.clone()).or_default().push(*id);
        }
        for (project, ids) in projects {
            if let Err(error) = git.release(&project, ids.clone()).await {
                tracing::debug!(project = %project.display(), %error, "old operations stay for now");
                continue;
            }
            match store.released_operations(&ids).await {
                Ok(_) => released += ids.len(),
                Err(error) => tracing::warn!(%error, "old operations are looked at again"),
            }
        }
        match spent.into_iter().next_back() {
            Some(spent) => last = Some(spent),
            None => break,
        }
    }
    if released > 0 {
        tracing::info!(released, "operations whose content is kept no longer");
    }
}

fn with_id(id: &str, act: impl FnOnce(uuid::Uuid)) {
    match id.parse() {
        Ok(id) => act(id),
        Err(error) => tracing::warn!(%id, %error, "a control verb with a bad id"),
    }
}

/// Looks what waits in the database, for those who ask for metrics.
pub(super) async fn watch_queue(store: Store, metrics: Metrics) {
    loop {
        let look = waiting::look(store.pool());
        let told = match tokio::time::timeout(QUEUE_BOUND, look).await {
            Ok(Ok(waiting)) => Some(queue(&waiting)),
            Ok(Err(error)) => {
                tracing::debug!(%error, "what waits is not known");
                None
            }
            Err(_) => None,
        };
        metrics.queue(told);
        tokio::time::sleep(QUEUE_LOOK).await;
    }
}

fn queue(waiting: &Waiting) -> Queue {
    let number = |number: i64| u64::try_from(number).unwrap_or(0);
    let of = |state, many, seconds| (state, number(many), number(seconds));
    Queue {
        tasks: vec![
            of("ready", waiting.ready, waiting.ready_s),
            of("parked", waiting.parked, waiting.parked_s),
            of("running", waiting.running, waiting.running_s),
            of("blocked", waiting.blocked, waiting.blocked_s),
        ],
        prompts: number(waiting.prompts),
    }
}

pub(super) async fn report_health(
    mut status: watch::Receiver<Status>,
    health: Arc<watch::Sender<Health>>,
) {
    loop {
        let now = status.borrow_and_update().clone();
        health.send_modify(|health| match now {
            Status::Ready => health.readiness = Readiness::Ready,
            Status::Stopped | Status::Failed(_) => health.readiness = Readiness::Stopping,
            Status::Starting if health.readiness == Readiness::Ready => {
                health.readiness = Readiness::Starting;
                health.last_restart = Some("the tree began a new life".into());
            }
            Status::Starting => {}
        });
        if status.changed().await.is_err() {
            return;
        }
    }
}
