//! Hearth.

pub mod process;
pub mod store;
pub mod worktrees;
