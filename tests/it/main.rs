//! Tests of the service against its real parts: real processes, real files,
//! a real database.

mod acp;
mod agents_config;
mod contract_backend;
mod embedded;
mod process;
mod store;
mod support;
mod worktrees;
