//! Hearth keeps coding agents warm.

pub mod backends;
pub mod config;
pub mod process;
pub mod store;
pub mod worktrees;
pub mod access;
pub mod app;
pub mod cli;
pub mod http;
pub mod telemetry;
