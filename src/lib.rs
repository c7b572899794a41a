//! Hearth.

pub mod process;
pub mod store;
