//! Tasks that are tried again by themselves: those that Hearth interrupted and
//! whose creator wanted it so. The files go back first, and the new task is queued
//! by the same operation.

use std::collections::BTreeSet;
use std::time::Duration;

use hearth_actors::ports::OperationsError;
use hearth_actors::tree::Status;
use hearth_actors::tree::handle::TreeHandle;
use tokio::sync::watch;
use uuid::Uuid;

use crate::store::{Interrupted, Store, StoreError};

/// Longest wait for the files of one task.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks: turns are interrupted in mid-life too, and a node may have
/// died.
const LOOK: Duration = Duration::from_secs(30);
/// Tasks that are read at a time.
const PAGE: i64 = 100;
/// Tasks that are not asked about again in this life.
const MAX_LEFT_ALONE: usize = 10_000;

/// Looks at the beginning of each life of the tree, for what it has not seen to
/// itself before its first claim, and then now and again. What cannot be restored
/// stays in the inbox, with the reason in the log.
pub(super) async fn retry_interrupted(
    mut status: watch::Receiver<Status>,
    store: Store,
    tree: TreeHandle,
) {
    let mut left_alone = BTreeSet::new();
    loop {
        let ready = *status.borrow_and_update() == Status::Ready;
        if ready && let Err(error) = look(&store, &tree, &mut left_alone).await {
            tracing::warn!(%error, "interrupted tasks were not looked for");
        }
        tokio::select! {
            changed = status.changed() => match changed {
                Ok(()) => left_alone.clear(),
                Err(_) => return,
            },
            () = tokio::time::sleep(LOOK), if ready => {}
        }
    }
}

/// Page by page, until none is left.
async fn look(
    store: &Store,
    tree: &TreeHandle,
    left_alone: &mut BTreeSet<Uuid>,
) -> Result<(), StoreError> {
    let mut last = None;
    loop {
        let page = store.wanted_retries(last.as_ref(), PAGE).await?;
        for wanted in &page {
            if left_alone.contains(&wanted.task_id) {
                continue;
            }
            let task = wanted.task_id;
            match restore_and_queue(wanted, tree).await {
                Ok(()) => tracing::info!(%task, "an interrupted task is tried again"),
                Err(Left::ForNow(why)) => {
                    tracing::info!(%task, %why, "an interrupted task waits to be tried again");
                }
                Err(Left::Alone(why)) => {
                    tracing::warn!(%task, %why, "an interrupted task stays in the inbox");
                    if left_alone.len() < MAX_LEFT_ALONE {
                        left_alone.insert(task);
                    }
                }
            }
        }
        match page.into_iter().last() {
            Some(end) => last = Some(end),
            None => return Ok(()),
        }
    }
}

/// Why a task was not tried again.
enum Left {
    /// The next look asks again.
    ForNow(String),
    /// It is for people.
    Alone(String),
}

async fn restore_and_queue(wanted: &Interrupted, tree: &TreeHandle) -> Result<(), Left> {
    let Some(asked) = wanted.order() else {
        let why = "no checkpoint of the files before it is kept";
        return Err(Left::Alone(why.into()));
    };
    match tree.operate(asked, PATIENCE).await {
        Some(Ok(_)) => {
            tree.wakeup();
            Ok(())
        }
        Some(Err(
            error @ (OperationsError::Busy(_)
            | OperationsError::Unavailable(_)
            | OperationsError::TooLong(_)
            | OperationsError::Fenced),
        )) => Err(Left::ForNow(error.to_string())),
        Some(Err(error)) => Err(Left::Alone(error.to_string())),
        // It goes on, and queues the task at its end.
        None => Err(Left::ForNow("its files take long to be restored".into())),
    }
}
