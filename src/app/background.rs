//! What goes on beside requests: signals of the database, nets under them,
//! retention, and how the service says that it is.

use std::sync::Arc;
use std::time::Duration;

use hearth_actors::ids::{ChatId, TaskId};
use hearth_actors::tree::Status;
use hearth_actors::tree::handle::TreeHandle;
use tokio::sync::{mpsc, watch};

use crate::http::state::{Health, Readiness};
use crate::store::{Signal, Store};

/// Between two looks for cancels whose notification was lost.
const CANCEL_LOOK: Duration = Duration::from_secs(1);
/// Between two looks for what was kept long enough.
const RETENTION_LOOK: Duration = Duration::from_secs(60 * 60);

/// Turns signals of the database into words for the tree.
pub(super) async fn heed(mut signals: mpsc::Receiver<Signal>, tree: TreeHandle) {
    while let Some(signal) = signals.recv().await {
        match signal {
            Signal::Scan => tree.wakeup(),
            Signal::Control(verb) => match verb.split_once(' ') {
                Some(("cancel", id)) => with_id(id, |id| tree.cancel(TaskId(id))),
                Some(("chat_deleted", id)) => with_id(id, |id| tree.close_chat(ChatId(id))),
                _ => tracing::warn!(%verb, "an unknown control verb"),
            },
        }
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

/// Deletes what was kept long enough, in small steps.
pub(super) async fn keep_for_a_time(store: Store, frames: Duration) {
    loop {
        match store.prune_frames(frames).await {
            Ok(0) => {}
            Ok(deleted) => tracing::info!(deleted, "frames older than their retention"),
            Err(error) => tracing::warn!(%error, "old frames stay for now"),
        }
        tokio::time::sleep(RETENTION_LOOK.min(frames)).await;
    }
}

fn with_id(id: &str, act: impl FnOnce(uuid::Uuid)) {
    match id.parse() {
        Ok(id) => act(id),
        Err(error) => tracing::warn!(%id, %error, "a control verb with a bad id"),
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
