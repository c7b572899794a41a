//! Tests.

mod worktrees;
