//! What an earlier life left running in the data directory.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::EmbeddedError;
use super::pidfile::{self, Pidfile};
use crate::process::Identity;

/// How the leftovers are told to end, and how long each order may take: fast
/// shutdown, at once without cleaning up, not asked at all.
const LADDER: [(i32, Duration); 3] = [
    (libc::SIGINT, Duration::from_secs(10)),
    (libc::SIGQUIT, Duration::from_secs(5)),
    (libc::SIGKILL, Duration::from_secs(5)),
];
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Ends a server on its way out, or the backends of a killed one, which keep
/// its shared memory; then removes its pid file.
pub(super) async fn clear(data: &Path) -> Result<(), EmbeddedError> {
    if Pidfile::read(data).is_none() {
        return Ok(());
    }
    for (signal, patience) in LADDER {
        let left = pidfile::occupants(data);
        let server = Pidfile::read(data).map(|file| file.pid);
        for process in told(signal, &left, server) {
            process.signal(signal);
        }
        if signal == libc::SIGINT
            && told(signal, &left, server).next().is_none()
            && !left.is_empty()
        {
            continue;
        }
        if is_empty_within(data, left, patience).await {
            Pidfile::remove(data);
            return Ok(());
        }
    }
    Err(EmbeddedError::Failed {
        what: "stopping an earlier server",
        log: format!("processes still use {}", data.display()),
    })
}

/// SIGINT is for the server alone, which sees to its backends: to them it
/// means something else.
fn told(signal: i32, left: &[Identity], server: Option<i32>) -> impl Iterator<Item = &Identity> {
    left.iter()
        .filter(move |process| signal != libc::SIGINT || Some(process.pid) == server)
}

async fn is_empty_within(data: &Path, left: Vec<Identity>, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    while left.iter().any(|process| process.is_alive()) {
        if Instant::now() > deadline {
            return false;
        }
        sleep(LOOK_AGAIN).await;
    }
    pidfile::occupants(data).is_empty()
}
