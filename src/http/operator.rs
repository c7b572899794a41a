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

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, MatchedPath, Request};
use axum::http::Method;
use axum::serve::IncomingStream;

use super::error::{ApiError, Code};
use super::listener::Doorway;
use super::state::{AppState, Origin};

/// What an agent's tool may change. All that is not named here and changes
/// something is an operator's: a new route is closed until somebody opens it.
const AGENTS_MAY: &[(Method, &str)] = &[(Method::POST, "/api/tasks")];

/// Both ends of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    /// The caller's.
    peer: SocketAddr,
    /// Ours; none when the connection was gone before it was asked.
    local: Option<SocketAddr>,
}

impl Connected<IncomingStream<'_, Doorway>> for Ends {
    fn connect_info(stream: IncomingStream<'_, Doorway>) -> Self {
        Self {
            peer: *stream.remote_addr(),
            local: stream.io().local_addr(),
        }
    }
}

impl Ends {
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
    let info = request.extensions().get::<ConnectInfo<Ends>>()?;
    Some(info.0)
}

/// Refuses a request that changes what only people may. True when an agent asks
/// for what it may. Reading, and callers from elsewhere, cost nothing.
pub(super) fn check(
    state: &AppState,
    request: &Request,
) -> impl Future<Output = Result<bool, ApiError>> + Send + use<> {
    let reads = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    let within = ends(request).and_then(|ends| ends.within_this_machine());
    let asked = within.filter(|_| !reads);
    let may = may(request);
    let peers = state.peers.clone();
    async move {
        let Some((peer, local)) = asked else {
            return Ok(false);
        };
        match peers.origin(peer, local).await {
            Origin::Elsewhere => Ok(false),
            Origin::Agent if may => Ok(true),
            Origin::Agent => Err(ApiError::new(
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
