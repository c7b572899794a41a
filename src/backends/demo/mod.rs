//! The demo agent: an agent of the Agent Client Protocol without a model, run
//! as `hearth demo-agent`. It follows the lines of its prompt ([`script`]), so
//! that a new user sees the whole path without an account, and tests can make
//! an agent do anything, misbehaviour included.
//!
//! No async runtime: one thread reads stdin, one thread runs each turn. Both
//! write whole lines under the lock of [`wire::Out`].

mod cancel;
mod files;
mod help;
mod history;
mod questions;
mod script;
mod server;
mod session;
mod shell;
mod tools;
mod turn;
mod wire;

use std::io::BufRead as _;
use std::sync::Arc;

use anyhow::Context as _;

/// The hidden subcommand under which Hearth becomes the demo agent.
pub const COMMAND: &str = "demo-agent";

/// Serves one client over stdin and stdout until stdin closes.
///
/// # Errors
/// There is no directory for its sessions, or stdin breaks.
pub fn main() -> anyhow::Result<()> {
    let server = Arc::new(server::Server::new(history::Archive::open()?));
    for line in std::io::stdin().lock().lines() {
        let line = line.context("stdin broke")?;
        server.line(&line);
    }
    server.leave();
    Ok(())
}
