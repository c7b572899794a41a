//! Whole-service tests: real processes, real files, a real database.

mod embedded;
mod acp;
mod agents_config;
mod process;
mod support;
//! Tests of the service against its real parts.
mod store;
//! Tests.
mod worktrees;
