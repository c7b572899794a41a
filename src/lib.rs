//! Hearth keeps coding agents warm.

pub mod access;
pub mod app;
pub mod backends;
pub mod cli;
pub mod config;
pub mod http;
pub mod process;
pub mod store;
pub mod telemetry;
