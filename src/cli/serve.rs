//! `serve`: the service until it is told to stop.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;

use super::failure::{Exit, Failure};
use super::interrupt::Interrupts;
use crate::app;
use crate::config::Settings;

pub(super) async fn serve(
    settings: Settings,
    env: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let mut interrupts = Interrupts::listen()?;
    if !settings.listens_on_loopback() {
        tracing::warn!(
            listen = %settings.listen,
            "listening beyond this host without TLS: put a proxy in front; the token is still needed"
        );
    }
    let app = tokio::select! {
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
    loop {
        tokio::select! {
            biased;
            () = interrupts.next() => break,
            why = app.failed() => {
                let failure = format!("the supervision tree gave up: {why}");
                app.stop().await;
                return Err(Failure::new(Exit::Failed, failure, "the log tells what failed before; start it again"));
            }
            ready = app.ready(), if !told => {
                told = true;
                if ready.is_ok() {
                    tracing::info!(url = app.url, "ready");
                    notify(env, "READY=1");
                }
            }
        }
    }
    tracing::info!("stopping; a second signal leaves at once");
    notify(env, "STOPPING=1");
    tokio::select! {
        biased;
        () = interrupts.next() => Ok(Exit::Interrupted),
        () = app.stop() => Ok(Exit::Ok),
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
