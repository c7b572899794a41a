//! Tasks that are tried again by themselves: those that Hearth interrupted and
//! whose creator wanted it so. The files go back first.

use std::time::Duration;

use hearth_actors::ids::{ChatId, CheckpointId, OperationId, SessionId, TaskId};
use hearth_actors::operation::Asked;
use hearth_actors::review::Order;
use hearth_actors::tree::Status;
use hearth_actors::tree::handle::TreeHandle;
use tokio::sync::watch;

use crate::store::{Retry, Store, StoreError};

/// Longest wait for the files of one task.
const PATIENCE: Duration = Duration::from_secs(120);

/// Looks at the beginning of each life of the tree, which is when tasks are
/// found interrupted. What cannot be restored stays in the inbox, with the
/// reason in the log.
pub(super) async fn retry_interrupted(
    mut status: watch::Receiver<Status>,
    store: Store,
    tree: TreeHandle,
) {
    loop {
        let ready = *status.borrow_and_update() == Status::Ready;
        if ready {
            match store.wanted_retries().await {
                Ok(tasks) => {
                    for task in tasks {
                        retry(task, &store, &tree).await;
                    }
                }
                Err(error) => tracing::warn!(%error, "interrupted tasks were not looked for"),
            }
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}

async fn retry(task: TaskId, store: &Store, tree: &TreeHandle) {
    match restore_and_queue(task, store, tree).await {
        Ok(Some(made)) => tracing::info!(%task, %made, "an interrupted task is tried again"),
        Ok(None) => {}
        Err(why) => tracing::warn!(%task, %why, "an interrupted task stays in the inbox"),
    }
}

async fn restore_and_queue(
    task: TaskId,
    store: &Store,
    tree: &TreeHandle,
) -> Result<Option<TaskId>, String> {
    let said = |error: StoreError| error.to_string();
    let Some(before) = store.before(task).await.map_err(said)? else {
        return Ok(None);
    };
    if before.retried {
        return Ok(None);
    }
    let (Some(session), Some(chat), Some(checkpoint)) =
        (before.session_id, before.chat_id, before.checkpoint_id)
    else {
        return Err("no checkpoint of the files before it is kept".into());
    };
    let asked = Asked {
        id: OperationId::new(),
        session: SessionId(session),
        order: Order::Restore {
            checkpoint: CheckpointId(checkpoint),
            chat: ChatId(chat),
            consent: false,
        },
        caller: "on_interrupt".into(),
    };
    match tree.operate(asked, PATIENCE).await {
        Some(Ok(_)) => {}
        Some(Err(error)) => return Err(error.to_string()),
        None => return Err("its files were not restored in time".into()),
    }
    match store.retry(task).await.map_err(said)? {
        Retry::Created(created) => {
            tree.hub().publish(created.frames);
            tree.wakeup();
            Ok(Some(created.task))
        }
        Retry::NotFailed(_) => Ok(None),
    }
}
