//! Fakes behind the same ports, what drives them, and the contract suites that
//! fakes and real adapters both pass.

pub mod backend;
pub mod checks;
pub mod contract_arenas;
pub mod contract_backend;
pub mod contract_checks;
pub mod contract_review;
pub mod contract_set_up;
pub mod contract_store;
pub mod contract_transcripts;
pub mod contract_worktrees;
pub mod faults;
pub mod harness;
pub mod invariants;
pub mod memory;
pub mod meter;
mod player;
mod review;
pub mod server;
mod set_up;
pub mod worktrees;
