//! Logs: to standard error, filtered by `HEARTH_LOG`, as text or JSON.

use std::collections::BTreeMap;
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

/// Starts logging, once in a process. `HEARTH_LOG` filters in the syntax of
/// `tracing`'s environment filter; `HEARTH_LOG_FORMAT=json` makes every line an
/// object.
///
/// # Errors
/// One of the two cannot be read: which, and the cure.
pub fn init(verbosity: Verbosity, env: &BTreeMap<String, String>) -> Result<(), String> {
    let var = |name: &str| {
        env.get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    };
    let default = match verbosity {
        Verbosity::Service => "info,rmcp=warn,sqlx::postgres::notice=warn",
        Verbosity::Command => "warn",
    };
    let text = var("HEARTH_LOG").unwrap_or(default);
    let filter = EnvFilter::try_new(text).map_err(|error| {
        format!("HEARTH_LOG: `{text}` is no filter: {error}\n  cure: use a level such as info, or module=level pairs")
    })?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && var("NO_COLOR").is_none());
    // A second start in one process keeps the first one's settings.
    match var("HEARTH_LOG_FORMAT") {
        Some("json") => drop(logs.json().try_init()),
        None | Some("text") => drop(logs.try_init()),
        Some(other) => {
            return Err(format!(
                "HEARTH_LOG_FORMAT: `{other}` is no format\n  cure: use text or json"
            ));
        }
    }
    Ok(())
}
