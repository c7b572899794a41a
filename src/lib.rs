//! Hearth keeps coding agents warm: one supervised actor per `(chat, agent)`.
//!
//! `hearth_actors` decides and supervises; the rooms here touch the world.

pub mod access;
pub mod app;
pub mod backends;
pub mod checks;
pub mod cli;
pub mod config;
pub mod http;
pub mod mcp;
pub mod metrics;
pub mod process;
pub mod store;
pub mod telemetry;
mod text;
pub mod worktrees;
