//! Where tasks wait, and the right to run them.

use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;

use super::Source;
use crate::event::Frame;
use crate::ids::{AgentName, SessionKey};
use crate::limits::Parked;
use crate::model::{Assignment, Fence};

/// Where tasks wait.
#[async_trait]
pub trait TaskQueue: Send + Sync {
    /// Claims the heads of up to `credit` sessions whose agent is in `agents`.
    /// Each claimed task is `running` with a new attempt when this returns.
    async fn claim(&self, credit: usize, agents: &[AgentName]) -> Result<Claim, QueueError>;

    /// Gives a claimed task back, unprompted, to be claimed again at once or when
    /// its parking is over. The frames tell that it is parked, unless the last
    /// ones told the same a moment ago. Refused silently when the fence is old.
    async fn release(
        &self,
        fence: &Fence,
        parked: Option<&Parked>,
    ) -> Result<Vec<Frame>, QueueError>;

    /// A task for `key` waits that is not parked.
    async fn waits(&self, key: &SessionKey) -> Result<bool, QueueError>;
}

/// What a claim brought.
#[derive(Debug, Default)]
pub struct Claim {
    /// One a session, ordered by `queue_seq`.
    pub assignments: Vec<Assignment>,
    /// Until the next parked task comes due, if one is parked.
    pub next_due: Option<Duration>,
    /// Claimable heads were left because the credit was used up.
    pub more: bool,
    /// Tasks that wait were seen and left, for whatever reason; those parked do
    /// not count. False promises that nothing was there.
    pub left: bool,
}

/// Why the queue did not answer.
#[derive(Debug, Error)]
pub enum QueueError {
    /// Try again later, with back-off.
    #[error("the task queue cannot be reached")]
    Unavailable(#[source] Source),
    /// This node's lease is over: stop the agents, acquire a new life.
    #[error("this node's lease is over")]
    LeaseLost,
}

/// The node's claim to be the one that runs its sessions.
#[async_trait]
pub trait NodeLease: Send + Sync {
    /// Starts a new life: raises the incarnation, settles what the last life
    /// left behind (unprompted turns wait again, prompted ones end
    /// `interrupted`, with their task where nobody is asked). Nothing may be claimed before this returned.
    async fn acquire(&self) -> Result<Reconciled, QueueError>;

    /// Prolongs the lease by its full length from the database's now.
    async fn renew(&self) -> Result<(), QueueError>;

    /// Ends the lease at once, for a clean stop.
    async fn release(&self) -> Result<(), QueueError>;
}

/// What a new life found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reconciled {
    /// The life that starts now.
    pub incarnation: i64,
    /// Turns that were not prompted yet: their tasks wait again.
    pub requeued: usize,
    /// Turns that were: their outcome is `interrupted`.
    pub interrupted: usize,
    /// Those of them that ended while a human was asked: their tasks stay
    /// `blocked` until the answers let them go on.
    pub detached: usize,
    /// Frames of the above, to be published.
    pub frames: Vec<Frame>,
}
