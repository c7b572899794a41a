//! An actor's address that counts what waits in its mailbox, because ractor's
//! mailboxes are unbounded and show no depth.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ractor::{ActorRef, Message, RpcReplyPort};

/// Where to send `M`. Cheap to clone.
pub(crate) struct Addr<M> {
    actor: ActorRef<M>,
    depth: Depth,
}

/// The number of messages that wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct Depth(Arc<AtomicU64>);

impl Depth {
    /// To be called first in every handler.
    pub(crate) fn taken(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl<M> Clone for Addr<M> {
    fn clone(&self) -> Self {
        Self {
            actor: self.actor.clone(),
            depth: self.depth.clone(),
        }
    }
}

impl<M: Message> Addr<M> {
    pub(crate) fn new(actor: ActorRef<M>, depth: Depth) -> Self {
        Self { actor, depth }
    }

    /// Sends; false when the actor is gone, which its supervisor is told anyway.
    pub(crate) fn cast(&self, message: M) -> bool {
        self.depth.0.fetch_add(1, Ordering::Relaxed);
        let sent = self.actor.cast(message).is_ok();
        if !sent {
            self.depth.taken();
        }
        sent
    }

    /// Sends and waits for the reply, at most `bound`; none when it did not come.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        message: impl FnOnce(RpcReplyPort<T>) -> M,
        bound: Duration,
    ) -> Option<T> {
        let (sender, receiver) = ractor::concurrency::oneshot();
        self.cast(message(sender.into()));
        tokio::time::timeout(bound, receiver).await.ok()?.ok()
    }

    /// Sends after `delay`, unless the handle is dropped before.
    pub(crate) fn cast_after(&self, delay: Duration, message: M) -> Task {
        let addr = self.clone();
        Task::spawn(async move {
            tokio::time::sleep(delay).await;
            addr.cast(message);
        })
    }

    pub(crate) fn actor(&self) -> &ActorRef<M> {
        &self.actor
    }
}

/// A background task that ends with its owner.
#[derive(Debug)]
pub(crate) struct Task(tokio::task::JoinHandle<()>);

impl Task {
    pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs `work` beside the actor and sends what comes of it; `lost` is sent when
/// the work panics, so that nobody waits for ever.
pub(crate) fn report<M: Message>(
    addr: &Addr<M>,
    work: impl Future<Output = M> + Send + 'static,
    lost: impl FnOnce(String) -> M + Send + 'static,
) -> Task {
    use futures::FutureExt as _;
    let addr = addr.clone();
    Task::spawn(async move {
        let message = match std::panic::AssertUnwindSafe(work).catch_unwind().await {
            Ok(message) => message,
            Err(panic) => lost(panic_text(panic.as_ref())),
        };
        addr.cast(message);
    })
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic".to_owned())
}
