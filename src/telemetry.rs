//! Logs: to standard error, filtered by `HEARTH_LOG`, as text or JSON.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// What is logged when `HEARTH_LOG` says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// The service: what it does.
    Service,
    /// A command: only what is wrong.
    Command,
}

/// Starts logging, once in a process. `filter` is the value of `HEARTH_LOG`, in
/// the syntax of `tracing`'s environment filter; `json` makes a line an object.
///
/// # Errors
/// The filter cannot be read.
pub fn init(verbosity: Verbosity, filter: Option<&str>, json: bool) -> Result<(), String> {
    let default = match verbosity {
        Verbosity::Service => "info",
        Verbosity::Command => "warn",
    };
    let text = filter.filter(|text| !text.is_empty()).unwrap_or(default);
    let filter = EnvFilter::try_new(text).map_err(|error| {
        format!("HEARTH_LOG: `{text}` is no filter: {error}\n  cure: use a level such as info, or module=level pairs")
    })?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let started = if json {
        logs.json().try_init()
    } else {
        logs.try_init()
    };
    // A second start in one process keeps the first one's settings.
    drop(started);
    Ok(())
}
