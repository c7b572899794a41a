//! Who may control: people and their programs, not the agents that Hearth runs.
//!
//! An agent runs as Hearth's own user and can read its token. A tool of an agent
//! that calls the API, perhaps because a web page talked it into it, is told by
//! its connection: the socket at the other end belongs to a process of one of
//! our trees. It may create tasks and look; everything else that changes
//! something is refused. This stops the ordinary case. It is no boundary: what
//! runs as the same user can also hide behind another program, or change the
//! database.

use std::net::SocketAddr;

use axum::extract::{MatchedPath, Request};
use axum::http::Method;
use hearth_actors::ids::{SessionKey, TaskId};

use super::error::{ApiError, ApiResult, Code};
use super::state::{AppState, Origin};
use crate::store::rows::tasks;

/// What an agent's tool may change. All that is not named here and changes
/// something is an operator's: a new route is closed until somebody opens it.
const AGENTS_MAY: &[(Method, &str)] = &[
    (Method::POST, "/api/tasks"),
    (Method::POST, super::mcp::PATH),
];

/// A process that an agent of this service runs.
#[derive(Clone, Debug)]
pub(super) struct AgentCaller {
    /// Whose it is; none when it works for no chat, such as a look at an agent.
    of: Option<SessionKey>,
}

impl AgentCaller {
    pub(super) fn new(of: Option<SessionKey>) -> Self {
        Self { of }
    }

    /// The task that it works on.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn task(&self, state: &AppState) -> ApiResult<Option<TaskId>> {
        let Some(key) = &self.of else {
            return Ok(None);
        };
        let task = tasks::worked_on(state.store.pool(), key.chat.0, key.agent.as_str()).await?;
        Ok(task.map(TaskId))
    }

    /// The parent of a task that it asks for, which is what it works on: the caps
    /// of families hold whatever it says.
    ///
    /// # Errors
    /// It works on nothing, or names another task.
    pub(super) async fn parent(
        &self,
        state: &AppState,
        named: Option<TaskId>,
    ) -> ApiResult<TaskId> {
        let Some(task) = self.task(state).await? else {
            return Err(ApiError::new(
                Code::AgentNotAllowed,
                "the call comes from a process of an agent that runs no turn: an agent may ask for tasks only while it works on one",
            ));
        };
        if named.is_some_and(|named| named != task) {
            return Err(ApiError::field(
                Code::AgentNotAllowed,
                "parent_task_id",
                format!("is not the task that the caller works on, which is {task}: leave it out"),
            ));
        }
        Ok(task)
    }
}

/// Both ends of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    /// The caller's.
    peer: SocketAddr,
    /// Ours; none when the connection was gone before it was asked.
    local: Option<SocketAddr>,
}

impl Ends {
    /// `peer` is the caller's end, `local` ours.
    pub(super) fn new(peer: SocketAddr, local: Option<SocketAddr>) -> Self {
        Self { peer, local }
    }

    /// The caller's address, without the way IPv6 writes IPv4.
    pub(super) fn caller(&self) -> std::net::IpAddr {
        self.peer.ip().to_canonical()
    }

    /// Both ends are on this machine.
    fn within_this_machine(&self) -> Option<(SocketAddr, SocketAddr)> {
        let local = self.local?;
        let near = self.caller().is_loopback() || self.caller() == local.ip().to_canonical();
        near.then_some((self.peer, local))
    }
}

/// Both ends of the connection that a request came over.
pub(super) fn ends(request: &Request) -> Option<Ends> {
    request.extensions().get::<Ends>().copied()
}

/// Whose process calls over a connection; one from elsewhere costs nothing.
pub(super) async fn origin(state: &AppState, ends: Option<Ends>) -> Origin {
    match ends.and_then(|ends| ends.within_this_machine()) {
        Some((peer, local)) => state.peers.origin(peer, local).await,
        None => Origin::Elsewhere,
    }
}

/// Refuses a request that changes what only people may. Who asks, when an agent
/// asks for what it may. Reading, and callers from elsewhere, cost nothing.
pub(super) fn check(
    state: &AppState,
    request: &Request,
) -> impl Future<Output = Result<Option<AgentCaller>, ApiError>> + Send + use<> {
    let reads = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    let asked = ends(request).filter(|_| !reads);
    let may = may(request);
    let state = state.clone();
    async move {
        match origin(&state, asked).await {
            Origin::Elsewhere => Ok(None),
            Origin::Agent(of) if may => Ok(Some(AgentCaller { of })),
            Origin::Agent(_) => Err(ApiError::new(
                Code::AgentNotAllowed,
                "the call comes from a process that an agent of this service runs: agents may create tasks and read, a person does the rest",
            )),
            Origin::Gone => Err(ApiError::new(
                Code::AgentNotAllowed,
                "the caller closed its end before it was known whose it is: keep the connection open until the answer has come",
            )),
        }
    }
}

fn may(request: &Request) -> bool {
    let path = request.extensions().get::<MatchedPath>();
    path.is_some_and(|path| {
        AGENTS_MAY
            .iter()
            .any(|(method, open)| method == request.method() && *open == path.as_str())
    })
}
