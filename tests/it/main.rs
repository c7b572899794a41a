//! Tests of the service against its real parts: real processes, real files,
//! a real database.

mod acp;
mod agents_config;
mod cli;
mod contract_backend;
mod deploy;
mod embedded;
mod http;
mod probe;
mod process;
mod service;
mod store;
mod support;
mod worktrees;
