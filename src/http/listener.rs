//! The door: connections, bounded in number, each with a deadline for writing.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutStream;

/// Connections open at a time: as many as streams and requests together. Who
/// comes when all are taken waits in the kernel's queue.
const MAX_CONNECTIONS: usize = 512;
/// How long the other machine may leave data unconfirmed: a host that vanished
/// without a word is noticed by the next heartbeat.
const UNCONFIRMED_MS: u32 = 60_000;

/// Accepts connections.
pub(super) struct Doorway {
    listener: TcpListener,
    places: Arc<Semaphore>,
    write_deadline: Duration,
}

impl Doorway {
    /// A connection whose reader takes nothing for `write_deadline` is cut.
    pub(super) fn new(listener: TcpListener, write_deadline: Duration) -> Self {
        Self {
            listener,
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            write_deadline,
        }
    }
}

impl Listener for Doorway {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let place = loop {
            // Never closed.
            if let Ok(place) = Arc::clone(&self.places).acquire_owned().await {
                break place;
            }
        };
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (Connection::new(stream, self.write_deadline, place), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One connection, and its place among them.
pub(super) struct Connection {
    stream: Pin<Box<TimeoutStream<TcpStream>>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: TcpStream, write_deadline: Duration, place: OwnedSemaphorePermit) -> Self {
        // A frame is one small write: it must not wait for the next one.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps its delay");
        }
        if let Err(error) = setsockopt(&stream, sockopt::TcpUserTimeout, &UNCONFIRMED_MS) {
            tracing::debug!(%error, "a connection keeps the kernel's own deadline");
        }
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(write_deadline));
        Self {
            stream: Box::pin(stream),
            _place: place,
        }
    }

    /// Our end of it.
    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        self.stream.get_ref().local_addr().ok()
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
