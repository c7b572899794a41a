//! Hearth.

pub mod process;
