//! The door: connections, bounded in number, each with a deadline for the head
//! of a request and one for writing.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::operator::Ends;
use super::places::{Place, Places};
use super::state::Limits;

/// How long the other machine may leave data unconfirmed: a host that vanished
/// without a word is noticed by the next heartbeat.
const UNCONFIRMED_MS: u32 = 60_000;

/// What a connection too many of one address is told before it is closed.
const TOO_MANY: &str = "HTTP/1.1 503 Service Unavailable\r\n\
    Content-Type: application/problem+json\r\nContent-Length: 194\r\n\
    Retry-After: 1\r\nConnection: close\r\n\r\n\
    {\"type\":\"urn:hearth:problem:busy\",\"title\":\"Too much is going on\",\"status\":503,\
    \"detail\":\"this address has as many connections as one may have: close some, or try again in a moment\",\
    \"code\":\"busy\"}";

/// Accepts connections.
pub(super) struct Doorway {
    listener: TcpListener,
    places: Arc<Places>,
    limits: Limits,
}

impl Doorway {
    pub(super) fn new(listener: TcpListener, limits: Limits) -> Self {
        Self {
            listener,
            places: Places::new(limits.connections, limits.connections_per_caller),
            limits,
        }
    }

    /// The next connection that has a place. While all are taken by known
    /// callers, it waits.
    pub(super) async fn enter(&mut self) -> Connection {
        loop {
            let (stream, peer) = Listener::accept(&mut self.listener).await;
            match self.places.wait(peer.ip().to_canonical()).await {
                Ok(place) => return Connection::new(stream, peer, place, self.limits),
                // What the kernel takes at once is all that it gets.
                Err(_) => drop(stream.try_write(TOO_MANY.as_bytes())),
            }
        }
    }
}

/// One connection, and its place among them.
pub(super) struct Connection {
    stream: Pin<Box<TimeoutStream<TcpStream>>>,
    place: Arc<Place>,
    ends: Ends,
    head_deadline: Duration,
}

impl Connection {
    fn new(stream: TcpStream, peer: SocketAddr, place: Place, limits: Limits) -> Self {
        // A frame is one small write: it must not wait for the next one.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps its delay");
        }
        if let Err(error) = setsockopt(&stream, sockopt::TcpUserTimeout, &UNCONFIRMED_MS) {
            tracing::debug!(%error, "a connection keeps the kernel's own deadline");
        }
        let ends = Ends::new(peer, stream.local_addr().ok());
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(limits.write_deadline));
        Self {
            stream: Box::pin(stream),
            place: Arc::new(place),
            ends,
            head_deadline: limits.head_deadline,
        }
    }

    /// Answers its requests, one after the other, until it ends, gives its place
    /// up, or `closing` is cancelled and the request in flight is answered. The
    /// head of a request is whole within the deadline, from the connection's
    /// begin or the answer before on, or it is cut. HTTP/1 only: one connection
    /// is one request at a time, which is what the places count.
    pub(super) async fn converse(self, router: Router, closing: CancellationToken) {
        let (place, ends) = (Arc::clone(&self.place), self.ends);
        let head_deadline = self.head_deadline;
        let for_requests = Arc::clone(&place);
        let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ends);
            request.extensions_mut().insert(Arc::clone(&for_requests));
            router.clone().oneshot(request)
        });
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(head_deadline)
            .serve_connection(TokioIo::new(self), service)
            .with_upgrades();
        let mut serving = pin!(serving);
        let ended = tokio::select! {
            biased;
            () = place.displaced() => return,
            () = closing.cancelled() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
            ended = serving.as_mut() => ended,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended");
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get_ref().is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_is_a_whole_answer() {
        let (head, body) = TOO_MANY.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("Content-Length: {}\r\n", body.len())),
            "{}",
            body.len()
        );
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["code"], "busy");
    }
}
