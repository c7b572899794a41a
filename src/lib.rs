//! Hearth.

pub mod store;
