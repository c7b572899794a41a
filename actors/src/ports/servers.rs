//! Servers that many sessions of one agent share.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::{Link, LinkSpec, StartError};
use crate::event::{AgentEvent, ExitInfo};
use crate::rules::health::Limits;

/// A way to run an agent as a server.
#[async_trait]
pub trait ServerBackend: Send + Sync {
    /// Names the definition (command, arguments, environment, settings): agents of
    /// the same share one server.
    fn definition(&self) -> &str;

    /// When one counts as deaf, and how large it may grow.
    fn limits(&self) -> Limits;

    /// Starts one and returns when it answers. Cancel-safe: dropping the future
    /// kills what was started. The caller bounds the wait.
    async fn launch(&self) -> Result<Arc<dyn Server>, StartError>;
}

/// A server that runs. Dropping the last handle kills its process tree, and every
/// link to it ends with [`crate::event::Said::Exited`].
#[async_trait]
pub trait Server: Send + Sync {
    /// What it is.
    fn facts(&self) -> ServerFacts;

    /// Opens or resumes a session of its own for one key, as
    /// [`super::AgentBackend::start`] does. Stopping the link leaves the server.
    ///
    /// # Errors
    /// [`StartError::Server`] where the server itself is at fault. A server that ended
    /// meanwhile is told by [`Server::exited`]; then the error means nothing.
    async fn attach(
        &self,
        spec: LinkSpec,
        events: mpsc::Sender<AgentEvent>,
    ) -> Result<Arc<dyn Link>, StartError>;

    /// Asks whether it is well; says why not. The caller bounds the wait.
    async fn probe(&self) -> Result<(), String>;

    /// Counts everything that was heard of it: more than before is a sign of life.
    fn heard(&self) -> u64;

    /// Resident bytes of its process tree.
    fn rss_bytes(&self) -> Option<u64>;

    /// A turn of it would not end, and may go on for nobody: it should be renewed
    /// when no other runs.
    fn is_unruly(&self) -> bool {
        false
    }

    /// The last lines of its standard error, capped by the process room.
    fn stderr_tail(&self) -> String {
        String::new()
    }

    /// Waits for its end.
    async fn exited(&self) -> ExitInfo;

    /// Ends it: TERM, `deadlines.term`, KILL and sweep. Returns when its process
    /// tree is gone.
    async fn stop(&self) -> ExitInfo;
}

/// What a server says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerFacts {
    /// Its process.
    pub pid: Option<i32>,
    /// Its version, in its own words.
    pub version: String,
    /// Where it listens.
    pub port: u16,
}
