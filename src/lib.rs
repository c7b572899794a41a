//! Hearth.

pub mod worktrees;
