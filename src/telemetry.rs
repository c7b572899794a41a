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
        // What libraries retry is not the reader's business.
        Verbosity::Command => "warn,sqlx=error,sqlx_core=error,eventsource_client=off",
    };
    let text = var("HEARTH_LOG").unwrap_or(default);
    if let Some(word) = text.split(',').find(|part| is_no_level(part)) {
        let word = word.trim();
        return Err(format!(
            "HEARTH_LOG: `{word}` is no level\n  cure: use error, warn, info, debug, trace or off; or {word}=debug for a module of that name"
        ));
    }
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

/// A word alone means a level to people, and to the filter also a module's name:
/// that would log nothing else.
fn is_no_level(part: &str) -> bool {
    let word = part.trim();
    let plain = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric());
    plain
        && word
            .parse::<tracing_subscriber::filter::LevelFilter>()
            .is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_refused_and_names_itself() {
        for fine in [
            "info",
            "off",
            "WARN",
            "info,rmcp=warn",
            "hearth::store=debug",
            "3",
            "",
        ] {
            assert!(!fine.split(',').any(is_no_level), "{fine}");
        }
        for wrong in ["noisy", "info,noisy", " verbose "] {
            assert!(wrong.split(',').any(is_no_level), "{wrong}");
        }
        let env = BTreeMap::from([("HEARTH_LOG".to_owned(), "info,noisy".to_owned())]);
        let error = init(Verbosity::Command, &env).expect_err("refused");
        assert!(error.contains("`noisy` is no level"), "{error}");
    }
}
