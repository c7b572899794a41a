//! Finds the running service and its token.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::client::Client;
use super::failure::{Exit, Failure};
use crate::access::Token;
use crate::config::service_file::ServiceFile;
use crate::config::{Flags, home};

/// The data directory that flags and environment name, without reading the rest
/// of the settings: a client works even when the service's settings are wrong.
#[must_use]
pub(super) fn home_of(flags: &Flags, env: &BTreeMap<String, String>) -> Option<PathBuf> {
    let named = flags
        .values
        .get("home")
        .or_else(|| env.get("HEARTH_HOME").filter(|value| !value.is_empty()));
    match named {
        Some(path) => Some(PathBuf::from(path)),
        None => home::default_home(env),
    }
}

/// The service that answers: at `HEARTH_URL`, else where the data directory
/// says. None when none runs. The directory is believed only while a service
/// holds it: after a crash anybody may have the address, and would be given the
/// token.
///
/// # Errors
/// `HEARTH_URL` names a service that does not answer, or there is no token for
/// the one that does.
pub(super) async fn find(
    home: &Path,
    env: &BTreeMap<String, String>,
) -> Result<Option<Client>, Failure> {
    let named = env.get("HEARTH_URL").filter(|url| !url.is_empty());
    let url = match named {
        Some(url) if !(url.starts_with("http://") || url.starts_with("https://")) => {
            return Err(Failure::new(
                Exit::Usage,
                format!("HEARTH_URL: `{}` is no address", url.escape_debug()),
                "write http://HOST:PORT, as `hearth serve` tells it",
            ));
        }
        Some(url) => url.clone(),
        None => match ServiceFile::read(home) {
            Some(file) if home::is_taken(home) => file.url,
            _ => return Ok(None),
        },
    };
    let token = || token_of(home, env);
    match (Client::alive(&url).await, named) {
        (true, _) => Client::new(&url, token()?.expose()).map(Some),
        (false, None) => Ok(None),
        (false, Some(_)) => Err(Failure::new(
            Exit::Unreachable,
            format!("no service answers at {url} (HEARTH_URL)"),
            "start it with `hearth serve`, or correct HEARTH_URL",
        )),
    }
}

/// The service that answers.
///
/// # Errors
/// None does.
pub(super) async fn need(home: &Path, env: &BTreeMap<String, String>) -> Result<Client, Failure> {
    find(home, env).await?.ok_or_else(|| {
        Failure::new(
            Exit::Unreachable,
            format!("no service runs on {}", home.display()),
            "start one with `hearth serve`, or name one with HEARTH_URL",
        )
    })
}

fn token_of(home: &Path, env: &BTreeMap<String, String>) -> Result<Token, Failure> {
    if let Some(text) = env.get("HEARTH_TOKEN").filter(|text| !text.is_empty()) {
        return Token::parse(text).map_err(|wanted| {
            let what = "HEARTH_TOKEN is not a token";
            Failure::new(Exit::Usage, what, format!("give {wanted}"))
        });
    }
    Token::read(home).map_err(|error| Failure::plain(Exit::Unreachable, error.to_string()))
}
