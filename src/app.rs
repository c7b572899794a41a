//! Builds the parts, starts them, and stops them in order.

use crate::config::Settings;

/// A running service.
pub struct App {
    /// Where it answers, such as `http://127.0.0.1:9502`.
    pub url: String,
    /// Opens its API.
    pub token: String,
}

/// Starts the service.
///
/// # Errors
/// What could not be started, and the cure.
pub async fn start(settings: Settings) -> anyhow::Result<App> {
    anyhow::bail!("this build has no service to start at {}", settings.listen)
}

impl App {
    /// Lets turns finish for the grace period, then stops everything.
    pub async fn stop(self) {}
}
