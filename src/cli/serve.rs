//! `serve`: the service until it is told to stop.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior};

use super::failure::{Exit, Failure};
use super::interrupt::Interrupts;
use crate::app;
use crate::config::{Flags, Settings};

/// Longest wait for the tree's answer before the watchdog is not told.
const ALIVE_BOUND: Duration = Duration::from_secs(5);

pub(super) async fn serve(
    settings: Settings,
    flags: &Flags,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let mut hangups = signal(SignalKind::hangup()).map_err(|error| {
        Failure::plain(Exit::Failed, format!("signals cannot be received: {error}"))
    })?;
    if !settings.listens_on_loopback() {
        tracing::warn!(
            listen = %settings.listen,
            "listening beyond this host without TLS: put a proxy in front; the token is still needed"
        );
    }
    let mut app = tokio::select! {
        biased;
        () = interrupts.next() => return Ok(Exit::Interrupted),
        started = app::start(settings) => started.map_err(|error| {
            Failure::new(
                Exit::Failed,
                format!("the service cannot start: {error:#}"),
                "`hearth doctor` shows what is missing",
            )
        })?,
    };
    let mut told = false;
    let mut stops = app.stops();
    let mut watchdog = watchdog(env);
    let grace = loop {
        tokio::select! {
            biased;
            () = interrupts.next() => break app.grace(),
            Some(stop) = stops.recv() => break stop.grace,
            why = app.failed() => {
                let failure = format!("the supervision tree gave up: {why}");
                app.stop().await;
                return Err(Failure::new(Exit::Failed, failure, "the log tells what failed before; start it again"));
            }
            _ = hangups.recv() => match app::settings(flags, env) {
                Ok(settings) => app.reload(settings),
                Err(errors) => tracing::error!(
                    "SIGHUP: everything stays as it was set, because the settings are wrong:\n{errors}"
                ),
            },
            () = tick(&mut watchdog) => {
                if app.tree().answers(ALIVE_BOUND).await {
                    notify(env, "WATCHDOG=1");
                } else {
                    tracing::error!("the supervision tree does not answer: the watchdog is not told");
                }
            }
            ready = app.ready(), if !told => {
                told = true;
                if ready.is_ok() {
                    tracing::info!(url = app.url, "ready");
                    notify(env, "READY=1");
                }
            }
        }
    };
    tracing::info!(
        ?grace,
        "stopping; a second signal leaves turns no time, a third leaves at once"
    );
    notify(env, "STOPPING=1");
    let tree = app.tree();
    let stopping = app.stop_within(grace);
    tokio::pin!(stopping);
    let mut hurried = false;
    loop {
        tokio::select! {
            biased;
            () = interrupts.next() => {
                if std::mem::replace(&mut hurried, true) {
                    return Ok(Exit::Interrupted);
                }
                tracing::info!("in a hurry: turns that run are interrupted");
                tree.hurry();
            }
            Some(_) = stops.recv() => tree.hurry(),
            () = tick(&mut watchdog) => notify(env, "WATCHDOG=1"),
            () = &mut stopping => return Ok(Exit::Ok),
        }
    }
}

/// Ticks twice in the time that the init system waits for a sign of life, if it does.
fn watchdog(env: &BTreeMap<String, String>) -> Option<Interval> {
    let micros = env.get("WATCHDOG_USEC")?.parse::<u64>().ok()?;
    let pid = env.get("WATCHDOG_PID").and_then(|pid| pid.parse().ok());
    let is_us = pid.is_none_or(|pid: u32| pid == std::process::id());
    let half = Duration::from_micros(micros / 2);
    (is_us && !half.is_zero()).then(|| {
        let mut interval = tokio::time::interval(half);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        interval
    })
}

async fn tick(watchdog: &mut Option<Interval>) {
    match watchdog {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}

/// Tells the init system, if it asked to be told (sd_notify's protocol: one
/// datagram to the socket it named).
fn notify(env: &BTreeMap<String, String>, state: &str) {
    let Some(name) = env.get("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
        return;
    };
    if let Err(error) = send(name, state) {
        tracing::warn!(%error, socket = name, "the init system cannot be told `{state}`");
    }
}

fn send(name: &str, state: &str) -> std::io::Result<()> {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::SocketAddr;
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_init_system_is_told_on_its_socket() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        let name = path.to_str().expect("text").to_owned();
        notify(&BTreeMap::from([("NOTIFY_SOCKET".into(), name)]), "READY=1");
        socket.set_nonblocking(true).expect("set");
        let mut buffer = [0; 64];
        let read = socket.recv(&mut buffer).expect("a datagram");
        assert_eq!(&buffer[..read], b"READY=1");
    }
}
