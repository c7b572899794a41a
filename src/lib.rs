//! Hearth.

pub mod backends;
pub mod config;
