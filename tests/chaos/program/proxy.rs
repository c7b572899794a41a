//! A way to a server of the loopback that can be cut.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// It keeps its address while the server behind it changes its own.
pub(crate) struct Proxy {
    at: SocketAddr,
    target: watch::Sender<Option<SocketAddr>>,
    cuts: Arc<watch::Sender<u8>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Leads nowhere until it is told where.
    pub(crate) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let at = listener.local_addr()?;
        let (target, seen) = watch::channel(None);
        let cuts = Arc::new(watch::channel(0).0);
        let wires = Arc::clone(&cuts);
        let accepting = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                let target = *seen.borrow();
                tokio::spawn(carry(client, target, wires.subscribe()));
            }
        });
        Ok(Self {
            at,
            target,
            cuts,
            accepting,
        })
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    /// Where connections made from here on lead.
    pub(crate) fn lead_to(&self, target: Option<SocketAddr>) {
        self.target.send_replace(target);
    }

    /// Breaks about so many of a hundred of its connections; how many there were.
    pub(crate) fn cut(&self, percent: u8) -> usize {
        let wires = self.cuts.receiver_count();
        self.cuts.send_replace(percent);
        wires
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cuts.send_replace(100);
    }
}

/// Carries one connection to its end, or to a cut: both sides see a reset then, and
/// what was on its way is lost.
async fn carry(mut client: TcpStream, target: Option<SocketAddr>, mut cuts: watch::Receiver<u8>) {
    let Some(target) = target else { return };
    let Ok(mut server) = TcpStream::connect(target).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let cut = async {
        while cuts.changed().await.is_ok() {
            let percent = *cuts.borrow_and_update();
            if fastrand::u8(..100) < percent {
                return;
            }
        }
    };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
        () = cut => {
            let _ = (client.set_zero_linger(), server.set_zero_linger());
        }
    }
}
