//! Hearth.

pub mod backends;
pub mod config;
pub mod process;
pub mod store;
