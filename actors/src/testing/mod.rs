//! Fakes behind the same ports, and what drives them: for the tree's own tests.

pub mod backend;
pub mod faults;
pub mod harness;
pub mod invariants;
pub mod memory;
pub mod worktrees;
