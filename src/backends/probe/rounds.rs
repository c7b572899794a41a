//! When agents are looked at: all of them soon after the start and every few
//! hours, some of them when somebody asks. One at a time, in a task of its own,
//! so that no turn waits for it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hearth_actors::ids::AgentName;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Found, Prober};

/// Before the first round: a command that starts the service for one turn
/// shall be over by then, and other work goes first.
const FIRST: Duration = Duration::from_secs(5);

/// Where findings are written down.
#[async_trait]
pub trait Findings: Send + Sync {
    /// Keeps what a look brought; what cannot be kept is lost until the next one.
    async fn found(&self, found: Found);
}

/// Asks for looks, and tells which are still to come. Cheap to clone.
#[derive(Clone, Default)]
pub struct Looks(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// At most one entry an agent.
    open: Mutex<BTreeSet<AgentName>>,
    more: Notify,
}

impl Looks {
    /// Asks for a look at each of `names`; one that is open already is not
    /// asked for twice.
    pub fn ask(&self, names: impl IntoIterator<Item = AgentName>) {
        self.open().extend(names);
        self.0.more.notify_one();
    }

    /// The agents that are being looked at or will be.
    #[must_use]
    pub fn pending(&self) -> BTreeSet<AgentName> {
        self.open().clone()
    }

    /// Looks at agents as long as it is polled: all every `every`
    /// (never if that is zero), and those that are asked for.
    pub async fn run(self, prober: Prober, findings: Arc<dyn Findings>, every: Duration) {
        let mut next = Instant::now() + FIRST;
        loop {
            tokio::select! {
                biased;
                () = self.0.more.notified() => {}
                () = tokio::time::sleep_until(next), if !every.is_zero() => {
                    next = Instant::now() + every;
                    self.open().extend(prober.names().cloned());
                }
            }
            loop {
                let Some(name) = self.open().first().cloned() else {
                    break;
                };
                if let Some(found) = prober.look(&name).await {
                    findings.found(found).await;
                }
                self.open().remove(&name);
            }
        }
    }

    fn open(&self) -> MutexGuard<'_, BTreeSet<AgentName>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
